//! Sums by root: all that one task led to, one by spawning the other.
//!
//! Does not know: how it looks.

use crate::model::{AsyncId, Ns, PollSum, QuickMap, ResourceFacts};

use super::{Birth, Kind, Origin, Share};

/// A root that something of is alive.
#[derive(Debug)]
pub(super) struct Root {
    /// Where it came from itself.
    pub(super) origin: Origin,
    /// What it is.
    pub(super) facts: ResourceFacts,
    /// It is alive itself.
    pub(super) live: bool,
    /// Of it and all that it led to.
    pub(super) all: Share,
}

/// Roots of one type of which nothing is alive.
#[derive(Clone, Debug)]
pub(super) struct Over {
    /// Of the first of them.
    pub(super) facts: ResourceFacts,
    /// How many roots.
    pub(super) roots: u64,
    /// Of them and all that they led to.
    pub(super) all: Share,
}

/// All that is known of one program's roots.
#[derive(Debug, Default)]
pub(super) struct Roots {
    roots: QuickMap<AsyncId, Root>,
    /// The root of each live task.
    live: QuickMap<AsyncId, AsyncId>,
    over: Vec<Over>,
    /// Where in [`Roots::over`].
    by_kind: QuickMap<Kind, usize>,
}

impl Roots {
    pub(super) fn born(&mut self, birth: &Birth<'_>) {
        let Birth { id, root, origin, facts } = *birth;
        // A root of which all was over has been summed up: what it led to afterwards is told by whoever did it.
        let root = if self.roots.contains_key(&root) { root } else { id };
        let entry = self.roots.entry(root).or_insert_with(|| Root {
            origin,
            facts: facts.clone(),
            live: true,
            all: Share::default(),
        });
        entry.all.live += 1;
        self.live.insert(id, root);
    }

    pub(super) fn polled(&mut self, id: AsyncId, sum: &PollSum) {
        let root = self.live.get(&id).and_then(|root| self.roots.get_mut(root));
        if let Some(root) = root {
            root.all.poll(sum);
        }
    }

    pub(super) fn goes_on(&mut self, id: AsyncId, so_far: Ns) {
        let root = self.live.get(&id).and_then(|root| self.roots.get_mut(root));
        if let Some(root) = root {
            root.all.goes_on(so_far);
        }
    }

    pub(super) fn ended(&mut self, id: AsyncId) {
        let Some(at) = self.live.remove(&id) else { return };
        let Some(root) = self.roots.get_mut(&at) else { return };
        root.live &= at != id;
        root.all.live -= 1;
        root.all.ended += 1;
        if root.all.live == 0
            && let Some(root) = self.roots.remove(&at)
        {
            self.sum_up(root);
        }
    }

    /// Its process ended, or is observed no longer.
    pub(super) fn gone(&mut self) {
        self.live = QuickMap::default();
        for (_, mut root) in std::mem::take(&mut self.roots) {
            root.all.gone += std::mem::take(&mut root.all.live);
            self.sum_up(root);
        }
    }

    /// Roots of which something is alive, the busiest first.
    pub(super) fn alive(&self) -> Vec<(AsyncId, &Root)> {
        let mut alive: Vec<(AsyncId, &Root)> = self.roots.iter().map(|(id, root)| (*id, root)).collect();
        alive.sort_unstable_by_key(|(id, root)| (std::cmp::Reverse((root.all.spent(), root.all.live)), *id));
        alive
    }

    /// Roots of which nothing is alive, by type, the busiest first.
    pub(super) fn over(&self) -> Vec<&Over> {
        let mut over: Vec<&Over> = self.over.iter().collect();
        over.sort_by_key(|over| std::cmp::Reverse((over.all.busy, over.roots)));
        over
    }

    fn sum_up(&mut self, root: Root) {
        let Root { facts, all, .. } = root;
        let at = *self.by_kind.entry(Kind::of(&facts)).or_insert(self.over.len());
        match self.over.get_mut(at) {
            Some(over) => {
                over.roots += 1;
                over.all.join(&all);
            }
            None => self.over.push(Over { facts, roots: 1, all }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::branches::facts_named;
    use super::*;

    fn born(roots: &mut Roots, id: u64, root: u64) {
        let facts = facts_named(if id == root { "request" } else { "part" });
        let origin = if id == root { Origin::Outside } else { Origin::Task(AsyncId(root)) };
        roots.born(&Birth { id: AsyncId(id), root: AsyncId(root), origin, facts: &facts });
    }

    #[test]
    fn a_root_stands_by_itself_while_anything_of_it_is_alive() {
        let mut roots = Roots::default();
        born(&mut roots, 1, 1);
        born(&mut roots, 2, 1);
        roots.ended(AsyncId(1));
        let alive = roots.alive();
        assert_eq!(alive.len(), 1);
        assert_eq!((alive[0].0, alive[0].1.live, alive[0].1.all.live, alive[0].1.all.ended), (AsyncId(1), false, 1, 1));
        assert!(roots.over().is_empty());
    }

    #[test]
    fn roots_that_are_over_are_summed_up_by_type() {
        let mut roots = Roots::default();
        let mut sum = PollSum::default();
        sum.add(3);
        for id in 1..=4 {
            born(&mut roots, id, id);
            roots.polled(AsyncId(id), &sum);
            roots.ended(AsyncId(id));
        }
        let over = roots.over();
        assert_eq!(over.len(), 1);
        assert_eq!((over[0].roots, over[0].all.ended, over[0].all.busy), (4, 4, 12));
        assert!(roots.alive().is_empty());
    }
}
