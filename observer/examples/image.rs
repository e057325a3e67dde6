//! What one image tells, without running it: `image FILE…`. One JSON object a file: how many types, names, places and points there
//! are, how long finding them took and the most memory that this program has used by then.

use std::process::ExitCode;
use std::time::Instant;

use observer::model::{Analysis, ImageFacts, Naming, Resource};
use observer::plan;
use observer::symbols::Image;
use serde_json::{Value, json};

fn main() -> ExitCode {
    let mut failed = false;
    for path in std::env::args().skip(1) {
        match look(&path) {
            Ok(told) => println!("{told}"),
            Err(reason) => {
                failed = true;
                eprintln!("{path}: {reason}");
            }
        }
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn look(path: &str) -> Result<Value, String> {
    let began = Instant::now();
    let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
    let image = Image::parse(&bytes).map_err(|error| error.to_string())?;
    let analysis = plan::analyse(&image, true);
    let took = began.elapsed().as_secs_f64() * 1e3;
    match analysis {
        Analysis::Nothing => Err("holds no supported runtime".to_owned()),
        Analysis::TooOld { version, reason } => Err(format!("tokio {version:?}: {reason}")),
        Analysis::Runtime(facts) => Ok(told(path, bytes.len(), took, &facts)),
    }
}

fn told(path: &str, bytes: usize, took: f64, facts: &ImageFacts) -> Value {
    let count =
        |wanted: &dyn Fn(&observer::model::TaskType) -> bool| facts.types.iter().filter(|of| wanted(of)).count();
    let tasks = count(&|of| of.resource == Resource::Task);
    let certain = |certain: bool| {
        let name = count(&|of| !matches!(of.future, Naming::Unknown(_)) && of.future.is_certain() == certain);
        let is_task = |of: &observer::model::TaskType| of.resource == Resource::Task;
        (name, count(&|of| is_task(of) && of.place.as_ref().is_some_and(|place| place.certain == certain)))
    };
    let ((names, places), (likely_names, likely_places)) = (certain(true), certain(false));
    let neither = count(&|of| matches!(of.future, Naming::Unknown(_)) && of.place.is_none());
    json!({
        "path": path, "bytes": bytes, "version": facts.version, "stripped": facts.stripped, "types": facts.types.len(), "tasks": tasks,
        "names": names, "likelyNames": likely_names, "places": places, "likelyPlaces": likely_places, "neither": neither,
        "spawnSites": facts.spawn_sites, "ms": took, "peakBytes": peak(),
    })
}

/// The most memory that this program has used, bytes; `None` where the kernel does not tell.
fn peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()? * 1024)
}
