//! A program started by us and held at its first instruction, so that probes are there before anything runs.
//!
//! Does not know: probes. This is the only place where ptrace is used, and only to start and to let go.

use std::ffi::{OsStr, OsString};
use std::io;
use std::marker::PhantomData;
use std::process::{Child, Command, ExitStatus};

use super::error::LaunchError;
use super::syscall::{self, Wait};
use crate::model::Pid;

/// A child stopped after its exec: only the executable and its interpreter are mapped, nothing has run.
///
/// A traced child belongs to the *thread* that started it, so this value cannot be sent to another, and that thread
/// must outlive it: were it to end, the kernel would let the child run. Dropping it kills the child and reaps it.
///
/// The child has our standard streams and our terminal: Ctrl-C reaches both. Set-uid bits do not take effect on a
/// traced program unless we are privileged.
#[derive(Debug)]
pub struct Launched {
    child: Option<Child>,
    pid: Pid,
    command: String,
    one_thread: PhantomData<*const ()>,
}

impl Launched {
    /// Starts the program (looked up along `PATH` unless it has a slash) with these arguments.
    pub fn spawn(program: &OsStr, arguments: &[OsString]) -> Result<Self, LaunchError> {
        let name = program.to_string_lossy().into_owned();
        let mut command = Command::new(program);
        command.args(arguments);
        syscall::stop_after_exec(&mut command);
        let child = command.spawn().map_err(|source| not_started(name.clone(), source))?;
        let pid = Pid(child.id());
        // From here on a failure drops it, and that kills the child.
        let mut launched = Self { child: Some(child), pid, command: name, one_thread: PhantomData };
        loop {
            match launched.check(syscall::wait_traced(pid))? {
                Wait::Stopped(libc::SIGTRAP) => return Ok(launched),
                // Sent by somebody before the stop: it gets what it would have got without us.
                Wait::Stopped(signal) => launched.check(syscall::trace_continue(pid, signal))?,
                Wait::Ended(status) => {
                    launched.child = None;
                    return Err(LaunchError::Ended { command: launched.command.clone(), status });
                }
            }
        }
    }

    /// The child's number.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Lets it run, no longer traced. The child's end and status are had from the value given back; dropping that
    /// leaves the child running.
    pub fn resume(mut self) -> Result<Running, LaunchError> {
        match syscall::trace_detach(self.pid) {
            Ok(()) => {}
            // Killed while it stood: its status tells.
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
            Err(source) => return Err(LaunchError::Io { command: self.command.clone(), source }),
        }
        let child = self.child.take().ok_or_else(|| LaunchError::Io {
            command: self.command.clone(),
            source: io::Error::other("its exit status was already taken"),
        })?;
        Ok(Running { child })
    }

    fn check<T>(&self, result: io::Result<T>) -> Result<T, LaunchError> {
        result.map_err(|source| LaunchError::Io { command: self.command.clone(), source })
    }
}

impl Drop for Launched {
    fn drop(&mut self) {
        let Some(child) = &mut self.child else { return };
        // Fails only if it is dead already; a drop has nobody to tell anyway.
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// A launched program that runs on its own.
#[derive(Debug)]
pub struct Running {
    child: Child,
}

impl Running {
    /// How it ended; `None` while it runs.
    pub fn try_status(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// Waits for its end.
    pub fn status(mut self) -> io::Result<ExitStatus> {
        self.child.wait()
    }
}

fn not_started(command: String, source: io::Error) -> LaunchError {
    match source.raw_os_error() {
        Some(libc::ENOENT | libc::ENOTDIR) => LaunchError::CommandNotFound { command },
        Some(libc::EACCES | libc::ENOEXEC | libc::EISDIR) => LaunchError::NotExecutable { command, source },
        Some(libc::EPERM) => LaunchError::NotPermitted { command, source },
        _ => LaunchError::Io { command, source },
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::process::ExitStatusExt;

    use super::*;
    use crate::target::{Process, TargetError};

    fn launch(program: &str, arguments: &[&str]) -> Result<Launched, LaunchError> {
        let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
        Launched::spawn(OsStr::new(program), &arguments)
    }

    #[test]
    fn a_launched_program_has_run_nothing_until_it_is_resumed() {
        let launched = launch("sh", &["-c", "exit 7"]).unwrap();
        let process = Process::open(launched.pid()).unwrap();
        let modules = process.modules().unwrap();
        let paths: Vec<&str> = modules.iter().map(|module| &*module.path).collect();
        assert_eq!(modules.len(), 2, "more than the program and its interpreter is mapped: {paths:?}");
        assert!(
            modules.iter().any(|module| module.is_exe) && paths.iter().any(|path| path.contains("ld-")),
            "{paths:?}"
        );
        std::thread::sleep(std::time::Duration::from_millis(20));
        assert!(!process.has_ended());
        assert_eq!(launched.resume().unwrap().status().unwrap().code(), Some(7));
        assert!(process.has_ended());
    }

    #[test]
    fn a_resumed_program_is_not_traced() {
        let running = launch("sleep", &["60"]).unwrap();
        let pid = running.pid();
        let mut running = running.resume().unwrap();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        assert!(status.contains("TracerPid:\t0\n"), "{status}");
        assert!(running.try_status().unwrap().is_none());
        running.child.kill().unwrap();
        assert_eq!(running.status().unwrap().signal(), Some(libc::SIGKILL));
    }

    #[test]
    fn dropping_it_unresumed_kills_and_reaps_exactly_it() {
        let (dropped, kept) = (launch("sleep", &["60"]).unwrap(), launch("true", &[]).unwrap());
        let pid = dropped.pid();
        drop(dropped);
        assert!(matches!(Process::open(pid), Err(TargetError::NoSuchProcess { .. })));
        assert!(kept.resume().unwrap().status().unwrap().success());
    }

    #[test]
    fn a_missing_command_and_one_that_cannot_run_are_told_apart() {
        let error = launch("no-such-command-anywhere", &[]).unwrap_err();
        assert!(matches!(error, LaunchError::CommandNotFound { .. }), "{error:?}");
        assert_eq!(error.to_string(), "no-such-command-anywhere: command not found");
        for program in ["/", "/etc/passwd"] {
            let error = launch(program, &[]).unwrap_err();
            assert!(matches!(error, LaunchError::NotExecutable { .. }), "{program}: {error:?}");
        }
    }

    #[test]
    fn a_signal_that_comes_while_it_stands_is_delivered_when_it_runs() {
        let launched = launch("sleep", &["60"]).unwrap();
        let kill = Command::new("kill").args(["-TERM", &launched.pid().to_string()]).status().unwrap();
        assert!(kill.success());
        assert_eq!(launched.resume().unwrap().status().unwrap().signal(), Some(libc::SIGTERM));
    }
}
