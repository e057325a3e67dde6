//! The stacks that tasks of a stream were spawned through, each joined to its spawner's.
//!
//! Spawns bring their stacks over rings of their own. The birth of a task comes right after the spawn took its id, on the same
//! thread: when a birth is said, its spawn has been read. Does not know: how stacks are unwound, nor how they look.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use crate::attach::Counters;
use crate::model::{
    AsyncId, Before, Beyond, Caller, Event, EventKind, LongStack, LongStackId, Pid, ProcAddr, QuickMap, StackId,
    UnwindEnd,
};
use crate::sink::StackCounts;

use super::error::SessionError;
use super::namer::{Named, Namer};
use super::spawns::{Born, Caps, SpawnCounts, Spawns, Stack};

/// Spawns that wait for their birth: an id that is taken for something else than a task waits for ever.
const MOST_WAITING: usize = 1 << 14;
/// Long stacks of one stream: with their names six kilobytes each, of a deep one.
const MOST_STACKS: usize = 1 << 12;
/// Stacks in one chain.
const LONGEST: u8 = 32;
/// For how long names are waited for at the end.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is kept while the stream goes on.
pub(super) struct LongStacks {
    spawns: Spawns,
    waiting: HashMap<Born, Option<StackId>>,
    /// In the order in which they came; some wait no longer.
    order: VecDeque<Born>,
    /// Of those that live.
    of_task: QuickMap<AsyncId, LongStackId>,
    numbers: HashMap<(StackId, Before), LongStackId>,
    chained: Vec<Chained>,
    /// The calls; `None` while they are being read.
    named: HashMap<StackId, Option<Vec<Caller>>>,
    /// In order: a spawner's number is the smaller one.
    unsaid: Vec<LongStackId>,
    namer: Namer,
    /// Births without a stack.
    without: u64,
}

/// One long stack.
#[derive(Clone, Copy)]
struct Chained {
    pid: Pid,
    stack: StackId,
    end: UnwindEnd,
    before: Before,
    length: u8,
    said: bool,
}

impl LongStacks {
    /// How much is to be kept of spawns: only until their birth is said.
    pub(super) fn caps() -> Caps {
        Caps { tasks: 1, stacks: MOST_STACKS }
    }

    pub(super) fn begin(spawns: Spawns) -> std::io::Result<Self> {
        let mut namer = Namer::begin(spawns.names().clone())?;
        for (target, _) in spawns.catalog().targets() {
            if let Some(process) = spawns.process(target) {
                namer.know(process);
            }
        }
        Ok(Self {
            spawns,
            waiting: HashMap::new(),
            order: VecDeque::new(),
            of_task: QuickMap::default(),
            numbers: HashMap::new(),
            chained: Vec::new(),
            named: HashMap::new(),
            unsaid: Vec::new(),
            namer,
            without: 0,
        })
    }

    /// Takes what spawns have brought since the last time. To be called before births are said.
    pub(super) fn fill(&mut self) {
        for seen in self.spawns.drain() {
            let born = Born { target: seen.target, image: seen.image, task: seen.task };
            if self.waiting.insert(born, seen.stack).is_none() {
                self.order.push_back(born);
            }
        }
        while self.order.len() > MOST_WAITING {
            if let Some(oldest) = self.order.pop_front() {
                self.waiting.remove(&oldest);
            }
        }
    }

    /// What the kernel side has counted.
    pub(super) fn counters(&self) -> Result<Counters, SessionError> {
        self.spawns.counters()
    }

    /// Takes in an event that is said; of a birth, the number of its stack.
    pub(super) fn take(&mut self, event: &Event) -> Option<LongStackId> {
        match &event.kind {
            EventKind::Init { id, trigger, resource, existing: false } => {
                let born = event.pid.zip(resource.type_id.as_ref()).zip(resource.task_id);
                let born = born.and_then(|((pid, of), task)| self.spawns.born_of_type(pid, of, task));
                let stack = born.and_then(|born| self.waiting.remove(&born)).flatten();
                let numbered = stack.zip(event.pid).and_then(|(stack, pid)| self.number(pid, stack, *trigger));
                match numbered {
                    Some(number) => _ = self.of_task.insert(*id, number),
                    None => self.without += 1,
                }
                numbered
            }
            EventKind::Destroy(id) => {
                self.of_task.remove(id);
                None
            }
            _ => None,
        }
    }

    /// A process has ended, and its tasks with it.
    pub(super) fn process_ended(&mut self, pid: Pid) {
        let Self { of_task, chained, .. } = self;
        of_task.retain(|_, number| chained[index(*number)].pid != pid);
    }

    fn number(&mut self, pid: Pid, stack: StackId, trigger: Option<Option<AsyncId>>) -> Option<LongStackId> {
        let spawner = trigger.flatten().and_then(|task| self.of_task.get(&task)).copied();
        let length = spawner.map_or(0, |spawner| self.chained[index(spawner)].length);
        let before = match (trigger, spawner) {
            (None, _) => Before::Nothing(Beyond::NotTold),
            (Some(None), _) => Before::Nothing(Beyond::NoTask),
            (Some(Some(_)), None) => Before::Nothing(Beyond::NotSeen),
            (Some(Some(_)), Some(_)) if length >= LONGEST => Before::Bound,
            (Some(Some(_)), Some(spawner)) => Before::Stack(spawner),
        };
        if let Some(known) = self.numbers.get(&(stack, before)) {
            return Some(*known);
        }
        if self.chained.len() >= MOST_STACKS {
            return None;
        }
        let Stack { target, addresses, end } = self.spawns.stack(stack)?;
        self.chained.push(Chained { pid, stack, end: *end, before, length: length + 1, said: false });
        let id = LongStackId(u32::try_from(self.chained.len()).ok()?);
        self.numbers.insert((stack, before), id);
        self.unsaid.push(id);
        if let Entry::Vacant(free) = self.named.entry(stack) {
            free.insert(None);
            if let Some(process) = self.spawns.process(*target) {
                self.namer.ask(stack, process, addresses.clone());
            }
        }
        Some(id)
    }

    /// Those whose calls have been read since the last time, a spawner's before those that came of it.
    pub(super) fn told(&mut self) -> Vec<LongStack> {
        let named = self.namer.named();
        self.names_came(named);
        self.take_named()
    }

    /// The probes are to go: what they have brought is taken first.
    pub(super) fn detach(&mut self) {
        self.spawns.take_out();
        self.fill();
    }

    /// The rest, where no more births will be said. What could not be named in time has addresses only.
    pub(super) fn rest(&mut self) -> Vec<LongStack> {
        let rest = self.namer.rest(PATIENCE);
        self.names_came(rest);
        let bare = |address: &ProcAddr| Caller { address: *address, image: None, functions: Vec::new() };
        for (stack, callers) in self.named.iter_mut().filter(|(_, callers)| callers.is_none()) {
            *callers = self.spawns.stack(*stack).map(|stack| stack.addresses.iter().map(bare).collect());
        }
        self.take_named()
    }

    /// How many there were of what.
    pub(super) fn counts(&self) -> Result<StackCounts, SessionError> {
        let SpawnCounts { lost, malformed, .. } = self.spawns.counts()?;
        Ok(StackCounts { different: self.chained.len() as u64, without: self.without, lost, malformed })
    }

    fn names_came(&mut self, named: Vec<Named>) {
        self.named.extend(named.into_iter().map(|Named { stack, callers }| (stack, Some(callers))));
    }

    fn take_named(&mut self) -> Vec<LongStack> {
        let Self { unsaid, chained, named, .. } = self;
        let mut told = Vec::new();
        unsaid.retain(|id| {
            let Chained { pid, stack, end, before, .. } = chained[index(*id)];
            let leads_on = !matches!(before, Before::Stack(spawner) if !chained[index(spawner)].said);
            let Some(callers) = named.get(&stack).and_then(Option::as_ref).filter(|_| leads_on) else { return true };
            chained[index(*id)].said = true;
            told.push(LongStack { id: *id, pid, callers: callers.clone(), end, before });
            false
        });
        told
    }
}

/// Where it stands among all.
fn index(id: LongStackId) -> usize {
    id.0 as usize - 1
}
