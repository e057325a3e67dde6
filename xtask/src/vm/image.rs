//! The guest's file system: an initramfs in the kernel's cpio format.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::suite::{FIXTURES, Suite};

/// Programs of the host that tests call.
const CALLED: &[&str] = &["true"];
const FOLDER: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;

/// Writes it; how large it is.
pub fn write(root: &Path, suite: &Suite, to: &Path) -> Result<u64> {
    let file = File::create(to).with_context(|| format!("writing {}", to.display()))?;
    let mut image = Image { out: BufWriter::new(file), inode: 0, folders: BTreeSet::new() };
    for folder in ["dev", "proc", "sys", "tmp"] {
        image.folder(Path::new(folder))?;
    }
    let mut commands = String::new();
    let mut libraries = BTreeSet::new();
    let stripped = to.with_file_name("stripped");
    let mut put = |image: &mut Image<_>, program: &Path, at: &Path| -> Result<()> {
        libraries.extend(libraries_of(program)?);
        strip(program, &stripped)?;
        image.program(at, &fs::read(&stripped)?)
    };
    put(&mut image, &suite.init, Path::new("init"))?;
    put(&mut image, &suite.observer, Path::new("bin/async-observer"))?;
    for run in &suite.runs {
        // They look for the workspace above themselves where the observer is not named to them.
        put(&mut image, &run.program, &Path::new("tests").join(run.name))?;
        commands.push_str(&format!("/tests/{} --test-threads=1 {}\n", run.name, run.tests.join(" ")));
    }
    for name in CALLED {
        let program = Path::new("/bin").join(name);
        put(&mut image, &program, &Path::new("bin").join(name))?;
    }
    // As they are, symbols and all, and where the tests were compiled to look for them.
    let fixtures = root.join("tests/fixtures/target/bin");
    for (cell, programs) in FIXTURES {
        for program in *programs {
            let path = fixtures.join(cell).join(program);
            ensure!(path.exists(), "{cell}/{program} is not built: run `cargo xtask fixtures --only {cell}`");
            libraries.extend(libraries_of(&path)?);
            image.program(path.strip_prefix("/").context("the checkout's path is absolute")?, &fs::read(&path)?)?;
        }
    }
    for library in &libraries {
        image.program(library.strip_prefix("/").context("a library's path is absolute")?, &fs::read(library)?)?;
    }
    image.program(Path::new("commands"), commands.as_bytes())?;
    image.entry("TRAILER!!!", 0, &[])?;
    image.out.flush()?;
    Ok(fs::metadata(to)?.len())
}

/// The program interpreter and the shared objects that a program asks for; none for a static one.
fn libraries_of(program: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("ldd").arg(program).output().context("starting ldd")?;
    let text = String::from_utf8_lossy(&output.stdout);
    // `name => /path (address)`, or `/path (address)` for the interpreter.
    let paths = text.lines().filter_map(|line| {
        let path = line.split("=>").last()?.split_whitespace().next()?;
        path.starts_with('/').then(|| PathBuf::from(path))
    });
    Ok(paths.collect())
}

/// Test programs are mostly debug sections, which would only fill the guest's memory.
fn strip(program: &Path, to: &Path) -> Result<()> {
    let status = Command::new("strip").arg("--strip-debug").arg("-o").arg(to).arg(program).status();
    ensure!(status.context("starting strip")?.success(), "{} cannot be stripped", program.display());
    Ok(())
}

/// A file system being written.
struct Image<W> {
    out: W,
    inode: u32,
    folders: BTreeSet<PathBuf>,
}

impl<W: Write> Image<W> {
    fn program(&mut self, path: &Path, bytes: &[u8]) -> Result<()> {
        if let Some(folder) = path.parent() {
            self.folder(folder)?;
        }
        self.entry(path.to_str().context("a path is no text")?, PROGRAM, bytes)
    }

    /// Those above it first.
    fn folder(&mut self, path: &Path) -> Result<()> {
        if path.as_os_str().is_empty() || !self.folders.insert(path.to_owned()) {
            return Ok(());
        }
        if let Some(above) = path.parent() {
            self.folder(above)?;
        }
        self.entry(path.to_str().context("a path is no text")?, FOLDER, &[])
    }

    /// One entry of the "newc" format: thirteen numbers, the name, the bytes, each part filled up to four bytes.
    fn entry(&mut self, name: &str, mode: u32, bytes: &[u8]) -> Result<()> {
        self.inode += 1;
        let size = u32::try_from(bytes.len()).context("a file is too large for an initramfs")?;
        let name_size = name.len() as u32 + 1;
        let numbers = [self.inode, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name_size, 0];
        let mut head = b"070701".to_vec();
        numbers.iter().for_each(|number| head.extend(format!("{number:08x}").into_bytes()));
        head.extend(name.as_bytes());
        head.push(0);
        head.resize(head.len().next_multiple_of(4), 0);
        self.out.write_all(&head)?;
        self.out.write_all(bytes)?;
        self.out.write_all(&[0; 3][..bytes.len().next_multiple_of(4) - bytes.len()])?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_comes_after_its_folders_and_every_part_is_aligned() {
        let mut image = Image { out: Vec::new(), inode: 0, folders: BTreeSet::new() };
        image.program(Path::new("a/b/c"), b"12345").expect("memory can be written");
        image.program(Path::new("a/d"), b"").expect("memory can be written");
        let text = String::from_utf8(image.out).expect("all is text");
        assert_eq!(text.len() % 4, 0);
        let names: Vec<&str> =
            text.split("070701").skip(1).map(|entry| entry[104..].split('\0').next().unwrap_or("")).collect();
        assert_eq!(names, ["a", "a/b", "a/b/c", "a/d"]);
        assert!(text.contains("12345\0\0\0"));
    }
}
