//! Where the code of tasks' polls is.
//!
//! Does not know: what is in it.

use std::collections::BTreeMap;

use crate::model::{PollBody, TaskType, VirtAddr};
use crate::symbols::{Image, decode};

/// Jumps in a row that are followed.
const MOST_JUMPS: usize = 4;

/// The polls of these types: the functions that the vtables name, and those that such a function does nothing but jump to,
/// which then stand in its place among the callers. By place.
pub fn poll_bodies(image: &Image<'_>, types: &[TaskType]) -> Vec<PollBody> {
    let mut bodies: BTreeMap<VirtAddr, PollBody> = BTreeMap::new();
    for task in types {
        let mut at = task.functions.poll;
        for _ in 0..=MOST_JUMPS {
            if let Some(code) = image.functions().containing(at).filter(|code| code.start == at) {
                let align = task.layout.align;
                let body =
                    bodies.entry(at).or_insert_with(|| PollBody { code, vtables: Vec::new(), align, worker: true });
                if !body.vtables.contains(&task.vtable) {
                    body.vtables.push(task.vtable);
                    body.align = body.align.min(align);
                    body.worker &= task.worker;
                }
            }
            match decode(image, at).filter(|first| first.is_jmp_short_or_near()) {
                Some(jump) => at = VirtAddr(jump.near_branch_target()),
                None => break,
            }
        }
    }
    bodies.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::symbols::own;

    #[test]
    fn every_type_has_a_poll_and_a_thunk_leads_to_a_second_one() {
        let types = &crate::runtime::own().types;
        let bodies = poll_bodies(own::image(), types);
        for task in types {
            let of_type = bodies.iter().filter(|body| body.vtables.contains(&task.vtable));
            assert!(of_type.clone().any(|body| body.code.start == task.functions.poll), "{task:?}");
        }
        assert!(bodies.is_sorted_by_key(|body| body.code.start));
        assert!(bodies.windows(2).all(|pair| pair[0].code.end <= pair[1].code.start));
    }

    #[test]
    fn a_poll_that_only_jumps_is_followed() {
        use crate::symbols::tiny::{CODE, DATA, Tiny};
        let mut tiny = Tiny::new(&[0xe9, 1, 0, 0, 0, 0xcc, 0x90, 0xc3], &[0; 8]); // jmp +1; int3; nop; ret
        tiny.functions = vec![CODE..CODE + 5, CODE + 6..CODE + 8];
        let bytes = tiny.build();
        let image = Image::parse(&bytes).expect("tiny images are images");
        let mut task = crate::runtime::own().types[0].clone();
        (task.functions.poll, task.vtable) = (VirtAddr(CODE), VirtAddr(DATA));
        let starts: Vec<u64> = poll_bodies(&image, &[task]).iter().map(|body| body.code.start.0 - CODE).collect();
        assert_eq!(starts, [0, 6]);
    }
}
