//! A set of headers as a bitmap over the stretches of memory that they stand in: a million of them fit a cache.
//!
//! Does not know: what stands at the addresses.

use crate::model::ProcAddr;

/// Two addresses with more words of bits than this between them are in different extents.
const GAP: u64 = 2;

/// Addresses in ascending order, each with its position among them.
#[derive(Clone, Debug, Default)]
pub struct Addresses {
    extents: Vec<Extent>,
    words: Vec<Word>,
    shift: u32,
    len: usize,
}

#[derive(Clone, Copy, Debug)]
struct Extent {
    first: u64,
    words: u32,
    begin: u32,
}

/// 64 places, and how many addresses stand before them.
#[derive(Clone, Copy, Debug)]
struct Word {
    bits: u64,
    before: u32,
}

impl Addresses {
    /// Of strictly ascending addresses, all multiples of `stride`, which is a power of two.
    pub fn new(ascending: impl Iterator<Item = ProcAddr>, stride: u64) -> Self {
        let shift = stride.trailing_zeros();
        let mut set = Self { shift, ..Self::default() };
        for address in ascending {
            set.add(address.0 >> shift);
        }
        set
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The least and the greatest.
    pub fn span(&self) -> Option<(ProcAddr, ProcAddr)> {
        let (first, last) = (self.extents.first()?, self.extents.last()?);
        let bits = self.words.last()?.bits;
        let unit = last.first + 64 * (u64::from(last.words) - 1) + u64::from(63 - bits.leading_zeros());
        Some((ProcAddr(first.first << self.shift), ProcAddr(unit << self.shift)))
    }

    /// The address's position among all.
    #[inline]
    pub fn position(&self, address: u64) -> Option<usize> {
        let unit = address >> self.shift;
        if unit << self.shift != address {
            return None;
        }
        let after = self.extents.partition_point(|extent| extent.first <= unit);
        let extent = self.extents[after.checked_sub(1)?];
        let bit = unit - extent.first;
        if bit / 64 >= u64::from(extent.words) {
            return None;
        }
        let word = self.words[extent.begin as usize + (bit / 64) as usize];
        let mask = 1u64 << (bit % 64);
        (word.bits & mask != 0).then(|| word.before as usize + (word.bits & (mask - 1)).count_ones() as usize)
    }

    /// Whether it is one of them.
    #[inline]
    pub fn contains(&self, address: u64) -> bool {
        self.position(address).is_some()
    }

    fn add(&mut self, unit: u64) {
        let near = |extent: &Extent| (unit - extent.first) / 64 < u64::from(extent.words) + GAP;
        if !self.extents.last().is_some_and(near) {
            self.extents.push(Extent { first: unit, words: 0, begin: self.words.len() as u32 });
        }
        let Some(extent) = self.extents.last_mut() else { return };
        let bit = unit - extent.first;
        let before = self.len as u32;
        while u64::from(extent.words) <= bit / 64 {
            self.words.push(Word { bits: 0, before });
            extent.words += 1;
        }
        if let Some(word) = self.words.last_mut() {
            word.bits |= 1 << (bit % 64);
            self.len += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn of_nothing_nothing_is_found() {
        let none = Addresses::new(std::iter::empty(), 8);
        assert!(none.is_empty() && none.position(0).is_none() && !none.contains(u64::MAX));
    }

    proptest! {
        #[test]
        fn every_address_has_its_position_and_no_other_has_one(
            gaps in proptest::collection::vec(1u64..400, 0..200),
            far in proptest::collection::vec(any::<u64>(), 0..20),
            shift in 3u32..8,
        ) {
            let near = gaps.iter().scan(0x5555_0000u64, |at, gap| { *at += gap << shift; Some(*at) });
            let all: BTreeSet<u64> = near.chain(far.iter().map(|at| at >> shift << shift)).collect();
            let set = Addresses::new(all.iter().map(|at| ProcAddr(*at)), 1 << shift);
            prop_assert_eq!(set.len(), all.len());
            let span = all.first().zip(all.last()).map(|(first, last)| (ProcAddr(*first), ProcAddr(*last)));
            prop_assert_eq!(set.span(), span);
            for (position, at) in all.iter().enumerate() {
                prop_assert_eq!(set.position(*at), Some(position));
                for other in [at.wrapping_sub(8), at.wrapping_add(8), at + 1, at ^ (1 << 40)] {
                    prop_assert_eq!(set.contains(other), all.contains(&other));
                }
            }
        }
    }
}
