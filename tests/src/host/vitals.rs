//! What a process costs the machine at one moment: memory, descriptors, threads.

/// One reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vitals {
    /// VmRSS in KiB.
    pub resident: u64,
    /// VmHWM in KiB: the most that was resident so far.
    pub peak: u64,
    /// Open descriptors.
    pub descriptors: usize,
    /// Threads.
    pub threads: u64,
}

impl Vitals {
    /// Reads those of a process that runs.
    ///
    /// # Panics
    /// When it is gone.
    pub fn of(pid: u32) -> Self {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
        let member = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
            number.unwrap_or_else(|| panic!("/proc/{pid}/status says no {name}"))
        };
        let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("the process runs").count();
        Self { resident: member("VmRSS"), peak: member("VmHWM"), descriptors, threads: member("Threads") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_vitals_are_plausible() {
        let own = Vitals::of(std::process::id());
        assert!(own.resident > 100 && own.descriptors >= 3 && own.threads >= 2, "{own:?}");
    }
}
