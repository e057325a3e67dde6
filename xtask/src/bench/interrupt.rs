//! Ending a program as ^C does, and not waiting for ever where it does not listen.

use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

/// How long a program may take to end.
const PATIENCE: Duration = Duration::from_secs(30);
/// From one look at it to the next.
const LOOK: Duration = Duration::from_millis(1);

/// Ends it and waits until it has ended.
pub(super) fn interrupt(child: &mut Child) -> Result<()> {
    end(child, "-INT")
}

/// The same for a program that does not listen to ^C itself: where the bench runs in the background, its shell has ^C ignored, and
/// all that it starts with it.
pub(super) fn terminate(child: &mut Child) -> Result<()> {
    end(child, "-TERM")
}

fn end(child: &mut Child, signal: &str) -> Result<()> {
    let pid = child.id().to_string();
    ensure!(Command::new("kill").args([signal, &pid]).status()?.success(), "it had ended before it was told to");
    let began = Instant::now();
    while child.try_wait()?.is_none() {
        ensure!(began.elapsed() < PATIENCE, "it did not end within {} s of being told to", PATIENCE.as_secs());
        std::thread::sleep(LOOK);
    }
    Ok(())
}
