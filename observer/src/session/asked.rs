//! The signals that ask a run to end: SIGINT, SIGTERM, and SIGHUP, which a terminal that closes sends, unless whoever began us had it
//! ignored, as `nohup` does.
//!
//! Does not know: what is done then.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::target::ignores_hangups;

/// Hears them.
pub(super) struct AskedToEnd {
    interrupt: Signal,
    terminate: Signal,
    hangup: Option<Signal>,
}

impl AskedToEnd {
    /// Must be called inside the event loop.
    pub(super) fn new() -> io::Result<Self> {
        let hangup = if ignores_hangups() { None } else { Some(signal(SignalKind::hangup())?) };
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())?, hangup })
    }

    /// Waits for the next of them.
    pub(super) async fn heard(&mut self) {
        let Self { interrupt, terminate, hangup } = self;
        let hung_up = async {
            match hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hung_up => {}
        }
    }
}
