//! The news of all CPUs in one order, that of their times.
//!
//! Pure: time comes in. Does not know: what the news say.

use super::News;
use crate::model::Ns;

/// News that are held are at most so many; beyond, the oldest go out before their time.
const MOST_HELD: usize = 1 << 20;

/// News held back until no older ones can come from another CPU.
#[derive(Debug, Default)]
pub struct InTimeOrder {
    held: Vec<News>,
}

impl InTimeOrder {
    /// Takes in one piece of news.
    pub fn push(&mut self, news: News) {
        self.held.push(news);
    }

    /// Gives out, oldest first, all that happened up to `until`. What is pushed later with an earlier time still comes
    /// out, with the next call.
    pub fn pop_until(&mut self, until: Ns) -> Vec<News> {
        // Stable: of one CPU and one moment, the order of writing stays.
        self.held.sort_by_key(|news| news.at);
        let due = self.held.partition_point(|news| news.at <= until);
        let beyond = self.held.len().saturating_sub(MOST_HELD);
        self.held.drain(..due.max(beyond)).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::lives::Change;
    use crate::model::Pid;

    fn news(at: u64, pid: u32) -> News {
        News { at: Ns(at), change: Change::Execed { pid: Pid(pid) } }
    }

    #[test]
    fn news_of_several_cpus_come_out_in_order_of_time() {
        let mut order = InTimeOrder::default();
        [news(5, 1), news(9, 2), news(3, 3), news(5, 4)].into_iter().for_each(|news| order.push(news));
        assert_eq!(order.pop_until(Ns(6)), [news(3, 3), news(5, 1), news(5, 4)]);
        order.push(news(8, 5));
        assert_eq!(order.pop_until(Ns(9)), [news(8, 5), news(9, 2)]);
        assert_eq!(order.pop_until(Ns(u64::MAX)), []);
    }

    #[test]
    fn what_comes_late_still_comes() {
        let mut order = InTimeOrder::default();
        order.push(news(5, 1));
        assert_eq!(order.pop_until(Ns(6)).len(), 1);
        order.push(news(4, 2));
        assert_eq!(order.pop_until(Ns(6)), [news(4, 2)]);
    }

    #[test]
    fn what_is_held_is_bounded() {
        let mut order = InTimeOrder::default();
        (0..MOST_HELD as u64 + 3).for_each(|at| order.push(news(at + 10, 1)));
        assert_eq!(order.pop_until(Ns(0)), [news(10, 1), news(11, 1), news(12, 1)]);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_or_made_up(times in proptest::collection::vec(0u64..50, 0..80), step in 1usize..20) {
            let mut order = InTimeOrder::default();
            let mut out = Vec::new();
            for (round, part) in times.chunks(step).enumerate() {
                part.iter().for_each(|&at| order.push(news(at, at as u32)));
                out.extend(order.pop_until(Ns(round as u64)));
            }
            out.extend(order.pop_until(Ns(u64::MAX)));
            let mut got: Vec<u64> = out.iter().map(|news| news.at.0).collect();
            let mut given = times.clone();
            got.sort_unstable();
            given.sort_unstable();
            prop_assert_eq!(got, given);
        }
    }
}
