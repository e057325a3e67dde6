//! Attaching programs to points, and holding them there.
//!
//! Does not know how programs came into the kernel.

use std::collections::HashMap;
use std::ffi::CString;
use std::fs::File;
use std::io;
use std::num::NonZeroU32;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use aya::programs::uprobe::{UProbeAttachLocation, UProbeAttachPoint, UProbeLink, UProbeScope};
use aya::programs::{ProgramError, UProbe};

use observer_common::Cookie;

use super::error::chain;
use super::object::{Object, PROGRAMS};
use super::{AttachError, kernel};
use crate::model::{AttachPoint, Pid, PointIndex, Program};

/// What the kernel takes in one uprobe_multi link (`MAX_UPROBE_MULTI_CNT`).
const POINTS_IN_LINK: usize = 1 << 20;
/// Linux's own number for "cannot be done here", which libc does not name: an instruction that takes no probe.
const ENOTSUPP: i32 = 524;

/// Whose hits an image's probes report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// One process's.
    Process {
        /// The process.
        pid: Pid,
        /// The same, as an index into the catalog's targets.
        target: u16,
    },
    /// Those of every process that maps the file, now or later, as far as [`Options::audience`](super::Options) admits
    /// them: one link, however many there are. Records name no target; the process's number tells it.
    Everyone,
}

/// One image, and the points wanted in it.
pub struct ImageRequest<'a> {
    /// Whose hits are wanted.
    pub scope: Scope,
    /// The image, by a path that leads to the very file that is mapped (`/proc/PID/map_files/..`, `/proc/PID/exe`). It is
    /// needed while attaching only: links hold the file itself.
    pub path: &'a Path,
    /// The points, each with its index in the catalog.
    pub points: Vec<(PointIndex, &'a AttachPoint)>,
}

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
    held: Vec<Link>,
    refused: Vec<Refused>,
    probes: usize,
}

/// Detaches when dropped.
enum Link {
    Multi(#[expect(dead_code, reason = "held for its drop")] OwnedFd),
    Plain(#[expect(dead_code, reason = "held for its drop")] UProbeLink),
}

/// Offsets and cookies of one link, and whose they are.
#[derive(Default)]
struct Sites {
    offsets: Vec<u64>,
    cookies: Vec<u64>,
    points: Vec<PointIndex>,
}

impl Scope {
    /// As cookies name it.
    fn target(self) -> u16 {
        match self {
            Self::Process { target, .. } => target,
            Self::Everyone => Cookie::BY_PROCESS,
        }
    }

    /// As a uprobe_multi link takes it, which has 0 for everyone.
    fn pid_or_zero(self) -> u32 {
        match self {
            Self::Process { pid, .. } => pid.0,
            Self::Everyone => 0,
        }
    }

    /// The process, if it is for one that has ended.
    fn ended(self) -> Option<Pid> {
        match self {
            Self::Process { pid, .. } => (!super::error::is_alive(pid)).then_some(pid),
            Self::Everyone => None,
        }
    }
}

impl Links {
    /// Attached probes: a point with an entry and a return counts twice.
    pub fn probes(&self) -> usize {
        self.probes
    }

    /// Links that hold them.
    pub fn links(&self) -> usize {
        self.held.len()
    }

    /// Points that the kernel would not take, in each case for the place's own sake; all others are attached.
    pub fn refused(&self) -> &[Refused] {
        &self.refused
    }

    /// Takes the probes out, in the reverse order of attaching.
    pub fn detach(self) {
        drop(self);
    }

    /// Attaches through one link a program, image and process.
    pub(super) fn multi(
        programs: &HashMap<Program, OwnedFd>,
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
                        return Err(not_loaded(program));
                    }
                    continue;
                };
                if sites.points.len() > POINTS_IN_LINK {
                    return Err(AttachError::TooManyPoints {
                        path: request.path.to_owned(),
                        count: sites.points.len(),
                    });
                }
                links.link(fd.as_fd(), program, request, sites)?;
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
        request: &ImageRequest<'_>,
        sites: Sites,
    ) -> Result<(), AttachError> {
        if sites.points.is_empty() {
            return Ok(());
        }
        let path = openable(request)?;
        let at_return = program == Program::Leave;
        match kernel::link_multi(fd, &path, &sites.offsets, &sites.cookies, request.scope.pid_or_zero(), at_return) {
            Ok(link) => {
                self.held.push(Link::Multi(link));
                self.probes += sites.points.len();
                Ok(())
            }
            Err(reason) if is_about_a_site(&reason) => match sites.halve() {
                Ok((first, second)) => {
                    self.link(fd, program, request, first)?;
                    self.link(fd, program, request, second)
                }
                Err(point) => {
                    self.refused.push(Refused { point, reason });
                    Ok(())
                }
            },
            Err(reason) => Err(failed(request, reason, false)),
        }
    }

    /// Attaches one by one, as perf events.
    pub(super) fn plain(object: &mut Object, requests: &[ImageRequest<'_>]) -> Result<Self, AttachError> {
        let mut links = Self::default();
        for program in PROGRAMS {
            for request in requests {
                let sites = Sites::of(request, program);
                if sites.points.is_empty() {
                    continue;
                }
                openable(request)?;
                let uprobe = object.plain(program)?;
                if uprobe.fd().is_err() {
                    return Err(not_loaded(program));
                }
                for ((offset, cookie), point) in sites.offsets.iter().zip(&sites.cookies).zip(sites.points) {
                    match plain(uprobe, request, *offset, *cookie) {
                        Ok(link) => {
                            links.held.push(Link::Plain(link));
                            links.probes += 1;
                        }
                        Err(Failure::Kernel(reason)) if is_about_a_site(&reason) => {
                            links.refused.push(Refused { point, reason });
                        }
                        Err(Failure::Kernel(reason)) => return Err(failed(request, reason, true)),
                        Err(Failure::Aya(text)) => return Err(AttachError::Object(text)),
                    }
                }
            }
        }
        Ok(links)
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        // Entries go before returns, so that a call seen entering is still seen leaving.
        while let Some(link) = self.held.pop() {
            drop(link);
        }
    }
}

impl Sites {
    fn of(request: &ImageRequest<'_>, program: Program) -> Self {
        let mut sites = Self::default();
        for (index, point) in &request.points {
            if point.role.programs().contains(&program) {
                sites.offsets.push(point.offset.0);
                sites.cookies.push(point.cookie(request.scope.target(), *index).to_u64());
                sites.points.push(*index);
            }
        }
        sites
    }

    /// Two halves, or the point if there is only one.
    fn halve(mut self) -> Result<(Self, Self), PointIndex> {
        if let [point] = self.points[..] {
            return Err(point);
        }
        let middle = self.points.len() / 2;
        let second = Self {
            offsets: self.offsets.split_off(middle),
            cookies: self.cookies.split_off(middle),
            points: self.points.split_off(middle),
        };
        Ok((self, second))
    }
}

/// A mistake of this program's own: points were asked for that the options excluded.
fn not_loaded(program: Program) -> AttachError {
    AttachError::Object(format!("its program {program:?} was not loaded"))
}

/// Why one plain uprobe failed.
enum Failure {
    Kernel(io::Error),
    Aya(String),
}

fn plain(uprobe: &mut UProbe, request: &ImageRequest<'_>, offset: u64, cookie: u64) -> Result<UProbeLink, Failure> {
    let scope = match request.scope {
        Scope::Process { pid, .. } => UProbeScope::OneProcess(
            NonZeroU32::new(pid.0).ok_or_else(|| Failure::Kernel(io::Error::from_raw_os_error(libc::ESRCH)))?,
        ),
        Scope::Everyone => UProbeScope::AllProcesses,
    };
    let point = UProbeAttachPoint { location: UProbeAttachLocation::AbsoluteOffset(offset), cookie: Some(cookie) };
    uprobe.attach(point, request.path, scope).and_then(|id| uprobe.take_link(id)).map_err(|error| match error {
        ProgramError::SyscallError(error) => Failure::Kernel(error.io_error),
        ProgramError::IOError(error) => Failure::Kernel(error),
        ProgramError::AttachCookieNotSupported => Failure::Kernel(io::Error::from_raw_os_error(libc::EOPNOTSUPP)),
        other => Failure::Aya(chain(&other)),
    })
}

/// The image's path for the kernel. Opened once first: the kernel's own refusal does not tell a file that cannot be
/// read from a user who may not attach.
fn openable(request: &ImageRequest<'_>) -> Result<CString, AttachError> {
    let path = request.path;
    let unreadable = |source| AttachError::FileUnreadable { path: path.to_owned(), source };
    File::open(path).map_err(|error| match request.scope.ended() {
        Some(pid) => AttachError::TargetGone { pid },
        None => unreadable(error),
    })?;
    CString::new(path.as_os_str().as_bytes()).map_err(|_| unreadable(io::ErrorKind::InvalidInput.into()))
}

fn is_about_a_site(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(ENOTSUPP | libc::ENOEXEC | libc::EINVAL | libc::EIO))
}

fn failed(request: &ImageRequest<'_>, reason: io::Error, plain: bool) -> AttachError {
    match (request.scope, reason.raw_os_error()) {
        (Scope::Process { pid, .. }, Some(libc::ESRCH)) => return AttachError::TargetGone { pid },
        (scope, _) => {
            if let Some(pid) = scope.ended() {
                return AttachError::TargetGone { pid };
            }
        }
    }
    match reason.raw_os_error() {
        Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP | libc::EBADF) => {
            AttachError::FileUnreadable { path: request.path.to_owned(), source: reason }
        }
        _ if plain => AttachError::plain_refused("attach probes", reason),
        _ => AttachError::refused("attach probes", reason),
    }
}
