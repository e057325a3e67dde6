//! Where tasks come from, as text: the calls that spawned them, without the runtime's own, and the tasks before them.

use std::io::{self, Write};

use crate::model::{Ancestor, Beyond, Caller, Origin, first_own};
use crate::sink::Spelling;
use crate::sink::phrase::plural;

/// Origins that are shown.
const SHOWN: usize = 3;
/// Calls that are shown: the program's own come first where functions have names. Where the first
/// have none, they are the runtime's.
const CALLS: usize = 6;
const UNNAMED_CALLS: usize = 16;

/// The origins of a site with so many live tasks. Stacks that differ only in what is not shown are one.
pub(super) fn write(origins: &[Origin], live: u64, spelling: Spelling, out: &mut dyn Write) -> io::Result<()> {
    let mut shown: Vec<(Vec<String>, u64)> = Vec::new();
    for origin in origins {
        let (mut lines, more) = shown_calls(&origin.callers);
        lines.extend((more > 0).then(|| "... more calls (--json has them)".to_owned()));
        lines.push(chain(origin, spelling));
        match shown.iter_mut().find(|(others, _)| *others == lines) {
            Some((_, tasks)) => *tasks += origin.tasks,
            None => shown.push((lines, origin.tasks)),
        }
    }
    if shown.is_empty() {
        return writeln!(out, "          none of them was born under watch: who spawned them is not known");
    }
    shown.sort_by_key(|(_, tasks)| std::cmp::Reverse(*tasks));
    for (lines, tasks) in shown.iter().take(SHOWN) {
        writeln!(out, "          {tasks} of {live}, born under watch, {} spawned by", plural(*tasks, "was", "were"))?;
        for line in lines {
            writeln!(out, "            {line}")?;
        }
    }
    match shown.len().saturating_sub(SHOWN) {
        0 => Ok(()),
        more => writeln!(out, "          and others through {more} more {}", plural(more, "stack", "stacks")),
    }
}

/// The tasks before it, and what there is beyond them.
fn chain(origin: &Origin, spelling: Spelling) -> String {
    let chain: Vec<String> = origin.ancestors.iter().map(|before| ancestor(before, spelling)).collect();
    let beyond = match (origin.beyond, chain.is_empty()) {
        (Beyond::NoTask, true) => "in no task",
        (Beyond::NoTask, false) => ", which no task spawned",
        (Beyond::NotSeen, true) => "in a task that is not known",
        (Beyond::NotSeen, false) => ", whose own spawn was not seen",
        (Beyond::NotTold, true) => "in a task that the stack does not tell",
        (Beyond::NotTold, false) => ", beyond which the stack does not tell",
    };
    format!("{}{beyond}", chain.join(", spawned by "))
}

/// The calls that are shown, and how many are not, if any.
pub(in crate::sink) fn calls(callers: &[Caller]) -> Vec<String> {
    let (mut said, more) = shown_calls(callers);
    if more > 0 {
        said.push(format!("... {more} more {} (--json has them)", plural(more, "call", "calls")));
    }
    said
}

/// From the first function that is neither the runtime's nor the standard library's, to the last that has a name: beyond
/// it is what starts a thread. All where no name is known. The first of them, and how many more there are.
fn shown_calls(callers: &[Caller]) -> (Vec<String>, usize) {
    let first_own = first_own(callers);
    let (first, inside) = first_own.unwrap_or((0, 0));
    let mut said = Vec::new();
    let own = |caller: &Caller| caller.functions.iter().any(|function| !function.machinery);
    let end = callers.iter().rposition(own).map_or(callers.len(), |last| last + 1);
    for (n, caller) in callers.iter().enumerate().take(end).skip(first) {
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
    }
    let bound = if first_own.is_some() { CALLS } else { UNNAMED_CALLS };
    let more = said.len().saturating_sub(bound);
    said.truncate(bound);
    (said, more)
}

fn ancestor(ancestor: &Ancestor, spelling: Spelling) -> String {
    let future = spelling.of(&ancestor.future);
    match ancestor.task {
        Some(task) => format!("task {task} {future}"),
        None => format!("some task {future}"),
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
    fn the_calls_go_from_the_first_of_the_programs_own_to_the_last_and_what_has_no_name_is_a_place() {
        let own = caller(&[("tokio::spawn", true), ("app::serve", false)]);
        let stack = [own, caller(&[]), caller(&[("std::run", true), ("app::main", false)]), caller(&[])];
        assert_eq!(calls(&stack), ["app::serve", "/app+0x10", "app::main"]);
        assert_eq!(calls(&[caller(&[])]), ["/app+0x10"]);
    }

    #[test]
    fn calls_beyond_those_that_are_shown_are_counted_and_more_are_shown_where_none_has_a_name() {
        let named = |name| caller(&[(name, false)]);
        let said = calls(&["a", "b", "c", "d", "e", "f"].map(named));
        assert_eq!(said, ["a", "b", "c", "d", "e", "f"]);
        // One call can be several functions.
        let inlined = [caller(&[("a", false), ("b", false)]), caller(&[("c", false), ("d", false), ("e", false)])];
        let said = calls(&[&inlined[..], &["f", "g"].map(named)].concat());
        assert_eq!(said, ["a", "b", "c", "d", "e", "f", "... 1 more call (--json has them)"]);
        let unnamed = |count| calls(&vec![caller(&[]); count]);
        assert_eq!((unnamed(16).len(), unnamed(16).last().map(String::as_str)), (16, Some("/app+0x10")));
        // What starts a thread often has names.
        let started = [&vec![caller(&[]); 8][..], &[caller(&[("__libc_start_call_main", false)])]].concat();
        assert_eq!(calls(&started).len(), 9);
        assert_eq!(unnamed(18).last().map(String::as_str), Some("... 2 more calls (--json has them)"));
    }

    #[test]
    fn stacks_that_look_the_same_are_one() {
        let origin = |tasks, calls| Origin {
            tasks,
            stuck: 0,
            callers: vec![caller(&[("app::serve", false)]); calls],
            ancestors: Vec::new(),
            beyond: Beyond::NoTask,
        };
        let mut out = Vec::new();
        write(&[origin(4, 1), origin(3, 1)], 9, Spelling::Person, &mut out).expect("a Vec takes everything");
        let said = String::from_utf8(out).expect("is text");
        assert!(said.contains("7 of 9") && said.lines().count() == 3, "{said}");
        let mut out = Vec::new();
        write(&[origin(4, 7), origin(3, 9)], 9, Spelling::Person, &mut out).expect("a Vec takes everything");
        let said = String::from_utf8(out).expect("is text");
        assert!(
            said.contains("7 of 9") && said.contains("... more calls (--json has them)\n            in no task"),
            "{said}"
        );
    }

    #[test]
    fn a_chain_says_where_it_ends() {
        let told = |ancestors, beyond| {
            let origin = Origin { tasks: 4, stuck: 0, callers: Vec::new(), ancestors, beyond };
            let mut out = Vec::new();
            write(&[origin], 9, Spelling::Person, &mut out).expect("a Vec takes everything");
            String::from_utf8(out).expect("is text")
        };
        let one = || vec![Ancestor { task: Some(TaskId(7)), future: "app::accept".to_owned() }];
        assert!(
            told(Vec::new(), Beyond::NoTask)
                .ends_with("4 of 9, born under watch, were spawned by\n            in no task\n")
        );
        assert!(told(one(), Beyond::NotSeen).ends_with("task 7 app::accept, whose own spawn was not seen\n"));
    }
}
