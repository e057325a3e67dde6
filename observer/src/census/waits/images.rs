//! The parts of a process that belong to one image: its code and what it has of constants.
//!
//! Does not know: what an image is; these are ranges of addresses.

use crate::model::ProcAddr;
use crate::target::{AddressRange, Module};

/// One image's code and data, by address in the process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageSpan {
    /// Where functions are.
    pub code: Vec<AddressRange>,
    /// Where constants with addresses in them are: everything of the file that is no code, because a loader may leave
    /// them writable.
    pub constants: Vec<AddressRange>,
}

impl ImageSpan {
    /// Of a mapped file.
    pub fn of(module: &Module) -> Self {
        let readable = module.mappings.iter().filter(|mapping| mapping.permissions.read);
        let (code, constants): (Vec<_>, Vec<_>) = readable.partition(|mapping| mapping.permissions.execute);
        let ranges = |mappings: Vec<&crate::target::Mapping>| mappings.iter().map(|mapping| mapping.range).collect();
        Self { code: ranges(code), constants: ranges(constants) }
    }

    /// Whether a function may be there.
    pub fn has_code(&self, at: ProcAddr) -> bool {
        self.code.iter().any(|range| range.contains(at))
    }

    /// Whether a constant may be there.
    pub fn has_constant(&self, at: ProcAddr) -> bool {
        self.constants.iter().any(|range| range.contains(at))
    }

    /// From the first to the last constant.
    pub(super) fn extent(&self) -> Option<AddressRange> {
        let start = self.constants.iter().map(|range| range.start).min()?;
        let end = self.constants.iter().map(|range| range.end).max()?;
        Some(AddressRange { start, end })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Pid;
    use crate::target::Process;

    #[test]
    fn our_own_functions_and_constants_are_told_apart() {
        let us = Process::open(Pid(std::process::id())).unwrap();
        let exe = us.modules().unwrap().into_iter().find(|module| module.is_exe).unwrap();
        let span = ImageSpan::of(&exe);
        static CONSTANT: &fn() = &(our_own_functions_and_constants_are_told_apart as fn());
        let function = ProcAddr(*CONSTANT as usize as u64);
        let constant = ProcAddr(std::ptr::from_ref(CONSTANT) as u64);
        assert!(span.has_code(function) && !span.has_constant(function));
        assert!(span.has_constant(constant) && !span.has_code(constant));
        assert!(span.extent().unwrap().contains(constant));
    }
}
