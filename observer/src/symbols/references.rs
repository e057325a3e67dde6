//! Which instructions name given addresses: one linear pass over all code, then decoding of what it met.
//!
//! Does not know: what the addresses are. References through registers, and instructions with an immediate behind a
//! rip-relative operand, are not found.

use std::ops::Range;

use iced_x86::{Instruction, Mnemonic, OpKind, Register};

use super::code::{decode, decoder};
use super::{Image, Segment};
use crate::model::VirtAddr;

/// The addresses looked for.
#[derive(Clone, Debug)]
pub struct Targets {
    sorted: Vec<u64>,
    /// One bit a hash: most words of code that look like a displacement are refused here.
    filter: Vec<u64>,
}

/// One instruction that names a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reference {
    /// Where the instruction starts.
    pub at: VirtAddr,
    /// Its length.
    pub len: u8,
    /// The address it names.
    pub target: VirtAddr,
    /// What it does with it.
    pub access: Access,
    /// How certain it is that an instruction starts there.
    pub boundary: Boundary,
}

/// What an instruction does with the address it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// `reg = target`: `lea reg, [rip+d]`, or `mov reg, imm32` in an image linked to a fixed address.
    Address(Destination),
    /// `reg = *target`, 64 bits wide.
    Load(Destination),
    /// `call *target`.
    Call,
    /// `jmp *target`.
    Jump,
    /// `lock xadd *target, reg`, 64 bits wide: `reg` holds the old value afterwards.
    FetchAdd(Destination),
    /// Anything else: a store, a comparison, an address put into memory.
    Other,
}

/// The full-width register an instruction writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Destination(pub Register);

/// How it is known that an instruction starts at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Boundary {
    /// Decoded instruction by instruction from a function's start.
    FromFunctionStart,
    /// Only the bytes themselves look like it: no unwind information covers them.
    FromPattern,
}

impl Targets {
    /// From any order, with repetitions.
    pub fn new(addresses: impl IntoIterator<Item = VirtAddr>) -> Self {
        let mut sorted: Vec<u64> = addresses.into_iter().map(|a| a.0).collect();
        sorted.sort_unstable();
        sorted.dedup();
        let words = (sorted.len() / 4).next_power_of_two().clamp(64, 1 << 16);
        let mut targets = Self { sorted, filter: vec![0; words] };
        for at in 0..targets.sorted.len() {
            let (word, bit) = targets.slot(targets.sorted[at]);
            targets.filter[word] |= bit;
        }
        targets
    }

    /// Whether nothing is looked for.
    pub fn is_empty(&self) -> bool {
        self.sorted.is_empty()
    }

    /// Whether the address is looked for.
    pub fn contains(&self, address: VirtAddr) -> bool {
        let (word, bit) = self.slot(address.0);
        self.filter[word] & bit != 0 && self.sorted.binary_search(&address.0).is_ok()
    }

    fn slot(&self, address: u64) -> (usize, u64) {
        let hash = address.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        ((hash >> 6) as usize & (self.filter.len() - 1), 1 << (hash & 63))
    }

    fn bounds(&self) -> Option<Range<u64>> {
        Some(*self.sorted.first()?..self.sorted.last()?.saturating_add(1))
    }
}

/// Every instruction of the image that names one of the targets, by place.
pub fn references(image: &Image<'_>, targets: &Targets) -> Vec<Reference> {
    let mut found = Vec::new();
    for segment in image.segments().iter().filter(|s| s.is_executable()) {
        let code = image.bytes().get(segment.file()).unwrap_or_default();
        let mut fields = relative_fields(segment, code, targets);
        if !image.is_pie() {
            fields.extend(absolute_fields(segment, code, targets));
            fields.sort_unstable();
        }
        found.extend(confirm(image, &fields));
    }
    found
}

/// Four bytes in code whose value, as this kind of field, is a target.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Field {
    /// Where the four bytes are.
    pub(super) at: VirtAddr,
    /// What they would name.
    pub(super) target: VirtAddr,
}

/// Displacements from the next instruction, behind a ModRM byte that says so.
fn relative_fields(segment: &Segment, code: &[u8], targets: &Targets) -> Vec<Field> {
    let Some(bounds) = targets.bounds() else { return Vec::new() };
    let start = segment.start().0;
    let mut found = Vec::new();
    for (n, window) in code.windows(5).enumerate() {
        let [modrm, a, b, c, d] = *window else { continue };
        if modrm & 0xc7 != 0x05 {
            continue;
        }
        let at = start.wrapping_add(n as u64 + 1);
        let target = at.wrapping_add(4).wrapping_add_signed(i64::from(i32::from_le_bytes([a, b, c, d])));
        if bounds.contains(&target) && targets.contains(VirtAddr(target)) {
            found.push(Field { at: VirtAddr(at), target: VirtAddr(target) });
        }
    }
    found
}

/// Addresses as such, which fit into 32 bits in images linked to a fixed place.
fn absolute_fields(segment: &Segment, code: &[u8], targets: &Targets) -> Vec<Field> {
    let Some(bounds) = targets.bounds() else { return Vec::new() };
    let start = segment.start().0;
    let mut found = Vec::new();
    for (n, window) in code.windows(4).enumerate() {
        let [a, b, c, d] = *window else { continue };
        let target = u64::from(u32::from_le_bytes([a, b, c, d]));
        if bounds.contains(&target) && targets.contains(VirtAddr(target)) {
            found.push(Field { at: VirtAddr(start.wrapping_add(n as u64)), target: VirtAddr(target) });
        }
    }
    found
}

/// The fields, by place, that are fields of real instructions. Decodes each function once.
fn confirm(image: &Image<'_>, fields: &[Field]) -> Vec<Reference> {
    let mut found = Vec::new();
    let mut rest = fields;
    while let Some(first) = rest.first() {
        let Some(function) = image.functions().containing(first.at) else {
            found.extend(guess(image, *first));
            rest = &rest[1..];
            continue;
        };
        let inside = rest.partition_point(|f| f.at < function.end);
        let (mine, others) = rest.split_at(inside.max(1));
        sweep(image, function, mine, &mut found);
        rest = others;
    }
    found
}

/// Decodes a function from its start up to the last field in it.
fn sweep(image: &Image<'_>, function: Range<VirtAddr>, fields: &[Field], found: &mut Vec<Reference>) {
    let mut code = decoder(image.slice(function.clone()).unwrap_or_default(), function.start);
    let mut fields = fields.iter().peekable();
    let mut instruction = Instruction::default();
    while fields.peek().is_some() && code.can_decode() {
        code.decode_out(&mut instruction);
        if instruction.is_invalid() {
            return;
        }
        while let Some(&field) = fields.next_if(|f| f.at.0 < instruction.next_ip()) {
            let offsets = code.get_constant_offsets(&instruction);
            if names(&instruction, &offsets, field) {
                found.push(Reference::new(&instruction, field.target, Boundary::FromFunctionStart));
            }
        }
    }
}

/// Without a function around it: the nearest start before the field from which it decodes as a field. Where an
/// instruction really starts earlier, only its prefixes are missed, so the longest reading is taken.
fn guess(image: &Image<'_>, field: Field) -> Option<Reference> {
    (1..=6).rev().find_map(|before| {
        let at = VirtAddr(field.at.0.checked_sub(before)?);
        let bytes = image.slice_from(at)?;
        let mut code = decoder(bytes.get(..bytes.len().min(15))?, at);
        let instruction = code.decode();
        let offsets = code.get_constant_offsets(&instruction);
        let reference = Reference::new(&instruction, field.target, Boundary::FromPattern);
        let useful = !instruction.is_invalid() && reference.access != Access::Other;
        // Prefixes that change nothing are the tail of the instruction before.
        let plain = useful && decode(image, VirtAddr(at.0 + 1)).is_none_or(|next| next.code() != instruction.code());
        (plain && names(&instruction, &offsets, field)).then_some(reference)
    })
}

/// Whether the field is the instruction's displacement or immediate and means the target there.
fn names(instruction: &Instruction, offsets: &iced_x86::ConstantOffsets, field: Field) -> bool {
    let at = |offset: usize| instruction.ip().wrapping_add(offset as u64) == field.at.0;
    let relative = instruction.is_ip_rel_memory_operand()
        && at(offsets.displacement_offset())
        && instruction.ip_rel_memory_address() == field.target.0;
    let absolute = offsets.has_displacement()
        && at(offsets.displacement_offset())
        && !instruction.is_ip_rel_memory_operand()
        && instruction.memory_base() == Register::None
        && instruction.memory_displacement64() == field.target.0;
    let immediate = offsets.has_immediate()
        && offsets.immediate_size() >= 4
        && at(offsets.immediate_offset())
        && !instruction.op_kinds().any(|k| matches!(k, OpKind::NearBranch64 | OpKind::NearBranch32));
    relative || absolute || immediate
}

impl Reference {
    fn new(instruction: &Instruction, target: VirtAddr, boundary: Boundary) -> Self {
        Self {
            at: VirtAddr(instruction.ip()),
            len: u8::try_from(instruction.len()).unwrap_or(u8::MAX),
            target,
            access: Access::of(instruction),
            boundary,
        }
    }

    /// First address behind the instruction.
    pub fn next(&self) -> VirtAddr {
        VirtAddr(self.at.0.wrapping_add(u64::from(self.len)))
    }
}

impl Access {
    fn of(instruction: &Instruction) -> Self {
        let register = instruction.op0_register();
        let destination = Destination(register.full_register());
        let memory = instruction.op_kinds().any(|kind| kind == OpKind::Memory);
        match instruction.mnemonic() {
            Mnemonic::Lea if register.size() == 8 => Self::Address(destination),
            Mnemonic::Mov if !memory && register != Register::None && register.size() >= 4 => {
                Self::Address(destination)
            }
            Mnemonic::Mov if register.size() == 8 && instruction.op1_kind() == OpKind::Memory => {
                Self::Load(destination)
            }
            Mnemonic::Call if memory => Self::Call,
            Mnemonic::Jmp if memory => Self::Jump,
            Mnemonic::Xadd if instruction.has_lock_prefix() && instruction.op1_register().size() == 8 => {
                Self::FetchAdd(Destination(instruction.op1_register()))
            }
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::symbols::tiny::{CODE, DATA, Tiny};

    /// The code's references to the data: where from the code's start, and what they do.
    fn found(tiny: &Tiny) -> Vec<(u64, Access, Boundary)> {
        let bytes = tiny.build();
        let image = Image::parse(&bytes).expect("tiny images are images");
        let found = references(&image, &Targets::new([VirtAddr(DATA), VirtAddr(DATA + 0x1000)]));
        assert!(found.iter().all(|r| r.target == VirtAddr(DATA)));
        found.iter().map(|r| (r.at.0 - CODE, r.access, r.boundary)).collect()
    }

    /// Opcode bytes before a displacement to the data, one after the other.
    fn code(opcodes: &[&[u8]]) -> Vec<u8> {
        let mut code = Vec::new();
        for opcode in opcodes {
            code.extend(*opcode);
            let from = CODE + code.len() as u64 + 4;
            code.extend(u32::try_from(DATA - from).expect("near").to_le_bytes());
        }
        code
    }

    #[test]
    fn each_way_to_name_an_address_is_found_and_told_apart() {
        let lea: &[u8] = &[0x4c, 0x8d, 0x2d]; // lea r13, [rip+d]
        let load: &[u8] = &[0x48, 0x8b, 0x05]; // mov rax, [rip+d]
        let add: &[u8] = &[0xf0, 0x4c, 0x0f, 0xc1, 0x05]; // lock xadd [rip+d], r8
        let code = code(&[lea, load, &[0xff, 0x15], add, &[0x48, 0x89, 0x05], &[0xff, 0x25]]);
        let start = Boundary::FromFunctionStart;
        let expected = [
            (0, Access::Address(Destination(Register::R13)), start),
            (7, Access::Load(Destination(Register::RAX)), start),
            (14, Access::Call, start),
            (20, Access::FetchAdd(Destination(Register::R8)), start),
            (29, Access::Other, start),
            (36, Access::Jump, start),
        ];
        assert_eq!(found(&Tiny::new(&code, &[0; 8])), expected);
    }

    #[test]
    fn bytes_inside_another_instruction_are_no_reference() {
        // mov rax, imm64 whose last bytes look like `lea rax, [rip+d]` would begin, were an instruction to start there.
        let mut inside = vec![0x48, 0xb8, 0x90];
        inside.extend(code(&[&[0x48, 0x8d, 0x05]]));
        let end = inside.len() as u64;
        let displacement = u32::try_from(DATA - CODE - end).expect("near").to_le_bytes();
        inside[6..].copy_from_slice(&displacement);
        inside.push(0xc3);
        assert_eq!(found(&Tiny::new(&inside, &[0; 8])), []);
    }

    #[test]
    fn without_unwind_information_the_bytes_alone_are_a_weaker_sign() {
        let mut tiny = Tiny::new(&code(&[&[0x90, 0x48, 0x8d, 0x05], &[0x41, 0xff, 0x15]]), &[0; 8]);
        tiny.functions.clear();
        let expected = [
            (1, Access::Address(Destination(Register::RAX)), Boundary::FromPattern),
            (9, Access::Call, Boundary::FromPattern),
        ];
        assert_eq!(found(&tiny), expected);
    }

    #[test]
    fn at_a_fixed_address_immediates_are_references() {
        let mut code = vec![0xbf]; // mov edi, imm32
        code.extend(u32::try_from(DATA).expect("low").to_le_bytes());
        code.extend([0x48, 0xc7, 0x44, 0x24, 0x10]); // mov qword [rsp+16], imm32
        code.extend(u32::try_from(DATA).expect("low").to_le_bytes());
        let mut tiny = Tiny::new(&code, &[0; 8]);
        assert_eq!(found(&tiny), [], "an image that moves names nothing that way");
        tiny.pie = false;
        let expected = [
            (0, Access::Address(Destination(Register::RDI)), Boundary::FromFunctionStart),
            (5, Access::Other, Boundary::FromFunctionStart),
        ];
        assert_eq!(found(&tiny), expected);
    }
}
