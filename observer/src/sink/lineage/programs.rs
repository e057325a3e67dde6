//! What is gathered of each program: a process that begins another one is another.
//!
//! Does not know: what is gathered.

use std::collections::{HashMap, VecDeque};

use crate::model::{AsyncId, Ns, Pid, PollSum, TargetEntry};

use super::branches::Branches;
use super::roots::Roots;
use super::{Birth, Lineages};

/// Of so many that ended it is kept what was gathered; of one more the oldest is left out, which is said.
const MOST_ENDED: usize = 500;

/// One program of a process.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) pid: Pid,
    pub(super) exe: String,
    pub(super) gathered: Gathered,
}

/// What is wanted of it.
#[derive(Debug)]
pub(super) enum Gathered {
    Tree(Branches),
    Roots(Roots),
}

/// All of them.
#[derive(Debug)]
pub(super) struct Programs {
    what: Lineages,
    running: HashMap<Pid, Program>,
    ended: VecDeque<Program>,
    left_out: u64,
}

impl Programs {
    pub(super) fn new(what: Lineages) -> Self {
        Self { what, running: HashMap::new(), ended: VecDeque::new(), left_out: 0 }
    }

    /// It is observed from now on, or has gained an image.
    pub(super) fn begins(&mut self, target: &TargetEntry) {
        let (pid, exe) = (target.pid, target.exe.to_string());
        let what = self.what;
        self.running.entry(pid).or_insert_with(|| Program { pid, exe, gathered: Gathered::new(what) });
    }

    /// Its process ended or began another program, or it is observed no longer.
    pub(super) fn gone(&mut self, pid: Pid) {
        let Some(mut program) = self.running.remove(&pid) else { return };
        match &mut program.gathered {
            Gathered::Tree(branches) => branches.gone(),
            Gathered::Roots(roots) => roots.gone(),
        }
        self.ended.push_back(program);
        if self.ended.len() > MOST_ENDED {
            self.ended.pop_front();
            self.left_out += 1;
        }
    }

    /// What is gathered of the program that this process runs.
    pub(super) fn of(&mut self, pid: Pid) -> Option<&mut Gathered> {
        self.running.get_mut(&pid).map(|program| &mut program.gathered)
    }

    /// Those that ended, in that order, then those that run, by their numbers.
    pub(super) fn each(&self) -> impl Iterator<Item = &Program> {
        let mut running: Vec<&Program> = self.running.values().collect();
        running.sort_unstable_by_key(|program| program.pid);
        self.ended.iter().chain(running)
    }

    /// Why not all of them are there, if so.
    pub(super) fn left_out(&self) -> Option<String> {
        let left = self.left_out;
        (left > 0).then(|| format!("of {left} programs that ended nothing is shown: the last {MOST_ENDED} are kept"))
    }
}

impl Gathered {
    fn new(what: Lineages) -> Self {
        match what {
            Lineages::Tree { .. } => Self::Tree(Branches::default()),
            Lineages::Roots => Self::Roots(Roots::default()),
        }
    }

    pub(super) fn born(&mut self, birth: &Birth<'_>) {
        match self {
            Self::Tree(branches) => branches.born(birth),
            Self::Roots(roots) => roots.born(birth),
        }
    }

    pub(super) fn polled(&mut self, id: AsyncId, sum: &PollSum) {
        match self {
            Self::Tree(branches) => branches.polled(id, sum),
            Self::Roots(roots) => roots.polled(id, sum),
        }
    }

    /// At the end it has been inside of a poll for so long.
    pub(super) fn goes_on(&mut self, id: AsyncId, so_far: Ns) {
        match self {
            Self::Tree(branches) => branches.goes_on(id, so_far),
            Self::Roots(roots) => roots.goes_on(id, so_far),
        }
    }

    pub(super) fn ended(&mut self, id: AsyncId) {
        match self {
            Self::Tree(branches) => branches.ended(id),
            Self::Roots(roots) => roots.ended(id),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::branches::facts_named;
    use super::super::{Origin, Share};
    use super::*;

    fn lives(programs: &Programs) -> Vec<(u32, Share)> {
        let of = |program: &Program| match &program.gathered {
            Gathered::Tree(branches) => branches.each().map(|(_, branch)| branch.own).next().unwrap_or_default(),
            Gathered::Roots(_) => Share::default(),
        };
        programs.each().map(|program| (program.pid.0, of(program))).collect()
    }

    #[test]
    fn a_process_that_begins_another_program_is_two_and_of_many_that_ended_the_last_are_kept() {
        let mut programs = Programs::new(Lineages::Tree { tasks: false });
        let target = TargetEntry::new(Pid(7), "/app".into());
        let pid = target.pid;
        for id in 1..=MOST_ENDED as u64 + 3 {
            programs.begins(&target);
            let facts = facts_named("a");
            let birth = Birth { id: AsyncId(id), root: AsyncId(id), origin: Origin::Outside, facts: &facts };
            programs.of(pid).expect("it runs").born(&birth);
            if id <= MOST_ENDED as u64 + 2 {
                programs.gone(pid);
                assert!(programs.of(pid).is_none());
            }
        }
        let lives = lives(&programs);
        assert_eq!(lives.len(), MOST_ENDED + 1);
        assert!(lives[..MOST_ENDED].iter().all(|(_, own)| (own.live, own.gone) == (0, 1)));
        assert_eq!((lives[MOST_ENDED].1.live, lives[MOST_ENDED].1.gone), (1, 0));
        assert!(programs.left_out().is_some_and(|reason| reason.starts_with("of 2 programs")));
    }
}
