//! What images hold of a runtime: each looked at once, however many processes map it, whatever is wanted of it.
//!
//! Does not know: what a session does with it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use crate::model::{Analysis, Bias, ImageEntry, ImageFacts, Missing, TargetEntry, TaskType, TypeEntry, TypeId};
use crate::plan;
use crate::symbols::{Glance, Image, ImageError};
use crate::target::{FileId, Module, Process, TargetError};

use super::disk::{Caching, Disk, read_at};
use super::error::{SessionError, Unsupported};

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
    look: Look<'a>,
}

/// How an image is looked at.
struct Look<'a> {
    names: bool,
    disk: Disk,
    say: &'a dyn Fn(u8, &str),
}

impl<'a> Images<'a> {
    /// `names` is whether future types are to be named; `say` is called with what is being done, and the least verbosity
    /// at which that is worth saying.
    pub(super) fn new(names: bool, caching: &Caching, say: &'a dyn Fn(u8, &str)) -> Self {
        Self { known: HashMap::new(), look: Look { names, disk: Disk::new(caching), say } }
    }

    /// What the file of a module holds. What cannot be looked at and is not the executable is missing, and holds nothing.
    pub(super) fn of_module(&mut self, module: &Module, missing: &mut Vec<Missing>) -> Result<Looked, SessionError> {
        match self.known.entry(module.file) {
            Entry::Occupied(known) => Ok(known.get().clone()),
            Entry::Vacant(free) => Ok(free.insert(self.look.at(module, missing)?).clone()),
        }
    }

    /// Looks at a process's images: calls `each` with every one that holds a supported runtime. What `each` refuses, and
    /// images that are not supported, are the reasons if nothing is left.
    pub(super) fn of_process(
        &mut self,
        process: &Process,
        mut each: impl FnMut(&Module, &ImageFacts, &mut TargetEntry) -> Result<Result<(), Unsupported>, SessionError>,
    ) -> Result<TargetEntry, SessionError> {
        let mut entry = TargetEntry::new(process.pid(), process.exe().to_owned());
        let mut unsupported = Vec::new();
        for module in process.modules()? {
            match self.of_module(&module, &mut entry.missing)? {
                Looked::Nothing => {}
                Looked::Unsupported(reason) => unsupported.push(reason),
                Looked::Runtime(facts) => {
                    if let Err(reason) = each(&module, &facts, &mut entry)? {
                        unsupported.push(reason);
                    }
                }
            }
        }
        if entry.images.is_empty() {
            return Err(SessionError::Nothing { pid: entry.pid, exe: entry.exe, reasons: unsupported });
        }
        for reason in unsupported {
            if let Unsupported::TooOld { path, version, reason } = reason {
                let reason = format!("{path} holds tokio {version} besides: {reason}");
                entry.missing.push(Missing { event: "init", reason });
            }
        }
        Ok(entry)
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
        let key = glance.and_then(|glance| self.disk.key(&glance, &file, self.names));
        if let Some(analysis) = key.as_ref().and_then(|key| self.disk.find(key, &file, &module.path, self.say)) {
            (self.say)(2, &format!("{} is known from before", module.path));
            return Ok(Ok(analysis));
        }
        let bytes = module.read_file(&file)?;
        let image = match Image::parse(&bytes) {
            Ok(image) => image,
            Err(reason) => return Ok(Err(reason)),
        };
        (self.say)(2, &format!("analysing {} ({} MiB)", module.path, bytes.len() >> 20));
        let analysis = plan::analyse(&image, self.names);
        if let Some(key) = key {
            self.disk.keep(&key, &analysis, &bytes, self.say);
        }
        Ok(Ok(analysis))
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

/// The image as a target's entry lists it, with no points yet.
pub(super) fn listed(facts: &ImageFacts, module: &Module, bias: Bias) -> ImageEntry {
    ImageEntry {
        path: module.path.clone(),
        build_id: facts.build_id.clone(),
        version: facts.version.clone(),
        unstable: facts.unstable,
        stripped: facts.stripped,
        bias,
        types: facts.types.len(),
        spawn_sites: facts.spawn_sites,
        points: 0,
        single_stepped: 0,
    }
}

/// Enters what stands at known addresses into the target: types and counters.
pub(super) fn enter(
    facts: &ImageFacts,
    bias: Bias,
    types: impl IntoIterator<Item = TaskType>,
    target: &mut TargetEntry,
) {
    for task in types {
        let id = TypeId { build_id: facts.build_id.clone(), vtable: task.vtable };
        target.types.insert(bias.to_process(task.vtable), TypeEntry { id, task });
    }
    target.counters.extend(facts.counters.iter().map(|counter| bias.to_process(*counter)));
}
