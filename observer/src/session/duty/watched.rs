//! One process in which is looked for a part of the time.
//!
//! Does not know how.

use std::collections::HashMap;
use std::sync::Arc;

use crate::model::{
    AttachPoint, Bias, Catalog, ImageEntry, Ns, Pid, PointIndex, ProcAddr, TargetEntry, TargetId, TypeEntry,
};
use crate::target::Process;

use super::tally::{Shown, Tally};

/// The process, what its images hold, and what was seen so far.
pub(super) struct Watched {
    pub(super) process: Arc<Process>,
    pub(super) target: TargetId,
    pub(super) entry: Arc<TargetEntry>,
    pub(super) interval: Tally,
    pub(super) total: Tally,
    /// The types whose polls a point is at, as this process has them.
    at_points: HashMap<PointIndex, Vec<ProcAddr>>,
}

impl Watched {
    pub(super) fn new(process: Arc<Process>, target: TargetId, entry: Arc<TargetEntry>) -> Self {
        let (interval, total) = (Tally::default(), Tally::default());
        Self { process, target, entry, interval, total, at_points: HashMap::new() }
    }

    pub(super) fn pid(&self) -> Pid {
        self.process.pid()
    }

    /// Takes in what a window of this length showed.
    pub(super) fn add(&mut self, shown: &Shown, length: Ns) {
        self.interval.add(shown, length);
        self.total.add(shown, length);
    }

    /// Where it has this image.
    pub(super) fn bias_of(&self, image: &Arc<ImageEntry>) -> Option<Bias> {
        Some(self.entry.images.iter().find(|mapped| Arc::ptr_eq(&mapped.image, image))?.bias)
    }

    /// The types whose polls this point is at: several, where they share their code.
    pub(super) fn types_at(&mut self, point: PointIndex, catalog: &Catalog) -> Vec<ProcAddr> {
        if let Some(known) = self.at_points.get(&point) {
            return known.clone();
        }
        let found = catalog.point(point).and_then(|(image, point)| Some((self.bias_of(image)?, image, point)));
        let vtables = found.map_or_else(Vec::new, |(bias, image, point)| vtables(image, point, bias));
        self.at_points.insert(point, vtables.clone());
        vtables
    }

    /// The types as they are named; those that the images do not hold are left out.
    pub(super) fn named(&self, vtables: &[ProcAddr]) -> Vec<&TypeEntry> {
        vtables.iter().filter_map(|vtable| self.entry.type_at(*vtable)).collect()
    }
}

fn vtables(image: &ImageEntry, point: &AttachPoint, bias: Bias) -> Vec<ProcAddr> {
    let here = image.types.iter().filter(|(_, entry)| entry.task.functions.poll == point.at);
    let mut vtables: Vec<ProcAddr> = here.map(|(vtable, _)| bias.to_process(*vtable)).collect();
    vtables.sort_unstable();
    vtables
}
