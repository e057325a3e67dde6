//! Rendering: events to text for a person or JSON Lines for a program. The only place that knows how things look.
//!
//! Does not know where events come from, nor where the bytes go: the writer is an argument.

mod chains;
mod doctor;
mod image_lines;
mod json;
mod label;
mod lineage;
mod manner;
mod phrase;
mod sampled;
mod sites;
mod stack_end;
mod text;
mod totals;

use std::io::{self, Write};

use crate::lifecycle::Watched;
use crate::model::{AsyncId, Event, LongStack, LongStackId, Missing, Ns, Pid, PollSum, TargetEntry};

pub use doctor::{
    DoctorJson, DoctorReport, DoctorResult, DoctorRow, DoctorSink, DoctorText, ExpectedOf, Fact, PointsOf, SlowOf,
};
pub use json::Json;
pub use label::future_label;
pub use lineage::{Lineage, Lineages};
pub use manner::{Manner, Spelling};
pub use sampled::{
    Blocking, Busy, How, Interval, SampledEnd, SampledJson, SampledReport, SampledSink, SampledStart, SampledText,
    SampledTotals,
};
pub use sites::{
    AwaitFrame, CensusReport, FuturesCount, News, ProfileSample, Report, Shows, SiteOf, SiteSink, SitesEnd, SitesJson,
    SitesText, SpawnsWatched, Unstacked, write_folded, write_pprof,
};
pub use stack_end::StackEnd;
pub use text::Text;
pub use totals::Totals;

/// What is said before the first event.
#[derive(Clone, Debug)]
pub struct Start<'a> {
    /// When, on the probes' clock.
    pub at: Ns,
    /// The same moment as wall-clock time.
    pub wall: std::time::SystemTime,
    /// The kernel's release.
    pub kernel: String,
    /// How the probes are attached, in the words of the attach floor.
    pub mechanism: &'static str,
    /// For how long records are held back to be put in order, nanoseconds.
    pub window: Ns,
    /// The targets.
    pub targets: Vec<&'a TargetEntry>,
    /// What will be missing in all targets.
    pub missing: &'a [Missing],
    /// How long attaching took, nanoseconds.
    pub attach: Ns,
    /// What is followed after the start, in a word: `nothing`, `named` (programs and libraries that these processes begin
    /// and load), `everyone`.
    pub following: &'static str,
}

/// A target that is observed no longer.
#[derive(Clone, Copy, Debug)]
pub struct Gone {
    /// When, on the probes' clock.
    pub at: Ns,
    /// Its process.
    pub pid: Pid,
    /// Why, in a word: `exit`, `exec`, `released`.
    pub why: &'static str,
    /// How many of its resources were alive: they ended with it, and nobody saw them freed.
    pub live: u64,
    /// How many of those may have ended before, see [`crate::lifecycle::Left::unsure`].
    pub unsure: u64,
    /// What was watched of it.
    pub watched: Watched,
}

/// Polls of one task, summed up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Polled {
    /// Its process.
    pub pid: Pid,
    /// The task.
    pub id: AsyncId,
    /// The outermost of the tasks that led to it, as its events have it.
    pub root: Option<AsyncId>,
    /// What is new since the last report; the longest is that of all its life as far as it was seen.
    pub sum: PollSum,
    /// For how long it has been inside of a poll that goes on, which is part of no sum; `None` where none was seen to go on.
    pub polling_for: Option<Ns>,
}

/// What observing has cost in some time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Overhead {
    /// How long that was.
    pub during: Ns,
    /// Hits of probes.
    pub hits: u64,
    /// Records that were read.
    pub records: u64,
    /// Samples that were taken of the targets.
    pub samples: u64,
    /// Records that found no room; where there are samples alone, samples.
    pub lost: u64,
    /// Hits of processes that are not observed, but run into the same probes.
    pub foreign: u64,
    /// What an empty hit costs here, nanoseconds; `None` where it was not measured.
    pub hit_ns: Option<f64>,
    /// CPU time of the targets that hits took, by that, and samples.
    pub added: Option<Ns>,
    /// CPU time of this program.
    pub own_cpu: Ns,
    /// Its resident memory now, bytes, where it can be told.
    pub own_memory: Option<u64>,
}

/// How much is told changes, because of what observing costs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stepped {
    /// When, on the probes' clock: from here on.
    pub at: Ns,
    /// The tier that held, in a word.
    pub from: &'static str,
    /// The one that holds now: `paused` is without any probe.
    pub to: &'static str,
    /// Why, in a word: `over` (more was added than is allowed), `recovered`.
    pub why: &'static str,
    /// The time that the rest is of, nanoseconds up to this moment.
    pub during: Ns,
    /// CPU time that was added to the targets in it.
    pub added: Ns,
    /// CPU time of the targets in it, with that.
    pub cpu: Ns,
    /// The part of what they use themselves that may be added.
    pub cap: f64,
}

/// News of processes found no room, or could not be understood: that one began, ran another program, loaded a library or ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LostNews {
    /// When that was noticed, on the probes' clock.
    pub at: Ns,
    /// How many; `None` where nobody counted them: those of a CPU that came online and was not listened to yet.
    pub count: Option<u64>,
    /// All processes are looked at again, so only who began and ended meanwhile was missed. Else also what those that are
    /// observed loaded or began.
    pub looks_again: bool,
}

/// A resource's birth has brought its stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spawned {
    /// When it was born, on the probes' clock.
    pub at: Ns,
    /// Its process.
    pub pid: Option<Pid>,
    /// Which.
    pub id: AsyncId,
    /// The number of what it was spawned through.
    pub stack: LongStackId,
}

/// Stacks of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StackCounts {
    /// Different ones.
    pub different: u64,
    /// Births that were seen, without a stack.
    pub without: u64,
    /// Spawns whose record found no room.
    pub lost: u64,
    /// Spawns whose record could not be understood.
    pub malformed: u64,
}

/// How long a tier has held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TierTime {
    /// The tier, in a word.
    pub tier: &'static str,
    /// For so long, nanoseconds, all times together.
    pub held: Ns,
}

/// Why a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// `--duration` is over.
    Duration,
    /// SIGINT or SIGTERM.
    Signal,
    /// All targets ended.
    Exited,
}

impl EndReason {
    /// The word used on output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Duration => "duration",
            Self::Signal => "signal",
            Self::Exited => "exited",
        }
    }
}

/// What is said after the last event.
#[derive(Clone, Debug)]
pub struct End {
    /// When, on the probes' clock.
    pub at: Ns,
    /// Why.
    pub reason: EndReason,
    /// What was said and what could not be.
    pub totals: Totals,
    /// How long taking the probes out took, nanoseconds.
    pub detach: Ns,
    /// What all of it has cost.
    pub overhead: Overhead,
    /// How long each tier has held, where that could change; else empty.
    pub tiers: Vec<TierTime>,
    /// How many stacks there were, where they were asked for.
    pub stacks: Option<StackCounts>,
}

/// A rendering of one stream.
pub trait Sink {
    /// The stream begins.
    fn start(&mut self, start: &Start<'_>, out: &mut dyn Write) -> io::Result<()>;
    /// A process is observed from now on, or has gained an image; why, in a word.
    fn target(&mut self, at: Ns, target: &TargetEntry, why: &'static str, out: &mut dyn Write) -> io::Result<()>;
    /// A process is observed no longer.
    fn gone(&mut self, gone: &Gone, out: &mut dyn Write) -> io::Result<()>;
    /// A budget is met: what is done without from now on, in a word, and why.
    fn degraded(&mut self, at: Ns, what: &'static str, reason: &str, out: &mut dyn Write) -> io::Result<()>;
    /// News of processes were lost.
    fn lost_news(&mut self, lost: &LostNews, out: &mut dyn Write) -> io::Result<()>;
    /// How much is told changes.
    fn stepped(&mut self, stepped: &Stepped, out: &mut dyn Write) -> io::Result<()>;
    /// Tasks that were polled since the last such report, by their ids.
    fn polled(&mut self, at: Ns, reports: &[Polled], out: &mut dyn Write) -> io::Result<()>;
    /// What observing has cost since the last such report.
    fn overhead(&mut self, at: Ns, overhead: &Overhead, out: &mut dyn Write) -> io::Result<()>;
    /// One event.
    fn event(&mut self, event: &Event, out: &mut dyn Write) -> io::Result<()>;
    /// Right behind a birth: what it was spawned through.
    fn spawned(&mut self, spawned: &Spawned, out: &mut dyn Write) -> io::Result<()>;
    /// What a number stands for: once, as soon as its names have been read, behind that of its spawner.
    fn stack(&mut self, at: Ns, stack: &LongStack, out: &mut dyn Write) -> io::Result<()>;
    /// The stream ends.
    fn end(&mut self, end: &End, out: &mut dyn Write) -> io::Result<()>;
}
