use super::*;
use crate::model::{CopyEnd, TaskId, TaskState};
use proptest::prelude::*;

const STACK: u64 = 0x7000_0000;
const POLL: u64 = 0x5000;
const OF_POLL: u64 = 0x9000;
const OTHER_TYPE: u64 = 0x9100;
const TABLE: u64 = 0x9800;
const OTHER_TABLE: u64 = 0x9900;
const HEADER: u64 = 0x1_0000;
const SIBLING: u64 = 0x2_0000;
const RUNNING: u64 = 0x41;
const IDLE: u64 = 0x40;

#[derive(Default)]
struct Known(HashMap<u64, CellWords>);

impl Known {
    fn with(mut self, header: u64, id: u64, vtable: u64, state: u64) -> Self {
        let (vtable, state) = (ProcAddr(vtable), TaskState(state));
        self.0.insert(header, CellWords { vtable, id: TaskId(id), state, queue_next: 0 });
        self
    }
}

impl Memory for Known {
    fn task(&mut self, header: ProcAddr) -> Option<CellWords> {
        self.0.get(&header.0).copied()
    }
    fn is_waker_table(&mut self, at: ProcAddr) -> bool {
        at.0 == TABLE || at.0 == OTHER_TABLE
    }
}

fn frame(ip: u64, sp: u64, rbx: u64) -> Registers {
    Registers { ip: ProcAddr(ip), sp: ProcAddr(STACK + sp), kept: [Some(rbx), Some(0), None, None, None, None] }
}

/// A spawn in the future's body, whose frame is two words, called by the poll, whose frame is six, in a worker.
fn unwound(rbx: u64) -> Unwound {
    let frames = vec![frame(0x100, 0, 0), frame(POLL + 8, 16, rbx), frame(0x200, 64, 0)];
    Unwound { frames, end: UnwindEnd::Root }
}

fn copy(words: &[u64]) -> StackCopy {
    let bytes = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    StackCopy { from: ProcAddr(STACK), bytes, end: CopyEnd::Bound }
}

fn polls(worker: bool) -> Polls {
    Polls::new([Poll {
        start: ProcAddr(POLL),
        end: ProcAddr(POLL + 64),
        vtables: vec![ProcAddr(OF_POLL)],
        align: 128,
        worker,
    }])
}

fn told(unwound: &Unwound, words: &[u64], mut memory: Known) -> Trigger {
    trigger(unwound, &copy(words), &polls(false), &mut Habits::default(), &mut memory).trigger
}

fn untold(why: Untold) -> Trigger {
    Trigger::OfType { vtables: vec![ProcAddr(OF_POLL)], why }
}

fn task(id: u64) -> Trigger {
    Trigger::Task { id: TaskId(id), vtable: ProcAddr(OF_POLL) }
}

#[test]
fn the_header_beside_the_waker_table_is_the_spawners_whatever_its_state_is_now() {
    let known = || Known::default().with(HEADER, 5, OF_POLL, IDLE).with(SIBLING, 4, OF_POLL, RUNNING);
    assert_eq!(told(&unwound(HEADER), &[0, 0, TABLE, HEADER, 0, 0, 0, 0], known()), task(5));
    assert_eq!(told(&unwound(0), &[0, 0, HEADER, TABLE, 0, SIBLING, 0, 0], known()), task(5));
}

#[test]
fn a_task_that_has_ended_is_not_taken_for_another_of_its_type() {
    let known = Known::default().with(SIBLING, 4, OF_POLL, RUNNING);
    assert_eq!(told(&unwound(HEADER), &[0, 0, TABLE, HEADER, SIBLING, 0, 0, 0], known), untold(Untold::Gone));
}

#[test]
fn of_several_wakers_the_one_whose_header_the_poll_holds_is_its_own() {
    let known = || Known::default().with(HEADER, 5, OF_POLL, IDLE).with(SIBLING, 4, OF_POLL, RUNNING);
    let words = [TABLE, SIBLING, TABLE, HEADER, 0, 0, 0, 0];
    assert_eq!(told(&unwound(HEADER), &words, known()), task(5));
    assert_eq!(told(&unwound(0), &words, known()), task(5), "it is in its frame");
    let words = [0, 0, TABLE, HEADER, TABLE, SIBLING, 0, 0];
    assert_eq!(told(&unwound(0), &words, known()), untold(Untold::Several));
}

#[test]
fn a_neighbour_of_the_waker_table_that_no_header_can_be_is_none() {
    let known = || Known::default().with(HEADER, 5, OF_POLL, IDLE);
    for stray in [7, STACK + 128, HEADER + 64, 1 << 50] {
        assert_eq!(told(&unwound(0), &[0, stray, TABLE, HEADER, 0, 0, 0, 0], known()), task(5), "{stray:x}");
    }
}

#[test]
fn the_waker_of_a_thread_that_waits_is_no_tasks() {
    let known = || Known::default().with(HEADER, 5, OF_POLL, IDLE);
    let words = [0, 0, OTHER_TABLE, 0x7_0000, TABLE, HEADER, 0, 0];
    assert_eq!(told(&unwound(0x7_0000), &words, known()), task(5));
}

#[test]
fn the_waker_that_a_context_names_is_the_one_in_use() {
    let known = || Known::default().with(HEADER, 5, OF_POLL, IDLE).with(SIBLING, 4, OF_POLL, RUNNING);
    let at = STACK + 16;
    let words = [0, 0, TABLE, HEADER, at, at, TABLE, SIBLING];
    let mut in_two_kept = unwound(HEADER);
    in_two_kept.frames[1].kept[1] = Some(SIBLING);
    assert_eq!(told(&in_two_kept, &words, known()), task(5));
    assert_eq!(told(&in_two_kept, &[0, 0, TABLE, HEADER, at, 0, TABLE, SIBLING], known()), untold(Untold::Several));
}

#[test]
fn what_clear_cases_show_tells_the_others() {
    let known = || Known::default().with(HEADER, 5, OF_POLL, IDLE).with(SIBLING, 4, OF_POLL, IDLE);
    let (polls, mut habits) = (polls(false), Habits::default());
    let mut told = |rbx, words: &[u64]| trigger(&unwound(rbx), &copy(words), &polls, &mut habits, &mut known()).trigger;
    let unclear = [0, 0, TABLE, SIBLING, TABLE, HEADER, 0, SIBLING];
    assert_eq!(told(0, &unclear), untold(Untold::Several));
    assert_eq!(told(HEADER, &[0, 0, TABLE, HEADER, 0, HEADER, 0, 0]), task(5));
    assert_eq!(told(0, &unclear), untold(Untold::Several), "two of three places contradict each other");
    assert_eq!(told(0, &[0, 0, TABLE, SIBLING, 0, SIBLING, 0, 0]), task(4));
    assert_eq!(told(0, &[0, 0, HEADER, TABLE, 0, HEADER, 0, 0]), task(5));
    assert_eq!(told(SIBLING, &unclear), task(5), "it is kept in the frame's fourth word");
    assert_eq!(told(0, &[0, 0, 0, 0, 0, SIBLING, 0, 0]), task(4), "also without a waker");
    assert_eq!(told(0, &[0, 0, 0, 0, 0, 0x7_0000, 0, 0]), untold(Untold::Gone));
}

#[test]
fn without_a_waker_only_one_that_runs_counts_and_only_if_it_is_the_only_one() {
    let known = |state| Known::default().with(HEADER, 5, OF_POLL, state).with(SIBLING, 4, OF_POLL, RUNNING);
    let other_type = |state| known(state).with(0x3_0000, 3, OTHER_TYPE, RUNNING);
    assert_eq!(told(&unwound(HEADER), &[0, 0, 0x3_0000, 0, 0, 0, 0, 0], other_type(RUNNING)), task(5));
    assert_eq!(told(&unwound(HEADER), &[0; 8], known(IDLE)), untold(Untold::NotFound));
    assert_eq!(told(&unwound(HEADER), &[0, 0, SIBLING, 0, 0, 0, 0, 0], known(RUNNING)), untold(Untold::Several));
    assert_eq!(told(&unwound(0), &[0; 8], known(RUNNING)), untold(Untold::NotFound));
}

#[test]
fn what_lies_behind_the_polls_frame_is_not_the_polls() {
    let known = Known::default().with(SIBLING, 4, OF_POLL, RUNNING);
    let words = [0, 0, 0, 0, 0, 0, 0, 0, TABLE, SIBLING, SIBLING];
    assert_eq!(told(&unwound(0), &words, known), untold(Untold::NotFound));
}

#[test]
fn without_a_poll_the_whole_stack_must_be_there_to_say_that_no_task_did_it() {
    let ended = |end| Unwound { frames: vec![frame(0x100, 0, 0), frame(0x200, 16, 0)], end };
    assert_eq!(told(&ended(UnwindEnd::Root), &[0; 8], Known::default()), Trigger::NoTask);
    let cut = UnwindEnd::Copy(CopyEnd::Bound);
    assert_eq!(told(&ended(cut), &[0; 8], Known::default()), Trigger::Unknown(cut));
}

#[test]
fn a_runtimes_own_worker_is_nobodys_trigger() {
    let mut known = Known::default().with(HEADER, 5, OF_POLL, RUNNING);
    assert_eq!(
        trigger(&unwound(HEADER), &copy(&[0; 8]), &polls(true), &mut Habits::default(), &mut known).trigger,
        Trigger::NoTask
    );
}

proptest! {
    #[test]
    fn no_stack_panics_or_names_a_task_of_another_type(
        words in proptest::collection::vec(
            prop_oneof![Just(TABLE), Just(HEADER), Just(SIBLING), Just(0x3_0000), any::<u64>()], 0..20),
        sps in proptest::collection::vec(0u64..200, 1..6),
        rbx in prop_oneof![Just(HEADER), Just(0x3_0000), any::<u64>()],
    ) {
        let frames = sps.iter().map(|sp| frame(POLL + 8, *sp, rbx)).collect();
        let unwound = Unwound { frames, end: UnwindEnd::Astray };
        let known = Known::default().with(HEADER, 5, OF_POLL, RUNNING).with(0x3_0000, 3, OTHER_TYPE, RUNNING);
        match told(&unwound, &words, known) {
            Trigger::Task { id, .. } => prop_assert_eq!(id, TaskId(5)),
            Trigger::OfType { vtables, .. } => prop_assert_eq!(vtables, vec![ProcAddr(OF_POLL)]),
            other => prop_assert!(false, "{:?}", other),
        }
    }
}
