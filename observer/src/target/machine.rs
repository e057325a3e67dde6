//! The machine's own settings that decide what an observer may do: lockdown, security modules, sysctls, mounts.
//!
//! Does not know: what follows from them.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

/// Where the events of the tracing file system are declared: as it is mounted by itself, and within debugfs.
const TRACING: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

/// Settings, each `None` where this kernel does not show it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// `/sys/kernel/security/lockdown`: the mode in force.
    pub lockdown: Option<String>,
    /// `/sys/kernel/security/lsm`.
    pub security_modules: Option<Vec<String>>,
    /// Whether the security file system is mounted, where the two above stand.
    pub securityfs: bool,
    /// `kernel.unprivileged_bpf_disabled`.
    pub unprivileged_bpf_disabled: Option<i64>,
    /// `kernel.perf_event_paranoid`.
    pub perf_event_paranoid: Option<i64>,
    /// `kernel.perf_event_mlock_kb`.
    pub perf_event_mlock_kb: Option<i64>,
    /// `kernel.yama.ptrace_scope`.
    pub ptrace_scope: Option<i64>,
    /// How much memory this program may lock; `None` inside is no limit.
    pub locked_memory: Option<Option<u64>>,
}

impl Settings {
    /// As they are now.
    pub fn read() -> Self {
        // A file that is not there or closed to us is a setting that is not shown.
        let text = |path: &str| fs::read_to_string(path).ok();
        let number = |name: &str| text(&format!("/proc/sys/kernel/{name}"))?.trim().parse().ok();
        let lockdown = text("/sys/kernel/security/lockdown");
        let modules = text("/sys/kernel/security/lsm");
        Self {
            securityfs: fs::read_dir("/sys/kernel/security").is_ok_and(|mut entries| entries.next().is_some()),
            lockdown: lockdown.and_then(|text| chosen(&text)),
            security_modules: modules.map(|text| text.trim().split(',').map(str::to_owned).collect()),
            unprivileged_bpf_disabled: number("unprivileged_bpf_disabled"),
            perf_event_paranoid: number("perf_event_paranoid"),
            perf_event_mlock_kb: number("perf_event_mlock_kb"),
            ptrace_scope: number("yama/ptrace_scope"),
            locked_memory: text("/proc/self/limits").and_then(|text| locked_memory(&text)),
        }
    }

    /// Whether one of these security modules is in force that can refuse what capabilities allow.
    pub fn judging_modules(&self) -> Vec<String> {
        let judges = |name: &&String| ["selinux", "apparmor", "smack", "tomoyo", "bpf"].contains(&name.as_str());
        self.security_modules.iter().flatten().filter(judges).cloned().collect()
    }
}

/// The word in brackets: `none [integrity] confidentiality`.
fn chosen(text: &str) -> Option<String> {
    let (_, rest) = text.split_once('[')?;
    Some(rest.split_once(']')?.0.to_owned())
}

/// The soft limit of `Max locked memory` in a `limits` file, bytes.
fn locked_memory(text: &str) -> Option<Option<u64>> {
    let line = text.lines().find_map(|line| line.strip_prefix("Max locked memory"))?;
    match line.split_ascii_whitespace().next()? {
        "unlimited" => Some(None),
        bytes => bytes.parse().ok().map(Some),
    }
}

/// What trying to declare an event in the tracing file system showed.
#[derive(Debug)]
pub enum Tracing {
    /// It can be done here.
    Writable(PathBuf),
    /// It is mounted, and its file cannot be opened for writing.
    Refused(PathBuf, io::Error),
    /// It is mounted, and the file is not there: the kernel has no such events, or was locked down before it made the file.
    Without,
    /// It is not mounted.
    NotMounted,
}

/// Opens the list of probes for writing and writes nothing.
pub fn try_tracing() -> Tracing {
    let mut refused = None;
    for folder in TRACING {
        let path = Path::new(folder).join("uprobe_events");
        // Appending: opened in any other way, the kernel would clear the list, which is others', too.
        match OpenOptions::new().append(true).open(&path) {
            Ok(_) => return Tracing::Writable(path),
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => {}
            Err(error) => refused = refused.or(Some(Tracing::Refused(path, error))),
        }
    }
    let without = || fs::read_to_string("/proc/self/mounts").is_ok_and(|text| is_mounted(&text));
    refused.unwrap_or_else(|| if without() { Tracing::Without } else { Tracing::NotMounted })
}

/// Whether the tracing file system is at one of its places in a `mounts` file, and nothing was mounted over it later.
fn is_mounted(mounts: &str) -> bool {
    let lines = mounts.lines().map(|line| line.split_ascii_whitespace().skip(1));
    let mounted: Vec<(&Path, &str)> =
        lines.filter_map(|mut words| Some((Path::new(words.next()?), words.next()?))).collect();
    TRACING.iter().map(Path::new).any(|place| {
        let latest = mounted.iter().rev().find(|(over, _)| place.starts_with(over));
        latest.is_some_and(|(over, kind)| *over == place && *kind == "tracefs")
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_lockdown_mode_is_the_one_in_brackets() {
        assert_eq!(chosen("none [integrity] confidentiality\n").as_deref(), Some("integrity"));
        assert_eq!(chosen("[none] integrity confidentiality\n").as_deref(), Some("none"));
        assert_eq!(chosen("none integrity"), None);
    }

    #[test]
    fn the_soft_limit_of_locked_memory_counts() {
        let text =
            |soft| format!("Limit   Soft Limit  Hard Limit  Units\nMax locked memory         {soft}  99  bytes\n");
        assert_eq!(locked_memory(&text("8388608")), Some(Some(8 << 20)));
        assert_eq!(locked_memory(&text("unlimited")), Some(None));
        assert_eq!(locked_memory("Max processes 5"), None);
    }

    #[test]
    fn modules_that_judge_are_told_from_those_that_do_not() {
        let modules = ["capability", "yama", "apparmor"].map(str::to_owned).to_vec();
        let settings = Settings { security_modules: Some(modules), ..Settings::default() };
        assert_eq!(settings.judging_modules(), ["apparmor"]);
    }

    #[test]
    fn the_tracing_file_system_is_mounted_where_nothing_is_mounted_over_it() {
        let mounted = "sysfs /sys sysfs rw 0 0\ntracefs /sys/kernel/tracing tracefs rw 0 0\n";
        assert!(is_mounted(mounted));
        for over in ["/sys/kernel/tracing", "/sys/kernel"] {
            assert!(!is_mounted(&format!("{mounted}tmpfs {over} tmpfs rw 0 0\n")), "{over}");
        }
        assert!(is_mounted(&format!("{mounted}tmpfs /sys/kernel/trac tmpfs rw 0 0\n")));
        assert!(!is_mounted("sysfs /sys sysfs rw 0 0\nnone /elsewhere tracefs rw 0 0\n"));
    }

    #[test]
    fn settings_of_this_machine_are_what_its_files_say() {
        let settings = Settings::read();
        let limit = fs::read_to_string("/proc/self/limits").unwrap();
        assert!(settings.locked_memory.is_some(), "{limit}");
        let paranoid = fs::read_to_string("/proc/sys/kernel/perf_event_paranoid").ok();
        assert_eq!(settings.perf_event_paranoid.map(|level| format!("{level}\n")), paranoid);
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,100}") {
            let _ = chosen(&text);
            let _ = is_mounted(&text);
            let _ = locked_memory(&format!("Max locked memory{text}"));
        }
    }
}
