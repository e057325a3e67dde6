//! One process that is sampled: from a stack to the poll that is on it, its type and, where the frame tells, its task.
//!
//! Does not know: how often, nor what is made of it.

use std::collections::HashMap;
use std::sync::Arc;

use crate::model::{
    Bias, Caller, CellWords, Kept, Missing, Pid, ProcAddr, Registers, StackCopy, TargetEntry, TaskId, TaskState, Tick,
    Trigger, Untold, UnwindEnd,
};
use crate::session::error::SessionError;
use crate::session::images::Images;
use crate::session::inspect::{LookedAt, look_at};
use crate::session::spawns::code::Code;
use crate::session::spawns::look::{Look, Tables};
use crate::target::{Process, Standing, monotonic_now};
use crate::unwind::{Habits, Memory as _, PollCall, Polls, Told, Unwound, trigger, unwind};

use super::ages::Ages;

/// What a thread was doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Activity {
    pub(super) of: Doing,
    /// Its calls, innermost first.
    pub(super) addresses: Vec<ProcAddr>,
}

/// Whether it was in a poll.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Doing {
    /// In none: the runtime's or other code.
    Outside,
    /// Its stack could not be followed, and no poll is in what is there of it.
    Unknown(NotFollowed),
    /// In a task's.
    In(InPoll),
}

/// Why a stack was not followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum NotFollowed {
    /// The kernel gave no registers.
    NoRegisters,
    /// It ends early.
    Ends(UnwindEnd),
}

/// A poll that was under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct InPoll {
    /// The type, by its vtable in the process; several, where their polls are the same code and the task is not told.
    pub(super) vtables: Vec<ProcAddr>,
    /// Which task, or why that is not told.
    pub(super) task: Result<Polled, Untold>,
    /// The call of the poll: its caller's stack pointer; `None` where the caller is not known.
    pub(super) frame: Option<ProcAddr>,
}

/// A task that was polled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Polled {
    pub(super) id: TaskId,
    pub(super) header: ProcAddr,
}

/// One process.
pub(super) struct Subject {
    pub(super) process: Arc<Process>,
    pub(super) entry: TargetEntry,
    polls: Polls,
    habits: Habits,
    code: Code,
    tables: Tables,
    ages: Ages,
    /// Calls that were named, the innermost of a stack and others: it stands at its address, they return to it.
    named: HashMap<(bool, ProcAddr), Caller>,
}

/// So far into a poll's code its frame may hold what the poll before it left there: a prologue has not stored the header
/// yet.
const PROLOGUE: u64 = 128;
/// Calls whose names are kept at most.
const MOST_NAMED: usize = 1 << 12;

impl Subject {
    /// Looks at the process's images.
    pub(super) fn open(process: Arc<Process>, images: &mut Images<'_>) -> Result<Self, SessionError> {
        let LookedAt { mut entry, polls, .. } = look_at(&process, images)?;
        if !process.counts_arrivals() && !process.has_ended() {
            entry.missing.push(Missing {
                event: "blocking",
                reason: "this kernel does not count how often threads get on a CPU (/proc/PID/task/TID/schedstat), so a poll that waits \
                         is not named: boot one with CONFIG_SCHEDSTATS or CONFIG_SCHED_INFO, or time every poll with `--tier full`"
                    .to_owned(),
            });
        }
        let mut code = Code::new(Arc::clone(&process), images.names().clone());
        // Read now, not when the first samples wait.
        code.read_at(polls.iter().map(|poll| poll.start));
        let (polls, habits, tables, ages) = (Polls::new(polls), Habits::default(), Tables::default(), Ages::default());
        Ok(Self { process, entry, polls, habits, code, tables, ages, named: HashMap::new() })
    }

    pub(super) fn pid(&self) -> Pid {
        self.process.pid()
    }

    /// Whether the other, which is the same program looked at later, has images that this has not.
    pub(super) fn runs_more(&self, later: &Self) -> bool {
        let known = |at: Bias| self.entry.images.iter().any(|mapped| mapped.bias == at);
        !later.entry.images.iter().all(|mapped| known(mapped.bias))
    }

    /// Begins a turn: what was mapped since the last one may be found in this one.
    pub(super) fn look_anew(&mut self) {
        self.code.look_anew();
    }

    /// What a sampled thread was doing. It has gone on since, so memory is believed only as far as what it says now must
    /// have been so then.
    pub(super) fn of_tick(&mut self, tick: &Tick) -> Activity {
        let Some((registers, stack)) = &tick.user else {
            return Activity { of: Doing::Unknown(NotFollowed::NoRegisters), addresses: Vec::new() };
        };
        let unwound = unwind(*registers, stack, |at| self.code.rule_at(at));
        let (mut activity, found) = self.of_unwound(&unwound, stack);
        let Doing::In(poll) = &mut activity.of else { return activity };
        let (Some((task, types)), Ok(polled)) = (found, poll.task) else { return activity };
        let image = self.entry.holder_of(task.vtable).map(|(mapped, _)| mapped.bias);
        let was_there = image.is_some_and(|image| self.ages.was_there(image, polled.id, tick.at));
        if let Some(image) = image {
            self.ages.saw(image, polled.id, monotonic_now());
        }
        if !was_there {
            // It may have been born since, where the one that was polled has ended.
            (poll.task, poll.vtables) = (Err(Untold::Gone), types);
        }
        activity
    }

    /// What a thread is doing that stands still while its stack and memory are looked at, none of whose registers but these is
    /// known.
    pub(super) fn of_standing(&mut self, place: Standing, stack: &StackCopy) -> Activity {
        let registers = Registers { ip: place.ip, sp: place.sp, kept: [None; Kept::ALL.len()] };
        let unwound = unwind(registers, stack, |at| self.code.rule_without_registers_at(at));
        let activity = self.of_unwound(&unwound, stack).0;
        match self.code.are_calls(&activity.addresses[1..]) {
            true => activity,
            false => Activity { of: Doing::Unknown(NotFollowed::Ends(UnwindEnd::Astray)), ..activity },
        }
    }

    /// As memory has it now; with the task that is told, as it is now, and all types whose poll it is.
    fn of_unwound(&mut self, unwound: &Unwound, stack: &StackCopy) -> (Activity, Option<(CellWords, Vec<ProcAddr>)>) {
        let mut look = Look::anywhere(self.process.memory(), &self.entry, &mut self.code, &mut self.tables);
        let Told { trigger, header, poll } = trigger(unwound, stack, &self.polls, &mut self.habits, &mut look);
        let frame = poll.and_then(|poll| poll.returns_to);
        let in_prologue = poll.is_some_and(|PollCall { inside, offset, .. }| inside == 0 && offset < PROLOGUE);
        let types = poll.and_then(|poll| Some(self.polls.at(unwound.place(poll.inside)?)?.vtables.clone()));
        let (types, mut found) = (types.unwrap_or_default(), None);
        let of = match (trigger, header) {
            (Trigger::NoTask, _) => Doing::Outside,
            (Trigger::Unknown(end), _) => Doing::Unknown(NotFollowed::Ends(end)),
            (Trigger::Task { .. }, _) if in_prologue => {
                Doing::In(InPoll { vtables: types, task: Err(Untold::NotFound), frame })
            }
            (Trigger::Task { id, vtable }, Some(header)) => {
                let now = look.task(header).filter(|task| (task.id, task.vtable) == (id, vtable));
                found = now.map(|task| (task, types.clone()));
                let task = found.as_ref().map(|_| Polled { id, header }).ok_or(Untold::Gone);
                let vtables = if task.is_ok() { vec![vtable] } else { types };
                Doing::In(InPoll { vtables, task, frame })
            }
            (Trigger::Task { .. }, None) => Doing::In(InPoll { vtables: types, task: Err(Untold::NotFound), frame }),
            (Trigger::OfType { vtables, why }, _) => Doing::In(InPoll { vtables, task: Err(why), frame }),
        };
        let addresses = unwound.frames.iter().map(|frame| frame.ip).collect();
        (Activity { of, addresses }, found)
    }

    /// Whether the task is there, and runs at each of so many glances.
    pub(super) fn keeps_running(&mut self, polled: Polled, glances: usize) -> bool {
        let mut look = Look::anywhere(self.process.memory(), &self.entry, &mut self.code, &mut self.tables);
        let Some(task) = look.task(polled.header).filter(|task| task.id == polled.id) else { return false };
        let Some(entry) = self.entry.type_at(task.vtable) else { return false };
        let (memory, at) = (self.process.memory(), polled.header.0.saturating_add(entry.task.layout.state.into()));
        (0..glances).all(|_| memory.read_word(ProcAddr(at)).is_ok_and(|state| TaskState(state).is_running()))
    }

    /// The calls with their names, where all were asked for before.
    pub(super) fn known_callers(&self, addresses: &[ProcAddr]) -> Option<Vec<Caller>> {
        addresses.iter().enumerate().map(|(n, at)| self.named.get(&(n == 0, *at)).cloned()).collect()
    }

    /// What the calls of a stack are called.
    pub(super) fn learn(&mut self, callers: &[Caller]) {
        if self.named.len() >= MOST_NAMED {
            self.named.clear();
        }
        self.named.extend(callers.iter().enumerate().map(|(n, caller)| ((n == 0, caller.address), caller.clone())));
    }
}
