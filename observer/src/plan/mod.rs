//! Which points of an image are needed for the wanted events, where exactly each sits, and what will be missing.
//!
//! Does not know: processes, how a point is attached. A plan never fails: what cannot be seen is listed with its reason.

mod class;
mod function;
mod missing;
mod place;
mod roles;

use std::collections::{BTreeMap, HashSet};

use crate::model::{AttachPoint, Cost, EventSet, Missing, Role, TaskType, VirtAddr};
use crate::runtime::{BirthSite, MintSite, RuntimeImage};
use crate::symbols::Image;

use function::Functions;
use place::{Place, Refused};
use roles::Roles;

/// The points of one image.
#[derive(Clone, Debug, Default)]
pub struct ImagePlan {
    /// By place, one a role and place (births: one a spawn site).
    pub points: Vec<AttachPoint>,
    /// Events that will be absent or incomplete.
    pub missing: Vec<Missing>,
}

/// Plans the points for the wanted events.
pub fn plan(image: &Image<'_>, runtime: &RuntimeImage, wanted: EventSet) -> ImagePlan {
    let mut draft = Draft { image, functions: Functions::new(image), points: Vec::new(), refused: BTreeMap::new() };
    let roles = Roles::for_events(wanted);
    for role in roles.of_vtables() {
        draft.entries(role, &runtime.types);
    }
    if roles.has(Role::Birth) {
        draft.births(&runtime.births, &runtime.mints);
    }
    if roles.has(Role::Raise) {
        draft.raises(runtime);
    }
    let missing = missing::list(runtime, wanted, &draft.refused);
    let mut points = draft.points;
    points.sort_by_key(|p| (p.at, p.role, p.vtable));
    ImagePlan { points, missing }
}

struct Draft<'i, 'd> {
    image: &'i Image<'d>,
    functions: Functions<'i, 'd>,
    points: Vec<AttachPoint>,
    refused: BTreeMap<Role, Vec<Refused>>,
}

impl Draft<'_, '_> {
    /// One point at the exact entry of each distinct function: a return probe elsewhere would corrupt the stack.
    fn entries(&mut self, role: Role, types: &[TaskType]) {
        let mut seen = HashSet::new();
        for at in types.iter().filter_map(|t| roles::function(role, &t.functions)) {
            if seen.insert(at) {
                let place = Place::exactly(self.image, at);
                self.point(role, place, None, None);
            }
        }
    }

    fn births(&mut self, births: &[BirthSite], mints: &[MintSite]) {
        let mut taken = HashSet::new();
        for birth in births {
            let place = place::of_birth(self.image, &mut self.functions, birth, mints);
            taken.extend(place.as_ref().ok().map(|p| p.at));
            self.point(Role::Birth, place, Some(birth.vtable), None);
        }
        for mint in mints {
            let place = place::of_mint(self.image, &mut self.functions, mint, &taken);
            self.point(Role::Mint, place, None, Some(mint.register));
        }
    }

    fn raises(&mut self, runtime: &RuntimeImage) {
        for site in runtime.raises.sites() {
            let place = place::of_raise(self.image, &mut self.functions, site);
            self.point(Role::Raise, place, None, None);
        }
    }

    fn point(
        &mut self,
        role: Role,
        place: Result<Place, Refused>,
        vtable: Option<VirtAddr>,
        register: Option<crate::model::MintRegister>,
    ) {
        match place {
            Ok(Place { at, offset, bytes, cost }) => {
                self.points.push(AttachPoint { role, at, offset, bytes, cost, vtable, register });
            }
            Err(refused) => self.refused.entry(role).or_default().push(refused),
        }
    }
}

impl ImagePlan {
    /// How many points sit on instructions that the kernel must single-step.
    pub fn single_stepped(&self) -> usize {
        self.points.iter().filter(|p| p.cost == Cost::SingleStepped).count()
    }
}
