//! One small image with one task type, what is known of it, and folders to keep that in.

mod entries;
mod folders;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::model::{
    AttachPoint, BuildId, CellLayout, Cost, FilePlace, IdPlaces, ImageFacts, ImagePlan, Missed, Naming, PanicPlaces,
    Place, PollBody, Resource, Role, TaskFunctions, TaskType, VirtAddr,
};
use crate::symbols::tiny::{CODE, DATA, Tiny};
use crate::symbols::{Glance, Image, Segment};

/// Who this test runs as: whose files it makes.
fn effective_user() -> u32 {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").expect("it is there").uid()
}

const VERSION: &str = "1.2.3+test";

/// An image's file.
fn file() -> Vec<u8> {
    let mut tiny = Tiny::new(&[0x55, 0xc3].repeat(7), &[0; 80]);
    let words: Vec<u64> = (0..7).map(|n| CODE + 2 * n).chain([88, 32, 40]).collect();
    tiny.data = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    tiny.build()
}

fn read_from(file: &[u8]) -> impl Fn(Range<u64>) -> Option<Vec<u8>> {
    |range| Some(file.get(usize::try_from(range.start).ok()?..usize::try_from(range.end).ok()?)?.to_vec())
}

fn key(file: &[u8], named: bool) -> Key {
    let glance = Glance::of(read_from(file)).expect("an image").expect("a regular one");
    Key::by_build(b"\xb1\x1d", file.len() as u64, glance.headers, named)
}

/// What is known of it.
fn facts(file: &[u8]) -> ImageFacts {
    let image = Image::parse(file).expect("tiny images are images");
    let at = |n: u64| VirtAddr(CODE + 2 * n);
    let functions = TaskFunctions {
        poll: at(0),
        schedule: at(1),
        dealloc: at(2),
        try_read_output: at(3),
        drop_join_handle_slow: at(4),
        drop_abort_handle: at(5),
        shutdown: at(6),
    };
    let layout = CellLayout { spawn_location: Some(48), trailer: 88, ..CellLayout::sample() };
    let point = |role, at: VirtAddr| AttachPoint {
        role,
        at,
        offset: image.offset_of(at).expect("it is in the file"),
        bytes: image.slice_at(at, 1).expect("it is in the file").to_vec(),
        cost: Cost::Emulated,
        vtable: (role == Role::Birth).then_some(VirtAddr(DATA)),
        register: (role == Role::Mint).then_some(crate::model::MintRegister(3)),
        far: 0,
        telling: 0,
    };
    let place = Place { file: "src/main.rs".to_owned(), line: 7, column: None, certain: true };
    ImageFacts {
        build_id: BuildId::Gnu(b"\xb1\x1d".to_vec()),
        segments: image.segments().iter().map(Segment::load).collect(),
        stripped: true,
        version: Some("1.54.1".to_owned()),
        unstable: true,
        named: true,
        observer: false,
        types: vec![TaskType {
            vtable: VirtAddr(DATA),
            resource: Resource::Task,
            functions,
            layout,
            future: Naming::Certain("app::serve::{async_fn}".to_owned()),
            place: Some(place),
            worker: false,
        }],
        spawn_sites: 1,
        counters: vec![VirtAddr(DATA + 80)],
        plan: ImagePlan {
            ids: IdPlaces::Several(2),
            points: vec![point(Role::Poll, at(0)), point(Role::Birth, at(1)), point(Role::Mint, at(3))],
            unprobed: vec![],
            types: 1,
            unborn: 0,
            mints: 1,
            panics: PanicPlaces::Elsewhere("libstd-1.so".to_owned()),
        },
        polls: vec![PollBody { code: at(0)..at(1), vtables: vec![VirtAddr(DATA)], align: 128, worker: false }],
        missed: vec![Missed { place: FilePlace { path: "/build/deps/a.dwo".into(), by_process: true }, was: None }],
    }
}

fn analysis(file: &[u8]) -> Analysis {
    Analysis::Runtime(Box::new(facts(file)))
}

/// A folder that is gone when the test ends.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("async-observer-cache-{}-{count}", std::process::id()));
        Self(path)
    }

    fn cache(&self) -> Cache {
        self.with(Limits::default())
    }

    fn with(&self, limits: Limits) -> Cache {
        Cache::open(&self.0, VERSION.to_owned(), effective_user(), limits).expect("the folder can be made")
    }

    /// The files in it, by name.
    fn files(&self) -> Vec<PathBuf> {
        let listed = std::fs::read_dir(&self.0).expect("it is there");
        let mut files: Vec<PathBuf> = listed.map(|file| file.expect("it can be listed").path()).collect();
        files.sort();
        files
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}
