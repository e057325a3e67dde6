//! The stacks of a process's threads: where they are in use and where each thread's own storage lies.
//!
//! Does not know: what is on them.

use std::collections::HashMap;

use super::walk::Walk;
use crate::model::{ProcAddr, Tid, word_at};
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Pid;
    use crate::target::{Process, parse_maps};

    const MAPS: &str = "\
7f0000000000-7f0000200000 rw-p 00000000 00:00 0
7f0000300000-7f0000301000 ---p 00000000 00:00 0
7f0000301000-7f0000401000 rw-p 00000000 00:00 0
7f0000500000-7f0004000000 ---p 00000000 00:00 0
7f0004000000-7f0004100000 rw-p 00000000 00:00 0
7ffd00000000-7ffd00021000 rw-p 00000000 00:00 0          [stack]
";

    fn thread(tid: u32, stack_pointer: StackPointer) -> Thread {
        Thread { tid: Tid(tid), name: "t".into(), stack_pointer }
    }

    #[test]
    fn a_stack_is_known_by_its_name_its_guard_or_a_threads_pointer() {
        let maps = parse_maps(MAPS).unwrap();
        let starts = |threads: &[Thread]| -> Vec<u64> {
            stack_mappings(threads, &maps).into_iter().map(|range| range.start.0).collect()
        };
        assert_eq!(starts(&[]), [0x7f00_0030_1000, 0x7ffd_0000_0000]);
        let pointing = [thread(1, StackPointer::At(ProcAddr(0x7f00_0000_1234))), thread(2, StackPointer::OnCpu)];
        assert_eq!(starts(&pointing), [0x7f00_0000_0000, 0x7f00_0030_1000, 0x7ffd_0000_0000]);
    }

    #[test]
    fn the_part_in_use_ends_at_the_threads_own_storage() {
        let maps = parse_maps(MAPS).unwrap();
        let range = |start, end| Some(AddressRange { start: ProcAddr(start), end: ProcAddr(end) });
        let block = Some(ProcAddr(0x7f00_003f_f6c0));
        let waits = thread(1, StackPointer::At(ProcAddr(0x7f00_003f_0004)));
        let stack = stack_of(&waits, &maps, block);
        assert_eq!(stack.used, range(0x7f00_003f_0000, 0x7f00_003f_f6c0));
        assert_eq!(stack.local_storage, range(0x7f00_003f_b6c0, 0x7f00_003f_f6c0));
        assert_eq!(stack_of(&waits, &maps, None).used, range(0x7f00_003f_0000, 0x7f00_0040_1000));
        assert_eq!(stack_of(&thread(1, StackPointer::OnCpu), &maps, block).used, None);
        let low = stack_of(&waits, &maps, Some(ProcAddr(0x7f00_0030_1100)));
        assert_eq!(low.local_storage, range(0x7f00_0030_1000, 0x7f00_0030_1100));
    }

    #[test]
    fn the_control_block_of_every_thread_of_ours_is_found() {
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let (tell, told) = std::sync::mpsc::channel();
        let thread = std::thread::Builder::new().name("has-a-block".into());
        let play = move || {
            tell.send(()).unwrap();
            let _ = stopped.recv();
        };
        let thread = thread.spawn(play).unwrap();
        told.recv().unwrap();
        let us = Process::open(Pid(std::process::id())).unwrap();
        let (threads, maps, pagemap) = (us.threads().unwrap(), us.maps().unwrap(), us.pagemap());
        let blocks = control_blocks(&threads, &maps, pagemap.as_ref(), &us.memory()).unwrap();
        drop(stop);
        thread.join().unwrap();
        let ours = threads.iter().find(|thread| thread.name.starts_with("has-a-block")).unwrap();
        assert!(blocks.contains_key(&ours.tid), "{blocks:?}");
        let first = Tid(std::process::id());
        assert!(blocks.contains_key(&first), "{blocks:?}");
    }
}
