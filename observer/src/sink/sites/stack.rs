//! Await stacks as text.
//!
//! Does not know: how they are read.

use std::io::{self, Write};

use super::AwaitFrame;
use crate::model::{Place, Polled, Standing, Suspension, TaskId};
use crate::sink::Spelling;

/// Tasks that are named, of those that wait in the same way.
const NAMED: usize = 5;
/// Where cargo unpacks dependencies; a folder of the registry's name follows.
const REGISTRY: &str = "/registry/src/";

/// The tasks' ids, some of them.
pub(super) fn ids(tasks: &[TaskId]) -> String {
    let named: Vec<String> = tasks.iter().take(NAMED).map(ToString::to_string).collect();
    let more = match tasks.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let plural = if tasks.len() == 1 { "" } else { "s" };
    format!("task{plural} {}{more}", named.join(", "))
}

/// One line a future. What is further in than its predecessor is one of several that the other holds.
pub(super) fn write(frames: &[AwaitFrame], spelling: Spelling, out: &mut dyn Write) -> io::Result<()> {
    let mut indents: Vec<usize> = Vec::new();
    for (n, frame) in frames.iter().enumerate() {
        let AwaitFrame { depth, how, .. } = frame;
        indents.truncate(*depth);
        let around = indents.last().copied().unwrap_or_default();
        let siblings = frames[n + 1..].iter().take_while(|next| next.depth >= *depth).any(|next| next.depth == *depth)
            || frames[..n]
                .iter()
                .rev()
                .take_while(|before| before.depth >= *depth)
                .any(|before| before.depth == *depth);
        let held = *how == Polled::Held;
        let indent = if siblings || held { around + 1 } else { around };
        indents.push(indent);
        let mark = if held { "- " } else { "  " };
        let name = spelling.of(&frame.future);
        let at = match &frame.standing {
            Standing::Suspended(Suspension { place: Some(place), within: Some(within) }) => {
                format!("  in {}, by a macro of {}", short(within), short(place))
            }
            Standing::Suspended(Suspension { place: Some(place), .. }) => format!("  at {}", short(place)),
            Standing::Suspended(_) | Standing::Leaf => String::new(),
            Standing::NotStarted => "  (not polled yet)".to_owned(),
            Standing::Unfollowed(why) => format!("  ({})", why.why()),
        };
        writeln!(out, "          {}{mark}{name}{at}", "  ".repeat(indent))?;
    }
    Ok(())
}

/// The place without the folders that dependencies are unpacked in.
fn short(place: &Place) -> String {
    let text = place.to_string();
    let unpacked = text.split_once(REGISTRY).and_then(|(_, rest)| rest.split_once('/'));
    unpacked.map_or(text.clone(), |(_, rest)| rest.to_owned())
}
