//! Programs run with fewer rights than root's, or where less is there. Knows `setpriv` and `unshare`, not what follows.

use std::ffi::OsStr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::fixture::{Scratch, path};
use crate::observer::program;

/// The user that nobody else is.
pub const NOBODY: u32 = 65534;

/// A copy of the observer that every user may run.
pub struct Shared {
    #[expect(dead_code, reason = "held for its drop")]
    place: Scratch,
    program: PathBuf,
}

impl Shared {
    /// Makes the copy; the name tells a test's from another's.
    pub fn new(name: &str) -> Self {
        let place = Scratch::new(name);
        let program = place.copy(&program());
        Self { place, program }
    }

    /// Where it is.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// The observer as user [`NOBODY`] with these capabilities, as `setpriv` names them, and no others.
    pub fn with(&self, capabilities: &[&str], arguments: &[impl AsRef<OsStr>]) -> Command {
        self.with_as(NOBODY, capabilities, arguments)
    }

    /// The same as another user: what a user may lock is counted over all that run as that one.
    pub fn with_as(&self, user: u32, capabilities: &[&str], arguments: &[impl AsRef<OsStr>]) -> Command {
        let mut command = limited_as(user, capabilities);
        command.arg(&self.program).args(arguments);
        command
    }
}

/// `setpriv` to user [`NOBODY`] with these capabilities: what follows is to be added.
pub fn limited(capabilities: &[&str]) -> Command {
    limited_as(NOBODY, capabilities)
}

/// The same to another user: what a user may lock is counted over all that run as that one.
pub fn limited_as(user: u32, capabilities: &[&str]) -> Command {
    let user = user.to_string();
    let list = capabilities.iter().fold("-all".to_owned(), |list, one| format!("{list},+{one}"));
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid", &user, "--regid", &user, "--clear-groups"])
        .args([format!("--inh-caps={list}"), format!("--ambient-caps={list}"), format!("--bounding-set={list}")])
        .current_dir("/");
    command
}

/// The program as another user, without any capability.
pub fn as_user(user: u32, program: &Path) -> Command {
    let mut command = Command::new(program);
    command.uid(user).gid(user).current_dir("/");
    command
}

/// The program under a seccomp filter that answers one system call with an error, if its first argument is this.
pub fn refusing(call: libc::c_long, first: Option<u32>, errno: i32, program: &Path) -> Command {
    let mut command = Command::new(path("bare", "refusing"));
    let first = first.map_or("any".to_owned(), |first| first.to_string());
    command.args([call.to_string(), errno.to_string(), first]).arg(program);
    command
}

/// A shell script in mount namespaces of its own, that ends with the program: `exec "$@"`.
pub fn elsewhere(script: &str, program: &Path) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-ec", &format!("{script}\nexec \"$@\""), "sh"]).arg(program);
    command
}

/// The effective capabilities of each thread of a process, as the kernel shows them.
pub fn capabilities(pid: u32) -> Vec<u64> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("the process is there");
    let statuses = tasks.flatten().filter_map(|task| std::fs::read_to_string(task.path().join("status")).ok());
    let effective = statuses.map(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("CapEff:").map(str::trim).map(str::to_owned));
        u64::from_str_radix(&line.expect("every status has the line"), 16).expect("it is hexadecimal")
    });
    effective.collect()
}

/// The only child of a process.
pub fn child_of(pid: u32) -> Option<u32> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    children.split_whitespace().next()?.parse().ok()
}
