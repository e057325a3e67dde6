//! Which sites are shown, in which order, and how many.

use std::cmp::Reverse;

use crate::sink::SiteOf;
use crate::verdict::SiteCount;

/// What the user wants to see of a list of sites.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// Only sites of which one of these says yes; without any, all.
    pub filter: Vec<Filter>,
    /// In which order.
    pub sort: Sort,
    /// At most so many.
    pub top: Option<usize>,
}

/// A text that a site's future type, place or resource type must hold, whatever its case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter(String);

/// By what sites are sorted; the largest first, names in the order of the alphabet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    /// Live tasks.
    #[default]
    Live,
    /// Idle ones.
    Idle,
    /// Those proved to be stuck.
    Stuck,
    /// Complete ones that a handle keeps.
    Complete,
    /// The future type's name, then the place.
    Name,
}

impl Filter {
    /// Of this text.
    pub fn new(text: &str) -> Self {
        Self(text.to_lowercase())
    }

    fn accepts(&self, of: &SiteOf<'_>) -> bool {
        let task = &of.entry.task;
        let places = [task.place.as_ref(), of.spawned_at].into_iter().flatten().map(ToString::to_string);
        let texts = task.future.text().map(str::to_owned).into_iter().chain(places);
        let all = texts.chain([task.resource.as_str().to_owned(), of.entry.id.to_string()]);
        all.into_iter().any(|text| text.to_lowercase().contains(&self.0))
    }
}

impl View {
    /// Whether the site is to be seen.
    pub(super) fn wants(&self, of: &SiteOf<'_>) -> bool {
        self.filter.is_empty() || self.filter.iter().any(|filter| filter.accepts(of))
    }

    /// The sites to be shown, and those that `top` leaves out.
    pub(super) fn arrange<'a>(
        &self,
        mut sites: Vec<(SiteOf<'a>, SiteCount)>,
    ) -> (Vec<(SiteOf<'a>, SiteCount)>, Vec<SiteCount>) {
        sites.retain(|(of, _)| self.wants(of));
        sites.sort_by_key(|(_, count)| (Reverse(self.sort.figure(count)), Reverse(count.live), count.site));
        if self.sort == Sort::Name {
            let name = |of: &SiteOf<'_>| {
                let task = &of.entry.task;
                (task.future.text().unwrap_or("~").to_owned(), task.place.as_ref().map(ToString::to_string))
            };
            sites.sort_by_cached_key(|(of, _)| name(of));
        }
        let shown = self.top.unwrap_or(sites.len()).min(sites.len());
        let left = sites.split_off(shown).into_iter().map(|(_, count)| count).collect();
        (sites, left)
    }
}

impl Sort {
    fn figure(self, count: &SiteCount) -> u64 {
        match self {
            Self::Live | Self::Name => count.live,
            Self::Idle => count.idle,
            Self::Stuck => count.stuck,
            Self::Complete => count.complete,
        }
    }
}
