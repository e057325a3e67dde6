//! Names and places of futures, in every build profile: what is said to be certain is true, and enough is said at all.
//!
//! The truth is the language's own: the program prints each future's `type_name`, its vtable and the line of its body.

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tests::fixture::{Fixture, Scratch, cells, debug_dir, path};
use tests::observer::Observer;
use tests::plain::plain;
use tests::score;
use tests::stream::{number, word};
use tests::wait::until;

/// Tasks the program spawns, each of a type of its own.
const TASKS: usize = 33;

/// What the profile leaves in the program, and so how much of the types at least has a certain name.
#[derive(Clone, Copy, Debug)]
struct Promise {
    names: usize,
    places: usize,
}

/// Every name, and every place.
const ALL: Promise = Promise { names: 33, places: 30 };

/// By cell; a cell that is not here promises nothing but the truth.
const PROMISES: [(&str, Promise); 23] = [
    // Debug information, wherever it is, or v0 symbols: every name.
    ("newest-dev", ALL),
    ("awaits-release", ALL),
    ("awaits-debug1", ALL),
    ("awaits-types", ALL),
    ("awaits-dwz", ALL),
    ("awaits-shared", ALL),
    ("awaits-packed", ALL),
    ("awaits-unpacked", ALL),
    ("awaits-linked", ALL),
    ("awaits-by-id", ALL),
    ("awaits-zlib", ALL),
    ("awaits-zstd", ALL),
    ("newest-v0", Promise { names: 33, places: 28 }),
    // Equal bodies without an end are one, and so leave no place; that of the twin that nobody uses is not taken for the other's.
    ("awaits-merged", Promise { names: 33, places: 26 }),
    // Two types have one vtable where a whole program is optimized at once.
    ("awaits-fat", Promise { names: 29, places: 24 }),
    // Legacy symbols: all but those whose drop glue bears another's name, too, or may.
    ("newest-release", Promise { names: 19, places: 28 }),
    ("newest-thin", Promise { names: 19, places: 28 }),
    ("newest-nopie", Promise { names: 19, places: 28 }),
    ("1.36-release", Promise { names: 19, places: 28 }),
    ("1.23-release", Promise { names: 19, places: 28 }),
    // Small: bodies stay functions of their own, so every place is found, and they tell names on glue that is shared apart.
    ("newest-optz", Promise { names: 23, places: 30 }),
    // Stripped: nine of ten places, by the panics of the bodies.
    ("newest-stripped", Promise { names: 0, places: 28 }),
    // Stripped, and no panic unwinds, so no place is certain.
    ("newest-fat", Promise { names: 0, places: 0 }),
];

/// What was said of all types of one program.
#[derive(Debug, Default)]
struct Said {
    certain_names: usize,
    names: usize,
    certain_places: usize,
    places: usize,
    wrong_names: usize,
    wrong_places: usize,
    /// Of those that are not certain, the true ones.
    likely_names: usize,
    likely_places: usize,
    /// Types that the program tells of, and those with an async body of their own.
    types: usize,
    bodies: usize,
    faults: Vec<String>,
}

#[test]
fn what_is_certain_is_true_in_every_cell_and_enough_is_said() {
    let cells = cells("named");
    assert!(cells.len() >= 5, "only {} cells have the program", cells.len());
    let mut wrong = 0;
    let mut report = Vec::new();
    for cell in cells.iter().map(String::as_str) {
        let mut said = observe(cell, &path(cell, "named"));
        for (of, all, certain, wrong, told, likely) in [
            ("types", said.types, said.certain_names, said.wrong_names, said.names, said.likely_names),
            ("places", said.bodies, said.certain_places, said.wrong_places, said.places, said.likely_places),
        ] {
            let figures = [
                ("right", certain - wrong),
                ("wrong", wrong),
                ("uncertain", told - certain),
                ("of these true", likely),
                ("unknown", all.saturating_sub(told)),
            ];
            score::say(of, cell, &figures);
        }
        let promise = PROMISES.iter().find(|(name, _)| *name == cell).map(|(_, promise)| promise);
        if let Some(promise) = promise.filter(|p| said.certain_names < p.names || said.certain_places < p.places) {
            said.faults.push(format!("promised {promise:?}"));
        }
        wrong += usize::from(!said.faults.is_empty());
        report.push(format!(
            "{cell:<16} names {} (certain {}), places {} (certain {}) {}",
            said.names,
            said.certain_names,
            said.places,
            said.certain_places,
            said.faults.join("\n                 ")
        ));
    }
    let report = report.join("\n");
    assert_eq!(wrong, 0, "{report}");
    println!("{report}");
}

/// As packages ship programs whose debug information lies apart under a name of its own, with and without build ids.
#[test]
fn debug_information_that_only_a_debuglink_tells_names_every_type_and_another_file_none() {
    let place = Scratch::new("named-linked");
    let at = |name: &str| place.path().join(name);
    let run = |command: &str, arguments: &[&std::ffi::OsStr]| {
        let done = Command::new(command).args(arguments).current_dir(place.path()).status();
        assert!(done.is_ok_and(|done| done.success()), "{command} {arguments:?}");
    };
    let whole = path("newest-dev", "named");
    std::fs::create_dir(at(".debug")).expect("it is ours");
    let apart = at(".debug/of-its-own");
    run("objcopy", &["--only-keep-debug".as_ref(), whole.as_ref(), apart.as_ref()]);
    for without_id in [false, true] {
        let program = at(if without_id { "without-id" } else { "with-id" });
        run("strip", &["--strip-all".as_ref(), "-o".as_ref(), program.as_ref(), whole.as_ref()]);
        if without_id {
            run("objcopy", &["--remove-section=.note.gnu.build-id".as_ref(), program.as_ref()]);
        }
        run("objcopy", &["--add-gnu-debuglink=.debug/of-its-own".as_ref(), program.as_ref()]);
        let said = observe("linked", &program);
        assert_eq!((said.certain_names, said.certain_places, said.wrong_names), (TASKS, said.bodies, 0), "{said:?}");
    }
    // Another file under that name: one byte more is another sum.
    let mut bytes = std::fs::read(&apart).expect("it is ours");
    bytes.push(0);
    std::fs::write(&apart, bytes).expect("it is ours");
    let fixture = Fixture::spawn("linked to another", &mut Command::new(at("without-id")));
    fixture.wait_for("it is up", |line| line.contains("\"ready\":true"));
    let looked = Observer::run(["ps", "--json", "--no-waits", "--pid", &fixture.pid().to_string()]).ended();
    assert_eq!(looked.code, Some(0), "{:?}", looked.stderr);
    assert!(
        looked.stderr.iter().any(|line| line.contains("of-its-own is not used: it is of another program")),
        "{looked:?}"
    );
    assert!(looked.look().lines.iter().all(|line| line["future"].is_null()), "nothing is named by it");
}

fn observe(cell: &str, program: &Path) -> Said {
    let mut fixture = Fixture::spawn(cell, &mut Command::new(program));
    fixture.wait_for("it is up", |line| line.contains("\"ready\":true"));
    let debug = debug_dir(program);
    let options: Vec<&str> = ["--events", "init"].into_iter().chain(debug.iter().map(String::as_str)).collect();
    let observer = Observer::attach(fixture.pid(), &options);
    // The program ends at once when it is let go: before, all that it has must be found.
    // A line for `start`, one for each task, one for the worker thread.
    until("every task is said", || (observer.said().len() >= TASKS + 2).then_some(()));
    fixture.release();
    let ended = fixture.finish();
    let stream = observer.stream();
    let lines: Vec<Value> = ended.stdout.iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let base = lines.iter().find_map(|line| line["base"].as_u64()).expect("the program says where it is loaded");
    // A program at a fixed address has its link-time addresses in memory, too.
    let bias = if is_position_independent(program) { base } else { 0 };
    let known: HashMap<u64, &Value> = stream.of("init").map(|init| (vtable(&init["resource"]), init)).collect();
    let mut said = Said::default();
    for truth in lines.iter().filter(|line| line["vtable"].is_u64()) {
        let name = word(truth, "name");
        match known.get(&(number(truth, "vtable") - bias)) {
            Some(init) => said.compare(init, name, truth["body"].as_u64()),
            None => said.faults.push(format!("{name} was not seen")),
        }
    }
    said
}

impl Said {
    fn compare(&mut self, init: &Value, name: &str, body: Option<u64>) {
        let (resource, is_async) = (&init["resource"], init["type"] == "TOKIO_TASK");
        self.types += 1;
        self.bodies += usize::from(body.is_some() && is_async);
        if let Some(future) = resource["future"].as_str() {
            self.names += 1;
            let is_true = plain(future) == plain(name);
            if resource["futureCertain"] != true {
                self.likely_names += usize::from(is_true);
            } else {
                self.certain_names += 1;
                if !is_true {
                    self.wrong_names += 1;
                    self.faults.push(format!("{name} is certainly called {future}"));
                }
            }
        }
        if let Some(location) = resource["location"].as_str() {
            // Where a closure of the blocking pool stands is checked, and does not count among async bodies.
            self.places += usize::from(is_async);
            let line = location.split(':').nth(1).and_then(|line| line.parse().ok());
            let is_true = ["named.rs:", "twins.rs:"].iter().any(|file| location.contains(file)) && line == body;
            if resource["locationCertain"] != true {
                self.likely_places += usize::from(is_true && is_async);
            } else {
                self.certain_places += usize::from(is_async);
                if !is_true {
                    self.wrong_places += 1;
                    self.faults.push(format!("{name} certainly stands at {location}, not in line {body:?}"));
                }
            }
        }
    }
}

/// The vtable's link-time address, the second part of a type's id.
fn vtable(resource: &Value) -> u64 {
    let id = word(resource, "typeId");
    let hex = id.rsplit_once("+0x").map(|(_, hex)| hex);
    hex.and_then(|hex| u64::from_str_radix(hex, 16).ok()).unwrap_or_else(|| panic!("`{id}` is no type id"))
}

/// Whether the ELF header says `ET_DYN`.
fn is_position_independent(program: &Path) -> bool {
    let header = std::fs::read(program).expect("the program can be read");
    header[16..18] == [3, 0]
}
