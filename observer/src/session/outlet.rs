//! Where the stream's bytes leave: a thread writes them, so that a reader who is slow, or does not read, holds up nobody but
//! what is said to him.
//!
//! Does not know what the bytes say. It never waits: who fills it asks whether it is full, and holds back until it is not.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::bell::Bell;

/// Handed over at once: a pipe's whole content.
const PIECE: usize = 64 << 10;

/// Room for so many bytes is kept where none are to be written.
const ROOM: usize = 4 * PIECE;

/// With so many bytes unwritten it is full: more than a quick reader leaves in the time between two looks at it.
const MOST: usize = 4 << 20;

/// Where bytes are put.
pub(super) struct Outlet {
    /// Not handed over yet.
    piece: Vec<u8>,
    way: Way,
}

/// How bytes leave.
enum Way {
    /// At once.
    Direct(Box<dyn Write>),
    /// By a thread.
    Thread(Arc<Shared>),
}

/// What the two sides share.
#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    more: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    /// Handed over and not being written yet.
    waiting: Vec<u8>,
    /// Being written, and how much of that is.
    writing: usize,
    /// Written since the beginning.
    written: u64,
    /// Nothing is written any more, for this reason.
    failed: Option<Failed>,
    /// Who puts bytes in waits for room.
    awaited: bool,
    /// Nothing is put in any more.
    over: bool,
}

/// Why writing failed; an [`io::Error`] cannot be said twice.
#[derive(Clone, Copy, Debug)]
struct Failed {
    code: Option<i32>,
    kind: io::ErrorKind,
}

/// What is left to be written, and what was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Left {
    /// Bytes.
    pub(super) unwritten: u64,
    /// Bytes.
    pub(super) written: u64,
}

impl Outlet {
    /// Into this, at once.
    pub(super) fn direct(out: Box<dyn Write>) -> Self {
        Self { piece: Vec::with_capacity(PIECE), way: Way::Direct(out) }
    }

    /// Into this, by a thread, which rings when there is room again for who found none.
    pub(super) fn begin(out: Box<dyn Write + Send>, bell: Bell) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        // Never joined: it may be in a write that ends only when somebody reads.
        std::thread::Builder::new().name("output".to_owned()).spawn(move || theirs.write_all(out, &bell))?;
        Ok(Self { piece: Vec::with_capacity(PIECE), way: Way::Thread(shared) })
    }

    /// Whether to hold back. If so, it rings as soon as not.
    pub(super) fn is_full(&self) -> bool {
        let Way::Thread(shared) = &self.way else { return false };
        let mut queue = shared.lock();
        queue.awaited = queue.failed.is_none() && queue.unwritten() > MOST;
        queue.awaited
    }

    /// What is left to be written; if anything is, it rings when less is. Fails if writing has.
    pub(super) fn left(&self) -> io::Result<Left> {
        let Way::Thread(shared) = &self.way else { return Ok(Left { unwritten: 0, written: 0 }) };
        let mut queue = shared.lock();
        queue.fails()?;
        queue.awaited = queue.unwritten() > 0;
        Ok(Left { unwritten: (queue.unwritten() + self.piece.len()) as u64, written: queue.written })
    }

    fn hand_over(&mut self) -> io::Result<()> {
        let Self { piece, way } = self;
        match way {
            Way::Direct(out) => out.write_all(piece)?,
            Way::Thread(shared) => {
                let mut queue = shared.lock();
                queue.fails()?;
                queue.waiting.extend_from_slice(piece);
                drop(queue);
                shared.more.notify_one();
            }
        }
        piece.clear();
        Ok(())
    }
}

impl Write for Outlet {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.piece.len() + bytes.len() > PIECE && !self.piece.is_empty() {
            self.hand_over()?;
        }
        self.piece.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    /// Hands over what was put in; it is written soon. Fails if writing has.
    fn flush(&mut self) -> io::Result<()> {
        match &mut self.way {
            _ if !self.piece.is_empty() => self.hand_over()?,
            Way::Thread(shared) => shared.lock().fails()?,
            Way::Direct(_) => {}
        }
        match &mut self.way {
            Way::Direct(out) => out.flush(),
            Way::Thread(_) => Ok(()),
        }
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        if let Way::Thread(shared) = &self.way {
            shared.lock().over = true;
            shared.more.notify_one();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes until nothing comes any more, or writing fails.
    fn write_all(&self, mut out: Box<dyn Write + Send>, bell: &Bell) {
        let mut bytes = Vec::new();
        loop {
            let mut queue = self.lock();
            while queue.waiting.is_empty() && !queue.over {
                queue = self.more.wait(queue).unwrap_or_else(PoisonError::into_inner);
            }
            if queue.waiting.is_empty() {
                return;
            }
            std::mem::swap(&mut queue.waiting, &mut bytes);
            queue.writing = bytes.len();
            drop(queue);
            let failed = bytes.chunks(PIECE).try_for_each(|piece| {
                out.write_all(piece)?;
                self.wrote(piece.len(), bell);
                Ok(())
            });
            if let Err(error) = failed.and_then(|()| out.flush()) {
                self.lock().failed = Some(Failed::of(&error));
                return bell.ring();
            }
            bytes.clear();
            // After a time of plenty its room is given back.
            bytes.shrink_to(ROOM);
        }
    }

    fn wrote(&self, length: usize, bell: &Bell) {
        let mut queue = self.lock();
        queue.writing -= length;
        queue.written += length as u64;
        if queue.awaited && queue.unwritten() <= MOST / 2 {
            queue.awaited = false;
            bell.ring();
        }
    }
}

impl Queue {
    fn unwritten(&self) -> usize {
        self.waiting.len() + self.writing
    }

    fn fails(&self) -> io::Result<()> {
        self.failed.map_or(Ok(()), |failed| Err(failed.error()))
    }
}

impl Failed {
    fn of(error: &io::Error) -> Self {
        Self { code: error.raw_os_error(), kind: error.kind() }
    }

    fn error(self) -> io::Error {
        self.code.map_or_else(|| self.kind.into(), io::Error::from_raw_os_error)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixStream;
    use std::sync::mpsc::{Receiver, channel};

    use super::super::bell::hang;
    use super::*;

    /// Takes a piece when it is told to.
    struct Told(Receiver<io::Result<()>>, UnixStream);

    impl Write for Told {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.recv().unwrap_or(Ok(()))?;
            self.1.write(&bytes[..bytes.len().min(1000)])
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_who_does_not_read_holds_up_nobody_and_gets_all_of_it_when_he_reads() {
        let (bell, ear) = hang().unwrap();
        let (tell, told) = channel();
        let (to, mut from) = UnixStream::pair().unwrap();
        let mut out = Outlet::begin(Box::new(Told(told, to)), bell).unwrap();
        let line: Vec<u8> = (0..100).collect();
        let mut put = 0;
        while !out.is_full() {
            out.write_all(&line).unwrap();
            put += line.len();
        }
        out.flush().unwrap();
        assert_eq!(out.left().unwrap(), Left { unwritten: put as u64, written: 0 });
        assert!((MOST..MOST + 2 * PIECE).contains(&put));
        drop(tell);
        let mut read = vec![0; put];
        from.read_exact(&mut read).unwrap();
        assert!(read.chunks(100).all(|had| had == line), "in order");
        ear.socket().set_nonblocking(false).unwrap();
        ear.socket().read_exact(&mut [0; 1]).unwrap();
        assert!(!out.is_full());
    }

    #[test]
    fn what_writing_failed_with_is_said_at_every_flush_since() {
        let (bell, ear) = hang().unwrap();
        let (tell, told) = channel();
        let (to, _from) = UnixStream::pair().unwrap();
        let mut out = Outlet::begin(Box::new(Told(told, to)), bell).unwrap();
        tell.send(Err(io::Error::from_raw_os_error(libc::ENOSPC))).unwrap();
        out.write_all(b"line\n").unwrap();
        out.flush().unwrap();
        ear.socket().set_nonblocking(false).unwrap();
        ear.socket().read_exact(&mut [0; 1]).unwrap();
        for _ in 0..2 {
            assert_eq!(out.flush().unwrap_err().raw_os_error(), Some(libc::ENOSPC));
        }
        assert!(out.left().is_err() && !out.is_full());
    }
}
