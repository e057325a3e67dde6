//! Calls that threads are amid, as the programs keep them, and the end of those that nobody will end.
//!
//! Does not know what a call is.

use std::collections::HashMap;

use observer_common::{CALL_WITH_HEAD, CallRecord, Cookie, OpenCall, Quiet, Waiting};

use super::desks::Row;
use super::object::Calls;
use super::{AttachError, Probes, kernel_maps};
use crate::model::{Ns, Pid, Tid};

/// Mirrors the kernel side's `Call`: the key of a call that is reported twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
struct Call {
    sp: u64,
    tid: u32,
    which: u32,
}

/// Mirrors the kernel side's `Entered`: what is remembered of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
struct Entered {
    subject: u64,
    at: u64,
    tgid: u32,
    target: u32,
    ts: u64,
}

/// A call that seemed to be in progress when its row was read. Where the row is on no desk the thread may have been writing to it.
#[derive(Clone, Copy, Debug)]
pub struct Amid {
    place: Place,
    record: CallRecord,
    will_be_reported: bool,
}

/// Where it was read.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// On its thread's desk.
    Desk(Row),
    /// In the map of those that have no place there, under this key.
    Passing(u64),
}

impl Amid {
    /// Whether there will be a record of it in any case. Else, if nothing begins or ends in it, it is just over at some time.
    pub fn will_be_reported(&self) -> bool {
        self.will_be_reported
    }

    /// Its record, [`CALL_WITH_HEAD`] bytes, of which only the entry and what names the call are filled in.
    pub fn bytes(&self) -> &[u8] {
        let record: *const CallRecord = &self.record;
        // SAFETY: the record consists of words without padding, and is longer than that.
        unsafe { std::slice::from_raw_parts(record.cast(), CALL_WITH_HEAD) }
    }

    /// Whether both say the same of the same call.
    fn is(&self, row: &OpenCall) -> bool {
        let named = |record: &CallRecord| (record.cookie(), record.sp(), record.subject(), record.tid(), record.tgid());
        row.record.entry == self.record.entry && named(&row.record) == named(&self.record)
    }
}

impl Probes {
    /// Every call that has begun and is not over: all that had begun when this was asked and are neither over nor in a ring, nor
    /// waiting to be sent, by the time that it is answered, and perhaps some that are. Where calls are reported twice there are none.
    ///
    /// Rows are written in place, so that one that is on no desk may be of two calls; [`Self::is_amid`] tells.
    pub fn amid(&self) -> Result<Vec<Amid>, AttachError> {
        let mut found = Vec::new();
        if self.object().reports() == Calls::Twice {
            return Ok(found);
        }
        let all = self.object().quiet() == Quiet::Reported;
        let mut keep = |place, row: &OpenCall| {
            if row.record.entry.ts != 0 {
                let will_be_reported =
                    all || row.is_loud() || Cookie::from_u64(row.record.cookie()).telling().is_none();
                found.push(Amid { place, record: row.record, will_be_reported });
            }
        };
        if let Some(desks) = self.object().desks() {
            desks.calls(&mut |row, call| keep(Place::Desk(row), &call));
        }
        kernel_maps::each(self.object().passing()?, |key, row: &OpenCall| keep(Place::Passing(key), row))
            .map_err(|source| AttachError::refused("read the calls in progress", source))?;
        Ok(found)
    }

    /// Whether this call is in progress, and what was read of it is of it alone.
    ///
    /// The time of its entry is written last at an entry and taken away first at a return, and no thread has two calls of one
    /// time. So between two readings with the same time the row was this call's. What is on a desk was read so. Of other rows the kernel
    /// makes copies, in one direction:
    /// a word that stands before the time was read between the two in the second reading, one behind it in the first.
    /// Where both readings agree in every word each word is right, therefore. If they do not, the first call has been
    /// reported by now.
    pub fn is_amid(&self, call: &Amid) -> Result<bool, AttachError> {
        let key = match (call.place, self.object().desks()) {
            (Place::Desk(row), Some(desks)) => return Ok(desks.is_since(row, call.record.entry.ts)),
            (Place::Desk(_), None) => return Ok(false),
            (Place::Passing(key), _) => key,
        };
        let row: Option<OpenCall> = kernel_maps::look_up(self.object().passing()?, key)
            .map_err(|source| AttachError::refused("read a call in progress", source))?;
        Ok(row.is_some_and(|row| call.is(&row)))
    }

    /// Gives the records that wait to be sent: with the desk that they are on and how many batches it has sent before, all that have been
    /// laid there by now. They come again when they are sent.
    pub fn waiting(&self, take: &mut dyn FnMut(u32, Waiting, &[u8])) {
        if let Some(desks) = self.object().desks() {
            desks.waiting(take);
        }
    }

    /// Forgets a thread that ended at this moment: its desk would be nobody's for ever.
    pub fn forget_thread(&self, pid: Pid, tid: Tid, ended: Ns) {
        if let Some(desks) = self.object().desks() {
            desks.forget_thread(pid, tid, ended);
        }
    }

    /// Forgets every call: the probes that would have seen their returns are out. No program of calls may be attached.
    pub fn forget_calls_of_all(&self) -> Result<(), AttachError> {
        let failed = |source| AttachError::refused("forget the calls in progress", source);
        if let Some(desks) = self.object().desks() {
            desks.forget_calls(|_, _| true);
        }
        match self.object().reports() {
            Calls::Twice => kernel_maps::remove_those::<Call, Entered>(self.object().calls()?, |_| true),
            Calls::Once => kernel_maps::remove_those::<u64, OpenCall>(self.object().passing()?, |_| true),
        }
        .map_err(failed)
    }

    /// Forgets every id that was taken and whose birth was not seen: the next birth of that thread is another's. No program may
    /// be attached that remembers ids.
    pub fn forget_minted(&self) -> Result<(), AttachError> {
        kernel_maps::remove_those::<u64, u64>(self.object().minted()?, |_| true)
            .map_err(|source| AttachError::refused("forget the ids that were taken", source))
    }

    /// The calls that processes were killed in, whose room would be lost otherwise: those that began before its end. By the
    /// time that its end is known here, the number may be that of a program that is amid calls of its own. It costs one
    /// reading of a map, about a millisecond, for however many.
    pub(super) fn forget_calls(&self, ended: &[(Pid, Ns)]) -> Result<(), AttachError> {
        if ended.is_empty() {
            return Ok(());
        }
        let failed = |source| AttachError::refused("forget a process", source);
        let ends: HashMap<u32, u64> = ended.iter().map(|(pid, end)| (pid.0, end.0)).collect();
        let has_ended = |tgid: u32, began: u64| ends.get(&tgid).is_some_and(|end| began < *end);
        if let Some(desks) = self.object().desks() {
            desks.forget_calls(|owner, began| has_ended((owner >> 32) as u32, began));
        }
        match self.object().reports() {
            Calls::Twice => kernel_maps::remove_those::<Call, Entered>(self.object().calls()?, |entered| {
                has_ended(entered.tgid, entered.ts)
            }),
            Calls::Once => {
                kernel_maps::remove_those::<u64, OpenCall>(self.object().passing()?, |OpenCall { record, .. }| {
                    record.entry.ts != 0 && has_ended(record.tgid(), record.entry.ts)
                })
            }
        }
        .map_err(failed)
    }
}
