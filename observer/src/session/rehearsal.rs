//! The event arm on records that are in memory already: what it costs, without a kernel.
//!
//! Does not know where the records come from.

use std::collections::HashSet;
use std::time::Duration;

use crate::lifecycle::{Lifecycle, Rules};
use crate::model::{Catalog, Ns, Sight};
use crate::sink::Totals;

use super::Output;
use super::error::SessionError;
use super::outlet::Outlet;
use super::population::{Members, Population};
use super::stream::Stream;
use super::sums::Sums;

/// An event arm that is fed by hand.
pub struct Rehearsal(Stream);

impl Rehearsal {
    /// Of the targets that the catalog has. With `sums` (the interval between two reports) polls are summed up here, each from
    /// its records, as where no program does it.
    pub fn new(catalog: Catalog, output: Output, sums: Option<Duration>) -> Self {
        let rules = Rules { polls: true, births: true, ends: true, others: false, room: true, sight: Sight::All };
        let population = Population::new(catalog, Members::Named(HashSet::new()));
        let sums = sums.map(|every| Sums::new(Ns::of(every), None));
        let Output { sink, out, .. } = output;
        Self(Stream::new(population, Lifecycle::new(rules), (sink, Outlet::direct(out)), true, sums))
    }

    /// Takes one record of this CPU's ring.
    pub fn take(&mut self, cpu: u32, record: &[u8]) {
        self.0.intake.take(cpu, record);
    }

    /// Says what follows from all records up to this moment.
    pub fn release(&mut self, now: Ns) -> Result<(), SessionError> {
        loop {
            self.0.release(now).map_err(SessionError::Output)?;
            if !self.0.is_behind() {
                break;
            }
        }
        self.0.report_sums(now, false).map_err(SessionError::Output)
    }

    /// What was said, and what could not be.
    pub fn totals(&self) -> Totals {
        self.0.totals().0
    }
}
