//! When the next reading is due, and what may come before it: a signal, or the end of the wanted time.

use std::io;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::asked::AskedToEnd;
use super::error::SessionError;

/// It is time to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Interrupted {
    /// A signal.
    Signal,
    /// The wanted time is over.
    Over,
}

/// What can end a run early.
pub(super) struct Pace {
    asked: AskedToEnd,
    until: Option<Instant>,
    /// Who hears it is not always who ends the run: it is heard once, and holds from then on.
    heard: Option<Interrupted>,
}

impl Pace {
    /// Must be called inside the event loop.
    pub(super) fn new(duration: Option<Duration>) -> io::Result<Self> {
        Ok(Self { asked: AskedToEnd::new()?, until: duration.map(|duration| Instant::now() + duration), heard: None })
    }

    /// Waits until then.
    pub(super) async fn rest(&mut self, then: Instant) -> Result<(), Interrupted> {
        tokio::select! {
            biased;
            why = self.interrupted() => Err(why),
            () = sleep_until(then) => Ok(()),
        }
    }

    /// Has it done on a thread of its own; gives up waiting for it when it is time to end.
    pub(super) async fn work<T: Send + 'static>(
        &mut self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<Result<T, SessionError>, Interrupted> {
        let running = tokio::task::spawn_blocking(job);
        tokio::select! {
            biased;
            why = self.interrupted() => Err(why),
            done = running => Ok(done.map_err(|error| SessionError::System {
                what: "read the process's memory",
                source: io::Error::other(error),
            })),
        }
    }

    async fn interrupted(&mut self) -> Interrupted {
        if let Some(heard) = self.heard {
            return heard;
        }
        let until = self.until;
        let over = async {
            match until {
                Some(until) => sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        let heard = tokio::select! {
            () = self.asked.heard() => Interrupted::Signal,
            () = over => Interrupted::Over,
        };
        self.heard = Some(heard);
        heard
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_signal_that_one_piece_of_work_has_heard_ends_the_next_too() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut pace = Pace::new(None).unwrap();
            let told = Command::new("kill").args(["-INT", &std::process::id().to_string()]).status().unwrap();
            assert!(told.success());
            let later = Instant::now() + Duration::from_secs(20);
            assert!(matches!(pace.rest(later).await, Err(Interrupted::Signal)));
            assert!(matches!(pace.rest(later).await, Err(Interrupted::Signal)));
        });
    }
}
