//! A tree of types: each below the type of the tasks that spawned it, with sums.
//!
//! A task that spawns its own kind, also by way of others, stands with it: so the tree is no deeper than there are types.
//!
//! Does not know: how it looks.

use std::collections::BTreeMap;

use crate::model::{AsyncId, Ns, PollSum, QuickMap, ResourceFacts};

use super::{Birth, Kind, Origin, Share};

/// Branches of one program that are kept, and how many stand one below the other at most; tasks beyond stand in one branch of their own.
const MOST: usize = 1 << 14;
const DEEPEST: usize = 100;

/// One branch, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct BranchId(usize);

impl BranchId {
    pub(super) fn index(self) -> usize {
        self.0
    }

    /// From 1: in output 0 is nothing.
    pub(super) fn number(self) -> u64 {
        self.0 as u64 + 1
    }
}

/// Where a branch grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Above {
    /// Its tasks were spawned by those of this one.
    Branch(BranchId),
    /// They were spawned outside of tasks.
    Outside,
    /// They were there before.
    Before,
    /// It was not seen who spawned them.
    Unseen,
    /// Wherever there is no room for a branch.
    Anywhere,
}

/// All tasks of one type that were spawned along the same types.
#[derive(Debug)]
pub(super) struct Branch {
    pub(super) above: Above,
    /// `None` of what found no room.
    kind: Option<Kind>,
    /// Of the first of them; `None` of what found no room.
    pub(super) facts: Option<ResourceFacts>,
    /// Some of them were spawned by others of them, or by tasks below.
    pub(super) recurs: bool,
    /// Of these tasks alone.
    pub(super) own: Share,
}

/// A live task.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leaf {
    branch: BranchId,
    /// Tokio's id, if it is known.
    pub(super) task: Option<u64>,
    /// Who spawned it, if that is known.
    pub(super) trigger: Option<AsyncId>,
}

/// The tree of one program, as far as it has grown.
#[derive(Debug, Default)]
pub(super) struct Branches {
    branches: Vec<Branch>,
    by_kind: QuickMap<(Above, Option<Kind>), BranchId>,
    live: QuickMap<AsyncId, Leaf>,
}

impl Branches {
    pub(super) fn born(&mut self, birth: &Birth<'_>) {
        let (above, trigger) = match birth.origin {
            // Who runs is alive, so it is known unless its birth found no room.
            Origin::Task(id) => match self.live.get(&id) {
                Some(leaf) => (Above::Branch(leaf.branch), Some(id)),
                None => (Above::Unseen, Some(id)),
            },
            Origin::Outside => (Above::Outside, None),
            Origin::Before => (Above::Before, None),
            Origin::Unseen => (Above::Unseen, None),
        };
        let branch = self.branch(above, birth.facts);
        self.branches[branch.0].own.live += 1;
        let task = birth.facts.task_id.map(|id| id.0);
        self.live.insert(birth.id, Leaf { branch, task, trigger });
    }

    pub(super) fn polled(&mut self, id: AsyncId, sum: &PollSum) {
        if let Some(leaf) = self.live.get(&id) {
            self.branches[leaf.branch.0].own.poll(sum);
        }
    }

    pub(super) fn goes_on(&mut self, id: AsyncId, so_far: Ns) {
        if let Some(leaf) = self.live.get(&id) {
            self.branches[leaf.branch.0].own.goes_on(so_far);
        }
    }

    pub(super) fn ended(&mut self, id: AsyncId) {
        if let Some(leaf) = self.live.remove(&id) {
            let own = &mut self.branches[leaf.branch.0].own;
            own.live -= 1;
            own.ended += 1;
        }
    }

    /// Its process ended, or is observed no longer.
    pub(super) fn gone(&mut self) {
        self.live = QuickMap::default();
        for branch in &mut self.branches {
            branch.own.gone += std::mem::take(&mut branch.own.live);
        }
    }

    /// All branches, each behind the one that it grows from.
    pub(super) fn each(&self) -> impl Iterator<Item = (BranchId, &Branch)> {
        self.branches.iter().enumerate().map(|(n, branch)| (BranchId(n), branch))
    }

    /// Of each branch, itself and all below.
    pub(super) fn with_those_below(&self) -> Vec<Share> {
        let mut all: Vec<Share> = self.branches.iter().map(|branch| branch.own).collect();
        for (n, branch) in self.branches.iter().enumerate().rev() {
            if let Above::Branch(above) = branch.above {
                let below = all[n];
                all[above.0].join(&below);
            }
        }
        all
    }

    /// The live tasks of each branch, oldest first.
    pub(super) fn leaves(&self) -> BTreeMap<BranchId, Vec<(AsyncId, Leaf)>> {
        let mut leaves: BTreeMap<BranchId, Vec<(AsyncId, Leaf)>> = BTreeMap::new();
        for (id, leaf) in &self.live {
            leaves.entry(leaf.branch).or_default().push((*id, *leaf));
        }
        leaves.values_mut().for_each(|of| of.sort_unstable_by_key(|(id, _)| *id));
        leaves
    }

    fn branch(&mut self, above: Above, facts: &ResourceFacts) -> BranchId {
        let kind = Some(Kind::of(facts));
        let (mut at, mut depth) = (above, 0);
        while let Above::Branch(id) = at {
            let ancestor = &mut self.branches[id.0];
            // What was spawned where there was no room stands there, too.
            if ancestor.kind == kind || ancestor.kind.is_none() {
                ancestor.recurs |= ancestor.kind.is_some();
                return id;
            }
            (at, depth) = (ancestor.above, depth + 1);
        }
        let (above, kind) = match self.by_kind.get(&(above, kind.clone())) {
            Some(id) => return *id,
            None if self.branches.len() < MOST && depth < DEEPEST => (above, kind),
            None => (Above::Anywhere, None),
        };
        let next = BranchId(self.branches.len());
        let id = *self.by_kind.entry((above, kind.clone())).or_insert(next);
        if id == next {
            let facts = kind.is_some().then(|| facts.clone());
            self.branches.push(Branch { above, kind, facts, recurs: false, own: Share::default() });
        }
        id
    }
}

#[cfg(test)]
pub(super) fn facts_named(name: &str) -> ResourceFacts {
    use crate::model::{Naming, Resource};
    ResourceFacts {
        resource: Resource::Task,
        task_id: None,
        address: None,
        type_id: None,
        future: Naming::Certain(name.into()),
        place: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn born(branches: &mut Branches, id: u64, origin: Origin, name: &str) {
        let facts = facts_named(name);
        branches.born(&Birth { id: AsyncId(id), root: AsyncId(id), origin, facts: &facts });
    }

    fn names(branches: &Branches) -> Vec<(String, u64)> {
        let name = |branch: &Branch| branch.facts.as_ref().and_then(|facts| facts.future.text().map(str::to_owned));
        branches.each().map(|(_, branch)| (name(branch).unwrap_or_default(), branch.own.live)).collect()
    }

    #[test]
    fn tasks_of_one_type_that_were_spawned_along_the_same_types_are_one_branch() {
        let mut branches = Branches::default();
        born(&mut branches, 1, Origin::Before, "accept");
        born(&mut branches, 2, Origin::Task(AsyncId(1)), "conn");
        born(&mut branches, 3, Origin::Task(AsyncId(1)), "conn");
        born(&mut branches, 4, Origin::Outside, "conn");
        let expected = [("accept", 1), ("conn", 2), ("conn", 1)].map(|(name, live)| (name.to_owned(), live));
        assert_eq!(names(&branches), expected);
    }

    #[test]
    fn who_spawns_its_own_kind_by_way_of_others_adds_no_branch() {
        let mut branches = Branches::default();
        born(&mut branches, 1, Origin::Outside, "ping");
        for id in 2..100 {
            born(&mut branches, id, Origin::Task(AsyncId(id - 1)), if id % 2 == 0 { "pong" } else { "ping" });
            branches.ended(AsyncId(id - 1));
        }
        assert_eq!(names(&branches), [("ping".to_owned(), 1), ("pong".to_owned(), 0)]);
        assert!(branches.each().next().is_some_and(|(_, ping)| ping.recurs));
    }

    #[test]
    fn a_branch_with_those_below_is_the_sum_of_all_of_them() {
        let mut branches = Branches::default();
        born(&mut branches, 1, Origin::Outside, "a");
        born(&mut branches, 2, Origin::Task(AsyncId(1)), "b");
        born(&mut branches, 3, Origin::Task(AsyncId(2)), "c");
        let mut sum = PollSum::default();
        sum.add(5);
        for id in 1..=3 {
            branches.polled(AsyncId(id), &sum);
        }
        branches.ended(AsyncId(3));
        let all = branches.with_those_below();
        assert_eq!(
            all.iter().map(|share| (share.live, share.ended, share.busy)).collect::<Vec<_>>(),
            [(2, 1, 15), (1, 1, 10), (0, 1, 5)]
        );
    }

    #[test]
    fn no_program_makes_a_tree_deeper_or_larger_than_there_is_room_for() {
        let mut branches = Branches::default();
        born(&mut branches, 1, Origin::Outside, "0");
        for id in 2..1000 {
            born(&mut branches, id, Origin::Task(AsyncId(id - 1)), &id.to_string());
        }
        for id in 1000..2 * MOST as u64 {
            born(&mut branches, id, Origin::Outside, &id.to_string());
        }
        // What grows from the branch without room finds none, either.
        born(&mut branches, u64::MAX, Origin::Task(AsyncId(999)), "x");
        assert_eq!(branches.each().count(), MOST);
        let rest: Vec<_> = branches.each().filter(|(_, branch)| branch.above == Above::Anywhere).collect();
        assert_eq!(rest.len(), 1);
        assert!(rest[0].1.own.live > MOST as u64 / 2 && rest[0].1.facts.is_none());
        assert_eq!(branches.with_those_below().iter().filter(|all| all.live > 1).count(), DEEPEST);
    }

    #[test]
    fn what_is_alive_when_its_process_ends_is_neither_alive_nor_seen_to_end() {
        let mut branches = Branches::default();
        born(&mut branches, 1, Origin::Outside, "a");
        branches.gone();
        let shares: Vec<_> = branches.each().map(|(_, branch)| (branch.own.live, branch.own.gone)).collect();
        assert_eq!(shares, [(0, 1)]);
    }
}
