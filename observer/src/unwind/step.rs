//! One caller after the other, by the rules of unwind tables.
//!
//! Does not know: where rules come from.

use crate::model::{Cfa, Kept, NoRule, ProcAddr, Registers, Saved, StackCopy, UnwindEnd, UnwindRule};

/// More callers than these are not looked for.
pub const MOST_FRAMES: usize = 64;

/// The callers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unwound {
    /// Registers of each frame, innermost first: the first as they came in, every other as they are when the call inside it
    /// returns. So the memory of frame `n` lies from its `sp` to that of frame `n + 1`.
    pub frames: Vec<Registers>,
    /// Why there are no more.
    pub end: UnwindEnd,
}

impl Unwound {
    /// The instruction that the frame stands at. The innermost is at its own; of all others the call is the instruction
    /// before the one that it returns to, which may be behind the caller's last.
    pub fn place(&self, frame: usize) -> Option<ProcAddr> {
        let at = self.frames.get(frame)?.ip;
        Some(if frame == 0 { at } else { ProcAddr(at.0.wrapping_sub(1)) })
    }
}

/// Unwinds. `rule` is asked for the rule of the instruction that the address is in.
pub fn unwind(
    registers: Registers,
    stack: &StackCopy,
    mut rule: impl FnMut(ProcAddr) -> Result<UnwindRule, NoRule>,
) -> Unwound {
    let mut frames = vec![registers];
    let end = loop {
        let now = frames[frames.len() - 1];
        if frames.len() >= MOST_FRAMES {
            break UnwindEnd::Bound;
        }
        // As in `Unwound::place`.
        let at = if frames.len() == 1 { now.ip } else { ProcAddr(now.ip.0.wrapping_sub(1)) };
        let rule = match rule(at) {
            Ok(rule) => rule,
            Err(why) => break UnwindEnd::NoRule(why),
        };
        match caller(&now, &rule, stack) {
            Ok(caller) => frames.push(caller),
            Err(end) => break end,
        }
    };
    Unwound { frames, end }
}

/// The registers when the call returns.
fn caller(now: &Registers, rule: &UnwindRule, stack: &StackCopy) -> Result<Registers, UnwindEnd> {
    let cfa = match rule.cfa {
        Cfa::Sp(offset) => now.sp.0.checked_add_signed(offset),
        Cfa::Register(register, offset) => {
            now.get(register).ok_or(UnwindEnd::Copy(stack.end))?.checked_add_signed(offset)
        }
        Cfa::Unsupported => return Err(UnwindEnd::Unsupported),
    };
    // Every call moves the stack pointer.
    let cfa = cfa.filter(|cfa| *cfa > now.sp.0).ok_or(UnwindEnd::Astray)?;
    let value = |saved: Saved, same: Option<u64>| match saved {
        Saved::Same => Ok(same),
        Saved::At(offset) => Ok(cfa.checked_add_signed(offset).and_then(|at| stack.word(ProcAddr(at)))),
        Saved::Is(offset) => Ok(cfa.checked_add_signed(offset)),
        Saved::In(register) => Ok(now.get(register)),
        Saved::Nowhere | Saved::Unsupported => Err(saved),
    };
    let ip = match value(rule.return_address, None) {
        Ok(Some(0)) => return Err(UnwindEnd::Astray),
        Ok(Some(ip)) => ProcAddr(ip),
        Ok(None) if rule.return_address == Saved::Same => return Err(UnwindEnd::Unsupported),
        Ok(None) => return Err(UnwindEnd::Copy(stack.end)),
        Err(Saved::Nowhere) => return Err(UnwindEnd::Root),
        Err(_) => return Err(UnwindEnd::Unsupported),
    };
    // What is not computed is not known; only the one who needs it stops for it.
    let kept = Kept::ALL.map(|register| value(rule.kept[register as usize], now.get(register)).unwrap_or(None));
    Ok(Registers { ip, sp: ProcAddr(cfa), kept })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::CopyEnd;
    use proptest::prelude::*;

    const CODE: u64 = 0x5000;
    const STACK: u64 = 0x7000;

    fn registers(ip: u64) -> Registers {
        Registers {
            ip: ProcAddr(ip),
            sp: ProcAddr(STACK),
            kept: [Some(1), Some(STACK + 32), Some(3), None, None, None],
        }
    }

    fn copy(words: &[u64]) -> StackCopy {
        let bytes = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        StackCopy { from: ProcAddr(STACK), bytes, end: CopyEnd::Bound }
    }

    fn plain(offset: i64) -> UnwindRule {
        UnwindRule { cfa: Cfa::Sp(offset), return_address: Saved::At(-8), kept: [Saved::Same; 6] }
    }

    fn ips(unwound: &Unwound) -> Vec<u64> {
        unwound.frames.iter().map(|frame| frame.ip.0).collect()
    }

    #[test]
    fn each_caller_is_found_where_the_rule_says_and_asked_for_by_its_call() {
        let stack = copy(&[0, CODE + 0x20, 77, 0, CODE + 0x40]);
        let mut asked = Vec::new();
        let unwound = unwind(registers(CODE), &stack, |at| {
            asked.push(at.0);
            Ok(match asked.len() {
                1 => plain(16),
                2 => {
                    let mut kept = [Saved::Same; 6];
                    kept[Kept::Rbx as usize] = Saved::At(-24);
                    UnwindRule { cfa: Cfa::Register(Kept::Rbp, 8), return_address: Saved::At(-8), kept }
                }
                _ => UnwindRule { return_address: Saved::Nowhere, ..plain(8) },
            })
        });
        assert_eq!((ips(&unwound), unwound.end), (vec![CODE, CODE + 0x20, CODE + 0x40], UnwindEnd::Root));
        assert_eq!(asked, [CODE, CODE + 0x1f, CODE + 0x3f]);
        let [_, middle, outer] = unwound.frames[..] else { panic!("three") };
        assert_eq!((middle.sp.0, outer.sp.0), (STACK + 16, STACK + 40));
        assert_eq!((middle.get(Kept::Rbx), outer.get(Kept::Rbx)), (Some(1), Some(77)));
    }

    #[test]
    fn where_nothing_leads_on_the_reason_is_said() {
        let end = |words: &[u64], rule: Result<UnwindRule, NoRule>| unwind(registers(CODE), &copy(words), |_| rule).end;
        assert_eq!(end(&[], Err(NoRule::NoTable)), UnwindEnd::NoRule(NoRule::NoTable));
        assert_eq!(end(&[1], Ok(plain(16))), UnwindEnd::Copy(CopyEnd::Bound));
        assert_eq!(end(&[0], Ok(plain(8))), UnwindEnd::Astray);
        assert_eq!(end(&[CODE], Ok(plain(0))), UnwindEnd::Astray);
        assert_eq!(end(&[CODE; 100], Ok(plain(8))), UnwindEnd::Bound);
        let by = |cfa| Ok(UnwindRule { cfa, ..plain(8) });
        assert_eq!(end(&[CODE], by(Cfa::Unsupported)), UnwindEnd::Unsupported);
        assert_eq!(end(&[CODE], by(Cfa::Register(Kept::R15, 8))), UnwindEnd::Copy(CopyEnd::Bound));
        assert_eq!(end(&[CODE], by(Cfa::Register(Kept::Rbx, 8))), UnwindEnd::Astray);
    }

    fn saved() -> impl Strategy<Value = Saved> {
        prop_oneof![
            Just(Saved::Same),
            (-64i64..64).prop_map(Saved::At),
            any::<i64>().prop_map(Saved::At),
            any::<i64>().prop_map(Saved::Is),
            (0usize..6).prop_map(|n| Saved::In(Kept::ALL[n])),
            Just(Saved::Nowhere),
            Just(Saved::Unsupported),
        ]
    }

    proptest! {
        #[test]
        fn no_stack_and_no_rules_panic_or_run_on(
            words in proptest::collection::vec(any::<u64>(), 0..200),
            base: u64,
            ip: u64,
            rules in proptest::collection::vec((prop_oneof![8i64..128, any::<i64>()], saved(), saved(), 0usize..7), 1..8),
        ) {
            let mut asked = 0;
            let mut stack = copy(&words);
            stack.from = ProcAddr(base);
            let from = Registers { ip: ProcAddr(ip), sp: ProcAddr(base), kept: [Some(base); 6] };
            let unwound = unwind(from, &stack, |_| {
                let (offset, kept, return_address, register) = rules[asked % rules.len()];
                asked += 1;
                let cfa = if register < 6 { Cfa::Register(Kept::ALL[register], offset) } else { Cfa::Sp(offset) };
                Ok(UnwindRule { cfa, return_address, kept: [kept; 6] })
            });
            prop_assert!(unwound.frames.len() <= MOST_FRAMES);
            prop_assert!(unwound.frames.is_sorted_by_key(|frame| frame.sp));
        }
    }
}
