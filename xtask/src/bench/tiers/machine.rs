//! The machine that a run was made on, as the page says it.

use anyhow::{Context, Result};
use serde_json::{Value, json};

/// What is said of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Machine {
    kernel: String,
    cpu: String,
    cores: usize,
    memory_gib: u64,
    virtualised: bool,
}

impl Machine {
    /// This one.
    pub(super) fn here() -> Result<Self> {
        let read = |path: &str| std::fs::read_to_string(path).with_context(|| path.to_owned());
        Ok(Self::of(&read("/proc/sys/kernel/osrelease")?, &read("/proc/cpuinfo")?, &read("/proc/meminfo")?))
    }

    fn of(release: &str, cpuinfo: &str, meminfo: &str) -> Self {
        let field = |name: &str| {
            let line = cpuinfo.lines().find(|line| line.split(':').next().is_some_and(|had| had.trim() == name))?;
            line.split_once(':').map(|(_, value)| value.trim())
        };
        let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
        let kib: Option<u64> = total.and_then(|total| total.trim().trim_end_matches(" kB").parse().ok());
        Self {
            kernel: release.trim().to_owned(),
            cpu: field("model name").unwrap_or("unknown").to_owned(),
            cores: cpuinfo.lines().filter(|line| line.starts_with("processor")).count(),
            memory_gib: kib.map_or(0, |kib| (kib + (1 << 19)) >> 20),
            virtualised: field("flags").is_some_and(|flags| flags.split(' ').any(|flag| flag == "hypervisor")),
        }
    }

    /// One sentence.
    pub(super) fn text(&self) -> String {
        let what = if self.virtualised { "a virtual machine" } else { "no virtual machine" };
        let Self { kernel, cpu, cores, memory_gib, .. } = self;
        format!("Linux {kernel}, {cpu}, {cores} cores, {memory_gib} GiB of memory, {what}.")
    }

    /// For the report.
    pub(super) fn json(&self) -> Value {
        json!({
            "kernel": self.kernel,
            "cpu": self.cpu,
            "cores": self.cores,
            "memoryGiB": self.memory_gib,
            "virtualised": self.virtualised,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_described_from_what_its_kernel_tells() {
        let cpu = "processor\t: 0\nmodel name\t: Some CPU\nflags\t\t: fpu hypervisor sse\n\n\
                   processor\t: 1\nmodel name\t: Some CPU\nflags\t\t: fpu hypervisor sse\n";
        let machine = Machine::of("6.18.1\n", cpu, "MemTotal:       25165824 kB\n");
        assert_eq!(machine.text(), "Linux 6.18.1, Some CPU, 2 cores, 24 GiB of memory, a virtual machine.");
    }
}
