//! For tests: plain values of the vocabulary, as small as can be, that tests of every floor change to their needs.

use super::{
    AttachPoint, BuildId, CellLayout, Cost, FileOffset, IdPlaces, ImageEntry, ImageFacts, ImagePlan, LoadSegment,
    Naming, PanicPlaces, PanicSight, PointIndex, PointMap, Resource, Role, TaskFunctions, TaskType, TypeEntry, TypeId,
    Unnamed, VirtAddr,
};

impl AttachPoint {
    /// Of this role, on one `push`.
    pub fn sample(role: Role) -> Self {
        let at = VirtAddr(1);
        Self {
            role,
            at,
            offset: FileOffset(at.0),
            bytes: vec![0x55],
            cost: Cost::Emulated,
            vtable: None,
            register: None,
            far: 0,
            telling: 0,
        }
    }
}

impl CellLayout {
    /// As tokio 1.29 to 1.54 lay a small future's cell out.
    pub fn sample() -> Self {
        Self {
            state: 0,
            queue_next: 8,
            vtable: 16,
            owner: 24,
            scheduler: 32,
            id: 40,
            spawn_location: None,
            trailer: 256,
            align: 128,
            stage_tagged: true,
        }
    }
}

impl TypeEntry {
    /// With its vtable there.
    pub fn sample(vtable: VirtAddr, resource: Resource, worker: bool) -> Self {
        let at = VirtAddr(1);
        let functions = TaskFunctions {
            poll: at,
            schedule: at,
            dealloc: at,
            try_read_output: at,
            drop_join_handle_slow: at,
            drop_abort_handle: at,
            shutdown: at,
        };
        let future = Naming::Unknown(Unnamed::Stripped);
        let layout = CellLayout::sample();
        let id = TypeId { build_id: BuildId::Content(1), vtable };
        Self { id, task: TaskType { vtable, resource, functions, layout, future, place: None, worker }, births: true }
    }
}

impl ImageEntry {
    /// With these types and no points.
    pub fn sample(types: Vec<TypeEntry>) -> Self {
        Self {
            build_id: BuildId::Content(1),
            version: None,
            unstable: false,
            stripped: true,
            types: types.into_iter().map(|entry| (entry.task.vtable, entry)).collect(),
            spawn_sites: 1,
            counters: Vec::new(),
            panics: PanicSight::Probed,
            first_point: PointIndex(0),
            points: Vec::new(),
            places: PointMap::default(),
        }
    }
}

impl ImageFacts {
    /// With these segments and nothing in them.
    pub fn sample(build_id: BuildId, segments: Vec<LoadSegment>) -> Self {
        let plan = ImagePlan {
            points: Vec::new(),
            unprobed: Vec::new(),
            types: 0,
            unborn: 0,
            mints: 0,
            ids: IdPlaces::NotFound,
            panics: PanicPlaces::NotFound,
        };
        Self {
            build_id,
            segments,
            observer: false,
            stripped: true,
            version: None,
            unstable: false,
            named: false,
            types: Vec::new(),
            spawn_sites: 0,
            counters: Vec::new(),
            plan,
            polls: Vec::new(),
            missed: Vec::new(),
        }
    }
}
