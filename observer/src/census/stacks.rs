//! The stacks of a process's threads: where they are in use and where each thread's own storage lies.
//!
//! Does not know: what is on them.

use std::collections::HashMap;

use super::cell::word_at;
use super::walk::Walk;
use crate::model::{ProcAddr, Tid};
use crate::target::{AddressRange, Backing, Mapping, Memory, MemoryError, Pagemap, StackPointer, Thread};

/// A mapping right behind an inaccessible one of at most this size is taken for a stack behind its guard.
const GUARD: u64 = 64 << 10;
/// Anonymous mappings up to this size are searched for the first thread's control block.
const SMALL: u64 = 1 << 20;
/// Of the heap, where a static executable's first control block is, only the beginning.
const HEAP_BEGIN: u64 = 64 << 10;
/// Where a control block holds its thread's id: glibc (`struct pthread::tid`) and musl on x86-64.
const TID_OFFSETS: [usize; 2] = [0x2d0, 0x30];
/// Bytes of thread-local storage that are looked at, right below the control block: the executable's own lies there.
const LOCAL_STORAGE: u64 = 16 << 10;

/// One thread's stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stack {
    /// The thread.
    pub tid: Tid,
    /// From its stack pointer to its end; `None` where the pointer is not known.
    pub used: Option<AddressRange>,
    /// Its thread-local storage, where found.
    pub local_storage: Option<AddressRange>,
}

/// The stacks of these threads.
pub fn of_threads(
    threads: &[Thread],
    maps: &[Mapping],
    pagemap: Option<&Pagemap>,
    memory: &Memory<'_>,
) -> Result<Vec<Stack>, MemoryError> {
    let blocks = control_blocks(threads, maps, pagemap, memory)?;
    Ok(threads.iter().map(|thread| stack_of(thread, maps, blocks.get(&thread.tid).copied())).collect())
}

/// Mappings that are stacks of threads, live ones or such as the C library keeps for later.
pub fn stack_mappings(threads: &[Thread], maps: &[Mapping]) -> Vec<AddressRange> {
    let in_use = |range: &AddressRange| {
        threads.iter().any(|thread| match thread.stack_pointer {
            StackPointer::At(pointer) => range.contains(pointer),
            StackPointer::OnCpu | StackPointer::Unknown => false,
        })
    };
    let guarded = |index: usize| {
        let Some(below) = index.checked_sub(1).and_then(|index| maps.get(index)) else { return false };
        let inaccessible = !below.permissions.read && !below.permissions.write && !below.permissions.execute;
        inaccessible && below.range.end == maps[index].range.start && below.range.len() <= GUARD
    };
    let writable = maps.iter().enumerate().filter(|(_, mapping)| mapping.is_private_writable());
    writable
        .filter(|(index, mapping)| {
            let anonymous = mapping.backing == Backing::Anonymous && guarded(*index);
            mapping.backing == Backing::Stack || anonymous || in_use(&mapping.range)
        })
        .map(|(_, mapping)| mapping.range)
        .collect()
}

fn stack_of(thread: &Thread, maps: &[Mapping], block: Option<ProcAddr>) -> Stack {
    let home = |at: ProcAddr| maps.iter().map(|mapping| mapping.range).find(|range| range.contains(at));
    let used = match thread.stack_pointer {
        StackPointer::At(pointer) => home(pointer).map(|home| {
            // The control block lies above the stack; a mapping may go on behind it into somebody else's memory.
            let end = block.filter(|block| (pointer..home.end).contains(block)).unwrap_or(home.end);
            AddressRange { start: ProcAddr(pointer.0 & !7), end }
        }),
        StackPointer::OnCpu | StackPointer::Unknown => None,
    };
    let local_storage = block.and_then(|block| {
        let lowest = home(block)?.start.0;
        Some(AddressRange { start: ProcAddr(block.0.saturating_sub(LOCAL_STORAGE).max(lowest)), end: block })
    });
    Stack { tid: thread.tid, used, local_storage }
}

/// Where each thread's control block is: it begins with its own address and holds the thread's id.
fn control_blocks(
    threads: &[Thread],
    maps: &[Mapping],
    pagemap: Option<&Pagemap>,
    memory: &Memory<'_>,
) -> Result<HashMap<Tid, ProcAddr>, MemoryError> {
    let stacks = stack_mappings(threads, maps);
    let mut homes: Vec<Mapping> = Vec::new();
    for mapping in maps.iter().filter(|mapping| mapping.is_private_writable()) {
        let mut mapping = mapping.clone();
        match mapping.backing {
            Backing::Heap => mapping.range.end = mapping.range.end.min(ProcAddr(mapping.range.start.0 + HEAP_BEGIN)),
            Backing::Anonymous if mapping.range.len() <= SMALL || stacks.contains(&mapping.range) => {}
            _ => continue,
        }
        homes.push(mapping);
    }
    let mut found = HashMap::new();
    Walk::new(&homes, pagemap).run(memory, |at, bytes| {
        for (place, word) in bytes.chunks_exact(8).enumerate().map(|(index, word)| (8 * index, word)) {
            let own = at.0 + place as u64;
            if word_at(word, 0) != Some(own) {
                continue;
            }
            let id_at = |offset: usize| Some(Tid(u32::try_from(word_at(bytes, place + offset)? & 0xffff_ffff).ok()?));
            let ids = TID_OFFSETS.into_iter().filter_map(id_at);
            for tid in ids.filter(|tid| threads.iter().any(|thread| thread.tid == *tid)) {
                found.insert(tid, ProcAddr(own));
            }
        }
    })?;
    Ok(found)
}
