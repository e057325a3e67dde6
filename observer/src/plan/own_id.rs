//! Where a task's id is when the task is born: in what is written to the id's place in the new cell, or in that place.
//!
//! Whoever takes the vtable's address writes it into a cell, and the id beside it; what is written there is the id by what
//! the cell is. So a birth's own hit can tell the id, and none is needed where it was minted.
//!
//! Does not know: where ids come from.

use iced_x86::{FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpKind, Register};

use super::function::Function;
use super::new_cell::NewCell;
use super::operands::{changes, is_word, keep, overlap};
use crate::model::{CellLayout, MintRegister, VirtAddr};
use crate::runtime::BirthSite;
use crate::symbols::{Image, decode, is_written};

/// What the way on from a birth does with the new cell.
#[derive(Debug)]
pub(super) struct Writing {
    /// The instructions that follow the one that takes the vtable's address, as they run.
    way: Vec<Instruction>,
    cell: NewCell,
    /// Which of them writes the id, and from which register; `None` where that is not seen.
    id: Option<(usize, usize)>,
}

/// Where a place stands.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stands<'s> {
    /// On the way: the birth's own instruction, or one behind it.
    Behind,
    /// Before it, and these instructions, by place, may run after it and before the birth's own.
    Before(&'s [VirtAddr]),
}

impl Writing {
    /// Follows the birth; `None` where the vtable's address is not seen to be written to a cell.
    pub(super) fn of(image: &Image<'_>, function: &Function, birth: &BirthSite, layout: &CellLayout) -> Option<Self> {
        let way: Vec<Instruction> = function.way(birth.at).map_while(|at| decode(image, at)).collect();
        let cell = NewCell::written(&way, layout)?;
        let id = cell.id_writer(&way);
        Some(Self { way, cell, id })
    }

    /// Whether it is seen where the id is written.
    pub(super) fn tells(&self) -> bool {
        self.id.is_some()
    }

    /// Where the id is before the instruction at this place runs. `budget` is how many more instructions are looked at.
    pub(super) fn id_at(
        &self,
        image: &Image<'_>,
        place: VirtAddr,
        stands: Stands<'_>,
        budget: &mut usize,
    ) -> Option<IdSpot> {
        *budget = budget.checked_sub(self.way.len())?;
        let (written, register) = self.id?;
        let value = match stands {
            Stands::Behind => {
                let n = self.way.iter().position(|step| step.ip() == place.0)?;
                match n > written {
                    true => self.value_behind(self.way.get(written..n)?, register)?,
                    false => self.value_before(n, self.way.get(n..written)?, Value::In(register))?,
                }
            }
            Stands::Before(between) => {
                let value = self.value_before(0, self.way.get(..written)?, Value::In(register))?;
                let steps = [place].iter().chain(between).map(|&at| decode(image, at)).collect::<Option<Vec<_>>>()?;
                if steps.iter().any(parts) {
                    // Who takes which way is not known: it must be there on all of them.
                    let kept = matches!(value, Value::In(register) if keep(&steps, register));
                    kept.then_some(value)?
                } else {
                    self.value_before(NOT_ON_THE_WAY, &steps, value)?
                }
            }
        };
        value.spot()
    }

    /// Where what is here after these instructions was before them. `from` is the number of the first on the way.
    fn value_before(&self, from: usize, steps: &[Instruction], mut value: Value) -> Option<Value> {
        let mut factory = InstructionInfoFactory::new();
        for (n, step) in steps.iter().enumerate().rev() {
            value = match value {
                Value::In(register) if changes(&mut factory, step, register) => moved(step, register)?,
                Value::At(base, _) if changes(&mut factory, step, base.number()) => return None,
                Value::At(base, at) if self.may_overwrite(&mut factory, from.saturating_add(n), step, base, at) => {
                    return None;
                }
                unchanged => unchanged,
            };
        }
        Some(value)
    }

    /// Where the id is after these, of which the first writes it to the cell.
    fn value_behind(&self, steps: &[Instruction], register: usize) -> Option<Value> {
        if keep(steps, register) {
            return Some(Value::In(register));
        }
        let (base, place) = self.cell.id_place();
        keep(steps, base.number()).then_some(Value::At(base, place))
    }

    /// Whether the instruction with this number may write to the word at this place. To the cell is not to it: nobody else has that yet.
    fn may_overwrite(
        &self,
        factory: &mut InstructionInfoFactory,
        n: usize,
        step: &Instruction,
        base: Register,
        at: u64,
    ) -> bool {
        if step.mnemonic() == Mnemonic::Call {
            return true;
        }
        let used = factory.info(step).used_memory();
        used.iter().filter(|used| is_written(used.access())).any(|used| {
            let plain =
                used.index() == Register::None && used.segment() != Register::FS && used.segment() != Register::GS;
            let apart = plain && used.base() == base && !overlap(used.displacement(), used.memory_size().size(), at);
            let to_cell = plain && used.base() != base && self.cell.holds(n, used.base(), used.displacement());
            !apart && !to_cell
        })
    }
}

/// The number of an instruction that stands before the way.
const NOT_ON_THE_WAY: usize = usize::MAX;

/// Where a task's id is at a birth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct IdSpot {
    /// It is in this register,
    pub(super) register: MintRegister,
    /// or where this is not 0 in the word of memory so many words, less one, from where the register points to.
    pub(super) word: u8,
}

/// Where something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Value {
    /// In the register with this number.
    In(usize),
    /// In memory, so far from what this register holds.
    At(Register, u64),
}

impl Value {
    /// As far as a cookie can say it.
    fn spot(self) -> Option<IdSpot> {
        let register = |number: usize| u8::try_from(number).ok().map(MintRegister);
        match self {
            Self::In(number) => Some(IdSpot { register: register(number)?, word: 0 }),
            Self::At(base, offset) if offset.is_multiple_of(8) => {
                let word = u8::try_from(offset / 8).ok()?.checked_add(1)?;
                Some(IdSpot { register: register(base.number())?, word })
            }
            Self::At(..) => None,
        }
    }
}

/// From where the instruction that writes this register takes what it writes.
fn moved(step: &Instruction, register: usize) -> Option<Value> {
    let whole = step.mnemonic() == Mnemonic::Mov
        && step.op0_kind() == OpKind::Register
        && step.op0_register().is_gpr64()
        && step.op0_register().number() == register;
    match step.op1_kind() {
        OpKind::Register if whole && step.op1_register().is_gpr64() => Some(Value::In(step.op1_register().number())),
        OpKind::Memory if whole && is_word(step) => Some(Value::At(step.memory_base(), step.memory_displacement64())),
        _ => None,
    }
}

/// Whether control may go on in two ways behind it, or elsewhere than to what stands next.
fn parts(step: &Instruction) -> bool {
    matches!(step.flow_control(), FlowControl::ConditionalBranch | FlowControl::UnconditionalBranch)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::function::Functions;
    use crate::symbols::Boundary;
    use crate::symbols::tiny::{CODE, DATA, Tiny};

    const LEA: &[u8] = &[0x48, 0x8d, 0x05, 0, 0, 0, 0]; // lea rax, [rip+0]
    const VTABLE: &[u8] = &[0x48, 0x89, 0x43, 0x10]; // mov [rbx+0x10], rax
    const ID: &[u8] = &[0x48, 0x89, 0x4b, 0x28]; // mov [rbx+0x28], rcx
    const FREE: &[u8] = &[0x48, 0xc7, 0x43, 0x18, 0, 0, 0, 0]; // mov qword [rbx+0x18], 0
    const SCHEDULER: &[u8] = &[0x48, 0x89, 0x73, 0x20]; // mov [rbx+0x20], rsi
    const CLEAR: &[u8] = &[0x31, 0xc9]; // xor ecx, ecx
    const NOP: &[u8] = &[0x90];
    const RET: &[u8] = &[0xc3];

    fn spot(register: u8, word: u8) -> Option<IdSpot> {
        Some(IdSpot { register: MintRegister(register), word })
    }

    /// Where the id is before the instruction with the number `place` in this code, whose birth has the number `birth`.
    fn id_at(code: &[&[u8]], birth: usize, place: usize) -> Option<IdSpot> {
        let at = |n: usize| VirtAddr(CODE + code[..n].concat().len() as u64);
        let bytes = Tiny::new(&code.concat(), &[0; 8]).build();
        let image = Image::parse(&bytes).expect("tiny images are images");
        let function = Functions::new(&image).around(VirtAddr(CODE)).expect("a function");
        let site = BirthSite { at: at(birth), vtable: VirtAddr(DATA), boundary: Boundary::FromFunctionStart };
        let writing = Writing::of(&image, &function, &site, &CellLayout::sample())?;
        let between: Vec<VirtAddr> = (place + 1..birth).map(at).collect();
        let stands = if place < birth { Stands::Before(&between) } else { Stands::Behind };
        writing.id_at(&image, at(place), stands, &mut 1000)
    }

    #[test]
    fn the_id_is_in_the_register_that_is_written_to_its_place() {
        let code = [LEA, VTABLE, FREE, SCHEDULER, ID, NOP, RET];
        for place in 0..code.len() {
            assert_eq!(id_at(&code, 0, place), spot(1, 0), "{place}");
        }
        let far: &[u8] = &[0x48, 0x89, 0x4b, 0x30]; // mov [rbx+0x30], rcx
        assert_eq!(id_at(&[LEA, VTABLE, FREE, SCHEDULER, far, RET], 0, 5), None, "which is not at another place");
        assert_eq!(id_at(&[LEA, FREE, SCHEDULER, ID, NOP, RET], 0, 4), None, "nor in another object");
    }

    #[test]
    fn behind_a_register_s_next_use_the_id_is_in_the_cell() {
        let code = [LEA, VTABLE, FREE, SCHEDULER, ID, CLEAR, NOP, RET];
        assert_eq!((id_at(&code, 0, 5), id_at(&code, 0, 6)), (spot(1, 0), spot(3, 6)));
        let moved: &[u8] = &[0x48, 0x89, 0xd3]; // mov rbx, rdx
        assert_eq!(
            id_at(&[LEA, VTABLE, FREE, SCHEDULER, ID, CLEAR, moved, NOP, RET], 0, 7),
            None,
            "as long as that is known"
        );
        let reused: &[u8] = &[0x0f, 0x11, 0x43, 0x20]; // movups [rbx+0x20], xmm0
        assert_eq!(
            id_at(&[LEA, VTABLE, FREE, SCHEDULER, ID, NOP, reused, RET], 0, 5),
            None,
            "and holds nothing else later"
        );
    }

    #[test]
    fn before_it_is_written_the_id_is_where_it_is_taken_from() {
        let copied: &[u8] = &[0x48, 0x89, 0xd1]; // mov rcx, rdx
        assert_eq!(id_at(&[LEA, copied, VTABLE, FREE, SCHEDULER, ID, RET], 0, 0), spot(2, 0));
        let loaded: &[u8] = &[0x48, 0x8b, 0x4c, 0x24, 0x18]; // mov rcx, [rsp+0x18]
        assert_eq!(id_at(&[LEA, VTABLE, FREE, SCHEDULER, loaded, ID, RET], 0, 0), spot(4, 4));
        assert_eq!(id_at(&[NOP, LEA, VTABLE, FREE, SCHEDULER, loaded, ID, RET], 1, 0), spot(4, 4));
        let spilled: &[u8] = &[0x48, 0x89, 0x54, 0x24, 0x18]; // mov [rsp+0x18], rdx
        assert_eq!(
            id_at(&[LEA, spilled, loaded, VTABLE, FREE, SCHEDULER, ID, RET], 0, 0),
            None,
            "unless it is put there meanwhile"
        );
        assert_eq!(id_at(&[LEA, VTABLE, FREE, SCHEDULER, CLEAR, ID, RET], 0, 0), None, "or made there");
    }

    #[test]
    fn where_ways_part_the_id_must_stay_in_its_register_on_all_of_them() {
        let over: &[u8] = &[0x74, 0x02]; // je over two bytes
        assert_eq!(
            id_at(&[over, &[0x31, 0xd2], LEA, VTABLE, FREE, SCHEDULER, ID, RET], 2, 0),
            spot(1, 0),
            "xor edx, edx"
        );
        assert_eq!(id_at(&[over, CLEAR, LEA, VTABLE, FREE, SCHEDULER, ID, RET], 2, 0), None);
    }

    #[test]
    fn an_address_that_is_only_passed_on_is_written_to_no_cell() {
        let passed: &[u8] = &[0x48, 0x89, 0xc7]; // mov rdi, rax
        assert_eq!(id_at(&[LEA, passed, RET], 0, 0), None);
        let other: &[u8] = &[0x31, 0xc0]; // xor eax, eax
        let code = [LEA, other, VTABLE, FREE, SCHEDULER, ID, RET];
        assert_eq!(id_at(&code, 0, 5), None, "what is written there is not the address");
    }

    #[test]
    fn an_address_that_is_put_aside_makes_no_cell_of_what_lies_beside_it() {
        // mov [rbx+0x30], rdi
        assert_eq!(id_at(&[LEA, VTABLE, SCHEDULER, ID, &[0x48, 0x89, 0x7b, 0x30], NOP, RET], 0, 5), None, "registers");
        assert_eq!(id_at(&[LEA, VTABLE, FREE, ID, NOP, RET], 0, 4), None, "one number");
        let stage: &[u8] = &[0xc7, 0x43, 0x30, 0, 0, 0, 0]; // mov dword [rbx+0x30], 0
        assert_eq!(id_at(&[LEA, VTABLE, SCHEDULER, ID, stage, NOP, RET], 0, 5), spot(1, 0));
        assert_eq!(id_at(&[LEA, VTABLE, FREE, ID, stage, NOP, RET], 0, 5), spot(1, 0));
    }

    #[test]
    fn what_the_register_pointed_to_before_was_no_cell() {
        let moved: &[u8] = &[0x4c, 0x89, 0xe3]; // mov rbx, r12
        let id: &[u8] = &[0x4c, 0x89, 0x6b, 0x28]; // mov [rbx+0x28], r13
        assert_eq!(id_at(&[LEA, ID, moved, VTABLE, FREE, SCHEDULER, id, NOP, RET], 0, 7), spot(13, 0));
        // mov [rbx+8], rdx: into what may be the stack's word that the id is loaded from.
        let loaded: &[u8] = &[0x48, 0x8b, 0x4c, 0x24, 0x18]; // mov rcx, [rsp+0x18]
        let before = [LEA, &[0x48, 0x89, 0x53, 8], moved, VTABLE, FREE, SCHEDULER, loaded, ID, RET];
        assert_eq!((id_at(&before, 0, 0), id_at(&before, 0, 2)), (None, spot(4, 4)));
    }
}
