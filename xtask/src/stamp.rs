//! What was made by a list, told by a copy of the list beside it.
//!
//! Does not know: what is listed, nor what was made.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// A list, and where its copy is.
pub struct Stamp {
    list: Vec<u8>,
    copy: PathBuf,
}

impl Stamp {
    /// Of the list as it is now. The copy is put into this folder.
    pub fn of(list: &Path, folder: &Path) -> Result<Self> {
        let name = list.file_name().with_context(|| format!("{} is no file", list.display()))?;
        let read = std::fs::read(list).with_context(|| list.display().to_string())?;
        Ok(Self { list: read, copy: folder.join(name) })
    }

    /// Whether all was made by this very list.
    pub fn is_there(&self) -> bool {
        std::fs::read(&self.copy).is_ok_and(|had| had == self.list)
    }

    /// All is made now.
    pub fn put(&self) -> Result<()> {
        std::fs::write(&self.copy, &self.list).with_context(|| self.copy.display().to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_made_by_another_list_or_not_to_the_end_is_made_anew() {
        let folder = std::env::temp_dir().join(format!("async-observer-stamp-{}", std::process::id()));
        let kept = folder.join("kept");
        std::fs::create_dir_all(&kept).expect("a folder");
        let list = folder.join("list.txt");
        let write = |text: &str| std::fs::write(&list, text).expect("it can be written");
        let stamp = || Stamp::of(&list, &kept).expect("the list is there");
        write("one");
        assert!(!stamp().is_there());
        stamp().put().expect("it can be put");
        assert!(stamp().is_there());
        write("another");
        assert!(!stamp().is_there());
        std::fs::remove_dir_all(&folder).expect("it was made here");
    }
}
