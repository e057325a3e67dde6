//! One entry of a ring, by its kind.
//!
//! The layout mirrors `enum perf_event_type` in Linux's `include/uapi/linux/perf_event.h`. Does not know: what the
//! entry of a kind says, but for those that every ring has.

/// What every entry begins with, `struct perf_event_header`: kind (4 bytes), misc (2), size (2).
pub(super) const HEADER: usize = 8;
/// Programs write whole 8-byte words; the kernel puts a 4-byte length before them and pads the sum to 8 bytes.
const RECORD_ALIGN: usize = 8;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `PERF_RECORD_MMAP2`: a process mapped something.
    Mmap2,
    /// `PERF_RECORD_LOST`: entries had no room.
    Lost,
    /// `PERF_RECORD_COMM`: a thread has a new name.
    Comm,
    /// `PERF_RECORD_EXIT`: a thread ended.
    Exit,
    /// `PERF_RECORD_THROTTLE`: the kernel makes pauses, because the event took too much time.
    Throttle,
    /// `PERF_RECORD_FORK`: a thread began.
    Fork,
    /// `PERF_RECORD_SAMPLE`: the event itself happened; of a program's output, what it wrote.
    Sample,
    /// Another number.
    Other(u32),
}

impl Kind {
    /// By the kernel's number.
    pub fn from_number(number: u32) -> Self {
        match number {
            2 => Self::Lost,
            3 => Self::Comm,
            4 => Self::Exit,
            5 => Self::Throttle,
            7 => Self::Fork,
            9 => Self::Sample,
            10 => Self::Mmap2,
            other => Self::Other(other),
        }
    }
}

/// One entry, borrowed from the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// What it is.
    pub kind: Kind,
    /// Flags of its kind, the header's `misc`.
    pub misc: u16,
    /// All behind the header.
    pub body: &'a [u8],
}

impl<'a> Entry<'a> {
    /// What a program wrote, without the padding; `None` for another kind, or one cut short.
    pub fn written(&self) -> Option<&'a [u8]> {
        let (length, rest) = self.body.split_first_chunk().filter(|_| self.kind == Kind::Sample)?;
        let padded = u32::from_ne_bytes(*length) as usize;
        rest.get(..padded / RECORD_ALIGN * RECORD_ALIGN)
    }

    /// How many entries had no room; `None` for another kind, or one cut short.
    pub fn lost(&self) -> Option<u64> {
        // Behind the event's id.
        let count = self.body.get(8..16).filter(|_| self.kind == Kind::Lost)?;
        Some(u64::from_ne_bytes(count.try_into().ok()?))
    }
}

/// The fields of a header; zeroes for one that is cut short.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Header {
    pub(super) kind: u32,
    pub(super) misc: u16,
    /// Of the whole entry.
    pub(super) size: u16,
}

impl Header {
    /// From an entry's first [`HEADER`] bytes.
    pub(super) fn at(bytes: &[u8]) -> Self {
        match *bytes {
            [a, b, c, d, e, f, g, h, ..] => Self {
                kind: u32::from_ne_bytes([a, b, c, d]),
                misc: u16::from_ne_bytes([e, f]),
                size: u16::from_ne_bytes([g, h]),
            },
            _ => Self::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(kind: Kind, body: &[u8]) -> Entry<'_> {
        Entry { kind, misc: 0, body }
    }

    #[test]
    fn padding_behind_a_record_is_cut_off() {
        let mut body = 52u32.to_ne_bytes().to_vec();
        body.extend([7; 48]);
        body.extend([0; 4]);
        assert_eq!(entry(Kind::Sample, &body).written(), Some(&[7; 48][..]));
        assert_eq!(entry(Kind::Lost, &body).written(), None);
    }

    #[test]
    fn the_count_of_lost_entries_stands_behind_the_events_id() {
        let body: Vec<u8> = [5u64, 7, 9].iter().flat_map(|word| word.to_ne_bytes()).collect();
        assert_eq!(entry(Kind::Lost, &body).lost(), Some(7));
        assert_eq!(entry(Kind::Sample, &body).lost(), None);
    }

    #[test]
    fn an_entry_that_is_shorter_than_it_says_gives_no_record() {
        let mut body = 4000u32.to_ne_bytes().to_vec();
        body.extend([7; 48]);
        assert_eq!(entry(Kind::Sample, &body).written(), None);
        assert_eq!(entry(Kind::Sample, &[1]).written(), None);
        assert_eq!(entry(Kind::Lost, &[0; 8]).lost(), None);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(number in 0u32..20, bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let entry = entry(Kind::from_number(number), &bytes);
            let _ = (entry.written(), entry.lost(), Header::at(&bytes));
        }
    }
}
