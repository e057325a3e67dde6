//! Joins the arms: targets to a catalog and links, then rings to events, until something ends it.

mod analyst;
mod apart;
mod arrivals;
mod asked;
mod bell;
mod budget;
mod candidate;
mod censuses;
mod debug_files;
mod disk;
mod doctor;
mod dump;
mod dying;
mod ending;
mod error;
mod follow;
mod governing;
mod governor;
mod held;
mod horizon;
mod images;
mod inspect;
mod inspection;
mod intake;
mod known_files;
mod machine;
mod long_stacks;
mod marks;
mod meter;
mod named;
mod namer;
mod observing;
mod open_polls;
mod origins;
mod outlet;
mod overhead;
mod pace;
mod panic_places;
mod population;
mod privileges;
mod probing;
mod ps;
mod reader;
mod rehearsal;
mod roster;
mod said_polls;
mod sampled;
mod select;
mod setup;
mod shared_file;
mod spawns;
mod split_files;
mod stream;
mod sums;
mod sweep;
mod tier;
mod trace;
mod unread;
mod verify;
mod view;
mod watch;
mod whom;

use std::io::Write;
use std::time::Duration;

use crate::model::{Enclosure, EventSet, Ns, Pid};
use crate::sink::Sink;

pub use crate::attach::{AttachError, Mechanism as Attaching, Work};
pub use crate::perf::PerfError;
pub use crate::plan::Slow;
pub use crate::target::{LaunchError, TargetError, take_questions};
pub use crate::verdict::Verdict;
pub use budget::Bound;
pub use debug_files::Names;
pub use disk::Caching;
pub use doctor::{
    Cause, Detail, Diagnosis, DoctorOptions, Expected, Machine, Missing, Need, NotTried, Observed, Outcome, Points,
    Prices, Reads, Risk, Row, SlowPoint, Span, doctor,
};
pub use dump::{DumpOptions, dump};
pub use error::{SessionError, Unsupported};
pub use governor::{Cap, Governed};
pub use inspection::{InspectionOptions, ProfileKind, SitesOutput};
pub use privileges::{lacking, own_capabilities};
pub use ps::{PsOptions, ps};
pub use rehearsal::Rehearsal;
pub use sampled::{LEAST_RING_PAGES, SampledLook, SampledOptions, SampledOutput, sampled};
pub use spawns::{Born, Caps, Dropped, SpawnCounts, SpawnOptions, Spawns, Stack};
pub use sweep::{Course, Found, SweepOptions, sweep};
pub use tier::Tier;
pub use trace::trace;
pub use view::{Filter, Sort, View};

/// What to observe and how.
#[derive(Debug)]
pub struct Options {
    /// Which processes.
    pub selection: Selection,
    /// Which events; only the probes they need are attached.
    pub events: EventSet,
    /// What becomes of hot points on instructions that the kernel must single-step.
    pub slow: Slow,
    /// Sum polls up by task instead of saying each, and report so often.
    pub sums: Option<Duration>,
    /// Say what each birth was spawned through. Of named processes, and the images that they have at the start.
    pub stacks: bool,
    /// Keep what observing adds under a cap, by telling less; `sums` must be there, if polls may come to be summed.
    pub governed: Option<Governed>,
    /// With [`Selection::Everyone`], how long probes stay in a program that nobody runs any more.
    pub keep_probes: Duration,
    /// How often to say what observing costs.
    pub overhead_every: Duration,
    /// When to stop; `None` is at a signal or the targets' end.
    pub duration: Option<Duration>,
    /// How to attach; `None` tries the best first.
    pub mechanism: Option<Attaching>,
    /// Whether the probes do their work; without it no event is seen.
    pub work: Work,
    /// Size of each CPU's ring, pages.
    pub ring_pages: usize,
    /// Memory that this program may use.
    pub bound: Bound,
    /// Whether future types are to be named.
    pub names: Names,
    /// Where what is known of images is kept.
    pub caching: Caching,
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
    /// All there are, those that begin later included.
    Everyone(Within),
    /// One to be launched, program first.
    Launch(Vec<std::ffi::OsString>),
}

/// Which of all processes; without either, every one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Within {
    /// Only those whose control group's path holds this.
    pub cgroup: Option<String>,
    /// Only those in the container whose id begins so.
    pub container: Option<String>,
}

impl Within {
    /// Whether a process that is enclosed so is one of them. What is not known of it is not what is asked for.
    pub(crate) fn holds(&self, enclosure: &Enclosure) -> bool {
        self.cgroup.as_deref().is_none_or(|text| enclosure.cgroup_contains(text))
            && self.container.as_deref().is_none_or(|id| enclosure.container_begins_with(id))
    }
}

/// Where events go.
pub struct Output {
    /// How they look.
    pub sink: Box<dyn Sink>,
    /// Where they are written.
    pub out: Box<dyn Write + Send>,
    /// How samples are taken and how they look, where the stream is governed and may come to them.
    pub samples: Option<(SampledOptions, SampledLook)>,
}

/// Where progress is said: on standard error, by the least verbosity at which it is.
fn progress(verbosity: u8) -> impl Fn(u8, &str) {
    move |least, text| {
        if verbosity >= least {
            eprintln!("async-observer: {}", harmless(text));
        }
    }
}

/// A text in which nothing is left that a terminal would obey: names of files come from images that anyone may have made.
fn harmless(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter.is_control() {
            true => shown.extend(letter.escape_default()),
            false => shown.push(letter),
        }
    }
    shown
}

/// One thread that waits for everything; reading memory has others.
fn event_loop() -> Result<tokio::runtime::Runtime, SessionError> {
    let built = tokio::runtime::Builder::new_current_thread().enable_all().build();
    built.map_err(|source| SessionError::System { what: "start the event loop", source })
}

/// CLOCK_MONOTONIC, as all times on output.
pub fn now() -> Ns {
    crate::target::monotonic_now()
}

/// The release as `uname -r` prints it.
fn kernel_release() -> String {
    // Only shown: where it cannot be read, that is shown.
    std::fs::read_to_string("/proc/sys/kernel/osrelease")
        .map_or("unknown".to_owned(), |text| text.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_shown_and_not_said() {
        assert_eq!(
            harmless("\u{1b}]52;c;YQ==\u{7}/\u{e4}.dwo\u{9b}\n"),
            "\\u{1b}]52;c;YQ==\\u{7}/\u{e4}.dwo\\u{9b}\\n"
        );
    }
}
