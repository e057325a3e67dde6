//! A sample of who runs, from a ring's entry.
//!
//! The layout mirrors what Linux's `kernel/events/core.c` writes for an event with `PERF_SAMPLE_TID | TIME | REGS_USER |
//! STACK_USER`. Does not know: what the thread was doing.

use crate::model::{CopyEnd, Ns, Pid, ProcAddr, Registers, StackCopy, Tick, Tid};

use super::entry::{Entry, Kind};
use super::event::USER_REGISTERS;

/// `PERF_SAMPLE_REGS_ABI_64`: the registers are those of a 64-bit program.
const ABI_64: u64 = 2;
/// `PERF_SAMPLE_REGS_ABI_NONE`: there are no registers in the record.
const ABI_NONE: u64 = 0;

/// An entry that is shorter than what it must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CutShort;

/// What a sample says, if it is of a wanted process. `Ok(None)` for an entry of another kind, or of another process.
pub fn tick(entry: &Entry<'_>, wanted: impl FnOnce(Pid) -> bool) -> Result<Option<Tick>, CutShort> {
    if entry.kind != Kind::Sample {
        return Ok(None);
    }
    let mut rest = Rest(entry.body);
    let who = rest.word()?;
    let (pid, tid) = (Pid(who as u32), Tid((who >> 32) as u32));
    if !wanted(pid) {
        return Ok(None);
    }
    let at = Ns(rest.word()?);
    let abi = rest.word()?;
    if abi == ABI_NONE {
        return Ok(Some(Tick { at, pid, tid, user: None }));
    }
    let mut values = [0; USER_REGISTERS.len()];
    for value in &mut values {
        *value = rest.word()?;
    }
    let [rbx, rbp, sp, ip, r12, r13, r14, r15] = values;
    let kept = [rbx, rbp, r12, r13, r14, r15].map(Some);
    let registers = Registers { ip: ProcAddr(ip), sp: ProcAddr(sp), kept };
    let stack = rest.stack(ProcAddr(sp))?;
    Ok(Some(Tick { at, pid, tid, user: (abi == ABI_64).then_some((registers, stack)) }))
}

/// What was not read yet.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn word(&mut self) -> Result<u64, CutShort> {
        let (word, rest) = self.0.split_first_chunk().ok_or(CutShort)?;
        self.0 = rest;
        Ok(u64::from_ne_bytes(*word))
    }

    fn bytes(&mut self, length: usize) -> Result<&'a [u8], CutShort> {
        let (bytes, rest) = self.0.split_at_checked(length).ok_or(CutShort)?;
        self.0 = rest;
        Ok(bytes)
    }

    /// Room of a fixed size, and behind it how much of it was filled. Without room, nothing is behind it.
    fn stack(&mut self, from: ProcAddr) -> Result<StackCopy, CutShort> {
        let room = usize::try_from(self.word()?).map_err(|_| CutShort)?;
        if room == 0 {
            return Ok(StackCopy { from, bytes: Vec::new(), end: CopyEnd::Unreadable });
        }
        let bytes = self.bytes(room)?;
        let filled = usize::try_from(self.word()?).map_err(|_| CutShort)?;
        let end = if filled < room { CopyEnd::Unreadable } else { CopyEnd::Bound };
        Ok(StackCopy { from, bytes: bytes[..filled.min(room)].to_vec(), end })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn body(words: &[u64]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    fn of(body: &[u8]) -> Result<Option<Tick>, CutShort> {
        tick(&Entry { kind: Kind::Sample, misc: 2, body }, |pid| pid == Pid(7))
    }

    #[test]
    fn a_sample_has_its_thread_its_registers_and_as_much_stack_as_was_filled() {
        let tick = of(&body(&[8 << 32 | 7, 5, 2, 11, 12, 13, 14, 15, 16, 17, 18, 24, 1, 2, 3, 16])).unwrap().unwrap();
        assert_eq!((tick.at, tick.pid, tick.tid), (Ns(5), Pid(7), Tid(8)));
        let (registers, stack) = tick.user.unwrap();
        assert_eq!((registers.ip, registers.sp), (ProcAddr(14), ProcAddr(13)));
        assert_eq!(registers.kept, [11, 12, 15, 16, 17, 18].map(Some));
        assert_eq!((stack.from, stack.bytes, stack.end), (ProcAddr(13), body(&[1, 2]), CopyEnd::Unreadable));
    }

    #[test]
    fn a_thread_without_user_space_has_no_registers_and_one_of_another_process_is_not_read() {
        assert_eq!(of(&body(&[8 << 32 | 7, 5, 0, 0])).unwrap().unwrap().user, None);
        assert_eq!(of(&body(&[8 << 32 | 6])), Ok(None));
    }

    #[test]
    fn an_entry_that_ends_early_is_said_to_be_cut_short() {
        let whole = body(&[8 << 32 | 7, 5, 2, 11, 12, 13, 14, 15, 16, 17, 18, 16, 1, 2, 16]);
        assert!(of(&whole).unwrap().is_some());
        for length in 0..whole.len() {
            assert_eq!(of(&whole[..length]), Err(CutShort), "{length}");
        }
        assert_eq!(of(&body(&[7, 5, 2, 1, 2, 3, 4, 5, 6, 7, 8, u64::MAX, 1])), Err(CutShort));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(words in proptest::collection::vec(prop_oneof![0u64..64, any::<u64>()], 0..40), cut in 0usize..9) {
            let mut bytes = body(&[8 << 32 | 7]);
            bytes.extend(body(&words));
            bytes.truncate(bytes.len().saturating_sub(cut));
            if let Ok(Some(Tick { user: Some((_, stack)), .. })) = of(&bytes) {
                prop_assert!(stack.bytes.len() <= bytes.len());
            }
        }
    }
}
