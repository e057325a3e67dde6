//! Looks at images in the background, one after the other, so that events go on meanwhile.
//!
//! Does not know: what is attached because of it.

use std::fs::File;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use crate::model::{FileId, Missing, Pid, ProcAddr};
use crate::target::{Process, TargetError};

use super::error::SessionError;
use super::images::{Images, Looked};

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
    /// Begins to wait for questions. `images` makes what looks, in its own thread.
    pub(super) fn begin(names: bool, verbosity: u8) -> std::io::Result<Self> {
        let (asks, questions) = channel::<Ask>();
        let (replies, answers) = channel();
        let thread = std::thread::Builder::new().name("images".to_owned()).spawn(move || {
            let say = super::progress(verbosity);
            let mut images = Images::new(names, &say);
            for ask in questions {
                let found = look(ask, &mut images);
                if replies.send(Answer { ask, found }).is_err() {
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

fn look(ask: Ask, images: &mut Images<'_>) -> Result<Found, SessionError> {
    let process = Process::open(ask.pid)?;
    let covers = |module: &crate::target::Module| {
        module.mappings.iter().any(|mapping| mapping.permissions.execute && mapping.range.contains(ask.at))
    };
    let module = process.modules()?.into_iter().find(covers).ok_or(TargetError::Vanished { pid: ask.pid })?;
    let opened = module.open_file()?;
    let mut missing = Vec::new();
    let looked = images.of_module(&module, &mut missing)?;
    Ok(Found { file: module.file, path: module.path, looked, opened, missing })
}
