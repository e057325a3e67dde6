//! The system calls on maps that are needed while programs run; aya 0.14 has no batches, and binds maps to types that
//! this side does not name.
//!
//! Does not know what the maps hold.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use aya_obj::generated::bpf_cmd;

use super::kernel::bpf;

/// `BPF_MAP_UPDATE_ELEM` and `BPF_MAP_LOOKUP_ELEM`, and the beginning of them `BPF_MAP_DELETE_ELEM`.
#[repr(C)]
struct MapElement {
    map_fd: u32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

impl MapElement {
    /// Of a map, with places of its key and value, which must outlive the call.
    fn of<K>(map: BorrowedFd<'_>, key: &K, value: u64) -> Self {
        Self { map_fd: map.as_raw_fd() as u32, pad: 0, key: (&raw const *key) as u64, value, flags: 0 }
    }
}

/// Whether there was the entry that the kernel was asked for.
fn was_there(answer: io::Result<libc::c_long>) -> io::Result<bool> {
    match answer {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

/// `BPF_MAP_LOOKUP_BATCH`.
#[repr(C)]
struct MapBatch {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

/// Entries read at once. More than any bucket of a map holds, or the kernel would stop at that one.
const BATCH: usize = 512;

/// `BPF_MAP_FREEZE`.
#[repr(C)]
struct MapFreeze {
    map_fd: u32,
}

/// Sets the one value of a map that has one, which is as long as this.
pub(super) fn fill(map: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<()> {
    let key = 0u32;
    let update = MapElement::of(map, &key, bytes.as_ptr() as u64);
    // SAFETY: key and value outlive the call; the map was created with values of this length.
    unsafe { bpf(bpf_cmd::BPF_MAP_UPDATE_ELEM, &update) }.map(drop)
}

/// From now on nobody but programs may change the map.
pub(super) fn freeze(map: BorrowedFd<'_>) -> io::Result<()> {
    let freeze = MapFreeze { map_fd: map.as_raw_fd() as u32 };
    // SAFETY: a plain number.
    unsafe { bpf(bpf_cmd::BPF_MAP_FREEZE, &freeze) }.map(drop)
}

/// Sets one entry of a map whose keys and values have these types.
pub(super) fn update<V: Copy>(map: BorrowedFd<'_>, key: u32, value: V) -> io::Result<()> {
    let update = MapElement::of(map, &key, (&raw const value) as u64);
    // SAFETY: key and value outlive the call and have the map's sizes.
    unsafe { bpf(bpf_cmd::BPF_MAP_UPDATE_ELEM, &update) }.map(drop)
}

/// Removes one entry of a map whose keys have this type; whether there was one.
pub(super) fn remove<K: Copy>(map: BorrowedFd<'_>, key: K) -> io::Result<bool> {
    let removal = MapElement::of(map, &key, 0);
    // SAFETY: the key outlives the call and has the map's size.
    was_there(unsafe { bpf(bpf_cmd::BPF_MAP_DELETE_ELEM, &removal) })
}

/// Removes the entries of a hash map, whose keys and values have these types, of which this is true.
pub(super) fn remove_those<K: Copy + Default, V: Copy + Default>(
    map: BorrowedFd<'_>,
    is_one: impl Fn(&V) -> bool,
) -> io::Result<()> {
    let mut those: Vec<K> = Vec::new();
    each(map, |key: K, value| those.extend(is_one(value).then_some(key)))?;
    those.iter().try_for_each(|key| remove(map, *key).map(drop))
}

/// The entry of a map whose keys and values have these types; `None` where there is none.
pub(super) fn look_up<K: Copy, V: Copy + Default>(map: BorrowedFd<'_>, key: K) -> io::Result<Option<V>> {
    let mut value = V::default();
    let question = MapElement::of(map, &key, (&raw mut value) as u64);
    // SAFETY: key and value outlive the call and have the map's sizes.
    let found = was_there(unsafe { bpf(bpf_cmd::BPF_MAP_LOOKUP_ELEM, &question) })?;
    Ok(found.then_some(value))
}

/// Every entry of a hash map, whose keys and values have these types, that is there from the beginning of this reading to
/// its end, and perhaps some that are not: the map is read bucket by bucket, while programs go on writing.
pub(super) fn each<K: Copy + Default, V: Copy + Default>(
    map: BorrowedFd<'_>,
    mut take: impl FnMut(K, &V),
) -> io::Result<()> {
    let mut keys = vec![K::default(); BATCH];
    let mut values = vec![V::default(); BATCH];
    let mut place = 0u32;
    let mut begun = false;
    loop {
        let mut next = 0u32;
        let mut batch = MapBatch {
            in_batch: if begun { (&raw const place) as u64 } else { 0 },
            out_batch: (&raw mut next) as u64,
            keys: keys.as_mut_ptr() as u64,
            values: values.as_mut_ptr() as u64,
            count: BATCH as u32,
            map_fd: map.as_raw_fd() as u32,
            elem_flags: 0,
            flags: 0,
        };
        // SAFETY: both arrays have room for `count` entries of the map's types, the places are the four bytes that a
        // hash map's batches have, and all of it outlives the call. The kernel writes `count` back.
        let end = match unsafe { bpf_mut(bpf_cmd::BPF_MAP_LOOKUP_BATCH, &mut batch) } {
            Ok(_) => false,
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => true,
            Err(error) => return Err(error),
        };
        for (key, value) in keys.iter().zip(&values).take(batch.count as usize) {
            take(*key, value);
        }
        if end {
            return Ok(());
        }
        (place, begun) = (next, true);
    }
}

/// # Safety
/// As [`bpf`], for a command that writes to `attr`.
unsafe fn bpf_mut<T>(command: bpf_cmd, attr: &mut T) -> io::Result<libc::c_long> {
    // SAFETY: the caller's promise; the exclusive borrow lets the kernel write.
    unsafe { bpf(command, &raw mut *attr) }
}
