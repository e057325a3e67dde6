//! Rendering of what memory tells: sites, tasks and findings, as text for a person or JSON Lines for a program.
//!
//! Does not know: how tasks are read or judged.

pub(super) mod json;
pub(super) mod origin;
mod profile;
mod stack;
mod text;

use std::io::{self, Write};
use std::sync::Arc;
use std::time::SystemTime;

use crate::model::{
    Enclosure, LiveTask, Missing, Ns, Origin, Pid, Place, Polled, Standing, TargetEntry, TaskId, TypeEntry, Waiting,
};
use crate::verdict::{Finding, SiteCount, Undecided, WaitCount};

pub use json::SitesJson;
pub use profile::{ProfileSample, write_folded, write_pprof};
pub use text::{Shows, SitesText};

/// One thing to be said, in the order in which a run says them.
#[derive(Clone, Debug)]
pub enum Report<'a> {
    /// First of all.
    Start {
        /// When, on the monotonic clock.
        at: Ns,
        /// The same moment as wall-clock time.
        wall: SystemTime,
        /// The kernel's release.
        kernel: &'a str,
        /// The processes that are looked at.
        targets: Vec<&'a TargetEntry>,
        /// What is not looked at in any of them, and why.
        missing: &'a [Missing],
    },
    /// A process that is not looked at, or not any more.
    Unreadable {
        /// When.
        at: Ns,
        /// The process.
        pid: Pid,
        /// Why, in words.
        reason: &'a str,
    },
    /// The tasks of a process were read.
    Census(CensusReport<'a>),
    /// The tasks of one site.
    Site {
        /// When they were read.
        at: Ns,
        /// The site.
        of: SiteOf<'a>,
        /// How many there are.
        count: SiteCount,
        /// What the idle ones wait for; empty where that was not looked for.
        waits: &'a [WaitCount],
    },
    /// One task.
    Task {
        /// When it was read.
        at: Ns,
        /// Its site.
        of: SiteOf<'a>,
        /// The task.
        task: &'a LiveTask,
        /// Proved stuck.
        stuck: bool,
        /// What it waits for; empty where it is not idle or that was not looked for.
        waits: &'a [Waiting],
    },
    /// Tasks of one site that wait in the same way.
    Stack {
        /// When they were read.
        at: Ns,
        /// Their site.
        of: SiteOf<'a>,
        /// Which they are.
        tasks: &'a [TaskId],
        /// The futures that wait, each before those that it waits for; or why they are not told.
        stack: Result<&'a [AwaitFrame], Unstacked<'a>>,
        /// What the idle ones wait for; empty where that was not looked for.
        waits: &'a [WaitCount],
    },
    /// Sites that were left out by `--top`.
    Left {
        /// When.
        at: Ns,
        /// So many.
        sites: u64,
        /// Their live tasks.
        tasks: u64,
    },
    /// A verdict.
    Finding {
        /// When.
        at: Ns,
        /// The site.
        of: SiteOf<'a>,
        /// The verdict and its evidence.
        finding: &'a Finding,
        /// Whether it is news.
        news: News,
        /// What the site's idle tasks wait for; empty where that was not looked for.
        waits: &'a [WaitCount],
        /// Where those that were born under watch come from, most first; `None` where spawns are not watched.
        origins: Option<&'a [Origin]>,
    },
    /// A site that grows, with too little evidence for a verdict.
    Undecided {
        /// When.
        at: Ns,
        /// The site.
        of: SiteOf<'a>,
        /// What is missing.
        undecided: &'a Undecided,
    },
    /// Last of all.
    End(SitesEnd),
}

/// A site as it is named to people.
#[derive(Clone, Copy, Debug)]
pub struct SiteOf<'a> {
    /// The process.
    pub pid: Pid,
    /// Its executable.
    pub exe: &'a str,
    /// What encloses it.
    pub enclosure: &'a Enclosure,
    /// The future type.
    pub entry: &'a TypeEntry,
    /// Where it was spawned, if the build records it.
    pub spawned_at: Option<&'a Place>,
}

/// One future of an await stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AwaitFrame {
    /// How many futures are around it.
    pub depth: usize,
    /// Its type as a person writes it.
    pub future: String,
    /// Its type as debug information has it.
    pub raw: Arc<str>,
    /// How it stands.
    pub standing: Standing,
    /// Who polls it.
    pub how: Polled,
}

/// Why there is no await stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unstacked<'a> {
    /// In a word.
    pub word: &'static str,
    /// In words, with the next step.
    pub reason: &'a str,
}

/// One census of a process.
#[derive(Clone, Copy, Debug)]
pub struct CensusReport<'a> {
    /// When it was over.
    pub at: Ns,
    /// The process.
    pub pid: Pid,
    /// Its executable.
    pub exe: &'a str,
    /// What encloses it.
    pub enclosure: &'a Enclosure,
    /// Live tasks found, closures included.
    pub live: u64,
    /// How many live futures there were at one moment.
    pub futures: FuturesCount,
    /// `scan`: all memory was searched; `walk`: the runtime's lists were followed.
    pub how: &'static str,
    /// The reason for which no list was followed.
    pub why_scanned: Option<&'static str>,
    /// Closures born since the last scan were looked for, too.
    pub closures: bool,
    /// Bytes of memory read.
    pub bytes: u64,
    /// How long it took.
    pub took: Ns,
    /// Why there may be more tasks than were found, if so.
    pub doubt: Option<&'a str>,
}

/// How many live futures there were, from below and from above. Without churn the two are equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FuturesCount {
    /// The moment, within the census.
    pub at: Ns,
    /// At least so many.
    pub low: u64,
    /// At most so many; `None` where nothing bounds it.
    pub high: Option<u64>,
}

/// Whether a finding was said before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// It is new.
    Arisen,
    /// It was said before and does not hold any more.
    Vanished,
}

/// What is said at the end.
#[derive(Clone, Copy, Debug)]
pub struct SitesEnd {
    /// When.
    pub at: Ns,
    /// Processes looked at.
    pub targets: u64,
    /// Processes named that could not be looked at to the end.
    pub unreadable: u64,
    /// Findings that hold at the end; `None` where nothing was judged.
    pub findings: Option<u64>,
    /// Sites without a finding, and their live tasks.
    pub healthy: (u64, u64),
    /// Spawns under watch; `None` where they are not watched.
    pub spawns: Option<SpawnsWatched>,
    /// From begin to end.
    pub elapsed: Ns,
}

/// What came of watching spawns.
#[derive(Clone, Copy, Debug)]
pub struct SpawnsWatched {
    /// How often the processes hit a probe.
    pub hits: u64,
    /// Spawns seen.
    pub seen: u64,
    /// Spawns whose record found no room.
    pub lost: u64,
    /// Records that could not be understood.
    pub malformed: u64,
    /// Spawns seen and not kept, for want of room.
    pub dropped: u64,
}

/// A rendering of sites.
pub trait SiteSink {
    /// One thing.
    fn say(&mut self, report: &Report<'_>, out: &mut dyn Write) -> io::Result<()>;
}
