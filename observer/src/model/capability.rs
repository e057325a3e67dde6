//! Capabilities: the rights that Linux tells apart for those who are not, or not wholly, root.
//!
//! Does not know who has which.

use std::fmt;

/// Names by number, as `include/uapi/linux/capability.h` has them in Linux 5.9 and since.
const NAMES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// A right that this program can need.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Capability {
    /// Reading any file, whatever its mode, and writing, too.
    DacOverride = 1,
    /// Opening files that the user may not read.
    DacReadSearch = 2,
    /// Locking more memory than the limits allow: rings.
    IpcLock = 14,
    /// Reading another user's process.
    SysPtrace = 19,
    /// Most of what has no capability of its own: attaching trace events.
    SysAdmin = 21,
    /// Holding back who wants to write to another user's file.
    Lease = 28,
    /// Events of the whole system, and tracing programs.
    Perfmon = 38,
    /// Creating maps and loading programs.
    Bpf = 39,
    /// Opening `/proc/PID/map_files`, the very inode that is mapped.
    CheckpointRestore = 40,
}

impl Capability {
    /// As `capabilities(7)` writes it.
    pub fn as_str(self) -> &'static str {
        NAMES[self as usize]
    }

    /// Those that allow all that this one allows.
    fn stands_in(self) -> &'static [Self] {
        match self {
            Self::Perfmon | Self::Bpf | Self::CheckpointRestore => &[Self::SysAdmin],
            Self::DacReadSearch => &[Self::DacOverride],
            Self::DacOverride | Self::IpcLock | Self::SysPtrace | Self::SysAdmin | Self::Lease => &[],
        }
    }

    /// Several, as a sentence has them.
    pub fn sentence(several: &[Self]) -> String {
        let names: Vec<&str> = several.iter().map(|one| one.as_str()).collect();
        match names.split_last() {
            None => "no capability".to_owned(),
            Some((last, [])) => (*last).to_owned(),
            Some((last, before)) => format!("{} and {last}", before.join(", ")),
        }
    }
}

/// A set of capabilities, a bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CapabilitySet(pub u64);

impl CapabilitySet {
    /// All that are known here.
    pub const ALL: Self = Self((1 << NAMES.len()) - 1);

    /// From the hexadecimal text of a `Cap` line in `/proc/PID/status`.
    pub fn parse(text: &str) -> Option<Self> {
        u64::from_str_radix(text.trim(), 16).ok().map(Self)
    }

    /// The set of these.
    pub fn of(several: &[Capability]) -> Self {
        Self(several.iter().fold(0, |bits, one| bits | 1 << *one as u8))
    }

    /// Whether what this capability allows is allowed, be it by a mightier one.
    pub fn allows(self, capability: Capability) -> bool {
        let has = |one: Capability| self.0 & Self::of(&[one]).0 != 0;
        has(capability) || capability.stands_in().iter().any(|other| has(*other))
    }

    /// Which of these are not allowed.
    pub fn lacking(self, needed: &[Capability]) -> Vec<Capability> {
        needed.iter().copied().filter(|one| !self.allows(*one)).collect()
    }

    /// The smallest part of this set that allows what of these it allows.
    pub fn enough_for(self, needed: &[Capability]) -> Self {
        let has = |one: &Capability| self.0 & Self::of(&[*one]).0 != 0;
        let enough = |one: &Capability| if has(one) { Self::of(&[*one]) } else { self.and(Self::of(one.stands_in())) };
        Self(needed.iter().map(enough).fold(0, |bits, set| bits | set.0))
    }

    /// What is in both.
    pub fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The names, by number; one that is newer than this program is named by its number.
    fn names(self) -> Vec<String> {
        let bits = (0..u64::BITS).filter(|bit| self.0 & (1 << bit) != 0);
        bits.map(|bit| NAMES.get(bit as usize).map_or_else(|| format!("CAP_{bit}"), |name| (*name).to_owned()))
            .collect()
    }
}

/// More than this many are told by what is lacking.
const LISTED: usize = 20;

impl fmt::Display for CapabilitySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lacking = Self(Self::ALL.0 & !self.0).names();
        match self.names() {
            names if names.is_empty() => f.write_str("none"),
            _ if lacking.is_empty() => f.write_str("all"),
            names if names.len() > LISTED => write!(f, "all but {}", lacking.join(", ")),
            names => f.write_str(&names.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_and_numbers_are_those_of_the_kernel() {
        // `capsh --decode` of these words says so.
        let four = CapabilitySet::parse("000000c000080004\n").unwrap();
        assert_eq!(four.to_string(), "CAP_DAC_READ_SEARCH, CAP_SYS_PTRACE, CAP_PERFMON, CAP_BPF");
        assert_eq!(CapabilitySet::parse("000001ffffffffff").unwrap().to_string(), "all");
        assert_eq!(CapabilitySet::parse("000001fffeffffff").unwrap().to_string(), "all but CAP_SYS_RESOURCE");
        assert_eq!(CapabilitySet::parse("0").unwrap().to_string(), "none");
        assert_eq!(CapabilitySet(1 << 50).to_string(), "CAP_50");
    }

    #[test]
    fn a_mightier_capability_stands_in() {
        let admin = CapabilitySet::of(&[Capability::SysAdmin]);
        let needed = [Capability::Bpf, Capability::Perfmon, Capability::SysPtrace];
        assert_eq!(admin.lacking(&needed), [Capability::SysPtrace]);
        assert!(!CapabilitySet::of(&[Capability::Bpf]).allows(Capability::SysAdmin));
    }

    #[test]
    fn what_is_enough_keeps_a_mightier_one_only_where_there_is_no_other() {
        use Capability::{Bpf, DacOverride, DacReadSearch, Perfmon, SysAdmin, SysPtrace};
        let needed = [Bpf, Perfmon, DacReadSearch];
        let all = CapabilitySet::ALL.enough_for(&needed);
        assert_eq!(all, CapabilitySet::of(&needed));
        let odd = CapabilitySet::of(&[SysAdmin, DacOverride, SysPtrace]).enough_for(&needed);
        assert_eq!(odd, CapabilitySet::of(&[SysAdmin, DacOverride]));
        assert_eq!(CapabilitySet::of(&[SysPtrace]).enough_for(&needed), CapabilitySet::default());
    }

    #[test]
    fn several_are_told_in_one_sentence() {
        use Capability::{Bpf, Perfmon, SysPtrace};
        assert_eq!(Capability::sentence(&[Bpf]), "CAP_BPF");
        assert_eq!(Capability::sentence(&[Bpf, Perfmon, SysPtrace]), "CAP_BPF, CAP_PERFMON and CAP_SYS_PTRACE");
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,40}", bits in any::<u64>()) {
            let _ = CapabilitySet::parse(&text);
            prop_assert!(!CapabilitySet(bits).to_string().is_empty());
            prop_assert_eq!(CapabilitySet::parse(&format!("{bits:016x}")), Some(CapabilitySet(bits)));
        }
    }
}
