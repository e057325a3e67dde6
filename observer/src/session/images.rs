//! What images hold of a runtime: each looked at once, however many processes map it, whatever is wanted of it.
//!
//! Does not know: what a session does with it.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::model::{
    Analysis, AttachPoint, Bias, EventSet, FileId, ImageEntry, ImageFacts, Missing, PanicPlaces, PanicSight,
    PointIndex, PointMap, TypeEntry, TypeId, VirtAddr,
};
use crate::plan;
use crate::symbols::{AltLink, DebugLink, Glance, Image, ImageError, Skeletons};
use crate::target::{Module, TargetError};

use super::apart::{Apart, Candidates};
use super::debug_files::{DebugFile, Names};
use super::disk::{Caching, Disk, read_at};
use super::error::{SessionError, Unsupported};
use super::split_files::is_still_missed;
use super::unread::say_unread;

/// The outcome of looking at one image.
#[derive(Clone, Debug)]
pub(super) enum Looked {
    Nothing,
    Unsupported(Unsupported),
    Runtime(Arc<ImageFacts>),
}

/// All images of a session.
pub(super) struct Images<'a> {
    known: HashMap<FileId, Looked>,
    shared: HashMap<FileId, Arc<ImageEntry>>,
    look: Look<'a>,
}

/// How an image is looked at.
struct Look<'a> {
    names: Names,
    disk: Disk,
    say: &'a dyn Fn(u8, &str),
}

impl<'a> Images<'a> {
    /// `names` is whether future types are to be named; `say` is called with what is being done, and the least verbosity
    /// at which that is worth saying.
    pub(super) fn new(names: Names, caching: &Caching, say: &'a dyn Fn(u8, &str)) -> Self {
        let look = Look { names, disk: Disk::new(caching), say };
        Self { known: HashMap::new(), shared: HashMap::new(), look }
    }

    /// Whether types are named, and by which files.
    pub(super) fn names(&self) -> &Names {
        &self.look.names
    }

    /// Whether it is known that this file holds nothing that is looked at without being named.
    pub(super) fn holds_nothing(&self, file: FileId) -> bool {
        match self.known.get(&file) {
            Some(Looked::Nothing) => true,
            Some(Looked::Runtime(facts)) => facts.observer,
            Some(Looked::Unsupported(_)) | None => false,
        }
    }

    /// What the file of a module holds. What cannot be looked at and is not the executable is missing, and holds nothing.
    pub(super) fn of_module(&mut self, module: &Module, missing: &mut Vec<Missing>) -> Result<Looked, SessionError> {
        match self.known.entry(module.file) {
            Entry::Occupied(known) => Ok(known.get().clone()),
            Entry::Vacant(free) => Ok(free.insert(self.look.at(module, missing)?).clone()),
        }
    }
}

impl Images<'_> {
    /// The image as every process has it that is only looked at: without points.
    pub(super) fn shared(&mut self, file: FileId, facts: &ImageFacts) -> Arc<ImageEntry> {
        let entry = || Arc::new(entry_of(facts, Vec::new(), EventSet::NONE));
        Arc::clone(self.shared.entry(file).or_insert_with(entry))
    }
}

impl Look<'_> {
    fn at(&mut self, module: &Module, missing: &mut Vec<Missing>) -> Result<Looked, SessionError> {
        match self.analysis(module) {
            Ok(Ok(analysis)) => Ok(Looked::of(module, analysis)),
            // Data files are mapped executable by some programs: no image, nothing missing.
            Ok(Err(ImageError::NotElf)) if !module.is_exe => Ok(Looked::Nothing),
            Ok(Err(reason)) if module.is_exe => {
                Ok(Looked::Unsupported(Unsupported::Image { path: module.path.clone(), reason }))
            }
            Ok(Err(reason)) => {
                let reason = format!("{} is {reason}; tasks of that image are not seen", module.path);
                missing.push(Missing { event: "init", reason });
                Ok(Looked::Nothing)
            }
            // Not the executable: what it might hold is missing, the rest can be observed.
            Err(error @ (TargetError::ModuleGone { .. } | TargetError::ModuleTooLarge { .. })) if !module.is_exe => {
                missing.push(Missing { event: "init", reason: format!("{error}; tasks of that image are not seen") });
                Ok(Looked::Nothing)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// What is known of the image, or found out now by reading it whole.
    fn analysis(&mut self, module: &Module) -> Result<Result<Analysis, ImageError>, TargetError> {
        let file = module.file()?;
        let glance = match Glance::of(|range| read_at(&file, range)) {
            Ok(glance) => glance,
            Err(reason) => return Ok(Err(reason)),
        };
        let id = glance.as_ref().and_then(|glance| glance.build_id.as_ref());
        let link = self.names.are_wanted().then(|| DebugLink::of(|range| read_at(&file, range))).flatten();
        let debug = DebugFile::all(&self.names, module, id, link.as_ref());
        let packages = DebugFile::packages(&self.names, module, &debug);
        let names = self.names.are_wanted();
        let apart = debug.iter().chain(&packages).map(|file| file.state).collect();
        let key = glance.and_then(|glance| self.disk.key(&glance, &file, names, apart));
        if let Some(analysis) = key.as_ref().and_then(|key| self.disk.find(key, &file, &module.path, self.say)) {
            if self.is_all_that_can_be_known(&analysis, module) {
                (self.say)(2, &format!("{} is known from before", module.path));
                return Ok(Ok(analysis));
            }
            let why = "debug information that was missing may be there now";
            (self.say)(2, &format!("what was known of {} is not used: {why}", module.path));
        }
        let bytes = module.read_file(&file)?;
        let image = match Image::parse(&bytes) {
            Ok(image) => image,
            Err(reason) => return Ok(Err(reason)),
        };
        (self.say)(2, &format!("analysing {} ({} MiB)", module.path, bytes.len() >> 20));
        let has_all = || !Skeletons::are_in(&bytes) && AltLink::of(&bytes).is_none();
        let is_whole = !names || debug.is_empty() && packages.is_empty() && has_all();
        let mut analysis = plan::analyse(&image, names && is_whole);
        if names && is_whole && matches!(analysis, Analysis::Runtime(_)) {
            say_unread(&image, module, self.say);
        }
        // Most images hold no runtime, and their debug information is large.
        if matches!(analysis, Analysis::Runtime(_)) && !is_whole {
            let apart = Apart::among(Candidates { debug, packages }, (&self.names, module), &image, self.say);
            let image = apart.given_to(image);
            analysis = plan::analyse(&image, names);
            if names {
                say_unread(&image, module, self.say);
            }
            let Some(missed) = apart.missed() else { return Ok(Ok(analysis)) };
            if let Analysis::Runtime(facts) = &mut analysis {
                facts.missed = missed;
            }
        }
        if let Some(key) = key {
            self.disk.keep(&key, &analysis, &bytes, self.say);
        }
        Ok(Ok(analysis))
    }

    /// Whether nothing has come that would tell more.
    fn is_all_that_can_be_known(&self, analysis: &Analysis, module: &Module) -> bool {
        let Analysis::Runtime(facts) = analysis else { return true };
        is_still_missed(&facts.missed, &self.names, module)
    }
}

impl Looked {
    fn of(module: &Module, analysis: Analysis) -> Self {
        match analysis {
            Analysis::Nothing => Self::Nothing,
            Analysis::TooOld { version, reason } => {
                Self::Unsupported(Unsupported::TooOld { path: module.path.clone(), version, reason })
            }
            Analysis::Runtime(facts) => Self::Runtime(Arc::from(facts)),
        }
    }
}

/// Where the module has an image with these facts.
pub(super) fn bias(facts: &ImageFacts, module: &Module) -> Result<Bias, Unsupported> {
    module.bias(&facts.segments).ok_or_else(|| Unsupported::Unverified {
        path: module.path.clone(),
        reason: "its mappings do not fit its segments".to_owned(),
    })
}

/// The image as a catalog has it, with these points, if these events are wanted.
pub(super) fn entry_of(facts: &ImageFacts, points: Vec<AttachPoint>, wanted: EventSet) -> ImageEntry {
    let born: HashSet<VirtAddr> = points.iter().filter_map(|point| point.vtable).collect();
    let types = facts.types.iter().map(|task| {
        let id = TypeId { build_id: facts.build_id.clone(), vtable: task.vtable };
        (task.vtable, TypeEntry { id, task: task.clone(), births: born.contains(&task.vtable) })
    });
    ImageEntry {
        build_id: facts.build_id.clone(),
        version: facts.version.clone(),
        unstable: facts.unstable,
        stripped: facts.stripped,
        types: types.collect(),
        spawn_sites: facts.spawn_sites,
        counters: facts.counters.clone(),
        panics: match facts.plan.panics {
            PanicPlaces::Found if wanted.resolve => PanicSight::Probed,
            PanicPlaces::Aborts => PanicSight::Aborts,
            PanicPlaces::Found | PanicPlaces::Elsewhere(_) | PanicPlaces::NotFound => PanicSight::Unseen,
        },
        first_point: PointIndex(0),
        points,
        places: PointMap::default(),
    }
}
