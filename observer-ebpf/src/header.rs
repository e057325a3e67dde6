//! Copying a task's memory out of the target: the head, and the stage behind it where it can hold an outcome.
//!
//! Does not know what the words mean, save one: whether the first says that the stage is final.

use aya_ebpf::helpers::generated::bpf_probe_read_user;
use aya_log_ebpf::debug;
use aya_log_ebpf::macro_support::{Level, level_enabled};
use observer_common::{FLAG_HEAD_UNREADABLE, FLAG_STAGE_UNREADABLE, HEAD_WORDS, STAGE_WORDS};

/// The state word's bit for "complete". It only picks the record's length, and whether there is one
/// at all: user space reads the word itself.
const COMPLETE: u64 = 2;
/// Its bit for "somebody has its handle".
const HAS_HANDLE: u64 = 8;
/// Its bit for "to be cancelled".
const CANCELLED: u64 = 0x20;
/// The state word counts references from this bit on.
const REFERENCES_FROM: u32 = 6;
/// More references than this no live task has.
const REFERENCES_BELOW: u64 = 1 << 24;

/// A task's memory from its header on.
pub type Head = [u64; HEAD_WORDS];
/// And behind that.
pub type Stage = [u64; STAGE_WORDS];

/// Copies the head to memory of the program's own; the flags to report.
#[inline(always)]
pub fn copy_head(head: *mut Head, header: u64) -> u16 {
    // SAFETY: the program's own memory; the helper checks the user address and zeroes what it cannot read.
    let read = unsafe { bpf_probe_read_user(head.cast(), size_of::<Head>() as u32, header as *const _) };
    if read == 0 { 0 } else { FLAG_HEAD_UNREADABLE }
}

/// The word with this number from the header on; 0 where none is asked for or it cannot be read.
#[inline(always)]
pub fn far_word(header: u64, number: u8) -> u64 {
    if number == 0 {
        return 0;
    }
    word_at(header.wrapping_add(8 * u64::from(number)))
}

/// The word at this address; 0 where it cannot be read: no task has the id 0.
#[inline(always)]
pub fn word_at(at: u64) -> u64 {
    let mut word = 0u64;
    // SAFETY: as in `copy_head`, into a word of our own. What cannot be read is zeroed.
    let _ = unsafe { bpf_probe_read_user((&raw mut word).cast(), 8, at as *const _) };
    word
}

/// Fills the head of a record whose header nobody knows.
#[inline(always)]
pub fn clear_head(head: *mut Head) {
    // SAFETY: the program's own memory.
    unsafe { *head = [0; _] }
}

/// Copies the stage behind the head, which was copied before; the flags to report.
#[inline(always)]
pub fn copy_stage(stage: *mut Stage, head: *const Head, header: u64) -> u16 {
    let behind_head = header.wrapping_add(size_of::<Head>() as u64);
    // SAFETY: as in `copy_head`.
    let read = unsafe { bpf_probe_read_user(stage.cast(), size_of::<Stage>() as u32, behind_head as *const _) };
    if read == 0 && is_as_it_was(head, stage, header) { 0 } else { FLAG_STAGE_UNREADABLE }
}

/// Words behind the head that are looked at twice: with those of the head itself, as far as an outcome's own words go.
const TOLD: usize = 4;

/// Whether the completed task whose head and stage were copied still stands there, with the outcome that was copied. Another thread may
/// have freed it since, and what was read be somebody else's: an allocator that is given the cell back, or whoever gets it then,
/// writes to its first words; a task of the same type that has got it, and is complete too by now, has another id. Or another
/// thread may have taken the outcome out, or dropped it: it writes the whole stage, what is left of its own stack first and last
/// the word that says that nothing is there any more. Who drops it takes the handle's bit away before that.
#[inline(always)]
fn is_as_it_was(head: *const Head, stage: *const Stage, header: u64) -> bool {
    let mut words = [0u64; HEAD_WORDS + TOLD];
    // SAFETY: as in `copy_head`, into words of our own.
    let read = unsafe { bpf_probe_read_user((&raw mut words).cast(), size_of_val(&words) as u32, header as *const _) };
    // SAFETY: the program's own memory, which has been written.
    let (before, stage) = unsafe { (&*head, &*stage) };
    let state = words[0];
    let mut differs = (state ^ before[0]) & HAS_HANDLE;
    for n in 1..HEAD_WORDS {
        differs |= words[n] ^ before[n];
    }
    for n in 0..TOLD {
        differs |= words[HEAD_WORDS + n] ^ stage[n];
    }
    read == 0 && state & COMPLETE != 0 && is_alive(state) && differs == 0
}

/// Whether the head, just copied, is that of a completed task that still lives.
#[inline(always)]
pub fn is_complete(head: *const Head) -> bool {
    // SAFETY: the program's own memory, which has been written.
    let state = unsafe { (*head)[0] };
    state & COMPLETE != 0 && is_alive(state)
}

/// Whether the head, just copied, is that of a task that lives and has neither an outcome nor been told to end.
#[inline(always)]
pub fn goes_on(head: *const Head) -> bool {
    // SAFETY: as above.
    let state = unsafe { (*head)[0] };
    state & (COMPLETE | CANCELLED) == 0 && is_alive(state)
}

/// Whether the head, just copied, is that of a task with one reference: who holds it decides alone.
#[inline(always)]
pub fn is_held_once(head: *const Head) -> bool {
    // SAFETY: as above.
    unsafe { (*head)[0] >> REFERENCES_FROM == 1 }
}

#[inline(always)]
fn is_alive(state: u64) -> bool {
    let references = state >> REFERENCES_FROM;
    references != 0 && references < REFERENCES_BELOW
}

/// Says in words that a header could not be read, to who listens. A function of its own, so that its stack is not the
/// programs', with a plain name, because a mangled one changes with the path of the checkout.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn say_unreadable_header(header: u64, point: u32, tid: u32) -> u32 {
    debug!((), "unreadable header {:x} at point {} in thread {}", header, point, tid);
    0
}

/// Says it, unless nobody listens: the level is a constant when the program is loaded.
#[inline(always)]
pub fn say_unreadable(header: u64, point: u32, tid: u32) {
    if level_enabled(Level::Debug) {
        say_unreadable_header(header, point, tid);
    }
}
