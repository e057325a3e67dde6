//! Which CPUs there are to open rings on.
//!
//! Does not know: what is opened. One that comes online later needs a ring of its own.

use std::fs;
use std::io;

use super::PerfError;

/// More numbers than any kernel is built for (`NR_CPUS` is at most 8192).
const MOST: u32 = 1 << 16;

/// The CPUs that are online now.
pub fn online_cpus() -> Result<Vec<u32>, PerfError> {
    listed("online", "list the CPUs that are online")
}

/// Whether more CPUs may come online than are now.
pub fn more_cpus_may_come() -> Result<bool, PerfError> {
    let possible = listed("possible", "list the CPUs that there may be")?;
    Ok(possible.len() > online_cpus()?.len())
}

fn listed(which: &str, what: &'static str) -> Result<Vec<u32>, PerfError> {
    let failed = |source| PerfError::System { what, source };
    let text = fs::read_to_string(format!("/sys/devices/system/cpu/{which}")).map_err(failed)?;
    parse_cpus(&text).ok_or_else(|| failed(io::Error::new(io::ErrorKind::InvalidData, format!("they are {text:?}"))))
}

/// A list as the kernel writes it: `0-3,8`. `None` for anything else.
fn parse_cpus(text: &str) -> Option<Vec<u32>> {
    let mut cpus = Vec::new();
    for part in text.trim_end().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        if first > last || last >= MOST || cpus.last().is_some_and(|&before| before >= first) {
            return None;
        }
        cpus.extend(first..=last);
    }
    Some(cpus)
}

/// Keeps the calling thread on the CPU that it runs on, for good, and gives that.
pub fn keep_here() -> io::Result<u32> {
    // SAFETY: no arguments.
    let here = unsafe { libc::sched_getcpu() };
    let cpu = usize::try_from(here).map_err(|_| io::Error::last_os_error())?;
    if cpu >= 8 * size_of::<libc::cpu_set_t>() {
        return Err(io::ErrorKind::Unsupported.into());
    }
    // SAFETY: all zeroes is an empty set, which the macro checks its index against; the call reads one set of the size given.
    let kept = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, size_of_val(&set), &raw const set)
    };
    if kept == 0 { Ok(here as u32) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_list_of_ranges_names_each_cpu_once() {
        assert_eq!(parse_cpus("0\n"), Some(vec![0]));
        assert_eq!(parse_cpus("0-1\n"), Some(vec![0, 1]));
        assert_eq!(parse_cpus("0-2,5,7-8\n"), Some(vec![0, 1, 2, 5, 7, 8]));
    }

    #[test]
    fn what_is_no_such_list_is_refused() {
        for text in ["", "\n", "a", "1-", "-1", "3-2", "0,0", "0-4294967295", "0-3,2-5"] {
            assert_eq!(parse_cpus(text), None, "{text:?}");
        }
    }

    #[test]
    fn we_run_on_a_cpu_that_is_online() {
        // SAFETY: no arguments.
        let here = unsafe { libc::sched_getcpu() } as u32;
        assert!(online_cpus().unwrap().contains(&here));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC*", near in "[-0-9,]{0,40}") {
            let _ = (parse_cpus(&text), parse_cpus(&near));
        }
    }
}
