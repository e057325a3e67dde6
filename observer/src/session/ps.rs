//! The live tasks of processes, now: read twice with a pause, because what is stuck is proved by two looks.

use std::time::Duration;

use tokio::time::Instant;

use crate::census::Waits;
use crate::model::Site;
use crate::sink::Report;

use super::budget::Bound;
use super::error::SessionError;
use super::inspect::{Inspected, Taken};
use super::inspection::{Inspection, InspectionOptions, SitesOutput};
use super::pace::{Interrupted, Pace};
use super::privileges::{Stage, keep};
use super::view::View;
use super::{event_loop, progress};

/// Between the two looks. What stood still both times is told; a longer pause would prove no more.
const PAUSE: Duration = Duration::from_millis(200);

/// What `ps` shows.
#[derive(Clone, Debug)]
pub struct PsOptions {
    /// Of which processes.
    pub inspection: InspectionOptions,
    /// Which sites.
    pub view: View,
    /// Each task, too.
    pub tasks: bool,
}

/// Lists what lives in the processes.
pub fn ps(options: &PsOptions, output: SitesOutput) -> Result<(), SessionError> {
    let say = progress(options.inspection.verbosity);
    keep(Stage::Reading, &say);
    let mut inspection = Inspection::open(&options.inspection, &say, output, 2)?;
    let looked = event_loop()?.block_on(async {
        let mut pace = Pace::new(None).map_err(|source| SessionError::System { what: "watch signals", source })?;
        let mut seen = Vec::new();
        for mut target in std::mem::take(&mut inspection.targets) {
            match look_twice(&mut target, &mut pace, options.inspection.bound).await {
                Ok(Ok(taken)) => {
                    let waits = match options.inspection.waits {
                        true => target.waits(&mut pace).await,
                        false => Ok(Ok(Waits::default())),
                    };
                    match waits {
                        Ok(Ok(waits)) => show(options, &target, &taken, &waits, &mut inspection)?,
                        Ok(Err(error)) => inspection.refuse(target.pid(), error)?,
                        Err(Interrupted::Signal | Interrupted::Over) => break,
                    }
                }
                Ok(Err(error)) => {
                    inspection.refuse(target.pid(), error)?;
                    continue;
                }
                Err(Interrupted::Signal | Interrupted::Over) => break,
            }
            seen.push(target);
        }
        inspection.parts().1.profile(&seen, &options.view, None)
    });
    looked.and_then(|()| inspection.end(None, (0, 0), None)).or_else(SessionError::unless_nobody_reads)
}

async fn look_twice(
    target: &mut Inspected,
    pace: &mut Pace,
    bound: Bound,
) -> Result<Result<Taken, SessionError>, Interrupted> {
    if let Err(error) = target.read(pace, bound).await? {
        return Ok(Err(error));
    }
    pace.rest(Instant::now() + PAUSE).await?;
    target.read(pace, bound).await
}

fn show(
    options: &PsOptions,
    target: &Inspected,
    taken: &Taken,
    waits: &Waits,
    inspection: &mut Inspection<'_>,
) -> Result<(), SessionError> {
    inspection.count_one();
    inspection.say(&Report::Census(target.report(taken)))?;
    let at = taken.at;
    let sites = target.counts().into_iter().filter_map(|count| Some((target.site(count.site)?, count))).collect();
    let (shown, left) = options.view.arrange(sites);
    for (of, count) in &shown {
        let waiting = target.waits_of(count.site, waits);
        inspection.say(&Report::Site { at, of: *of, count: *count, waits: &waiting })?;
        if options.tasks {
            for task in target.tasks.iter().filter(|task| Site::of(task) == count.site) {
                let stuck = target.history.is_stuck(task);
                inspection.say(&Report::Task { at, of: *of, task, stuck, waits: waits.of(task) })?;
            }
        }
    }
    if left.is_empty() {
        return Ok(());
    }
    let tasks = left.iter().map(|count| count.live).sum();
    inspection.say(&Report::Left { at, sites: left.len() as u64, tasks })
}
