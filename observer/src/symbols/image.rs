//! One parsed image: the door to everything its bytes tell.
//!
//! Does not know: what any of it means. Section headers are used for symbols only; the rest comes from what the loader uses.

use std::ops::Range;

use object::read::elf::FileHeader;
use object::{LittleEndian, Object, elf};

use super::debug_link::DebugLink;
use super::dynamic::Dynamic;
use super::error::{ImageError, NotItsFile};
use super::header::{ProgramHeaders, frozen, loadable_header};
use super::{Functions, Pointers, Segment, Symbol, build_id, symbol_table};
use crate::model::{BuildId, FileOffset, VirtAddr};

/// An x86-64 ELF executable or shared object.
#[derive(Clone, Debug)]
pub struct Image<'d> {
    bytes: &'d [u8],
    /// A file that has the symbols and the debug information, where that is another one.
    apart: Option<&'d [u8]>,
    /// A file with what its debug information shares with that of others.
    shared: Option<&'d [u8]>,
    /// Files that have entries of its units.
    split: Vec<&'d [u8]>,
    segments: Vec<Segment>,
    frozen: Range<VirtAddr>,
    pointers: Pointers,
    functions: Functions,
    needed: Vec<&'d str>,
    headers: ProgramHeaders<'d>,
    build_id: BuildId,
    pie: bool,
    stripped: bool,
}

impl<'d> Image<'d> {
    /// Reads the headers, relocations and function table. Linear in the size of the image.
    pub fn parse(bytes: &'d [u8]) -> Result<Self, ImageError> {
        let header = loadable_header(bytes)?;
        let headers: ProgramHeaders<'d> =
            header.program_headers(LittleEndian, bytes).map_err(|_| ImageError::Truncated("program headers"))?;
        let segments = Segment::loaded(headers, bytes.len())?;
        let pie = header.e_type(LittleEndian) == elf::ET_DYN;
        let mut image = Self {
            bytes,
            apart: None,
            shared: None,
            split: Vec::new(),
            headers,
            segments,
            frozen: frozen(headers),
            pointers: Pointers::default(),
            functions: Functions::default(),
            needed: Vec::new(),
            build_id: build_id::read(headers, bytes),
            pie,
            stripped: symbol_table::open(bytes).is_none(),
        };
        let dynamic = Dynamic::read(bytes, headers);
        image.needed = dynamic.needed(&image);
        image.pointers = Pointers::read(&image, dynamic)?;
        image.functions = Functions::read(&image, headers);
        Ok(image)
    }

    /// The file that its debug information was put into, if it says so.
    pub fn debug_link(&self) -> Option<DebugLink> {
        let part = |range: Range<u64>| {
            Some(self.bytes.get(usize::try_from(range.start).ok()?..usize::try_from(range.end).ok()?)?.to_vec())
        };
        DebugLink::of(part)
    }

    /// Whether another file has this image's symbols and debug information: it has the same build id or, of an image that has none,
    /// the sum that its debuglink tells. Else why it is not used.
    pub fn check_debug_file(&self, bytes: &[u8]) -> Result<(), NotItsFile> {
        let file = object::read::elf::ElfFile64::<LittleEndian>::parse(bytes).map_err(|_| NotItsFile::Unreadable)?;
        let same = match &self.build_id {
            BuildId::Gnu(own) => file.build_id().ok().flatten() == Some(&own[..]),
            BuildId::Content(_) => self.debug_link().is_some_and(|link| link.is_of(bytes)),
        };
        match () {
            () if !same => Err(NotItsFile::OfAnother),
            () if !file.has_debug_symbols() && symbol_table::open(bytes).is_none() => Err(NotItsFile::Empty),
            () => Ok(()),
        }
    }

    /// The same of a file of which only the build id is known. What that does not tell its content does.
    pub fn check_debug_id(&self, id: Option<&BuildId>) -> Result<(), NotItsFile> {
        match (&self.build_id, id) {
            (BuildId::Gnu(own), Some(BuildId::Gnu(other))) if own != other => Err(NotItsFile::OfAnother),
            _ => Ok(()),
        }
    }

    /// Takes symbols and debug information from another file, which was checked to be its own.
    pub fn take_debug_file(&mut self, bytes: &'d [u8]) {
        self.apart = Some(bytes);
    }

    /// Takes a file that has entries of its units, or of units of its debug file. Of what is in it only those are believed.
    pub fn take_split_file(&mut self, bytes: &'d [u8]) {
        self.split.push(bytes);
    }

    /// Takes a file with what its debug information shares with that of others, which was checked to be the one that is meant.
    pub fn take_shared_file(&mut self, bytes: &'d [u8]) {
        self.shared = Some(bytes);
    }

    pub(super) fn shared_bytes(&self) -> Option<&'d [u8]> {
        self.shared
    }

    pub(super) fn split_bytes(&self) -> &[&'d [u8]] {
        &self.split
    }

    /// The bytes of the file that debug information is in.
    pub(super) fn debug_bytes(&self) -> &'d [u8] {
        self.apart.unwrap_or(self.bytes)
    }

    /// All bytes of the file.
    pub fn bytes(&self) -> &'d [u8] {
        self.bytes
    }

    /// The loaded segments, by address; they do not overlap.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The segment whose memory holds the address.
    pub fn segment_at(&self, at: VirtAddr) -> Option<&Segment> {
        let after = self.segments.partition_point(|s| s.start() <= at);
        self.segments.get(after.checked_sub(1)?).filter(|s| s.holds(at))
    }

    /// Where the file has the byte that is loaded to this address; `None` where it is not from the file.
    pub fn offset_of(&self, at: VirtAddr) -> Option<FileOffset> {
        self.segment_at(at)?.offset_of(at)
    }

    /// `len` bytes of the file as loaded from `at` on; `None` unless all are from one segment's file part.
    pub fn slice_at(&self, at: VirtAddr, len: usize) -> Option<&'d [u8]> {
        let all = self.slice_from(at)?;
        all.get(..len)
    }

    /// The bytes from `at` to the end of its segment's file part.
    pub fn slice_from(&self, at: VirtAddr) -> Option<&'d [u8]> {
        let segment = self.segment_at(at)?;
        let from = usize::try_from(segment.offset_of(at)?.0).ok()?;
        self.bytes.get(from..segment.file().end)
    }

    /// The bytes of a range of addresses, as [`Image::slice_at`].
    pub fn slice(&self, range: Range<VirtAddr>) -> Option<&'d [u8]> {
        self.slice_at(range.start, usize::try_from(range.end.0.checked_sub(range.start.0)?).ok()?)
    }

    /// The 8 bytes at `at` as the file has them, before relocation.
    pub fn word_at(&self, at: VirtAddr) -> Option<u64> {
        self.slice_at(at, 8)?.try_into().ok().map(u64::from_le_bytes)
    }

    /// The link-time address that the word at `at` holds after relocation, if it holds one.
    pub fn pointer_at(&self, at: VirtAddr) -> Option<VirtAddr> {
        self.pointers.at(at)
    }

    /// All relocated words, by place.
    pub fn pointers(&self) -> &Pointers {
        &self.pointers
    }

    /// Whether the address is in a segment that may be executed.
    pub fn is_executable(&self, at: VirtAddr) -> bool {
        self.segment_at(at).is_some_and(Segment::is_executable)
    }

    /// Whether the program itself may write there: in a writable segment, and not made read-only once it is relocated.
    pub fn is_variable(&self, at: VirtAddr) -> bool {
        !self.frozen.contains(&at) && self.segment_at(at).is_some_and(Segment::is_writable)
    }

    /// Function starts from the unwind table; empty where there is none.
    pub fn functions(&self) -> &Functions {
        &self.functions
    }

    /// The file names of the libraries that the loader maps with the image.
    pub fn needed(&self) -> &[&'d str] {
        &self.needed
    }

    /// The image's identity.
    pub fn build_id(&self) -> &BuildId {
        &self.build_id
    }

    /// Whether the image carries a note of this owner, which it does for as long as it can be run: no strip takes it out.
    pub fn has_note_of(&self, owner: &[u8]) -> bool {
        build_id::has_note_of(owner, self.headers, self.bytes)
    }

    /// Loaded at any address (position independent, static-pie and shared objects too).
    pub fn is_pie(&self) -> bool {
        self.pie
    }

    /// No symbol table.
    pub fn is_stripped(&self) -> bool {
        self.stripped
    }

    /// The defined symbols that have an address, in file order; none where the image is stripped, and no debug file has them.
    pub fn symbols(&self) -> impl Iterator<Item = Symbol<'d>> + use<'d> {
        symbol_table::iter(if self.stripped { self.debug_bytes() } else { self.bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::symbols::own;
    use crate::symbols::tiny::{CODE, DATA, Tiny};

    #[test]
    fn foreign_files_are_refused_each_with_its_own_error() {
        let whole = own::bytes();
        let with = |at: usize, value: u8| {
            let mut bytes = whole.to_vec();
            bytes[at] = value;
            Image::parse(&bytes).map(|_| ())
        };
        assert_eq!(Image::parse(b"").map(|_| ()), Err(ImageError::NotElf));
        assert_eq!(Image::parse(b"#!/bin/sh\n").map(|_| ()), Err(ImageError::NotElf));
        assert_eq!(Image::parse(b"\x7fELF").map(|_| ()), Err(ImageError::Truncated("file header")));
        assert_eq!(with(4, 1), Err(ImageError::Not64Bit));
        assert_eq!(with(5, 2), Err(ImageError::NotLittleEndian));
        assert_eq!(with(18, 183), Err(ImageError::OtherMachine(183)));
        assert_eq!(with(16, 4), Err(ImageError::NotLoadable(4)));
        assert_eq!(Image::parse(&whole[..4096]).map(|_| ()), Err(ImageError::Truncated("segments")));
    }

    #[test]
    fn a_debug_file_is_refused_with_the_reason_unless_it_is_the_image_s_own_and_tells_something() {
        let (image, whole) = (own::image(), own::bytes());
        assert_eq!(image.check_debug_file(whole), Ok(()));
        for unreadable in [&b""[..], b"\x7fELF", &whole[..whole.len() / 2]] {
            assert_eq!(image.check_debug_file(unreadable), Err(NotItsFile::Unreadable), "{} bytes", unreadable.len());
        }
        assert_eq!(image.check_debug_file(&Tiny::new(&[0xc3], &[0; 8]).build()), Err(NotItsFile::OfAnother));
        // Without section headers: the build id is found by the program headers.
        let mut bare = whole.to_vec();
        bare[40..48].fill(0);
        bare[60..64].fill(0);
        assert_eq!(image.check_debug_file(&bare), Err(NotItsFile::Empty));
    }

    #[test]
    fn the_running_program_is_at_the_places_the_image_says() {
        let image = own::image();
        assert!(!image.is_stripped());
        let at = own::landmark_in_file();
        let running = own::memory(own::landmark_here(), 8);
        let offset = usize::try_from(image.offset_of(at).expect("in the file").0).expect("small");
        assert_eq!(own::bytes()[offset..offset + 8], running);
        assert_eq!(image.slice_at(at, 8), Some(&running[..]));
        assert!(image.is_executable(at) && !image.is_variable(at));
        assert_eq!(own::landmark(), 0x5eed);
    }

    #[test]
    fn relocated_words_are_what_the_loader_wrote() {
        static WORD: &&str = &"somewhere";
        static COUNTER: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
        let image = own::image();
        let at = |address: u64| own::bias().to_virtual(crate::model::ProcAddr(address));
        let place = at(std::ptr::from_ref(WORD) as u64);
        assert_eq!(image.pointer_at(place), Some(at(WORD.as_ptr() as u64)));
        assert_eq!(image.pointer_at(VirtAddr(place.0 + 8)), None, "the length is no pointer");
        assert!(!image.is_variable(place), "the loader froze it");
        assert!(image.is_variable(at(std::ptr::from_ref(&COUNTER) as u64)));
    }

    #[test]
    fn the_unwind_table_knows_functions_as_the_symbol_table_does() {
        let image = own::image();
        let rust = image.symbols().filter(|s| s.is_function && s.size > 0 && s.name.contains("observer"));
        let mut compared = 0;
        for symbol in rust {
            let known = image.functions().containing(VirtAddr(symbol.at.0 + symbol.size - 1));
            assert_eq!(known, Some(symbol.at..VirtAddr(symbol.at.0 + symbol.size)), "{}", symbol.name);
            compared += 1;
        }
        assert!(compared > 100, "{compared} functions compared");
    }

    #[test]
    fn packed_relocations_are_unpacked() {
        let mut tiny = Tiny::new(&[0xc3], &[CODE, 7, CODE, DATA].map(u64::to_le_bytes).concat());
        // The first word itself, then a bitmap of those behind it: the second and the third.
        tiny.packed = vec![DATA, 0b110 << 1 | 1];
        let bytes = tiny.build();
        let image = Image::parse(&bytes).expect("tiny images are images");
        let words = [0, 8, 16, 24].map(|n| image.pointer_at(VirtAddr(DATA + n)));
        assert_eq!(words, [Some(VirtAddr(CODE)), None, Some(VirtAddr(CODE)), Some(VirtAddr(DATA))]);
    }

    #[test]
    fn at_a_fixed_address_words_that_are_addresses_are_pointers() {
        let mut tiny = Tiny::new(&[0xc3], &[CODE, 7, 0x1000, DATA].map(u64::to_le_bytes).concat());
        tiny.pie = false;
        let bytes = tiny.build();
        let image = Image::parse(&bytes).expect("tiny images are images");
        let words = [0, 8, 16, 24].map(|n| image.pointer_at(VirtAddr(DATA + n)));
        assert_eq!(words, [Some(VirtAddr(CODE)), None, None, Some(VirtAddr(DATA))]);
    }

    #[test]
    fn an_image_that_relocates_more_words_than_it_has_is_malformed() {
        let mut tiny = Tiny::new(&[0xc3], &[0; 512]);
        tiny.packed = vec![DATA];
        for _ in 0..150 {
            tiny.packed.extend([DATA, u64::MAX]);
        }
        let expected = Err(ImageError::Malformed("it relocates more words than it has"));
        assert_eq!(Image::parse(&tiny.build()).map(|_| ()), expected);
    }
}
