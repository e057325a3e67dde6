//! Values of options: text to types, with an error that gives an example.

use std::str::FromStr;
use std::time::Duration;

use clap::ValueEnum;

use crate::model::{EventSet, Pid};
use crate::session::{Attaching, Sort, Verdict};

/// How probes are attached.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(in crate::cli) enum How {
    /// One link per program and image (Linux 6.6 and later)
    UprobeMulti,
    /// One trace event per program and image: about a tenth of a second each to detach, needs root (Linux 5.15 and later)
    Tracefs,
}

impl From<How> for Attaching {
    fn from(how: How) -> Self {
        match how {
            How::UprobeMulti => Self::UprobeMulti,
            How::Tracefs => Self::Tracefs,
        }
    }
}

/// A list of event words.
#[derive(Clone, Copy, Debug)]
pub(in crate::cli) struct EventList(pub(in crate::cli) EventSet);

impl FromStr for EventList {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut set = EventSet::NONE;
        for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            let flag = match word {
                "init" => &mut set.init,
                "before" => &mut set.before,
                "after" => &mut set.after,
                "resolve" => &mut set.resolve,
                "destroy" => &mut set.destroy,
                _ => return Err(format!("`{word}` is none of init, before, after, resolve, destroy")),
            };
            *flag = true;
        }
        if set == EventSet::NONE { Err("no event named".to_owned()) } else { Ok(Self(set)) }
    }
}

/// A span of time with its unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) struct Span(pub(in crate::cli) Duration);

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // A bare number is seconds, as with sleep(1) and timeout(1).
        if let Ok(seconds) = text.parse::<u32>() {
            return Ok(Self(Duration::from_secs(seconds.into())));
        }
        humantime::parse_duration(text).map(Self).map_err(|error| format!("{error} (for example 500ms, 10s, 5m)"))
    }
}

/// A part of something, in parts of a million.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) struct Share(pub(in crate::cli) u32);

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let percent = text.strip_suffix('%').and_then(|number| number.trim_end().parse::<f64>().ok());
        let millionths = percent.map(|percent| percent * 1e4).filter(|share| (1.0..=1e6).contains(share));
        let share = millionths.ok_or("above 0 and at most 100, with its unit: for example 2% or 0.5%")?;
        Ok(Self(share.round() as u32))
    }
}

pub(super) fn parse_pid(text: &str) -> Result<Pid, String> {
    match text.parse::<u32>() {
        Ok(0) | Err(_) => Err("a process id is a number above 0".to_owned()),
        Ok(pid) => Ok(Pid(pid)),
    }
}

/// Largest ring: 1 GiB a CPU.
const MOST_PAGES: usize = 1 << 18;

pub(super) fn parse_pages(text: &str) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(pages) if pages.is_power_of_two() && pages <= MOST_PAGES => Ok(pages),
        _ => Err(format!("a power of two from 1 to {MOST_PAGES}")),
    }
}

/// Least and most memory that can be allowed, MiB.
const MEMORY: std::ops::RangeInclusive<u64> = 64..=1 << 20;

pub(super) fn parse_memory(text: &str) -> Result<u64, String> {
    let (number, mebibytes) = match text.strip_suffix(['G', 'g']) {
        Some(number) => (number, 1 << 10),
        None => (text.strip_suffix(['M', 'm']).unwrap_or_default(), 1),
    };
    let size = number.parse::<u64>().ok().and_then(|number| number.checked_mul(mebibytes));
    let size = size.filter(|size| MEMORY.contains(size)).ok_or("64M to 1024G, for example 256M or 2G")?;
    Ok(size << 20)
}

/// A column to sort by.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub(in crate::cli) enum SortBy {
    /// Live tasks, most first
    #[default]
    Live,
    /// Idle tasks, most first
    Idle,
    /// Stuck tasks, most first
    Stuck,
    /// Tasks that are over and kept by a handle, most first
    Complete,
    /// The future type's name
    Name,
}

impl From<SortBy> for Sort {
    fn from(by: SortBy) -> Self {
        match by {
            SortBy::Live => Self::Live,
            SortBy::Idle => Self::Idle,
            SortBy::Stuck => Self::Stuck,
            SortBy::Complete => Self::Complete,
            SortBy::Name => Self::Name,
        }
    }
}

/// A list of verdicts.
#[derive(Clone, Debug, Default)]
pub(in crate::cli) struct VerdictList(pub(in crate::cli) Vec<Verdict>);

impl FromStr for VerdictList {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
        let verdicts = words.map(|word| {
            let verdict = Verdict::ALL.into_iter().find(|verdict| verdict.as_str() == word);
            verdict.ok_or_else(|| format!("`{word}` is none of stuck, leaking, suspect"))
        });
        let verdicts: Vec<Verdict> = verdicts.collect::<Result<_, _>>()?;
        if verdicts.is_empty() { Err("no verdict named".to_owned()) } else { Ok(Self(verdicts)) }
    }
}

/// Fewest and most samples a second.
const HZ: std::ops::RangeInclusive<u32> = 49..=999;

pub(super) fn parse_hz(text: &str) -> Result<u32, String> {
    let hz = text.parse::<u32>().ok().filter(|hz| HZ.contains(hz));
    hz.ok_or_else(|| format!("a number from {} to {}", HZ.start(), HZ.end()))
}

/// Fewest and most readings that are judged together.
const SAMPLES: std::ops::RangeInclusive<usize> = 2..=1000;

pub(super) fn parse_samples(text: &str) -> Result<usize, String> {
    let samples = text.parse::<usize>().ok().filter(|samples| SAMPLES.contains(samples));
    samples.ok_or_else(|| format!("a number from {} to {}", SAMPLES.start(), SAMPLES.end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_event_is_refused_by_name() {
        let error = "init,birth".parse::<EventList>().expect_err("birth is no event");
        assert!(error.contains("`birth`"), "{error}");
    }

    #[test]
    fn a_share_is_in_percent_above_none_and_at_most_all() {
        let shares = ["2%", "0.5%", "100 %", "0.0001%"].map(|text| text.parse::<Share>());
        assert_eq!(shares, [20_000, 5_000, 1_000_000, 1].map(|share| Ok(Share(share))));
        for wrong in ["", "%", "2", "0%", "-1%", "100.1%", "nan%", "inf%", "two%"] {
            assert!(wrong.parse::<Share>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn memory_has_a_unit_and_bounds() {
        assert_eq!((parse_memory("256M"), parse_memory("2G")), (Ok(256 << 20), Ok(2 << 30)));
        for wrong in ["", "M", "63M", "1025G", "100", "-1G", "99999999999999999999G"] {
            assert!(parse_memory(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_list_of_verdicts_is_read_and_what_is_none_is_refused_by_name() {
        let list: VerdictList = "stuck, leaking".parse().expect("both are verdicts");
        assert_eq!(list.0, [Verdict::Stuck, Verdict::Leaking]);
        assert!("stuck,blocked".parse::<VerdictList>().is_err_and(|error| error.contains("`blocked`")));
        assert!(",".parse::<VerdictList>().is_err());
    }

    #[test]
    fn growth_needs_two_samples_at_least() {
        assert_eq!(parse_samples("2"), Ok(2));
        assert!(parse_samples("1").is_err() && parse_samples("1001").is_err() && parse_samples("x").is_err());
    }
}
