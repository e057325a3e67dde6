//! Polls that were found to block, until the names of their calls have been read and they can be said.
//!
//! Names are read by a thread of its own: a large image takes seconds, in which the rings would run over. Does not know: how a poll is
//! found to block.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::model::{Caller, Ns, Pid, ProcAddr, Resource, StackId, TaskId, TypeEntry};
use crate::session::Names;
use crate::session::error::SessionError;
use crate::session::namer::{Named, Namer};
use crate::sink::{Blocking, How};
use crate::target::Process;

use super::still::Stuck;
use super::subject::Subject;
use super::types;

/// A task is named as blocking no sooner than so long after the last time.
const AGAIN: Ns = Ns(1_000_000_000);
/// For how long names are waited for at the end.
const PATIENCE: Duration = Duration::from_secs(5);

/// One.
pub(super) struct Blocker {
    at: Ns,
    process: Arc<Process>,
    /// As the process had them: it may be gone when this is said.
    types: Vec<TypeEntry>,
    stuck: Stuck,
    how: How,
}

impl Blocker {
    /// As it is said; `None` where its calls show that it holds nobody up.
    pub(super) fn said<'a>(&'a self, stack: &'a [Caller]) -> Option<Blocking<'a>> {
        // The runtime has handed the thread's other tasks on.
        let mut functions = stack.iter().flat_map(|caller| &caller.functions);
        if functions.any(|function| function.name.contains("block_in_place")) {
            return None;
        }
        let Self { at, process, types, stuck, how } = self;
        let (tid, during) = (stuck.tid, stuck.during);
        Some(Blocking {
            at: *at,
            pid: process.pid(),
            tid,
            types: types.iter().collect(),
            task: self.task(),
            during,
            how: *how,
            stack,
        })
    }

    /// Whether it was found in this process.
    pub(super) fn is_of(&self, subject: &Subject) -> bool {
        Arc::ptr_eq(&self.process, &subject.process)
    }

    fn task(&self) -> Option<TaskId> {
        self.stuck.poll.task.ok().map(|polled| polled.id)
    }
}

/// All of them.
pub(super) struct Blockers {
    namer: Namer,
    /// How many stacks the thread was asked about.
    asked: u32,
    unnamed: HashMap<StackId, Blocker>,
    /// Which tasks were named, and when.
    last: HashMap<(Pid, Vec<ProcAddr>, Option<TaskId>), Ns>,
}

impl Blockers {
    /// None yet.
    pub(super) fn new(names: Names) -> Result<Self, SessionError> {
        let namer = Namer::begin(names);
        let namer = namer.map_err(|source| SessionError::System { what: "start a thread", source })?;
        Ok(Self { namer, asked: 0, unnamed: HashMap::new(), last: HashMap::new() })
    }

    /// One was found. Gives it with its calls, where those are known by now; otherwise they are asked for. Nothing of one that may block,
    /// and of one that was named a moment ago.
    pub(super) fn add(&mut self, subject: &Subject, at: Ns, stuck: Stuck, how: How) -> Option<(Blocker, Vec<Caller>)> {
        let (pid, vtables) = (subject.pid(), &stuck.poll.vtables);
        let types: Vec<TypeEntry> = types(subject, vtables).into_iter().cloned().collect();
        if types.is_empty() || types.iter().any(|entry| entry.task.resource == Resource::Blocking) {
            return None;
        }
        let key = (pid, vtables.clone(), stuck.poll.task.ok().map(|polled| polled.id));
        if self.last.get(&key).is_some_and(|last| at.since(*last) < AGAIN) {
            return None;
        }
        self.last.retain(|_, last| at.since(*last) < AGAIN);
        self.last.insert(key, at);
        let blocker = Blocker { at, process: Arc::clone(&subject.process), types, stuck, how };
        if let Some(callers) = subject.known_callers(&blocker.stuck.addresses) {
            return Some((blocker, callers));
        }
        let stack = StackId(self.asked);
        self.asked = self.asked.wrapping_add(1);
        self.namer.ask(stack, Arc::clone(&subject.process), blocker.stuck.addresses.clone());
        self.unnamed.insert(stack, blocker);
        None
    }

    /// Those whose calls' names have come since the last time, in the order in which they were found.
    pub(super) fn named(&mut self) -> Vec<(Blocker, Vec<Caller>)> {
        let named = self.namer.named();
        self.found_again(named)
    }

    /// The rest, where no more will be found. What could not be named in time has addresses only.
    pub(super) fn rest(&mut self) -> Vec<(Blocker, Vec<Caller>)> {
        let named = if self.unnamed.is_empty() { Vec::new() } else { self.namer.rest(PATIENCE) };
        let mut rest = self.found_again(named);
        let bare = |address: &ProcAddr| Caller { address: *address, image: None, functions: Vec::new() };
        let mut unnamed: Vec<Blocker> = self.unnamed.drain().map(|(_, blocker)| blocker).collect();
        unnamed.sort_by_key(|blocker| blocker.at);
        rest.extend(unnamed.into_iter().map(|blocker| {
            let callers = blocker.stuck.addresses.iter().map(bare).collect();
            (blocker, callers)
        }));
        rest
    }

    /// Nothing more is found in this process.
    pub(super) fn forget(&mut self, process: &Arc<Process>) {
        self.namer.forget(Arc::clone(process));
    }

    fn found_again(&mut self, named: Vec<Named>) -> Vec<(Blocker, Vec<Caller>)> {
        let found =
            named.into_iter().filter_map(|Named { stack, callers }| Some((self.unnamed.remove(&stack)?, callers)));
        found.collect()
    }
}
