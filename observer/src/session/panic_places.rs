//! Where panics say that they were: the constants that their arguments point to, read from the processes. Of one that has ended since, as
//! after a panic many do, from the file that it ran.
//!
//! Does not know: tasks. What cannot be read any more is not known.

use std::collections::HashMap;
use std::hash::Hash;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use crate::census::location;
use crate::model::{MappedImage, Place, PointIndex, ProcAddr, TargetEntry, TargetId, VirtAddr};
use crate::symbols::{Image, Location};
use crate::target::{Process, open_regular};

/// Places that are kept; beyond that all are read anew.
const MOST: usize = 4096;

/// A larger file is not read: nobody waits for it.
const LARGEST: u64 = 256 << 20;

/// The places read so far: for when the process is gone. While it lives it is asked each time, as it may load something else there.
#[derive(Default)]
pub(super) struct PanicPlaces {
    read: HashMap<(TargetId, ProcAddr), Arc<Place>>,
    /// From files, by the first of their image's points, as programs that end by a panic begin anew; `None` where a file has none.
    in_files: HashMap<(PointIndex, VirtAddr), Option<Arc<Place>>>,
}

impl PanicPlaces {
    /// The place that one of these addresses is of, the first that can be.
    pub(super) fn read(
        &mut self,
        target: TargetId,
        entry: &TargetEntry,
        addresses: [ProcAddr; 2],
    ) -> Option<Arc<Place>> {
        let found = Process::open(entry.pid).ok().filter(|process| !process.has_ended()).and_then(|process| {
            let memory = process.memory();
            addresses.iter().find_map(|at| Some((*at, location(&memory, *at).filter(is_source)?)))
        });
        let Some((at, place)) = found else {
            let known = addresses.iter().find_map(|at| self.read.get(&(target, *at)));
            return known.cloned().or_else(|| self.read_in_files(entry, addresses));
        };
        let place = Arc::new(place);
        keep(&mut self.read, (target, at), Arc::clone(&place));
        Some(place)
    }

    fn read_in_files(&mut self, entry: &TargetEntry, addresses: [ProcAddr; 2]) -> Option<Arc<Place>> {
        entry.images.iter().find_map(|mapped| {
            let keys = addresses.map(|at| (mapped.image.first_point, mapped.bias.to_virtual(at)));
            let known = keys.map(|key| self.in_files.get(&key).cloned());
            if let Some(place) = known.iter().flatten().flatten().next() {
                return Some(Arc::clone(place));
            }
            if known.iter().all(Option::is_some) {
                return None;
            }
            let found = read_in_file(mapped, keys.map(|(_, at)| at)).map(|place| place.map(Arc::new));
            for (key, place) in keys.into_iter().zip(&found) {
                keep(&mut self.in_files, key, place.clone());
            }
            found.into_iter().flatten().next()
        })
    }

    /// The target has ended: what comes to lie at its addresses is another's.
    pub(super) fn target_ended(&mut self, target: TargetId) {
        self.read.retain(|(of, _), _| *of != target);
    }
}

/// Keeps a place; of what is too much nothing.
fn keep<K: Eq + Hash, V>(places: &mut HashMap<K, V>, key: K, place: V) {
    if places.len() >= MOST {
        places.clear();
    }
    places.insert(key, place);
}

/// The places at these addresses, in the image's file if that is still it.
fn read_in_file(mapped: &MappedImage, addresses: [VirtAddr; 2]) -> [Option<Place>; 2] {
    let Some(bytes) = content(Path::new(&mapped.path)) else { return [None, None] };
    let image = Image::parse(&bytes).ok().filter(|image| *image.build_id() == mapped.image.build_id);
    addresses.map(|at| {
        let Location { file, line, column } = Location::read(image.as_ref()?, at)?;
        Some(Place { file: file.to_owned(), line, column: Some(column), certain: true })
    })
}

/// What a file holds, if somebody waits for it.
fn content(path: &Path) -> Option<Vec<u8>> {
    let file = open_regular(path, None).ok()?;
    if file.metadata().ok()?.len() > LARGEST {
        return None;
    }
    let mut bytes = Vec::new();
    file.take(LARGEST).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// Whether it names a file of Rust's: what an argument of another compiler's version points to does not.
fn is_source(place: &Place) -> bool {
    place.file.ends_with(".rs")
}

#[cfg(test)]
mod tests {
    use std::panic::Location;

    use super::*;
    use crate::model::{BuildId, ImageEntry, LoadSegment, Pid};
    use crate::symbols::Segment;

    #[test]
    fn the_first_argument_that_points_to_a_place_tells_it_and_is_kept_until_the_target_ends() {
        let here: &'static Location<'static> = Location::caller();
        let at = ProcAddr(std::ptr::from_ref(here) as u64);
        let other = ProcAddr([0xffu8; 32].as_ptr() as u64);
        let (us, nobody) = (entry(std::process::id(), Vec::new()), entry(0, Vec::new()));
        let target = TargetId(1);
        let mut places = PanicPlaces::default();
        for addresses in [[at, other], [other, at], [ProcAddr(0), at]] {
            let place = places.read(target, &us, addresses).expect("it is there");
            assert_eq!((place.file.as_str(), place.line, place.column), (file!(), here.line(), Some(here.column())));
        }
        assert_eq!(places.read(target, &us, [other, ProcAddr(8)]), None);
        assert!(places.read(target, &nobody, [at, other]).is_some(), "of one that is gone");
        places.target_ended(target);
        assert_eq!(places.read(target, &nobody, [at, other]), None);
    }

    #[test]
    fn of_a_process_that_has_ended_the_place_is_read_from_its_program_if_that_is_still_the_same() {
        let here: &'static Location<'static> = Location::caller();
        let path = std::env::current_exe().expect("a file").display().to_string();
        let bytes = std::fs::read(&path).expect("readable");
        let image = Image::parse(&bytes).expect("an image");
        let us = Process::open(Pid(std::process::id())).expect("it runs");
        let modules = us.modules().expect("it maps itself");
        let segments: Vec<LoadSegment> = image.segments().iter().map(Segment::load).collect();
        let bias =
            modules.iter().find(|module| module.is_exe).and_then(|exe| exe.bias(&segments)).expect("it is loaded");
        let at = ProcAddr(std::ptr::from_ref(here) as u64);
        let dead = |build_id: BuildId| {
            let image = Arc::new(ImageEntry { build_id, ..ImageEntry::sample(Vec::new()) });
            entry(0, vec![MappedImage { image, path: path.clone(), bias }])
        };
        let read = |of: &TargetEntry| PanicPlaces::default().read(TargetId(1), of, [ProcAddr(8), at]);
        let place = read(&dead(image.build_id().clone())).expect("the file has it");
        assert_eq!((place.file.as_str(), place.line, place.column), (file!(), here.line(), Some(here.column())));
        assert_eq!(read(&dead(BuildId::Content(1))), None, "another build's");
    }

    fn entry(pid: u32, images: Vec<MappedImage>) -> TargetEntry {
        TargetEntry { images, ..TargetEntry::new(Pid(pid), String::new()) }
    }
}
