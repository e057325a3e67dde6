//! Why the bytes of a file are not read.
//!
//! Does not know: what is in them.

/// Why the bytes are no image that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// The magic number is not ELF's.
    #[error("not an ELF file")]
    NotElf,
    /// `ELFCLASS32`.
    #[error("a 32-bit ELF file; only 64-bit x86-64 is supported")]
    Not64Bit,
    /// Big-endian, or no byte order at all.
    #[error("not a little-endian ELF file; only 64-bit x86-64 is supported")]
    NotLittleEndian,
    /// Another instruction set, with ELF's number for it.
    #[error("an ELF file for machine {0}; only x86-64 (62) is supported")]
    OtherMachine(u16),
    /// An object file or a core dump, with ELF's number for the type.
    #[error("an ELF file of type {0}; only executables (2) and shared objects (3) can be mapped")]
    NotLoadable(u16),
    /// The file ends before what its headers promise.
    #[error("the ELF file is truncated: its {0} lie beyond its end")]
    Truncated(&'static str),
    /// Headers that contradict each other: no linker wrote them.
    #[error("the ELF file is malformed: {0}")]
    Malformed(&'static str),
}

/// What is said of a file that is no ELF file, whatever it was to be.
pub(super) const UNREADABLE: &str = "it cannot be read: it is no ELF file, or not a whole one";

/// Why a file is not used for an image's symbols and debug information.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotItsFile {
    /// No ELF file, or one that is cut short.
    #[error("{UNREADABLE}")]
    Unreadable,
    /// Another build id; or another sum than the debuglink's.
    #[error("it is of another program (by its build id or, without one, its checksum)")]
    OfAnother,
    /// Its own, and stripped as the image is.
    #[error("it has neither symbols nor debug information")]
    Empty,
}
