//! The setup arm: from processes to a catalog and verified points. Nothing is attached here.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use crate::lifecycle::PanicSight;
use crate::model::{
    AttachPoint, Catalog, EventSet, FileOffset, ImageEntry, Missing, Pid, PointEntry, PointIndex, TargetEntry,
    TaskType, TypeEntry, TypeId,
};
use crate::plan::{ImagePlan, plan};
use crate::runtime::{self, Found, Raises};
use crate::symbols::{Image, ImageError};
use crate::target::{FileId, LoadSegment, MemoryError, Module, Process, TargetError};

use super::error::{SessionError, Unsupported};
use super::verify::{Verified, keep_verified};

/// What is known of one image, whoever maps it.
struct Analysis {
    segments: Vec<LoadSegment>,
    build_id: crate::model::BuildId,
    stripped: bool,
    version: Option<String>,
    unstable: bool,
    types: Vec<TaskType>,
    spawn_sites: usize,
    panics: PanicSight,
    plan: ImagePlan,
}

/// The outcome of looking at one image.
enum Looked {
    Nothing,
    Unsupported(Unsupported),
    Runtime(Box<Analysis>),
}

/// One image to attach to.
pub(super) struct Attachment {
    pub(super) target: u16,
    pub(super) pid: Pid,
    pub(super) path: PathBuf,
    pub(super) points: Vec<PointIndex>,
}

/// What the setup arm ends in, before attaching.
pub(super) struct Setup {
    pub(super) catalog: Catalog,
    pub(super) attachments: Vec<Attachment>,
    pub(super) panics: PanicSight,
    /// Spawn sites are among the points.
    pub(super) births: bool,
}

/// How images are looked at.
pub(super) struct Looking<'a> {
    pub(super) events: EventSet,
    pub(super) names: bool,
    /// Called with what is being done, for a progress line.
    pub(super) progress: &'a dyn Fn(&str),
}

/// Looks at all targets. Fails if one of them has nothing to observe.
pub(super) fn set_up(processes: &[Arc<Process>], looking: &Looking<'_>) -> Result<Setup, SessionError> {
    let mut images: HashMap<FileId, Looked> = HashMap::new();
    let mut setup = Setup {
        catalog: Catalog::default(),
        attachments: Vec::new(),
        panics: PanicSight::Aborts,
        births: looking.events.init,
    };
    for (number, process) in processes.iter().enumerate() {
        let target = u16::try_from(number).map_err(|_| SessionError::System {
            what: "observe more than 65535 processes at once",
            source: std::io::ErrorKind::InvalidInput.into(),
        })?;
        one_target(target, process, looking, &mut images, &mut setup)?;
    }
    Ok(setup)
}

fn one_target(
    target: u16,
    process: &Process,
    looking: &Looking<'_>,
    images: &mut HashMap<FileId, Looked>,
    setup: &mut Setup,
) -> Result<(), SessionError> {
    let mut entry = TargetEntry {
        pid: process.pid(),
        exe: process.exe().to_owned(),
        images: Vec::new(),
        types: HashMap::new(),
        missing: Vec::new(),
    };
    let mut unsupported = Vec::new();
    for module in process.modules()? {
        let looked = match images.entry(module.file) {
            std::collections::hash_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::hash_map::Entry::Vacant(free) => free.insert(look(&module, looking, &mut entry.missing)?),
        };
        match looked {
            Looked::Nothing => {}
            Looked::Unsupported(reason) => unsupported.push(reason.clone()),
            Looked::Runtime(analysis) => {
                if let Err(reason) = one_image(target, process, &module, analysis, &mut entry, setup)? {
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
    setup.catalog.targets.push(entry);
    Ok(())
}

fn one_image(
    target: u16,
    process: &Process,
    module: &Module,
    analysis: &Analysis,
    entry: &mut TargetEntry,
    setup: &mut Setup,
) -> Result<Result<(), Unsupported>, SessionError> {
    let refused = |reason: String| Ok(Err(Unsupported::Unverified { path: module.path.clone(), reason }));
    let Some(bias) = module.bias(&analysis.segments) else {
        return refused("its mappings do not fit its segments".to_owned());
    };
    let mut points: Vec<AttachPoint> = analysis.plan.points.clone();
    let verified = keep_verified(&mut points, bias, &process.memory()).map_err(|error| unreadable(process, error))?;
    if points.is_empty() {
        return refused("no point's memory equals the file".to_owned());
    }
    entry.missing.extend(analysis.plan.missing.iter().cloned());
    entry.missing.extend(differing(module, verified));
    setup.panics = weaker(setup.panics, analysis.panics);
    let image = entry.images.len();
    entry.images.push(ImageEntry {
        path: module.path.clone(),
        build_id: analysis.build_id.clone(),
        version: analysis.version.clone(),
        unstable: analysis.unstable,
        stripped: analysis.stripped,
        bias,
        types: analysis.types.len(),
        spawn_sites: analysis.spawn_sites,
        points: points.len(),
        single_stepped: points.iter().filter(|point| point.cost == crate::model::Cost::SingleStepped).count(),
    });
    for task in &analysis.types {
        let id = TypeId { build_id: analysis.build_id.clone(), vtable: task.vtable };
        entry.types.insert(bias.to_process(task.vtable), TypeEntry { id, task: task.clone() });
    }
    let first = setup.catalog.points.len() as u32;
    let indices = (first..).map(PointIndex).take(points.len()).collect();
    setup.catalog.points.extend(points.into_iter().map(|point| PointEntry { image, point }));
    let path = module.attach_path()?;
    setup.attachments.push(Attachment { target, pid: process.pid(), path, points: indices });
    Ok(Ok(()))
}

fn look(module: &Module, looking: &Looking<'_>, missing: &mut Vec<Missing>) -> Result<Looked, SessionError> {
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
    (looking.progress)(&format!("analysing {} ({} MiB)", module.path, bytes.len() >> 20));
    let mut found = match runtime::analyse(&image) {
        Found::Nothing => return Ok(Looked::Nothing),
        Found::TooOld { version, reason } => {
            let path = module.path.clone();
            return Ok(Looked::Unsupported(Unsupported::TooOld { path, version, reason }));
        }
        Found::Runtime(found) => found,
    };
    if looking.names {
        runtime::name_types(&image, &mut found.types);
    }
    Ok(Looked::Runtime(Box::new(Analysis {
        segments: image
            .segments()
            .iter()
            .map(|segment| LoadSegment {
                offset: FileOffset(segment.file().start as u64),
                address: segment.start(),
                executable: segment.is_executable(),
            })
            .collect(),
        build_id: image.build_id().clone(),
        stripped: image.is_stripped(),
        version: found.version.as_ref().map(ToString::to_string),
        unstable: found.unstable,
        spawn_sites: found.births.len(),
        panics: match &found.raises {
            Raises::At(sites) if !sites.is_empty() && looking.events.resolve => PanicSight::Probed,
            Raises::Aborts => PanicSight::Aborts,
            Raises::At(_) | Raises::Elsewhere(_) | Raises::NotFound => PanicSight::Unseen,
        },
        plan: plan(&image, &found, looking.events),
        types: found.types,
    })))
}

/// With several images, what can be said of panics is what the worst of them allows.
fn weaker(one: PanicSight, other: PanicSight) -> PanicSight {
    use PanicSight::{Aborts, Probed, Unseen};
    match (one, other) {
        (Unseen, _) | (_, Unseen) => Unseen,
        (Probed, _) | (_, Probed) => Probed,
        (Aborts, Aborts) => Aborts,
    }
}

fn differing(module: &Module, verified: Verified) -> Option<Missing> {
    (verified.differing > 0).then(|| Missing {
        event: "init",
        reason: format!(
            "at {} of {} points the memory of {} differs from its file (something else patched it): no probe was planted there",
            verified.differing,
            verified.differing + verified.equal,
            module.path
        ),
    })
}

fn unreadable(process: &Process, error: MemoryError) -> SessionError {
    let pid = process.pid();
    SessionError::Target(match error {
        MemoryError::Vanished { .. } => TargetError::Vanished { pid },
        MemoryError::NotPermitted { capability, .. } => TargetError::NotPermitted {
            pid,
            what: "memory".to_owned(),
            capability,
            source: std::io::ErrorKind::PermissionDenied.into(),
        },
        MemoryError::Io { source, .. } => TargetError::Io { pid, what: "memory".to_owned(), source },
        MemoryError::Partial { at, .. } => {
            TargetError::Malformed { pid, what: "memory", reason: format!("{at} is not readable") }
        }
    })
}
