//! The dozen binaries of the host in miniature, and the namespaces that a process of theirs may stand in.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::fixture::path;

/// Cells that have the program `host`: seven profiles with the newest tokio, three versions.
pub const CELLS: [&str; 10] = [
    "newest-release",
    "newest-dev",
    "newest-thin",
    "newest-fat",
    "newest-optz",
    "newest-nopie",
    "newest-static",
    "1.36-release",
    "1.23-release",
    "1.23-fat",
];

/// How many binaries there are.
pub const BINARIES: usize = CELLS.len() + 2;

/// One of the binaries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// The program `host` of a cell.
    Host(&'static str),
    /// Python with the extension module.
    Python,
    /// Node with the extension module.
    Node,
}

/// Where a process stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the namespaces of the test.
    Here,
    /// In a mount and a pid namespace of its own, with a `/proc` of its own; the binary is bound to another path.
    Bound,
    /// In a mount, a pid and a user namespace of its own; the binary is seen through an overlay.
    Overlaid,
    /// In a mount and a pid namespace of its own; the binary is a copy in memory: another file.
    Copied,
}

impl Program {
    /// By number, from 0 to [`BINARIES`].
    pub fn number(number: usize) -> Self {
        match number {
            0..10 => Self::Host(CELLS[number]),
            10 => Self::Python,
            _ => Self::Node,
        }
    }

    /// The file that carries tokio.
    pub fn file(self) -> PathBuf {
        match self {
            Self::Host(cell) => path(cell, "host"),
            Self::Python => path("newest-release", "hosted_python.so"),
            Self::Node => path("1.36-release", "hosted_node.so"),
        }
    }

    /// Whether it can load modules and become another program.
    pub fn is_dynamic_host(self) -> bool {
        matches!(self, Self::Host(cell) if cell != "newest-static")
    }

    /// The name that its books begin with: a module's is not the process's own.
    pub fn root(self, token: &str) -> String {
        match self {
            Self::Host(_) => token.into(),
            Self::Python | Self::Node => format!("{token}+m"),
        }
    }

    /// The command that lives by these steps.
    pub fn command(self, token: &str, steps: &[String], place: Place, scratch: &Path) -> Command {
        let file = self.file();
        let words = || [self.root(token)].into_iter().chain(steps.iter().cloned()).collect::<Vec<_>>().join(",");
        match self {
            Self::Host(_) if place == Place::Here => {
                let mut command = Command::new(file);
                command.arg(token).args(steps);
                command
            }
            Self::Host(_) => {
                let mut command = namespaced(&file, token, place, scratch);
                command.arg(token).args(steps);
                command
            }
            Self::Python => {
                let folder = file.parent().expect("a file has a folder");
                let mut command = Command::new(interpreter());
                command.args(["-c", "import sys; sys.path.insert(0, sys.argv[1]); import hosted_python; sys.exit(hosted_python.run(sys.argv[2]))"]);
                command.arg(folder).arg(words());
                command
            }
            Self::Node => {
                let mut command = Command::new("node");
                let load =
                    "const m = { exports: {} }; process.dlopen(m, process.argv[1]); m.exports.run(process.argv[2])";
                command.args(["-e", load]).arg(file).arg(words());
                command
            }
        }
    }
}

/// The program behind `python3`, which may be a script that looks for it.
fn interpreter() -> &'static Path {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND.get_or_init(|| {
        let said = Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output();
        let said = said.expect("python3 starts");
        String::from_utf8(said.stdout).expect("a path in UTF-8").trim().into()
    })
}

/// `unshare` with mounts, up to the program itself.
fn namespaced(file: &Path, token: &str, place: Place, scratch: &Path) -> Command {
    let seen = scratch.join(format!("within-{token}"));
    let empty = scratch.join("empty");
    for folder in [&seen, &empty] {
        std::fs::create_dir_all(folder).expect("the scratch folder can be written");
    }
    let more: &[&str] = match place {
        Place::Bound => &["--mount-proc"],
        Place::Overlaid => &["--user", "--map-root-user"],
        Place::Here | Place::Copied => &[],
    };
    // $0 is the file, $1 the folder where it is to be seen, $2 an empty folder; the rest is for the program.
    let script = match place {
        Place::Here => unreachable!("is no namespace"),
        Place::Bound => "mount --bind \"$(dirname \"$0\")\" \"$1\"",
        Place::Overlaid => "mount -t overlay overlay -o \"lowerdir=$(dirname \"$0\"):$2\" \"$1\"",
        Place::Copied => "mount -t tmpfs tmpfs \"$1\" && cp \"$0\" \"$1\"",
    };
    let mut command = Command::new("unshare");
    command.args(["--mount", "--pid", "--fork", "--kill-child"]).args(more);
    command.args(["sh", "-c", &format!("{script} && seen=\"$1\" && shift 2 && exec \"$seen/host\" \"$@\"")]);
    command.arg(file).arg(seen).arg(empty);
    command
}
