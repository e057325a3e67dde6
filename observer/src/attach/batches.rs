//! Records that threads have laid together, taken apart; each is given once, whether it was found where it waited or came with its batch.
//!
//! Does not know what is in a record.

use observer_common::{BATCH, BatchHead, FRAME, Waiting};

use crate::model::{QuickMap, word_at};

/// A batch that is older by so many than another that has come does not come any more: rings hold less.
const KEPT: i32 = 1 << 16;

/// What was given of each desk's.
#[derive(Debug, Default)]
pub struct Batches {
    desks: QuickMap<u32, Given>,
}

/// What was given of one desk's records.
#[derive(Debug, Default)]
struct Given {
    /// The latest batch that came, by its generation. What still waits is later: a thread sends one after the other, though they may come
    /// from different rings, in another order.
    came: Option<u32>,
    /// Batches of which so many bytes were found where they waited, before they came.
    found: Vec<Waiting>,
}

impl Batches {
    /// Gives each record of a batch that was not given yet; what is no batch as it is.
    pub fn take_apart(&mut self, bytes: &[u8], each: &mut dyn FnMut(&[u8])) {
        if word_at(bytes, 0) != Some(BATCH) {
            return each(bytes);
        }
        let (Some(place), Some(records)) = (word_at(bytes, 8), bytes.get(size_of::<BatchHead>()..)) else {
            return each(bytes);
        };
        let (desk, generation) = (place as u32, (place >> 32) as u32);
        let given = self.desks.entry(desk).or_default();
        if given.came.is_none_or(|came| is_later(generation, came)) {
            given.came = Some(generation);
        }
        let found = given.found.iter().position(|found| found.generation == generation);
        let found = found.map_or(0, |at| given.found.swap_remove(at).bytes);
        given.found.retain(|found| generation.wrapping_sub(found.generation) as i32 <= KEPT);
        take_each(records.get(found as usize..).unwrap_or_default(), each);
    }

    /// Gives each record of those that wait on this desk that was not given yet.
    pub fn found(&mut self, desk: u32, waiting: Waiting, records: &[u8], each: &mut dyn FnMut(&[u8])) {
        let given = self.desks.entry(desk).or_default();
        if given.came.is_some_and(|came| !is_later(waiting.generation, came)) {
            return;
        }
        let known = given.found.iter_mut().find(|found| found.generation == waiting.generation);
        let before = known.as_ref().map_or(0, |found| found.bytes);
        if waiting.bytes <= before {
            return;
        }
        match known {
            Some(found) => found.bytes = waiting.bytes,
            None => given.found.push(waiting),
        }
        take_each(records.get(before as usize..).unwrap_or_default(), each);
    }
}

/// Of two generations of one desk; numbers begin anew after the last.
fn is_later(one: u32, other: u32) -> bool {
    one.wrapping_sub(other) as i32 > 0
}

/// Gives each of the records that stand here, each behind its length; where a length is wrong, the rest as it is, for the decoder to
/// refuse.
fn take_each(records: &[u8], each: &mut dyn FnMut(&[u8])) {
    let mut rest = records;
    // What is shorter is what the kernel fills an entry up with.
    while let Some(length) = word_at(rest, 0) {
        let record = usize::try_from(length).ok().and_then(|length| rest.get(FRAME..FRAME.checked_add(length)?));
        let Some(record) = record.filter(|record| !record.is_empty()) else { return each(rest) };
        each(record);
        rest = &rest[FRAME + record.len()..];
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frames(records: &[&[u64]]) -> Vec<u8> {
        let words = records.iter().flat_map(|record| [&[8 * record.len() as u64], *record].concat());
        words.flat_map(u64::to_ne_bytes).collect()
    }

    fn batch(desk: u32, generation: u32, records: &[&[u64]]) -> Vec<u8> {
        let head = [BATCH, u64::from(generation) << 32 | u64::from(desk)].map(u64::to_ne_bytes).concat();
        [head, frames(records)].concat()
    }

    fn came(batches: &mut Batches, bytes: &[u8]) -> Vec<Vec<u64>> {
        let mut given = Vec::new();
        batches.take_apart(bytes, &mut |record| given.push(numbers(record)));
        given
    }

    fn found(batches: &mut Batches, desk: u32, generation: u32, records: &[&[u64]]) -> Vec<Vec<u64>> {
        let mut given = Vec::new();
        let records = frames(records);
        let waiting = Waiting { generation, bytes: records.len() as u32 };
        batches.found(desk, waiting, &records, &mut |record| given.push(numbers(record)));
        given
    }

    fn numbers(bytes: &[u8]) -> Vec<u64> {
        bytes.chunks_exact(8).map(|word| u64::from_ne_bytes(word.try_into().unwrap())).collect()
    }

    #[test]
    fn a_batch_is_its_records_and_what_is_none_is_itself() {
        let mut batches = Batches::default();
        let mut bytes = batch(3, 0, &[&[7, 8], &[9]]);
        bytes.extend([0; 4]);
        assert_eq!(came(&mut batches, &bytes), [vec![7, 8], vec![9]], "what fills an entry up is no record");
        assert_eq!(came(&mut batches, &frames(&[&[5]])), [vec![8, 5]]);
    }

    #[test]
    fn what_was_found_waiting_is_not_given_again_by_a_later_look_nor_with_its_batch() {
        let mut batches = Batches::default();
        assert_eq!(found(&mut batches, 3, 0, &[&[1]]), [[1]]);
        assert_eq!(found(&mut batches, 3, 0, &[&[1], &[2]]), [[2]]);
        assert!(found(&mut batches, 3, 0, &[&[1], &[2]]).is_empty());
        // The batches after it are looked at before it has come.
        assert_eq!(found(&mut batches, 3, 1, &[&[4]]), [[4]]);
        assert_eq!(came(&mut batches, &batch(3, 0, &[&[1], &[2], &[3]])), [[3]]);
        assert_eq!(came(&mut batches, &batch(3, 1, &[&[4], &[5]])), [[5]]);
        assert_eq!(came(&mut batches, &batch(3, 2, &[&[6]])), [[6]]);
        assert!(batches.desks[&3].found.is_empty());
        assert_eq!(found(&mut batches, 4, 0, &[&[1]]), [[1]], "another's");
    }

    #[test]
    fn what_is_seen_waiting_although_its_batch_has_come_is_not_given_again() {
        let mut batches = Batches::default();
        assert_eq!(came(&mut batches, &batch(3, u32::MAX, &[&[1], &[2]])), [[1], [2]]);
        assert!(found(&mut batches, 3, u32::MAX, &[&[1], &[2]]).is_empty());
        assert!(found(&mut batches, 3, u32::MAX - 1, &[&[0]]).is_empty());
        assert_eq!(found(&mut batches, 3, 0, &[&[3]]), [[3]], "numbers begin anew");
    }

    proptest! {
        #[test]
        fn whatever_comes_is_given_within_its_bounds(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
            is_batch: bool,
            generation: u32,
            waiting: u32,
        ) {
            let mut batches = Batches::default();
            let whole = if is_batch { [batch(1, generation, &[]), bytes.clone()].concat() } else { bytes.clone() };
            let mut given = 0;
            batches.found(1, Waiting { generation, bytes: waiting }, &bytes, &mut |record| given += record.len());
            prop_assert!(given <= bytes.len());
            let mut given = 0;
            batches.take_apart(&whole, &mut |record| given += record.len());
            prop_assert!(given <= whole.len());
        }

        #[test]
        fn however_a_desk_is_looked_at_and_its_batches_come_each_record_is_given_once(
            steps in proptest::collection::vec((1usize..9, 0usize..9, 0usize..9, any::<bool>(), any::<bool>()), 1..40),
        ) {
            // Each step is a batch of so many records, two looks at some of them, whether batches come before the next, and whether the
            // last of them first, as from another ring. What has just been sent may still seem to wait.
            let mut batches = Batches::default();
            let (mut next, mut given, mut pending) = (0u64, Vec::new(), Vec::new());
            for (generation, (size, one, other, come, turned)) in steps.into_iter().enumerate() {
                let records: Vec<[u64; 1]> = (next..next + size as u64).map(|n| [n]).collect();
                let records: Vec<&[u64]> = records.iter().map(|record| &record[..]).collect();
                next += size as u64;
                for looked in [one.min(other).min(size), one.max(other).min(size)] {
                    given.extend(found(&mut batches, 9, generation as u32, &records[..looked]));
                }
                pending.push(batch(9, generation as u32, &records));
                if come {
                    if turned {
                        pending.reverse();
                    }
                    pending.drain(..).for_each(|bytes| given.extend(came(&mut batches, &bytes)));
                    prop_assert!(found(&mut batches, 9, generation as u32, &records).is_empty());
                }
            }
            pending.drain(..).for_each(|bytes| given.extend(came(&mut batches, &bytes)));
            let mut given: Vec<u64> = given.concat();
            given.sort_unstable();
            prop_assert_eq!(given, (0..next).collect::<Vec<_>>());
        }
    }
}
