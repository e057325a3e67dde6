//! Task vtables: seven code addresses and three offsets, one table a spawned future type. No optimisation and no
//! `strip` removes them, because headers point to them.
//!
//! Does not know: which future a vtable is for.

use crate::model::{CellLayout, Naming, Resource, TaskFunctions, TaskType, Unnamed, VirtAddr};
use crate::symbols::{Image, Pointer};

use super::versions::LayoutRow;

/// Functions in a vtable.
const FUNCTIONS: usize = 7;
/// Bytes of the functions: where the offsets begin.
const OFFSETS_AT: u64 = 8 * FUNCTIONS as u64;

/// One task vtable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Vtable {
    at: VirtAddr,
    functions: TaskFunctions,
    trailer: u32,
    scheduler: u32,
    id: u32,
}

/// Every task vtable of the image, by address.
pub(super) fn find(image: &Image<'_>) -> Vec<Vtable> {
    let pointers = image.pointers().as_slice();
    let mut found = Vec::new();
    let mut code = Runs { image, rest: pointers };
    while let Some(run) = code.next() {
        // Whatever the linker put before it, a vtable's functions end a run: plain words follow.
        if let Some(functions) = run.last_chunk::<FUNCTIONS>() {
            found.extend(Vtable::read(image, functions));
        }
    }
    found
}

/// Runs of adjacent words that hold code addresses.
struct Runs<'r, 'd> {
    image: &'r Image<'d>,
    rest: &'r [Pointer],
}

impl<'r> Runs<'r, '_> {
    fn next(&mut self) -> Option<&'r [Pointer]> {
        let is_code = |p: &Pointer| self.image.is_executable(p.to);
        let skipped = self.rest.iter().position(is_code)?;
        let from = self.rest.get(skipped..)?;
        let adjacent = from.windows(2).take_while(|w| w[0].at.0.checked_add(8) == Some(w[1].at.0) && is_code(&w[1]));
        let (run, rest) = from.split_at_checked(1 + adjacent.count())?;
        self.rest = rest;
        Some(run)
    }
}

impl Vtable {
    fn read(image: &Image<'_>, functions: &[Pointer; FUNCTIONS]) -> Option<Self> {
        let [poll, schedule, dealloc, try_read_output, drop_join_handle_slow, drop_abort_handle, shutdown] =
            functions.map(|p| p.to);
        let at = functions[0].at;
        let trailer = offset(image, at, 0)?;
        let scheduler = offset(image, at, 1)?;
        let id = offset(image, at, 2)?;
        let plausible = (24..=256).contains(&scheduler)
            && (scheduler..=scheduler + 512).contains(&id)
            && id < trailer
            && trailer < 1 << 24
            && poll != schedule;
        plausible.then_some(Self {
            at,
            functions: TaskFunctions {
                poll,
                schedule,
                dealloc,
                try_read_output,
                drop_join_handle_slow,
                drop_abort_handle,
                shutdown,
            },
            trailer,
            scheduler,
            id,
        })
    }

    /// What the vtable tells of its type.
    pub(super) fn task_type(&self, row: &LayoutRow, unstable: bool) -> TaskType {
        let on_scheduler = self.id - self.scheduler == row.scheduler_arc;
        TaskType {
            vtable: self.at,
            resource: if on_scheduler { Resource::Task } else { Resource::Blocking },
            functions: self.functions,
            layout: CellLayout {
                state: row.state,
                queue_next: row.queue_next,
                vtable: row.vtable,
                owner: row.owner,
                scheduler: self.scheduler,
                id: self.id,
                spawn_location: unstable.then_some(self.id + 8),
                trailer: self.trailer,
                align: row.align,
                stage_tagged: row.stage_tagged,
            },
            future: Naming::Unknown(Unnamed::NotSearched),
            place: None,
            worker: false,
        }
    }
}

/// Built with `tokio_unstable` (1.46 on): every vtable has a fourth offset, that of the spawn location, which follows the id.
pub(super) fn all_record_spawn_locations(image: &Image<'_>, vtables: &[Vtable]) -> bool {
    vtables.iter().all(|v| offset(image, v.at, 3) == Some(v.id + 8))
}

/// The vtable's n-th offset: a plain word, a multiple of eight.
fn offset(image: &Image<'_>, vtable: VirtAddr, n: u64) -> Option<u32> {
    let at = VirtAddr(vtable.0.checked_add(OFFSETS_AT + 8 * n)?);
    if image.pointer_at(at).is_some() {
        return None;
    }
    u32::try_from(image.word_at(at)?).ok().filter(|word| word % 8 == 0)
}
