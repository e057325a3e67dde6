//! What a process costs the machine at one moment: memory, descriptors, threads.

/// One reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vitals {
    /// VmRSS in KiB, without perf's rings: their size is given when they are opened, and older kernels (6.12) count each page of
    /// them from when it is first read.
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
        let member = |name: &str| -> u64 {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
            number.unwrap_or_else(|| panic!("/proc/{pid}/status says no {name}"))
        };
        let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("the process runs").count();
        let mappings = std::fs::read_to_string(format!("/proc/{pid}/smaps")).expect("the process runs");
        let resident = member("VmRSS").saturating_sub(resident_rings(&mappings));
        Self { resident, peak: member("VmHWM"), descriptors, threads: member("Threads") }
    }
}

/// What of perf's rings is resident by a `smaps` file, in KiB.
fn resident_rings(mappings: &str) -> u64 {
    let (mut within, mut sum) = (false, 0);
    for line in mappings.lines() {
        let mut words = line.split_ascii_whitespace();
        match (words.next(), words.next()) {
            (Some("Rss:"), Some(number)) if within => sum += number.parse::<u64>().unwrap_or_default(),
            // A mapping begins with its range, and all that is said of it with a word and a colon.
            (Some(word), _) if !word.ends_with(':') => within = line.ends_with("anon_inode:[perf_event]"),
            _ => {}
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_what_is_mapped_only_the_rings_are_told_apart() {
        let mappings = "\
7f00-7f10 r-xp 00000000 fe:00 12    /usr/bin/x
Size:                 64 kB
Rss:                  64 kB
7f20-7f30 rw-s 00000000 00:0e 1049  anon_inode:[perf_event]
Rss:                  24 kB
VmFlags: rd wr sh
7f30-7f40 rw-s 00000000 00:0e 1049  anon_inode:[perf_event]
Rss:                   4 kB
7f40-7f50 rw-p 00000000 00:00 0
Rss:                   8 kB
";
        assert_eq!(resident_rings(mappings), 28);
    }

    #[test]
    fn our_own_vitals_are_plausible() {
        let own = Vitals::of(std::process::id());
        assert!(own.resident > 100 && own.descriptors >= 3 && own.threads >= 2, "{own:?}");
    }
}
