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
            Self::Spawns => "spawns",
            Self::Paused => "paused",
        }
    }

    /// The next one that costs less; `None` where nothing does.
    pub(super) fn below(self) -> Option<Self> {
        match self {
            Self::Full => Some(Self::Polls),
            Self::Polls | Self::Lifecycle => Some(Self::Spawns),
            Self::Spawns => Some(Self::Paused),
            Self::Paused => None,
        }
    }

    /// The next one towards this, from which was begun; `None` where it is this.
    pub(super) fn towards(self, top: Self) -> Option<Self> {
        let mut above = top;
        while let Some(below) = above.below() {
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
            Self::Spawns => Sight::Births,
            Self::Paused => Sight::Nothing,
        }
    }

    /// What becomes of polls that change nothing.
    pub(super) fn quiet(self) -> Quiet {
        match self {
            Self::Full => Quiet::Reported,
            Self::Polls => Quiet::Summed,
            Self::Lifecycle | Self::Spawns | Self::Paused => Quiet::Unsaid,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_tier_leads_down_to_nothing_and_back_to_where_was_begun() {
        for top in [Tier::Full, Tier::Polls, Tier::Lifecycle, Tier::Spawns] {
            let mut tier = top;
            while let Some(below) = tier.below() {
                assert_eq!(below.towards(top), Some(tier));
                assert!(
                    below.sight() < tier.sight() || below.quiet() != tier.quiet(),
                    "{below:?} costs less than {tier:?}"
                );
                tier = below;
            }
            assert_eq!((tier, top.towards(top)), (Tier::Paused, None));
        }
    }
}
