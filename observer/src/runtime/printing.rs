//! Which functions print a text: texts survive `strip`.
//!
//! Does not know: what the texts mean.

use std::collections::HashSet;
use std::ops::Range;

use memchr::memmem;

use crate::model::VirtAddr;
use crate::symbols::{Image, Targets, references};

/// Most copies of one text that are looked at.
const MOST_TEXTS: usize = 64;

/// The functions that name each text, directly or through a pointer to it.
pub(super) fn printing<const N: usize>(image: &Image<'_>, texts: [&[u8]; N]) -> [HashSet<Range<VirtAddr>>; N] {
    let named = texts.map(|text| {
        let finder = memmem::Finder::new(text);
        let mut at: HashSet<VirtAddr> = HashSet::new();
        for segment in image.segments() {
            let bytes = image.bytes().get(segment.file()).unwrap_or_default();
            let places = finder.find_iter(bytes).take(MOST_TEXTS);
            at.extend(places.filter_map(|n| Some(VirtAddr(segment.start().0.checked_add(n as u64)?))));
        }
        let slots: Vec<VirtAddr> =
            image.pointers().as_slice().iter().filter(|p| at.contains(&p.to)).map(|p| p.at).take(MOST_TEXTS).collect();
        at.extend(slots);
        at
    });
    let found = references(image, &Targets::new(named.iter().flatten().copied()));
    named.map(|named| {
        let naming = found.iter().filter(|r| named.contains(&r.target));
        naming.filter_map(|r| image.functions().containing(r.at)).collect()
    })
}
