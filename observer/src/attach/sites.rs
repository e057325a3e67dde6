//! Where probes are wanted: images, points, and the sites that go into one link.
//!
//! Does not know how a link is made.

use std::collections::BTreeMap;
use std::path::Path;

use observer_common::Cookie;

use crate::model::{AttachPoint, Pid, PointIndex, Program};

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

/// Offsets and cookies of one link, and whose they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sites {
    pub(super) offsets: Vec<u64>,
    pub(super) cookies: Vec<u64>,
    pub(super) points: Vec<PointIndex>,
}

impl Scope {
    /// The process, if it is for one.
    pub(super) fn pid(self) -> Option<Pid> {
        match self {
            Self::Process { pid, .. } => Some(pid),
            Self::Everyone => None,
        }
    }

    /// The process, if it is for one that has ended.
    pub(super) fn ended(self) -> Option<Pid> {
        self.pid().filter(|pid| !super::error::is_alive(*pid))
    }

    /// As cookies name it.
    fn target(self) -> u16 {
        match self {
            Self::Process { target, .. } => target,
            Self::Everyone => Cookie::BY_PROCESS,
        }
    }
}

impl Sites {
    /// Those of a request that want this program.
    pub(super) fn of(request: &ImageRequest<'_>, program: Program) -> Self {
        let mut sites = Self::default();
        for (index, point) in &request.points {
            if point.role.programs().contains(&program) {
                sites.push(point.offset.0, point.cookie(request.scope.target(), *index).to_u64(), *index);
            }
        }
        sites
    }

    /// Parted into those that can share a cookie, which then names no point; nor do programs, which report each moment of a
    /// call then, ask for more than the id that is taken. A place is taken once: whose of two points it
    /// is could not be told from its address, and it is the first's.
    pub(super) fn by_cookie(self, program: Program) -> Vec<Self> {
        let mut classes: BTreeMap<u64, Self> = BTreeMap::new();
        for ((offset, cookie), point) in self.offsets.into_iter().zip(self.cookies).zip(self.points) {
            let cookie = Cookie::from_u64(cookie);
            let takes_id = matches!(program, Program::Mint | Program::Birth | Program::Spawn);
            let register = if takes_id { cookie.register } else { 0 };
            let cookie = Cookie { point: Cookie::BY_ADDRESS, register, ..cookie }.to_u64();
            let class = classes.entry(cookie).or_default();
            if !class.offsets.contains(&offset) {
                class.push(offset, cookie, point);
            }
        }
        classes.into_values().collect()
    }

    /// Two halves, or the point if there is only one.
    pub(super) fn halve(mut self) -> Result<(Self, Self), PointIndex> {
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

    fn push(&mut self, offset: u64, cookie: u64, point: PointIndex) {
        self.offsets.push(offset);
        self.cookies.push(cookie);
        self.points.push(point);
    }
}

#[cfg(test)]
mod tests {
    use observer_common::MintRegister;

    use super::*;
    use crate::model::{Cost, FileOffset, Role, VirtAddr};

    #[test]
    fn sites_without_cookies_of_their_own_are_parted_by_what_the_programs_must_be_told() {
        let mint = |offset, register, far| AttachPoint {
            role: Role::Mint,
            at: VirtAddr(0),
            offset: FileOffset(offset),
            bytes: vec![],
            cost: Cost::Emulated,
            vtable: None,
            register: Some(MintRegister(register)),
            far,
            telling: 0,
        };
        let points = [mint(1, 0, 0), mint(2, 3, 0), mint(3, 0, 0), mint(4, 0, 9), mint(1, 0, 0)];
        let points = points.iter().enumerate().map(|(n, point)| (PointIndex(n as u32), point)).collect();
        let request = ImageRequest { scope: Scope::Everyone, path: Path::new("/x"), points };
        let classes = Sites::of(&request, Program::Mint).by_cookie(Program::Mint);
        let parted: Vec<(Vec<u64>, Vec<u32>)> = classes
            .iter()
            .map(|sites| (sites.offsets.clone(), sites.points.iter().map(|point| point.0).collect()))
            .collect();
        assert_eq!(parted, [(vec![1, 3], vec![0, 2]), (vec![2], vec![1]), (vec![4], vec![3])]);
        let cookie = |register, far| Cookie { point: u32::MAX, target: u16::MAX, register, far }.to_u64();
        let cookies: Vec<u64> = classes.iter().map(|sites| sites.cookies[0]).collect();
        assert_eq!(cookies, [cookie(0, 0), cookie(3, 0), cookie(0, 9)]);
    }
}
