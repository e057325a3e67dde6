//! What the loop waits for: a ring filling up, the next tick, a signal, the end of the targets.

use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep_until};

use crate::perf::Ring;
use crate::target::Process;

use super::horizon::Horizon;
use super::stream::TICK;

/// Why the loop woke up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Woken {
    /// Time to look at the rings: by the clock, because a ring is filling up, or because more can be put in order.
    Look,
    /// SIGUSR1: somebody asks what observing costs.
    Asked,
    /// SIGINT or SIGTERM.
    Signal,
    /// All targets have ended.
    Exited,
    /// The wanted time is over.
    Over,
}

/// All that can wake the loop.
pub(super) struct Watch {
    rings: Vec<AsyncFd<OwnedFd>>,
    /// `None` where no target's end ends the session.
    alive: Option<Vec<AsyncFd<OwnedFd>>>,
    tick: Interval,
    horizon: Horizon,
    interrupt: Signal,
    terminate: Signal,
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
    pub(super) fn new(rings: &[Ring], targets: Option<&[Arc<Process>]>, until: Option<Instant>) -> io::Result<Self> {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self {
            rings: rings.iter().map(|ring| readable(ring.as_fd())).collect::<io::Result<_>>()?,
            alive: targets
                .map(|targets| targets.iter().map(|target| readable(target.as_fd())).collect::<io::Result<_>>())
                .transpose()?,
            tick,
            horizon: Horizon::new(),
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            ask: signal(SignalKind::user_defined1())?,
            until,
        })
    }

    /// Waits for the next of them.
    pub(super) async fn next(&mut self) -> Woken {
        let Self { rings, alive, tick, horizon, interrupt, terminate, ask, until } = self;
        tokio::select! {
            biased;
            _ = interrupt.recv() => Woken::Signal,
            _ = terminate.recv() => Woken::Signal,
            _ = ask.recv() => Woken::Asked,
            () = poll_fn(|cx| ended(alive, cx)) => Woken::Exited,
            () = over(*until) => Woken::Over,
            () = poll_fn(|cx| filled(rings, cx)) => Woken::Look,
            () = horizon.answered() => Woken::Look,
            _ = tick.tick() => Woken::Look,
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

/// Ready when a ring has reached its watermark since the last time.
fn filled(rings: &[AsyncFd<OwnedFd>], cx: &mut Context<'_>) -> Poll<()> {
    let mut any = false;
    for ring in rings {
        if let Poll::Ready(Ok(mut guard)) = ring.poll_read_ready(cx) {
            // The loop drains every ring before it waits again.
            guard.clear_ready();
            any = true;
        }
    }
    if any { Poll::Ready(()) } else { Poll::Pending }
}
