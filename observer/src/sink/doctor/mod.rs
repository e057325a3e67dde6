//! What a doctor found, as it is shown. The words come in: this knows only how they are laid out.
//!
//! Does not know how anything was tried.

mod costs;
mod json;
mod text;

use std::io::{self, Write};
use std::time::SystemTime;

use crate::model::{Ns, Pid, TargetEntry, VirtAddr};

pub use json::DoctorJson;
pub use text::DoctorText;

/// One thing that is said.
#[derive(Clone, Debug)]
pub enum DoctorReport<'a> {
    /// It begins.
    Start {
        /// When.
        at: Ns,
        /// The same moment as wall-clock time.
        wall: SystemTime,
        /// The kernel's release.
        kernel: &'a str,
        /// What is so, whatever was tried: its word in JSON, its name for people, the value or nothing if that is not known.
        facts: &'a [Fact],
    },
    /// One need.
    Need {
        /// When.
        at: Ns,
        /// The process that it concerns; `None` is the machine.
        pid: Option<Pid>,
        /// The need.
        row: DoctorRow,
    },
    /// What would be observed in a process.
    Target {
        /// When.
        at: Ns,
        /// The process.
        entry: &'a TargetEntry,
        /// Points by role.
        points: &'a [PointsOf],
        /// How many times as much as another a hit on a single-stepped instruction costs.
        factor: u32,
        /// What that costs, in words.
        cost: &'a str,
        /// What a hit costs here, emulated and single-stepped, nanoseconds, if it was measured.
        hit_ns: Option<(f64, f64)>,
        /// Points on instructions that the kernel must single-step.
        slow: &'a [SlowOf],
        /// What each tier would cost.
        expected: &'a [ExpectedOf],
    },
    /// The sum.
    End {
        /// When.
        at: Ns,
        /// How the live stream would attach; `None`: it would not.
        live: Option<&'static str>,
        /// Whose processes `ps` and `sweep` can read.
        reads: &'static str,
        /// The exit code.
        exit: u8,
        /// The same for people, a line each: what it is about, the verdict, and whether that is good.
        summary: &'a [(&'static str, String, bool)],
    },
}

/// Something that is so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// The member's name in JSON.
    pub word: &'static str,
    /// For people.
    pub name: &'static str,
    /// As text; `None` where it is not known.
    pub value: Option<String>,
    /// What it means here, for people.
    pub note: Option<String>,
}

/// A need and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DoctorRow {
    /// Its word.
    pub need: &'static str,
    /// What it is for.
    pub purpose: &'static str,
    /// Observing works without it, if less well.
    pub optional: bool,
    /// What trying showed.
    pub result: DoctorResult,
}

/// What trying showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DoctorResult {
    /// It works.
    Works {
        /// What is worth knowing of it.
        detail: Option<String>,
    },
    /// It works, but.
    Risk {
        /// What can go wrong.
        why: String,
        /// What to do.
        step: String,
    },
    /// It does not.
    Missing {
        /// Why not.
        why: String,
        /// What the kernel said.
        errno: Option<i32>,
        /// What to do.
        step: String,
    },
    /// It was not tried.
    NotTried {
        /// Why not.
        why: String,
    },
}

/// How many points there are of one role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PointsOf {
    /// The role's word.
    pub role: &'static str,
    /// What they stand on.
    pub purpose: &'static str,
    /// How many.
    pub count: usize,
    /// How many of them on instructions that the kernel must single-step.
    pub single_stepped: usize,
}

/// A point on an instruction that the kernel must single-step.
#[derive(Clone, Debug, PartialEq)]
pub struct SlowOf {
    /// The role's word.
    pub role: &'static str,
    /// The image's path.
    pub path: String,
    /// Its link-time address.
    pub at: VirtAddr,
    /// The function around it and how many bytes behind its beginning.
    pub symbol: Option<(String, u64)>,
    /// The instruction, as disassemblers write it.
    pub instruction: String,
    /// It is hit at each poll or spawn, and left out unless that is allowed.
    pub hot: bool,
    /// What a hit costs here, nanoseconds, if it was measured.
    pub ns: Option<f64>,
}

/// What a tier would cost the program.
#[derive(Clone, Debug, PartialEq)]
pub struct ExpectedOf {
    /// Its word.
    pub tier: &'static str,
    /// With hot and slow points.
    pub slow: bool,
    /// Added to a poll, nanoseconds, at the cheapest and at the dearest points; `None`: the tier would see nothing.
    pub poll: Option<(f64, f64)>,
    /// Added to the life of a task besides its polls.
    pub spawn: Option<(f64, f64)>,
}

/// A rendering of what a doctor found.
pub trait DoctorSink {
    /// Says one thing.
    fn say(&mut self, report: &DoctorReport<'_>, out: &mut dyn Write) -> io::Result<()>;
}
