//! What the setup arm hands to the event arm: everything needed to understand records, as plain values.
//!
//! It grows and shrinks while a session follows processes that come and go; what one image holds is there once, however
//! many processes map it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::hash::QuickMap;
use super::{
    AttachPoint, Bias, BuildId, Enclosure, PanicSight, Pid, PointIndex, PointMap, ProcAddr, RecordKind, TargetId,
    TaskType, TypeId, VirtAddr,
};

/// Points, types and targets of one session.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    targets: BTreeMap<TargetId, Arc<TargetEntry>>,
    by_process: QuickMap<Pid, TargetId>,
    /// Targets that a link of their own reports, by the number in its cookies.
    slots: Vec<TargetId>,
    /// By the number of the first of their points.
    images: BTreeMap<u32, Arc<ImageEntry>>,
    minted_targets: u32,
    next_point: u32,
}

/// One observed process, from when it began to run its program.
#[derive(Clone, Debug)]
pub struct TargetEntry {
    /// The process.
    pub pid: Pid,
    /// Its executable, as `/proc` names it.
    pub exe: String,
    /// What encloses it: its namespaces, its container.
    pub enclosure: Enclosure,
    /// Images with a supported runtime.
    pub images: Vec<MappedImage>,
    /// What will not be seen, and why.
    pub missing: Vec<Missing>,
}

/// An image as one process has it.
#[derive(Clone, Debug)]
pub struct MappedImage {
    /// What it holds.
    pub image: Arc<ImageEntry>,
    /// Path as mapped.
    pub path: String,
    /// Where it is loaded.
    pub bias: Bias,
}

/// One image that carries a supported runtime, whoever maps it.
#[derive(Clone, Debug)]
pub struct ImageEntry {
    /// Its identity.
    pub build_id: BuildId,
    /// The runtime's version, `None` where no evidence was found.
    pub version: Option<String>,
    /// Built with `--cfg tokio_unstable`.
    pub unstable: bool,
    /// No symbol table.
    pub stripped: bool,
    /// Its future types by their vtables.
    pub types: QuickMap<VirtAddr, TypeEntry>,
    /// Spawn sites found.
    pub spawn_sites: usize,
    /// The runtime's static counters that numbers are taken from one by one: task ids, ids of task lists, others.
    pub counters: Vec<VirtAddr>,
    /// How panics of its code show.
    pub panics: PanicSight,
    /// The session's number of the first of its points; the others follow.
    pub first_point: PointIndex,
    /// The points that are attached.
    pub points: Vec<AttachPoint>,
    /// The same by address, for records that say addresses only. Entered by [`Catalog::add_image`].
    pub places: PointMap,
}

/// One future type of one image.
#[derive(Clone, Debug)]
pub struct TypeEntry {
    /// Identity across processes.
    pub id: TypeId,
    /// What the image tells of it.
    pub task: TaskType,
    /// Its births are seen: probes stand where its tasks are spawned.
    pub births: bool,
}

/// An event that will be absent or incomplete, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// The event's word (`init`, `before`, ...), or `trigger`, `outcome`.
    pub event: &'static str,
    /// In words, with the next step where there is one.
    pub reason: String,
}

impl TargetEntry {
    /// A process of which nothing is known yet.
    pub fn new(pid: Pid, exe: String) -> Self {
        Self { pid, exe, enclosure: Enclosure::default(), images: Vec::new(), missing: Vec::new() }
    }

    /// The type whose vtable is at this address, and the image that holds it.
    pub fn holder_of(&self, vtable: ProcAddr) -> Option<(&MappedImage, &TypeEntry)> {
        // Images do not overlap: an address of one is none of another's vtables.
        self.images.iter().find_map(|mapped| Some((mapped, mapped.image.types.get(&mapped.bias.to_virtual(vtable))?)))
    }

    /// Whether probes stand in any of its images.
    pub fn is_probed(&self) -> bool {
        self.images.iter().any(|mapped| !mapped.image.points.is_empty())
    }

    /// The type whose vtable is at this address.
    pub fn type_at(&self, vtable: ProcAddr) -> Option<&TypeEntry> {
        Some(self.holder_of(vtable)?.1)
    }

    /// The point at this address whose records are of this kind.
    pub fn point_at(&self, at: ProcAddr, kind: RecordKind) -> Option<PointIndex> {
        self.images.iter().find_map(|mapped| mapped.image.places.find(mapped.bias.to_virtual(at), kind))
    }

    /// All types, by their vtables in this process.
    pub fn types(&self) -> impl Iterator<Item = (ProcAddr, &TypeEntry)> {
        self.images.iter().flat_map(|mapped| {
            mapped.image.types.iter().map(|(vtable, entry)| (mapped.bias.to_process(*vtable), entry))
        })
    }

    /// The runtimes' static counters in this process.
    pub fn counters(&self) -> Vec<ProcAddr> {
        let of = |mapped: &MappedImage| {
            let bias = mapped.bias;
            mapped.image.counters.iter().map(move |counter| bias.to_process(*counter)).collect::<Vec<_>>()
        };
        self.images.iter().flat_map(of).collect()
    }
}

impl ImageEntry {
    /// Points of those on instructions that the kernel must single-step.
    pub fn single_stepped(&self) -> usize {
        self.points.iter().filter(|point| point.cost == super::Cost::SingleStepped).count()
    }
}

impl Catalog {
    /// Takes a target in. Whatever had its process number before is not found by it any more.
    pub fn begin(&mut self, entry: TargetEntry) -> TargetId {
        let id = TargetId(self.minted_targets);
        self.minted_targets += 1;
        self.by_process.insert(entry.pid, id);
        self.targets.insert(id, Arc::new(entry));
        id
    }

    /// Changes what is known of a target; `None` if it is not there.
    pub fn change(&mut self, id: TargetId, change: impl FnOnce(&mut TargetEntry)) -> Option<&Arc<TargetEntry>> {
        let entry = self.targets.get_mut(&id)?;
        change(Arc::make_mut(entry));
        Some(entry)
    }

    /// Forgets a target.
    pub fn end(&mut self, id: TargetId) -> Option<Arc<TargetEntry>> {
        let entry = self.targets.remove(&id)?;
        if self.by_process.get(&entry.pid) == Some(&id) {
            self.by_process.remove(&entry.pid);
        }
        Some(entry)
    }

    /// The target with this number.
    pub fn target(&self, id: TargetId) -> Option<&Arc<TargetEntry>> {
        self.targets.get(&id)
    }

    /// The target that is this process now.
    pub fn of_process(&self, pid: Pid) -> Option<TargetId> {
        self.by_process.get(&pid).copied()
    }

    /// Whoever the kernel reports with this slot in the cookie is this target from now on. Slots are given out from 0 on.
    pub fn put_in_slot(&mut self, slot: u16, id: TargetId) {
        match self.slots.get_mut(usize::from(slot)) {
            Some(there) => *there = id,
            None => self.slots.push(id),
        }
    }

    /// The target that is reported with this slot in the cookie.
    pub fn in_slot(&self, slot: u16) -> Option<TargetId> {
        self.slots.get(usize::from(slot)).copied()
    }

    /// All targets, by number.
    pub fn targets(&self) -> impl ExactSizeIterator<Item = (TargetId, &Arc<TargetEntry>)> {
        self.targets.iter().map(|(id, entry)| (*id, entry))
    }

    /// Takes in an image with its points, and numbers them.
    pub fn add_image(&mut self, mut image: ImageEntry) -> Arc<ImageEntry> {
        let first = self.next_point;
        image.first_point = PointIndex(first);
        image.places = PointMap::of((first..).map(PointIndex).zip(&image.points));
        // An image without points takes a number, too: it is known by it.
        self.next_point = first.saturating_add(image.points.len().max(1) as u32);
        let image = Arc::new(image);
        self.images.insert(first, Arc::clone(&image));
        image
    }

    /// Forgets an image and its points.
    pub fn remove_image(&mut self, image: &ImageEntry) {
        self.images.remove(&image.first_point.0);
    }

    /// The images whose points are known.
    pub fn images(&self) -> impl ExactSizeIterator<Item = &Arc<ImageEntry>> {
        self.images.values()
    }

    /// The point with this number, and its image.
    pub fn point(&self, index: PointIndex) -> Option<(&Arc<ImageEntry>, &AttachPoint)> {
        let (first, image) = self.images.range(..=index.0).next_back()?;
        Some((image, image.points.get((index.0 - first) as usize)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(points: usize) -> ImageEntry {
        let point = AttachPoint::sample(super::super::Role::Poll);
        ImageEntry { points: vec![point; points], ..ImageEntry::sample(Vec::new()) }
    }

    #[test]
    fn a_point_is_found_by_its_number_until_its_image_is_forgotten() {
        let mut catalog = Catalog::default();
        let [first, none, last] = [3, 0, 2].map(|points| catalog.add_image(image(points)));
        assert_eq!(
            (first.first_point, none.first_point, last.first_point),
            (PointIndex(0), PointIndex(3), PointIndex(4))
        );
        let holder = |catalog: &Catalog, n: u32| catalog.point(PointIndex(n)).map(|(image, _)| image.first_point.0);
        assert_eq!([0, 2, 3, 4, 5, 6].map(|n| holder(&catalog, n)), [Some(0), Some(0), None, Some(4), Some(4), None]);
        catalog.remove_image(&first);
        assert_eq!([0, 2, 4].map(|n| holder(&catalog, n)), [None, None, Some(4)]);
    }

    #[test]
    fn a_process_number_that_is_used_again_leads_to_the_new_target() {
        let mut catalog = Catalog::default();
        let [old, new] = ["old", "new"].map(|exe| catalog.begin(TargetEntry::new(Pid(7), exe.into())));
        assert_eq!(catalog.of_process(Pid(7)), Some(new));
        catalog.end(old);
        assert_eq!(catalog.of_process(Pid(7)), Some(new), "the end of the old one is not the new one's");
        catalog.end(new);
        assert_eq!(catalog.of_process(Pid(7)), None);
    }
}
