//! The `async-observer` program: all of it stands in the library, so that tests reach it.

use std::process::ExitCode;

/// Makes the program known to other observers, which leave it alone: what an observer reports must not cause more to
/// report. An ELF note, with its owner as `observer::model::OBSERVER_NOTE` has it.
#[used]
#[unsafe(link_section = ".note.async-observer")]
static NOTE: Note = Note { owner_length: 15, content_length: 4, kind: 1, owner: *b"async-observer\0\0", content: 1 };

/// `Elf64_Nhdr` with what stands behind it.
#[repr(C)]
struct Note {
    owner_length: u32,
    content_length: u32,
    kind: u32,
    owner: [u8; 16],
    content: u32,
}

fn main() -> ExitCode {
    observer::cli::run(std::env::args_os())
}
