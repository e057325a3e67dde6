//! Where tasks come from, as text: the calls that spawned them, without the runtime's own, and the tasks before them.

use std::io::{self, Write};

use crate::model::{Ancestor, Beyond, Caller, Origin, first_own};

/// Origins and calls that are shown.
const SHOWN: usize = 3;
const CALLS: usize = 6;

/// The origins of a site with so many live tasks.
pub(super) fn write(origins: &[Origin], live: u64, out: &mut dyn Write) -> io::Result<()> {
    let known: u64 = origins.iter().map(|origin| origin.tasks).sum();
    if known == 0 {
        return writeln!(out, "          none of them was born under watch: who spawned them is not known");
    }
    for origin in origins.iter().take(SHOWN) {
        writeln!(out, "          {} of {live} were spawned by", origin.tasks)?;
        for call in calls(&origin.callers) {
            writeln!(out, "            {call}")?;
        }
        let chain: Vec<String> = origin.ancestors.iter().map(ancestor).collect();
        let beyond = match (origin.beyond, chain.is_empty()) {
            (Beyond::NoTask, true) => "in no task",
            (Beyond::NoTask, false) => ", which no task spawned",
            (Beyond::NotSeen, true) => "in a task that is not known",
            (Beyond::NotSeen, false) => ", whose own spawn was not seen",
            (Beyond::NotTold, true) => "in a task that the stack does not tell",
            (Beyond::NotTold, false) => ", beyond which the stack does not tell",
        };
        writeln!(out, "            {}{beyond}", chain.join(", spawned by "))?;
    }
    match origins.len().checked_sub(SHOWN) {
        None | Some(0) => Ok(()),
        Some(more) => writeln!(out, "          and through {more} other stacks"),
    }
}

/// From the first function that is neither the runtime's nor the standard library's; all where that is not known.
fn calls(callers: &[Caller]) -> Vec<String> {
    let (first, inside) = first_own(callers).unwrap_or((0, 0));
    let mut said = Vec::new();
    for (n, caller) in callers.iter().enumerate().skip(first) {
        let place = caller.image.as_ref().map(|image| format!("{}+{}", image.path, image.at));
        if caller.functions.is_empty() {
            said.push(place.unwrap_or_else(|| caller.address.to_string()));
        }
        let from = if n == first { inside } else { 0 };
        let own = caller.functions.iter().skip(from).filter(|function| !function.machinery);
        said.extend(own.map(|function| {
            let mark = if function.certain { "" } else { "?" };
            let place = function.place.as_ref().map_or(String::new(), |place| format!("  {place}"));
            format!("{}{mark}{place}", function.name)
        }));
        if said.len() >= CALLS {
            break;
        }
    }
    said.truncate(CALLS);
    said
}

fn ancestor(ancestor: &Ancestor) -> String {
    match ancestor.task {
        Some(task) => format!("task {task} {}", ancestor.future),
        None => format!("some task {}", ancestor.future),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{FunctionName, ImagePlace, ProcAddr, TaskId, VirtAddr};

    fn caller(functions: &[(&str, bool)]) -> Caller {
        let function = |(name, machinery): &(&str, bool)| FunctionName {
            name: (*name).to_owned(),
            certain: true,
            place: None,
            machinery: *machinery,
        };
        let image = ImagePlace { path: "/app".to_owned(), at: VirtAddr(0x10), function: None };
        let functions = functions.iter().map(function).collect();
        Caller { address: ProcAddr(1), image: Some(image), functions }
    }

    #[test]
    fn the_calls_begin_with_the_first_of_the_programs_own_and_what_has_no_name_is_a_place() {
        let stack =
            [caller(&[("tokio::spawn", true), ("app::serve", false)]), caller(&[]), caller(&[("std::run", true)])];
        assert_eq!(calls(&stack), ["app::serve", "/app+0x10"]);
    }

    #[test]
    fn a_chain_says_where_it_ends() {
        let told = |ancestors, beyond| {
            let origin = Origin { tasks: 4, stuck: 0, callers: Vec::new(), ancestors, beyond };
            let mut out = Vec::new();
            write(&[origin], 9, &mut out).expect("a Vec takes everything");
            String::from_utf8(out).expect("is text")
        };
        let one = || vec![Ancestor { task: Some(TaskId(7)), future: "app::accept".to_owned() }];
        assert!(told(Vec::new(), Beyond::NoTask).ends_with("4 of 9 were spawned by\n            in no task\n"));
        assert!(told(one(), Beyond::NotSeen).ends_with("task 7 app::accept, whose own spawn was not seen\n"));
    }
}
