//! Joins the arms: targets to a catalog and links, then rings to events, until something ends it.

mod error;
mod images;
mod select;
mod setup;
mod stream;
mod trace;
mod verify;
mod watch;

use std::io::Write;
use std::time::Duration;

use crate::model::{EventSet, Pid};
use crate::sink::Sink;

pub use crate::attach::{AttachError, Mechanism as Attaching, Work};
pub use crate::target::{Capability, LaunchError, TargetError};
pub use error::{SessionError, Unsupported};
pub use trace::trace;

/// What to observe and how.
#[derive(Debug)]
pub struct Options {
    /// Which processes.
    pub selection: Selection,
    /// Which events; only the probes they need are attached.
    pub events: EventSet,
    /// When to stop; `None` is at a signal or the targets' end.
    pub duration: Option<Duration>,
    /// How to attach; `None` tries the best first.
    pub mechanism: Option<Attaching>,
    /// Whether the probes do their work; without it no event is seen.
    pub work: Work,
    /// Size of each CPU's ring, pages.
    pub ring_pages: usize,
    /// Whether future types are to be named.
    pub names: bool,
    /// Diagnostics on standard error: 0 none, 1 progress, 2 details, 3 what the kernel side logs.
    pub verbosity: u8,
}

/// Which processes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// Running ones.
    Running {
        /// By number.
        pids: Vec<Pid>,
        /// By name, as `/proc/PID/comm` has it.
        names: Vec<String>,
    },
    /// One to be launched, program first.
    Launch(Vec<std::ffi::OsString>),
}

/// Where events go.
pub struct Output {
    /// How they look.
    pub sink: Box<dyn Sink>,
    /// Where they are written.
    pub out: Box<dyn Write>,
}
