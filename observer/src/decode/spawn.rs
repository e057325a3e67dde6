//! A spawn's record, with the spawner's registers and stack.
//!
//! Does not know: how a stack is unwound.

use std::sync::Arc;

use observer_common::{FLAG_NO_SCRATCH, FLAG_STACK_CUT, RECORD_BARE, RecordKind, SPAWN_BARE, STACK_MOST};

use super::record::{Base, Malformed, base, word, words};
use crate::model::{Catalog, CopyEnd, Glimpse, PointIndex, ProcAddr, Registers, Role, SpawnHit, StackCopy, TaskId};

/// Where a spawn's record has the address of its spawner's header.
const SPAWNER: usize = RECORD_BARE + 56;

/// Understands a record of [`RecordKind::Spawn`]. `bytes` may be longer than the record: perf pads samples.
pub fn decode_spawn(bytes: &[u8], catalog: &Catalog) -> Result<SpawnHit, Malformed> {
    let Base { at, cookie, sp, subject, tid, kind, flags, far: unread, image, point, id, target, .. } =
        base(bytes, catalog)?;
    let short = || Malformed::Short(bytes.len());
    if kind != RecordKind::Spawn {
        return Err(Malformed::Kind(kind as u16));
    }
    if point.role != Role::Spawn {
        return Err(Malformed::RoleMismatch);
    }
    if !target.images.iter().any(|mapped| Arc::ptr_eq(&mapped.image, image)) {
        return Err(Malformed::Point);
    }
    if subject == 0 {
        return Err(Malformed::NoId);
    }
    let register = |n: usize| word(bytes, RECORD_BARE + 8 * n).ok_or_else(short);
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
    let read = usize::try_from(unread).ok().and_then(|unread| stack.get(unread..)).ok_or_else(short)?;
    let from = (sp & !7).checked_add(unread).ok_or(Malformed::Stack)?;
    let stack = StackCopy { from: ProcAddr(from), bytes: read.to_vec(), end };
    let spawner = word(bytes, SPAWNER).ok_or_else(short)?;
    let words = words(bytes, SPAWNER + 8).ok_or_else(short)?;
    let glimpse = (spawner != 0).then_some(Glimpse { at: ProcAddr(spawner), words });
    let (image, task, point) = (image.first_point, TaskId(subject), PointIndex(cookie.point));
    Ok(SpawnHit { at, target: id, tid, image, task, registers, stack, glimpse, point })
}

#[cfg(test)]
mod tests {
    use observer_common::{Cookie, MintRegister, PAGE};
    use proptest::prelude::*;

    use super::*;
    use crate::model::{AttachPoint, Bias, ImageEntry, Kept, MappedImage, Ns, Pid, Role, TargetEntry, TargetId, Tid};

    /// One target with one image, which takes ids at the first point, and polls at the second.
    fn catalog() -> Catalog {
        let mut catalog = Catalog::default();
        let point = |role| AttachPoint { register: Some(MintRegister(3)), ..AttachPoint::sample(role) };
        let points = vec![point(Role::Spawn), point(Role::Poll)];
        let image = catalog.add_image(ImageEntry { points, ..ImageEntry::sample(Vec::new()) });
        let mut target = TargetEntry::new(Pid(7), "app".into());
        target.images.push(MappedImage { image, path: "/app".into(), bias: Bias(0) });
        let target = catalog.begin(target);
        catalog.put_in_slot(0, target);
        catalog
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
        let seen = (hit.at, hit.target, hit.tid, hit.image, hit.task);
        assert_eq!(seen, (Ns(1000), TargetId(0), Tid(8), PointIndex(0), TaskId(17)));
        assert_eq!((hit.registers.ip, hit.registers.sp), (ProcAddr(0x5000), ProcAddr(0x7004)));
        assert_eq!(Kept::ALL.map(|kept| hit.registers.get(kept)), [3, 5, 12, 13, 14, 15].map(Some));
        assert_eq!(
            hit.stack.words(ProcAddr(0), ProcAddr(u64::MAX)).collect::<Vec<_>>(),
            [(ProcAddr(0x7000), 21), (ProcAddr(0x7008), 22)]
        );
        assert_eq!(hit.stack.end, CopyEnd::Bound);
        assert_eq!(hit.glimpse, Some(Glimpse { at: ProcAddr(0xabc0), words: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10] }));
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
        let mut nobody = record(RecordKind::Spawn, 0, 0, 0, 0, &[]);
        nobody[24..32].fill(0);
        assert_eq!(error(&nobody), Malformed::NoId);
        let mut elsewhere = catalog.clone();
        elsewhere.change(TargetId(0), |target| target.images.clear());
        assert_eq!(decode_spawn(&record(RecordKind::Spawn, 0, 0, 0, 0, &[]), &elsewhere), Err(Malformed::Point));
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
