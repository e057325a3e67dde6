//! The code that the kernel maps into each process: reading clocks is there. It is of no file, but an image all the same.
//!
//! Does not know: stacks.

use crate::model::{AddressRange, Bias, NoRule, ProcAddr, UnwindRule};
use crate::symbols::{Image, UnwindTable};
use crate::target::{Backing, Process};

/// More than any kernel's.
const MOST: u64 = 64 << 10;

/// The image as one process has it.
pub(super) struct Vdso {
    range: AddressRange,
    table: UnwindTable,
}

impl Vdso {
    /// Reads it; `None` where there is none, or none that can be read.
    pub(super) fn of(process: &Process) -> Option<Self> {
        let is_it = |backing: &Backing| matches!(backing, Backing::Special(name) if name.contains("[vdso]"));
        let mapping = process.maps().ok()?.into_iter().find(|mapping| is_it(&mapping.backing))?;
        let range = mapping.range;
        let mut bytes = vec![0; usize::try_from(range.len()).ok().filter(|_| range.len() <= MOST)?];
        process.memory().read_exact(range.start, &mut bytes).ok()?;
        let table = UnwindTable::of(&Image::parse(&bytes).ok()?)?;
        Some(Self { range, table })
    }

    /// The rule for the instruction that the address is in; `None` where it is none of this code.
    pub(super) fn rule_at(&self, at: ProcAddr) -> Option<Result<UnwindRule, NoRule>> {
        // It is linked to begin at 0.
        let bias = Bias(self.range.start.0);
        self.range.contains(at).then(|| self.table.rule_at(bias.to_virtual(at)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Pid;

    #[test]
    fn a_clocks_function_of_this_process_has_a_rule_and_other_memory_has_none() {
        let us = Process::open(Pid(std::process::id())).expect("we run");
        let vdso = Vdso::of(&us).expect("each kernel for x86-64 has one");
        let covered =
            (vdso.range.start.0..vdso.range.end.0).filter(|at| matches!(vdso.rule_at(ProcAddr(*at)), Some(Ok(_))));
        assert!(covered.count() > 100);
        assert_eq!(vdso.rule_at(ProcAddr(vdso.range.end.0)), None);
    }
}
