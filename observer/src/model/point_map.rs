//! The points of one process by the addresses of their instructions: for records that say an address and no point.

use std::collections::HashMap;

use observer_common::RecordKind;

use super::{AttachPoint, Bias, PointIndex, ProcAddr, Role};

/// Which programs write the records of a point. Two points can share an instruction if theirs differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Writer {
    Birth,
    Call,
    Raise,
}

/// A process's points by address. Empty where records name their points.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PointMap(HashMap<(ProcAddr, Writer), PointIndex>);

impl PointMap {
    /// Enters a point of an image that is loaded with this bias. The first at an address stays, as in attaching.
    pub fn insert(&mut self, bias: Bias, index: PointIndex, point: &AttachPoint) {
        if let Some(writer) = Writer::of_role(point.role) {
            self.0.entry((bias.to_process(point.at), writer)).or_insert(index);
        }
    }

    /// The point whose probed instruction is there and whose records are of this kind.
    pub fn find(&self, at: ProcAddr, kind: RecordKind) -> Option<PointIndex> {
        self.0.get(&(at, Writer::of_record(kind))).copied()
    }
}

impl Writer {
    fn of_record(kind: RecordKind) -> Self {
        match kind {
            RecordKind::Birth | RecordKind::Spawn => Self::Birth,
            RecordKind::Enter | RecordKind::Leave => Self::Call,
            RecordKind::Raise => Self::Raise,
        }
    }

    fn of_role(role: Role) -> Option<Self> {
        match role {
            Role::Mint => None,
            Role::Birth | Role::Spawn => Some(Self::Birth),
            Role::Poll | Role::Shutdown | Role::DropJoinHandle | Role::DropAbortHandle | Role::Dealloc => {
                Some(Self::Call)
            }
            Role::Raise => Some(Self::Raise),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Cost, FileOffset, VirtAddr};

    #[test]
    fn a_point_is_found_where_its_instruction_is_loaded_and_by_its_own_kind_of_record() {
        let point = |role, at| AttachPoint {
            role,
            at: VirtAddr(at),
            offset: FileOffset(0),
            bytes: vec![],
            cost: Cost::Emulated,
            vtable: None,
            register: None,
            far: 0,
        };
        let points = [
            point(Role::Poll, 0x10),
            point(Role::Raise, 0x10),
            point(Role::Spawn, 0x20),
            point(Role::Mint, 0x30),
            point(Role::Shutdown, 0x10),
        ];
        let mut map = PointMap::default();
        for (n, point) in points.iter().enumerate() {
            map.insert(Bias(0x1000), PointIndex(n as u32), point);
        }
        let find = |at, kind| map.find(ProcAddr(at), kind).map(|index| index.0);
        assert_eq!(find(0x1010, RecordKind::Enter), Some(0), "the first of two calls at one place");
        assert_eq!(find(0x1010, RecordKind::Leave), Some(0));
        assert_eq!(find(0x1010, RecordKind::Raise), Some(1));
        assert_eq!(find(0x1010, RecordKind::Birth), None);
        assert_eq!(find(0x1020, RecordKind::Spawn), Some(2));
        assert_eq!(find(0x1030, RecordKind::Birth), None, "a mint writes no record");
        assert_eq!(find(0x10, RecordKind::Enter), None, "not its link-time address");
    }
}
