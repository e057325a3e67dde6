//! A word among bytes.

/// The word at this place, in the machine's byte order.
pub fn word_at(bytes: &[u8], place: usize) -> Option<u64> {
    bytes.get(place..place.checked_add(8)?)?.try_into().ok().map(u64::from_ne_bytes)
}
