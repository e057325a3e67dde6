//! What observing needs, and what became of trying it. Words for it are the command line's.
//!
//! Does not know how anything is tried.

use std::io;

use crate::model::{Capability, Pid};
use crate::session::{AttachError, SessionError};

/// Something that observing needs of the machine, or of one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Need {
    /// Creating the kernel side's maps.
    Maps,
    /// Loading the kernel side's programs.
    Programs,
    /// Rings that the programs write to.
    Rings,
    /// One link for any number of points.
    UprobeMulti,
    /// One trace event for many points.
    TraceEvents,
    /// The tracing file system.
    Tracefs,
    /// Return probes in a process with a seccomp filter.
    ReturnsUnderFilter,
    /// Following processes as they come and go.
    Following,
    /// Sampling who runs, with registers and stack.
    Sampling,
    /// Reading processes of other users.
    OtherUsers,
    /// Reading processes of this user.
    SameUser,
    /// Opening the very file that is mapped, though it be deleted.
    MapFiles,
    /// Opening files that this user may not read.
    AnyFile,
    /// Starting a program and holding it at its first instruction.
    Launching,
    /// The process is there and may be looked at.
    Process,
    /// Its memory can be read.
    Memory,
    /// It runs.
    Running,
    /// Nobody else has a hand on it.
    Untraced,
    /// Its seccomp filter lets return probes through.
    Filter,
    /// Something in it can be observed.
    Runtime,
}

/// What became of one need.
#[derive(Debug)]
pub struct Row {
    /// The need.
    pub need: Need,
    /// Observing works without it, if less well.
    pub optional: bool,
    /// What trying it showed.
    pub outcome: Outcome,
}

/// What trying showed.
#[derive(Debug)]
pub enum Outcome {
    /// It works; the detail that is worth knowing.
    Works(Option<Detail>),
    /// It works, but.
    Risk(Risk),
    /// It does not.
    Missing(Missing),
    /// It was not tried.
    NotTried(NotTried),
}

/// What is worth knowing of something that works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Detail {
    /// Rings fit only in this size.
    SmallerRings {
        /// As wanted by default.
        wanted: usize,
        /// Pages.
        pages: usize,
    },
    /// It is there, and what works better works, too.
    NotNeeded,
    /// The process.
    Process {
        /// Its executable.
        exe: String,
        /// Its effective user.
        user: u32,
        /// Ours.
        own_user: u32,
        /// Its threads.
        threads: u32,
        /// Namespaces that it does not share with us.
        other_namespaces: Vec<&'static str>,
    },
    /// There is no filter.
    NoFilter,
    /// There is one.
    FilterLetsThrough,
}

/// What can go wrong with something that works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Risk {
    /// The process is stopped: nothing will happen in it.
    Stopped,
    /// Its control group is frozen: the same.
    Frozen,
    /// A debugger has a hand on it.
    Traced {
        /// The debugger.
        by: Pid,
        /// Its name, where it can be read.
        name: Option<String>,
    },
    /// This kernel lets seccomp filters judge the call of its own return probes: one that does not know it kills the process.
    FilterKills,
    /// There is a filter, and what this kernel lets it do could not be tried.
    FilterUntried,
    /// Only processes of this user can be read, and of those perhaps only our own children.
    OwnChildrenOnly,
}

/// What is missing, and why.
#[derive(Debug)]
pub struct Missing {
    /// Why.
    pub cause: Cause,
    /// What the kernel said.
    pub errno: Option<i32>,
}

/// Why something is missing, as far as the next step differs.
#[derive(Debug)]
pub enum Cause {
    /// This program lacks these capabilities.
    Lacks(Vec<Capability>),
    /// It has them within a user namespace, where they do not count.
    UserNamespace(Vec<Capability>),
    /// A seccomp filter on this program, as container runtimes set it.
    OwnFilter,
    /// The kernel is locked down, in this mode.
    Lockdown(String),
    /// `kernel.perf_event_paranoid` is so high that this kernel lets nobody but CAP_SYS_ADMIN open perf's events.
    PerfParanoid(i64),
    /// One of these security modules.
    SecurityModule(Vec<String>),
    /// Yama lets nobody read another process, and this cannot be changed before the next boot.
    Yama,
    /// None of the reasons that are known.
    Unexplained,
    /// The tracing file system is not mounted.
    NotMounted,
    /// As the session says.
    Session(Box<SessionError>),
}

/// Why something was not tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotTried {
    /// What it needs is missing.
    Blocked,
    /// What is better works.
    NotNeeded,
    /// The process cannot be looked at.
    NoProcess,
    /// It is tried only where probes can be attached.
    OnlyWithProbes,
}

impl Row {
    pub(super) fn needed(need: Need, outcome: Outcome) -> Self {
        Self { need, optional: false, outcome }
    }

    pub(super) fn optional(need: Need, outcome: Outcome) -> Self {
        Self { need, optional: true, outcome }
    }

    /// Whether it works, be it with a risk.
    pub fn works(&self) -> bool {
        matches!(self.outcome, Outcome::Works(_) | Outcome::Risk(_))
    }
}

impl Outcome {
    /// It works, and there is no more to say.
    pub(super) const WORKS: Self = Self::Works(None);

    pub(super) fn missing(cause: Cause, error: &io::Error) -> Self {
        Self::Missing(Missing { cause, errno: error.raw_os_error() })
    }
}

impl From<SessionError> for Outcome {
    fn from(error: SessionError) -> Self {
        let errno = error.errno();
        Self::Missing(Missing { cause: Cause::Session(Box::new(error)), errno })
    }
}

impl From<AttachError> for Outcome {
    fn from(error: AttachError) -> Self {
        SessionError::from(error).into()
    }
}
