//! For tests: a child process that has finished starting, does nothing, and ends with the test.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::{Process, StackPointer};
use crate::model::Pid;

/// The child. Dropping it kills and reaps it.
pub struct Sleeper(Child);

impl Sleeper {
    /// `sleep` from the `PATH`.
    pub fn start() -> Self {
        Self::start_as(Path::new("sleep"))
    }

    /// A copy of `sleep`. Waits until it waits: a spawn returns in the middle of the exec, before anything is mapped.
    pub fn start_as(program: &Path) -> Self {
        let sleeper = Self(Command::new(program).arg("60").stdin(Stdio::null()).spawn().unwrap());
        let settled = |process: Process| {
            let has_exe = process.modules().unwrap().iter().any(|module| module.is_exe);
            let waits = |pointer| matches!(pointer, StackPointer::At(_));
            has_exe && process.threads().unwrap().iter().all(|thread| waits(thread.stack_pointer))
        };
        while !Process::open(sleeper.pid()).is_ok_and(settled) {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        sleeper
    }

    pub fn pid(&self) -> Pid {
        Pid(self.0.id())
    }

    pub fn process(&self) -> Process {
        Process::open(self.pid()).unwrap()
    }

    /// Kills it; it stays a zombie until it is dropped or waited for.
    pub fn kill(&mut self) {
        self.0.kill().unwrap();
    }

    /// Kills and reaps it.
    pub fn end(&mut self) {
        self.kill();
        self.0.wait().unwrap();
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
