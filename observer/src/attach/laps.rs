//! How long the kernel side's programs took, of a few hits, and parts of them: what an entry does, the writing of a record.
//!
//! Does not know where those hits were, nor what a hit costs besides.

use observer_common::Counter;

use super::AttachError;
use super::object::Object;

/// Fewer parts than these tell nothing: one that was not in the caches takes many times as long.
const FEWEST: u64 = 32;

/// How many were timed, and what they took together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Laps {
    programs: u64,
    /// Nanoseconds.
    programs_took: u64,
    entries: u64,
    /// Nanoseconds.
    entries_took: u64,
    records: u64,
    /// Nanoseconds.
    records_took: u64,
}

impl Laps {
    /// All since the programs were loaded.
    pub(super) fn read(object: &Object) -> Result<Self, AttachError> {
        Ok(Self {
            programs: object.counter(Counter::Timed)?,
            programs_took: object.counter(Counter::Took)?,
            entries: object.counter(Counter::EntriesTimed)?,
            entries_took: object.counter(Counter::EntriesTook)?,
            records: object.counter(Counter::RecordsTimed)?,
            records_took: object.counter(Counter::RecordsTook)?,
        })
    }

    /// Those that were not yet at this earlier reading.
    pub fn since(&self, earlier: &Self) -> Self {
        self.with(earlier, u64::saturating_sub)
    }

    /// These and those.
    pub fn and(&self, more: &Self) -> Self {
        self.with(more, |one, other| one + other)
    }

    /// Each figure made of both.
    fn with(&self, other: &Self, both: fn(u64, u64) -> u64) -> Self {
        Self {
            programs: both(self.programs, other.programs),
            programs_took: both(self.programs_took, other.programs_took),
            entries: both(self.entries, other.entries),
            entries_took: both(self.entries_took, other.entries_took),
            records: both(self.records, other.records),
            records_took: both(self.records_took, other.records_took),
        }
    }

    /// What a program took, nanoseconds, whatever it did; `None` where too few were timed.
    pub fn program(&self) -> Option<f64> {
        (self.programs >= FEWEST).then(|| self.programs_took as f64 / self.programs as f64)
    }

    /// How many times as long the parts took as the same parts did there; `None` where too few were timed here, or none there.
    pub fn in_proportion_to(&self, there: &Self) -> Option<f64> {
        let mean = |took: u64, timed: u64| (timed > 0).then(|| took as f64 / timed as f64);
        let expected = |timed: u64, each: Option<f64>| if timed == 0 { Some(0.0) } else { Some(timed as f64 * each?) };
        let entries = expected(self.entries, mean(there.entries_took, there.entries))?;
        let records = expected(self.records, mean(there.records_took, there.records))?;
        let is_enough = self.entries + self.records >= FEWEST && entries + records > 0.0;
        is_enough.then(|| (self.entries_took + self.records_took) as f64 / (entries + records))
    }

    /// So many parts of entries that take so long each, and of records; no program was timed to its end.
    #[cfg(test)]
    pub(crate) fn sample(entries: (u64, u64), records: (u64, u64)) -> Self {
        let ((entries, entry), (records, record)) = (entries, records);
        Self { entries, entries_took: entries * entry, records, records_took: records * record, ..Self::default() }
    }

    /// How many programs were timed to their end, entries' parts, and records.
    #[cfg(test)]
    pub(crate) fn timed(&self) -> [u64; 3] {
        [self.programs, self.entries, self.records]
    }

    /// And so many programs that each take so long.
    #[cfg(test)]
    pub(crate) fn with_programs(self, programs: u64, program: u64) -> Self {
        Self { programs, programs_took: programs * program, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_held_against_the_same_parts_however_many_there_are_of_each() {
        let home = Laps::sample((100, 50), (100, 200));
        let twice_as_slow = Laps::sample((40, 100), (4000, 400));
        assert_eq!(twice_as_slow.in_proportion_to(&home), Some(2.0));
        let records_only = Laps::sample((0, 0), (64, 300));
        assert_eq!(records_only.in_proportion_to(&home), Some(1.5));
    }

    #[test]
    fn too_few_parts_and_parts_that_were_not_timed_at_home_tell_nothing() {
        let home = Laps::sample((100, 50), (0, 0));
        assert_eq!(Laps::sample((FEWEST - 1, 90), (0, 0)).in_proportion_to(&home), None);
        assert_eq!(Laps::sample((FEWEST, 100), (0, 0)).in_proportion_to(&home), Some(2.0));
        assert_eq!(Laps::sample((FEWEST, 100), (1, 100)).in_proportion_to(&home), None);
        assert_eq!(Laps::default().in_proportion_to(&Laps::default()), None);
    }

    #[test]
    fn what_a_program_takes_is_told_of_enough() {
        assert_eq!(Laps::default().with_programs(FEWEST, 300).program(), Some(300.0));
        assert_eq!(Laps::default().with_programs(FEWEST - 1, 300).program(), None);
    }

    #[test]
    fn what_is_new_is_what_came_since() {
        let (earlier, now) = (Laps::sample((10, 50), (5, 200)), Laps::sample((30, 50), (6, 200)));
        let (earlier, now) = (earlier.with_programs(1, 9), now.with_programs(4, 9));
        assert_eq!(now.since(&earlier), Laps::sample((20, 50), (1, 200)).with_programs(3, 9));
    }
}
