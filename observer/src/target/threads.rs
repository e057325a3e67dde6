//! The threads of a process: their ids, names and, for those that wait in the kernel, their stack pointers.
//!
//! Does not know: what is on the stacks.

use super::error::TargetError;
use super::process::Process;
use crate::model::{ProcAddr, Tid};

/// One thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thread {
    /// Its id, as the mounted `/proc` numbers it: the initial pid namespace's, unless we run in another.
    pub tid: Tid,
    /// Its name (`comm`), at most 15 bytes of what the program gave.
    pub name: String,
    /// Where its stack ended when we asked.
    pub stack_pointer: StackPointer,
}

/// What `/proc/PID/task/TID/syscall` tells of a thread's stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StackPointer {
    /// The thread waits in the kernel and its user stack ends here.
    At(ProcAddr),
    /// The thread ran or was ready to run; its registers are not in memory.
    OnCpu,
    /// The kernel does not tell (not permitted, not built in).
    Unknown,
}

impl StackPointer {
    /// From the file's text.
    pub fn parse(text: &str) -> Self {
        let text = text.trim_end();
        if text == "running" {
            return Self::OnCpu;
        }
        // `NR ARG1 .. ARG6 SP PC` in a system call, `-1 SP PC` when it waits for something else.
        let fields: Vec<&str> = text.split(' ').collect();
        let pointer = match fields[..] {
            ["-1", pointer, _] => pointer,
            [_, _, _, _, _, _, _, pointer, _] => pointer,
            _ => return Self::Unknown,
        };
        match pointer.strip_prefix("0x").map(|digits| u64::from_str_radix(digits, 16)) {
            Some(Ok(at)) if at != 0 => Self::At(ProcAddr(at)),
            _ => Self::Unknown,
        }
    }
}

/// All threads now. One that ends meanwhile is left out.
pub(super) fn list(process: &Process) -> Result<Vec<Thread>, TargetError> {
    let mut threads = Vec::new();
    for name in process.names("task")? {
        let Ok(tid) = name.parse() else { continue };
        let Ok(comm) = process.text(&format!("task/{tid}/comm")) else { continue };
        let stack_pointer = stack_pointer(process, Tid(tid));
        threads.push(Thread { tid: Tid(tid), name: comm.trim_end_matches('\n').to_owned(), stack_pointer });
    }
    match threads.is_empty() && process.has_ended() {
        true => Err(TargetError::Vanished { pid: process.pid() }),
        false => Ok(threads),
    }
}

fn stack_pointer(process: &Process, tid: Tid) -> StackPointer {
    process.text(&format!("task/{tid}/syscall")).map_or(StackPointer::Unknown, |text| StackPointer::parse(&text))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use proptest::prelude::*;

    use super::*;
    use crate::model::Pid;

    #[test]
    fn reads_the_stack_pointer_in_and_outside_of_a_system_call() {
        let in_call = "230 0x0 0x0 0x7ffd4569d5f0 0x7ffd4569d630 0x0 0x0 0x7ffd4569d5d8 0x7fa749ba0503\n";
        assert_eq!(StackPointer::parse(in_call), StackPointer::At(ProcAddr(0x7ffd_4569_d5d8)));
        assert_eq!(
            StackPointer::parse("-1 0x7ffd4569d5d8 0x7fa749ba0503\n"),
            StackPointer::At(ProcAddr(0x7ffd_4569_d5d8))
        );
        assert_eq!(StackPointer::parse("running\n"), StackPointer::OnCpu);
    }

    #[test]
    fn anything_else_is_unknown() {
        for text in ["", "\n", "-1", "-1 0x0 0x0", "0x1 0x2", "230 0x0 0x0 0x0 0x0 0x0 0x0 7ffd 0x0"] {
            assert_eq!(StackPointer::parse(text), StackPointer::Unknown, "{text:?}");
        }
    }

    #[test]
    fn a_waiting_thread_is_listed_with_its_name_and_a_pointer_into_its_stack() {
        let (stop, stopped) = mpsc::channel::<()>();
        let (tell, told) = mpsc::channel();
        let wait = move || {
            let local = 0u8;
            tell.send(&raw const local as u64).unwrap();
            let _ = stopped.recv();
        };
        let thread = std::thread::Builder::new().name("waits-here".into()).spawn(wait).unwrap();
        let local = told.recv().unwrap();
        let us = Process::open(Pid(std::process::id())).unwrap();
        let pointer = loop {
            let threads = us.threads().unwrap();
            let found = threads.iter().find(|thread| thread.name == "waits-here").unwrap();
            if let StackPointer::At(pointer) = found.stack_pointer {
                break pointer;
            }
            std::thread::yield_now();
        };
        drop(stop);
        thread.join().unwrap();
        assert!(pointer.0 < local && local - pointer.0 < 64 << 10, "{pointer} is not just below 0x{local:x}");
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC*") {
            let _ = StackPointer::parse(&text);
        }
    }
}
