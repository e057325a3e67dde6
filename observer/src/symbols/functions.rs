//! Where functions start and end, from the unwind table (`PT_GNU_EH_FRAME`), which `strip` leaves in place. Some images
//! have none: there, where calls and pointers go gives a good presumption, which no probe's place may rest on.
//!
//! Does not know: names. A function without unwind information is not in the table.

use std::borrow::Cow;
use std::ops::Range;

use iced_x86::Instruction;
use object::elf;

use super::header::{ProgramHeaders, header_range};
use super::{Boundary, Image, Segment};
use crate::model::VirtAddr;

/// `DW_EH_PE_udata4`: the encoding of the table's count that all linkers write.
const COUNT_UDATA4: u8 = 0x03;
/// `DW_EH_PE_datarel | DW_EH_PE_sdata4`: the encoding of the table's entries that all linkers write.
const TABLE_DATAREL_SDATA4: u8 = 0x3b;
/// `DW_EH_PE_pcrel | DW_EH_PE_sdata4`: the encoding of code addresses in the frames themselves.
const CODE_PCREL_SDATA4: u8 = 0x1b;

/// The known functions of an image, by start.
#[derive(Clone, Debug, Default)]
pub struct Functions {
    sorted: Vec<Known>,
    presumed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Known {
    start: VirtAddr,
    end: VirtAddr,
}

impl Functions {
    /// These, each with its end.
    #[cfg(test)]
    pub(super) fn known(all: &[(u64, u64)]) -> Self {
        let known = |(start, end): &(u64, u64)| Known { start: VirtAddr(*start), end: VirtAddr(*end) };
        Self { sorted: all.iter().map(known).collect(), presumed: false }
    }

    /// How many are known.
    pub fn len(&self) -> usize {
        self.sorted.len()
    }

    /// None is known: the image has no readable unwind table.
    pub fn is_empty(&self) -> bool {
        self.sorted.is_empty()
    }

    /// All starts, ascending.
    pub fn starts(&self) -> impl Iterator<Item = VirtAddr> + '_ {
        self.sorted.iter().map(|f| f.start)
    }

    /// Whether a function starts here.
    pub fn starts_at(&self, at: VirtAddr) -> bool {
        self.sorted.binary_search_by_key(&at, |f| f.start).is_ok()
    }

    /// The function whose code holds the address.
    pub fn containing(&self, at: VirtAddr) -> Option<Range<VirtAddr>> {
        let after = self.sorted.partition_point(|f| f.start <= at);
        let known = self.sorted.get(after.checked_sub(1)?)?;
        (at < known.end).then_some(known.start..known.end)
    }

    /// The first known start behind the address.
    pub fn next_start(&self, at: VirtAddr) -> Option<VirtAddr> {
        self.sorted.get(self.sorted.partition_point(|f| f.start <= at)).map(|f| f.start)
    }

    /// How certain a place is that was decoded from one of these starts.
    pub fn boundary(&self) -> Boundary {
        if self.presumed { Boundary::FromPattern } else { Boundary::FromFunctionStart }
    }

    /// The known functions; where none is known, what lies between the places that direct calls and relocated words go
    /// to. A few of those are no starts: code read from them makes no sense for some instructions.
    pub fn or_presumed<'i>(image: &'i Image<'_>) -> Cow<'i, Self> {
        let known = image.functions();
        if known.is_empty() { Cow::Owned(Self::presumed(image)) } else { Cow::Borrowed(known) }
    }

    fn presumed(image: &Image<'_>) -> Self {
        let pointed = image.pointers().as_slice().iter().map(|p| p.to);
        let mut starts: Vec<VirtAddr> = pointed.filter(|&at| image.is_executable(at)).collect();
        for segment in image.segments().iter().filter(|s| s.is_executable()) {
            let code = image.bytes().get(segment.file()).unwrap_or_default();
            let calls = memchr::memchr_iter(0xe8, code);
            let called = calls.filter_map(|opcode| super::callers::relative_target(segment, code, opcode + 1));
            starts.extend(called.filter(|&at| image.is_executable(at)));
        }
        // A pointer may go to a thunk, which is a jump to the function meant.
        let thunks = starts.iter().filter_map(|&at| super::decode(image, at)).filter(Instruction::is_jmp_near);
        let meant: Vec<_> = thunks.map(|jump| VirtAddr(jump.near_branch_target())).collect();
        starts.extend(meant.into_iter().filter(|&at| image.is_executable(at)));
        starts.sort_unstable();
        starts.dedup();
        let next = starts.iter().skip(1).copied().map(Some).chain([None]);
        let ends = starts.iter().zip(next).map(|(&start, next)| {
            let segment = image.segment_at(start).map_or(start, Segment::end);
            Known { start, end: next.map_or(segment, |next| next.min(segment)) }
        });
        Self { sorted: ends.collect(), presumed: true }
    }

    pub(super) fn read(image: &Image<'_>, headers: ProgramHeaders<'_>) -> Self {
        let mut sorted = table(image, headers).unwrap_or_default();
        sorted.sort_unstable();
        sorted.dedup_by_key(|f| f.start);
        for at in 1..sorted.len() {
            // A frame that reaches into the next function is wrong about its end.
            sorted[at - 1].end = sorted[at - 1].end.min(sorted[at].start);
        }
        Self { sorted, presumed: false }
    }
}

/// The table's entries; `None` where there is no table, or one in an encoding no linker writes.
fn table(image: &Image<'_>, headers: ProgramHeaders<'_>) -> Option<Vec<Known>> {
    let (base, file) = header_range(headers, elf::PT_GNU_EH_FRAME)?;
    let bytes = image.bytes().get(usize::try_from(file.start).ok()?..usize::try_from(file.end).ok()?)?;
    let [1, _, COUNT_UDATA4, TABLE_DATAREL_SDATA4] = *bytes.first_chunk::<4>()? else { return None };
    let count = usize::try_from(u32::from_le_bytes(*bytes.get(8..)?.first_chunk::<4>()?)).ok()?;
    let entries = bytes.get(12..)?;
    let mut codes = Encodings::default();
    let known = entries.chunks_exact(8).take(count).filter_map(|entry| {
        let (start, frame) = entry.split_at_checked(4)?;
        let relative =
            |b: &[u8]| Some(VirtAddr(base.0.wrapping_add_signed(i64::from(i32::from_le_bytes(b.try_into().ok()?)))));
        let start = relative(start)?;
        let segment = image.segment_at(start).filter(|s| s.is_executable())?;
        let end = frame_end(image, &mut codes, start, relative(frame)?).unwrap_or(segment.end());
        Some(Known { start, end: end.min(segment.end()) })
    });
    Some(known.collect())
}

/// The end of the code that the frame description at `frame` is for, if it is for code that starts at `start`.
fn frame_end(image: &Image<'_>, codes: &mut Encodings, start: VirtAddr, frame: VirtAddr) -> Option<VirtAddr> {
    let description = image.slice_at(frame, 16)?;
    let field = |n: usize| description.get(n..)?.first_chunk::<4>().map(|b| u32::from_le_bytes(*b));
    let cie = VirtAddr(frame.0.checked_add(4)?.checked_sub(u64::from(field(4)?))?);
    if codes.of(image, cie)? != CODE_PCREL_SDATA4 {
        return None;
    }
    let begin = frame.0.wrapping_add(8).wrapping_add_signed(i64::from(field(8)?.cast_signed()));
    let length = u64::from(field(12)?);
    (begin == start.0 && length > 0).then(|| begin.checked_add(length).map(VirtAddr)).flatten()
}

/// How the frames of the common information entry read last encode code addresses: neighbours share one.
#[derive(Default)]
struct Encodings {
    last: Option<(VirtAddr, Option<u8>)>,
}

impl Encodings {
    fn of(&mut self, image: &Image<'_>, cie: VirtAddr) -> Option<u8> {
        match self.last {
            Some((at, known)) if at == cie => known,
            _ => {
                let read = code_encoding(image, cie);
                self.last = Some((cie, read));
                read
            }
        }
    }
}

/// The `R` of a common information entry's augmentation.
fn code_encoding(image: &Image<'_>, cie: VirtAddr) -> Option<u8> {
    let entry = image.slice_from(cie)?;
    let mut rest = entry.get(9..entry.len().min(64))?;
    let nul = rest.iter().position(|&b| b == 0)?;
    let (letters, tail) = rest.split_at_checked(nul)?;
    let letters = letters.strip_prefix(b"z")?;
    rest = tail.get(1..)?;
    // Code alignment, data alignment, return address register, length of what follows.
    for _ in 0..4 {
        let end = rest.iter().position(|&b| b & 0x80 == 0)?;
        rest = rest.get(end + 1..)?;
    }
    for letter in letters {
        match letter {
            b'R' => return rest.first().copied(),
            b'L' => rest = rest.get(1..)?,
            b'S' | b'B' => {}
            b'P' => {
                let width = match rest.first()? & 0x0f {
                    0x00 | 0x04 | 0x0c => 8,
                    0x02 | 0x0a => 2,
                    0x03 | 0x0b => 4,
                    _ => return None,
                };
                rest = rest.get(1 + width..)?;
            }
            _ => return None,
        }
    }
    None
}
