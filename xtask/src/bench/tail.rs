//! What a program writes, read all the time: the lines are counted and the last one is kept. Who reads less than a program writes
//! slows it down, or makes it lose.

use std::io::Read;
use std::thread::JoinHandle;

use anyhow::{Result, anyhow};

/// Enough for a pipe's whole content at a time.
const PIECE: usize = 64 << 10;

/// What was written until the end.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Written {
    /// Whole lines.
    pub(super) lines: u64,
    /// The last of them, without its end.
    pub(super) last: String,
}

/// A thread that reads.
pub(super) struct Tail(JoinHandle<std::io::Result<Written>>);

impl Tail {
    /// Begins to read.
    pub(super) fn of(from: impl Read + Send + 'static) -> Self {
        Self(std::thread::spawn(move || read(from)))
    }

    /// Waits for the end of what is written.
    pub(super) fn end(self) -> Result<Written> {
        Ok(self.0.join().map_err(|_| anyhow!("the reading thread failed"))??)
    }
}

fn read(mut from: impl Read) -> std::io::Result<Written> {
    let (mut piece, mut lines) = (vec![0; PIECE], 0);
    // From the end of the last line but one on.
    let mut kept: Vec<u8> = Vec::new();
    loop {
        let new = match from.read(&mut piece)? {
            0 => break,
            had => &piece[..had],
        };
        let ends = new.iter().filter(|byte| **byte == b'\n').count() as u64;
        lines += ends;
        kept.extend_from_slice(new);
        if ends > 0 {
            let mut ends = kept.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at);
            if let (Some(_), Some(before)) = (ends.next(), ends.next()) {
                kept.drain(..=before);
            }
        }
    }
    let whole = kept.iter().rposition(|byte| *byte == b'\n').unwrap_or(0);
    let start = kept[..whole].iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    Ok(Written { lines, last: String::from_utf8_lossy(&kept[start..whole]).into_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives its text a few bytes at a time.
    struct Slowly(&'static [u8], usize);

    impl Read for Slowly {
        fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
            let some = self.0.len().min(self.1);
            to[..some].copy_from_slice(&self.0[..some]);
            self.0 = &self.0[some..];
            Ok(some)
        }
    }

    #[test]
    fn the_lines_are_counted_and_the_last_is_kept_however_they_come() {
        for piece in 1..20 {
            let written = read(Slowly(b"first\n\nsecond line\nlast\n", piece)).expect("reading memory does not fail");
            assert_eq!(written, Written { lines: 4, last: "last".into() }, "{piece} bytes at a time");
        }
    }

    #[test]
    fn what_has_no_end_is_no_line() {
        let written = read(Slowly(b"whole\ncut of", 4)).expect("reading memory does not fail");
        assert_eq!(written, Written { lines: 1, last: "whole".into() });
        assert_eq!(read(Slowly(b"", 4)).expect("reading memory does not fail"), Written::default());
    }
}
