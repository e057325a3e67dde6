//! Await stacks from shapes and memory that are made up: what real programs do not show, and what none should have.

use std::collections::HashMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::super::awaits::{Awaiter, NoAwaits, awaits};
use super::super::source::Source;
use crate::model::{
    Awaiting, Bias, BodyState, CellLayout, LiveTask, Part, Phase, Polled, ProcAddr, Shape, ShapeId, ShapeKind, Shapes,
    Standing, Tag, TaskId, TaskState, Unfollowed, Variant,
};

const HEADER: ProcAddr = ProcAddr(0x10_0000);
const VTABLE: ProcAddr = ProcAddr(0x55_0000);
const ID: u64 = 7;
/// Memory by bytes, and what each reading of an address changes afterwards.
#[derive(Default)]
struct Made {
    bytes: HashMap<u64, u8>,
    moves: Option<u64>,
}

impl Made {
    fn word(&mut self, at: u64, word: u64) {
        self.bytes.extend(word.to_le_bytes().into_iter().enumerate().map(|(n, byte)| (at + n as u64, byte)));
    }
}

impl Source for Made {
    fn read(&mut self, at: ProcAddr, to: &mut [u8]) -> bool {
        // Memory is readable by pages.
        let is_there = |page: u64| self.bytes.keys().any(|at| at / 4096 == page);
        let last = at.0.saturating_add(to.len() as u64 - 1);
        if !(at.0 / 4096..=last / 4096).all(is_there) {
            return false;
        }
        for (n, byte) in to.iter_mut().enumerate() {
            *byte = self.bytes.get(&(at.0 + n as u64)).copied().unwrap_or(0);
        }
        if let Some(moving) = self.moves.filter(|moving| (at.0..at.0 + to.len() as u64).contains(moving)) {
            self.bytes.entry(moving).and_modify(|byte| *byte = byte.wrapping_add(1));
        }
        true
    }
}

fn shape(name: &str, size: u64, future: bool, kind: ShapeKind) -> Shape {
    Shape { name: Arc::from(name), size, align: 8, future, kind }
}

fn part(offset: u64, shape: u32) -> Part {
    Part { offset, shape: ShapeId(shape) }
}

/// A stage with a body of 24 bytes: tag at 16, and what it awaits at 0 and 8.
fn shapes(awaited: ShapeKind, future: bool) -> Shapes {
    let state = |tag, phase| BodyState { tag, phase };
    let body = vec![
        state(0, Phase::NotStarted),
        state(1, Phase::Returned),
        state(2, Phase::Panicked),
        state(3, Phase::Suspended { place: None, awaits: Some(part(0, 3)) }),
    ];
    let stage = vec![
        Variant { tag: Some(0), part: part(0, 1) },
        Variant { tag: Some(1), part: part(0, 4) },
        Variant { tag: Some(2), part: part(0, 4) },
    ];
    let body = ShapeKind::Body { tag: Tag { offset: 16, size: 1 }, states: body, declared: None };
    let all = vec![
        shape("Stage", 32, false, ShapeKind::Choice(Some(Tag { offset: 0, size: 4 }), stage)),
        shape("Running", 32, false, ShapeKind::Record(vec![part(8, 2)])),
        shape("body", 24, true, body),
        shape("awaited", 16, future, awaited),
        shape("Finished", 32, false, ShapeKind::Opaque),
    ];
    Shapes { all, ..Shapes::default() }
}

/// A task whose body is in this state, with these words before its tag.
fn memory(state: u64, words: [u64; 2], tag: u64) -> Made {
    let mut made = Made::default();
    for at in (0..96).step_by(8) {
        made.word(HEADER.0 + at, 0);
    }
    made.word(HEADER.0, state);
    made.word(HEADER.0 + 16, VTABLE.0);
    made.word(HEADER.0 + 40, ID);
    made.word(HEADER.0 + 56, words[0]);
    made.word(HEADER.0 + 64, words[1]);
    made.word(HEADER.0 + 72, tag);
    made
}

const IDLE: u64 = 0x40;

fn read(made: &mut Made, shapes: &Shapes) -> Result<Awaiting, NoAwaits> {
    let task = LiveTask {
        header: HEADER,
        vtable: VTABLE,
        id: TaskId(ID),
        state: TaskState(IDLE),
        owner: 1,
        spawn_location: None,
        running_on: None,
    };
    let (layout, stage, bias) = (CellLayout::sample(), ShapeId(0), Bias(0));
    let mut told = None;
    awaits(made, &[Awaiter { task: &task, layout: &layout, shapes, stage, bias }], |_, stack| told = Some(stack));
    told.expect("one was asked for")
}

fn awaiting(future: &str, standing: Standing, on: Vec<Awaiting>) -> Awaiting {
    Awaiting { future: Arc::from(future), standing, how: Polled::Awaited, on }
}

#[test]
fn what_is_awaited_stands_below_who_awaits_it() {
    let shapes = shapes(ShapeKind::Opaque, true);
    let leaf = awaiting("awaited", Standing::Leaf, Vec::new());
    let body = awaiting("body", Standing::Suspended(Default::default()), vec![leaf]);
    assert_eq!(read(&mut memory(IDLE, [0, 0], 3), &shapes), Ok(body));
}

#[test]
fn a_body_that_was_not_polled_awaits_nothing() {
    let shapes = shapes(ShapeKind::Opaque, true);
    assert_eq!(read(&mut memory(IDLE, [0, 0], 0), &shapes), Ok(awaiting("body", Standing::NotStarted, Vec::new())));
}

#[test]
fn a_state_that_the_body_does_not_have_is_said_to_be_none() {
    let shapes = shapes(ShapeKind::Opaque, true);
    let none = Standing::Unfollowed(Unfollowed::NoSuchState);
    assert_eq!(read(&mut memory(IDLE, [0, 0], 9), &shapes), Ok(awaiting("body", none, Vec::new())));
}

#[test]
fn who_runs_has_ended_or_is_another_is_not_read() {
    let shapes = shapes(ShapeKind::Opaque, true);
    assert_eq!(read(&mut memory(IDLE | 1, [0, 0], 3), &shapes), Err(NoAwaits::Running));
    assert_eq!(read(&mut memory(IDLE | 2, [0, 0], 3), &shapes), Err(NoAwaits::Complete));
    let mut other = memory(IDLE, [0, 0], 3);
    other.word(HEADER.0 + 40, ID + 1);
    assert_eq!(read(&mut other, &shapes), Err(NoAwaits::Complete));
    // The stage says that it has ended, the state does not yet.
    let mut finished = memory(IDLE, [0, 0], 3);
    finished.word(HEADER.0 + 48, 1);
    assert_eq!(read(&mut finished, &shapes), Err(NoAwaits::Changing));
}

#[test]
fn what_changes_at_each_reading_is_not_told() {
    let shapes = shapes(ShapeKind::Opaque, true);
    let mut made = Made { moves: Some(HEADER.0 + 56), ..memory(IDLE, [0, 0], 3) };
    assert_eq!(read(&mut made, &shapes), Err(NoAwaits::Changing));
}

#[test]
fn a_dyn_future_of_no_known_table_or_of_one_that_is_shared_is_said_to_be_that() {
    let mut shapes = shapes(ShapeKind::Object, true);
    let object = |standing| awaiting("awaited", Standing::Unfollowed(standing), Vec::new());
    let body = |on| Ok(awaiting("body", Standing::Suspended(Default::default()), vec![on]));
    let mut made = memory(IDLE, [0x20_0000, 0x66_0000], 3);
    assert_eq!(read(&mut made, &shapes), body(object(Unfollowed::UnknownObject)));
    shapes.objects.insert(crate::model::VirtAddr(0x66_0000), None);
    assert_eq!(read(&mut made, &shapes), body(object(Unfollowed::SharedObject)));
    shapes.objects.insert(crate::model::VirtAddr(0x66_0000), Some(ShapeId(2)));
    assert_eq!(read(&mut made, &shapes), body(object(Unfollowed::Unreadable)));
}

#[test]
fn a_future_that_leads_back_to_itself_is_followed_to_an_end() {
    let mut shapes = shapes(ShapeKind::Pointer(ShapeId(2)), false);
    let mut made = memory(IDLE, [HEADER.0 + 56, 0], 3);
    let mut depth = 0;
    let mut at = read(&mut made, &shapes).expect("it stands still");
    while let Some(on) = at.on.pop() {
        (at, depth) = (on, depth + 1);
    }
    assert_eq!((at.standing, depth > 10), (Standing::Unfollowed(Unfollowed::TooDeep), true));
    // Each value is two of its own kind: more than could ever be looked into.
    shapes.all[3] = shape("awaited", 16, false, ShapeKind::Record(vec![part(0, 3), part(0, 3)]));
    assert!(read(&mut made, &shapes).is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn shapes_and_memory_that_make_no_sense_are_read_without_panic(
        kinds in proptest::collection::vec((0u8..7, 0u64..40, any::<bool>(), proptest::collection::vec((0u64..40, 0u32..8), 0..4)), 1..8),
        words in any::<[u64; 2]>(),
        own in any::<bool>(),
        tag in 0u64..5,
    ) {
        let kind = |(kind, _, _, parts): &(u8, u64, bool, Vec<(u64, u32)>)| {
            let parts: Vec<Part> = parts.iter().map(|(offset, shape)| part(*offset, *shape)).collect();
            let tag = Tag { offset: parts.first().map_or(0, |part| part.offset), size: 1 };
            match (kind, parts.first()) {
                (0, Some(first)) => ShapeKind::Pointer(first.shape),
                (1, Some(first)) => ShapeKind::Slice(first.shape),
                (2, _) => ShapeKind::Object,
                (3, _) => ShapeKind::Record(parts),
                (4, _) => {
                    let variant = |(n, part): (usize, &Part)| Variant { tag: (n > 0).then_some(n as u64), part: *part };
                    ShapeKind::Choice((parts.len() > 1).then_some(tag), parts.iter().enumerate().map(variant).collect())
                }
                (5, _) => {
                    let state = |(n, part): (usize, &Part)| BodyState {
                        tag: n as u64,
                        phase: Phase::Suspended { place: None, awaits: Some(*part) },
                    };
                    ShapeKind::Body { tag, states: parts.iter().enumerate().map(state).collect(), declared: None }
                }
                _ => ShapeKind::Opaque,
            }
        };
        let mut shapes = shapes(ShapeKind::Opaque, false);
        for (n, made) in kinds.iter().enumerate() {
            let shape = shape("made up", made.1, made.2, kind(made));
            match shapes.all.get_mut(n + 3) {
                Some(place) => *place = shape,
                None => shapes.all.push(shape),
            }
        }
        let words = if own { [HEADER.0 + 48, 3] } else { words };
        let _ = read(&mut memory(IDLE, words, tag), &shapes);
    }
}
