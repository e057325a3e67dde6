//! Where task ids are minted: `NEXT_ID.fetch_add(1)`, inlined into spawners or outlined. NEXT_ID starts as 1 (1.23 to
//! 1.54, `runtime/task/id.rs`), so its word in the file is 1.
//!
//! Does not know: which of several such counters is the task ids'. That does no harm: a thread's latest mint before a
//! birth is the task's own, because nothing else is counted between the two.

use std::ops::Range;

use crate::model::MintRegister;
use iced_x86::{Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register};
use memchr::memmem;

use crate::model::VirtAddr;
use crate::runtime::MintSite;
use crate::symbols::{Boundary, Image, Sweep};

/// Every mint of the image, by place.
pub(super) fn find(image: &Image<'_>) -> Vec<MintSite> {
    let mut found = Vec::new();
    let candidates = additions(image);
    let mut rest = candidates.as_slice();
    while let Some(&first) = rest.first() {
        let Some(function) = image.functions().containing(first) else {
            rest = &rest[1..];
            continue;
        };
        let inside = rest.partition_point(|&at| at < function.end);
        rest = rest.get(inside.max(1)..).unwrap_or_default();
        minted(image, function, &mut found);
    }
    found
}

/// Where bytes look like `lock xadd` of 64 bits.
fn additions(image: &Image<'_>) -> Vec<VirtAddr> {
    let finder = memmem::Finder::new(b"\x0f\xc1");
    let mut found = Vec::new();
    for segment in image.segments().iter().filter(|s| s.is_executable()) {
        let code = image.bytes().get(segment.file()).unwrap_or_default();
        let places = finder.find_iter(code).filter(|&at| {
            let before = at.checked_sub(2).and_then(|from| code.get(from..at));
            matches!(before, Some([0xf0, 0x48..=0x4f]))
        });
        found.extend(places.map(|at| VirtAddr(segment.start().0 + at as u64 - 2)));
    }
    found
}

/// The mints of one function.
fn minted(image: &Image<'_>, function: Range<VirtAddr>, found: &mut Vec<MintSite>) {
    let mut registers = Registers::default();
    let mut factory = InstructionInfoFactory::new();
    for instruction in Sweep::new(image, function) {
        if let Some(site) = mint(image, &registers, &instruction) {
            found.push(site);
        }
        registers.follow(image, &instruction, &mut factory);
    }
}

fn mint(image: &Image<'_>, registers: &Registers, add: &Instruction) -> Option<MintSite> {
    let wide = add.mnemonic() == Mnemonic::Xadd && add.has_lock_prefix() && add.op1_register().size() == 8;
    if !wide || add.op0_kind() != OpKind::Memory {
        return None;
    }
    let counter = if add.is_ip_rel_memory_operand() {
        VirtAddr(add.ip_rel_memory_address())
    } else if add.memory_index() != Register::None {
        return None;
    } else if add.memory_base() == Register::None {
        VirtAddr(add.memory_displacement64())
    } else {
        match registers.of(add.memory_base()) {
            Value::Address(at) => VirtAddr(at.0.wrapping_add(add.memory_displacement64())),
            Value::Constant(_) | Value::Unknown => return None,
        }
    };
    let by_one = match registers.of(add.op1_register()) {
        Value::Constant(n) => n == 1,
        Value::Unknown => true,
        Value::Address(_) => false,
    };
    (by_one && starts_as_one(image, counter)).then_some(MintSite {
        add: VirtAddr(add.ip()),
        at: VirtAddr(add.next_ip()),
        register: MintRegister(u8::try_from(add.op1_register().number()).ok()?),
        counter,
        boundary: Boundary::FromFunctionStart,
    })
}

/// A word of writable memory that the file gives the value 1.
fn starts_as_one(image: &Image<'_>, counter: VirtAddr) -> bool {
    counter.0.is_multiple_of(8)
        && image.segment_at(counter).is_some_and(|s| s.is_writable())
        && image.pointer_at(counter).is_none()
        && image.word_at(counter) == Some(1)
}

/// What the general registers hold, followed along the instructions as they stand in memory. Jumps are not followed:
/// a wrong guess only proposes a counter, which must then hold a 1.
#[derive(Default)]
struct Registers {
    values: [Value; 16],
    pushed: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Value {
    Constant(u64),
    Address(VirtAddr),
    #[default]
    Unknown,
}

impl Registers {
    fn of(&self, register: Register) -> Value {
        slot(register).and_then(|n| self.values.get(n).copied()).unwrap_or_default()
    }

    fn follow(&mut self, image: &Image<'_>, instruction: &Instruction, factory: &mut InstructionInfoFactory) {
        let pushed = self.pushed.take();
        let value = match instruction.mnemonic() {
            Mnemonic::Mov | Mnemonic::Lea => self.moved(image, instruction),
            Mnemonic::Pop => pushed.map_or(Value::Unknown, Value::Constant),
            Mnemonic::Push => {
                self.pushed = is_immediate(instruction.op0_kind()).then(|| instruction.immediate(0));
                return;
            }
            Mnemonic::Call => {
                // The System V calling convention keeps rbx, rsp, rbp and r12 to r15.
                for n in [0, 1, 2, 6, 7, 8, 9, 10, 11] {
                    self.values[n] = Value::Unknown;
                }
                return;
            }
            _ => Value::Unknown,
        };
        for used in factory.info(instruction).used_registers() {
            let written = matches!(
                used.access(),
                OpAccess::Write | OpAccess::CondWrite | OpAccess::ReadWrite | OpAccess::ReadCondWrite
            );
            if let Some(n) = slot(used.register()).filter(|_| written) {
                let whole = used.register().full_register() == instruction.op0_register().full_register();
                self.values[n] = if whole { value } else { Value::Unknown };
            }
        }
    }

    fn moved(&self, image: &Image<'_>, instruction: &Instruction) -> Value {
        let relative = VirtAddr(instruction.ip_rel_memory_address());
        match (instruction.mnemonic(), instruction.op1_kind()) {
            (Mnemonic::Lea, _) if instruction.is_ip_rel_memory_operand() => Value::Address(relative),
            (Mnemonic::Mov, OpKind::Memory) if instruction.is_ip_rel_memory_operand() => {
                image.pointer_at(relative).map_or(Value::Unknown, Value::Address)
            }
            (Mnemonic::Mov, OpKind::Register) => self.of(instruction.op1_register()),
            (Mnemonic::Mov, kind) if is_immediate(kind) => {
                let value = instruction.immediate(1);
                let fixed = !image.is_pie() && image.segment_at(VirtAddr(value)).is_some();
                if fixed { Value::Address(VirtAddr(value)) } else { Value::Constant(value) }
            }
            _ => Value::Unknown,
        }
    }
}

/// The number of a general register that is written to at least half: what leaves no old upper part.
fn slot(register: Register) -> Option<usize> {
    register.is_gpr().then(|| register.full_register().number())
}

fn is_immediate(kind: OpKind) -> bool {
    !matches!(kind, OpKind::Register | OpKind::Memory) && {
        use OpKind::{Immediate8, Immediate8to32, Immediate8to64, Immediate32, Immediate32to64, Immediate64};
        matches!(kind, Immediate8 | Immediate8to32 | Immediate8to64 | Immediate32 | Immediate32to64 | Immediate64)
    }
}
