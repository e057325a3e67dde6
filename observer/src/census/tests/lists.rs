//! Lists that are found, followed while they change, and broken in every way.

use proptest::prelude::*;

use super::scene::Scene;
use crate::census::addresses::Addresses;
use crate::census::anchors::List;
use crate::census::cell::Cell;
use crate::census::following::{Following, Lost, loose};
use crate::census::places::Places;

/// What is known between two walks.
struct Known {
    cells: Vec<Cell>,
    addresses: Addresses,
    places: Places,
    lists: Vec<List>,
}

impl Known {
    fn of(scene: &Scene) -> Self {
        let (cells, places, addresses) = scene.search();
        let lists = scene.learn(&cells, &addresses, &places).unwrap();
        Self { cells, addresses, places, lists }
    }

    fn follow(&mut self, scene: &Scene) -> Result<Vec<u64>, Lost> {
        let look = scene.look(&self.places);
        let mut cells = self.cells.clone();
        let differing = look.at(&mut cells).unwrap();
        let loose = loose(&self.cells, &self.addresses, &scene.types);
        let following = Following::new(look, &self.lists, cells, &self.addresses, (&differing, &loose), usize::MAX);
        self.cells = following.run(&differing.unlinked).unwrap()?.cells;
        self.addresses = scene.addresses(&self.cells);
        let mut ids: Vec<u64> = self.cells.iter().map(|cell| cell.id).collect();
        ids.sort_unstable();
        Ok(ids)
    }
}

fn with_tasks(cells: usize, tasks: usize) -> Scene {
    let mut scene = Scene::new(cells);
    (0..tasks).for_each(|slot| scene.spawn(slot));
    scene
}

#[test]
fn the_shards_of_a_scheduler_and_its_count_are_found_also_where_most_are_empty() {
    for tasks in [2, 5, 40] {
        let mut scene = with_tasks(60, tasks);
        // Places are learned from neighbours: two in one shard.
        if tasks == 2 {
            (2..5).for_each(|slot| scene.spawn(slot));
            (1..=3).for_each(|id| scene.end(id));
            scene.spawn(0);
            scene.spawn(1);
            scene.spawn(2);
            scene.spawn(5);
        }
        let known = Known::of(&scene);
        assert_eq!(known.lists.len(), 1);
        assert!(known.lists[0].counts.words().contains(&scene.count_at()), "{:x?}", known.lists);
    }
}

#[test]
fn a_link_that_leads_to_no_task_is_not_passed_over() {
    let mut scene = with_tasks(60, 20);
    let mut known = Known::of(&scene);
    assert_eq!(known.follow(&scene), Ok(scene.ids()));
    // Gone from its place without having been taken out of its list.
    let slot = scene.live[&7];
    let place = (scene.header(slot) - scene.words.as_ptr() as u64) / 8;
    scene.words[place as usize + 2] = 0;
    assert_eq!(known.follow(&scene), Err(Lost::Link));
}

#[test]
fn a_task_taken_out_of_its_list_is_not_there_any_more_though_its_memory_is() {
    let mut scene = with_tasks(60, 9);
    let mut known = Known::of(&scene);
    let slot = scene.live[&4];
    scene.end(4);
    let place = (scene.header(slot) - scene.words.as_ptr() as u64) / 8;
    scene.words[place as usize] = 0xcc;
    assert_eq!(known.follow(&scene), Ok(scene.ids()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whoever_comes_and_goes_between_two_walks_is_met(
        first in 8usize..40,
        steps in proptest::collection::vec(proptest::collection::vec((any::<bool>(), 0usize..60), 0..60), 1..6),
    ) {
        let mut scene = with_tasks(60, first);
        let mut known = Known::of(&scene);
        for changes in steps {
            for (born, number) in changes {
                let taken = scene.live.iter().find(|(_, slot)| **slot == number).map(|(id, _)| *id);
                match (born, taken) {
                    (true, None) => scene.spawn(number),
                    // The memory of one that ends is the next one's at once.
                    (true, Some(id)) => { scene.end(id); scene.spawn(number) }
                    (false, Some(id)) => scene.end(id),
                    (false, None) => {}
                }
            }
            prop_assert_eq!(known.follow(&scene), Ok(scene.ids()));
        }
    }

    #[test]
    fn whatever_words_say_a_walk_ends(
        words in proptest::collection::vec((0usize..2000, any::<u64>(), 0usize..60), 0..40),
    ) {
        let mut scene = with_tasks(60, 40);
        let mut known = Known::of(&scene);
        for (place, word, slot) in words {
            let len = scene.words.len();
            // Half of them lead to some cell.
            let word = if word % 2 == 0 { scene.header(slot) } else { word };
            scene.words[place % len] = word;
        }
        let _ = known.follow(&scene);
        let (cells, places, addresses) = scene.search();
        let _ = scene.learn(&cells, &addresses, &places);
    }
}
