//! Scenarios of the life cycle. The words at entry and return are those measured on real tokio programs
//! (states in hexadecimal: references << 6 | flags).

use std::sync::Arc;

use crate::model::{
    AttachPoint, Bias, Cell, CellWords, Event, EventKind, Frame, ImageEntry, LiveTask, MappedImage, Ns, Observation,
    Pid, ProcAddr, Resource, Role, Seen, Sight, StageWords, TargetEntry, TargetId, TaskId, TaskState, Tid, TypeEntry,
    VirtAddr,
};

use super::*;

mod sight;
mod unsure;

const VT: ProcAddr = ProcAddr(0x5000);
const BLOCKING: ProcAddr = ProcAddr(0x6000);
const WORKER: ProcAddr = ProcAddr(0x7000);
const TARGET: TargetId = TargetId(0);

fn target() -> Arc<TargetEntry> {
    let types =
        [(VT, Resource::Task, false), (BLOCKING, Resource::Blocking, false), (WORKER, Resource::Blocking, true)];
    let types = types.map(|(vtable, resource, worker)| TypeEntry::sample(VirtAddr(vtable.0), resource, worker));
    let image = ImageEntry { points: vec![AttachPoint::sample(Role::Poll)], ..ImageEntry::sample(types.into()) };
    let image = MappedImage { image: Arc::new(image), path: "/app".into(), bias: Bias(0) };
    Arc::new(TargetEntry { images: vec![image], ..TargetEntry::new(Pid(77), "fixture".into()) })
}

/// A life cycle, a clock and the events so far as short words: `init 1<0`, `before 1`, `resolve 1 ready`, ...
struct Story {
    life: Lifecycle,
    now: u64,
    said: Vec<String>,
    /// Of each init, its id and its root's.
    roots: Vec<(u64, u64)>,
}

impl Story {
    fn new() -> Self {
        Self::of(
            Rules { polls: true, births: true, ends: true, others: false, room: true, sight: Sight::All },
            target(),
        )
    }

    fn of(rules: Rules, target: Arc<TargetEntry>) -> Self {
        let mut life = Lifecycle::new(rules);
        life.target(TARGET, target);
        Self { life, now: 0, said: Vec::new(), roots: Vec::new() }
    }

    fn see(&mut self, tid: u32, seen: Seen) -> &mut Self {
        self.now += 10;
        let mut out = Vec::new();
        self.life.observe(&Observation { at: Ns(self.now), target: TARGET, tid: Tid(tid), seen }, &mut out);
        self.write(out);
        self
    }

    fn write(&mut self, events: Vec<Event>) {
        for event in events {
            let mark = if event.inferred { "?" } else { "" };
            if let (EventKind::Init { id, .. }, Some(root)) = (&event.kind, event.root) {
                self.roots.push((id.0, root.0));
            }
            self.said.push(match event.kind {
                EventKind::Init { id, trigger, existing, .. } => {
                    let trigger = trigger.map_or("?".into(), |t| t.map_or(0, |t| t.0).to_string());
                    format!("init{mark} {id}<{trigger}{}", if existing { " existing" } else { "" })
                }
                EventKind::Before(id) => format!("before{mark} {id}"),
                EventKind::After(id) => format!("after{mark} {id}"),
                EventKind::Resolve(id, outcome, at) => {
                    let at = at.map_or(String::new(), |place| format!(" at {place}"));
                    format!("resolve{mark} {id} {}{at}", outcome.as_str())
                }
                EventKind::Destroy(id) => format!("destroy{mark} {id}"),
                EventKind::Lost { count } => format!("lost {count}"),
            });
        }
    }

    fn born(&mut self, tid: u32, vtable: ProcAddr, id: u64) -> &mut Self {
        self.see(tid, Seen::Birth { vtable, minted: (id != 0).then_some(TaskId(id)) })
    }

    fn enter(&mut self, tid: u32, role: Role, sp: u64, at: u64, cell: Cell) -> &mut Self {
        self.see(tid, Seen::Enter { role, frame: Frame(sp), header: ProcAddr(at), cell })
    }

    fn release(&mut self, tid: u32, at: u64, cell: Cell) -> &mut Self {
        self.see(tid, Seen::Release { header: ProcAddr(at), cell })
    }

    fn leave(&mut self, tid: u32, role: Role, sp: u64, at: u64, cell: Cell) -> &mut Self {
        self.see(tid, Seen::Leave { role, frame: Frame(sp), header: Some(ProcAddr(at)), cell, stage: None })
    }

    fn census(&mut self, began: u64, found: &[(u64, ProcAddr, u64, u64, Option<u32>)]) -> &mut Self {
        let found = found
            .iter()
            .map(|(header, vtable, id, state, tid)| LiveTask {
                header: ProcAddr(*header),
                vtable: *vtable,
                id: TaskId(*id),
                state: TaskState(*state),
                owner: 1,
                spawn_location: None,
                running_on: tid.map(Tid),
            })
            .collect();
        self.now += 10;
        let mut out = Vec::new();
        let census =
            Census { target: TARGET, began: Ns(began), ended: Ns(self.now), complete: true, found, gone: Vec::new() };
        self.life.reconcile(&census, &mut out);
        self.write(out);
        self
    }

    fn expect(&mut self, said: &[&str]) -> &mut Self {
        assert_eq!(self.said, said);
        self.said.clear();
        self
    }
}

fn cell_of(vtable: ProcAddr, id: u64, state: u64) -> Cell {
    Cell::Task(CellWords { vtable, id: TaskId(id), state: TaskState(state), queue_next: 0 })
}

fn cell(id: u64, state: u64) -> Cell {
    cell_of(VT, id, state)
}

const FREED: Cell = Cell::Foreign;

#[test]
fn a_task_that_completes_and_whose_handle_is_awaited_lives_once() {
    let mut story = Story::new();
    story
        .born(1, VT, 9)
        .enter(2, Role::Poll, 100, 0x80, cell(9, 0xdc))
        .leave(2, Role::Poll, 100, 0x80, cell(9, 0x4a))
        .enter(1, Role::DropJoinHandle, 90, 0x80, cell(9, 0x4a))
        .leave(1, Role::DropJoinHandle, 90, 0x80, FREED)
        .expect(&["init 1<0", "before 1", "resolve 1 ready", "after 1", "destroy 1"]);
    assert_eq!(story.life.tally().live, 0);
}

#[test]
fn a_detached_task_is_freed_inside_its_last_poll() {
    Story::new()
        .born(1, VT, 9)
        .enter(2, Role::Poll, 100, 0x80, cell(9, 0x84))
        .leave(2, Role::Poll, 100, 0x80, cell(9, 0x80))
        .enter(2, Role::Poll, 100, 0x80, cell(9, 0x84))
        .leave(2, Role::Poll, 100, 0x80, FREED)
        .expect(&["init 1<0", "before 1", "after 1", "before 1", "resolve 1 ready", "after 1", "destroy 1"]);
}

#[test]
fn an_aborted_idle_task_is_cancelled_by_a_poll() {
    Story::new()
        .born(1, VT, 9)
        .enter(2, Role::Poll, 100, 0x80, cell(9, 0x13c))
        .leave(2, Role::Poll, 100, 0x80, cell(9, 0x6a))
        .enter(1, Role::DropJoinHandle, 90, 0x80, cell(9, 0x6a))
        .leave(1, Role::DropJoinHandle, 90, 0x80, FREED)
        .expect(&["init 1<0", "before 1", "resolve 1 cancelled", "after 1", "destroy 1"]);
}

#[test]
fn shutdown_cancels_without_a_poll() {
    Story::new()
        .born(1, VT, 9)
        .enter(1, Role::Shutdown, 100, 0x80, cell(9, 0x40))
        .leave(1, Role::Shutdown, 100, 0x80, FREED)
        .expect(&["init 1<0", "resolve 1 cancelled", "destroy 1"]);
}

#[test]
fn shutdown_of_a_running_task_leaves_the_outcome_to_its_poll() {
    Story::new()
        .born(1, VT, 9)
        .enter(2, Role::Poll, 100, 0x80, cell(9, 0x84))
        .enter(1, Role::Shutdown, 90, 0x80, cell(9, 0x81))
        .leave(1, Role::Shutdown, 90, 0x80, cell(9, 0x61))
        .leave(2, Role::Poll, 100, 0x80, FREED)
        .expect(&["init 1<0", "before 1", "resolve 1 unknown", "after 1", "destroy 1"]);
}

#[test]
fn a_shutdown_that_finds_the_task_complete_comes_too_late_to_cancel_it() {
    // The runtime ends while the last poll is at its end: joined already, still in the list of owned tasks.
    Story::new()
        .born(1, VT, 9)
        .enter(2, Role::Poll, 100, 0x80, cell(9, 0xcc))
        .enter(1, Role::DropJoinHandle, 90, 0x80, cell(9, 0xca))
        .leave(1, Role::DropJoinHandle, 90, 0x80, cell(9, 0x82))
        .enter(1, Role::Shutdown, 90, 0x80, cell(9, 0x82))
        .leave(1, Role::Shutdown, 90, 0x80, cell(9, 0x62))
        .leave(2, Role::Poll, 100, 0x80, FREED)
        .expect(&["init 1<0", "before 1", "resolve 1 ready", "after 1", "destroy 1"]);
}

#[test]
fn the_trigger_is_the_innermost_polled_task_and_never_a_worker() {
    Story::new()
        .born(1, WORKER, 1)
        .enter(2, Role::Poll, 900, 0x100, cell_of(WORKER, 1, 0x84))
        .born(2, VT, 2)
        .enter(2, Role::Poll, 800, 0x200, cell(2, 0xcc))
        .born(2, VT, 3)
        .leave(2, Role::Poll, 800, 0x200, cell(2, 0x88))
        .born(1, BLOCKING, 4)
        .enter(3, Role::Poll, 900, 0x300, cell_of(BLOCKING, 4, 0x84))
        .born(3, VT, 5)
        .expect(&[
            "init 1<0", "before 1", "init 2<0", "before 2", "init 3<2", "after 2", "init 4<0", "before 4", "init 5<4",
        ]);
}

#[test]
fn the_root_is_where_the_chain_of_triggers_ends_also_after_those_between_have_ended() {
    let mut story = Story::new();
    story
        .born(1, VT, 9)
        .enter(2, Role::Poll, 900, 0x100, cell(9, 0x84))
        .born(2, VT, 10)
        .enter(2, Role::Poll, 800, 0x200, cell(10, 0xcc))
        .born(2, VT, 11)
        .leave(2, Role::Poll, 800, 0x200, FREED)
        .leave(2, Role::Poll, 900, 0x100, FREED)
        .enter(2, Role::Poll, 900, 0x300, cell(11, 0xcc))
        .born(2, VT, 12);
    assert_eq!(story.roots, [(1, 1), (2, 1), (3, 1), (4, 1)]);
}

#[test]
fn before_on_another_thread_may_precede_after_and_the_later_poll_resolves() {
    Story::new()
        .born(1, VT, 9)
        .enter(2, Role::Poll, 100, 0x80, cell(9, 0x84))
        .enter(3, Role::Poll, 200, 0x80, cell(9, 0x84))
        .leave(2, Role::Poll, 100, 0x80, cell(9, 0x4a))
        .leave(3, Role::Poll, 200, 0x80, cell(9, 0x4a))
        .expect(&["init 1<0", "before 1", "before 1", "after 1", "resolve 1 ready", "after 1"]);
}

#[test]
fn destroy_on_another_thread_waits_for_the_open_poll() {
    Story::new()
        .born(1, VT, 9)
        .enter(2, Role::Poll, 100, 0x80, cell(9, 0xdc))
        .enter(1, Role::DropJoinHandle, 90, 0x80, cell(9, 0x4a))
        .leave(1, Role::DropJoinHandle, 90, 0x80, FREED)
        .leave(2, Role::Poll, 100, 0x80, FREED)
        .expect(&["init 1<0", "before 1", "resolve 1 ready", "after 1", "destroy 1"]);
}

#[test]
fn a_dealloc_after_another_thread_saw_the_last_reference_gone_is_no_new_task() {
    Story::new()
        .born(1, VT, 9)
        .enter(2, Role::Shutdown, 100, 0x80, cell(9, 0x84))
        .leave(2, Role::Shutdown, 100, 0x80, cell(9, 0x22))
        .release(3, 0x80, cell(9, 0x22))
        .expect(&["init 1<0", "resolve 1 cancelled", "destroy 1"]);
}

#[test]
fn who_gives_up_the_last_reference_ends_the_task_once_and_one_that_nobody_knew_is_none() {
    let mut story = Story::new();
    story.born(1, VT, 9);
    story.enter(1, Role::Poll, 100, 0x80, cell(9, 0xcc)).leave(1, Role::Poll, 100, 0x80, cell(9, 0x4a));
    // The second is of a function that the first one's jumps to.
    story.release(2, 0x80, cell(9, 0x4a)).release(2, 0x80, cell(9, 0x4a)).release(2, 0x90, cell(7, 0x4a));
    story.expect(&["init 1<0", "before 1", "resolve 1 ready", "after 1", "destroy 1"]);
}

#[test]
fn a_last_reference_that_is_given_up_while_the_poll_goes_on_elsewhere_ends_the_task_after_it() {
    Story::new()
        .born(1, VT, 9)
        .enter(2, Role::Poll, 100, 0x80, cell(9, 0xdc))
        .release(1, 0x80, cell(9, 0x4a))
        .leave(2, Role::Poll, 100, 0x80, FREED)
        .expect(&["init 1<0", "before 1", "resolve 1 ready", "after 1", "destroy 1"]);
}

#[test]
fn a_shutdown_that_raced_a_poll_resolves_once_and_claims_nothing_it_cannot_know() {
    Story::new()
        .born(1, VT, 9)
        .enter(2, Role::Shutdown, 100, 0x80, cell(9, 0xc4))
        .enter(3, Role::Poll, 100, 0x80, cell(9, 0xc4))
        .leave(3, Role::Poll, 100, 0x80, cell(9, 0xa5))
        .leave(2, Role::Shutdown, 100, 0x80, cell(9, 0x66))
        .expect(&["init 1<0", "before 1", "after 1", "resolve 1 unknown"]);
}

#[test]
fn a_shutdown_that_found_the_task_running_may_still_be_the_one_to_cancel_it() {
    Story::new()
        .born(1, VT, 9)
        .enter(3, Role::Poll, 100, 0x80, cell(9, 0xc4))
        .enter(2, Role::Shutdown, 100, 0x80, cell(9, 0xc5))
        .leave(3, Role::Poll, 100, 0x80, cell(9, 0xc4))
        .leave(2, Role::Shutdown, 100, 0x80, FREED)
        .expect(&["init 1<0", "before 1", "after 1", "resolve 1 unknown", "destroy 1"]);
}

#[test]
fn a_destroy_waits_for_the_shutdown_that_will_tell_the_outcome() {
    Story::new()
        .born(1, VT, 9)
        .enter(2, Role::Shutdown, 100, 0x80, cell(9, 0x84))
        .release(3, 0x80, cell(9, 0x22))
        .leave(2, Role::Shutdown, 100, 0x80, FREED)
        .expect(&["init 1<0", "resolve 1 cancelled", "destroy 1"]);
}

#[test]
fn an_address_reused_at_once_is_another_task() {
    Story::new()
        .born(1, VT, 9)
        .enter(2, Role::Poll, 100, 0x80, cell(9, 0x84))
        .born(1, VT, 10)
        .leave(2, Role::Poll, 100, 0x80, cell(10, 0xcc))
        .enter(3, Role::Poll, 100, 0x80, cell(10, 0xcc))
        .expect(&["init 1<0", "before 1", "init 2<0", "resolve 1 ready", "after 1", "destroy 1", "before 2"]);
}

#[test]
fn a_birth_without_its_mint_gets_its_id_at_the_first_sight() {
    Story::new()
        .born(1, VT, 0)
        .enter(2, Role::Poll, 100, 0x80, cell(9, 0x84))
        .leave(2, Role::Poll, 100, 0x80, FREED)
        .expect(&["init 1<0", "before 1", "resolve 1 ready", "after 1", "destroy 1"]);
}

#[test]
fn a_freed_cell_with_an_allocators_link_in_it_is_gone() {
    // glibc: a link over the state word, a key over the queue link; the rest of the cell still looks alive.
    let linked =
        Cell::Task(CellWords { vtable: VT, id: TaskId(9), state: TaskState(0x40_1a80), queue_next: 0x1234_5671 });
    Story::new()
        .born(1, VT, 9)
        .enter(2, Role::Poll, 100, 0x80, cell(9, 0x84))
        .leave(2, Role::Poll, 100, 0x80, linked)
        .expect(&["init 1<0", "before 1", "resolve 1 ready", "after 1", "destroy 1"]);
}

#[test]
fn the_census_adds_what_was_there_and_nothing_twice() {
    let mut story = Story::new();
    story.life.census_begins(TARGET);
    story
        .born(1, VT, 20)
        .enter(2, Role::Poll, 100, 0x180, cell(7, 0x84))
        .leave(2, Role::Poll, 100, 0x180, FREED)
        .expect(&["init 1<0", "init? 2<? existing", "before 2", "resolve 2 ready", "after 2", "destroy 2"]);
    story
        .census(
            0,
            &[
                (0x80, VT, 20, 0xcc, None),
                (0x180, VT, 7, 0x84, None),
                (0x280, VT, 6, 0x89, Some(5)),
                (0x380, VT, 5, 0x4a, None),
            ],
        )
        .expect(&["init 3<? existing", "init 4<? existing"]);
    story.born(5, VT, 21).expect(&["init 5<4"]);
}

#[test]
fn what_a_thread_runs_is_unknown_while_a_running_task_could_not_be_placed() {
    let mut story = Story::new();
    story.census(0, &[(0x280, VT, 6, 0x89, None)]).born(5, VT, 21).expect(&["init 1<? existing", "init 2<?"]);
    story.enter(6, Role::Poll, 100, 0x280, cell(6, 0x8c)).born(5, VT, 22).expect(&["before 1", "init 3<0"]);
}

#[test]
fn after_a_loss_the_census_ends_what_died_unseen_and_ids_stay_unique() {
    let mut story = Story::new();
    story.born(1, VT, 9).born(1, VT, 10).expect(&["init 1<0", "init 2<0"]);
    let mut out = Vec::new();
    story.life.lost(Ns(25), (4, Ns(30)), &mut out);
    story.write(out);
    story.life.census_begins(TARGET);
    story.census(40, &[(0x80, VT, 10, 0xcc, None), (0x180, VT, 11, 0xcc, None)]).expect(&[
        "lost 4",
        "init? 3<?",
        "resolve? 1 unknown",
        "destroy? 1",
    ]);
    assert_eq!(story.life.tally().live, 2);
    story.enter(2, Role::Poll, 100, 0x80, cell(10, 0x84)).expect(&["before 2"]);
}

#[test]
fn memory_that_cannot_be_read_is_no_proof_of_an_end() {
    let mut story = Story::new();
    story
        .born(1, VT, 9)
        .enter(2, Role::Poll, 100, 0x80, cell(9, 0xcc))
        .leave(2, Role::Poll, 100, 0x80, Cell::Unreadable)
        .expect(&["init 1<0", "before 1", "after 1"]);
    assert!(story.life.is_in_doubt(TARGET));
    story.enter(1, Role::DropJoinHandle, 90, 0x80, cell(9, 0x4a)).leave(1, Role::DropJoinHandle, 90, 0x80, FREED);
    story.expect(&["resolve? 1 unknown", "destroy 1"]);
    assert!(!story.life.is_in_doubt(TARGET));
}

#[test]
fn a_call_whose_header_is_away_for_a_moment_is_one_of_the_task_that_stands_there() {
    // Its page was away at the drop of its handle, at a poll, and at the free.
    let mut story = Story::new();
    story
        .born(1, VT, 9)
        .enter(2, Role::Poll, 100, 0x80, cell(9, 0xcc))
        .leave(2, Role::Poll, 100, 0x80, cell(9, 0x88))
        .enter(1, Role::DropJoinHandle, 90, 0x80, Cell::Unreadable)
        .leave(1, Role::DropJoinHandle, 90, 0x80, cell(9, 0x80))
        .enter(2, Role::Poll, 100, 0x80, Cell::Unreadable)
        .leave(2, Role::Poll, 100, 0x80, cell(9, 0x42))
        .release(2, 0x80, Cell::Unreadable)
        // How the poll found the task was not seen, so neither is how it ended.
        .expect(&["init 1<0", "before 1", "after 1", "before 1", "resolve 1 unknown", "after 1", "destroy 1"]);
    assert_eq!((story.life.tally().live, story.life.tally().foreign), (0, 0));
    story.enter(2, Role::Poll, 100, 0x80, Cell::Unreadable).expect(&[]);
    assert_eq!(story.life.tally().foreign, 1, "nobody is known to stand there");
}

#[test]
fn whose_only_call_was_at_memory_that_was_away_is_ended_by_a_census() {
    let mut story = Story::new();
    story
        .born(1, VT, 9)
        .enter(2, Role::Poll, 100, 0x80, Cell::Unreadable)
        .leave(2, Role::Poll, 100, 0x80, FREED)
        .expect(&["init 1<0"]);
    assert!(story.life.is_in_doubt(TARGET));
    story.census(40, &[]).expect(&["resolve? 1 unknown", "destroy? 1"]);
    assert!(!story.life.is_in_doubt(TARGET));
}

#[test]
fn a_missed_sight_of_a_handle_is_no_proof_that_nobody_aborted() {
    Story::new()
        .born(1, VT, 9)
        .enter(2, Role::Poll, 100, 0x80, cell(9, 0x10c))
        .leave(2, Role::Poll, 100, 0x80, cell(9, 0xc8))
        .enter(1, Role::DropAbortHandle, 90, 0x80, Cell::Unreadable)
        .leave(1, Role::DropAbortHandle, 90, 0x80, cell(9, 0x88))
        .enter(2, Role::Poll, 100, 0x80, cell(9, 0x8c))
        .leave(2, Role::Poll, 100, 0x80, FREED)
        .expect(&["init 1<0", "before 1", "after 1", "before 1", "resolve 1 unknown", "after 1", "destroy 1"]);
}

#[test]
fn who_may_be_gone_is_not_taken_for_who_is_called_at_its_address() {
    let mut story = Story::new();
    story
        .born(1, VT, 9)
        .enter(2, Role::Poll, 100, 0x80, cell(9, 0xcc))
        .leave(2, Role::Poll, 100, 0x80, Cell::Unreadable)
        .enter(2, Role::Poll, 100, 0x80, Cell::Unreadable)
        .expect(&["init 1<0", "before 1", "after 1"]);
    assert_eq!(story.life.tally().foreign, 1);
}

#[test]
fn of_what_ends_with_its_process_it_is_told_how_much_may_have_ended_before() {
    let mut story = Story::new();
    story
        .born(1, VT, 9)
        .born(1, VT, 10)
        .enter(2, Role::Poll, 100, 0x80, cell(9, 0xcc))
        .leave(2, Role::Poll, 100, 0x80, Cell::Unreadable)
        .expect(&["init 1<0", "init 2<0", "before 1", "after 1"]);
    assert_eq!(story.life.target_ended(TARGET), Left { live: 2, unsure: 1, watched: Watched::Lives });
}

#[test]
fn lost_returns_heal_by_the_stack_pointer() {
    let mut story = Story::new();
    story
        .born(1, VT, 9)
        .born(1, VT, 10)
        .enter(2, Role::Poll, 100, 0x80, cell(9, 0x84))
        .enter(2, Role::Poll, 100, 0x180, cell(10, 0x84))
        .born(2, VT, 11)
        .expect(&["init 1<0", "init 2<0", "before 1", "after? 1", "before 2", "init 3<2"]);
}

#[test]
fn a_return_of_another_task_at_the_same_frame_ends_nobody() {
    // A worker polls all its tasks at one frame: the return of the first and the entry of the second were lost.
    Story::new()
        .born(1, VT, 9)
        .enter(2, Role::Poll, 100, 0x80, cell(9, 0x84))
        .leave(2, Role::Poll, 100, 0x180, cell(10, 0x4a))
        .enter(2, Role::Poll, 100, 0x80, cell(9, 0x84))
        .expect(&["init 1<0", "before 1", "after? 1", "before 1"]);
}

#[test]
fn a_return_without_its_entry_says_nothing() {
    Story::new().leave(2, Role::Poll, 100, 0x80, cell(9, 0x4a)).expect(&[]);
}

#[test]
fn a_panic_caught_by_tokio_is_told_from_one_caught_inside() {
    let stored = |words: [u64; 5]| Some(StageWords::new(&words));
    let poll = |story: &mut Story, id: u64, stage: Option<StageWords>| {
        story.born(1, VT, id).enter(2, Role::Poll, 100, 0x80 * id, cell(id, 0xcc)).see(2, Seen::Raise);
        let at = Some(ProcAddr(0x80 * id));
        let seen = Seen::Leave { role: Role::Poll, frame: Frame(100), header: at, cell: cell(id, 0x4a), stage };
        story.see(2, seen);
    };
    let mut story = Story::new();
    poll(&mut story, 3, stored([1, 3, 0x7f00_0000_1000, 0x5555_0000_1000, 0]));
    poll(&mut story, 4, stored([1, 0, 42, 7, 7]));
    assert!(story.said.contains(&"resolve 1 panicked".into()), "{:?}", story.said);
    assert!(story.said.contains(&"resolve 2 ready".into()), "{:?}", story.said);
}

#[test]
fn one_call_through_two_probed_functions_is_one_poll() {
    Story::new()
        .born(1, VT, 9)
        .enter(2, Role::Poll, 100, 0x80, cell(9, 0x84))
        .enter(2, Role::Poll, 100, 0x80, cell(9, 0x84))
        .leave(2, Role::Poll, 100, 0x80, FREED)
        .leave(2, Role::Poll, 100, 0x80, FREED)
        .expect(&["init 1<0", "before 1", "resolve 1 ready", "after 1", "destroy 1"]);
}
