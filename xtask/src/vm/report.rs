//! What guests say of the programs they run, line by line. Knows the test harness's words, not what is tested.

use std::fmt;

/// What the guest's first process begins its lines with.
const SAYS: &str = "vm-init:";

/// What a kernel says that has met a breakpoint of its own where there is none any more: it changes its code while it runs, and
/// an emulator of several threads shows another processor the old code for too long. Nothing that runs in the guest can
/// bring it about or avoid it.
const EMULATED_BADLY: &str = "Oops: int3";

/// What one guest has said so far.
#[derive(Debug, Default)]
pub struct Report {
    /// Its kernel's release.
    pub release: String,
    /// Programs that have begun, in their order.
    pub programs: Vec<Outcome>,
    /// It has run everything.
    pub done: bool,
    /// Why it could not.
    pub failure: Option<String>,
    /// The emulator has failed it.
    emulated_badly: bool,
}

/// How one program of tests went.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Its name.
    pub name: String,
    /// Tests that passed.
    pub passed: usize,
    /// The names of those that failed.
    pub failed: Vec<String>,
    /// How long it took, and whether it ended well; `None` while it runs.
    pub ended: Option<(f64, bool)>,
    /// Whether the lines are those that name what failed.
    naming: bool,
}

impl Report {
    /// Takes a line; whether a program has begun or ended with it.
    pub fn take(&mut self, line: &str) -> bool {
        self.emulated_badly |= line.contains(EMULATED_BADLY);
        let Some(said) = line.strip_prefix(SAYS).map(str::trim) else {
            if let Some(outcome) = self.programs.last_mut() {
                outcome.take(line);
            }
            return false;
        };
        match said.split_whitespace().collect::<Vec<_>>()[..] {
            ["kernel", release] => self.release = release.to_owned(),
            ["begins", name] => self.programs.push(Outcome { name: name.to_owned(), ..Outcome::default() }),
            ["ended", result, seconds] => {
                if let Some(outcome) = self.programs.last_mut() {
                    outcome.ended = Some((seconds.parse().unwrap_or_default(), result == "well"));
                }
            }
            ["done"] => self.done = true,
            ["failed", ..] => self.failure = Some(said.to_owned()),
            _ => {}
        }
        true
    }
}

impl Report {
    /// Takes back a program that did not end because the emulator failed; whether there was one.
    pub fn take_back(&mut self) -> bool {
        let unfinished = self.emulated_badly && self.programs.last().is_some_and(|outcome| outcome.ended.is_none());
        if unfinished {
            self.programs.pop();
        }
        unfinished
    }
}

impl Outcome {
    fn take(&mut self, line: &str) {
        if let Some(result) = line.strip_prefix("test result: ") {
            self.naming = false;
            let count = result.split_once(" passed").and_then(|(before, _)| before.rsplit(' ').next()?.parse().ok());
            self.passed = count.unwrap_or(0);
        } else if line == "failures:" {
            self.naming = true;
        } else if let Some(name) = line.strip_prefix("    ").filter(|name| self.naming && is_name(name)) {
            self.failed.push(name.to_owned());
        }
    }

    /// What is wrong with it, if tests for so many words were wanted.
    pub fn fault(&self, words: usize) -> Option<String> {
        match self.ended {
            None => Some("it did not end".to_owned()),
            Some((_, false)) if self.failed.is_empty() => Some("it ended badly, and named no test".to_owned()),
            Some((_, false)) => Some(format!("failed: {}", self.failed.join(", "))),
            Some((_, true)) if self.passed < words => Some(format!("{} tests ran, {words} were wanted", self.passed)),
            Some((_, true)) => None,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:<16} {:>3} passed, {:>2} failed", self.name, self.passed, self.failed.len())?;
        match self.ended {
            Some((seconds, _)) => write!(out, ", {seconds:>6.1} s"),
            None => write!(out, ", did not end"),
        }
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b':')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(lines: &[&str]) -> Report {
        let mut report = Report::default();
        for line in lines {
            report.take(line);
        }
        report
    }

    #[test]
    fn a_program_is_well_if_it_ended_well_with_the_tests_that_were_wanted() {
        let lines = [
            "vm-init: kernel 6.1.0-56-cloud-amd64",
            "vm-init: begins lives",
            "test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 9 filtered out; finished in 1.21s",
            "vm-init: ended well 1.2",
            "vm-init: done",
        ];
        let said = report(&lines);
        assert_eq!((said.release.as_str(), said.done, said.failure), ("6.1.0-56-cloud-amd64", true, None));
        let [lives] = &said.programs[..] else { panic!("{:?}", said.programs) };
        assert_eq!((lives.passed, lives.fault(2)), (2, None));
        assert_eq!(lives.fault(3).as_deref(), Some("2 tests ran, 3 were wanted"));
        assert_eq!(report(&lines[..3]).programs[0].fault(0).as_deref(), Some("it did not end"));
    }

    #[test]
    fn what_the_emulator_has_broken_is_taken_back_and_what_had_ended_is_not() {
        let lines = ["vm-init: begins ps", "vm-init: ended well 2.0", "vm-init: begins lives"];
        assert!(!report(&lines).take_back(), "a guest that is ended for its slowness is no fault of the emulator's");
        let mut said = report(&[&lines[..], &["[   47.45] Oops: int3: 0000 [#1] PREEMPT SMP NOPTI"]].concat());
        assert!(said.take_back() && !said.take_back());
        assert_eq!(said.programs.len(), 1);
    }

    #[test]
    fn tests_that_failed_are_named_and_their_output_is_not_taken_for_names() {
        let said = report(&[
            "vm-init: begins ps",
            "failures:",
            "",
            "---- one stdout ----",
            "    some words of its output",
            "",
            "failures:",
            "    one",
            "    within::two",
            "",
            "test result: FAILED. 7 passed; 2 failed; 0 ignored",
            "vm-init: ended badly 3.0",
        ]);
        assert_eq!(said.programs[0].failed, ["one", "within::two"]);
        assert_eq!(said.programs[0].fault(0).as_deref(), Some("failed: one, within::two"));
        assert_eq!(report(&["vm-init: failed no disk"]).failure.as_deref(), Some("failed no disk"));
    }
}
