//! The cache on disk as a session uses it: opened when it is first needed, and given up, with a word about it, when it cannot
//! be had.
//!
//! Does not know: what is kept in it.

use std::ffi::OsString;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::cache::{Cache, Key, Limits};
use crate::model::{Analysis, FileState};
use crate::symbols::Glance;
use crate::target::effective_user;

/// The folder's name where caches are.
const NAME: &str = "async-observer";
/// No part of a file that is read by itself is longer.
const LONGEST_PART: u64 = 4 << 20;

/// Where what is known of images is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Caching {
    /// Nowhere: each image is analysed anew.
    Off,
    /// Where this user's caches are.
    #[default]
    Usual,
    /// In this folder.
    In(PathBuf),
}

/// The cache of a session.
pub(super) enum Disk {
    /// Not needed yet; `None` where there is no folder for it.
    Closed(Option<PathBuf>),
    Open {
        cache: Cache,
        /// False once something could not be written: what is there can still be read.
        writable: bool,
    },
    /// Not wanted, or it cannot be had.
    Off,
}

impl Disk {
    pub(super) fn new(caching: &Caching) -> Self {
        match caching {
            Caching::Off => Self::Off,
            Caching::In(folder) => Self::Closed(Some(folder.clone())),
            Caching::Usual => Self::Closed(usual(|name| std::env::var_os(name), effective_user())),
        }
    }

    /// What the image is known by; `None` where nothing is kept.
    pub(super) fn key(&self, glance: &Glance, file: &File, names: bool, debug: Vec<FileState>) -> Option<Key> {
        match self {
            Self::Off => None,
            // A file that the kernel says nothing about is read whole, and that tells what is wrong.
            Self::Closed(_) | Self::Open { .. } => {
                // Before anything is read: what changes later shows only then.
                Some(Key::of(glance, &file.metadata().ok()?, names, debug)).filter(Key::is_settled)
            }
        }
    }

    /// What is known of an image, by its file.
    pub(super) fn find(&mut self, key: &Key, file: &File, path: &str, say: &dyn Fn(u8, &str)) -> Option<Analysis> {
        self.open(say);
        let Self::Open { cache, .. } = self else { return None };
        match cache.find(key, &|range| read_at(file, range)) {
            Ok(found) => found,
            Err(stale) => {
                say(2, &format!("what was known of {path} is not used: {stale}"));
                None
            }
        }
    }

    /// Remembers what is known of an image, by its content.
    pub(super) fn keep(&mut self, key: &Key, analysis: &Analysis, bytes: &[u8], say: &dyn Fn(u8, &str)) {
        let read = |range: Range<u64>| {
            let part = bytes.get(usize::try_from(range.start).ok()?..usize::try_from(range.end).ok()?)?;
            Some(part.to_vec())
        };
        self.open(say);
        let Self::Open { cache, writable } = self else { return };
        if !*writable {
            return;
        }
        if let Err(error) = cache.keep(key, analysis, &read) {
            *writable = false;
            say(1, &format!("what is found out about images is not kept: {error}"));
        }
    }

    fn open(&mut self, say: &dyn Fn(u8, &str)) {
        let Self::Closed(folder) = self else { return };
        *self = match folder.take() {
            Some(folder) => match Cache::open(&folder, version(), effective_user(), Limits::default()) {
                Ok(cache) => Self::Open { cache, writable: true },
                Err(error) => {
                    say(1, &format!("what is found out about images is not kept: {error}"));
                    Self::Off
                }
            },
            None => {
                let why = "neither XDG_CACHE_HOME nor HOME names a folder for it (see --cache-dir)";
                say(2, &format!("what is found out about images is not kept: {why}"));
                Self::Off
            }
        };
    }
}

/// A range of the file, whole or not at all.
pub(super) fn read_at(file: &File, range: Range<u64>) -> Option<Vec<u8>> {
    let length = range.end.checked_sub(range.start).filter(|length| *length <= LONGEST_PART)?;
    let mut bytes = vec![0; usize::try_from(length).ok()?];
    // Whatever the reason, what cannot be read now proves nothing: then the image is read whole, which says the reason.
    file.read_exact_at(&mut bytes, range.start).ok()?;
    Some(bytes)
}

/// Where this user's caches are; a relative path is none, as the XDG base directory specification has it.
fn usual(variable: impl Fn(&str) -> Option<OsString>, user: u32) -> Option<PathBuf> {
    let folder = |name| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let caches = folder("XDG_CACHE_HOME").or_else(|| match user {
        0 => Some(PathBuf::from("/var/cache")),
        _ => folder("HOME").map(|home| home.join(".cache")),
    });
    caches.map(|caches| caches.join(NAME))
}

/// This program and no other: its version and its own build, because two builds of one version may find different things.
fn version() -> String {
    let own = || {
        let file = File::open(Path::new("/proc/self/exe")).ok()?;
        let glance = Glance::of(|range| read_at(&file, range)).ok().flatten()?;
        let found = file.metadata().ok()?;
        let build = glance.build_id.map(|id| id.to_string());
        build.or_else(|| Some(format!("{}-{}.{}", found.size(), found.mtime(), found.mtime_nsec())))
    };
    // Without it, the version is all that is known.
    format!("{}+{}", env!("CARGO_PKG_VERSION"), own().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usual_with(variables: &[(&str, &str)], user: u32) -> Option<String> {
        let variable = |name: &str| {
            let (_, value) = variables.iter().find(|(known, _)| *known == name)?;
            Some(OsString::from(value))
        };
        usual(variable, user).map(|path| path.to_string_lossy().into_owned())
    }

    #[test]
    fn the_folder_is_where_the_user_has_caches() {
        let home = ("HOME", "/home/me");
        let of = |path: &str| Some(path.to_owned());
        assert_eq!(usual_with(&[("XDG_CACHE_HOME", "/caches"), home], 1000), of("/caches/async-observer"));
        assert_eq!(usual_with(&[("XDG_CACHE_HOME", "/caches"), home], 0), of("/caches/async-observer"));
        assert_eq!(usual_with(&[home], 0), of("/var/cache/async-observer"));
        assert_eq!(usual_with(&[home, ("XDG_CACHE_HOME", "caches")], 1000), of("/home/me/.cache/async-observer"));
        assert_eq!(usual_with(&[], 1000), None);
    }

    #[test]
    fn this_build_is_told_from_others_of_its_version() {
        assert!(version().len() > env!("CARGO_PKG_VERSION").len() + 1, "{}", version());
        assert_eq!(version(), version());
    }
}
