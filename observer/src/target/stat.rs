//! `/proc/PID/stat`: the few fields that tell what kind of process it is and when it began.
//!
//! Does not know: any other file of it.

use crate::model::Ns;

use super::syscall::page_size;
use crate::model::Pid;

/// Flag of a kernel thread in the kernel's `include/linux/sched.h` (`PF_KTHREAD`), in every kernel since 2.6.27.
const KERNEL_THREAD: u64 = 0x0020_0000;

/// What is used of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// The state's letter.
    pub state: char,
    /// It never had user memory.
    pub kernel_thread: bool,
    /// Clock ticks after boot at which it began.
    pub start_ticks: u64,
}

impl Stat {
    /// From the file's text; `None` where it does not read as `proc_pid_stat(5)` says.
    pub fn parse(text: &str) -> Option<Self> {
        // The second field is the name in parentheses and may itself hold blanks and parentheses.
        let rest = &text[text.rfind(')')? + 1..];
        let mut fields = rest.split_ascii_whitespace();
        let state = fields.next()?.chars().next()?;
        let flags: u64 = fields.nth(5)?.parse().ok()?;
        let start_ticks = fields.nth(12)?.parse().ok()?;
        Some(Self { state, kernel_thread: flags & KERNEL_THREAD != 0, start_ticks })
    }

    /// It has ended; only its exit status is left.
    pub fn is_dead(&self) -> bool {
        matches!(self.state, 'Z' | 'X' | 'x')
    }
}

/// Whether a thread of this process has not ended. A process whose first thread has may go on by others.
pub fn is_running(pid: Pid) -> bool {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return false };
    // A thread that ends while we look is none that runs.
    threads.flatten().any(|thread| {
        std::fs::read_to_string(thread.path().join("stat"))
            .is_ok_and(|text| Stat::parse(&text).is_some_and(|stat| !stat.is_dead()))
    })
}

/// This program's resident memory, bytes.
pub fn own_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    text.split_ascii_whitespace().nth(1)?.parse::<u64>().ok()?.checked_mul(page_size())
}

/// CPU time of this process so far, all its threads'.
pub fn own_cpu() -> Ns {
    // Every Linux has this clock, and a process may ask for its own.
    cpu_clock(libc::CLOCK_PROCESS_CPUTIME_ID).unwrap_or_default()
}

/// CPU time of a process so far, all its threads', those that have ended included; `None` where it has ended itself.
pub fn process_cpu(pid: Pid) -> Option<Ns> {
    let mut clock = 0;
    // SAFETY: the call writes one number.
    let found = unsafe { libc::clock_getcpuclockid(pid.0.cast_signed(), &mut clock) };
    (found == 0).then(|| cpu_clock(clock)).flatten()
}

fn cpu_clock(clock: libc::clockid_t) -> Option<Ns> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call writes one timespec.
    let read = unsafe { libc::clock_gettime(clock, &mut time) };
    (read == 0).then(|| Ns(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_state_flags_and_start_of_an_ordinary_process() {
        let text = "14225 (sleep) S 14223 14223 6440 0 -1 4194304 128 0 0 0 0 0 0 0 20 0 1 0 189502 2990080 412\n";
        let expected = Stat { state: 'S', kernel_thread: false, start_ticks: 189_502 };
        assert_eq!(Stat::parse(text), Some(expected));
    }

    #[test]
    fn a_name_with_parentheses_and_blanks_shifts_no_field() {
        let text = "7 (a) Z 9 (b) S 1 7 7 0 -1 2129984 0 0 0 0 0 0 0 0 20 0 1 0 24 0 0";
        let stat = Stat::parse(text).unwrap();
        assert_eq!((stat.state, stat.kernel_thread, stat.start_ticks), ('S', true, 24));
    }

    #[test]
    fn a_process_s_cpu_time_is_told_by_its_number_until_it_has_ended() {
        let (before, told, after) = (own_cpu(), process_cpu(Pid(std::process::id())), own_cpu());
        assert!(told.is_some_and(|told| before <= told && told <= after), "{before:?} {told:?} {after:?}");
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        assert_eq!(process_cpu(Pid(child.id())), None);
    }

    #[test]
    fn a_cut_line_is_refused() {
        assert_eq!(Stat::parse("14225 (sleep) S 14223 14223"), None);
        assert_eq!(Stat::parse("14225 (sleep"), None);
        assert_eq!(Stat::parse(""), None);
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC*") {
            let _ = Stat::parse(&text);
        }
    }
}
