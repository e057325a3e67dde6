//! Decoded x86-64 instructions of an image.
//!
//! Does not know: what a probe on one of them costs, nor what the code does.

use std::ops::Range;

use iced_x86::{Decoder, DecoderOptions, Instruction, OpAccess};

use super::Image;
use crate::model::VirtAddr;

/// Longest x86-64 instruction.
const LONGEST: usize = 15;

/// Registers that a called function may overwrite, by the System V calling convention: all but rbx, rsp, rbp and r12 to r15.
pub const LOST_IN_CALLS: [usize; 9] = [0, 1, 2, 6, 7, 8, 9, 10, 11];

/// Whether a register or memory that is used in this way may be something else afterwards.
pub fn is_written(access: OpAccess) -> bool {
    use OpAccess::{CondWrite, ReadCondWrite, ReadWrite, Write};
    matches!(access, Write | CondWrite | ReadWrite | ReadCondWrite)
}

/// The instruction that starts at `at`; `None` where no code is or where the bytes are no instruction.
pub fn decode(image: &Image<'_>, at: VirtAddr) -> Option<Instruction> {
    if !image.is_executable(at) {
        return None;
    }
    let bytes = image.slice_from(at)?;
    let mut decoder = decoder(bytes.get(..LONGEST.min(bytes.len()))?, at);
    let instruction = decoder.decode();
    (!instruction.is_invalid()).then_some(instruction)
}

/// Every instruction of a range, one after the other from its start; ends early at bytes that are no instruction.
pub struct Sweep<'d> {
    decoder: Decoder<'d>,
}

impl<'d> Sweep<'d> {
    /// From `range.start`, which must be an instruction's start, to the end of the range.
    pub fn new(image: &Image<'d>, range: Range<VirtAddr>) -> Self {
        let start = range.start;
        let bytes = if image.is_executable(start) { image.slice(range).unwrap_or_default() } else { &[] };
        Self { decoder: decoder(bytes, start) }
    }
}

impl Iterator for Sweep<'_> {
    type Item = Instruction;

    fn next(&mut self) -> Option<Instruction> {
        if !self.decoder.can_decode() {
            return None;
        }
        let instruction = self.decoder.decode();
        (!instruction.is_invalid()).then_some(instruction)
    }
}

pub(super) fn decoder(bytes: &[u8], at: VirtAddr) -> Decoder<'_> {
    Decoder::with_ip(64, bytes, at.0, DecoderOptions::NONE)
}
