//! Records as the programs write them of two threads of one process, each on a CPU of its own, at half a million polls a
//! second: words and order are those of real ones of tests/fixtures/bench-load.

use std::ops::Range;

use observer::model::{
    AttachPoint, Bias, BuildId, Catalog, CellLayout, Cost, FileOffset, ImageEntry, MappedImage, Naming, Ns, PanicSight,
    Pid, Place, PointIndex, PointMap, Resource, Role, TargetEntry, TaskFunctions, TaskType, TypeEntry, TypeId,
    VirtAddr,
};
use observer_common::{CALL_FULL, CALL_WITH_HEAD, Cookie, RECORD_BARE, RecordKind};

const PID: u64 = 4321;
const BIAS: u64 = 0x5555_5555_4000;
const VTABLE: u64 = 0x3_1f40;
/// Between two calls of one thread.
const STEP: u64 = 2_000;
/// Between two looks at the rings.
const TICK: u64 = 10_000_000;

const BIRTH: u32 = 0;
const POLL: u32 = 1;
const DROP: u32 = 2;

/// State words as they were read: references in bits above 5.
const SCHEDULED: u64 = 0x84;
const IDLE: u64 = 0x80;
const NEW: u64 = 0xdc;
const COMPLETE: u64 = 0x4a;

/// What one look at the rings brings, and up to when all is there.
pub(crate) struct Batch {
    pub(crate) records: Vec<(u32, Range<usize>)>,
    pub(crate) until: Ns,
}

/// Records of one load.
pub(crate) struct Recording {
    pub(crate) word: &'static str,
    pub(crate) catalog: Catalog,
    pub(crate) bytes: Vec<u8>,
    pub(crate) batches: Vec<Batch>,
    pub(crate) events: u64,
    pub(crate) polls: u64,
}

/// One thread, which has a CPU of its own.
struct Thread {
    cpu: u32,
    now: u64,
}

impl Recording {
    /// A hundred tasks that yield, as the load `polls`.
    pub(crate) fn polls() -> Self {
        const TASKS: u64 = 100;
        const POLLS: u64 = 500_000;
        let mut recording = Self::empty("polls");
        let mut threads = Thread::both();
        for task in 0..TASKS {
            recording.born(&mut threads[0], task);
        }
        threads[1].now = threads[0].now;
        for poll in 0..POLLS {
            let thread = &mut threads[(poll % 2) as usize];
            recording.call(thread, POLL, poll % TASKS, SCHEDULED, Some(IDLE));
        }
        (recording.events, recording.polls) = (TASKS + 2 * POLLS, POLLS);
        recording.in_batches()
    }

    /// Tasks that are ready at their first poll and awaited, as the load `spawns`.
    pub(crate) fn spawns() -> Self {
        const TASKS: u64 = 150_000;
        let mut recording = Self::empty("spawns");
        let mut threads = Thread::both();
        for task in 0..TASKS {
            let thread = &mut threads[(task % 2) as usize];
            recording.born(thread, task);
            recording.call(thread, POLL, task, NEW, Some(COMPLETE));
            recording.call(thread, DROP, task, COMPLETE, None);
        }
        (recording.events, recording.polls) = (5 * TASKS, TASKS);
        recording.in_batches()
    }

    fn empty(word: &'static str) -> Self {
        let batches = vec![Batch { records: Vec::new(), until: Ns(u64::MAX) }];
        Self { word, catalog: catalog(), bytes: Vec::new(), batches, events: 0, polls: 0 }
    }

    /// A task is born; its id is its number.
    fn born(&mut self, thread: &mut Thread, task: u64) {
        let at = thread.pass();
        let words = [at, cookie(BIRTH), 0x7fff_0000, task + 1, thread.named(), RecordKind::Birth as u64, 0];
        self.record(thread.cpu, &words);
    }

    /// A function of its vtable is called, and leaves the state so, or nothing.
    fn call(&mut self, thread: &mut Thread, point: u32, task: u64, entered: u64, left: Option<u64>) {
        let (from, to) = (thread.pass(), thread.pass());
        let header = 0x7f00_0000_0000 + task % 100 * 256;
        let head = |state: u64| [state, 0, BIAS + VTABLE, 1, 0x7f00_1000_0000, task + 1, 1, 0, 0, 0];
        let bare = [to, cookie(point), 0x7fff_0000, header, thread.named(), RecordKind::Call as u64, 0];
        let mut words = [0; CALL_FULL / 8];
        let with_head = CALL_WITH_HEAD / 8;
        words[..RECORD_BARE / 8].copy_from_slice(&bare);
        words[RECORD_BARE / 8..][..3].copy_from_slice(&[from, 0, 0]);
        words[RECORD_BARE / 8 + 3..with_head - 10].copy_from_slice(&head(entered));
        if let Some(state) = left {
            words[with_head - 10..with_head].copy_from_slice(&head(state));
            // The stage: finished, with an output.
            words[with_head] = 1;
        }
        let length = if left == Some(COMPLETE) { words.len() } else { with_head };
        self.record(thread.cpu, &words[..length]);
    }

    fn record(&mut self, cpu: u32, words: &[u64]) {
        let from = self.bytes.len();
        self.bytes.extend(words.iter().flat_map(|word| word.to_ne_bytes()));
        self.batches[0].records.push((cpu, from..self.bytes.len()));
    }

    /// As looks at the rings find them: one ring after the other.
    fn in_batches(mut self) -> Self {
        let time = |range: &Range<usize>| {
            let bytes = &self.bytes[range.start..range.start + 8];
            u64::from_ne_bytes(bytes.try_into().expect("eight bytes")) / TICK
        };
        let mut all: Vec<_> = self.batches.pop().expect("there is one").records;
        all.sort_by_key(|(cpu, range)| (time(range), *cpu, range.start));
        self.batches = all
            .chunk_by(|(_, one), (_, other)| time(one) == time(other))
            .map(|records| Batch { until: Ns((time(&records[0].1) + 1) * TICK - 1), records: records.to_vec() })
            .collect();
        self
    }
}

impl Thread {
    fn both() -> [Self; 2] {
        [0, 1].map(|cpu| Self { cpu, now: TICK })
    }

    fn pass(&mut self) -> u64 {
        self.now += STEP / 2;
        self.now
    }

    fn named(&self) -> u64 {
        PID << 32 | (PID + u64::from(self.cpu))
    }
}

fn cookie(point: u32) -> u64 {
    Cookie { point, target: 0, register: 5, far: 0 }.to_u64()
}

/// One process with one image of one type.
fn catalog() -> Catalog {
    let at = |n: u64| VirtAddr(0x2_0000 + 16 * n);
    let build_id = BuildId::Gnu((0..20).map(|n| n * 11 + 3).collect());
    let vtable = VirtAddr(VTABLE);
    let functions = TaskFunctions {
        poll: at(1),
        schedule: at(3),
        dealloc: at(4),
        try_read_output: at(5),
        drop_join_handle_slow: at(2),
        drop_abort_handle: at(6),
        shutdown: at(7),
    };
    let layout = CellLayout {
        state: 0,
        queue_next: 8,
        vtable: 16,
        owner: 24,
        scheduler: 32,
        id: 40,
        spawn_location: None,
        trailer: 256,
        align: 128,
        stage_tagged: true,
    };
    let task = TaskType {
        vtable,
        resource: Resource::Task,
        functions,
        layout,
        future: Naming::Certain("bench_load::polls::yields::{async_fn_env#0}".into()),
        place: Some(Place { file: "src/polls.rs".into(), line: 17, column: Some(37), certain: true }),
        worker: false,
    };
    let point = |role, n, vtable| AttachPoint {
        role,
        at: at(n),
        offset: FileOffset(at(n).0),
        bytes: vec![0x55],
        cost: Cost::Emulated,
        vtable,
        register: None,
        far: 0,
        telling: 5,
    };
    let points =
        vec![point(Role::Birth, 0, Some(vtable)), point(Role::Poll, 1, None), point(Role::DropJoinHandle, 2, None)];
    let mut catalog = Catalog::default();
    let image = catalog.add_image(ImageEntry {
        types: [(vtable, TypeEntry { id: TypeId { build_id: build_id.clone(), vtable }, task, births: true })]
            .into_iter()
            .collect(),
        build_id,
        version: Some("1.54.1".into()),
        unstable: false,
        stripped: false,
        spawn_sites: 1,
        counters: Vec::new(),
        panics: PanicSight::Probed,
        first_point: PointIndex(0),
        points,
        places: PointMap::default(),
    });
    let mut target = TargetEntry::new(Pid(PID as u32), "bench-load".into());
    target.images.push(MappedImage { image, path: "/bench-load".into(), bias: Bias(BIAS) });
    let id = catalog.begin(target);
    catalog.put_in_slot(0, id);
    catalog
}
