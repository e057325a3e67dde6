//! What images hold of a runtime: each looked at once, however many processes map it.
//!
//! Does not know: what a session does with it. What one session needs besides (a plan of probes) comes in as a function
//! that is called while the image's bytes are there.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use crate::model::{
    Bias, BuildId, FileOffset, ImageEntry, Missing, TargetEntry, TaskType, TypeEntry, TypeId, VirtAddr,
};
use crate::runtime::{self, Found, RuntimeImage};
use crate::symbols::{Image, ImageError};
use crate::target::{FileId, LoadSegment, Module, Process, TargetError};

use super::error::{SessionError, Unsupported};

/// What is known of one image, whoever maps it. `P` is what this session needs of it besides.
pub(super) struct Analysis<P> {
    segments: Vec<LoadSegment>,
    build_id: BuildId,
    stripped: bool,
    version: Option<String>,
    unstable: bool,
    pub(super) types: Vec<TaskType>,
    spawn_sites: usize,
    counters: Vec<VirtAddr>,
    pub(super) own: P,
}

/// The outcome of looking at one image.
pub(super) enum Looked<P> {
    Nothing,
    Unsupported(Unsupported),
    Runtime(Box<Analysis<P>>),
}

/// All images of a session.
pub(super) struct Images<'a, P> {
    known: HashMap<FileId, Looked<P>>,
    look: Look<'a, P>,
}

/// How an image is looked at.
struct Look<'a, P> {
    names: bool,
    progress: &'a dyn Fn(&str),
    own: &'a dyn Fn(&Image<'_>, &RuntimeImage) -> P,
}

impl<'a, P> Images<'a, P> {
    /// `names` is whether future types are to be named; `progress` is called with what is being done.
    pub(super) fn new(
        names: bool,
        progress: &'a dyn Fn(&str),
        own: &'a dyn Fn(&Image<'_>, &RuntimeImage) -> P,
    ) -> Self {
        Self { known: HashMap::new(), look: Look { names, progress, own } }
    }

    /// Looks at a process's images: calls `each` with every one that holds a supported runtime. What `each` refuses, and
    /// images that are not supported, are the reasons if nothing is left.
    pub(super) fn of_process(
        &mut self,
        process: &Process,
        mut each: impl FnMut(&Module, &Analysis<P>, &mut TargetEntry) -> Result<Result<(), Unsupported>, SessionError>,
    ) -> Result<TargetEntry, SessionError> {
        let mut entry = TargetEntry::new(process.pid(), process.exe().to_owned());
        let mut unsupported = Vec::new();
        for module in process.modules()? {
            let looked = match self.known.entry(module.file) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(free) => free.insert(self.look.at(&module, &mut entry.missing)?),
            };
            match looked {
                Looked::Nothing => {}
                Looked::Unsupported(reason) => unsupported.push(reason.clone()),
                Looked::Runtime(analysis) => {
                    if let Err(reason) = each(&module, analysis, &mut entry)? {
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

impl<P> Look<'_, P> {
    fn at(&self, module: &Module, missing: &mut Vec<Missing>) -> Result<Looked<P>, SessionError> {
        let bytes = match module.read() {
            Ok(bytes) => bytes,
            // Not the executable: what it might hold is missing, the rest can be observed.
            Err(error @ (TargetError::ModuleGone { .. } | TargetError::ModuleTooLarge { .. })) if !module.is_exe => {
                missing.push(Missing { event: "init", reason: format!("{error}; tasks of that image are not seen") });
                return Ok(Looked::Nothing);
            }
            Err(error) => return Err(error.into()),
        };
        let image = match Image::parse(&bytes) {
            Ok(image) => image,
            // Data files are mapped executable by some programs: no image, nothing missing.
            Err(ImageError::NotElf) if !module.is_exe => return Ok(Looked::Nothing),
            Err(reason) if module.is_exe => {
                return Ok(Looked::Unsupported(Unsupported::Image { path: module.path.clone(), reason }));
            }
            Err(reason) => {
                let reason = format!("{} is {reason}; tasks of that image are not seen", module.path);
                missing.push(Missing { event: "init", reason });
                return Ok(Looked::Nothing);
            }
        };
        (self.progress)(&format!("analysing {} ({} MiB)", module.path, bytes.len() >> 20));
        let mut found = match runtime::analyse(&image) {
            Found::Nothing => return Ok(Looked::Nothing),
            Found::TooOld { version, reason } => {
                let path = module.path.clone();
                return Ok(Looked::Unsupported(Unsupported::TooOld { path, version, reason }));
            }
            Found::Runtime(found) => found,
        };
        if self.names {
            runtime::name_types(&image, &mut found.types);
        }
        let segments = image.segments().iter().map(|segment| LoadSegment {
            offset: FileOffset(segment.file().start as u64),
            address: segment.start(),
            executable: segment.is_executable(),
        });
        let mut counters: Vec<VirtAddr> = found.mints.iter().map(|mint| mint.counter).collect();
        counters.sort_unstable();
        counters.dedup();
        Ok(Looked::Runtime(Box::new(Analysis {
            segments: segments.collect(),
            build_id: image.build_id().clone(),
            stripped: image.is_stripped(),
            version: found.version.as_ref().map(ToString::to_string),
            unstable: found.unstable,
            spawn_sites: found.births.len(),
            counters,
            own: (self.own)(&image, &found),
            types: found.types,
        })))
    }
}

impl<P> Analysis<P> {
    /// Where the module has it.
    pub(super) fn bias(&self, module: &Module) -> Result<Bias, Unsupported> {
        module.bias(&self.segments).ok_or_else(|| Unsupported::Unverified {
            path: module.path.clone(),
            reason: "its mappings do not fit its segments".to_owned(),
        })
    }

    /// The image as a target's entry lists it, with no points yet.
    pub(super) fn entry(&self, module: &Module, bias: Bias) -> ImageEntry {
        ImageEntry {
            path: module.path.clone(),
            build_id: self.build_id.clone(),
            version: self.version.clone(),
            unstable: self.unstable,
            stripped: self.stripped,
            bias,
            types: self.types.len(),
            spawn_sites: self.spawn_sites,
            points: 0,
            single_stepped: 0,
        }
    }

    /// Enters what stands at known addresses into the target: types and counters.
    pub(super) fn enter(&self, bias: Bias, types: impl IntoIterator<Item = TaskType>, target: &mut TargetEntry) {
        for task in types {
            let id = TypeId { build_id: self.build_id.clone(), vtable: task.vtable };
            target.types.insert(bias.to_process(task.vtable), TypeEntry { id, task });
        }
        target.counters.extend(self.counters.iter().map(|counter| bias.to_process(*counter)));
    }
}
