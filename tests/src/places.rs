//! The truth of the programs `leaks` and `healthy`: each place of theirs, how many of its tasks live, which verdict is right.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::look::type_offset;
use crate::stream::{number, word};

/// How many places `leaks` has.
pub const LEAKS: usize = 24;

/// One place of a program, as the program tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The async fn or hand-written future.
    pub name: String,
    /// Offset of its future type's vtable in the image, as the end of a type id says it.
    pub offset: u64,
    /// Its live tasks.
    pub live: u64,
    /// All it ever had.
    pub born: u64,
    /// Whether tasks come and go there.
    pub moves: bool,
    /// `stuck`, `leaking`, `suspect`, or `healthy`.
    pub right: String,
    /// What its tasks do, for people.
    pub about: String,
}

/// All places at one moment.
#[derive(Clone, Debug)]
pub struct Places(Vec<Place>);

impl Places {
    /// Reads the program's line.
    pub fn of(truth: &Value) -> Self {
        let base = number(truth, "base");
        let places = truth["places"].as_array().unwrap_or_else(|| panic!("no places in {truth}"));
        let read = |place: &Value| Place {
            name: word(place, "place").to_owned(),
            // A vtable of 0 is one that no task of the place was polled for yet.
            offset: number(place, "vtable").saturating_sub(base),
            live: number(place, "live"),
            born: number(place, "born"),
            moves: place["moves"] == true,
            right: word(place, "right").to_owned(),
            about: word(place, "about").to_owned(),
        };
        Self(places.iter().map(read).collect())
    }

    /// Whether all these places had a task that was polled, so that its type is known.
    pub fn all_known(&self, places: usize) -> bool {
        self.0.len() == places && self.0.iter().all(|place| place.offset > 0)
    }

    /// Each.
    pub fn iter(&self) -> impl Iterator<Item = &Place> {
        self.0.iter()
    }

    /// The place of a line, by its type id; `None` for a type that is not the program's own, as the runtime's workers.
    pub fn place_of(&self, line: &Value) -> Option<&Place> {
        let offset = type_offset(line);
        self.0.iter().find(|place| place.offset == offset)
    }

    /// The place of a name.
    pub fn named(&self, name: &str) -> &Place {
        self.named_if_there(name).unwrap_or_else(|| panic!("no place {name}"))
    }

    /// The same, where it may not have had a task yet.
    pub fn named_if_there(&self, name: &str) -> Option<&Place> {
        self.0.iter().find(|place| place.name == name)
    }

    /// Lines by the name of their place; lines of none are left out.
    pub fn by_place<'a>(&self, lines: impl Iterator<Item = &'a Value>) -> BTreeMap<String, Vec<&'a Value>> {
        let mut found: BTreeMap<String, Vec<&Value>> = BTreeMap::new();
        for line in lines {
            if let Some(place) = self.place_of(line) {
                found.entry(place.name.clone()).or_default().push(line);
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_line_is_told_its_place_by_the_type_id() {
        let truth = json!({"base": 0x1000, "places": [
            {"place": "a", "vtable": 0x1010, "live": 3, "born": 4, "moves": true, "right": "leaking", "about": "x"}]});
        let places = Places::of(&truth);
        let (ours, other) = (json!({"typeId": "ab+0x10"}), json!({"typeId": "ab+0x20"}));
        assert_eq!(places.place_of(&ours).map(|place| (place.live, place.moves)), Some((3, true)));
        assert_eq!(places.place_of(&other), None);
        assert_eq!(places.by_place([&ours, &other].into_iter())["a"], [&ours]);
    }
}
