//! All that is known of an image as one plain value: the last moment that its bytes are needed.
//!
//! Does not know: where the bytes come from, who maps them, what is wanted of them.

use crate::model::{Analysis, ImageFacts, OBSERVER_NOTE, VirtAddr};
use crate::runtime::{self, Found};
use crate::symbols::{Image, Segment};

/// Looks at an image. `named` is whether its types are to be named.
pub fn analyse(image: &Image<'_>, named: bool) -> Analysis {
    let mut found = match runtime::analyse(image) {
        Found::Nothing => return Analysis::Nothing,
        Found::TooOld { version, reason } => return Analysis::TooOld { version, reason },
        Found::Runtime(found) => found,
    };
    if named {
        runtime::name_types(image, &found.births, &mut found.types);
    }
    let mut counters: Vec<VirtAddr> = found.mints.iter().map(|mint| mint.counter).collect();
    counters.sort_unstable();
    counters.dedup();
    Analysis::Runtime(Box::new(ImageFacts {
        build_id: image.build_id().clone(),
        segments: image.segments().iter().map(Segment::load).collect(),
        stripped: image.is_stripped(),
        version: found.version.as_ref().map(ToString::to_string),
        unstable: found.unstable,
        named,
        observer: image.has_note_of(OBSERVER_NOTE),
        spawn_sites: found.births.len(),
        counters,
        plan: super::plan(image, &found),
        polls: runtime::poll_bodies(image, &found.types),
        missed: Vec::new(),
        types: found.types,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::symbols::own;

    fn facts(named: bool) -> ImageFacts {
        let Analysis::Runtime(facts) = analyse(own::image(), named) else { panic!("the test binary has tokio tasks") };
        *facts
    }

    #[test]
    fn names_are_all_that_naming_changes() {
        let (mut named, plain) = (facts(true), facts(false));
        assert!(named.types.iter().any(|task| task.future.text().is_some()), "a test binary has symbols");
        assert!(plain.types.iter().all(|task| task.future.text().is_none() && task.place.is_none()));
        for (task, unnamed) in named.types.iter_mut().zip(&plain.types) {
            (task.future, task.place) = (unnamed.future.clone(), unnamed.place.clone());
        }
        named.named = false;
        assert_eq!(named, plain);
    }
}
