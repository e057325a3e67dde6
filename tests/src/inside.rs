//! The observer's library at work on a fixture: its task types and counters, for a series of censuses.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use observer::census::{CellType, CellTypes, Census, ImageIndex, Series};
use observer::model::{LoadSegment, Pid, ProcAddr, Resource};
use observer::runtime::{self, Found};
use observer::symbols::{Image, Segment};
use observer::target::Process;

/// What an analysis of a process's images found.
pub struct Inside {
    /// The process.
    pub process: Arc<Process>,
    /// Its task types by vtable.
    pub types: HashMap<ProcAddr, CellType>,
    /// Its counters.
    pub counters: Vec<ProcAddr>,
}

impl Inside {
    /// Analyses a running program.
    pub fn of(pid: u32) -> Self {
        let process = Arc::new(Process::open(Pid(pid)).expect("the fixture runs"));
        let (mut types, mut counters) = (HashMap::new(), Vec::new());
        let modules = process.modules().expect("its modules can be listed");
        for (number, module) in (0..).zip(modules) {
            let Ok(bytes) = module.read() else { continue };
            let Ok(image) = Image::parse(&bytes) else { continue };
            let Found::Runtime(found) = runtime::analyse(&image) else { continue };
            let segments: Vec<LoadSegment> = image.segments().iter().map(Segment::load).collect();
            let bias = module.bias(&segments).expect("its mappings fit its segments");
            let cell = |task: &observer::model::TaskType| CellType {
                layout: task.layout,
                resource: task.resource,
                image: ImageIndex(number),
            };
            types.extend(found.types.iter().map(|task| (bias.to_process(task.vtable), cell(task))));
            counters.extend(found.mints.iter().map(|mint| bias.to_process(mint.counter)));
        }
        assert!(!types.is_empty(), "the fixture has task types");
        Self { process, types, counters }
    }

    /// A series of censuses of it.
    pub fn series(&self) -> Series {
        Series::new(Arc::clone(&self.process), CellTypes::new(self.types.clone()), self.counters.clone())
    }

    /// How many live futures of each type a census has, in ascending order.
    pub fn by_type(&self, census: &Census) -> Vec<u64> {
        let mut counts: BTreeMap<ProcAddr, u64> = BTreeMap::new();
        for task in &census.tasks {
            if self.types[&task.vtable].resource == Resource::Task && !task.state.is_complete() {
                *counts.entry(task.vtable).or_default() += 1;
            }
        }
        let mut counts: Vec<u64> = counts.into_values().collect();
        counts.sort_unstable();
        counts
    }
}
