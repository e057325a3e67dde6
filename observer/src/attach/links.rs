//! Attaching programs to points, and holding them there.
//!
//! Does not know how programs came into the kernel.

use std::collections::HashMap;
use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::sync::Arc;

use super::AttachError;
use super::kernel::{self, Moment};
use super::programs::PROGRAMS;
use super::sites::{ImageRequest, Scope, Sites};
use super::trace_event::TraceEvent;
use super::tracefs::Tracefs;
use crate::model::{PointIndex, Program};

/// What the kernel takes in one uprobe_multi link (`MAX_UPROBE_MULTI_CNT`).
const POINTS_IN_LINK: usize = 1 << 20;
/// Links that are taken out at the same time.
const AT_ONCE: usize = 64;
/// Linux's own number for "cannot be done here", which libc does not name: an instruction that takes no probe.
const ENOTSUPP: i32 = 524;

/// A point that the kernel would not take.
#[derive(Debug)]
pub struct Refused {
    /// The point.
    pub point: PointIndex,
    /// Why, as the kernel said it.
    pub reason: io::Error,
}

/// Probes in their targets. Dropping it takes them out.
#[derive(Default)]
pub struct Links {
    entries: Vec<Link>,
    returns: Vec<Link>,
    refused: Vec<Refused>,
}

/// One program at its sites. Detaches when dropped.
struct Link {
    program: Program,
    probes: usize,
    #[expect(dead_code, reason = "held for its drop")]
    held: Linked,
}

/// Detaches when dropped.
enum Linked {
    Multi(#[expect(dead_code, reason = "held for its drop")] OwnedFd),
    Event(#[expect(dead_code, reason = "held for its drop")] TraceEvent),
}

/// How links are made.
pub(super) enum Way {
    Multi {
        /// The program at entries runs at returns as well.
        sessions: bool,
    },
    Tracefs(Arc<Tracefs>),
}

/// One image while it is attached to.
struct Image<'a> {
    request: &'a ImageRequest<'a>,
    path: CString,
    /// Holds the file while its path is of use: one by descriptor has no blanks, whatever the file is called.
    file: File,
}

impl Links {
    /// Attached probes: a point with an entry and a return counts twice.
    pub fn probes(&self) -> usize {
        self.entries.iter().chain(&self.returns).map(|link| link.probes).sum()
    }

    /// Links that hold them.
    pub fn links(&self) -> usize {
        self.entries.len() + self.returns.len()
    }

    /// Points that the kernel would not take, in each case for the place's own sake; all others are attached.
    pub fn refused(&self) -> &[Refused] {
        &self.refused
    }

    /// Takes the probes out, as many as can be at the same time.
    pub fn detach(self) {
        drop(self);
    }

    /// All of these, to be taken out at the same time.
    pub fn together(all: impl IntoIterator<Item = Self>) -> Self {
        all.into_iter().fold(Self::default(), |mut together, mut links| {
            together.entries.append(&mut links.entries);
            together.returns.append(&mut links.returns);
            together.refused.append(&mut links.refused);
            together
        })
    }

    /// Parts with the probes of these programs: they are out when what is given is dropped, and the others stay.
    pub fn give_up(&mut self, is_one: impl Fn(Program) -> bool) -> Self {
        let over = |links: &mut Vec<Link>| links.extract_if(.., |link| is_one(link.program)).collect();
        Self { entries: over(&mut self.entries), returns: over(&mut self.returns), refused: Vec::new() }
    }

    /// Attaches through one link a program and image, or as few as cookies allow.
    pub(super) fn attach(
        programs: &HashMap<Program, OwnedFd>,
        way: &Way,
        requests: &[ImageRequest<'_>],
    ) -> Result<Self, AttachError> {
        let mut links = Self::default();
        for program in PROGRAMS {
            for request in requests {
                let sites = Sites::of(request, program);
                if sites.points.is_empty() {
                    continue;
                }
                let Some(fd) = programs.get(&program) else {
                    // Who passes fewer programs wants fewer probes; spawns, though, would be missing without a word.
                    if program == Program::Spawn {
                        return Err(AttachError::Object(format!("its program {program:?} was not loaded")));
                    }
                    continue;
                };
                if sites.points.len() > POINTS_IN_LINK {
                    return Err(AttachError::TooManyPoints {
                        path: request.path.to_owned(),
                        count: sites.points.len(),
                    });
                }
                let image = Image::open(request)?;
                let parted = match way {
                    Way::Multi { .. } => vec![sites],
                    Way::Tracefs(_) => sites.by_cookie(program),
                };
                for sites in parted {
                    links.link(fd.as_fd(), program, way, &image, sites)?;
                }
            }
        }
        Ok(links)
    }

    /// One link for all sites. Where the kernel refuses it for a site's sake it does not say which: halves are tried
    /// then, so that one bad place costs only its own events.
    fn link(
        &mut self,
        fd: BorrowedFd<'_>,
        program: Program,
        way: &Way,
        image: &Image<'_>,
        sites: Sites,
    ) -> Result<(), AttachError> {
        let scope = image.request.scope;
        let moment = match (program, way) {
            (Program::Leave, _) => Moment::Return,
            (Program::Enter, Way::Multi { sessions: true }) => Moment::Session,
            _ => Moment::Entry,
        };
        let linked = match way {
            Way::Multi { .. } => {
                let pid = scope.pid().map_or(0, |pid| pid.0);
                kernel::link_multi(fd, &image.path, &sites.offsets, &sites.cookies, pid, moment).map(Linked::Multi)
            }
            Way::Tracefs(tracefs) => {
                let at_return = moment == Moment::Return;
                TraceEvent::attach(tracefs, fd, &image.file, &sites, scope.pid(), at_return)?.map(Linked::Event)
            }
        };
        match linked {
            Ok(held) => {
                let probes = sites.points.len() * if moment == Moment::Session { 2 } else { 1 };
                let link = Link { program, probes, held };
                match moment {
                    Moment::Return => self.returns.push(link),
                    Moment::Entry | Moment::Session => self.entries.push(link),
                }
                Ok(())
            }
            Err(reason) if is_about_a_site(&reason) => match sites.halve() {
                Ok((first, second)) => {
                    self.link(fd, program, way, image, first)?;
                    self.link(fd, program, way, image, second)
                }
                Err(point) => {
                    self.refused.push(Refused { point, reason });
                    Ok(())
                }
            },
            Err(reason) => Err(failed(image.request, way, reason)),
        }
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        // Entries go before returns, so that a call seen entering is still seen leaving.
        take_out(&mut self.entries);
        take_out(&mut self.returns);
    }
}

/// Each link waits for the kernel, which can wait for many at once.
fn take_out(links: &mut Vec<Link>) {
    while !links.is_empty() {
        std::thread::scope(|scope| {
            for link in links.drain(..links.len().min(AT_ONCE)) {
                // Where there is no thread for it, it is dropped here.
                let _ = std::thread::Builder::new().name("detach".to_owned()).spawn_scoped(scope, || drop(link));
            }
        });
    }
}

impl<'a> Image<'a> {
    /// Looked up by ourselves: the kernel's own refusal does not tell a file that cannot be found from a user who may not
    /// attach. Not opened for reading, which the kernel does not ask for.
    fn open(request: &'a ImageRequest<'a>) -> Result<Self, AttachError> {
        let unreadable = |source| AttachError::FileUnreadable { path: request.path.to_owned(), source };
        let look_up = File::options().read(true).custom_flags(libc::O_PATH).open(request.path);
        let file = look_up.map_err(|error| match request.scope.ended() {
            Some(pid) => AttachError::TargetGone { pid },
            None => unreadable(error),
        })?;
        let path = CString::new(request.path.as_os_str().as_bytes());
        let path = path.map_err(|_| unreadable(io::ErrorKind::InvalidInput.into()))?;
        Ok(Self { request, path, file })
    }
}

fn is_about_a_site(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(ENOTSUPP | libc::ENOEXEC | libc::EINVAL | libc::EIO))
}

fn failed(request: &ImageRequest<'_>, way: &Way, reason: io::Error) -> AttachError {
    match (request.scope, reason.raw_os_error()) {
        (Scope::Process { pid, .. }, Some(libc::ESRCH)) => return AttachError::TargetGone { pid },
        (scope, _) => {
            if let Some(pid) = scope.ended() {
                return AttachError::TargetGone { pid };
            }
        }
    }
    match (way, reason.raw_os_error()) {
        (_, Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP | libc::EBADF)) => {
            AttachError::FileUnreadable { path: request.path.to_owned(), source: reason }
        }
        (Way::Tracefs(_), _) => AttachError::event_refused("attach probes", reason),
        (Way::Multi { .. }, _) => AttachError::refused("attach probes", reason),
    }
}
