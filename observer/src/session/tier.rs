//! The tiers that a governed stream steps through, and what each needs of the probes.
//!
//! Does not know when it steps.

use crate::attach::Quiet;
use crate::model::Sight;

/// How much is told, from much to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// Every event.
    Full,
    /// Births and ends, and polls summed up by task.
    Polls,
    /// Births and ends.
    Lifecycle,
    /// Births; who is busy and who blocks, by samples.
    Sampled,
    /// Births.
    Spawns,
    /// Nothing: no probe is in place.
    Paused,
}

impl Tier {
    /// The word used on output.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Polls => "polls",
            Self::Lifecycle => "lifecycle",
            Self::Sampled => "sampled",
            Self::Spawns => "spawns",
            Self::Paused => "paused",
        }
    }

    /// The next one that costs less; `None` where nothing does. Where nobody `can_sample` that one is passed over.
    pub(super) fn below(self, can_sample: bool) -> Option<Self> {
        match self {
            Self::Full => Some(Self::Polls),
            Self::Polls | Self::Lifecycle if can_sample => Some(Self::Sampled),
            Self::Polls | Self::Lifecycle | Self::Sampled => Some(Self::Spawns),
            Self::Spawns => Some(Self::Paused),
            Self::Paused => None,
        }
    }

    /// The next one towards this, from which was begun; `None` where it is this.
    pub(super) fn towards(self, top: Self, can_sample: bool) -> Option<Self> {
        let mut above = top;
        while let Some(below) = above.below(can_sample) {
            if below == self {
                return Some(above);
            }
            above = below;
        }
        None
    }

    /// Which probes are in place.
    pub(super) fn sight(self) -> Sight {
        match self {
            Self::Full | Self::Polls | Self::Lifecycle => Sight::All,
            Self::Sampled | Self::Spawns => Sight::Births,
            Self::Paused => Sight::Nothing,
        }
    }

    /// What becomes of polls that change nothing.
    pub(super) fn quiet(self) -> Quiet {
        match self {
            Self::Full => Quiet::Reported,
            Self::Polls => Quiet::Summed,
            Self::Lifecycle | Self::Sampled | Self::Spawns | Self::Paused => Quiet::Unsaid,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_tier_leads_down_to_nothing_and_back_to_where_was_begun() {
        let tops = [Tier::Full, Tier::Polls, Tier::Lifecycle, Tier::Spawns];
        for (top, can_sample) in tops.into_iter().flat_map(|top| [(top, false), (top, true)]) {
            let mut tier = top;
            while let Some(below) = tier.below(can_sample) {
                assert_eq!(below.towards(top, can_sample), Some(tier));
                let less = below.sight() < tier.sight() || below.quiet() != tier.quiet() || tier == Tier::Sampled;
                assert!(less, "{below:?} costs less than {tier:?}");
                assert!(can_sample || below != Tier::Sampled);
                tier = below;
            }
            assert_eq!((tier, top.towards(top, can_sample)), (Tier::Paused, None));
        }
    }
}
