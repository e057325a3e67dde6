//! The unwind table (`.eh_frame`): for each place of the code, how to get to its caller. `strip` and `panic = "abort"`
//! leave it in place.
//!
//! Does not know: stacks. Expressions are not evaluated: in code that compilers make of Rust there are none, and a
//! hostile one need not end.

use gimli::{
    BaseAddresses, CfaRule, EhFrame, EhFrameHdr, EndianSlice, FrameDescriptionEntry, LittleEndian, Register,
    RegisterRule, UnwindContext, UnwindSection as _, X86_64,
};
use object::elf;
use object::read::elf::{ElfFile64, FileHeader};
use object::{Object as _, ObjectSection as _};

use super::Image;
use super::header::{Header, header_range};
use crate::model::{Cfa, Kept, NoRule, Saved, UnwindRule, VirtAddr};

type Bytes<'a> = EndianSlice<'a, LittleEndian>;
type Description<'a> = FrameDescriptionEntry<Bytes<'a>>;

/// Bytes of an address, which the table's encodings refer to.
const ADDRESS_SIZE: u8 = 8;

/// One image's table, independent of the image's bytes.
#[derive(Clone, Debug)]
pub struct UnwindTable {
    bases: BaseAddresses,
    frames: Vec<u8>,
    search: Search,
}

/// How the description of a place is found.
#[derive(Clone, Debug)]
enum Search {
    /// By the linker's own sorted table (`.eh_frame_hdr`).
    Header(Vec<u8>),
    /// By ours, made where the linker left none: start of the code, end, offset of its description.
    Listed(Vec<(u64, u64, usize)>),
}

impl UnwindTable {
    /// Copies the table out of the image; `None` where it has none.
    pub fn of(image: &Image<'_>) -> Option<Self> {
        Self::by_header(image).or_else(|| Self::by_section(image))
    }

    fn by_header(image: &Image<'_>) -> Option<Self> {
        let header = Header::parse(image.bytes()).ok()?;
        let headers = header.program_headers(object::LittleEndian, image.bytes()).ok()?;
        let (at, file) = header_range(headers, elf::PT_GNU_EH_FRAME)?;
        let bytes = image.bytes().get(usize::try_from(file.start).ok()?..usize::try_from(file.end).ok()?)?;
        let bases = BaseAddresses::default().set_eh_frame_hdr(at.0);
        let parsed = EhFrameHdr::new(bytes, LittleEndian).parse(&bases, ADDRESS_SIZE).ok()?;
        parsed.table()?;
        let frames = parsed.eh_frame_ptr().direct().ok()?;
        Some(Self {
            bases: bases.set_eh_frame(frames),
            // To the end of the segment: where the table ends is told by section headers only, and nothing asks for it.
            frames: image.slice_from(VirtAddr(frames))?.to_vec(),
            search: Search::Header(bytes.to_vec()),
        })
    }

    fn by_section(image: &Image<'_>) -> Option<Self> {
        let file = ElfFile64::<object::LittleEndian>::parse(image.bytes()).ok()?;
        let section = file.section_by_name(".eh_frame")?;
        let bases = BaseAddresses::default().set_eh_frame(section.address());
        let frames = section.data().ok()?.to_vec();
        let mut listed = Vec::new();
        let table = table(&frames);
        let mut entries = table.entries(&bases);
        // One that cannot be read ends the list: what lies behind it cannot be found either.
        while let Ok(Some(entry)) = entries.next() {
            if let gimli::CieOrFde::Fde(partial) = entry
                && let Ok(description) = partial.parse(EhFrame::cie_from_offset)
            {
                let start = description.initial_address();
                listed.push((start, start.saturating_add(description.len()), description.offset()));
            }
        }
        listed.sort_unstable();
        (!listed.is_empty()).then_some(Self { bases, frames, search: Search::Listed(listed) })
    }

    /// The rule for the instruction that this address is in. Work is bounded by the length of one function's description.
    pub fn rule_at(&self, at: VirtAddr) -> Result<UnwindRule, NoRule> {
        let table = table(&self.frames);
        let description = self.description(&table, at).ok_or(NoRule::NotCovered)?;
        let mut context = UnwindContext::new();
        let row = description.unwind_info_for_address(&table, &self.bases, &mut context, at.0);
        let row = row.map_err(|_| NoRule::NotCovered)?;
        let return_address = description.cie().return_address_register();
        let kept = Kept::ALL.map(|register| saved(row.register(number(register)), Saved::Same));
        Ok(UnwindRule {
            cfa: match row.cfa() {
                CfaRule::RegisterAndOffset { register: X86_64::RSP, offset } => Cfa::Sp(*offset),
                CfaRule::RegisterAndOffset { register, offset } => {
                    by_number(*register).map_or(Cfa::Unsupported, |register| Cfa::Register(register, *offset))
                }
                CfaRule::Expression(_) => Cfa::Unsupported,
            },
            return_address: saved(row.register(return_address), Saved::Nowhere),
            kept,
        })
    }

    /// Where the code begins that the place belongs to, as the table has it.
    pub fn start_of(&self, at: VirtAddr) -> Option<VirtAddr> {
        let table = table(&self.frames);
        self.description(&table, at).map(|description| VirtAddr(description.initial_address()))
    }

    fn description<'t>(&self, table: &EhFrame<Bytes<'t>>, at: VirtAddr) -> Option<Description<'t>> {
        let offset = match &self.search {
            Search::Header(bytes) => {
                let header = EhFrameHdr::new(bytes, LittleEndian).parse(&self.bases, ADDRESS_SIZE).ok()?;
                let sorted = header.table()?;
                let found = sorted.lookup(at.0, &self.bases).ok()?;
                // A table may point to outside of the frames, which the subtraction inside does not expect.
                let frames = header.eh_frame_ptr().direct().ok()?;
                usize::try_from(found.direct().ok()?.checked_sub(frames)?).ok()?
            }
            Search::Listed(listed) => {
                let after = listed.partition_point(|(start, ..)| *start <= at.0);
                listed.get(after.checked_sub(1)?)?.2
            }
        };
        let description = table.fde_from_offset(&self.bases, offset.into(), EhFrame::cie_from_offset).ok()?;
        description.contains(at.0).then_some(description)
    }
}

fn table(frames: &[u8]) -> EhFrame<Bytes<'_>> {
    let mut table = EhFrame::new(frames, LittleEndian);
    table.set_address_size(ADDRESS_SIZE);
    table
}

/// What a rule says; `unsaid` where there is none.
fn saved(rule: Option<RegisterRule<usize>>, unsaid: Saved) -> Saved {
    match rule {
        None => unsaid,
        Some(RegisterRule::Undefined) => Saved::Nowhere,
        Some(RegisterRule::SameValue) => Saved::Same,
        Some(RegisterRule::Offset(offset)) => Saved::At(offset),
        Some(RegisterRule::ValOffset(offset)) => Saved::Is(offset),
        Some(RegisterRule::Register(register)) => by_number(register).map_or(Saved::Unsupported, Saved::In),
        Some(_) => Saved::Unsupported,
    }
}

fn number(register: Kept) -> Register {
    match register {
        Kept::Rbx => X86_64::RBX,
        Kept::Rbp => X86_64::RBP,
        Kept::R12 => X86_64::R12,
        Kept::R13 => X86_64::R13,
        Kept::R14 => X86_64::R14,
        Kept::R15 => X86_64::R15,
    }
}

fn by_number(register: Register) -> Option<Kept> {
    Kept::ALL.into_iter().find(|kept| number(*kept) == register)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::symbols::own;
    use proptest::prelude::*;

    #[test]
    fn at_a_functions_entry_the_return_address_is_on_top() {
        let table = UnwindTable::of(own::image()).expect("test binaries have one");
        let rule = table.rule_at(own::landmark_in_file()).expect("it covers the landmark");
        assert_eq!((rule.cfa, rule.return_address), (Cfa::Sp(8), Saved::At(-8)));
        assert_eq!(rule.kept, [Saved::Same; 6]);
        assert_eq!(table.start_of(VirtAddr(own::landmark_in_file().0 + 1)), Some(own::landmark_in_file()));
    }

    #[test]
    fn a_list_of_ones_own_tells_the_same_as_the_linkers() {
        let (by_header, listed) =
            (UnwindTable::by_header(own::image()).unwrap(), UnwindTable::by_section(own::image()).unwrap());
        let starts: Vec<VirtAddr> = own::image().functions().starts().step_by(97).collect();
        assert!(starts.len() > 100);
        for at in starts.iter().flat_map(|at| [*at, VirtAddr(at.0 + 3)]) {
            assert_eq!(by_header.rule_at(at), listed.rule_at(at), "{at}");
        }
    }

    #[test]
    fn code_that_no_description_is_for_is_not_covered() {
        let table = UnwindTable::of(own::image()).unwrap();
        for at in [0, 1, u64::MAX] {
            assert_eq!(table.rule_at(VirtAddr(at)), Err(NoRule::NotCovered));
        }
    }

    /// A table with what a hostile image may have in it, and places that its own header would find.
    fn tampered(changes: &[(usize, u8)], hdr: &[(usize, u8)]) -> UnwindTable {
        let mut table = UnwindTable::of(own::image()).unwrap();
        table.frames.truncate(1 << 14);
        for (at, value) in changes {
            let len = table.frames.len();
            table.frames[at % len] = *value;
        }
        if let Search::Header(bytes) = &mut table.search {
            for (at, value) in hdr {
                let len = bytes.len().min(4096);
                bytes[at % len] = *value;
            }
        }
        table
    }

    proptest! {
        #[test]
        fn no_table_panics_or_runs_on(
            changes in proptest::collection::vec((any::<usize>(), any::<u8>()), 0..400),
            hdr in proptest::collection::vec((any::<usize>(), any::<u8>()), 0..8),
            places in proptest::collection::vec(any::<usize>(), 1..20),
        ) {
            let table = tampered(&changes, &hdr);
            let starts: Vec<VirtAddr> = own::image().functions().starts().take(600).collect();
            for place in places {
                let _ = table.rule_at(VirtAddr(starts[place % starts.len()].0 + place as u64 % 64));
            }
        }

        #[test]
        fn no_bytes_panic(frames in proptest::collection::vec(any::<u8>(), 0..300), offset in 0usize..300, at: u64) {
            let bases = BaseAddresses::default().set_eh_frame(0x1000);
            let search = Search::Listed(vec![(0, u64::MAX, offset)]);
            let _ = UnwindTable { bases, frames, search }.rule_at(VirtAddr(at));
        }
    }
}
