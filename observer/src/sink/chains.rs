//! Stacks of spawns as text, each with those before it up to the first.

use std::collections::HashMap;
use std::io::{self, Write};

use super::StackEnd;
use super::sites::origin::calls;
use crate::model::{Before, Beyond, LongStack, LongStackId};

/// Chains are shown as far as this many stacks.
const SHOWN: usize = 8;

/// What was said, because later ones lead to it.
#[derive(Debug, Default)]
pub(super) struct Chains {
    known: HashMap<LongStackId, Link>,
}

#[derive(Debug)]
struct Link {
    lines: Vec<String>,
    before: Before,
}

impl Chains {
    /// Writes its calls, without the runtime's own, then those of its spawner's, and so on.
    pub(super) fn write(&mut self, stack: &LongStack, out: &mut dyn Write) -> io::Result<()> {
        let mut lines = calls(&stack.callers);
        lines.extend(StackEnd::of(stack.end).map(|end| format!("({})", end.line)));
        self.known.insert(stack.id, Link { lines, before: stack.before });
        let mut next = Some(stack.id);
        for _ in 0..SHOWN {
            let Some(link) = next.and_then(|id| self.known.get(&id)) else { return Ok(()) };
            for line in &link.lines {
                writeln!(out, "                          {line}")?;
            }
            next = match link.before {
                Before::Stack(before) => {
                    writeln!(out, "                        by a task that was spawned through stack {before}")?;
                    Some(before)
                }
                Before::Nothing(why) => return writeln!(out, "                        {}", beyond(why)),
                Before::Bound => return writeln!(out, "                        by a task at the end of a long chain"),
            };
        }
        writeln!(out, "                          ...")
    }
}

fn beyond(why: Beyond) -> &'static str {
    match why {
        Beyond::NoTask => "in no task",
        Beyond::NotSeen => "by a task whose own spawn was not seen",
        Beyond::NotTold => "in a task or in none: which is not told",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Caller, CopyEnd, FunctionName, Pid, ProcAddr, UnwindEnd};

    fn stack(id: u32, name: &str, end: UnwindEnd, before: Before) -> LongStack {
        let function = FunctionName { name: name.to_owned(), certain: true, place: None, machinery: false };
        let callers = vec![Caller { address: ProcAddr(0x1000), image: None, functions: vec![function] }];
        LongStack { id: LongStackId(id), pid: Pid(7), callers, end, before }
    }

    #[test]
    fn a_stack_is_followed_by_those_before_it_up_to_the_first() {
        let mut chains = Chains::default();
        let first = stack(1, "app::main", UnwindEnd::Root, Before::Nothing(Beyond::NoTask));
        let second = stack(2, "app::serve", UnwindEnd::Bound, Before::Stack(LongStackId(1)));
        let mut out = Vec::new();
        for stack in [&first, &second] {
            out.clear();
            chains.write(stack, &mut out).expect("a Vec takes everything");
        }
        let lines: Vec<String> = String::from_utf8(out).unwrap().lines().map(|line| line.trim().to_owned()).collect();
        let by = "by a task that was spawned through stack 1";
        assert_eq!(lines, ["app::serve", "(more calls than are kept)", by, "app::main", "in no task"]);
    }

    #[test]
    fn calls_that_are_not_shown_are_counted_before_the_end_is_said() {
        let mut long = stack(1, "app::deep", UnwindEnd::Copy(CopyEnd::Bound), Before::Nothing(Beyond::NotTold));
        long.callers = vec![long.callers[0].clone(); 7];
        let mut out = Vec::new();
        Chains::default().write(&long, &mut out).expect("a Vec takes everything");
        let lines: Vec<String> = String::from_utf8(out).unwrap().lines().map(|line| line.trim().to_owned()).collect();
        assert_eq!(lines[..6], ["app::deep"; 6]);
        let end = "(the part of the stack that is copied ends here)";
        assert_eq!(lines[6..8], ["... 1 more call (--json has them)", end]);
    }

    #[test]
    fn a_chain_without_an_end_is_cut_where_it_is_shown() {
        let mut chains = Chains::default();
        let itself = stack(1, "app::again", UnwindEnd::Root, Before::Stack(LongStackId(1)));
        let mut out = Vec::new();
        chains.write(&itself, &mut out).expect("a Vec takes everything");
        let text = String::from_utf8(out).unwrap();
        assert_eq!((text.matches("app::again").count(), text.trim_end().ends_with("...")), (SHOWN, true));
    }
}
