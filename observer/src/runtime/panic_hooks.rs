//! Where a Rust panic is told to the program's hook: the standard library's `panic_with_hook` (`rust_panic_with_hook` before), which is
//! given the panic's `Location`.
//!
//! Does not know: tokio. Mirrors `std/src/panicking.rs`: the arguments are a `&mut dyn PanicPayload` (two registers), the location and
//! two flags; until 1.81 a message stood before the location. Which of the two it is, shows at a hit: a message is no location.

use iced_x86::{FlowControl, InstructionInfoFactory, OpAccess, Register};

use super::printing::printing;
use crate::model::VirtAddr;
use crate::symbols::{Image, Sweep};

/// What it prints when a panic may not unwind, which nobody else prints; and when one comes while another is told, which `resume_unwind`
/// prints as well in some versions, but that takes no such arguments.
const TEXTS: [&[u8]; 2] =
    [b"thread caused non-unwinding panic. aborting.", b"thread panicked while processing panic. aborting."];
/// The register of the third argument: the location, or the message.
const THIRD: Register = Register::RDX;
/// An argument is put where it is kept within so many instructions.
const READ_WITHIN: usize = 32;

/// The functions, by their first instruction.
pub(super) fn hooks(image: &Image<'_>) -> Vec<VirtAddr> {
    let printing = printing(image, TEXTS).into_iter().flatten();
    let mut found: Vec<VirtAddr> = printing.map(|function| function.start).collect();
    found.sort_unstable();
    found.dedup();
    found.retain(|at| takes_third(image, *at));
    found
}

/// Whether the function reads what its caller put into the register: a function that the hook's caller was made one with does not.
fn takes_third(image: &Image<'_>, at: VirtAddr) -> bool {
    let Some(function) = image.functions().containing(at).filter(|function| function.start == at) else { return false };
    let mut factory = InstructionInfoFactory::new();
    for instruction in Sweep::new(image, function).take(READ_WITHIN) {
        let used = factory.info(&instruction).used_registers();
        if let Some(first) = used.iter().find(|used| used.register().full_register() == THIRD) {
            return matches!(first.access(), OpAccess::Read | OpAccess::ReadWrite | OpAccess::CondRead);
        }
        // On any way from the entry: what is read there was given. Behind a call it is nobody's.
        if !matches!(instruction.flow_control(), FlowControl::Next | FlowControl::ConditionalBranch) {
            return false;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::symbols::{SymbolIndex, own};

    #[test]
    fn this_program_tells_its_panics_where_the_symbols_say() {
        let image = own::image();
        let found = hooks(image);
        let [at] = found[..] else { panic!("one: {found:?}") };
        let names: Vec<String> = SymbolIndex::of(image).names_at(at).collect();
        assert!(names.iter().any(|name| name.ends_with("panic_with_hook")), "{names:?}");
    }

    #[test]
    fn a_function_takes_what_it_reads_before_it_is_overwritten_or_anybody_is_called() {
        use crate::symbols::tiny::{CODE, Tiny};
        let takes = |code: &[u8]| {
            let bytes = Tiny::new(code, &[0; 8]).build();
            takes_third(&Image::parse(&bytes).expect("tiny images are images"), VirtAddr(CODE))
        };
        let kept = [0x48, 0x89, 0xd3]; // mov rbx, rdx
        assert!(takes(&[&[0x55][..], &kept, &[0xc3]].concat())); // push rbp
        assert!(takes(&[&[0x7e, 0x04][..], &kept, &[0xc3]].concat())); // jle
        assert!(!takes(&[&[0x31, 0xd2][..], &kept, &[0xc3]].concat())); // xor edx, edx
        assert!(!takes(&[&[0xe8, 0, 0, 0, 0][..], &kept, &[0xc3]].concat())); // call
        assert!(!takes(&[0xc3]));
    }
}
