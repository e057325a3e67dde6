//! Looks at images in the background, one after the other, the smallest first, so that events go on meanwhile.
//!
//! Does not know: what is attached because of it.

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::JoinHandle;

use crate::model::{FileId, Missing, Pid, ProcAddr};
use crate::target::{Module, Process, TargetError};

use super::error::SessionError;
use super::images::{Images, Looked};
use super::{Caching, Names};

/// The thread that looks, and what it was asked.
pub(super) struct Analyst {
    asks: Option<Sender<Ask>>,
    answers: Receiver<Answer>,
    thread: Option<JoinHandle<()>>,
    open: usize,
}

/// A file that a process runs code of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ask {
    /// As the asker knows it.
    pub(super) file: FileId,
    pub(super) pid: Pid,
    /// Where code of it is mapped.
    pub(super) at: ProcAddr,
}

/// What it holds.
pub(super) struct Answer {
    pub(super) ask: Ask,
    pub(super) found: Result<Found, SessionError>,
}

/// A file that was looked at.
pub(super) struct Found {
    /// As the process's own mappings name it, which on some file systems is not what the asker knows.
    pub(super) file: FileId,
    pub(super) path: String,
    pub(super) looked: Looked,
    /// The very file, held open.
    pub(super) opened: File,
    pub(super) missing: Vec<Missing>,
}

impl Analyst {
    /// Begins to wait for questions.
    pub(super) fn begin(names: Names, caching: Caching, verbosity: u8) -> std::io::Result<Self> {
        let (asks, questions) = channel::<Ask>();
        let (replies, answers) = channel();
        let thread = std::thread::Builder::new().name("images".to_owned()).spawn(move || {
            let say = super::progress(verbosity);
            let mut images = Images::new(names, &caching, &say);
            let mut waiting = Waiting::default();
            while let Some(next) = waiting.next(&questions) {
                let answer = match next {
                    Next::Look(located) => located.look(&mut images),
                    Next::NotFound(answer) => *answer,
                };
                if replies.send(answer).is_err() {
                    break;
                }
            }
        })?;
        Ok(Self { asks: Some(asks), answers, thread: Some(thread), open: 0 })
    }

    /// Asks what a file holds.
    pub(super) fn ask(&mut self, ask: Ask) {
        // It has ended only if it panicked: then nothing new is observed, which the summary shows.
        if self.asks.as_ref().is_some_and(|asks| asks.send(ask).is_ok()) {
            self.open += 1;
        }
    }

    /// An answer, if there is one.
    pub(super) fn answer(&mut self) -> Option<Answer> {
        let answer = self.answers.try_recv().ok()?;
        self.open -= 1;
        Some(answer)
    }

    /// Questions that are not answered yet.
    pub(super) fn open(&self) -> usize {
        self.open
    }
}

impl Drop for Analyst {
    fn drop(&mut self) {
        // It ends after the image that it is looking at: nobody waits for that.
        self.asks = None;
        self.thread = None;
    }
}

/// Files that are found and wait to be looked at: the smallest first, so that one large library of no interest does not
/// keep everything else waiting.
#[derive(Default)]
struct Waiting(BTreeMap<(u64, u64), Located>, u64);

/// What is next.
enum Next {
    Look(Located),
    NotFound(Box<Answer>),
}

/// A file that was found and not looked at yet.
struct Located {
    ask: Ask,
    module: Module,
    opened: File,
}

impl Waiting {
    /// The next one, or why a file could not be found; `None` when nobody asks any more.
    fn next(&mut self, questions: &Receiver<Ask>) -> Option<Next> {
        loop {
            let ask = match questions.try_recv() {
                Ok(ask) => ask,
                Err(_) if !self.0.is_empty() => return self.0.pop_first().map(|(_, located)| Next::Look(located)),
                Err(TryRecvError::Disconnected) => return None,
                Err(TryRecvError::Empty) => questions.recv().ok()?,
            };
            match Located::find(ask) {
                Ok((size, located)) => {
                    self.1 += 1;
                    self.0.insert((size, self.1), located);
                }
                Err(error) => return Some(Next::NotFound(Box::new(Answer { ask, found: Err(error) }))),
            }
        }
    }
}

impl Located {
    fn find(ask: Ask) -> Result<(u64, Self), SessionError> {
        let process = Process::open(ask.pid)?;
        let covers = |module: &Module| {
            module.mappings.iter().any(|mapping| mapping.permissions.execute && mapping.range.contains(ask.at))
        };
        let module = process.modules()?.into_iter().find(covers).ok_or(TargetError::Vanished { pid: ask.pid })?;
        let opened = module.file()?;
        // Only the order depends on it.
        let size = opened.metadata().map_or(u64::MAX, |about| about.len());
        Ok((size, Self { ask, module, opened }))
    }

    fn look(self, images: &mut Images<'_>) -> Answer {
        let Self { ask, module, opened } = self;
        let mut missing = Vec::new();
        let found = images.of_module(&module, &mut missing).map(|looked| {
            let (file, path) = (module.file, module.path);
            Found { file, path, looked, opened, missing }
        });
        Answer { ask, found }
    }
}
