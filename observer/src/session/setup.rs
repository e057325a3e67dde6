//! The setup arm for processes that are named: from processes to a catalog and verified points. Nothing is attached here.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use crate::attach::{ImageRequest, Refused, Scope};
use crate::model::{
    AttachPoint, Bias, Catalog, EventSet, FileId, ImageEntry, ImageFacts, MappedImage, Missing, PointIndex, PollBody,
    TargetEntry, TargetId,
};
use crate::plan::{Chosen, Slow, choose, choose_spawns};
use crate::target::Process;
use crate::unwind::Poll;

use super::candidate::{Candidate, Use};
use super::error::{SessionError, Unsupported};
use super::held::{Runner, by_descriptor};
use super::images::{Images, entry_of};
use super::verify::{Verified, keep_verified};

/// One image, the points wanted in it, and the processes they are wanted for.
pub(super) struct Attachment {
    pub(super) file: FileId,
    pub(super) facts: Arc<ImageFacts>,
    pub(super) image: Arc<ImageEntry>,
    /// Its path, as a process that maps it shows it.
    pub(super) name: String,
    /// The very file.
    pub(super) opened: File,
    /// Where it is found while it is open.
    path: PathBuf,
    pub(super) runners: Vec<Runner>,
}

impl Attachment {
    /// As it is asked for: with the filter of a link of its own for each process.
    pub(super) fn requests(&self) -> impl Iterator<Item = ImageRequest<'_>> {
        self.runners.iter().map(|runner| ImageRequest {
            scope: Scope::Process { pid: runner.pid, target: runner.slot },
            path: &self.path,
            points: numbered(&self.image),
        })
    }
}

/// An image's points with their numbers.
pub(super) fn numbered(image: &ImageEntry) -> Vec<(PointIndex, &AttachPoint)> {
    (image.first_point.0..).map(PointIndex).zip(&image.points).collect()
}

/// What the setup arm ends in, before attaching.
pub(super) struct Setup {
    pub(super) catalog: Catalog,
    pub(super) attachments: Vec<Attachment>,
    /// In the order in which the processes were given, which is also that of their slots.
    pub(super) targets: Vec<TargetId>,
    /// Where its tasks' polls are, by target, if spawners are wanted.
    pub(super) polls: HashMap<TargetId, Vec<Poll>>,
}

/// What of the targets' images is wanted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Looking {
    pub(super) events: EventSet,
    /// What becomes of hot points that are slow.
    pub(super) slow: Slow,
    /// Instead of events, spawns are to be reported with their spawners.
    pub(super) spawners: bool,
}

/// Looks at all targets. Fails if one of them has nothing to observe.
pub(super) fn set_up(
    processes: &[Arc<Process>],
    images: &mut Images<'_>,
    looking: Looking,
) -> Result<Setup, SessionError> {
    let mut candidates = Vec::with_capacity(processes.len());
    for process in processes {
        candidates.push(Candidate::of(process, images)?);
    }
    let mut catalog = Catalog::default();
    let mut attachments = BTreeMap::new();
    for candidate in 0..candidates.len() {
        for n in 0..candidates[candidate].uses.len() {
            let Use { module, facts, .. } = &candidates[candidate].uses[n];
            let (file, facts) = (module.file, Arc::clone(facts));
            if attachments.contains_key(&file) {
                continue;
            }
            let (name, opened) = (module.path.clone(), module.file()?);
            let Some(points) = verified_points(file, &facts, looking, &mut candidates)? else { continue };
            let image = catalog.add_image(entry_of(&facts, points, looking.events));
            let path = by_descriptor(&opened);
            attachments.insert(file, Attachment { file, name, facts, image, opened, path, runners: Vec::new() });
        }
    }
    let (mut targets, mut polls) = (Vec::new(), HashMap::new());
    for (number, candidate) in candidates.into_iter().enumerate() {
        let slot = u16::try_from(number).ok().filter(|slot| *slot < u16::MAX).ok_or_else(|| SessionError::System {
            what: "observe more than 65534 named processes at once",
            source: std::io::ErrorKind::InvalidInput.into(),
        })?;
        let (entry, of_target) = settle(candidate, slot, &mut attachments)?;
        let target = catalog.begin(entry);
        catalog.put_in_slot(slot, target);
        targets.push(target);
        if looking.spawners {
            polls.insert(target, of_target);
        }
    }
    Ok(Setup { catalog, attachments: attachments.into_values().collect(), targets, polls })
}

/// The target's entry, once it is clear which images are observed; and where the polls of its tasks are.
fn settle(
    mut candidate: Candidate<'_>,
    slot: u16,
    attachments: &mut BTreeMap<FileId, Attachment>,
) -> Result<(TargetEntry, Vec<Poll>), SessionError> {
    let mut polls = Vec::new();
    for Use { module, facts, bias } in std::mem::take(&mut candidate.uses) {
        let Some(attachment) = attachments.get_mut(&module.file) else {
            let reason = "no point's memory equals the file".to_owned();
            candidate.refused.push(Unsupported::Unverified { path: module.path, reason });
            continue;
        };
        attachment.runners.push(Runner { pid: candidate.process.pid(), slot });
        let image = Arc::clone(&attachment.image);
        candidate.entry.images.push(MappedImage { image, path: module.path, bias });
        polls.extend(facts.polls.iter().map(|body| poll(body, bias)));
    }
    Ok((candidate.into_entry()?, polls))
}

/// Where the code of a task's poll is in a process.
pub(super) fn poll(body: &PollBody, bias: Bias) -> Poll {
    Poll {
        start: bias.to_process(body.code.start),
        end: bias.to_process(body.code.end),
        vtables: body.vtables.iter().map(|vtable| bias.to_process(*vtable)).collect(),
        align: body.align,
        worker: body.worker,
    }
}

/// The image's points at which the memory of every process that has it equals the file; `None` where there are none.
fn verified_points(
    file: FileId,
    facts: &ImageFacts,
    looking: Looking,
    candidates: &mut [Candidate<'_>],
) -> Result<Option<Vec<AttachPoint>>, SessionError> {
    let Chosen { mut points, missing } = match looking.spawners {
        true => choose_spawns(&facts.plan, looking.slow),
        false => choose(&facts.plan, &facts.types, looking.events, looking.slow),
    };
    // Where nothing was planned, what is missing says why.
    let planned = !points.is_empty();
    for candidate in candidates.iter_mut() {
        for Use { module, bias, .. } in candidate.uses.iter().filter(|used| used.module.file == file) {
            let memory = candidate.process.memory();
            let verified = keep_verified(&mut points, *bias, &memory)
                .map_err(|error| SessionError::memory(candidate.process.pid(), error))?;
            candidate.entry.missing.extend(missing.iter().cloned());
            candidate.entry.missing.extend(differing(&module.path, verified));
        }
    }
    Ok((!points.is_empty() || !planned).then_some(points))
}

/// Points that the kernel did not take, by the event that is missing because of it.
pub(super) fn refused<'a>(refused: impl IntoIterator<Item = &'a Refused>, catalog: &Catalog) -> Vec<Missing> {
    let refused = refused
        .into_iter()
        .filter_map(|refused| Some((catalog.point(refused.point)?.1.role.event(), refused.reason.to_string())));
    let mut sums: BTreeMap<&'static str, (usize, String)> = BTreeMap::new();
    for (event, reason) in refused {
        sums.entry(event).or_insert((0, reason)).0 += 1;
    }
    let missing = |(event, (count, reason))| Missing {
        event,
        reason: format!("the kernel took no probe at {count} of its points ({reason})"),
    };
    sums.into_iter().map(missing).collect()
}

/// What is missing where memory is not the file's.
pub(super) fn differing(path: &str, verified: Verified) -> Option<Missing> {
    (verified.differing > 0).then(|| Missing {
        event: "init",
        reason: format!(
            "at {} of {} points the memory of {path} differs from its file (something else patched it): no probe was planted there",
            verified.differing,
            verified.differing + verified.equal,
        ),
    })
}
