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

/// The shapes of the futures of an image's tasks.
#[derive(Clone, Debug, Default)]
pub struct Described {
    /// As far as debug information tells them.
    pub shapes: Shapes,
    /// Poll functions of tasks whose future is not told, where debug information that may tell it could not be read to its end.
    pub unread: HashSet<VirtAddr>,
}

/// The shapes of all futures that are spawned; `None` where the image has no debug information.
pub fn shapes(image: &Image<'_>, types: &[TaskType]) -> Option<Described> {
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
    let is_shared = |poll: &VirtAddr| sharing.get(poll).is_some_and(|types| *types > 1);
    let is_told = |poll: &VirtAddr| shapes.stages.get(poll).is_some_and(Option::is_some);
    let untold: HashSet<VirtAddr> = polls.into_iter().filter(|poll| !is_told(poll) && !is_shared(poll)).collect();
    let unread = match untold.is_empty() {
        true => untold,
        false => {
            let around = debug.around(&untold);
            untold.into_iter().filter(|poll| around.at(*poll).is_none()).collect()
        }
    };
    Some(Described { shapes, unread })
}
