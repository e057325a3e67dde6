//! What is said of a site and by which evidence.

use crate::model::{Ns, Site, TaskId};

/// How a site's tasks are ill.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verdict {
    /// Proved: nothing can poll them again.
    Stuck,
    /// Growing: they are born and do not end.
    Leaking,
    /// A hint: many, old, idle.
    Suspect,
}

impl Verdict {
    /// All, gravest first.
    pub const ALL: [Self; 3] = [Self::Stuck, Self::Leaking, Self::Suspect];

    /// The word used on output and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stuck => "stuck",
            Self::Leaking => "leaking",
            Self::Suspect => "suspect",
        }
    }
}

/// One verdict on one site of one process.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// The site.
    pub site: Site,
    /// Its live tasks at the latest reading.
    pub live: u64,
    /// How many of them the verdict is about.
    pub tasks: u64,
    /// The lowest and the highest id of those.
    pub ids: (TaskId, TaskId),
    /// For how long the one of them that is known longest has been seen. They may be older.
    pub seen_for: Ns,
    /// Why.
    pub evidence: Evidence,
}

/// What a verdict rests on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Evidence {
    /// No waker exists.
    Stuck {
        /// Of them, those with a join handle: two references and not one.
        with_handle: u64,
        /// Between the two latest readings, at which nothing differed.
        apart: Ns,
    },
    /// They grow in number.
    Leaking {
        /// All that is born there, or a part.
        grows: Grows,
        /// The line through the counts, by least squares, tasks a second.
        slope: f64,
        /// How well the line fits: r squared, 1 is perfectly.
        fit: f64,
        /// Seen born since the first of the readings.
        born: u64,
        /// Of all those ever seen, how many ended meanwhile.
        ended: u64,
        /// Readings.
        readings: u32,
        /// From the first of them to the last.
        during: Ns,
    },
    /// They wait for locks or for the ends of tasks, and all who must act wait in the same way, or are stuck.
    Ring {
        /// Readings at which nothing differed.
        readings: u32,
    },
    /// They do nothing.
    Suspect {
        /// Spawned after the youngest of them, at least: the difference of ids.
        newer: u64,
        /// Readings at which nothing differed.
        readings: u32,
    },
}

/// What grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grows {
    /// Everything that is born at the site stays.
    All,
    /// The site is busy, and a part of what is born there stays: the counts are of those that outlived a whole step.
    Part,
}

impl Evidence {
    /// The verdict that rests on it.
    pub fn verdict(&self) -> Verdict {
        match self {
            Self::Stuck { .. } => Verdict::Stuck,
            Self::Leaking { .. } => Verdict::Leaking,
            Self::Ring { .. } | Self::Suspect { .. } => Verdict::Suspect,
        }
    }
}

/// A site that grows and is not judged.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Undecided {
    /// The site.
    pub site: Site,
    /// Its live tasks at the latest reading.
    pub live: u64,
    /// Why.
    pub why: Why,
}

/// Why there is not enough evidence yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Growth needs more readings.
    Readings {
        /// So many there are.
        had: u32,
        /// So many are needed.
        needed: u32,
    },
    /// Too few were born.
    Births {
        /// So many were.
        had: u64,
        /// So many are needed.
        needed: u64,
    },
    /// The process may still be starting up.
    Young {
        /// Its age at the first reading.
        age: Ns,
        /// The age from which on it is judged.
        warm_up: Ns,
    },
    /// Some memory could not be read: what is not seen any more may still be there.
    Incomplete,
}

/// What is said of one process.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Judgement {
    /// Verdicts, gravest first, then those on most tasks.
    pub findings: Vec<Finding>,
    /// Sites that grow, with too little evidence.
    pub undecided: Vec<Undecided>,
    /// Sites of which nothing is said.
    pub healthy_sites: u64,
    /// Their live tasks.
    pub healthy_tasks: u64,
}
