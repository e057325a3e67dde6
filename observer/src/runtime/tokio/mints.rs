//! Where task ids are minted: `NEXT_ID.fetch_add(1)`, inlined into spawners or outlined. NEXT_ID starts as 1 (1.23 to
//! 1.54, `runtime/task/id.rs`), so its word in the file is 1.
//!
//! Does not know: which of several such counters is the task ids'. That does no harm: a thread's latest mint before a
//! birth is the task's own, because nothing else is counted between the two.

use std::collections::BTreeSet;
use std::ops::Range;

use iced_x86::{Instruction, InstructionInfoFactory, Mnemonic, OpKind, Register};
use memchr::memmem;

use crate::model::{MintRegister, VirtAddr};
use crate::runtime::MintSite;
use crate::symbols::{Boundary, Callers, Functions, Image, LOST_IN_CALLS, Sweep, Targets, is_written, references};

/// Every mint of the image that is inlined, by place.
pub(super) fn find_inlined(image: &Image<'_>, functions: &Functions) -> Vec<MintSite> {
    in_functions_of(image, functions, &additions(image), &inlined)
}

/// Every mint that is a call: a debug build inlines nothing of its own, though the standard library that it is linked with
/// may hold a counter that is.
pub(super) fn find_called(image: &Image<'_>, functions: &Functions) -> Vec<MintSite> {
    let adders = adders(image, functions, &additions(image));
    let mentions = mentions_of_counters(image);
    in_functions_of(image, functions, &mentions, &|image, registers, call| called(image, registers, call, &adders))
}

/// What the functions around these places, each once, hold of mints.
fn in_functions_of(image: &Image<'_>, functions: &Functions, places: &[VirtAddr], mint: MintAt<'_>) -> Vec<MintSite> {
    let mut found = Vec::new();
    let mut rest = places;
    while let Some(&first) = rest.first() {
        let Some(function) = functions.containing(first) else {
            rest = &rest[1..];
            continue;
        };
        let inside = rest.partition_point(|&at| at < function.end);
        rest = rest.get(inside.max(1)..).unwrap_or_default();
        minted(image, function, mint, &mut found);
    }
    // What the code of a presumed function is read as may be wrong; that an addition stands there is not.
    let boundary = functions.boundary();
    found.into_iter().map(|site| MintSite { boundary, ..site }).collect()
}

/// How to tell a mint at an instruction from what the registers hold.
type MintAt<'a> = &'a dyn Fn(&Image<'_>, &Registers, &Instruction) -> Option<MintSite>;

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
fn minted(image: &Image<'_>, function: Range<VirtAddr>, mint: MintAt<'_>, found: &mut Vec<MintSite>) {
    let mut registers = Registers::default();
    let mut factory = InstructionInfoFactory::new();
    for instruction in Sweep::new(image, function) {
        if let Some(site) = mint(image, &registers, &instruction) {
            found.push(site);
        }
        registers.follow(image, &instruction, &mut factory);
    }
}

/// `lock xadd [counter], register`, where the register held 1.
fn inlined(image: &Image<'_>, registers: &Registers, add: &Instruction) -> Option<MintSite> {
    if !is_addition(add) {
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

/// `lock xadd` of 64 bits in memory.
fn is_addition(instruction: &Instruction) -> bool {
    instruction.mnemonic() == Mnemonic::Xadd
        && instruction.has_lock_prefix()
        && instruction.op0_kind() == OpKind::Memory
        && instruction.op1_register().size() == 8
}

/// `fetch_add(&counter, 1, ..)` as a call: the id is in rax behind it.
fn called(
    image: &Image<'_>,
    registers: &Registers,
    call: &Instruction,
    adders: &BTreeSet<VirtAddr>,
) -> Option<MintSite> {
    if call.mnemonic() != Mnemonic::Call || registers.of(Register::RSI) != Value::Constant(1) {
        return None;
    }
    let Value::Address(counter) = registers.of(Register::RDI) else { return None };
    (starts_as_one(image, counter) && adders.contains(&callee(image, call)?)).then_some(MintSite {
        add: VirtAddr(call.ip()),
        at: VirtAddr(call.next_ip()),
        register: MintRegister(0),
        counter,
        boundary: Boundary::FromFunctionStart,
    })
}

/// The function that a direct call, or one through a relocated slot, goes to.
fn callee(image: &Image<'_>, call: &Instruction) -> Option<VirtAddr> {
    if call.is_ip_rel_memory_operand() {
        image.pointer_at(VirtAddr(call.ip_rel_memory_address()))
    } else {
        call.is_call_near().then(|| VirtAddr(call.near_branch_target()))
    }
}

/// The functions that add atomically, and those around them: `AtomicU64::fetch_add` calls `atomic_add`.
fn adders(image: &Image<'_>, functions: &Functions, additions: &[VirtAddr]) -> BTreeSet<VirtAddr> {
    let start = |at| functions.containing(at).map(|f| f.start);
    let adding: BTreeSet<_> = additions.iter().filter_map(|&at| start(at)).collect();
    let callers = Callers::read(image, functions);
    let around = adding.iter().flat_map(|&function| callers.of(function)).filter_map(start).collect::<Vec<_>>();
    adding.into_iter().chain(around).collect()
}

/// Places that take the address of a word that may be such a counter.
fn mentions_of_counters(image: &Image<'_>) -> Vec<VirtAddr> {
    let mut counters = Vec::new();
    for segment in image.segments().iter().filter(|s| s.is_writable()) {
        let ones = segment.words(image).filter(|(_, word)| *word == 1);
        counters.extend(ones.map(|(at, _)| at));
    }
    counters.retain(|&at| starts_as_one(image, at));
    references(image, &Targets::new(counters)).iter().map(|r| r.at).collect()
}

/// A word of memory that the program writes and that the file gives the value 1.
fn starts_as_one(image: &Image<'_>, counter: VirtAddr) -> bool {
    counter.0.is_multiple_of(8)
        && image.is_variable(counter)
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
                for n in LOST_IN_CALLS {
                    self.values[n] = Value::Unknown;
                }
                return;
            }
            _ => Value::Unknown,
        };
        for used in factory.info(instruction).used_registers() {
            if let Some(n) = slot(used.register()).filter(|_| is_written(used.access())) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::symbols::tiny::{CODE, DATA, Tiny};

    /// A counter at the start of the data, and code around an addition to it.
    fn mints_of(tiny: &Tiny) -> Vec<(u64, u8)> {
        let bytes = tiny.build();
        let image = Image::parse(&bytes).expect("tiny images are images");
        let functions = Functions::or_presumed(&image);
        let found = [find_inlined(&image, &functions), find_called(&image, &functions)].concat();
        assert!(found.iter().all(|m| m.counter == VirtAddr(DATA)));
        found.iter().map(|m| (m.at.0 - CODE, m.register.0)).collect()
    }

    fn displacement(from: u64, to: u64) -> [u8; 4] {
        i32::try_from(to.cast_signed() - from.cast_signed()).expect("near").to_le_bytes()
    }

    fn direct(first: &[u8]) -> Tiny {
        let mut code = first.to_vec();
        code.extend([0xf0, 0x48, 0x0f, 0xc1, 0x0d]); // lock xadd [rip+d], rcx
        code.extend(displacement(CODE + code.len() as u64 + 4, DATA));
        code.extend([0x48, 0x85, 0xc9, 0x74, 0xf0, 0xc3]); // test rcx, rcx; je; ret
        Tiny::new(&code, &1u64.to_le_bytes())
    }

    #[test]
    fn an_addition_of_one_to_a_counter_that_starts_as_one_is_a_mint() {
        assert_eq!(mints_of(&direct(&[0xb9, 1, 0, 0, 0])), [(14, 1)], "mov ecx, 1");
        assert_eq!(mints_of(&direct(&[0x6a, 1, 0x59])), [(12, 1)], "push 1; pop rcx");
    }

    #[test]
    fn other_additions_are_none() {
        assert_eq!(mints_of(&direct(&[0xb9, 2, 0, 0, 0])), [], "adds 2");
        assert_eq!(mints_of(&direct(&[0x48, 0xc7, 0xc1, 0xff, 0xff, 0xff, 0xff])), [], "adds -1");
        let mut zero = direct(&[0xb9, 1, 0, 0, 0]);
        zero.data = vec![0; 8];
        assert_eq!(mints_of(&zero), [], "starts as 0");
        let mut narrow = direct(&[0xb9, 1, 0, 0, 0]);
        let rex = narrow.code.iter().position(|&b| b == 0xf0).expect("lock") + 1;
        narrow.code[rex] = 0x40;
        assert_eq!(mints_of(&narrow), [], "32 bits wide");
    }

    #[test]
    fn the_counter_is_found_through_a_slot_and_by_its_address() {
        let slot = DATA + 8;
        let mut code = vec![0x48, 0x8b, 0x05]; // mov rax, [rip+d]
        code.extend(displacement(CODE + 7, slot));
        code.extend([0xb9, 1, 0, 0, 0, 0xf0, 0x48, 0x0f, 0xc1, 0x08, 0xc3]); // mov ecx, 1; lock xadd [rax], rcx; ret
        let mut data = 1u64.to_le_bytes().to_vec();
        data.extend([0; 8]);
        let mut tiny = Tiny::new(&code, &data);
        tiny.relocated.push((slot, DATA));
        assert_eq!(mints_of(&tiny), [(17, 1)], "release without LTO");

        let mut code = vec![0xb8]; // mov eax, counter
        code.extend(u32::try_from(DATA).expect("low").to_le_bytes());
        code.extend([0xb9, 1, 0, 0, 0, 0xf0, 0x48, 0x0f, 0xc1, 0x08, 0xc3]);
        let mut tiny = Tiny::new(&code, &1u64.to_le_bytes());
        tiny.pie = false;
        assert_eq!(mints_of(&tiny), [(15, 1)], "at a fixed address");
    }

    #[test]
    fn in_a_debug_build_the_mint_is_a_call() {
        let mut code = vec![0x48, 0x8d, 0x3d]; // lea rdi, [rip+counter]
        code.extend(displacement(CODE + 7, DATA));
        code.extend([0xbe, 1, 0, 0, 0, 0xe8]); // mov esi, 1; call
        code.extend(displacement(CODE + 17, CODE + 32));
        code.resize(32, 0xc3);
        code.extend([0xf0, 0x48, 0x0f, 0xc1, 0x37, 0xc3]); // lock xadd [rdi], rsi; ret
        let mut tiny = Tiny::new(&code, &1u64.to_le_bytes());
        tiny.functions = vec![CODE..CODE + 32, CODE + 32..CODE + 38];
        assert_eq!(mints_of(&tiny), [(17, 0)]);
    }

    #[test]
    fn without_unwind_information_functions_begin_where_calls_go() {
        let slot = DATA + 8;
        let mut code = vec![0xe8, 1, 0, 0, 0, 0xc3, 0x48, 0x8b, 0x05]; // call; ret; mov rax, [rip+d]
        code.extend(displacement(CODE + 13, slot));
        code.extend([0xb9, 1, 0, 0, 0, 0xf0, 0x48, 0x0f, 0xc1, 0x08, 0xc3]); // mov ecx, 1; lock xadd [rax], rcx; ret
        let mut tiny = Tiny::new(&code, &[1, 0].map(u64::to_le_bytes).concat());
        tiny.relocated.push((slot, DATA));
        tiny.functions.clear();
        assert_eq!(mints_of(&tiny), [(23, 1)]);
        let bytes = tiny.build();
        let image = Image::parse(&bytes).expect("tiny images are images");
        let functions = Functions::or_presumed(&image);
        let found = [find_inlined(&image, &functions), find_called(&image, &functions)].concat();
        assert!(found.iter().all(|m| m.boundary == Boundary::FromPattern), "a presumption");
    }
}
