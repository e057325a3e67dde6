//! The points of one image by the addresses of their instructions: for records that say an address and no point.

use std::collections::HashMap;

use observer_common::RecordKind;

use super::{AttachPoint, PointIndex, Role, VirtAddr};

/// Which programs write the records of a point. Two points can share an instruction if theirs differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Writer {
    Birth,
    Call,
    Raise,
    Hook,
}

/// An image's points by link-time address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PointMap(HashMap<(VirtAddr, Writer), PointIndex>);

impl PointMap {
    /// Of these points. Of two at one address whose records are of one kind the first stays, as in attaching.
    pub fn of<'a>(points: impl Iterator<Item = (PointIndex, &'a AttachPoint)>) -> Self {
        let mut map = HashMap::new();
        for (index, point) in points {
            if let Some(writer) = Writer::of_role(point.role) {
                map.entry((point.at, writer)).or_insert(index);
            }
        }
        Self(map)
    }

    /// The point whose probed instruction is there and whose records are of this kind.
    pub fn find(&self, at: VirtAddr, kind: RecordKind) -> Option<PointIndex> {
        self.0.get(&(at, Writer::of_record(kind))).copied()
    }
}

impl Writer {
    fn of_record(kind: RecordKind) -> Self {
        match kind {
            RecordKind::Birth | RecordKind::Spawn => Self::Birth,
            RecordKind::Enter | RecordKind::Leave | RecordKind::Call | RecordKind::Release => Self::Call,
            RecordKind::Raise => Self::Raise,
            RecordKind::Hook => Self::Hook,
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
            Role::Hook => Some(Self::Hook),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_is_found_by_its_instruction_and_by_its_own_kind_of_record() {
        let point = |role, at| AttachPoint { at: VirtAddr(at), ..AttachPoint::sample(role) };
        let points = [
            point(Role::Poll, 0x10),
            point(Role::Raise, 0x10),
            point(Role::Spawn, 0x20),
            point(Role::Mint, 0x30),
            point(Role::Shutdown, 0x10),
        ];
        let map = PointMap::of((0..).map(PointIndex).zip(&points));
        let find = |at, kind| map.find(VirtAddr(at), kind).map(|index| index.0);
        assert_eq!(find(0x10, RecordKind::Enter), Some(0), "the first of two calls at one place");
        assert_eq!(find(0x10, RecordKind::Leave), Some(0));
        assert_eq!(find(0x10, RecordKind::Raise), Some(1));
        assert_eq!(find(0x10, RecordKind::Birth), None);
        assert_eq!(find(0x20, RecordKind::Spawn), Some(2));
        assert_eq!(find(0x30, RecordKind::Birth), None, "a mint writes no record");
    }
}
