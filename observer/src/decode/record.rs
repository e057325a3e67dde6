//! One record's bytes, understood by the catalog's points and types.

use std::sync::Arc;

use observer_common::{
    Cookie, FLAG_BY_ADDRESS, FLAG_HEAD_UNREADABLE, FLAG_STAGE_UNREADABLE, FLAG_SUBJECT_UNKNOWN, FLAG_UNSAID,
    HEAD_WORDS, RECORD_BARE, RECORD_FULL, RECORD_WITH_HEAD, RecordKind, STAGE_WORDS,
};

pub(super) use crate::model::word_at as word;
use crate::model::{
    AttachPoint, Catalog, Cell, CellWords, Frame, ImageEntry, Ns, Observation, Pid, PointIndex, ProcAddr, Role, Seen,
    StageWords, TargetEntry, TargetId, TaskId, TaskState, Tid,
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
    /// A cookie, or an address, whose point or slot is not in the catalog.
    #[error("a record names no point of this session")]
    Point,
    /// A process that is no target, or not known to map the point's image.
    #[error("a record of process {0}, which is not known to run this code")]
    Process(Pid),
    /// The point's role does not write records of this kind.
    #[error("a record of a kind that its point does not write")]
    RoleMismatch,
    /// A stack that lies beyond the end of memory.
    #[error("a stack beyond the end of memory")]
    Stack,
    /// A spawn whose point's register is none, or holds no id.
    #[error("a spawn without a task id")]
    NoId,
    /// The point's type is not among the target's types.
    #[error("a spawn site's type is not in the catalog")]
    Type,
}

/// The time of a record, without looking further: what the merger orders by.
pub(super) fn timestamp(bytes: &[u8]) -> Option<Ns> {
    word(bytes, 0).map(Ns)
}

/// What every record begins with, and the point that it names.
pub(super) struct Base<'c> {
    pub(super) at: Ns,
    pub(super) index: PointIndex,
    pub(super) sp: u64,
    pub(super) subject: u64,
    pub(super) pid: Pid,
    pub(super) tid: Tid,
    pub(super) kind: RecordKind,
    pub(super) flags: u16,
    pub(super) far: u64,
    pub(super) image: &'c Arc<ImageEntry>,
    pub(super) point: &'c AttachPoint,
    pub(super) id: TargetId,
    pub(super) target: &'c TargetEntry,
}

/// Understands a record's beginning.
pub(super) fn base<'c>(bytes: &[u8], catalog: &'c Catalog) -> Result<Base<'c>, Malformed> {
    let base: [u64; RECORD_BARE / 8] = words(bytes, 0).ok_or(Malformed::Short(bytes.len()))?;
    let [ts, cookie, sp, subject, threads, kinds, far] = base;
    let kind = RecordKind::from_u16(kinds as u16).ok_or(Malformed::Kind(kinds as u16))?;
    let flags = (kinds >> 16) as u16;
    let pid = Pid((threads >> 32) as u32);
    let says_address = flags & FLAG_BY_ADDRESS != 0;
    // Where one probe sits at many points, the address stands in the cookie's place.
    let slot = if says_address { (kinds >> 32) as u16 } else { Cookie::from_u64(cookie).target };
    let id = match slot {
        Cookie::BY_PROCESS => catalog.of_process(pid).ok_or(Malformed::Process(pid))?,
        slot => catalog.in_slot(slot).ok_or(Malformed::Point)?,
    };
    let target = catalog.target(id).ok_or(Malformed::Process(pid))?;
    let index = match says_address {
        true => target.point_at(ProcAddr(cookie), kind).ok_or(Malformed::Process(pid))?,
        false => PointIndex(Cookie::from_u64(cookie).point),
    };
    let (image, point) = catalog.point(index).ok_or(Malformed::Point)?;
    let (at, tid) = (Ns(ts), Tid(threads as u32));
    Ok(Base { at, index, sp, subject, pid, tid, kind, flags, far, image, point, id, target })
}

/// The image that a record's point is of, whoever was hit; `None` where the record says an address, which tells only together
/// with a process's mappings.
pub fn image_of<'c>(bytes: &[u8], catalog: &'c Catalog) -> Option<&'c Arc<ImageEntry>> {
    let [_, cookie, .., kinds, _] = words::<{ RECORD_BARE / 8 }>(bytes, 0)?;
    let says_address = (kinds >> 16) as u16 & FLAG_BY_ADDRESS != 0;
    (!says_address).then(|| catalog.point(PointIndex(Cookie::from_u64(cookie).point)))?.map(|(image, _)| image)
}

/// Understands one record of the event arm. `bytes` may be longer than the record: perf pads samples.
pub fn decode(bytes: &[u8], catalog: &Catalog) -> Result<Observation, Malformed> {
    let short = || Malformed::Short(bytes.len());
    let Base { at, sp, subject, pid, tid, kind, flags, far, image, point, id, target, .. } = base(bytes, catalog)?;
    let role = point.role;
    let frame = Frame(sp);
    let seen = match kind {
        // Nobody who wants events plants points that write these.
        RecordKind::Spawn => return Err(Malformed::Kind(kind as u16)),
        // Taken apart before, unless something is missing.
        RecordKind::Call => return Err(short()),
        RecordKind::Birth => {
            if role != Role::Birth {
                return Err(Malformed::RoleMismatch);
            }
            // A process that maps the image and is not known to: one that was forked, or whose news came late.
            let mapped = target.images.iter().find(|mapped| Arc::ptr_eq(&mapped.image, image));
            let bias = mapped.ok_or(Malformed::Process(pid))?.bias;
            let vtable = point.vtable.ok_or(Malformed::RoleMismatch)?;
            if !image.types.contains_key(&vtable) {
                return Err(Malformed::Type);
            }
            let vtable = bias.to_process(vtable);
            Seen::Birth { vtable, minted: (subject != 0).then_some(TaskId(subject)) }
        }
        RecordKind::Raise => Seen::Raise,
        RecordKind::Hook => Seen::Hook([ProcAddr(subject), ProcAddr(far)]),
        RecordKind::Enter | RecordKind::Leave | RecordKind::Release => {
            if !role.enters() {
                return Err(Malformed::RoleMismatch);
            }
            let head: [u64; HEAD_WORDS] = words(bytes, RECORD_BARE).ok_or_else(short)?;
            let cell = match flags {
                _ if flags & FLAG_HEAD_UNREADABLE != 0 => Cell::Unreadable,
                _ if flags & FLAG_UNSAID != 0 => Cell::Unsaid,
                _ => cell(&head, far, target),
            };
            let header = ProcAddr(subject);
            if kind == RecordKind::Release || (kind == RecordKind::Enter && role == Role::Dealloc) {
                Seen::Release { header, cell }
            } else if kind == RecordKind::Enter {
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
    Ok(Observation { at, target: id, tid, seen })
}

/// The cell that the head's words show, by the layout of the type that its vtable word names.
fn cell(head: &[u64; HEAD_WORDS], far: u64, target: &TargetEntry) -> Cell {
    // The vtable word has stood at this offset since tokio 1.21; the types' layouts repeat it.
    const VTABLE_WORD: usize = 2;
    let vtable = ProcAddr(head[VTABLE_WORD]);
    let Some(entry) = target.type_at(vtable) else { return Cell::Foreign };
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
    let first = target.type_at(words.vtable)?.task.layout.stage() as usize / 8;
    let joined: Vec<u64> = head.iter().chain(behind).skip(first).copied().collect();
    Some(StageWords::new(&joined))
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
