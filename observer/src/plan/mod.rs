//! Where exactly each point of an image sits, which of them the wanted events need, and what will be missing.
//!
//! Does not know: processes, how a point is attached. A plan never fails: what cannot be seen is listed with its reason.
//! It is made once, for all events, and chosen from by who wants some.

mod choice;
mod class;
mod facts;
mod function;
#[cfg(test)]
mod fuzz;
mod imports;
mod jump_tables;
mod new_cell;
mod operands;
mod own_id;
mod place;
mod roles;
mod slow;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::model::{
    AttachPoint, CellLayout, Cost, IdPlaces, ImagePlan, MintRegister, PanicPlaces, Role, TaskType, Unprobed, VirtAddr,
};
use crate::runtime::{IdCounter, MintSite, Raises, RuntimeImage};
use crate::symbols::Image;

pub use choice::{Chosen, choose, choose_spawns, watches_ends, watches_polls};
pub use facts::analyse;
pub use place::instruction_text;
pub use slow::{Pace, Slow, is_hot_and_slow, pace};

use function::Functions;
use place::{Birth, BornId, Place, Refused};

/// Plans the points for all events, and for who wants to know who spawns.
pub fn plan(image: &Image<'_>, runtime: &RuntimeImage) -> ImagePlan {
    let mut draft = Draft { image, functions: Functions::new(image), points: Vec::new(), refused: BTreeMap::new() };
    draft.births(runtime);
    for role in roles::OF_VTABLES {
        draft.entries(role, &runtime.types);
    }
    if let IdCounter::At(counter) = runtime.ids {
        let of_ids: Vec<MintSite> = runtime.mints.iter().filter(|mint| mint.counter == counter).copied().collect();
        draft.mints(Role::Spawn, &of_ids, &HashSet::new());
    }
    draft.raises(runtime);
    draft.hooks(runtime);
    let Draft { mut points, refused, .. } = draft;
    points.sort_by_key(|p| (p.at, p.role, p.vtable));
    let unprobed = refused.into_iter().filter_map(|(role, places)| {
        let Refused { at: first, reason } = *places.first()?;
        Some(Unprobed { role, places: places.len(), first, reason: reason.to_owned() })
    });
    let born: HashSet<_> = runtime.births.iter().map(|b| b.vtable).collect();
    ImagePlan {
        points,
        unprobed: unprobed.collect(),
        types: runtime.types.len(),
        unborn: runtime.types.iter().filter(|t| !born.contains(&t.vtable)).count(),
        mints: runtime.mints.len(),
        ids: match runtime.ids {
            IdCounter::At(_) => IdPlaces::Found,
            IdCounter::NotFound => IdPlaces::NotFound,
            IdCounter::Several(count) => IdPlaces::Several(count),
        },
        panics: match &runtime.raises {
            Raises::At(_) => PanicPlaces::Found,
            Raises::Aborts => PanicPlaces::Aborts,
            Raises::Elsewhere(library) => PanicPlaces::Elsewhere(library.clone()),
            Raises::NotFound => PanicPlaces::NotFound,
        },
    }
}

struct Draft<'i, 'd> {
    image: &'i Image<'d>,
    functions: Functions<'i, 'd>,
    points: Vec<AttachPoint>,
    refused: BTreeMap<Role, Vec<Refused>>,
}

impl<'i, 'd> Draft<'i, 'd> {
    /// One point at the exact entry of each distinct function: a return probe elsewhere would corrupt the stack.
    fn entries(&mut self, role: Role, types: &[TaskType]) {
        // Who is not seen born with an id is met at a poll, which must be reported then.
        let minted = self.points.iter().any(|point| point.role == Role::Mint);
        let with_id = self.points.iter().filter(|point| minted || point.register.is_some());
        let born: HashSet<VirtAddr> = with_id.filter_map(|point| point.vtable).collect();
        let mut words: BTreeMap<VirtAddr, (BTreeSet<u8>, BTreeSet<u8>)> = BTreeMap::new();
        for task in types {
            let Some(at) = roles::function(role, &task.functions) else { continue };
            let (far, telling) = words.entry(at).or_default();
            far.extend(task.layout.far_id());
            let word = task.layout.telling_word().filter(|_| born.contains(&task.vtable));
            telling.insert(word.unwrap_or(0));
        }
        for (at, (far, telling)) in words {
            // Types whose ids lie at two places behind the head do not share code that reads either.
            let place = match far.len() {
                0 | 1 => Place::exactly(self.image, at),
                _ => Err(Refused { at, reason: "the ids of its task types lie at different places" }),
            };
            let telling = match Vec::from_iter(telling)[..] {
                [word] if role == Role::Poll => word,
                _ => 0,
            };
            self.point(place, Wanted { far: far.first().copied().unwrap_or(0), telling, ..Wanted::of(role) });
        }
    }

    /// One hit a birth tells the id as well, where the births of this image can. Else two do, in all of it: an id that was minted for
    /// a birth that knows its own would be taken for that of the next birth that does not.
    fn births(&mut self, runtime: &RuntimeImage) {
        let layouts: HashMap<VirtAddr, &CellLayout> = runtime.types.iter().map(|t| (t.vtable, &t.layout)).collect();
        let mut births = Vec::new();
        for birth in &runtime.births {
            let Some(layout) = layouts.get(&birth.vtable) else { continue };
            births.push((birth, place::of_birth(self.image, &mut self.functions, birth, layout, &runtime.mints)));
        }
        let ids = births.iter().filter_map(|(_, born)| Some(born.as_ref().ok()?.id));
        let tell = births_tell_ids(ids, self.mints_are_cheap(&runtime.mints));
        let found = births.into_iter().map(|(birth, born)| {
            let found = match born {
                Ok(Birth { place, id: BornId::At(spot) }) if tell => Ok((place, Some(spot))),
                Ok(Birth { id: BornId::Minted, .. }) if tell => Err(Refused { at: birth.at, reason: NOT_TOLD }),
                Ok(_) if tell => Err(Refused { at: birth.at, reason: NOT_WRITTEN }),
                born => born.map(|born| (born.place, None)),
            };
            (birth.vtable, found)
        });
        let found: Vec<_> = found.collect();
        // A type is seen born at all of its sites or at none: who is not seen born would be taken for one that was there before.
        let unseen = found.iter().filter(|(_, found)| found.is_err()).map(|(vtable, _)| *vtable);
        let unseen: HashSet<VirtAddr> = unseen.collect();
        let mut taken = HashSet::new();
        for (vtable, found) in found {
            let found = found.and_then(|(place, spot)| match unseen.contains(&vtable) {
                true => Err(Refused { at: place.at, reason: NOT_ALL }),
                false => Ok((place, spot)),
            });
            taken.extend(found.as_ref().ok().map(|(place, _)| place.at));
            let spot = found.as_ref().ok().and_then(|(_, spot)| *spot);
            let (register, far) = (spot.map(|spot| spot.register), spot.map_or(0, |spot| spot.word));
            let wanted = Wanted { vtable: Some(vtable), register, far, ..Wanted::of(Role::Birth) };
            self.point(found.map(|(place, _)| place), wanted);
        }
        if !tell {
            self.mints(Role::Mint, &runtime.mints, &taken);
        }
    }

    /// Whether ids can be had from where they are minted, and cheaply.
    fn mints_are_cheap(&mut self, mints: &[MintSite]) -> bool {
        let none = HashSet::new();
        let mut is_cheap = |mint| {
            let place = place::of_mint(self.image, &mut self.functions, mint, &none);
            place.is_ok_and(|place| place.cost == Cost::Emulated)
        };
        !mints.is_empty() && mints.iter().all(&mut is_cheap)
    }

    fn mints(&mut self, role: Role, mints: &[MintSite], births: &HashSet<VirtAddr>) {
        for mint in mints {
            let place = place::of_mint(self.image, &mut self.functions, mint, births);
            self.point(place, Wanted { register: Some(mint.register), ..Wanted::of(role) });
        }
    }

    fn raises(&mut self, runtime: &RuntimeImage) {
        for site in runtime.raises.sites() {
            let place = place::of_raise(self.image, &mut self.functions, site);
            self.point(place, Wanted::of(Role::Raise));
        }
    }

    fn hooks(&mut self, runtime: &RuntimeImage) {
        for at in &runtime.hooks {
            // What the arguments are is known nowhere else.
            self.point(Place::exactly(self.image, *at), Wanted::of(Role::Hook));
        }
    }

    fn point(&mut self, place: Result<Place, Refused>, wanted: Wanted) {
        let Wanted { role, vtable, register, far, telling } = wanted;
        match place {
            Ok(Place { at, offset, bytes, cost }) => {
                self.points.push(AttachPoint { role, at, offset, bytes, cost, vtable, register, far, telling });
            }
            Err(refused) => self.refused.entry(role).or_default().push(refused),
        }
    }
}

/// Why a birth is left out where others tell their ids.
const NOT_WRITTEN: &str = "the address of the task's vtable is taken there, but is not seen to be written to a task, so that it may be \
                           taken once for several tasks";
/// Why a birth is left out that does not tell its id, where the others do.
const NOT_TOLD: &str =
    "the task's id is not where it can be read there, and where it is taken is too slow a place, or none";
/// Why a birth is left out whose type has another.
const NOT_ALL: &str = "tasks of the type are spawned elsewhere, too, where that cannot be seen";
/// Of so many births that tell their ids one may be left out for that.
const TELLING_FOR_ONE: usize = 8;

/// Whether the births of an image are to tell ids themselves. Where ids can be had cheaply where they are minted, all must.
fn births_tell_ids(births: impl Iterator<Item = BornId>, mints_are_cheap: bool) -> bool {
    let (mut telling, mut left_out) = (0, 0);
    for id in births {
        match id {
            BornId::At(_) => telling += 1,
            BornId::Minted if mints_are_cheap => return false,
            BornId::Minted | BornId::NotWritten => left_out += 1,
        }
    }
    left_out * TELLING_FOR_ONE < telling
}

/// What a point is for, as [`AttachPoint`] has it.
struct Wanted {
    role: Role,
    vtable: Option<VirtAddr>,
    register: Option<MintRegister>,
    far: u8,
    telling: u8,
}

impl Wanted {
    /// A hit alone.
    fn of(role: Role) -> Self {
        Self { role, vtable: None, register: None, far: 0, telling: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::own_id::IdSpot;
    use super::*;
    use crate::model::{EventSet, ProcAddr};
    use crate::symbols::own;

    fn with_own<T>(test: impl FnOnce(&Image<'_>, RuntimeImage) -> T) -> T {
        test(own::image(), crate::runtime::own().clone())
    }

    fn chosen(image: &Image<'_>, runtime: &RuntimeImage, wanted: EventSet) -> Chosen {
        choose(&plan(image, runtime), &runtime.types, wanted, Slow::Allowed)
    }

    fn roles(chosen: &Chosen) -> Vec<Role> {
        let roles: std::collections::BTreeSet<_> = chosen.points.iter().map(|p| p.role).collect();
        roles.into_iter().collect()
    }

    #[test]
    fn each_point_sits_on_the_instruction_that_memory_holds() {
        with_own(|image, runtime| {
            let points = chosen(image, &runtime, EventSet::ALL).points;
            let bias = own::bias();
            for point in &points {
                let running = own::memory(ProcAddr(bias.to_process(point.at).0), point.bytes.len());
                assert_eq!(running, point.bytes, "{point:?}");
                let offset = usize::try_from(point.offset.0).expect("small");
                assert_eq!(image.bytes()[offset..offset + point.bytes.len()], point.bytes, "{point:?}");
            }
            let distinct: HashSet<_> = points.iter().map(|p| (p.role, p.at, p.vtable)).collect();
            assert_eq!(distinct.len(), points.len(), "one a role and place");
        });
    }

    #[test]
    fn return_probes_sit_at_entries_of_task_functions_only() {
        with_own(|image, runtime| {
            let points = chosen(image, &runtime, EventSet::ALL).points;
            let returning = points.iter().filter(|p| p.role.programs().contains(&crate::model::Program::Leave));
            let entries: HashSet<_> = runtime
                .types
                .iter()
                .map(|t| t.functions)
                .flat_map(|f| [f.poll, f.shutdown, f.drop_join_handle_slow, f.drop_abort_handle])
                .collect();
            assert_eq!(returning.map(|p| p.at).collect::<HashSet<_>>(), entries);
            assert!(entries.iter().all(|&at| image.functions().starts_at(at)));
        });
    }

    #[test]
    fn only_what_the_wanted_events_need_is_planned() {
        use Role::{Birth, Dealloc, DropAbortHandle, DropJoinHandle, Hook, Mint, Poll, Raise, Shutdown};
        with_own(|image, runtime| {
            let none = EventSet::NONE;
            let of = |wanted| roles(&chosen(image, &runtime, wanted));
            assert_eq!(of(none), []);
            // An optimised build's births tell the ids themselves.
            let born = if cfg!(debug_assertions) { &[Mint, Birth][..] } else { &[Birth] };
            assert_eq!(of(EventSet { init: true, ..none }), born);
            assert_eq!(of(EventSet { before: true, ..none }), [Poll]);
            assert_eq!(of(EventSet { after: true, ..none }), [Poll]);
            let ends = [Poll, Shutdown, DropJoinHandle, DropAbortHandle];
            assert_eq!(of(EventSet { resolve: true, ..none }), [&ends[..], &[Raise, Hook]].concat());
            assert_eq!(of(EventSet { destroy: true, ..none }), [&ends[..], &[Dealloc]].concat());
            let all = [born, &ends, &[Dealloc, Raise, Hook]].concat();
            assert_eq!(of(EventSet::ALL), all);
        });
    }

    #[test]
    fn births_and_mints_are_one_a_site() {
        with_own(|image, runtime| {
            let points = chosen(image, &runtime, EventSet { init: true, ..EventSet::NONE }).points;
            let count = |role| points.iter().filter(|p| p.role == role).count();
            let mints = if cfg!(debug_assertions) { runtime.mints.len() } else { 0 };
            assert_eq!((count(Role::Birth), count(Role::Mint)), (runtime.births.len(), mints));
            assert!(points.iter().all(|p| (p.role == Role::Birth) == p.vtable.is_some()));
            let tells = if cfg!(debug_assertions) { Role::Mint } else { Role::Birth };
            assert!(points.iter().all(|p| (p.role == tells) == p.register.is_some()));
        });
    }

    #[test]
    fn births_tell_ids_where_all_can_but_for_few_that_are_left_out() {
        let at = BornId::At(IdSpot { register: MintRegister(1), word: 0 });
        let tell = |ids: &[(BornId, usize)]| {
            let births = || ids.iter().flat_map(|(id, times)| std::iter::repeat_n(*id, *times));
            [true, false].map(|mints_are_cheap| births_tell_ids(births(), mints_are_cheap))
        };
        assert_eq!(tell(&[(at, 1)]), [true; 2]);
        assert_eq!(tell(&[(at, 9), (BornId::NotWritten, 1)]), [true; 2]);
        assert_eq!(tell(&[(at, 8), (BornId::NotWritten, 1)]), [false; 2], "too many would be left out");
        assert_eq!(
            tell(&[(at, 99), (BornId::Minted, 1)]),
            [false, true],
            "one that needs its mint, if that is to be had"
        );
        assert_eq!(tell(&[(at, 8), (BornId::Minted, 1)]), [false; 2]);
        assert_eq!([tell(&[(BornId::NotWritten, 3)]), tell(&[])], [[false; 2]; 2], "a debug build");
    }

    #[test]
    fn spawns_cost_one_point_where_an_id_is_taken_and_no_other() {
        with_own(|image, mut runtime| {
            let IdCounter::At(counter) = runtime.ids else { panic!("{:?}", runtime.ids) };
            let mints = runtime.mints.iter().filter(|mint| mint.counter == counter).count();
            let Chosen { points, missing } = choose_spawns(&plan(image, &runtime), Slow::Allowed);
            assert_eq!((points.len(), missing), (mints, vec![]));
            assert!(points.iter().all(|p| p.role == Role::Spawn && p.register.is_some() && p.vtable.is_none()));
            let places: HashSet<VirtAddr> = points.iter().map(|p| p.at).collect();
            assert_eq!(places.len(), mints, "each at a place of its own");
            for (ids, word) in [(IdCounter::NotFound, "not found"), (IdCounter::Several(2), "2 counters")] {
                runtime.ids = ids;
                let Chosen { points, missing } = choose_spawns(&plan(image, &runtime), Slow::Allowed);
                assert_eq!(points, []);
                let [crate::model::Missing { event: "spawns", reason }] = &missing[..] else {
                    panic!("one thing is missing")
                };
                assert!(reason.contains(word), "{reason}");
            }
        });
    }

    #[test]
    fn what_cannot_be_seen_is_said() {
        with_own(|image, mut runtime| {
            let missing = |runtime: &RuntimeImage, wanted| -> Vec<(&'static str, String)> {
                chosen(image, runtime, wanted).missing.into_iter().map(|m| (m.event, m.reason)).collect()
            };
            assert_eq!(missing(&runtime, EventSet::ALL), []);
            let init = EventSet { init: true, ..EventSet::NONE };
            let [("trigger", trigger), ("resolve", resolve), ("destroy", destroy)] = &missing(&runtime, init)[..]
            else {
                panic!("no polls, no triggers and no ends")
            };
            for reason in [trigger, resolve, destroy] {
                assert!(reason.contains("--events"), "the next step: {reason}");
            }
            let unborn = runtime.births.remove(0).vtable;
            runtime.births.retain(|b| b.vtable != unborn);
            runtime.mints.clear();
            runtime.raises = Raises::NotFound;
            let [("init", births), ("init", mints), ("outcome", raises)] = &missing(&runtime, EventSet::ALL)[..] else {
                panic!("three things are missing")
            };
            assert!(births.starts_with(&format!("1 of {} future types", runtime.types.len())), "{births}");
            assert!(mints.contains("first poll") && raises.contains("panicked"), "{mints}; {raises}");
            runtime.raises = Raises::Aborts;
            let resolve = EventSet { resolve: true, ..EventSet::NONE };
            assert_eq!(missing(&runtime, resolve), [], "where panics abort, no task ends by one");
        });
    }

    #[test]
    fn a_function_that_cannot_be_probed_is_missing_not_attached() {
        with_own(|image, mut runtime| {
            let data = runtime.types[0].vtable;
            runtime.types.truncate(1);
            runtime.types[0].functions.poll = data;
            let planned = chosen(image, &runtime, EventSet { before: true, ..EventSet::NONE });
            assert_eq!(planned.points, []);
            let [missing] = &planned.missing[..] else { panic!("one thing is missing") };
            assert!(missing.event == "before" && missing.reason.contains("no instruction"), "{missing:?}");
        });
    }
}
