//! A line on the terminal that says how far long work has come. Nothing where standard error is no terminal.

use std::io::{IsTerminal as _, Write as _};

/// The line. Dropping it takes it away.
pub(super) struct Meter {
    shown: bool,
    wanted: bool,
}

impl Meter {
    /// `verbosity` is that of diagnostics: 0 shows nothing.
    pub(super) fn new(verbosity: u8) -> Self {
        Self { shown: false, wanted: verbosity > 0 && std::io::stderr().is_terminal() }
    }

    /// So much of all is done.
    pub(super) fn show(&mut self, done: usize, all: usize, what: &str) {
        if self.wanted {
            self.shown = true;
            // A terminal that takes nothing has nobody who reads it.
            let _ = write!(std::io::stderr(), "\r\x1b[Kasync-observer: {done} of {all} {what}");
        }
    }

    /// Takes the line away, so that others can be written.
    pub(super) fn clear(&mut self) {
        if std::mem::take(&mut self.shown) {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

/// How far looking at the machine's images has come.
pub(super) struct Round {
    meter: Meter,
    looked: usize,
    carrying: usize,
    over: bool,
}

impl Round {
    pub(super) fn new(verbosity: u8) -> Self {
        Self { meter: Meter::new(verbosity), looked: 0, carrying: 0, over: false }
    }

    /// One more was looked at.
    pub(super) fn looked(&mut self) {
        self.looked += 1;
    }

    /// And carries a runtime.
    pub(super) fn carries(&mut self) {
        self.carrying += 1;
    }

    /// Shows it while so many wait to be looked at; says the sum once, when none does.
    pub(super) fn tell(&mut self, waiting: usize, say: &dyn Fn(u8, &str)) {
        let Self { meter, looked, carrying, over } = self;
        if *over || *looked == 0 {
            return;
        }
        if waiting > 0 {
            return meter.show(*looked, *looked + waiting, "images looked at");
        }
        *over = true;
        meter.clear();
        say(1, &format!("{looked} images looked at, {carrying} carry a runtime; new ones are followed"));
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.clear();
    }
}
