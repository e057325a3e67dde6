//! How threads wake the event loop: a byte into a socket that it watches.
//!
//! Does not know why anybody is woken.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;

/// Rung by threads.
#[derive(Debug)]
pub(super) struct Bell(UnixStream);

/// Where it is heard.
#[derive(Debug)]
pub(super) struct Ear(UnixStream);

/// A bell, and where it is heard.
pub(super) fn hang() -> io::Result<(Bell, Ear)> {
    let (bell, ear) = UnixStream::pair()?;
    bell.set_nonblocking(true)?;
    ear.set_nonblocking(true)?;
    Ok((Bell(bell), Ear(ear)))
}

impl Bell {
    /// Wakes the loop. Where the socket is full it is awake already, or about to be; where the loop is gone nobody listens.
    pub(super) fn ring(&self) {
        let _ = (&self.0).write(&[1]);
    }

    /// Another that rings at the same place.
    pub(super) fn another(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }
}

impl Ear {
    /// Forgets who has rung up to now.
    pub(super) fn hush(&self) {
        let mut heard = [0; 64];
        while matches!((&self.0).read(&mut heard), Ok(length) if length == heard.len()) {}
    }

    /// What becomes readable when somebody rings.
    pub(super) fn socket(&self) -> &UnixStream {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_rings_often_neither_waits_nor_is_heard_for_ever() {
        let (bell, ear) = hang().unwrap();
        let other = bell.another().unwrap();
        (0..100_000).for_each(|_| bell.ring());
        other.ring();
        ear.hush();
        let nothing = (&ear.0).read(&mut [0; 1]).unwrap_err();
        assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
    }
}
