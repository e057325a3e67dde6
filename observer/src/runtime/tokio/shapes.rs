//! How each task's future lies in its cell, where debug information describes that.
//!
//! Does not know: memory. Of a poll function that several types share it is not told whose future is there; nor of one that is named for
//! another type than the code that makes the tasks tells: equal functions are merged.

use std::collections::{HashMap, HashSet};

use super::{declared, names};
use crate::model::{Resource, ShapeKind, Shapes, TaskType, VirtAddr};
use crate::symbols::{Debug, Image};

/// What holds a task's future, or its output, or neither: `Stage<T>`, since tokio 1.0.
const STAGE: &str = "tokio::runtime::task::core::Stage";

/// The shapes of all futures that are spawned; `None` where the image has no debug information.
pub fn shapes(image: &Image<'_>, types: &[TaskType]) -> Option<Shapes> {
    let debug = Debug::of(image)?;
    let mut sharing: HashMap<VirtAddr, usize> = HashMap::new();
    for task in types {
        *sharing.entry(task.functions.poll).or_default() += 1;
    }
    let tasks = types.iter().filter(|task| task.resource == Resource::Task);
    let polls: HashSet<VirtAddr> = tasks.map(|task| task.functions.poll).collect();
    let own = names::polls_named_for_their_own(image, &debug, types);
    let mut shapes = debug.shapes(&polls, STAGE);
    for (poll, stage) in &mut shapes.stages {
        if sharing.get(poll).is_some_and(|types| *types > 1) || !own.contains(poll) {
            *stage = None;
        }
    }
    let bodies = shapes.all.iter().filter(|shape| matches!(shape.kind, ShapeKind::Body { .. }));
    shapes.names = declared::with_impls(&debug, bodies.map(|shape| &shape.name));
    Some(shapes)
}
