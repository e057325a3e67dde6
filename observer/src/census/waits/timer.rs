//! Whether a waker is a timer's, and when the timer fires.
//!
//! Does not know: where a timer's fields are, which differs between versions. What it knows of tokio 1.23 to 1.54: a timer
//! that is registered has its tick (milliseconds since the runtime's clock began) twice beside its waker, once for itself
//! and once for the wheel; from 1.24 on the instant that the tick was made of stands near, and always the handle of the
//! runtime, in which the clock's beginning is. That instant, beginning and tick agree to the millisecond is the proof.

use std::ops::RangeInclusive;

use super::window::{self, Window};
use crate::model::{Ns, ProcAddr};

/// Words of a registered timer, so that its ticks stand at most this far from its waker.
const TIMER: usize = 8;
/// Words of each part of a timer where the parts are padded (1.23).
const BLOCK: usize = 16;
/// How far from its waker a `Sleep`'s instant and its runtime's handle may be; padded, three parts are between.
const SLEEP: usize = 24;
const PADDED_SLEEP: usize = 3 * BLOCK + SLEEP;
/// A millisecond.
const MS: u64 = 1_000_000;
/// Smaller numbers stand near each other twice by chance, and are believed only where the instant is not over.
const CHANCE: u64 = 1_000;
/// Ticks and seconds are below this: 139 years of milliseconds.
const MAX_COUNT: u64 = 1 << 42;

/// A timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timer {
    /// When it fires, where that is proved.
    pub deadline: Option<Ns>,
}

/// The instants within this span that these words may hold, at any place.
pub fn instants(words: &[u64], span: RangeInclusive<Ns>) -> Vec<Ns> {
    let mut found: Vec<Ns> = words.windows(2).filter_map(|pair| instant(pair[0], pair[1])).collect();
    found.retain(|instant| span.contains(instant));
    found.sort_unstable();
    found.dedup();
    found
}

/// Seconds and nanoseconds as `std::time::Instant` holds them, whose last four bytes are padding.
fn instant(seconds: u64, nanoseconds: u64) -> Option<Ns> {
    let nanoseconds = nanoseconds & 0xffff_ffff;
    let plausible = (1..MAX_COUNT).contains(&seconds) && nanoseconds < 1_000_000_000;
    plausible.then(|| seconds.checked_mul(1_000_000_000)?.checked_add(nanoseconds).map(Ns))?
}

/// Words near the place that may be the handle of a runtime: `scheduler::Handle` is a variant's number and an address.
pub fn handles(window: &Window) -> impl Iterator<Item = u64> + '_ {
    let is_handle = |(offset, word): &(isize, u64)| {
        let variant = window.word(offset - 1).is_some_and(|variant| variant & 0xffff_ffff <= 1);
        variant && window::is_pointer(*word)
    };
    window.near(sleep_reach(window)).filter(move |found| is_handle(found)).map(|(_, word)| word)
}

/// Whether it is worth to look for the beginning of a clock.
pub fn may_be(window: &Window, table: ProcAddr) -> bool {
    ticks(window, table).next().is_some() || padded_tick(window).is_some()
}

/// Judges the words around a waker, whose table is given. `begins` are instants at which the clock of a runtime near may
/// have begun.
pub fn judge(window: &Window, table: ProcAddr, begins: &[Ns], now: Ns) -> Option<Timer> {
    let stands_for = |tick: u64| {
        window.near(sleep_reach(window)).find_map(|(offset, seconds)| {
            let deadline = instant(seconds, window.word(offset + 1)?)?;
            let fits = || begins.iter().any(|begin| tick_of(deadline, *begin) == Some(tick));
            ((deadline >= now || tick >= CHANCE) && fits()).then_some(deadline)
        })
    };
    if let Some(deadline) = ticks(window, table).find_map(stands_for) {
        return Some(Timer { deadline: Some(deadline) });
    }
    let tick = padded_tick(window).filter(|_| !begins.is_empty())?;
    Some(Timer { deadline: stands_for(tick) })
}

/// Numbers that stand near the waker twice and nearer to it than to any other waker with its table.
fn ticks(window: &Window, table: ProcAddr) -> impl Iterator<Item = u64> + '_ {
    // `AtomicWaker` is a state, 0 while nobody registers or wakes, and the waker.
    let may_be = window.word(-1) == Some(0) || window.word(2) == Some(0);
    let reach = if may_be { TIMER } else { 0 };
    let is_tick = |(_, tick): &(isize, u64)| (1..MAX_COUNT).contains(tick);
    let near: Vec<(isize, u64)> = window.near(reach).filter(is_tick).collect();
    let others: Vec<isize> =
        window.near(2 * TIMER).filter(|(_, word)| *word == table.0).map(|(offset, _)| offset).collect();
    let distance = |ticks: [isize; 2], from: isize| ticks.map(|tick| tick.abs_diff(from)).into_iter().max();
    let mut found = Vec::new();
    for (index, (first, tick)) in near.iter().enumerate() {
        let second = near[index + 1..].iter().find(|(_, word)| word == tick);
        let Some(ticks) = second.map(|(second, _)| [*first, *second]) else { continue };
        if others.iter().all(|other| distance(ticks, *other) > distance(ticks, 0)) {
            found.push(*tick);
        }
    }
    found.into_iter()
}

/// The tick of a timer of tokio 1.23, whose `TimerShared` is three times 128 bytes, in which stand the links and the wheel's
/// tick, the waker, and the timer's own tick. It forgets its instant when it is registered.
fn padded_tick(window: &Window) -> Option<u64> {
    if !window.place().0.is_multiple_of(8 * BLOCK as u64) || window.word(2) != Some(0) {
        return None;
    }
    let block = BLOCK as isize;
    let words = |first: isize, len: isize| (first..first + len).filter_map(|offset| window.word(offset));
    let of_wheel: Vec<u64> = words(-block, 4).collect();
    let agrees = |tick: &u64| {
        let others = of_wheel.iter().filter(|word| *word != tick);
        let once = others.clone().count() == 3;
        once && (2..MAX_COUNT).contains(tick) && others.clone().all(|word| *word == 0 || window::is_pointer(*word))
    };
    words(block, 2).find(agrees)
}

/// The tick that tokio makes of a deadline: rounded up to the end of its millisecond.
fn tick_of(deadline: Ns, begin: Ns) -> Option<u64> {
    Some(deadline.0.checked_add(MS - 1)?.checked_sub(begin.0)? / MS)
}

fn sleep_reach(window: &Window) -> usize {
    if padded_tick(window).is_some() { PADDED_SLEEP } else { SLEEP }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::census::waits::window::WORDS;

    const TABLE: ProcAddr = ProcAddr(0x5555_0000_0100);
    const HEADER: u64 = 0x7f00_0000_1000;
    const HANDLE: u64 = 0x7f00_0000_0080;

    /// As found in programs: offsets in words from the waker.
    fn window(at: u64, words: &[(isize, u64)]) -> Window {
        let mut all = [0; WORDS];
        for (offset, word) in [(0, TABLE.0), (1, HEADER)].iter().chain(words) {
            all[(64 + offset) as usize] = *word;
        }
        Window::of(ProcAddr(at), all)
    }

    const BEGIN: Ns = Ns(4_900_000_000_000);
    const DEADLINE: Ns = Ns(4_910_021_920_000);

    fn newest(tick: u64) -> Window {
        let words = [(-8, 1), (-7, HANDLE), (-2, tick), (-1, tick), (4, 4_910), (5, 0x3d_0000_0000 | 21_920_000)];
        window(0x7f00_0000_1078, &words)
    }

    #[test]
    fn a_timer_is_proved_by_the_instant_its_tick_was_made_of() {
        let expected = Some(Timer { deadline: Some(DEADLINE) });
        assert_eq!(judge(&newest(10_022), TABLE, &[Ns(1), BEGIN], BEGIN), expected);
        assert_eq!(handles(&newest(10_022)).collect::<Vec<_>>(), [HANDLE]);
        assert!(may_be(&newest(10_022), TABLE));
        assert_eq!(judge(&newest(10_023), TABLE, &[Ns(1), BEGIN], BEGIN), None, "another tick");
        assert_eq!(judge(&newest(10_022), TABLE, &[Ns(1)], BEGIN), None, "another beginning");
    }

    #[test]
    fn a_tick_belongs_to_the_waker_that_is_nearest_to_it() {
        let words = [(-7, HANDLE), (-8, 1), (-6, TABLE.0), (-5, HEADER), (-4, 0), (-3, 7_000), (-2, 7_000), (-1, 0)];
        let near = [&words[..], &[(4, 4_907), (5, 0)]].concat();
        assert_eq!(
            judge(&window(0x7f00_0000_1078, &near), TABLE, &[BEGIN], BEGIN),
            Some(Timer { deadline: Some(Ns(4_907_000_000_000)) })
        );
        let far = [(-8, TABLE.0), (-7, HEADER), (-6, 0), (-5, 7_000), (-4, 7_000), (-1, 0), (4, 4_907), (5, 0)];
        assert_eq!(judge(&window(0x7f00_0000_1078, &far), TABLE, &[BEGIN], BEGIN), None);
    }

    #[test]
    fn a_small_number_beside_an_instant_that_is_over_is_chance() {
        // What a semaphore has beside a waiter, and an instant that was left there.
        let words = [(-7, HANDLE), (-8, 1), (2, 0), (3, 0), (4, 1), (5, 1), (6, 4_900), (7, 500_000)];
        let found = |now| judge(&window(0x7f00_0000_1078, &words), TABLE, &[BEGIN], Ns(now));
        assert_eq!(found(4_900_000_400_000), Some(Timer { deadline: Some(Ns(4_900_000_500_000)) }));
        assert_eq!(found(4_900_000_600_000), None);
        assert!(judge(&newest(10_022), TABLE, &[BEGIN], Ns(u64::MAX)).is_some(), "overdue, and no chance");
    }

    #[test]
    fn a_padded_timer_is_known_without_its_instant() {
        let words = [(-16, 0x7f00_0000_2000), (-14, 10_022), (16, 10_022), (-20, 1), (-19, HANDLE)];
        assert_eq!(judge(&window(0x7f00_0000_1080, &words), TABLE, &[BEGIN], BEGIN), Some(Timer { deadline: None }));
        assert_eq!(
            judge(&window(0x7f00_0000_1088, &words), TABLE, &[BEGIN], BEGIN),
            None,
            "not at the begin of its part"
        );
        assert_eq!(judge(&window(0x7f00_0000_1080, &words), TABLE, &[], BEGIN), None, "no runtime near");
    }

    #[test]
    fn instants_are_seconds_and_less_than_a_second() {
        let words = [4_900, 0, 4_910, 1_000_000_000, u64::MAX];
        assert_eq!(instants(&words, Ns(0)..=Ns(u64::MAX)), [BEGIN]);
        assert_eq!(instants(&words, Ns(0)..=Ns(BEGIN.0 - 1)), []);
    }

    proptest! {
        #[test]
        fn no_words_panic(at: u64, words: Vec<u64>, same: u64, begins: Vec<u64>, now: u64) {
            let mut all = [same; WORDS];
            all.iter_mut().zip(&words).for_each(|(word, given)| *word = *given);
            let window = Window::of(ProcAddr(at), all);
            let begins: Vec<Ns> = begins.into_iter().map(Ns).chain(instants(&all, Ns(0)..=Ns(now))).collect();
            judge(&window, ProcAddr(same), &begins, Ns(now));
            handles(&window).count();
        }
    }
}
