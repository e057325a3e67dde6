//! Records of whole calls, taken apart into an entry and a return, each with its own time.
//!
//! A call that has not returned has no record: its entry is told from the calls in progress, and left out when the record
//! comes. Does not know what is in a record, save where and when it is of.

use observer_common::{CALL_ENTRY, CALL_WITH_HEAD, Entry, FLAG_UNSAID, HEAD_WORDS, RECORD_BARE, RecordKind};

use super::record::{word, words};
use crate::model::{Ns, QuickMap, QuickSet};

/// Where the words of a record's bare part are that tell a call from others, and an entry from a return.
const TS: usize = 0;
const SP: usize = 2;
const THREADS: usize = 4;
const KINDS: usize = 5;
const FAR: usize = 6;

/// Those whose entry was told.
#[derive(Debug, Default)]
pub struct CallParts {
    told: QuickMap<Begun, Told>,
    /// The look at the calls in progress that is under way.
    look: Option<Look>,
    last_look: Option<Ns>,
}

/// What is kept of one whose entry was told.
#[derive(Clone, Copy, Debug)]
struct Told {
    bare: [u64; RECORD_BARE / 8],
    /// It may be over without a record.
    may_go_unsaid: bool,
}

/// A look at the calls in progress.
#[derive(Debug)]
struct Look {
    at: Ns,
    met: QuickSet<Begun>,
}

/// A call: no thread begins two at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Begun {
    at: u64,
    sp: u64,
    tid: u32,
}

/// A call's record, as far as its entry.
struct Parts<'r> {
    bare: [u64; RECORD_BARE / 8],
    entry: [u64; ENTRY_BARE],
    head: &'r [u8],
}

impl<'r> Parts<'r> {
    fn of(record: &'r [u8]) -> Option<Self> {
        let at = RECORD_BARE + 8 * ENTRY_BARE;
        let head = record.get(at..at + 8 * HEAD_WORDS)?;
        Some(Self { bare: words(record, 0)?, entry: words(record, RECORD_BARE)?, head })
    }

    fn begun(&self) -> Begun {
        Begun { at: self.entry[TS], sp: self.bare[SP], tid: self.bare[THREADS] as u32 }
    }

    /// What a record of the entry alone would be.
    fn entered(&self, each: &mut dyn FnMut(&[u8], &[u8])) {
        let [ts, far, flags] = self.entry;
        let mut entered = self.bare;
        (entered[TS], entered[FAR]) = (ts, far);
        entered[KINDS] = kinds(0, RecordKind::Enter, flags as u16);
        each(&bytes_of(&entered), self.head);
    }
}

impl CallParts {
    /// Gives what the record says, a moment at a time, each in two parts; a record of something else, or one that is too
    /// short, as it is.
    pub fn take_apart(&mut self, record: &[u8], each: &mut dyn FnMut(&[u8], &[u8])) {
        let kind = word(record, 8 * KINDS).and_then(|kinds| RecordKind::from_u16(kinds as u16));
        let least = match kind {
            Some(RecordKind::Call) => CALL_WITH_HEAD,
            Some(RecordKind::Release) => CALL_ENTRY,
            _ => usize::MAX,
        };
        let call = Some(record).filter(|record| record.len() >= least).and_then(Parts::of);
        let Some(call) = call else { return each(record, &[]) };
        if kind == Some(RecordKind::Release) {
            return each(&record[..RECORD_BARE], call.head);
        }
        if self.told.remove(&call.begun()).is_none() {
            call.entered(each);
        }
        let mut left = call.bare;
        left[KINDS] = kinds(left[KINDS], RecordKind::Leave, (left[KINDS] >> 16) as u16);
        each(&bytes_of(&left), &record[RECORD_BARE + size_of::<Entry>()..]);
    }

    /// Begins a look at the calls in progress, at this moment.
    pub fn look(&mut self, now: Ns) {
        self.look = Some(Look { at: now, met: QuickSet::default() });
    }

    /// Whether the entry of this one, which is in progress by its record so far, was told.
    pub fn is_told(&mut self, record: &[u8]) -> bool {
        let Some(begun) = Parts::of(record).map(|call| call.begun()) else { return true };
        let told = self.told.contains_key(&begun);
        if told && let Some(look) = &mut self.look {
            look.met.insert(begun);
        }
        told
    }

    /// Gives the entry of this one, in two parts. It is not given again when its record comes, if it `will_be_reported`.
    pub fn tell(&mut self, record: &[u8], will_be_reported: bool, each: &mut dyn FnMut(&[u8], &[u8])) {
        let Some(call) = Parts::of(record) else { return };
        self.told.insert(call.begun(), Told { bare: call.bare, may_go_unsaid: !will_be_reported });
        if let Some(look) = &mut self.look {
            look.met.insert(call.begun());
        }
        call.entered(each);
    }

    /// All records have been taken that were there when the look was over: who was not met and is still told of has
    /// returned, and the record of it was lost, or was never to be made. Gives the returns of those that went unsaid.
    pub fn looked(&mut self, each: &mut dyn FnMut(&[u8], &[u8])) {
        let Some(Look { at, met }) = self.look.take() else { return };
        let last = self.last_look.replace(at).unwrap_or(at);
        self.told.retain(|begun, told| {
            let in_progress = met.contains(begun);
            if !in_progress && told.may_go_unsaid {
                let mut left = told.bare;
                // When it was still in progress: whatever the thread did after it is later.
                (left[TS], left[FAR]) = (last.0.max(begun.at), 0);
                left[KINDS] = kinds(0, RecordKind::Leave, FLAG_UNSAID);
                each(&bytes_of(&left), &[0; 8 * HEAD_WORDS]);
            }
            in_progress
        });
    }
}

/// Words of an entry before its head.
const ENTRY_BARE: usize = size_of::<Entry>() / 8 - HEAD_WORDS;

/// The word of a record's kind and flags, with the target that stands there besides: calls have none.
fn kinds(word: u64, kind: RecordKind, flags: u16) -> u64 {
    word >> 32 << 32 | u64::from(flags) << 16 | kind as u64
}

fn bytes_of(words: &[u64; RECORD_BARE / 8]) -> [u8; RECORD_BARE] {
    let mut bytes = [0; RECORD_BARE];
    for (place, word) in bytes.chunks_exact_mut(8).zip(words) {
        place.copy_from_slice(&word.to_ne_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use observer_common::{CALL_FULL, FLAG_HEAD_UNREADABLE, FLAG_STAGE_UNREADABLE, RECORD_FULL, RECORD_WITH_HEAD};
    use proptest::prelude::*;

    use super::*;

    /// A call's record: every word is its number, but for those that tell what it is.
    fn call(len: usize, entered: u64) -> Vec<u8> {
        let mut words: Vec<u64> = (0..len as u64 / 8).collect();
        words[TS] = 900;
        words[KINDS] = u64::from(FLAG_STAGE_UNREADABLE) << 16 | RecordKind::Call as u64;
        (words[7], words[8], words[9]) = (entered, 77, u64::from(FLAG_HEAD_UNREADABLE));
        words.into_iter().flat_map(u64::to_ne_bytes).collect()
    }

    fn parts(calls: &mut CallParts, record: &[u8]) -> Vec<Vec<u8>> {
        let mut parts = Vec::new();
        calls.take_apart(record, &mut |one, other| parts.push([one, other].concat()));
        parts
    }

    fn numbers(bytes: &[u8]) -> Vec<u64> {
        bytes.chunks_exact(8).map(|word| u64::from_ne_bytes(word.try_into().unwrap())).collect()
    }

    #[test]
    fn a_call_is_its_entry_and_its_return_each_with_its_time_flags_and_memory() {
        let [entry, left] = &parts(&mut CallParts::default(), &call(CALL_FULL, 100))[..] else { panic!("two") };
        assert_eq!((entry.len(), left.len()), (RECORD_WITH_HEAD, RECORD_FULL));
        let (entry, left) = (numbers(entry), numbers(left));
        let kinds = |flag: u16, kind| u64::from(flag) << 16 | kind as u64;
        assert_eq!(entry[..7], [100, 1, 2, 3, 4, kinds(FLAG_HEAD_UNREADABLE, RecordKind::Enter), 77]);
        assert_eq!(entry[7..], (10..20).collect::<Vec<u64>>());
        assert_eq!(left[..7], [900, 1, 2, 3, 4, kinds(FLAG_STAGE_UNREADABLE, RecordKind::Leave), 6]);
        assert_eq!(left[7..], (20..38).collect::<Vec<u64>>());
        let without_stage = parts(&mut CallParts::default(), &call(CALL_WITH_HEAD, 100));
        assert_eq!(without_stage[1].len(), RECORD_WITH_HEAD);
    }

    #[test]
    fn a_release_has_its_own_time_and_the_memory_that_its_entry_saw() {
        let mut release = call(CALL_ENTRY, 0);
        release[8 * KINDS] = RecordKind::Release as u8;
        let [said] = &parts(&mut CallParts::default(), &release)[..] else { panic!("one") };
        let said = numbers(said);
        assert_eq!((said[TS], said[KINDS] as u16), (900, RecordKind::Release as u16));
        assert_eq!(said[RECORD_BARE / 8..], (10..20).collect::<Vec<u64>>());
    }

    fn told(calls: &mut CallParts, record: &[u8], will_be_reported: bool) -> Vec<Vec<u8>> {
        let mut told = Vec::new();
        calls.tell(record, will_be_reported, &mut |one, other| told.push([one, other].concat()));
        told
    }

    fn looked(calls: &mut CallParts) -> Vec<Vec<u8>> {
        let mut over = Vec::new();
        calls.looked(&mut |one, other| over.push([one, other].concat()));
        over
    }

    #[test]
    fn an_entry_that_was_told_while_the_call_was_in_progress_is_not_told_again() {
        let mut calls = CallParts::default();
        let entry = parts(&mut calls, &call(CALL_FULL, 100)).remove(0);
        // Of what is not written yet nothing is said.
        let mut so_far = call(CALL_WITH_HEAD, 100);
        so_far[8 * KINDS..8 * KINDS + 8].fill(0);
        for will_be_reported in [true, false] {
            calls.look(Ns(200));
            assert!(!calls.is_told(&so_far));
            assert_eq!(told(&mut calls, &so_far, will_be_reported), [&entry[..]]);
            assert!(looked(&mut calls).is_empty());
            calls.look(Ns(300));
            assert!(calls.is_told(&so_far));
            assert!(looked(&mut calls).is_empty());
            assert_eq!(parts(&mut calls, &call(CALL_FULL, 100)).len(), 1, "the return alone");
        }
        assert_eq!(parts(&mut calls, &call(CALL_FULL, 100)).len(), 2, "nothing is kept of it");
    }

    #[test]
    fn a_call_whose_record_was_lost_is_forgotten() {
        let mut calls = CallParts::default();
        calls.look(Ns(200));
        assert_eq!(told(&mut calls, &call(CALL_FULL, 100), true).len(), 1);
        assert!(looked(&mut calls).is_empty());
        calls.look(Ns(300));
        assert!(looked(&mut calls).is_empty());
        assert!(calls.told.is_empty());
    }

    #[test]
    fn a_call_that_went_unsaid_is_over_when_it_was_last_in_progress() {
        let mut calls = CallParts::default();
        for at in [Ns(200), Ns(300)] {
            calls.look(at);
            if !calls.is_told(&call(CALL_FULL, 100)) {
                told(&mut calls, &call(CALL_FULL, 100), false);
            }
            assert!(looked(&mut calls).is_empty());
        }
        calls.look(Ns(400));
        let [over] = &looked(&mut calls)[..] else { panic!("one") };
        let over = numbers(over);
        assert_eq!(over[..7], [300, 1, 2, 3, 4, u64::from(FLAG_UNSAID) << 16 | RecordKind::Leave as u64, 0]);
        assert_eq!(over[7..], [0; HEAD_WORDS]);
        assert!(calls.told.is_empty());
    }

    proptest! {
        #[test]
        fn whatever_bytes_come_nothing_is_lost_of_what_is_no_call(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let said = parts(&mut CallParts::default(), &bytes);
            let is_call = bytes.len() >= CALL_WITH_HEAD && bytes[40..42] == (RecordKind::Call as u16).to_ne_bytes();
            prop_assert_eq!(said.len(), if is_call { 2 } else { 1 });
            if !is_call {
                prop_assert_eq!(&said[0], &bytes);
            }
        }

        #[test]
        fn a_call_cut_anywhere_is_said_whole_or_as_it_is(cut in 0..CALL_FULL) {
            let said = parts(&mut CallParts::default(), &call(CALL_FULL, 1)[..cut]);
            prop_assert_eq!(said.len(), if cut >= CALL_WITH_HEAD { 2 } else { 1 });
        }
    }
}
