//! The guest's disk: the host's files that tests need, each at the path that it has here.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::packages::{Kernel, Tool};
use super::suite::Suite;

/// Programs of the host that tests start, by name or in shell scripts.
const PROGRAMS: &[&str] = &[
    "cat",
    "chmod",
    "cp",
    "dirname",
    "mkdir",
    "mount",
    "mountpoint",
    "node",
    "objcopy",
    "prlimit",
    "python3",
    "setpriv",
    "sh",
    "sleep",
    "strip",
    "true",
    "unshare",
];
/// What tests read of the repository.
const READ: &[&str] = &["docs", "tests/fixtures/cells.txt", "tests/fixtures/third_party", "observer/schema"];
/// Room for what tests write.
const ROOM: u64 = 4 << 30;

/// Writes it, with what is Debian's: the kernels' modules, and tools. Gives how much is on it.
pub fn write(root: &Path, suite: &Suite, (kernels, tools): (&[Kernel], &[Tool]), to: &Path) -> Result<u64> {
    let stage = to.with_extension("stage");
    if stage.exists() {
        fs::remove_dir_all(&stage)?;
    }
    let tree = Tree(stage);
    tree.begin()?;
    for name in PROGRAMS {
        let program = Path::new("/usr/bin").join(name);
        tree.program(&program, &program)?;
    }
    for tool in tools {
        tree.program(&tool.program, Path::new(tool.place))?;
    }
    tree.python()?;
    tree.program(&suite.init, Path::new("/init"))?;
    tree.program(&suite.observer, Path::new("/usr/bin/async-observer"))?;
    for run in &suite.runs {
        // They look for the workspace above themselves where the observer is not named to them.
        let at = Path::new("/tests").join(&run.name);
        tree.stripped(&run.program, &at)?;
    }
    for kernel in kernels {
        let lines = suite.runs.iter().map(|run| {
            format!("{} /tests/{} --test-threads=1 {}\n", run.name, run.name, run.arguments(kernel.version).join(" "))
        });
        let folder = Path::new("/kernels").join(kernel.version);
        tree.file(&kernel.module, &folder.join(kernel.module.file_name().context("a module has a name")?))?;
        fs::write(tree.at(&folder).join("commands"), lines.collect::<String>())?;
    }
    // As they are, symbols and all, and where the tests were compiled to look for them.
    let fixtures = root.join("tests/fixtures/target/bin");
    ensure!(fixtures.exists(), "no fixture is built.\nNext step: cargo xtask fixtures");
    tree.folder(&fixtures.canonicalize()?, &fixtures)?;
    for read in READ {
        let read = root.join(read);
        if read.is_dir() { tree.folder(&read, &read)? } else { tree.file(&read, &read)? }
    }
    let size = size_of(&tree.0)?;
    if to.exists() {
        fs::remove_file(to)?;
    }
    // It is written once and never checked: a journal has no use.
    let mut command = Command::new("/sbin/mke2fs");
    command.args(["-q", "-F", "-t", "ext4", "-O", "^has_journal", "-E", "root_owner=0:0", "-d"]).arg(&tree.0).arg(to);
    let status = command.arg(format!("{}k", (size + size / 10 + ROOM) >> 10)).status().context("starting mke2fs")?;
    ensure!(status.success(), "mke2fs failed; its lines above say why");
    fs::remove_dir_all(&tree.0)?;
    Ok(size)
}

/// Bytes of a folder's files.
fn size_of(folder: &Path) -> Result<u64> {
    let mut size = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let about = entry.metadata()?;
        size += if about.is_dir() { size_of(&entry.path())? } else { about.len().next_multiple_of(4096) };
    }
    Ok(size)
}

/// The disk's files, gathered in a folder. Files that need no change are links to the host's, which costs nothing.
struct Tree(PathBuf);

impl Tree {
    fn at(&self, path: &Path) -> PathBuf {
        self.0.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// The folders that a system has.
    fn begin(&self) -> Result<()> {
        for folder in [
            "dev",
            "etc",
            "proc",
            "root",
            "run",
            "sys",
            "tmp",
            "usr/bin",
            "usr/lib",
            "usr/lib64",
            "usr/sbin",
            "var/tmp",
        ] {
            fs::create_dir_all(self.0.join(folder))?;
        }
        for folder in ["bin", "lib", "lib64", "sbin"] {
            symlink(Path::new("usr").join(folder), self.0.join(folder))?;
        }
        for folder in ["tmp", "var/tmp"] {
            fs::set_permissions(self.0.join(folder), fs::Permissions::from_mode(0o1777))?;
        }
        fs::write(self.0.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n")?;
        fs::write(self.0.join("etc/group"), "root:x:0:\nnogroup:x:65534:\n")?;
        Ok(())
    }

    /// One file, by its content.
    fn file(&self, from: &Path, path: &Path) -> Result<()> {
        let (from, at) = (from.canonicalize().with_context(|| from.display().to_string())?, self.at(path));
        if at.exists() {
            return Ok(());
        }
        fs::create_dir_all(at.parent().context("a file has a folder")?)?;
        if fs::hard_link(&from, &at).is_err() {
            fs::copy(&from, &at).with_context(|| format!("copying {}", from.display()))?;
        }
        Ok(())
    }

    /// A program and the libraries that it asks for.
    fn program(&self, from: &Path, path: &Path) -> Result<()> {
        self.file(from, path)?;
        self.libraries(from)
    }

    fn libraries(&self, of: &Path) -> Result<()> {
        for library in libraries_of(of)? {
            self.file(&library, &library)?;
        }
        Ok(())
    }

    /// A program without its debug sections, which are most of a test program.
    fn stripped(&self, from: &Path, path: &Path) -> Result<()> {
        let at = self.at(path);
        fs::create_dir_all(at.parent().context("a file has a folder")?)?;
        let status = Command::new("strip").arg("--strip-debug").arg("-o").arg(&at).arg(from).status();
        ensure!(status.context("starting strip")?.success(), "{} cannot be stripped", from.display());
        self.libraries(from)
    }

    /// Everything in a folder, with what its programs ask for.
    fn folder(&self, from: &Path, path: &Path) -> Result<()> {
        for entry in fs::read_dir(from).with_context(|| from.display().to_string())? {
            let entry = entry?;
            let (from, path) = (entry.path(), path.join(entry.file_name()));
            // A link may lead nowhere.
            if !from.exists() {
                continue;
            }
            if from.is_dir() {
                self.folder(&from, &path)?;
            } else {
                self.file(&from, &path)?;
                if fs::metadata(&from)?.permissions().mode() & 0o111 != 0
                    || from.extension().is_some_and(|of| of == "so")
                {
                    self.libraries(&from)?;
                }
            }
        }
        Ok(())
    }

    /// The library of the host's own Python, wherever that is.
    fn python(&self) -> Result<()> {
        let ask = ["-c", "import sysconfig; print(sysconfig.get_path('stdlib'))"];
        let said = Command::new("/usr/bin/python3").args(ask).output().context("starting python3")?;
        let library = PathBuf::from(String::from_utf8_lossy(&said.stdout).trim());
        ensure!(library.is_dir(), "python3 does not say where its library is");
        self.folder(&library, &library)
    }
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
