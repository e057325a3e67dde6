//! The image's notes: its identity, which is the linker's build id or a hash of the content, and whose it is.
//!
//! Does not know: where the image is mapped.

use object::LittleEndian;
use object::elf;
use object::read::elf::{NoteIterator, ProgramHeader};

use super::header::{Header, ProgramHeaders};
use crate::model::{BuildId, content_hash};

/// Longest build id that is believed; linkers write 8 to 32 bytes.
const LONGEST: usize = 64;

/// Reads the notes of every `PT_NOTE`; hashes the whole file only where none holds a build id.
pub(super) fn read(headers: ProgramHeaders<'_>, bytes: &[u8]) -> BuildId {
    noted(headers, bytes).unwrap_or_else(|| BuildId::Content(content_hash(bytes)))
}

fn noted(headers: ProgramHeaders<'_>, bytes: &[u8]) -> Option<BuildId> {
    headers.iter().find_map(|header| in_notes(header.notes(LittleEndian, bytes).ok()??))
}

/// Whether a note of this owner is in the image.
pub(super) fn has_note_of(owner: &[u8], headers: ProgramHeaders<'_>, bytes: &[u8]) -> bool {
    headers.iter().any(|header| {
        let Ok(Some(mut notes)) = header.notes(LittleEndian, bytes) else { return false };
        std::iter::from_fn(|| notes.next().ok().flatten()).any(|note| note.name() == owner)
    })
}

/// The first build id among the notes of one segment.
pub(super) fn in_notes(mut notes: NoteIterator<'_, Header>) -> Option<BuildId> {
    // An unreadable note ends its segment's list: what follows it cannot be found.
    while let Ok(Some(note)) = notes.next() {
        let desc = note.desc();
        if note.name() == elf::ELF_NOTE_GNU
            && note.n_type(LittleEndian) == elf::NT_GNU_BUILD_ID
            && (1..=LONGEST).contains(&desc.len())
        {
            return Some(BuildId::Gnu(desc.to_vec()));
        }
    }
    None
}
