//! One trace event at many sites, with a program on it.
//!
//! This is how probes come in and out in bulk on kernels without uprobe_multi: perf opens the event once for all its sites.
//! There is one cookie for all of them; which it was, the address of the hit must tell.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::Arc;

use super::sites::Sites;
use super::tracefs::{EventName, Tracefs};
use super::{AttachError, kernel};
use crate::model::Pid;

/// The event. Dropping it takes its probes out and removes its definition.
pub(super) struct TraceEvent {
    tracefs: Arc<Tracefs>,
    name: EventName,
    link: Option<OwnedFd>,
    opened: Option<OwnedFd>,
}

impl TraceEvent {
    /// Puts a program on these places of a file, for one process or for all. The inner error is the kernel's answer to
    /// the places: it does not say which of them it means.
    ///
    /// An event of its own for each process: programs belong to the event, so that those of two openings would each run
    /// at the hits of both.
    pub(super) fn attach(
        tracefs: &Arc<Tracefs>,
        program: BorrowedFd<'_>,
        file: &File,
        sites: &Sites,
        pid: Option<Pid>,
        at_return: bool,
    ) -> Result<io::Result<Self>, AttachError> {
        let cookie = sites.cookies.first().copied().unwrap_or_default();
        // From here on, an error's way out removes what there is.
        let mut event = Self { tracefs: Arc::clone(tracefs), name: tracefs.new_name(), link: None, opened: None };
        let defined = tracefs.define(&event.name, file, &sites.offsets, at_return);
        defined.map_err(|source| AttachError::event_refused("define a trace event", source))?;
        let id = tracefs.id(&event.name).map_err(|source| AttachError::event_refused("find a trace event", source))?;
        match kernel::open_tracepoint(id, pid) {
            Ok(opened) => {
                let link = kernel::link_perf_event(program, opened.as_fd(), cookie)
                    .map_err(|source| AttachError::event_refused("attach a program to a trace event", source))?;
                event.link = Some(link);
                event.opened = Some(opened);
                Ok(Ok(event))
            }
            Err(error) => Ok(Err(error)),
        }
    }
}

impl Drop for TraceEvent {
    fn drop(&mut self) {
        drop(self.link.take());
        drop(self.opened.take());
        // A definition that stays is no probe and costs nothing; the next start removes it, as after a kill.
        let _ = self.tracefs.remove(&self.name);
    }
}
