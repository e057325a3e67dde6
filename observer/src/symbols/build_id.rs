//! The image's identity: the linker's build id, or a hash of the content.
//!
//! Does not know: where the image is mapped.

use object::LittleEndian;
use object::elf;
use object::read::elf::ProgramHeader;

use super::image::ProgramHeaders;
use crate::model::BuildId;

/// Longest build id that is believed; linkers write 8 to 32 bytes.
const LONGEST: usize = 64;

/// Reads the notes of every `PT_NOTE`; hashes the whole file only where none holds a build id.
pub(super) fn read(headers: ProgramHeaders<'_>, bytes: &[u8]) -> BuildId {
    noted(headers, bytes).unwrap_or_else(|| BuildId::Content(fnv1a(bytes)))
}

fn noted(headers: ProgramHeaders<'_>, bytes: &[u8]) -> Option<BuildId> {
    headers.iter().find_map(|header| {
        let mut notes = header.notes(LittleEndian, bytes).ok()??;
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
    })
}

fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::fnv1a;

    #[test]
    fn the_content_hash_is_fnv1a_as_published() {
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
    }
}
