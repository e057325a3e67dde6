//! One record's bytes, understood by the catalog's points and types.

use observer_common::{
    Cookie, FLAG_BY_ADDRESS, FLAG_HEAD_UNREADABLE, FLAG_STAGE_UNREADABLE, FLAG_SUBJECT_UNKNOWN, HEAD_WORDS,
    RECORD_BARE, RECORD_FULL, RECORD_WITH_HEAD, RecordKind, STAGE_WORDS,
};

use crate::model::{
    Catalog, Cell, CellWords, Frame, Ns, Observation, PointIndex, ProcAddr, Role, Seen, StageWords, TargetEntry,
    TaskId, TaskState, Tid,
};

/// Why bytes are no observation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Malformed {
    /// Fewer bytes than the record's kind has.
    #[error("a record of {0} bytes is too short")]
    Short(usize),
    /// A kind that this build does not know.
    #[error("unknown record kind {0}")]
    Kind(u16),
    /// A cookie, or an address, whose point or target is not in the catalog.
    #[error("a record names no point of this session")]
    Point,
    /// The point's role does not write records of this kind.
    #[error("a record of a kind that its point does not write")]
    RoleMismatch,
    /// A stack that lies beyond the end of memory.
    #[error("a stack beyond the end of memory")]
    Stack,
    /// The point's type is not among the target's types.
    #[error("a spawn site's type is not in the catalog")]
    Type,
}

/// The time of a record, without looking further: what the merger orders by.
pub(super) fn timestamp(bytes: &[u8]) -> Option<Ns> {
    word(bytes, 0).map(Ns)
}

/// Understands one record. `bytes` may be longer than the record: perf pads samples.
pub fn decode(bytes: &[u8], catalog: &Catalog) -> Result<Observation, Malformed> {
    if bytes.len() < RECORD_BARE {
        return Err(Malformed::Short(bytes.len()));
    }
    let short = || Malformed::Short(bytes.len());
    let base: [u64; RECORD_BARE / 8] = words(bytes, 0).ok_or_else(short)?;
    let [ts, cookie, sp, subject, threads, kinds, far] = base;
    let kind = RecordKind::from_u16(kinds as u16).ok_or(Malformed::Kind(kinds as u16))?;
    let flags = (kinds >> 16) as u16;
    let Origin { target: number, point } = origin(kind, cookie, kinds, catalog)?;
    let entry = catalog.point(point).ok_or(Malformed::Point)?;
    let target = catalog.targets.get(usize::from(number)).ok_or(Malformed::Point)?;
    let role = entry.point.role;
    let frame = Frame(sp);
    let seen = match kind {
        RecordKind::Birth | RecordKind::Spawn => {
            if !matches!(role, Role::Birth | Role::Spawn) {
                return Err(Malformed::RoleMismatch);
            }
            let bias = target.images.get(entry.image).ok_or(Malformed::Point)?.bias;
            let vtable = bias.to_process(entry.point.vtable.ok_or(Malformed::RoleMismatch)?);
            if !target.types.contains_key(&vtable) {
                return Err(Malformed::Type);
            }
            Seen::Birth { vtable, minted: (subject != 0).then_some(TaskId(subject)) }
        }
        RecordKind::Raise => Seen::Raise,
        RecordKind::Enter | RecordKind::Leave => {
            if !role.enters() {
                return Err(Malformed::RoleMismatch);
            }
            let head: [u64; HEAD_WORDS] = words(bytes, RECORD_BARE).ok_or_else(short)?;
            let cell = if flags & FLAG_HEAD_UNREADABLE != 0 { Cell::Unreadable } else { cell(&head, far, target) };
            let header = ProcAddr(subject);
            if kind == RecordKind::Enter {
                Seen::Enter { role, frame, header, cell }
            } else {
                let known = flags & FLAG_SUBJECT_UNKNOWN == 0;
                let full = bytes.len() >= RECORD_FULL && flags & FLAG_STAGE_UNREADABLE == 0;
                let behind: Option<[u64; STAGE_WORDS]> = if full { words(bytes, RECORD_WITH_HEAD) } else { None };
                let stage = behind.and_then(|behind| stage(&cell, &head, &behind, target));
                Seen::Leave { role, frame, header: known.then_some(header), cell, stage }
            }
        }
    };
    Ok(Observation { at: Ns(ts), target: number, tid: Tid(threads as u32), seen })
}

/// Where a record comes from.
pub(super) struct Origin {
    pub(super) target: u16,
    pub(super) point: PointIndex,
}

/// By the record's cookie; or, where one probe sits at many points, by the address that stands in the cookie's place.
/// `kinds` is the word of kind, flags and target.
pub(super) fn origin(kind: RecordKind, cookie: u64, kinds: u64, catalog: &Catalog) -> Result<Origin, Malformed> {
    if (kinds >> 16) as u16 & FLAG_BY_ADDRESS == 0 {
        let Cookie { point, target, .. } = Cookie::from_u64(cookie);
        return Ok(Origin { target, point: PointIndex(point) });
    }
    let target = u16::try_from(kinds >> 32).map_err(|_| Malformed::Point)?;
    let places = &catalog.targets.get(usize::from(target)).ok_or(Malformed::Point)?.places;
    let point = places.find(ProcAddr(cookie), kind).ok_or(Malformed::Point)?;
    Ok(Origin { target, point })
}

/// The cell that the head's words show, by the layout of the type that its vtable word names.
fn cell(head: &[u64; HEAD_WORDS], far: u64, target: &TargetEntry) -> Cell {
    // The vtable word has stood at this offset since tokio 1.21; the types' layouts repeat it.
    const VTABLE_WORD: usize = 2;
    let vtable = ProcAddr(head[VTABLE_WORD]);
    let Some(entry) = target.types.get(&vtable) else { return Cell::Foreign };
    let layout = &entry.task.layout;
    let at = |offset: u32| head.get(offset as usize / 8).copied();
    let id = if layout.far_id().is_some() { Some(far) } else { at(layout.id) };
    match (at(layout.state), at(layout.queue_next), id) {
        (Some(state), Some(queue_next), Some(id)) => {
            Cell::Task(CellWords { vtable, id: TaskId(id), state: TaskState(state), queue_next })
        }
        _ => Cell::Foreign,
    }
}

/// The stage's words: the rest of the head from the stage on, then what was read behind the head.
fn stage(cell: &Cell, head: &[u64], behind: &[u64], target: &TargetEntry) -> Option<StageWords> {
    let Cell::Task(words) = cell else { return None };
    let first = target.types.get(&words.vtable)?.task.layout.stage() as usize / 8;
    let joined: Vec<u64> = head.iter().chain(behind).skip(first).copied().collect();
    Some(StageWords::new(&joined))
}

pub(super) fn word(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

pub(super) fn words<const N: usize>(bytes: &[u8], at: usize) -> Option<[u64; N]> {
    let mut out = [0; N];
    for (n, slot) in out.iter_mut().enumerate() {
        *slot = word(bytes, at + 8 * n)?;
    }
    Some(out)
}

impl Role {
    /// Whether points of this role write enter and leave records.
    fn enters(self) -> bool {
        matches!(self, Role::Poll | Role::Shutdown | Role::DropJoinHandle | Role::DropAbortHandle | Role::Dealloc)
    }
}
