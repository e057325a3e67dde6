//! What hits cost a thread here, measured on ourselves: the trap, what our programs do in it, and a record.
//!
//! A figure of another machine would not do: between two that were met, what a program does cost a quarter of a trap more on one
//! than on the other, and a record twice as much. Does not know what is hit in a session, nor how often.

use std::arch::naked_asm;
use std::collections::HashMap;
use std::hint::black_box;
use std::os::fd::AsRawFd as _;
use std::thread;
use std::time::Instant;

use observer_common::HEAD_WORDS;

use super::AttachError;
use super::kernel::AttachedBy;
use super::kernel_maps;
use super::laps::Laps;
use super::links::{Links, Way};
use super::mechanism::{own_file, own_point, request};
use super::object::Object;
use super::programs::{Bound, Pretence};
use crate::model::Program;
use crate::perf::{Ring, Source, keep_here};

/// Batches of calls that are timed, and calls in each: a millisecond or two in all.
const BATCHES: u32 = 8;
const CALLS: u64 = 64;
/// Where each costs tens of times as much.
const FEW_CALLS: u64 = 16;
/// Calls of which parts are timed.
const TIMED: u64 = 256;
/// A ring for all records of those, pages.
const RING: usize = 64;

/// What hits cost, nanoseconds of the thread that runs into them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Price {
    /// One whose program does nothing, on an instruction that the kernel emulates.
    pub hit: f64,
    /// What our programs do at an entry, and again at a return, besides.
    pub work: f64,
    /// What a record adds to that.
    pub record: f64,
    /// How long parts of our programs took meanwhile, where hit follows hit and all is in the caches.
    pub laps: Laps,
}

/// What the return of a call costs whose entry is trapped as well, in hits: measured by `cargo xtask bench` on two machines.
const RETURN: f64 = 0.5;

impl Price {
    /// Of so many hits at entries and other instructions, at returns, and of so many records, where all is in the caches.
    pub fn of(&self, entries: u64, returns: u64, records: u64) -> f64 {
        self.traps(entries, returns) + self.programs(entries, returns, records)
    }

    /// The same, where programs were timed as these: what they take is known then. The trap cannot be timed from within: it is the same
    /// kernel's code, so it takes as many times longer than here as parts of the programs do that are the same here and there, and
    /// never less: here hit follows hit. What too few tell is said as here.
    pub fn where_timed(&self, entries: u64, returns: u64, records: u64, laps: &Laps) -> f64 {
        let slower = laps.in_proportion_to(&self.laps).map_or(1.0, |slower| slower.max(1.0));
        let programs = laps.program().map(|each| (entries + returns) as f64 * each);
        self.traps(entries, returns) * slower + programs.unwrap_or_else(|| self.programs(entries, returns, records))
    }

    fn traps(&self, entries: u64, returns: u64) -> f64 {
        (entries as f64 + RETURN * returns as f64) * self.hit
    }

    fn programs(&self, entries: u64, returns: u64, records: u64) -> f64 {
        (entries + returns) as f64 * self.work + records as f64 * self.record
    }

    /// Measures, on one CPU: there are machines whose CPUs differ. Nothing is taken out yet: that waits for the kernel.
    pub(super) fn find_out(object: &Object, bound: &Bound<'_>) -> Result<(Links, Self), AttachError> {
        let measure = || {
            let cpu = keep_here().map_err(|source| AttachError::System { what: "stay on a CPU", source })?;
            let (idle, hit) = price(bound, Pretence::Nothing, pushing, CALLS)?;
            let (working, worked) = price(bound, Pretence::Work, pushing_too, CALLS)?;
            let (rings, _) = Ring::open_each(Source::BpfOutput, &[cpu], RING)?;
            let failed = |source| AttachError::refused("hand a ring to the programs", source);
            for ring in &rings {
                kernel_maps::update(object.priced()?, cpu, ring.as_raw_fd() as u32).map_err(failed)?;
            }
            let before = Laps::read(object)?;
            let (writing, wrote) = price(bound, Pretence::WorkAndRecord, pushing_as_well, CALLS)?;
            let head = black_box(EMPTY);
            (0..TIMED).for_each(|_| pushing_as_well(&raw const head, true));
            let laps = Laps::read(object)?.since(&before);
            kernel_maps::remove(object.priced()?, cpu).map_err(failed)?;
            let (work, record) = ((worked - hit).max(0.0), (wrote - worked).max(0.0));
            Ok((Links::together([idle, working, writing]), Self { hit, work, record, laps }))
        };
        let measured = thread::scope(|scope| scope.spawn(measure).join());
        measured.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

/// What a hit costs here whose instruction the kernel must single-step, and whose program does nothing, nanoseconds.
pub(super) fn price_of_stepping(object: &Object) -> Result<f64, AttachError> {
    Ok(price(&object.bind()?, Pretence::Nothing, moving, FEW_CALLS)?.1)
}

/// A function that is called to be probed, with what our programs would copy, and whether parts of them are timed.
type Priced = extern "C" fn(*const [u64; HEAD_WORDS], bool);

/// What they copy.
const EMPTY: [u64; HEAD_WORDS] = [1; HEAD_WORDS];

/// What a hit of this function costs, a naked one of ours. It was never seen to differ from a target's by more than the noise, where
/// the program does nothing: it is the same trap, into the same kernel.
fn price(bound: &Bound<'_>, pretence: Pretence, priced: Priced, calls: u64) -> Result<(Links, f64), AttachError> {
    let program = bound.load_pretence(pretence, AttachedBy::Multi)?;
    let own = own_file("/proc/self/exe", priced as *const () as usize)?;
    let point = own_point(own.offset);
    let request = request(&own, &point);
    let links = Links::attach(&HashMap::from([(Program::Mint, program)]), &Way::Multi { sessions: false }, &[request])?;
    let head = black_box(EMPTY);
    let batch = || {
        let began = Instant::now();
        (0..calls).for_each(|_| priced(&raw const head, false));
        began.elapsed().as_nanos() as f64 / calls as f64
    };
    // The least of them: whatever else happens in a batch makes it longer.
    Ok((links, (0..BATCHES).map(|_| batch()).fold(f64::INFINITY, f64::min)))
}

/// The functions whose probes are timed, one each, for a probe is taken out late. Their first instruction is one that the kernel
/// emulates, as most probed ones are: what the compiler begins a function with may be single-stepped, which costs many times as much.
#[unsafe(naked)]
extern "C" fn pushing(_: *const [u64; HEAD_WORDS], _: bool) {
    naked_asm!(".cfi_startproc", "push rbp", "pop rbp", "ret", ".cfi_endproc")
}

/// The second: not the same code, or the linker might fold both into one.
#[unsafe(naked)]
extern "C" fn pushing_too(_: *const [u64; HEAD_WORDS], _: bool) {
    naked_asm!(".cfi_startproc", "push rbx", "pop rbx", "ret", ".cfi_endproc")
}

/// The third.
#[unsafe(naked)]
extern "C" fn pushing_as_well(_: *const [u64; HEAD_WORDS], _: bool) {
    naked_asm!(".cfi_startproc", "push rdx", "pop rdx", "ret", ".cfi_endproc")
}

/// Another, whose first instruction is one that the kernel must single-step.
#[unsafe(naked)]
extern "C" fn moving(_: *const [u64; HEAD_WORDS], _: bool) {
    naked_asm!(".cfi_startproc", "mov rax, rdi", "ret", ".cfi_endproc")
}

#[cfg(test)]
impl Price {
    /// Whole numbers.
    pub(crate) fn sample() -> Self {
        Self { hit: 100.0, work: 40.0, record: 20.0, laps: Laps::sample((100, 30), (100, 20)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attach::Mechanism;
    use crate::attach::probes::Options;
    use crate::attach::tests::live;

    #[test]
    fn traps_are_paid_once_and_a_half_and_work_at_both_moments() {
        let price = Price::sample();
        assert_eq!(price.of(1, 1, 0), 150.0 + 80.0);
        assert_eq!(price.of(3, 0, 2), 300.0 + 160.0);
        assert_eq!(price.of(0, 0, 0), 0.0);
    }

    #[test]
    fn traps_are_dearer_by_as_much_as_parts_of_programs_are_and_programs_as_they_were_timed() {
        let price = Price::sample();
        let twice = Laps::sample((100, 60), (0, 0)).with_programs(100, 70);
        assert_eq!(price.where_timed(2, 2, 2, &twice), 2.0 * 300.0 + 4.0 * 70.0);
        assert_eq!(price.where_timed(2, 2, 2, &Laps::default()), price.of(2, 2, 2));
    }

    #[test]
    fn what_programs_do_and_write_is_found_to_cost_something() {
        let Some(_alone) = live() else { return };
        let object = Object::load(&Options::default(), Mechanism::UprobeMulti, None).unwrap();
        let Ok(bound) = object.bind() else { panic!("the programs are bound") };
        match Price::find_out(&object, &bound) {
            Ok((_links, price)) => {
                assert!(price.hit > 0.0 && price.of(1, 1, 1) > price.of(1, 0, 0), "{price:?}");
                assert!(price.work + price.record > 0.0 && price.record.is_finite(), "{price:?}");
                let there = price.where_timed(100, 100, 100, &price.laps);
                assert!((there / price.of(100, 100, 100) - 1.0).abs() < 1e-9, "{price:?}");
            }
            Err(AttachError::KernelCannot { .. }) => {}
            Err(other) => panic!("{other}"),
        }
    }
}
