//! Polls after which the task goes on: most polls. Where nobody asks for each of them, they are summed up or left unsaid.
//!
//! Does not know what a sum is for, nor which events were asked for.

use aya_ebpf::Global;
use aya_ebpf::bindings::BPF_ANY;
use observer_common::{CallRecord, HEAD_WORDS, PollSum, Quiet, TaskKey};

use crate::compiler::opaque;
use crate::emit::Hit;
use crate::header;
use crate::maps::{GOVERNED, NO_POLL, POLLED};
use crate::rows::Row;

/// A [`Quiet`]. Constant once the programs are loaded.
#[unsafe(no_mangle)]
static QUIET: Global<u8> = Global::new(Quiet::Reported as u8);

/// Words behind the state that a poll leaves as they are nearly always. An allocator that is given the cell back writes to the
/// first of them, and where addresses are small what it writes to the state can look alive.
const LINKS: [usize; 3] = [1, 2, 3];

/// Whether no record is to be made of this call, which has just returned at this moment, when the head and the far word
/// were these. What is summed up is summed up by now.
///
/// # Safety
/// `record` must be this thread's own row, with both heads written.
#[inline(always)]
pub unsafe fn is_unsaid(hit: &Hit, record: *const CallRecord, far: u64) -> bool {
    let quiet = now();
    // The word with the id's number, which only polls have.
    let word = opaque(u64::from(hit.register()));
    if quiet == Quiet::Reported as u8 || word >= HEAD_WORDS as u64 {
        return false;
    }
    let word = opaque(word) as usize;
    if word == 0 {
        return false;
    }
    // SAFETY: the caller's promise.
    let (head, entered) = unsafe { (&raw const (*record).head, &raw const (*record).entry) };
    // SAFETY: as above; the word is within both heads.
    let (id, id_before) =
        unsafe { (*head.cast::<u64>().add(word), *(&raw const (*entered).head).cast::<u64>().add(word)) };
    // SAFETY: as above.
    let (far_before, flags, began) = unsafe { ((*entered).far, (*entered).flags, (*entered).ts) };
    // The same task, which is still there and has no outcome: nothing has begun or ended.
    if flags != 0 || id != id_before || far != far_before || !header::goes_on(head) {
        return false;
    }
    for word in LINKS {
        // SAFETY: as above.
        if unsafe { (*head)[word] != (*entered).head[word] } {
            return false;
        }
    }
    if quiet == Quiet::Unsaid as u8 {
        return true;
    }
    let id = if hit.far() == 0 { id } else { far };
    add(TaskKey { tgid: hit.tgid(), point: hit.point(), id }, hit.ts.wrapping_sub(began))
}

/// What is done with quiet polls at this moment.
#[inline(always)]
fn now() -> u8 {
    let quiet = QUIET.load();
    if quiet != Quiet::Governed as u8 {
        return quiet;
    }
    match GOVERNED.get(0) {
        Some(governed) => *governed as u8,
        None => Quiet::Reported as u8,
    }
}

/// Something happens on this thread that the calls which it is amid are evidence of: they are to be reported.
#[inline(always)]
pub fn disturb(hit: &Hit) {
    if QUIET.load() != Quiet::Reported as u8 {
        Row::make_loud(hit);
    }
}

/// Adds a poll that took so many nanoseconds; whether there is room for the task.
#[inline(always)]
fn add(task: TaskKey, took: u64) -> bool {
    let Some(sum) = there_or_new(task) else { return false };
    // SAFETY: a task is polled by one thread at a time; who reads it besides finds a poll counted or half counted, and
    // reads it again.
    unsafe { (*sum).add(took) };
    true
}

#[inline(always)]
fn there_or_new(task: TaskKey) -> Option<*mut PollSum> {
    if let Some(sum) = POLLED.get_ptr_mut(task) {
        return Some(sum);
    }
    let nothing = NO_POLL.get_ptr(0)?;
    // SAFETY: the array's one row, which nobody writes.
    POLLED.insert(task, unsafe { &*nothing }, u64::from(BPF_ANY)).ok()?;
    POLLED.get_ptr_mut(task)
}
