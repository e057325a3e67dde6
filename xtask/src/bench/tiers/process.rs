//! What the kernel tells of a process: its memory and the CPU time it has used. Texts of `/proc` are parsed apart from reading them.

use std::time::Duration;

use anyhow::{Context, Result};

/// A process number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pid(pub(super) u32);

/// Resident memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd)]
pub(super) struct Kib(pub(super) f64);

/// `/proc/PID/stat` counts hundredths of a second on every x86-64 Linux (USER_HZ).
const TICK: Duration = Duration::from_millis(10);

impl Pid {
    /// Memory that it has resident now.
    pub(super) fn resident(self) -> Result<Kib> {
        let path = format!("/proc/{}/status", self.0);
        let status = std::fs::read_to_string(&path).with_context(|| path.clone())?;
        resident(&status).with_context(|| format!("{path} has no VmRSS"))
    }

    /// CPU time of all its threads, those that have ended included, to 10 ms.
    pub(super) fn cpu(self) -> Result<Duration> {
        let path = format!("/proc/{}/stat", self.0);
        let stat = std::fs::read_to_string(&path).with_context(|| path.clone())?;
        cpu(&stat).with_context(|| format!("{path} has no times"))
    }
}

/// The first CPU that we may use.
pub(super) fn first_cpu() -> Result<u32> {
    let status = std::fs::read_to_string("/proc/self/status").context("/proc/self/status")?;
    first_allowed(&status).context("/proc/self/status has no Cpus_allowed_list")
}

fn first_allowed(status: &str) -> Option<u32> {
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?.trim();
    list.split(['-', ',']).next()?.parse().ok()
}

fn resident(status: &str) -> Option<Kib> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok().map(Kib)
}

fn cpu(stat: &str) -> Option<Duration> {
    // The name may hold spaces and brackets: what follows its last bracket begins with the third field.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut times = fields.split_whitespace().skip(14 - 3).map_while(|field| field.parse::<u32>().ok());
    Some(TICK * (times.next()? + times.next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_memory_is_read_from_a_status() {
        assert_eq!(resident("Name:\tx\nVmHWM:\t  9 kB\nVmRSS:\t   1234 kB\n"), Some(Kib(1234.0)));
        assert_eq!(resident("Name:\tkthread\n"), None);
    }

    #[test]
    fn the_first_cpu_is_read_from_ranges_and_lists() {
        assert_eq!(first_allowed("Cpus_allowed:\tff\nCpus_allowed_list:\t0-7\n"), Some(0));
        assert_eq!(first_allowed("Cpus_allowed_list:\t3,5-6\n"), Some(3));
        assert_eq!(first_allowed("Cpus_allowed_list:\t4\n"), Some(4));
    }

    #[test]
    fn cpu_time_is_user_and_system_whatever_the_name_holds() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194304 100 0 0 0 12 30 5 6 20 0 1 0 99 0 0\n";
        assert_eq!(cpu(stat), Some(Duration::from_millis(420)));
        assert_eq!(cpu("7 (x) S"), None);
    }
}
