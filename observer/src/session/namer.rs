//! Reads what the calls of stacks are called, in the background: a large image takes seconds, and a ring is full long before.
//!
//! Does not know: whose stacks they are.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::model::{Caller, ProcAddr, StackId};
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

enum Ask {
    /// Stacks of it will be asked for when it may be gone.
    Know(Arc<Process>),
    /// What the calls of a stack are called.
    Name(Arc<Process>, StackId, Vec<ProcAddr>),
    /// Nothing more will be asked of it.
    Forget(Arc<Process>),
}

impl Ask {
    fn process(&self) -> &Arc<Process> {
        match self {
            Self::Know(process) | Self::Name(process, ..) | Self::Forget(process) => process,
        }
    }
}

/// What the thread knows of a process.
struct Known {
    code: Code,
    /// Files that are kept open of it.
    open: usize,
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
            // By process as it was asked for: a number may come to be another's.
            let mut codes: HashMap<*const Process, Known> = HashMap::new();
            let mut left = MOST_OPEN;
            while let Ok(first) = questions.recv() {
                // What has come meanwhile is named together: to read an image takes long, and each is read once for all.
                let mut asked: HashMap<*const Process, Vec<Ask>> = HashMap::new();
                for ask in std::iter::once(first).chain(questions.try_iter()) {
                    asked.entry(Arc::as_ptr(ask.process())).or_default().push(ask);
                }
                for (of, asks) in asked {
                    let process = Arc::clone(asks[0].process());
                    let new = || Known { code: Code::new(process, names.clone()), open: 0 };
                    let Known { code, open } = codes.entry(of).or_insert_with(new);
                    code.look_anew();
                    // Also of one that is asked about now: it may be gone before its last image is read.
                    if asks.iter().any(|ask| matches!(ask, Ask::Know(_) | Ask::Name(..))) {
                        let opened = code.open(left);
                        (*open, left) = (*open + opened, left - opened);
                    }
                    let asked = asks.iter().filter_map(|ask| match ask {
                        Ask::Name(_, stack, addresses) => Some((*stack, &addresses[..])),
                        Ask::Know(_) | Ask::Forget(_) => None,
                    });
                    let (asked, stacks): (Vec<StackId>, Vec<&[ProcAddr]>) = asked.unzip();
                    for (stack, callers) in asked.into_iter().zip(code.callers_of(&stacks)) {
                        if replies.send(Named { stack, callers }).is_err() {
                            return;
                        }
                    }
                    if asks.iter().any(|ask| matches!(ask, Ask::Forget(_))) {
                        left += codes.remove(&of).map_or(0, |known| known.open);
                    }
                }
            }
        })?;
        Ok(Self { asks: Some(asks), answers, _thread: thread })
    }

    /// Stacks of this process will be asked for.
    pub(super) fn know(&mut self, process: Arc<Process>) {
        self.send(Ask::Know(process));
    }

    /// Asks what the calls of a stack are called.
    pub(super) fn ask(&mut self, stack: StackId, process: Arc<Process>, addresses: Vec<ProcAddr>) {
        self.send(Ask::Name(process, stack, addresses));
    }

    /// Nothing more will be asked of this process.
    pub(super) fn forget(&mut self, process: Arc<Process>) {
        self.send(Ask::Forget(process));
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
