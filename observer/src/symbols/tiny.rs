//! Images of a few instructions, written by tests: what a compiler would emit, without the compiler.
//!
//! Does not know: what the tests look for in them.

use std::ops::Range;

/// Where the code of a tiny image is loaded.
pub(crate) const CODE: u64 = 0x40_1000;
/// Where its data is loaded.
pub(crate) const DATA: u64 = 0x40_8000;

/// Base address: file offset is address minus this.
const BASE: u64 = 0x40_0000;
/// Tables (unwind, dynamic, relocations) are loaded here.
const TABLES: u64 = 0x40_4000;

/// What an image is made of.
#[derive(Clone, Debug)]
pub(crate) struct Tiny {
    pub(crate) pie: bool,
    pub(crate) code: Vec<u8>,
    pub(crate) data: Vec<u8>,
    /// What the unwind table knows; without any there is no table.
    pub(crate) functions: Vec<Range<u64>>,
    /// Place and value of relocated words (`RELA`).
    pub(crate) relocated: Vec<(u64, u64)>,
    /// Entries of `RELR`.
    pub(crate) packed: Vec<u64>,
    /// The loader makes the data read-only after relocation (`PT_GNU_RELRO`).
    pub(crate) frozen: bool,
}

impl Tiny {
    /// One function of this code, and this data.
    pub(crate) fn new(code: &[u8], data: &[u8]) -> Self {
        let functions = vec![Range { start: CODE, end: CODE + code.len() as u64 }];
        Self {
            pie: true,
            code: code.to_vec(),
            data: data.to_vec(),
            functions,
            relocated: vec![],
            packed: vec![],
            frozen: false,
        }
    }

    /// The file.
    pub(crate) fn build(&self) -> Vec<u8> {
        let mut tables = Tables::default();
        let unwind = (!self.functions.is_empty()).then(|| tables.unwind(&self.functions));
        let dynamic = tables.dynamic(&self.relocated, &self.packed);
        let mut headers = vec![
            header(1, 5, CODE..CODE + self.code.len() as u64),
            header(1, 4, TABLES..TABLES + tables.bytes.len() as u64),
            header(1, 6, DATA..DATA + self.data.len() as u64),
            header(2, 4, dynamic),
        ];
        if self.frozen {
            headers.push(header(0x6474_e552, 4, DATA..DATA + self.data.len() as u64));
        }
        headers.extend(unwind.map(|range| header(0x6474_e550, 4, range)));
        let mut file = vec![0; usize::try_from(DATA - BASE).expect("small")];
        file.extend(&self.data);
        let mut put = |at: u64, bytes: &[u8]| {
            let from = usize::try_from(at - BASE).expect("small");
            file[from..from + bytes.len()].copy_from_slice(bytes);
        };
        put(BASE, &file_header(self.pie, headers.len()));
        put(BASE + 64, &headers.concat());
        put(CODE, &self.code);
        put(TABLES, &tables.bytes);
        file
    }
}

#[derive(Default)]
struct Tables {
    bytes: Vec<u8>,
}

impl Tables {
    fn here(&self) -> u64 {
        TABLES + self.bytes.len() as u64
    }

    fn relative(&mut self, to: u64) {
        self.offset(self.here(), to);
    }

    fn offset(&mut self, from: u64, to: u64) {
        let offset = i32::try_from(to.cast_signed() - from.cast_signed()).expect("near");
        self.bytes.extend(offset.to_le_bytes());
    }

    fn words(&mut self, words: &[u64]) -> Range<u64> {
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        let start = self.here();
        self.bytes.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        start..self.here()
    }

    /// `.eh_frame` with one common entry, then `.eh_frame_hdr`, whose range is given back.
    fn unwind(&mut self, functions: &[Range<u64>]) -> Range<u64> {
        let common = self.here();
        self.bytes.extend([16, 0, 0, 0, 0, 0, 0, 0, 1, b'z', b'R', 0, 1, 0x78, 16, 1, 0x1b, 0, 0, 0]);
        let mut frames = Vec::new();
        for function in functions {
            frames.push((function.start, self.here()));
            self.bytes.extend(16u32.to_le_bytes());
            let pointer = self.here() - common;
            self.bytes.extend(u32::try_from(pointer).expect("near").to_le_bytes());
            self.relative(function.start);
            self.bytes.extend(u32::try_from(function.end - function.start).expect("short").to_le_bytes());
            self.bytes.extend([0; 4]);
        }
        let start = self.here();
        self.bytes.extend([1, 0x1b, 0x03, 0x3b]);
        self.relative(common);
        self.bytes.extend(u32::try_from(frames.len()).expect("few").to_le_bytes());
        for (function, frame) in frames {
            self.offset(start, function);
            self.offset(start, frame);
        }
        start..self.here()
    }

    fn dynamic(&mut self, relocated: &[(u64, u64)], packed: &[u64]) -> Range<u64> {
        let rela: Vec<u64> = relocated.iter().flat_map(|&(at, to)| [at, 8, to]).collect();
        let rela = self.words(&rela);
        let relr = self.words(packed);
        let size = |range: &Range<u64>| range.end - range.start;
        self.words(&[7, rela.start, 8, size(&rela), 36, relr.start, 35, size(&relr), 0, 0])
    }
}

fn file_header(pie: bool, headers: usize) -> Vec<u8> {
    let mut bytes = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    bytes.extend([if pie { 3 } else { 2 }, 0, 62, 0, 1, 0, 0, 0]);
    bytes.extend([CODE, 64, 0].iter().flat_map(|word| word.to_le_bytes()));
    bytes.extend([0, 0, 0, 0, 64, 0, 56, 0, u8::try_from(headers).expect("few"), 0, 64, 0, 0, 0, 0, 0]);
    bytes
}

fn header(kind: u32, flags: u32, range: Range<u64>) -> Vec<u8> {
    let size = range.end - range.start;
    let mut bytes = [kind, flags].iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
    let words = [range.start - BASE, range.start, range.start, size, size, 8];
    bytes.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    bytes
}
