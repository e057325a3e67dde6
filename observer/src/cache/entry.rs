//! An entry as bytes: a fixed head, then the values in postcard's format.
//!
//! Does not know: files. Reading never panics, and takes no more memory than a small multiple of the bytes: every element
//! of a list takes at least a byte of them, and lists are not made longer before.

use serde::{Deserialize, Serialize};

use super::error::Stale;
use super::evidence::Evidence;
use super::key::Key;
use crate::model::{Analysis, content_hash};

/// What every entry begins with.
const MAGIC: [u8; 8] = *b"\x7fAOIMAGE";
/// How an entry is laid out; what the values are is the version's.
const FORMAT: u32 = 1;
/// The magic number, the format, the hash of the version, the length of the rest and its checksum.
pub(super) const HEAD: usize = 8 + 4 + 8 + 8 + 8;

/// What is kept of an image.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Entry {
    pub(super) key: Key,
    pub(super) evidence: Evidence,
    pub(super) analysis: Analysis,
}

/// The same, borrowed.
#[derive(Serialize)]
struct Borrowed<'a> {
    key: &'a Key,
    evidence: &'a Evidence,
    analysis: &'a Analysis,
}

impl Entry {
    /// The bytes of an entry; `None` where the values cannot be written.
    pub(super) fn seal(version: &str, key: &Key, evidence: &Evidence, analysis: &Analysis) -> Option<Vec<u8>> {
        let values = postcard::to_allocvec(&Borrowed { key, evidence, analysis }).ok()?;
        Some(sealed(version, &values))
    }

    /// The entry of this version and image in the bytes.
    pub(super) fn unseal(bytes: &[u8], version: &str, key: &Key) -> Result<Self, Stale> {
        let (head, values) = bytes.split_at_checked(HEAD).ok_or(Stale::Damaged)?;
        let (says_what, rest) = head.split_at(20);
        if says_what != says(version) {
            return Err(if says_what.starts_with(&MAGIC) { Stale::OtherVersion } else { Stale::Damaged });
        }
        let seal = [(values.len() as u64).to_le_bytes(), content_hash(values).to_le_bytes()].concat();
        if rest != seal {
            return Err(Stale::Damaged);
        }
        let (entry, left) = postcard::take_from_bytes::<Self>(values).map_err(|_| Stale::Damaged)?;
        match () {
            () if !left.is_empty() => Err(Stale::Damaged),
            () if entry.key != *key => Err(Stale::OtherImage),
            () => Ok(entry),
        }
    }
}

fn says(version: &str) -> [u8; 20] {
    let mut says = [0; 20];
    says[..8].copy_from_slice(&MAGIC);
    says[8..12].copy_from_slice(&FORMAT.to_le_bytes());
    says[12..].copy_from_slice(&content_hash(version.as_bytes()).to_le_bytes());
    says
}

/// Values behind a head that is right for them.
pub(super) fn sealed(version: &str, values: &[u8]) -> Vec<u8> {
    let (length, checksum) = (values.len() as u64, content_hash(values));
    [&says(version), &length.to_le_bytes()[..], &checksum.to_le_bytes(), values].concat()
}
