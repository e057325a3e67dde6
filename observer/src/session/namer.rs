//! Reads what the calls of stacks are called, in the background: a large image takes seconds, and a ring is full long before.
//!
//! Does not know: whose stacks they are.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::model::{Caller, Pid, ProcAddr, StackId};
use crate::target::Process;

use super::debug_files::Names;
use super::spawns::code::Code;

/// So many files are kept open. Those of more processes are looked up when their stacks are to be named, if they are still there.
const MOST_OPEN: usize = 256;

/// The thread that reads, and what it was asked.
pub(super) struct Namer {
    asks: Option<Sender<Ask>>,
    answers: Receiver<Named>,
    /// Not waited for: it may be amid a large image when nobody wants to know any more.
    _thread: JoinHandle<()>,
}

struct Ask {
    process: Arc<Process>,
    /// `None` where only the process is to be known, for what will be asked when it may be gone.
    stack: Option<(StackId, Vec<ProcAddr>)>,
}

/// The calls of a stack, innermost first.
pub(super) struct Named {
    pub(super) stack: StackId,
    pub(super) callers: Vec<Caller>,
}

impl Namer {
    /// Begins to wait for questions.
    pub(super) fn begin(names: Names) -> io::Result<Self> {
        let (asks, questions) = channel::<Ask>();
        let (replies, answers) = channel();
        let thread = std::thread::Builder::new().name("stacks".to_owned()).spawn(move || {
            let mut codes: HashMap<Pid, Code> = HashMap::new();
            let mut left = MOST_OPEN;
            while let Ok(first) = questions.recv() {
                // What has come meanwhile is named together: to read an image takes long, and each is read once for all.
                let mut asked: HashMap<Pid, Vec<Ask>> = HashMap::new();
                for ask in std::iter::once(first).chain(questions.try_iter()) {
                    asked.entry(ask.process.pid()).or_default().push(ask);
                }
                for (pid, asks) in asked {
                    let process = Arc::clone(&asks[0].process);
                    let code = codes.entry(pid).or_insert_with(|| Code::new(process, names.clone()));
                    code.look_anew();
                    if asks.iter().any(|ask| ask.stack.is_none()) {
                        left -= code.open(left);
                    }
                    let asked: Vec<_> = asks.iter().filter_map(|ask| ask.stack.as_ref()).collect();
                    let stacks: Vec<&[ProcAddr]> = asked.iter().map(|(_, addresses)| &addresses[..]).collect();
                    for ((stack, _), callers) in asked.iter().zip(code.callers_of(&stacks)) {
                        if replies.send(Named { stack: *stack, callers }).is_err() {
                            return;
                        }
                    }
                }
            }
        })?;
        Ok(Self { asks: Some(asks), answers, _thread: thread })
    }

    /// Stacks of this process will be asked for.
    pub(super) fn know(&mut self, process: Arc<Process>) {
        self.send(Ask { process, stack: None });
    }

    /// Asks what the calls of a stack are called.
    pub(super) fn ask(&mut self, stack: StackId, process: Arc<Process>, addresses: Vec<ProcAddr>) {
        self.send(Ask { process, stack: Some((stack, addresses)) });
    }

    fn send(&mut self, ask: Ask) {
        if let Some(asks) = &self.asks {
            // It has ended only if it panicked: then stacks stay without names, which is what is said of them at the end.
            let _ = asks.send(ask);
        }
    }

    /// What it has found since the last time.
    pub(super) fn named(&mut self) -> Vec<Named> {
        self.answers.try_iter().collect()
    }

    /// The rest of what was asked, as far as it comes in this time. Nothing is to be asked after it.
    pub(super) fn rest(&mut self, patience: Duration) -> Vec<Named> {
        self.asks = None;
        let until = Instant::now() + patience;
        // With no more questions the thread ends when it has answered those that it has.
        let next = || self.answers.recv_timeout(until.saturating_duration_since(Instant::now())).ok();
        std::iter::from_fn(next).collect()
    }
}
