//! What the loop waits for: records that were read, room for output, the next tick, a signal, the end of the targets.

use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep_until};

use crate::target::Process;

use super::asked::AskedToEnd;
use super::bell::Ear;
use super::horizon::Horizon;
use super::stream::TICK;

/// Why the loop woke up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Woken {
    /// Time to look at the rings: by the clock, because one has filled up, because more can be put in order, or written.
    Look,
    /// SIGUSR1: somebody asks what observing costs.
    Asked,
    /// One that asks to end.
    Signal,
    /// All targets have ended.
    Exited,
    /// The wanted time is over.
    Over,
}

/// All that can wake the loop.
pub(super) struct Watch {
    /// Somebody rings: records were read, or there is room for what is to be written.
    ear: (Ear, AsyncFd<OwnedFd>),
    /// `None` where no target's end ends the session.
    alive: Option<Vec<AsyncFd<OwnedFd>>>,
    tick: Interval,
    horizon: Horizon,
    asked: AskedToEnd,
    ask: Signal,
    until: Option<Instant>,
}

/// A duplicate of the descriptor, registered with the event loop.
fn readable(fd: BorrowedFd<'_>) -> io::Result<AsyncFd<OwnedFd>> {
    let own = fd.try_clone_to_owned()?;
    #[expect(deprecated, reason = "sound for an OwnedFd, which never changes its descriptor; the successor is unsafe")]
    AsyncFd::with_interest(own, Interest::READABLE)
}

impl Watch {
    /// Must be called inside the event loop.
    pub(super) fn new(ear: Ear, targets: Option<&[Arc<Process>]>, until: Option<Instant>) -> io::Result<Self> {
        let heard = readable(ear.socket().as_fd())?;
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self {
            ear: (ear, heard),
            alive: targets
                .map(|targets| targets.iter().map(|target| readable(target.as_fd())).collect::<io::Result<_>>())
                .transpose()?,
            tick,
            horizon: Horizon::new(),
            asked: AskedToEnd::new()?,
            ask: signal(SignalKind::user_defined1())?,
            until,
        })
    }

    /// Waits for the next of them. With `more` to be done nothing is waited for: only whether it is time to end, or somebody asks.
    pub(super) async fn next(&mut self, more: bool) -> Woken {
        let Self { ear, alive, tick, horizon, asked, ask, until } = self;
        if more {
            // Signals and the clock are heard while this program does nothing else.
            tokio::task::yield_now().await;
        }
        tokio::select! {
            biased;
            () = asked.heard() => Woken::Signal,
            _ = ask.recv() => Woken::Asked,
            () = poll_fn(|cx| ended(alive, cx)) => Woken::Exited,
            () = over(*until) => Woken::Over,
            () = std::future::ready(()), if more => Woken::Look,
            // Before who rings, which a busy program makes somebody do all the time.
            () = horizon.answered() => Woken::Look,
            () = poll_fn(|cx| rung(ear, cx)) => Woken::Look,
            _ = tick.tick() => Woken::Look,
        }
    }

    /// Waits for the next tick, or somebody who rings, or a signal: whether it is one that asks to end.
    pub(super) async fn is_asked_to_end(&mut self) -> bool {
        let Self { ear, tick, asked, .. } = self;
        tokio::select! {
            biased;
            () = asked.heard() => true,
            () = poll_fn(|cx| rung(ear, cx)) => false,
            _ = tick.tick() => false,
        }
    }

    /// Up to when everything has been written.
    pub(super) fn horizon(&mut self) -> &mut Horizon {
        &mut self.horizon
    }
}

async fn over(until: Option<Instant>) {
    match until {
        Some(until) => sleep_until(until).await,
        None => std::future::pending().await,
    }
}

/// Ready when every target's pidfd says that it has ended.
fn ended(alive: &mut Option<Vec<AsyncFd<OwnedFd>>>, cx: &mut Context<'_>) -> Poll<()> {
    let Some(alive) = alive else { return Poll::Pending };
    // A pidfd stays readable: whoever is ready has ended, and need not be asked again. One that cannot be asked any
    // more counts as ended rather than holding the session for ever.
    alive.retain(|pidfd| pidfd.poll_read_ready(cx).is_pending());
    if alive.is_empty() { Poll::Ready(()) } else { Poll::Pending }
}

/// Ready when somebody has rung since the last time.
fn rung((ear, heard): &(Ear, AsyncFd<OwnedFd>), cx: &mut Context<'_>) -> Poll<()> {
    let Poll::Ready(Ok(mut guard)) = heard.poll_read_ready(cx) else { return Poll::Pending };
    // Before it is hushed: who rings in between is heard again.
    guard.clear_ready();
    ear.hush();
    Poll::Ready(())
}
