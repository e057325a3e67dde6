//! Threads that stand still: off the CPU, at one place, for as long as no number moves that counts how often they got on one.
//!
//! Does not know: what is on their stacks.

use super::process::Process;
use super::stat::Stat;
use crate::model::{ProcAddr, Tid};

/// Where the kernel holds a thread that was signalled, stopped, traced or frozen (`wchan`), by the names of its own functions since Linux
/// 5.15: such a thread shows the call that it was in, and does not wait in it. The second is that of control groups of version 1,
/// which a thread also shows as waiting without a signal (`D`).
const HELD_IN: [&str; 6] =
    ["get_signal", "__refrigerator", "do_freezer_trap", "do_signal_stop", "ptrace_stop", "do_jobctl_trap"];

/// Where a thread waits in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Its stack pointer in user space.
    pub sp: ProcAddr,
    /// The instruction it goes on at.
    pub ip: ProcAddr,
}

impl Standing {
    /// From the texts of `/proc/PID/task/TID/syscall` and `wchan` and the letter of its state. `None` for a thread that runs or is
    /// ready to, for one that is stopped, traced or frozen, and where the kernel does not tell.
    pub fn parse(text: &str, state: char, wchan: &str) -> Option<Self> {
        // `NR ARG1 .. ARG6 SP PC` in a system call, `-1 SP PC` when it is off the CPU for something else: a page that is not there,
        // for which it waits uninterrupted, but also whatever stopped it.
        let fields: Vec<&str> = text.trim_end().split(' ').collect();
        let (sp, ip) = match (state, &fields[..]) {
            ('D', ["-1", sp, ip]) | ('S' | 'D', [_, _, _, _, _, _, _, sp, ip]) => (*sp, *ip),
            _ => return None,
        };
        if HELD_IN.contains(&wchan.trim_end()) {
            return None;
        }
        let address = |text: &str| u64::from_str_radix(text.strip_prefix("0x")?, 16).ok().filter(|at| *at != 0);
        Some(Self { sp: ProcAddr(address(sp)?), ip: ProcAddr(address(ip)?) })
    }
}

/// How often a thread got on a CPU, from the text of `/proc/PID/task/TID/schedstat`: time on, time waited, times. A kernel that
/// counts none of it shows zeroes, and they are no count: they never move.
pub fn parse_arrivals(text: &str) -> Option<u64> {
    text.trim_end().split(' ').nth(2)?.parse().ok().filter(|times| *times > 0)
}

/// How often a thread went off the CPU to wait, not because its time was up, from the text of `/proc/PID/task/TID/status`.
pub fn parse_waits(text: &str) -> Option<u64> {
    let mut fields = text.lines().filter_map(|line| line.split_once(':'));
    fields.find(|(name, _)| *name == "voluntary_ctxt_switches")?.1.trim().parse().ok()
}

impl Process {
    /// The numbers of its threads now; none of a process that has ended.
    pub fn thread_ids(&self) -> Vec<Tid> {
        let names = self.names("task").unwrap_or_default();
        names.iter().filter_map(|name| name.parse().ok()).map(Tid).collect()
    }

    /// How often the thread got on a CPU so far. `None` for one that has ended, and where the kernel does not count that
    /// (`CONFIG_SCHED_INFO`).
    pub fn arrivals(&self, tid: Tid) -> Option<u64> {
        parse_arrivals(&self.text(&format!("task/{tid}/schedstat")).ok()?)
    }

    /// Whether the kernel counts how often its threads get on a CPU. Those that run are asked: one has at least.
    pub fn counts_arrivals(&self) -> bool {
        self.thread_ids().into_iter().any(|tid| self.arrivals(tid).is_some())
    }

    /// How often the thread went off the CPU to wait so far. While that does not move it runs, or is ready to.
    pub fn waits(&self, tid: Tid) -> Option<u64> {
        parse_waits(&self.text(&format!("task/{tid}/status")).ok()?)
    }

    /// Where the thread stands, if it waits in the kernel. Who is frozen in a control group of version 1 may seem to, see
    /// [`Process::is_frozen`]. That it stood there from one moment to another is proved by
    /// [`Process::arrivals`] being the same before this look and at the later moment.
    pub fn standing(&self, tid: Tid) -> Option<Standing> {
        let file = |name: &str| self.text(&format!("task/{tid}/{name}"));
        let text = file("syscall").ok()?;
        let Stat { state, .. } = Stat::parse(&file("stat").ok()?)?;
        // A kernel without names of its functions has no such file.
        Standing::parse(&text, state, &file("wchan").unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use proptest::prelude::*;

    use super::*;
    use crate::model::Pid;

    const IN_CALL: &str = "230 0x0 0x0 0x7ffd4569d5f0 0x7ffd4569d630 0x0 0x0 0x7ffd4569d5d8 0x7fa749ba0503\n";
    const OUTSIDE: &str = "-1 0x7ffd4569d5d8 0x7fa749ba0503\n";

    #[test]
    fn a_thread_that_waits_stands_in_or_outside_of_a_system_call() {
        let at = Some(Standing { sp: ProcAddr(0x7ffd_4569_d5d8), ip: ProcAddr(0x7fa7_49ba_0503) });
        assert_eq!(Standing::parse(IN_CALL, 'S', "hrtimer_nanosleep"), at);
        assert_eq!(Standing::parse(IN_CALL, 'D', ""), at);
        assert_eq!(Standing::parse(OUTSIDE, 'D', "folio_wait_bit_common"), at);
        for text in ["running\n", "", "-1", "-1 0x0 0x0", "0x1 0x2", "-1 7 8"] {
            assert_eq!(Standing::parse(text, 'D', ""), None, "{text:?}");
        }
    }

    /// Each as Linux 6.18 shows a thread that computed, or slept in a call, when this was done to it.
    #[test]
    fn a_thread_that_is_stopped_traced_or_frozen_does_not_wait_where_it_was() {
        let held = [('T', "do_signal_stop"), ('t', "ptrace_stop"), ('S', "get_signal"), ('D', "__refrigerator\n")];
        for (text, (state, wchan)) in [IN_CALL, OUTSIDE].into_iter().flat_map(|text| held.map(|held| (text, held))) {
            assert_eq!(Standing::parse(text, state, wchan), None, "{text:?} {state} {wchan}");
        }
        assert_eq!(Standing::parse(IN_CALL, 'T', ""), None, "where the kernel does not name the place");
        assert_eq!(Standing::parse(OUTSIDE, 'S', ""), None, "so waits only who was signalled");
    }

    #[test]
    fn a_thread_that_stands_still_does_not_get_on_a_cpu_and_one_that_goes_on_does() {
        let (go, gone) = mpsc::channel::<()>();
        let (tell, told) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            // SAFETY: no argument, no failure.
            tell.send(Tid(unsafe { libc::gettid() }.cast_unsigned())).unwrap();
            while gone.recv().is_ok() {}
        });
        let tid = told.recv().unwrap();
        let us = Process::open(Pid(std::process::id())).unwrap();
        assert!(us.thread_ids().contains(&tid));
        let (before, standing) = loop {
            if let (Some(arrivals), Some(standing)) = (us.arrivals(tid), us.standing(tid)) {
                break (arrivals, standing);
            }
            std::thread::yield_now();
        };
        assert_eq!((us.arrivals(tid), us.standing(tid)), (Some(before), Some(standing)));
        let waits = us.waits(tid).expect("each kernel counts them");
        go.send(()).unwrap();
        while us.arrivals(tid) == Some(before) {
            std::thread::yield_now();
        }
        while us.waits(tid) == Some(waits) {
            std::thread::yield_now();
        }
        drop(go);
        thread.join().unwrap();
        assert_eq!((us.arrivals(tid), us.standing(tid)), (None, None));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC*", near in "[-0-9a-fx ]{0,80}") {
            let _ = (Standing::parse(&text, 'D', &near), Standing::parse(&near, 'D', &text), parse_arrivals(&text), parse_arrivals(&near));
            let _ = parse_waits(&text);
        }
    }
}
