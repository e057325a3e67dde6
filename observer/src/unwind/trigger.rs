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
    /// Of the innermost poll, which tells it.
    pub poll: Option<PollCall>,
}

/// One call of a poll, as it stands on a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PollCall {
    /// How many calls are inside it.
    pub inside: usize,
    /// How far into the poll's code it has come.
    pub offset: u64,
    /// Its caller's stack pointer when it returns, which is the same from its first instruction to its last; `None` where
    /// the caller is not known.
    pub returns_to: Option<ProcAddr>,
}

/// Who made the call that these are the callers of.
pub fn trigger(
    unwound: &Unwound,
    stack: &StackCopy,
    polls: &Polls,
    habits: &mut Habits,
    memory: &mut impl Memory,
) -> Told {
    let found = (0..unwound.frames.len()).find_map(|n| Some((n, polls.at(unwound.place(n)?)?)));
    let Some((number, poll)) = found else {
        let trigger = match unwound.end {
            UnwindEnd::Root => Trigger::NoTask,
            end => Trigger::Unknown(end),
        };
        return Told { trigger, header: None, poll: None };
    };
    if poll.worker {
        return Told { trigger: Trigger::NoTask, header: None, poll: None };
    }
    let caller = unwound.frames.get(number + 1).map(|caller| caller.sp);
    let offset = unwound.frames[number].ip.0.saturating_sub(poll.start.0);
    let call = PollCall { inside: number, offset, returns_to: caller };
    let frame = PollFrame {
        registers: &unwound.frames[number],
        innermost: unwound.frames[0].sp,
        // Where its caller is not known, the frame's end is not: then nothing is searched, as too much would be.
        end: caller.unwrap_or(unwound.frames[number].sp),
        stack,
    };
    let mut header = None;
    let trigger = match frame.task(poll, habits, memory, &mut header) {
        Ok(task) => Trigger::Task { id: task.id, vtable: task.vtable },
        Err(why) => Trigger::OfType { vtables: poll.vtables.clone(), why },
    };
    Told { trigger, header, poll: Some(call) }
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
#[path = "trigger_tests.rs"]
mod tests;
