//! Up to which moment everything has been written, so that it can be put in order without waiting for a fixed time.
//!
//! Does not know what is written.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;

use tokio::task::JoinHandle;

use crate::attach::wait_for_programs;
use crate::model::Ns;
use crate::target::monotonic_now;

/// Asks the kernel, one question at a time.
#[derive(Debug)]
pub(super) struct Horizon {
    asked: Option<JoinHandle<io::Result<Ns>>>,
    written: Ns,
    /// Whether the kernel tells.
    is_told: bool,
}

impl Horizon {
    pub(super) fn new() -> Self {
        Self { asked: None, written: Ns(0), is_told: true }
    }

    /// What has an earlier time than this is in the rings by now, or waits to be sent.
    pub(super) fn written(&self) -> Ns {
        self.written
    }

    /// Asks for the present moment. Must be called inside the event loop.
    pub(super) fn ask(&mut self) {
        if self.asked.is_none() && self.is_told {
            self.asked = Some(tokio::task::spawn_blocking(|| {
                let now = monotonic_now();
                wait_for_programs().map(|()| now.before(1))
            }));
        }
    }

    /// Waits for the answer; for ever, where nothing was asked.
    pub(super) async fn answered(&mut self) {
        let Some(asked) = &mut self.asked else { return std::future::pending().await };
        let answer = poll_fn(|cx| Pin::new(&mut *asked).poll(cx)).await;
        self.asked = None;
        match answer {
            Ok(Ok(written)) => self.written = written,
            // It would be the same the next time: then all waits for as long as a program may take.
            Ok(Err(_)) | Err(_) => self.is_told = false,
        }
    }
}
