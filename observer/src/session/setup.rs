//! The setup arm: from processes to a catalog and verified points. Nothing is attached here.

use std::path::PathBuf;
use std::sync::Arc;

use crate::attach::{ImageRequest, Scope};
use crate::lifecycle::PanicSight;
use crate::model::{AttachPoint, Catalog, Cost, EventSet, Missing, Pid, PointEntry, PointIndex, PollBody, TargetEntry};
use crate::plan::{ImagePlan, plan};
use crate::runtime::{Raises, RuntimeImage, poll_bodies};
use crate::target::{Module, Process};
use crate::unwind::Poll;

use super::error::{SessionError, Unsupported};
use super::images::{Analysis, Images};
use super::verify::{Verified, keep_verified};

/// What a stream needs of an image.
struct Probing {
    panics: PanicSight,
    plan: ImagePlan,
    /// Empty unless spawners are wanted.
    polls: Vec<PollBody>,
}

/// One image to attach to.
pub(super) struct Attachment {
    pub(super) target: u16,
    pub(super) pid: Pid,
    pub(super) path: PathBuf,
    pub(super) points: Vec<PointIndex>,
}

impl Attachment {
    /// As it is asked for.
    pub(super) fn request<'a>(&'a self, catalog: &'a Catalog) -> ImageRequest<'a> {
        let points = self.points.iter().filter_map(|index| Some((*index, &catalog.point(*index)?.point)));
        ImageRequest {
            scope: Scope::Process { pid: self.pid, target: self.target },
            path: &self.path,
            points: points.collect(),
        }
    }
}

impl Catalog {
    /// Enters every point into its target's map by address.
    pub(super) fn place_points(&mut self, attachments: &[Attachment]) {
        for attachment in attachments {
            let Some(target) = self.targets.get_mut(usize::from(attachment.target)) else { continue };
            for index in &attachment.points {
                let Some(PointEntry { image, point }) = self.points.get(index.0 as usize) else { continue };
                let Some(bias) = target.images.get(*image).map(|image| image.bias) else { continue };
                target.places.insert(bias, *index, point);
            }
        }
    }
}

/// What the setup arm ends in, before attaching.
pub(super) struct Setup {
    pub(super) catalog: Catalog,
    pub(super) attachments: Vec<Attachment>,
    pub(super) panics: PanicSight,
    /// Spawn sites are among the points.
    pub(super) births: bool,
    /// By target: where its tasks' polls are, if spawners are wanted.
    pub(super) polls: Vec<Vec<Poll>>,
}

/// How images are looked at.
pub(super) struct Looking<'a> {
    pub(super) events: EventSet,
    pub(super) names: bool,
    /// Births are to be reported with their spawners.
    pub(super) spawners: bool,
    /// Called with what is being done, for a progress line.
    pub(super) progress: &'a dyn Fn(&str),
}

/// Looks at all targets. Fails if one of them has nothing to observe.
pub(super) fn set_up(processes: &[Arc<Process>], looking: &Looking<'_>) -> Result<Setup, SessionError> {
    let probing = |image: &crate::symbols::Image<'_>, found: &RuntimeImage| Probing {
        panics: panic_sight(&found.raises, looking.events),
        plan: plan(image, found, looking.events),
        polls: if looking.spawners { poll_bodies(image, &found.types) } else { Vec::new() },
    };
    let mut images = Images::new(looking.names, looking.progress, &probing);
    let mut setup = Setup {
        catalog: Catalog::default(),
        attachments: Vec::new(),
        panics: PanicSight::Aborts,
        births: looking.events.init,
        polls: Vec::new(),
    };
    for (number, process) in processes.iter().enumerate() {
        let target = u16::try_from(number).map_err(|_| SessionError::System {
            what: "observe more than 65535 processes at once",
            source: std::io::ErrorKind::InvalidInput.into(),
        })?;
        setup.polls.push(Vec::new());
        let one = |module: &Module, analysis: &Analysis<Probing>, entry: &mut TargetEntry| {
            one_image(target, process, module, analysis, entry, &mut setup)
        };
        let entry = images.of_process(process, one)?;
        setup.catalog.targets.push(entry);
    }
    Ok(setup)
}

fn one_image(
    target: u16,
    process: &Process,
    module: &Module,
    analysis: &Analysis<Probing>,
    entry: &mut TargetEntry,
    setup: &mut Setup,
) -> Result<Result<(), Unsupported>, SessionError> {
    let bias = match analysis.bias(module) {
        Ok(bias) => bias,
        Err(refused) => return Ok(Err(refused)),
    };
    let Probing { panics, plan, polls } = &analysis.own;
    let mut points: Vec<AttachPoint> = plan.points.clone();
    let memory = process.memory();
    let verified =
        keep_verified(&mut points, bias, &memory).map_err(|error| SessionError::memory(process.pid(), error))?;
    if points.is_empty() {
        let reason = "no point's memory equals the file".to_owned();
        return Ok(Err(Unsupported::Unverified { path: module.path.clone(), reason }));
    }
    entry.missing.extend(plan.missing.iter().cloned());
    entry.missing.extend(differing(module, verified));
    setup.panics = weaker(setup.panics, *panics);
    let image = entry.images.len();
    let mut listed = analysis.entry(module, bias);
    listed.points = points.len();
    listed.single_stepped = points.iter().filter(|point| point.cost == Cost::SingleStepped).count();
    entry.images.push(listed);
    analysis.enter(bias, analysis.types.iter().cloned(), entry);
    if let Some(of_target) = setup.polls.last_mut() {
        of_target.extend(polls.iter().map(|body| Poll {
            start: bias.to_process(body.code.start),
            end: bias.to_process(body.code.end),
            vtables: body.vtables.iter().map(|vtable| bias.to_process(*vtable)).collect(),
            align: body.align,
            worker: body.worker,
        }));
    }
    let first = setup.catalog.points.len() as u32;
    let indices = (first..).map(PointIndex).take(points.len()).collect();
    setup.catalog.points.extend(points.into_iter().map(|point| PointEntry { image, point }));
    let path = module.attach_path()?;
    setup.attachments.push(Attachment { target, pid: process.pid(), path, points: indices });
    Ok(Ok(()))
}

fn panic_sight(raises: &Raises, events: EventSet) -> PanicSight {
    match raises {
        Raises::At(sites) if !sites.is_empty() && events.resolve => PanicSight::Probed,
        Raises::Aborts => PanicSight::Aborts,
        Raises::At(_) | Raises::Elsewhere(_) | Raises::NotFound => PanicSight::Unseen,
    }
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
