//! How the tasks of processes wait, future by future, now: read from memory, nothing is attached or stopped.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;

use crate::census::{Awaiter, NoAwaits, Waits, awaits};
use crate::model::{Awaiting, Bias, FileId, LiveTask, Resource, Site, TaskId, TaskType};
use crate::runtime::{self, Described};
use crate::sink::{AwaitFrame, Report, Unstacked};
use crate::symbols::Image;
use crate::target::Module;
use crate::verdict::count_waits;

use super::apart::Apart;
use super::debug_files::Names;
use super::error::SessionError;
use super::inspect::{Inspected, Taken};
use super::inspection::{Inspection, InspectionOptions, SitesOutput};
use super::pace::{Interrupted, Pace};
use super::privileges::{Stage, keep};
use super::view::View;
use super::{event_loop, progress};

/// What `dump` shows.
#[derive(Clone, Debug)]
pub struct DumpOptions {
    /// Of which processes.
    pub inspection: InspectionOptions,
    /// Which sites.
    pub view: View,
    /// Each task by itself.
    pub tasks: bool,
}

/// The shapes of the images that were met.
type Known = HashMap<FileId, Option<Arc<Described>>>;

/// An image as a process has it: where it is loaded, and its shapes if debug information has them.
type Loaded = (Bias, Option<Arc<Described>>);

/// Those that are told together: of one site, and wait in the same way; or each by itself.
type Group<'a> = (Site, &'a Stack, Option<TaskId>);

/// How a task waits, or why that is not told.
type Stack = Rc<Result<Awaiting, NoAwaits>>;

/// Says how the tasks of the processes wait.
pub fn dump(options: &DumpOptions, output: SitesOutput) -> Result<(), SessionError> {
    let progress = progress(options.inspection.verbosity);
    let said = RefCell::new(HashSet::new());
    // An image's debug information is looked for twice, for what it holds and for how that lies in memory: what is amiss with it is
    // said once.
    let say = |least, text: &str| {
        if said.borrow_mut().insert(text.to_owned()) {
            progress(least, text);
        }
    };
    keep(Stage::Reading, &say);
    let mut inspection = Inspection::open(&options.inspection, &say, output, 1)?;
    let mut known = Known::new();
    let looked = event_loop()?.block_on(async {
        let mut pace = Pace::new(None).map_err(|source| SessionError::System { what: "watch signals", source })?;
        for mut target in std::mem::take(&mut inspection.targets) {
            match look(options, &mut target, &mut known, &mut pace, &say).await {
                Ok(Ok(looked)) => show(options, &target, &looked, &mut inspection)?,
                // It has ended: the others are there.
                Ok(Err(error)) => inspection.refuse(target.pid(), error)?,
                Err(Interrupted::Signal | Interrupted::Over) => break,
            }
        }
        Ok(())
    });
    looked.and_then(|()| inspection.end(None, (0, 0), None)).or_else(SessionError::unless_nobody_reads)
}

/// What was seen of a process.
struct Looked {
    taken: Taken,
    waits: Waits,
    images: Vec<Loaded>,
    /// Of each task that is wanted, by its place among the target's.
    stacks: Vec<(usize, Stack)>,
}

async fn look(
    options: &DumpOptions,
    target: &mut Inspected,
    known: &mut Known,
    pace: &mut Pace,
    say: &dyn Fn(u8, &str),
) -> Result<Result<Looked, SessionError>, Interrupted> {
    let taken = match target.read(pace, options.inspection.bound).await? {
        Ok(taken) => taken,
        Err(error) => return Ok(Err(error)),
    };
    let target = &*target;
    let waits = async {
        match options.inspection.waits {
            true => target.waits(pace).await,
            false => Ok(Ok(Waits::default())),
        }
    };
    let stacks = async {
        let images = images(target, known, &options.inspection.names, say)?;
        let stacks = stacks_of(target, &options.view, &images);
        Ok((images, stacks))
    };
    // The one on a thread of its own, the other here meanwhile: each takes half of the time.
    let (waits, stacks) = tokio::join!(waits, stacks);
    let looked = |waits, (images, stacks)| Looked { taken, waits, images, stacks };
    Ok(waits?.and_then(|waits| stacks.map(|stacks| looked(waits, stacks))))
}

/// The images of a process whose tasks are there.
fn images(
    target: &Inspected,
    known: &mut Known,
    names: &Names,
    say: &dyn Fn(u8, &str),
) -> Result<Vec<Loaded>, SessionError> {
    let modules = target.process.modules()?;
    let mut images = Vec::new();
    for mapped in &target.entry.images {
        let module = modules.iter().find(|module| module.path == mapped.path);
        let shapes = module.and_then(|module| {
            let read = || {
                let types: Vec<_> = mapped.image.types.values().map(|entry| entry.task.clone()).collect();
                say(1, &format!("reading how the futures of {} lie in memory", module.path));
                shapes(module, &types, names, say).map(Arc::new)
            };
            known.entry(module.file).or_insert_with(read).clone()
        });
        images.push((mapped.bias, shapes));
    }
    Ok(images)
}

fn shapes(module: &Module, types: &[TaskType], names: &Names, say: &dyn Fn(u8, &str)) -> Option<Described> {
    let bytes = match module.read() {
        Ok(bytes) => bytes,
        Err(error) => {
            say(1, &format!("{} cannot be read: {error}", module.path));
            return None;
        }
    };
    // That it is an image was seen before.
    let image = Image::parse(&bytes).ok()?;
    let apart = Apart::of(names, module, &image, say);
    let described = runtime::shapes(&apart.given_to(image), types)?;
    if !described.unread.is_empty() {
        let path = apart.path().map_or(module.path.clone(), |path| path.display().to_string());
        say(
            1,
            &format!("{path}: its debug information could not be read to its end: fetch it anew, it may be damaged"),
        );
    }
    Some(described)
}

fn show(
    options: &DumpOptions,
    target: &Inspected,
    looked: &Looked,
    inspection: &mut Inspection<'_>,
) -> Result<(), SessionError> {
    let Looked { taken, waits, images, stacks } = looked;
    inspection.count_one();
    inspection.say(&Report::Census(target.report(taken)))?;
    let mut groups: BTreeMap<Group<'_>, Vec<&LiveTask>> = BTreeMap::new();
    for (index, stack) in stacks {
        let task = &target.tasks[*index];
        groups.entry((Site::of(task), stack, options.tasks.then_some(task.id))).or_default().push(task);
    }
    let mut groups: Vec<_> = groups.into_iter().collect();
    groups.sort_by_key(|(_, tasks)| Reverse(tasks.len()));
    let left = groups.split_off(options.view.top.unwrap_or(groups.len()).min(groups.len()));
    let mut names: HashMap<Arc<str>, String> = images
        .iter()
        .flat_map(|(_, shapes)| shapes.iter().flat_map(|described| described.shapes.names.clone()))
        .collect();
    for ((site, stack, _), tasks) in &groups {
        let Some(of) = target.site(*site) else { continue };
        let ids: Vec<TaskId> = tasks.iter().map(|task| task.id).collect();
        let waiting = count_waits(tasks.iter().map(|task| waits.of(task)));
        let mut frames = Vec::new();
        let stack = match &***stack {
            Ok(stack) => {
                flatten(stack, 0, &mut names, &mut frames);
                Ok(&frames[..])
            }
            Err(why) => Err(unstacked(*why)),
        };
        inspection.say(&Report::Stack { at: taken.at, of, tasks: &ids, stack, waits: &waiting })?;
    }
    if left.is_empty() {
        return Ok(());
    }
    let tasks = left.iter().map(|(_, tasks)| tasks.len() as u64).sum();
    inspection.say(&Report::Left { at: taken.at, sites: left.len() as u64, tasks })
}

/// How the tasks wait whose sites are wanted, each with its place among the target's. Those that wait alike share what is said of them: a
/// stack has a kilobyte or two.
fn stacks_of(target: &Inspected, view: &View, images: &[Loaded]) -> Vec<(usize, Stack)> {
    let is_wanted = |task: &LiveTask| target.site(Site::of(task)).is_some_and(|of| view.wants(&of));
    let wanted = target.tasks.iter().enumerate().filter(|(_, task)| is_wanted(task));
    let mut shared: BTreeSet<Stack> = BTreeSet::new();
    let mut share = |told: Result<Awaiting, NoAwaits>| {
        let told = Rc::new(told);
        let known = shared.get(&told).cloned();
        known.unwrap_or_else(|| {
            shared.insert(Rc::clone(&told));
            told
        })
    };
    let (mut stacks, mut asked, mut awaiters) = (Vec::new(), Vec::new(), Vec::new());
    for (index, task) in wanted {
        match awaiter(target, task, images) {
            Ok(awaiter) => {
                asked.push(index);
                awaiters.push(awaiter);
            }
            Err(why) => stacks.push((index, share(Err(why)))),
        }
    }
    awaits(&mut target.process.memory(), &awaiters, |n, told| stacks.push((asked[n], share(told))));
    stacks.sort_unstable_by_key(|(index, _)| *index);
    stacks
}

fn awaiter<'a>(target: &'a Inspected, task: &'a LiveTask, images: &'a [Loaded]) -> Result<Awaiter<'a>, NoAwaits> {
    let (mapped, entry) = target.entry.holder_of(task.vtable).ok_or(NoAwaits::Undescribed)?;
    if entry.task.resource != Resource::Task {
        return Err(NoAwaits::Closure);
    }
    let found = images.iter().find(|(bias, _)| *bias == mapped.bias);
    let Some((bias, Some(described))) = found else { return Err(NoAwaits::Undescribed) };
    let Described { shapes, unread } = &**described;
    let poll = entry.task.functions.poll;
    let stage = match shapes.stages.get(&poll) {
        Some(Some(stage)) => *stage,
        Some(None) | None if unread.contains(&poll) => return Err(NoAwaits::Unread),
        Some(None) => return Err(NoAwaits::Shared),
        None => return Err(NoAwaits::Undescribed),
    };
    Ok(Awaiter { task, layout: &entry.task.layout, shapes, stage, bias: *bias })
}

/// Each future before those that it waits for.
fn flatten(of: &Awaiting, depth: usize, names: &mut HashMap<Arc<str>, String>, frames: &mut Vec<AwaitFrame>) {
    let name = |raw: &Arc<str>| runtime::future_name(raw).unwrap_or_else(|| raw.to_string());
    let future = names.entry(Arc::clone(&of.future)).or_insert_with_key(name).clone();
    let (raw, standing, how) = (Arc::clone(&of.future), of.standing.clone(), of.how);
    frames.push(AwaitFrame { depth, future, raw, standing, how });
    of.on.iter().for_each(|on| flatten(on, depth + 1, names, frames));
}

/// Why there is no stack, and what to do.
fn unstacked(why: NoAwaits) -> Unstacked<'static> {
    let (word, reason) = match why {
        NoAwaits::Running => ("running", "a thread is inside it: `trace --tier sampled` tells what it runs"),
        NoAwaits::Complete => ("complete", "it has ended; its output, or its memory, is still kept"),
        NoAwaits::Closure => ("closure", "a closure awaits nothing"),
        NoAwaits::Undescribed => (
            "undescribed",
            "nothing tells how this future lies in memory: that takes the debug information of its types (`debug = 2` in the build's \
             profile), in the program, beside it (.debug, .dwp, .dwo), in /usr/lib/debug or a --debug-dir",
        ),
        NoAwaits::Shared => (
            "shared",
            "its poll function is, or may be, that of several types, so it is not known which future this is",
        ),
        NoAwaits::Unread => (
            "unread",
            "debug information could not be read to its end, so it is not known which future this is: standard error names the file, \
             which may be damaged",
        ),
        NoAwaits::Changing => ("changing", "it changed each time while it was read: ask again"),
        NoAwaits::Unreadable => ("unreadable", "its memory cannot be read"),
    };
    Unstacked { word, reason }
}
