//! Which task made a call: the innermost poll among the callers tells its type, the poll's own frame which task it is.
//!
//! A runtime's poll keeps the task's header until the task has run, to say then how it went: in a register that calls keep or
//! in its frame. And it makes the waker for the task's `Context` there: the header beside the address of the runtime's table
//! of waker functions. What lies in a frame may as well be left from before, so a header counts as the poll's own only
//! if it is the only one, and beside the table, or of a task that runs. Where in its frame a poll keeps the header is the same
//! each time it stands at the same instruction: that is learned from the clear cases, for the others.
//!
//! Does not know: where memory is read from. It is read after the fact: a task that has ended by then is not told.

use std::collections::HashMap;

use crate::model::{CellWords, Kept, ProcAddr, Registers, StackCopy, Trigger, Untold, UnwindEnd};

use super::Unwound;

/// Where polls are in one process.
#[derive(Clone, Debug, Default)]
pub struct Polls {
    sorted: Vec<Poll>,
}

/// One poll's code in a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Poll {
    /// Its first byte.
    pub start: ProcAddr,
    /// Behind its last.
    pub end: ProcAddr,
    /// The types it is of.
    pub vtables: Vec<ProcAddr>,
    /// What the addresses of their headers are multiples of.
    pub align: u32,
    /// Each of them is a runtime's own worker.
    pub worker: bool,
}

/// What memory says, soon after the call.
pub trait Memory {
    /// The task whose header is at this address, if one is that can have been there at the call.
    fn task(&mut self, header: ProcAddr) -> Option<CellWords>;
    /// Whether a table of waker functions is at this address.
    fn is_waker_table(&mut self, at: ProcAddr) -> bool;
}

/// Where polls keep their tasks' headers, as the clear cases showed: by where in a poll's code its frame stands.
#[derive(Clone, Debug, Default)]
pub struct Habits {
    kept: HashMap<ProcAddr, Vec<Keeping>>,
    /// Tables of waker functions that stood beside a task's header, and on which side: a runtime has others, for threads
    /// that wait.
    tables: Vec<(ProcAddr, Side)>,
}

/// Where a waker has its header, seen from the table: the compiler chose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Before,
    Behind,
}

/// Instructions that more is not learned of.
const MOST_HABITS: usize = 1 << 14;

/// Tables that more is not learned of: each copy of a runtime has one.
const MOST_TABLES: usize = 64;

/// A place of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keeping {
    Register(Kept),
    /// So many bytes above the frame's stack pointer.
    Word(u64),
}

impl Polls {
    /// From each poll's code.
    pub fn new(polls: impl IntoIterator<Item = Poll>) -> Self {
        let mut sorted: Vec<Poll> = polls.into_iter().collect();
        sorted.sort_unstable_by_key(|poll| poll.start);
        Self { sorted }
    }

    /// The poll whose code holds the address.
    pub fn at(&self, at: ProcAddr) -> Option<&Poll> {
        let after = self.sorted.partition_point(|poll| poll.start <= at);
        self.sorted.get(after.checked_sub(1)?).filter(|poll| at < poll.end)
    }
}

/// What a stack tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Who made the call.
    pub trigger: Trigger,
    /// Where the header of the task that made it is or was.
    pub header: Option<ProcAddr>,
}

/// Who made the call that these are the callers of.
pub fn trigger(
    unwound: &Unwound,
    stack: &StackCopy,
    polls: &Polls,
    habits: &mut Habits,
    memory: &mut impl Memory,
) -> Told {
    // The innermost frame may be in a poll itself; of all others the call is the instruction before.
    let place = |n: usize, frame: &Registers| if n == 0 { frame.ip } else { ProcAddr(frame.ip.0.wrapping_sub(1)) };
    let found = unwound.frames.iter().enumerate().find_map(|(n, frame)| Some((n, polls.at(place(n, frame))?)));
    let Some((number, poll)) = found else {
        let trigger = match unwound.end {
            UnwindEnd::Root => Trigger::NoTask,
            end => Trigger::Unknown(end),
        };
        return Told { trigger, header: None };
    };
    if poll.worker {
        return Told { trigger: Trigger::NoTask, header: None };
    }
    let frame = PollFrame {
        registers: &unwound.frames[number],
        innermost: unwound.frames[0].sp,
        // Where its caller is not known, the frame's end is not: then nothing is searched, as too much would be.
        end: unwound.frames.get(number + 1).map_or(unwound.frames[number].sp, |caller| caller.sp),
        stack,
    };
    let mut header = None;
    let trigger = match frame.task(poll, habits, memory, &mut header) {
        Ok(task) => Trigger::Task { id: task.id, vtable: task.vtable },
        Err(why) => Trigger::OfType { vtables: poll.vtables.clone(), why },
    };
    Told { trigger, header }
}

/// The frame of a poll.
struct PollFrame<'a> {
    registers: &'a Registers,
    /// The stack pointer of the innermost frame.
    innermost: ProcAddr,
    end: ProcAddr,
    stack: &'a StackCopy,
}

impl PollFrame<'_> {
    /// The task, and in `header` where it is or was, if that is known.
    fn task(
        &self,
        poll: &Poll,
        habits: &mut Habits,
        memory: &mut impl Memory,
        header: &mut Option<ProcAddr>,
    ) -> Result<CellWords, Untold> {
        let mut is_of_type =
            |header: u64| memory.task(ProcAddr(header)).filter(|task| poll.vtables.contains(&task.vtable));
        let kept: Vec<u64> = Kept::ALL.into_iter().filter_map(|register| self.registers.get(register)).collect();
        let own: Vec<u64> = self.stack.words(self.registers.sp, self.end).map(|(_, word)| word).collect();
        let held = distinct(kept.iter().chain(&own).copied().filter(|word| self.could_be_header(*word, poll)));
        let held: Vec<(u64, CellWords)> = held.into_iter().filter_map(|word| Some((word, is_of_type(word)?))).collect();

        let wakers = self.wakers(poll, habits, memory);
        let among = |words: &[u64]| {
            let mut both = wakers.iter().filter(|header| words.contains(header));
            both.next().copied().filter(|_| both.next().is_none())
        };
        let waker = match wakers[..] {
            // One that the poll itself does not hold was left by somebody else's.
            [only] if kept.contains(&only) || own.contains(&only) => {
                habits.learn(self, only);
                Some(only)
            }
            _ => habits.header(self),
        };
        let waker = match wakers[..] {
            _ if waker.is_some() => waker,
            [] | [_] => None,
            // The poll that made the waker goes on to hold the header; a clone of another's waker is not held so.
            _ => Some(among(&kept).or_else(|| among(&own)).ok_or(Untold::Several)?),
        };
        match (waker, &held[..]) {
            (Some(at), _) => {
                *header = Some(ProcAddr(at));
                let task = memory.task(ProcAddr(at)).filter(|task| poll.vtables.contains(&task.vtable));
                task.ok_or(Untold::Gone)
            }
            (None, [(at, task)]) if task.state.is_running() => {
                *header = Some(ProcAddr(*at));
                Ok(*task)
            }
            (None, [] | [_]) => Err(Untold::NotFound),
            (None, _) => Err(Untold::Several),
        }
    }

    /// What stands beside a task's table of waker functions, from the innermost frame up to the end of the poll's: the poll
    /// may have called another function to make it.
    fn wakers(&self, poll: &Poll, habits: &mut Habits, memory: &mut impl Memory) -> Vec<u64> {
        let words: Vec<(ProcAddr, u64)> = self.stack.words(self.innermost, self.end).collect();
        let mut found = Vec::new();
        for pair in words.windows(2) {
            let (at, pair) = (pair[0].0, [pair[0].1, pair[1].1]);
            for (table, header, side) in [(pair[0], pair[1], Side::Behind), (pair[1], pair[0], Side::Before)] {
                let table = ProcAddr(table);
                if self.could_be_header(header, poll) && memory.is_waker_table(table) {
                    found.push(((table, side), header, at));
                }
            }
        }
        for (of, header, _) in &found {
            let room = habits.tables.len() < MOST_TABLES && !habits.tables.contains(of);
            if room && memory.task(ProcAddr(*header)).is_some() {
                habits.tables.push(*of);
            }
        }
        // Until a task was seen beside one, any may be theirs.
        let any = !found.iter().any(|(of, ..)| habits.tables.contains(of));
        found.retain(|(of, ..)| any || habits.tables.contains(of));
        // `core::task::Context` begins with the waker's address, twice: the waker in use, not one left from before.
        let is_in_use = |at: &ProcAddr| words.windows(2).any(|pair| pair[0].1 == at.0 && pair[1].1 == at.0);
        if found.iter().any(|(.., at)| is_in_use(at)) {
            found.retain(|(.., at)| is_in_use(at));
        }
        distinct(found.into_iter().map(|(_, header, _)| header))
    }

    /// An address in user space, not in the first page, that is none of this stack's and is aligned as headers are.
    fn could_be_header(&self, word: u64, poll: &Poll) -> bool {
        let on_stack =
            (self.innermost.0..self.stack.from.0.saturating_add(self.stack.bytes.len() as u64)).contains(&word);
        (0x1000..1 << 47).contains(&word) && word.is_multiple_of(poll.align.max(1).into()) && !on_stack
    }
}

impl Habits {
    /// This header is the one of the poll whose frame this is: it is kept at one of the places where it stands.
    fn learn(&mut self, frame: &PollFrame<'_>, header: u64) {
        let registers = Kept::ALL.into_iter().filter(|register| frame.registers.get(*register) == Some(header));
        let words = frame.stack.words(frame.registers.sp, frame.end).filter(|(_, word)| *word == header);
        let words = words.map(|(at, _)| Keeping::Word(at.0 - frame.registers.sp.0));
        let stands: Vec<Keeping> = registers.map(Keeping::Register).chain(words).collect();
        let room = self.kept.len() < MOST_HABITS;
        match self.kept.get_mut(&frame.registers.ip) {
            Some(known) => known.retain(|keeping| stands.contains(keeping)),
            None if room => drop(self.kept.insert(frame.registers.ip, stands)),
            None => {}
        }
    }

    /// The header that stands in all places where it may be kept: the right one is among them.
    fn header(&self, frame: &PollFrame<'_>) -> Option<u64> {
        let mut values = self.kept.get(&frame.registers.ip)?.iter().map(|keeping| match keeping {
            Keeping::Register(register) => frame.registers.get(*register),
            Keeping::Word(offset) => {
                frame.registers.sp.0.checked_add(*offset).and_then(|at| frame.stack.word(ProcAddr(at)))
            }
        });
        let first = values.next()??;
        values.all(|value| value == Some(first)).then_some(first)
    }
}

fn distinct(words: impl IntoIterator<Item = u64>) -> Vec<u64> {
    let mut words: Vec<u64> = words.into_iter().collect();
    words.sort_unstable();
    words.dedup();
    words
}

#[cfg(test)]
mod tests {
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
        let mut told =
            |rbx, words: &[u64]| trigger(&unwound(rbx), &copy(words), &polls, &mut habits, &mut known()).trigger;
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
}
