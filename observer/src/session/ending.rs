//! How a stream ends: its last words, their way to the reader, and what becomes of a program that was launched.
//!
//! Does not know why it ends, nor what is taken out of the targets.

use crate::model::Ns;
use crate::sink::{End, EndReason, Overhead, TierTime};
use crate::target::{Running, monotonic_now};

use super::error::SessionError;
use super::outlet::Left as Unwritten;
use super::stream::Stream;
use super::watch::Watch;

/// For how long somebody who was asked to end waits for a reader who takes nothing.
const PATIENCE: Ns = Ns(2_000_000_000);

/// Says the end.
pub(super) fn finish(
    stream: &mut Stream,
    reason: EndReason,
    (detaching, detach): (Ns, Ns),
    (overhead, tiers): (Overhead, Vec<TierTime>),
    say: &dyn Fn(u8, &str),
) -> Result<(), SessionError> {
    let (totals, malformed) = stream.totals();
    if let Some(reason) = malformed {
        say(1, &format!("{} records could not be understood; the first: {reason}", totals.malformed));
    }
    let stacks = stream.stacks().map(|stacks| stacks.counts()).transpose()?;
    let (sink, out) = stream.sink();
    let end = End { at: detaching, reason, totals, detach, overhead, tiers, stacks };
    sink.end(&end, out).and_then(|()| out.flush()).map_err(SessionError::Output)
}

/// Waits until all is written. Somebody who is asked to end gives up on a reader who takes nothing for a while, and who is asked
/// once more at once.
pub(super) async fn written(stream: &Stream, watch: &mut Watch, asked: bool) -> Result<(), SessionError> {
    let (mut asked, mut taken, mut since) = (asked, 0, monotonic_now());
    loop {
        let Unwritten { unwritten, written } = stream.unwritten().map_err(SessionError::Output)?;
        if unwritten == 0 {
            return Ok(());
        }
        let now = monotonic_now();
        if written > taken {
            (taken, since) = (written, now);
        }
        let again = watch.is_asked_to_end().await;
        if asked && (again || now.since(since) >= PATIENCE) {
            return Err(SessionError::Unread { bytes: unwritten });
        }
        if again {
            (asked, since) = (true, now);
        }
    }
}

/// A program that we launched outlives the observation; if it has ended already, its status is fetched.
pub(super) fn outlive(running: Option<Running>, say: &dyn Fn(u8, &str)) {
    let Some(mut running) = running else { return };
    match running.try_status() {
        Ok(Some(status)) if status.success() => {}
        Ok(Some(status)) => say(1, &format!("the program ended with {status}")),
        Ok(None) => say(1, "the program goes on, unobserved"),
        Err(error) => say(1, &format!("the program's status is not known: {error}")),
    }
}
