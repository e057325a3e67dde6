//! Which way of attaching works here: found out by doing it to ourselves, never by a version number.
//!
//! Does not know the points of a session.

use std::collections::HashMap;
use std::fs;
use std::hint::black_box;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::thread;

use observer_common::{Counter, MintRegister};

use super::AttachError;
use super::kernel::AttachedBy;
use super::links::{Links, Way};
use super::object::Object;
use super::price::Price;
use super::programs::Bound;
use super::sites::{ImageRequest, Scope};
use crate::model::{AttachPoint, Cost, FileOffset, Pid, PointIndex, Program, Role, VirtAddr};

/// How probes come to their points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// One link holds any number of points; it comes and goes in milliseconds.
    UprobeMulti,
    /// One trace event for all points that one program sees in one image; it comes and goes in about a tenth of a second.
    Tracefs,
}

impl Mechanism {
    /// Whether records say addresses instead of points: one probe's cookie cannot name them all.
    pub fn says_addresses(self) -> bool {
        self == Self::Tracefs
    }

    /// The word used on output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UprobeMulti => "uprobe_multi",
            Self::Tracefs => "tracefs",
        }
    }
}

/// What trying uprobe_multi on ourselves showed.
pub(super) enum Trial {
    /// It works.
    Works {
        /// The programs it worked with.
        programs: HashMap<Program, OwnedFd>,
        /// Whether the program at entries runs at returns as well.
        sessions: bool,
        /// What it was tried with. Taking it out waits for the kernel, as long as all that is done before the first event: so
        /// that is left for the end.
        links: Links,
        /// What hits cost; `None` where it could not be measured.
        price: Option<Price>,
    },
    /// The kernel has none of it, or one that misses the threads beside the first (6.6 to 6.9, before the repair).
    Lacks(io::Error),
}

/// Tries, and measures what hits cost if that is wanted. The error is one that would meet trace events, too.
pub(super) fn try_multi(object: &Object, priced: bool) -> Result<Trial, AttachError> {
    let bound = object.bind()?;
    let is_of_calls = |program| matches!(program, Program::Enter | Program::Leave);
    let mut programs = match bound.load(AttachedBy::Multi, |program| !is_of_calls(program)) {
        Ok(programs) => programs,
        Err(AttachError::KernelCannot { source, .. }) => return Ok(Trial::Lacks(source)),
        Err(other) => return Err(other),
    };
    let own = own_file("/proc/self/exe", trodden as *const () as usize)?;
    let point = own_point(own.offset);
    let request = request(&own, &point);
    // Foreign or not, as the audience may have it.
    let hits = || Ok::<u64, AttachError>(object.counter(Counter::Hits)? + object.counter(Counter::Foreign)?);
    let before = hits()?;
    let links = match Links::attach(&programs, &Way::Multi { sessions: false }, &[request]) {
        Ok(links) => links,
        Err(AttachError::KernelCannot { source, .. }) => return Ok(Trial::Lacks(source)),
        Err(other) => return Err(other),
    };
    if let [refused, ..] = links.refused() {
        return Ok(Trial::Lacks(io::Error::from_raw_os_error(refused.reason.raw_os_error().unwrap_or(libc::EINVAL))));
    }
    // On another thread than the process's first: there lies the difference between kernels.
    if thread::spawn(|| trodden(1)).join().is_err() || hits()? == before {
        return Ok(Trial::Lacks(io::Error::from_raw_os_error(libc::ENODEV)));
    }
    // Nothing hangs on it but what is said of costs, and that is then said not to be known.
    let (links, price) = match priced.then(|| Price::find_out(object, &bound)) {
        Some(Ok((priced, price))) => (Links::together([links, priced]), Some(price)),
        Some(Err(_)) | None => (links, None),
    };
    Ok(match try_session(&bound, &own)? {
        Some((program, link)) => {
            programs.insert(Program::Enter, program);
            Trial::Works { programs, sessions: true, links: Links::together([links, link]), price }
        }
        None => {
            programs.extend(bound.load(AttachedBy::Multi, is_of_calls)?);
            Trial::Works { programs, sessions: false, links, price }
        }
    })
}

/// The program for both moments of a call, with a link that shows that the kernel takes it: some load the program and have
/// no such links. `None` where two programs are to be used, or must be. The place is not run into any more.
fn try_session(bound: &Bound<'_>, own: &OwnPlace) -> Result<Option<(OwnedFd, Links)>, AttachError> {
    let Some(program) = bound.load_session()? else { return Ok(None) };
    let point = AttachPoint { role: Role::Poll, register: None, ..own_point(own.offset) };
    let mut programs = HashMap::from([(Program::Enter, program)]);
    match Links::attach(&programs, &Way::Multi { sessions: true }, &[request(own, &point)]) {
        Ok(links) if links.refused().is_empty() => Ok(programs.remove(&Program::Enter).map(|program| (program, links))),
        Ok(_) | Err(AttachError::KernelCannot { .. }) => Ok(None),
        Err(other) => Err(other),
    }
}

/// A point at a place of this process. A mint writes no record: nothing of the trial is seen but its hit in the counter.
pub(super) fn own_point(offset: FileOffset) -> AttachPoint {
    AttachPoint {
        role: Role::Mint,
        at: VirtAddr(0),
        offset,
        bytes: Vec::new(),
        cost: Cost::Emulated,
        vtable: None,
        register: Some(MintRegister(0)),
        far: 0,
        telling: 0,
    }
}

pub(super) fn request<'a>(own: &OwnPlace, point: &'a AttachPoint) -> ImageRequest<'a> {
    ImageRequest {
        scope: Scope::Process { pid: Pid(std::process::id()), target: 0 },
        path: Path::new(own.path),
        points: vec![(PointIndex(0), point)],
    }
}

/// The function the trial probes: called once, on purpose, and by nobody else.
#[inline(never)]
extern "C" fn trodden(n: u64) -> u64 {
    black_box(n).wrapping_add(1)
}

/// A place of this process in its file.
pub(super) struct OwnPlace {
    pub(super) path: &'static str,
    pub(super) offset: FileOffset,
}

/// Where the file at `path`, mapped into this process, has the code at `address`.
pub(super) fn own_file(path: &'static str, address: usize) -> Result<OwnPlace, AttachError> {
    let failed = |source| AttachError::System { what: "find the own executable", source };
    let maps = fs::read_to_string("/proc/self/maps").map_err(failed)?;
    let offset = maps.lines().find_map(|line| offset_in(line, address as u64));
    offset.map(|offset| OwnPlace { path, offset }).ok_or_else(|| failed(io::ErrorKind::NotFound.into()))
}

/// The file offset of `address`, if this line of a `maps` file covers it.
fn offset_in(line: &str, address: u64) -> Option<FileOffset> {
    let hex = |text| u64::from_str_radix(text, 16).ok();
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let (start, end, offset) = (hex(start)?, hex(end)?, hex(fields.nth(1)?)?);
    (start <= address && address < end).then(|| FileOffset(address - start + offset))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_found_by_the_mapping_that_covers_it() {
        let line = "55e000-560000 r-xp 00041000 fe:00 1234    /usr/bin/x";
        assert_eq!(offset_in(line, 0x55e010), Some(FileOffset(0x41010)));
        assert_eq!(offset_in(line, 0x560000), None);
        assert_eq!(offset_in("not a line", 0), None);
    }
}
