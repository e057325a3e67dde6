//! A spawn's record, with the spawner's registers and stack.
//!
//! Does not know: how a stack is unwound.

use observer_common::{FLAG_NO_SCRATCH, FLAG_STACK_CUT, RECORD_BARE, RecordKind, SPAWN_BARE, STACK_MOST};

use super::record::{Malformed, decode, word};
use crate::model::{Catalog, CopyEnd, Observation, ProcAddr, Registers, Seen, SpawnHit, StackCopy};

/// Words of a record before the stack, by where they stand.
const SP: usize = 16;
const KIND: usize = 40;

/// Understands a record of [`RecordKind::Spawn`]. `bytes` may be longer than the record: perf pads samples.
pub fn decode_spawn(bytes: &[u8], catalog: &Catalog) -> Result<SpawnHit, Malformed> {
    let Observation { at, target, tid, seen } = decode(bytes, catalog)?;
    let short = || Malformed::Short(bytes.len());
    let kind = word(bytes, KIND).ok_or_else(short)?;
    let (kind, flags) = (kind as u16, (kind >> 16) as u16);
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
    let stack = StackCopy { from: ProcAddr(sp & !7), bytes: stack.to_vec(), end };
    Ok(SpawnHit { at, target, tid, vtable, minted, registers, stack })
}
