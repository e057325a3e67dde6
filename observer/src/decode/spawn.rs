//! A spawn's record, with the spawner's registers and stack.
//!
//! Does not know: how a stack is unwound.

use observer_common::{FLAG_NO_SCRATCH, FLAG_STACK_CUT, RECORD_BARE, RecordKind, SPAWN_BARE, STACK_MOST};

use super::record::{Malformed, decode, origin, word, words};
use crate::model::{Catalog, CopyEnd, Glimpse, Observation, ProcAddr, Registers, Seen, SpawnHit, StackCopy};

/// Words of a record before the stack, by where they stand.
const COOKIE: usize = 8;
const SP: usize = 16;
const UNREAD: usize = 48;
const SPAWNER: usize = RECORD_BARE + 56;
const KIND: usize = 40;

/// Understands a record of [`RecordKind::Spawn`]. `bytes` may be longer than the record: perf pads samples.
pub fn decode_spawn(bytes: &[u8], catalog: &Catalog) -> Result<SpawnHit, Malformed> {
    let Observation { at, target, tid, seen } = decode(bytes, catalog)?;
    let short = || Malformed::Short(bytes.len());
    let kinds = word(bytes, KIND).ok_or_else(short)?;
    let (kind, flags) = (kinds as u16, (kinds >> 16) as u16);
    let Seen::Birth { vtable, minted } = seen else { return Err(Malformed::Kind(kind)) };
    if RecordKind::from_u16(kind) != Some(RecordKind::Spawn) {
        return Err(Malformed::Kind(kind));
    }
    let register = |n: usize| word(bytes, RECORD_BARE + 8 * n).ok_or_else(short);
    let sp = word(bytes, SP).ok_or_else(short)?;
    let registers = Registers {
        ip: ProcAddr(register(0)?),
        sp: ProcAddr(sp),
        kept: [register(1)?, register(2)?, register(3)?, register(4)?, register(5)?, register(6)?].map(Some),
    };
    let stack = bytes.get(SPAWN_BARE..).ok_or_else(short)?;
    let end = match flags {
        flags if flags & FLAG_NO_SCRATCH != 0 => CopyEnd::NoRoom,
        flags if flags & FLAG_STACK_CUT != 0 => CopyEnd::Unreadable,
        _ => CopyEnd::Bound,
    };
    // A record without a stack may be padded by a word: it is no part of one.
    let stack = if end == CopyEnd::NoRoom { &[][..] } else { &stack[..stack.len().min(STACK_MOST)] };
    let unread = word(bytes, UNREAD).ok_or_else(short)?;
    let read = usize::try_from(unread).ok().and_then(|unread| stack.get(unread..)).ok_or_else(short)?;
    let from = (sp & !7).checked_add(unread).ok_or(Malformed::Stack)?;
    let stack = StackCopy { from: ProcAddr(from), bytes: read.to_vec(), end };
    let spawner = word(bytes, SPAWNER).ok_or_else(short)?;
    let words = words(bytes, SPAWNER + 8).ok_or_else(short)?;
    let glimpse = (spawner != 0).then_some(Glimpse { at: ProcAddr(spawner), words });
    let cookie = word(bytes, COOKIE).ok_or_else(short)?;
    let point = origin(RecordKind::Spawn, cookie, kinds, catalog)?.point;
    Ok(SpawnHit { at, target, tid, vtable, minted, registers, stack, glimpse, point })
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use observer_common::{Cookie, FLAG_BY_ADDRESS, PAGE};
    use proptest::prelude::*;

    use super::*;
    use crate::model::{
        AttachPoint, Bias, BuildId, CellLayout, Cost, FileOffset, ImageEntry, Kept, Naming, Ns, Pid, PointEntry,
        PointIndex, Resource, Role, TargetEntry, TaskFunctions, TaskId, TaskType, Tid, TypeEntry, TypeId, Unnamed,
        VirtAddr,
    };

    const VTABLE: VirtAddr = VirtAddr(0x9000);
    const BIAS: Bias = Bias(0x10_0000);

    /// One target with one type, which is born at the first point, and polled at the second.
    fn catalog() -> Catalog {
        let at = VirtAddr(0);
        let functions = TaskFunctions {
            poll: at,
            schedule: at,
            dealloc: at,
            try_read_output: at,
            drop_join_handle_slow: at,
            drop_abort_handle: at,
            shutdown: at,
        };
        let layout = CellLayout {
            state: 0,
            queue_next: 8,
            vtable: 16,
            owner: 24,
            scheduler: 32,
            id: 40,
            spawn_location: None,
            trailer: 64,
            align: 128,
            stage_tagged: true,
        };
        let (future, resource) = (Naming::Unknown(Unnamed::NotSearched), Resource::Task);
        let task = TaskType { vtable: VTABLE, resource, functions, layout, future, place: None, worker: false };
        let id = TypeId { build_id: BuildId::Content(1), vtable: VTABLE };
        let mut target = TargetEntry::new(Pid(7), "app".into());
        target.types = HashMap::from([(BIAS.to_process(VTABLE), TypeEntry { id, task })]);
        target.images.push(ImageEntry {
            path: "/app".into(),
            build_id: BuildId::Content(1),
            version: None,
            unstable: false,
            stripped: true,
            bias: BIAS,
            types: 1,
            spawn_sites: 1,
            points: 2,
            single_stepped: 0,
        });
        let point = |role, vtable| AttachPoint {
            role,
            at,
            offset: FileOffset(0),
            bytes: vec![],
            cost: Cost::Emulated,
            vtable,
            register: None,
            far: 0,
        };
        let points = [point(Role::Spawn, Some(VTABLE)), point(Role::Poll, None)];
        Catalog { targets: vec![target], points: points.map(|point| PointEntry { image: 0, point }).into() }
    }

    fn record(kind: RecordKind, flags: u16, point: u32, sp: u64, unread: u64, stack: &[u64]) -> Vec<u8> {
        let cookie = Cookie { point, target: 0, register: 0, far: 0 }.to_u64();
        let kinds = u64::from(kind as u16) | u64::from(flags) << 16;
        let bare = [1000, cookie, sp, 17, 8 | 7 << 32, kinds, unread];
        let registers = [0x5000, 3, 5, 12, 13, 14, 15];
        let spawner = [0xabc0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10];
        bare.iter().chain(&registers).chain(&spawner).chain(stack).flat_map(|word| word.to_ne_bytes()).collect()
    }

    #[test]
    fn a_spawn_has_its_registers_and_its_stack() {
        let hit = decode_spawn(&record(RecordKind::Spawn, 0, 0, 0x7004, 0, &[21, 22]), &catalog()).unwrap();
        assert_eq!((hit.at, hit.target, hit.tid, hit.minted), (Ns(1000), 0, Tid(8), Some(TaskId(17))));
        assert_eq!(
            (hit.vtable, hit.registers.ip, hit.registers.sp),
            (ProcAddr(0x10_9000), ProcAddr(0x5000), ProcAddr(0x7004))
        );
        assert_eq!(Kept::ALL.map(|kept| hit.registers.get(kept)), [3, 5, 12, 13, 14, 15].map(Some));
        assert_eq!(
            hit.stack.words(ProcAddr(0), ProcAddr(u64::MAX)).collect::<Vec<_>>(),
            [(ProcAddr(0x7000), 21), (ProcAddr(0x7008), 22)]
        );
        assert_eq!(hit.stack.end, CopyEnd::Bound);
        assert_eq!(hit.glimpse, Some(Glimpse { at: ProcAddr(0xabc0), words: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10] }));
    }

    #[test]
    fn a_record_that_says_an_address_is_of_the_point_that_lies_there() {
        let mut catalog = catalog();
        let spawned_at = AttachPoint { at: VirtAddr(0x40), ..catalog.points[0].point.clone() };
        catalog.targets[0].places.insert(BIAS, PointIndex(0), &spawned_at);
        let said = |address: u64, target: u64| {
            let mut bytes = record(RecordKind::Spawn, FLAG_BY_ADDRESS, 0, 0x7000, 0, &[]);
            bytes[COOKIE..COOKIE + 8].copy_from_slice(&address.to_ne_bytes());
            bytes[KIND + 4..KIND + 8].copy_from_slice(&(target as u32).to_ne_bytes());
            decode_spawn(&bytes, &catalog)
        };
        let hit = said(BIAS.to_process(VirtAddr(0x40)).0, 0).unwrap();
        assert_eq!((hit.point, hit.target, hit.vtable), (PointIndex(0), 0, BIAS.to_process(VTABLE)));
        assert_eq!(said(0x40, 0).unwrap_err(), Malformed::Point);
        assert_eq!(said(BIAS.to_process(VirtAddr(0x40)).0, 1).unwrap_err(), Malformed::Point);
        assert_eq!(said(BIAS.to_process(VirtAddr(0x40)).0, 1 << 16).unwrap_err(), Malformed::Point);
    }

    #[test]
    fn what_could_not_be_read_of_a_stack_is_no_part_of_it() {
        let stack = |flags, unread, words: &[u64]| {
            decode_spawn(&record(RecordKind::Spawn, flags, 0, 0x7000, unread, words), &catalog()).unwrap().stack
        };
        let cut = stack(FLAG_STACK_CUT, 8, &[0, 22]);
        assert_eq!(
            (cut.from, cut.word(ProcAddr(0x7000)), cut.word(ProcAddr(0x7008))),
            (ProcAddr(0x7008), None, Some(22))
        );
        assert_eq!((cut.word(ProcAddr(0x700c)), cut.end), (None, CopyEnd::Unreadable));
        assert_eq!(
            stack(FLAG_NO_SCRATCH, 0, &[9]),
            StackCopy { from: ProcAddr(0x7000), bytes: vec![], end: CopyEnd::NoRoom }
        );
    }

    #[test]
    fn what_is_no_spawn_is_malformed_with_its_reason() {
        let catalog = catalog();
        let error = |bytes: &[u8]| decode_spawn(bytes, &catalog).unwrap_err();
        assert_eq!(error(&record(RecordKind::Birth, 0, 0, 0, 0, &[])), Malformed::Kind(RecordKind::Birth as u16));
        assert_eq!(error(&record(RecordKind::Raise, 0, 0, 0, 0, &[])), Malformed::Kind(RecordKind::Raise as u16));
        assert_eq!(error(&record(RecordKind::Spawn, 0, 1, 0, 0, &[])), Malformed::RoleMismatch);
        assert_eq!(error(&record(RecordKind::Spawn, 0, 9, 0, 0, &[])), Malformed::Point);
        assert_eq!(error(&record(RecordKind::Spawn, 0, 0, 0, 0, &[])[..190]), Malformed::Short(190));
        assert_eq!(error(&record(RecordKind::Spawn, 0, 0, 0, 16, &[1])), Malformed::Short(208));
        assert_eq!(error(&record(RecordKind::Spawn, 0, 0, u64::MAX, 8, &[1])), Malformed::Stack);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..400),
            head in proptest::bool::weighted(0.9),
            unread in prop_oneof![Just(0u64), 0..2 * PAGE as u64, any::<u64>()],
        ) {
            if head {
                let valid = record(RecordKind::Spawn, 0, 0, 0x7000, unread, &[]);
                let random = bytes.len().min(40);
                bytes.splice(0..random, valid);
            }
            let _ = decode_spawn(&bytes, &catalog());
        }
    }
}
