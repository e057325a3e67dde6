//! Split debug information: types, places, await stacks and the calls of stacks are told from `.dwo` and `.dwp` files as from the
//! program itself, those of another build are refused with the reason, and what is missing is said.

use std::path::{Path, PathBuf};
use std::process::Command;

use observer::model::VirtAddr;
use observer::symbols::{Image, Skeletons, SplitFile, SplitUnit, demangle, name_frames};
use serde_json::Value;
use tests::awaiting::{faults, truths};
use tests::fixture::{Fixture, SETTLED, Scratch, path};
use tests::observer::{Ended, Observer};
use tests::stream::word;

const PACKED: &str = "awaits-packed";
const UNPACKED: &str = "awaits-unpacked";

fn text(path: impl Into<PathBuf>) -> String {
    path.into().into_os_string().into_string().expect("a path")
}

fn file(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn units_of(program: &[u8]) -> Vec<SplitUnit> {
    let image = Image::parse(program).expect("an image");
    Skeletons::of(&image, program).units().cloned().collect()
}

/// The packed program in a folder of its own, without its package.
fn alone(place: &Scratch) -> Fixture {
    let program = place.copy(&path(PACKED, "awaits"));
    let fixture = Fixture::spawn("a packed program alone", &mut Command::new(program));
    fixture.wait_for("it is up", |line| line.contains("\"ready\":true"));
    fixture
}

fn run(fixture: &Fixture, words: &[&str], folders: &[&Path]) -> Ended {
    let folders = folders.iter().flat_map(|folder| ["--debug-dir".to_owned(), text(*folder)]);
    let words = words.iter().map(|word| (*word).to_owned()).chain(folders);
    let mut observer = Observer::run(words.chain(["--pid".to_owned(), fixture.pid().to_string()]));
    let ended = observer.ended();
    assert_eq!(ended.code, Some(0), "{:?}", ended.stderr);
    ended
}

fn dump(fixture: &Fixture, folders: &[&Path]) -> Ended {
    run(fixture, &["dump", "--json", "--no-waits"], folders)
}

fn assert_said(ended: &Ended, words: &[&str]) {
    let is_said = ended.stderr.iter().any(|line| words.iter().all(|word| line.contains(word)));
    assert!(is_said, "{words:?} is not in {:?}", ended.stderr);
}

/// How many futures' places are certain, of how many that have one: without the units some bodies' are not.
fn placed(ended: &Ended) -> (usize, usize) {
    let lines = ended.look().lines;
    let sites: Vec<&Value> = lines
        .iter()
        .filter(|line| line["event"] == "site" && line["type"] == "TOKIO_TASK" && !line["location"].is_null())
        .collect();
    (sites.iter().filter(|site| site["locationCertain"] == true).count(), sites.len())
}

#[test]
fn types_and_places_are_those_of_the_source() {
    let source = include_str!("../fixtures/awaits/src/ways.rs");
    for cell in [PACKED, UNPACKED] {
        let fixture = Fixture::start(cell, "awaits", &[]);
        let told = dump(&fixture, &[]);
        let (lines, mut compared) = (told.look().lines, 0);
        for truth in truths(&fixture, "stack") {
            let is_it = |line: &&Value| line["taskIds"].as_array().is_some_and(|ids| ids.contains(&truth["task"]));
            let line = lines.iter().find(is_it).unwrap_or_else(|| panic!("{truth} is not told"));
            let future = word(&truth["stack"][0], "future");
            let said = word(line, "future").trim_end_matches("::{async_fn}");
            let said = said.split('<').next().unwrap_or(said);
            assert_eq!((said, &line["futureCertain"]), (future, &Value::from(true)), "{cell}: {line}");
            let Some(name) = future.strip_prefix("awaits::ways::") else { continue };
            let head = format!("async fn {name}");
            let declares = |line: &&str| line.split(&head).nth(1).is_some_and(|rest| rest.starts_with(['(', '<']));
            let Some(number) = source.lines().collect::<Vec<_>>().iter().position(declares) else { continue };
            let place = format!("src/ways.rs:{}", number + 1);
            let location = word(line, "location");
            let column =
                location.strip_prefix(&place).unwrap_or_else(|| panic!("{cell}: {name} is at {place}: {line}"));
            assert!(column.is_empty() || column.starts_with(':'), "{cell}: {name} is at {place}: {line}");
            assert_eq!(line["locationCertain"], true, "{cell}: {line}");
            compared += 1;
        }
        assert!(compared >= 15, "{cell}: {compared} bodies are declared so");
    }
}

#[test]
fn calls_of_stacks_are_named_with_those_that_were_put_into_them() {
    let (program, package) = (file(&path(PACKED, "awaits")), file(&path(PACKED, "awaits.dwp")));
    let mut image = Image::parse(&program).expect("an image");
    let own = image.symbols().filter(|symbol| symbol.is_function && symbol.size > 0);
    let own = own.filter_map(|symbol| Some((demangle(symbol.name)?, symbol.at, symbol.size)));
    let own: Vec<_> = own.filter(|(name, ..)| name.starts_with("awaits::ways::")).take(40).collect();
    assert!(own.len() >= 20, "{} functions", own.len());
    let places: Vec<VirtAddr> =
        own.iter().flat_map(|(_, at, size)| (at.0..at.0 + size).step_by(7).map(VirtAddr)).collect();
    let inlined = |image: &Image<'_>| name_frames(image, &places).iter().filter(|calls| calls.len() > 1).count();
    let before = inlined(&image);
    image.take_split_file(&package);
    let after = inlined(&image);
    assert!(after > places.len() / 4 && after > before * 2, "{before}, then {after} of {}", places.len());
    for (name, at, _) in &own {
        let calls = &name_frames(&image, &[*at])[0];
        let outermost = calls.last().unwrap_or_else(|| panic!("{name} is not named"));
        // Debug information numbers bodies that symbols do not.
        let plain = |name: &str| {
            name.split("::").map(|part| part.split(['{', '<']).next().unwrap_or(part).to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(plain(&outermost.name), plain(name));
        assert!(calls.iter().all(|call| call.place.is_some()), "{calls:?}");
    }
}

#[test]
fn a_program_without_its_package_says_what_is_missing_and_is_told_when_it_is_named() {
    let place = Scratch::new("split-missing");
    let fixture = alone(&place);
    let ended = dump(&fixture, &[]);
    assert_said(&ended, &[" units in files that are not there", ".dwo", "awaits.dwp", "--debug-dir"]);
    let look = ended.look();
    let untold = look.of("stack", fixture.pid()).filter(|stack| stack["unknown"] == "undescribed").count();
    assert!(untold >= 28, "nothing is made up");
    let folder = path(PACKED, "awaits.dwp");
    let ended = dump(&fixture, &[folder.parent().expect("a folder")]);
    assert_eq!(faults(&fixture, &ended.look()), [""; 0]);
    assert!(ended.stderr.iter().all(|line| !line.contains("not there")), "{:?}", ended.stderr);
}

#[test]
fn split_debug_information_that_is_not_the_program_s_is_refused_and_the_next_is_tried() {
    let package = file(&path(PACKED, "awaits.dwp"));
    let (own, units) = (file(&path(UNPACKED, "awaits")), text(path(UNPACKED, "awaits")));
    let units = Path::new(&units).parent().expect("a folder");
    let told = units_of(&own);
    let name = |unit: &SplitUnit| Path::new(&unit.file).file_name().expect("a name").to_owned();
    let other = file(&units.join(name(&told[0])));
    // Packages: of another build, cut short, no ELF file, and the right one.
    let place = Scratch::new("split-packages");
    let fixture = alone(&place);
    let put = |folder: &str, name: &std::ffi::OsStr, bytes: &[u8]| {
        let folder = place.path().join(folder);
        std::fs::create_dir_all(&folder).expect("it is ours");
        std::fs::write(folder.join(name), bytes).expect("it is ours");
        folder
    };
    let folders = [
        put("another", "awaits.dwp".as_ref(), &other),
        put("cut", "awaits.dwp".as_ref(), &package[..package.len() / 2]),
        put("hostile", "awaits.dwp".as_ref(), &package[1..]),
        put("right", "awaits.dwp".as_ref(), &package),
    ];
    let folders: Vec<&Path> = folders.iter().map(PathBuf::as_path).collect();
    let ended = dump(&fixture, &folders);
    assert_eq!(faults(&fixture, &ended.look()), [""; 0]);
    let mut said = ended.stderr.clone();
    said.sort_unstable();
    said.dedup();
    assert_eq!(said.len(), ended.stderr.len(), "each is said once: {:?}", ended.stderr);
    assert_said(&ended, &["another/awaits.dwp is not used: it is of another build: it does not have the unit"]);
    assert_said(&ended, &["cut/awaits.dwp is not used: it cannot be read"]);
    assert_said(&ended, &["hostile/awaits.dwp is not used: it cannot be read"]);
    // Units: each with another number, and each under the name of its neighbour, which is no harm.
    let fixture = Fixture::start(UNPACKED, "awaits", &[]);
    let (mut wrong, mut neighbours) = (PathBuf::new(), PathBuf::new());
    for (unit, neighbour) in told.iter().zip(told.iter().skip(1)) {
        let mut bytes = file(&units.join(name(unit)));
        let number = bytes.windows(8).position(|word| word == unit.id.to_le_bytes()).expect("the unit's number");
        bytes[number] ^= 1;
        wrong = put("numbers", &name(unit), &bytes);
        neighbours = put("neighbours", &name(unit), &file(&units.join(name(neighbour))));
    }
    for (folder, is_refused) in [(&wrong, true), (&neighbours, false)] {
        let ended = dump(&fixture, &[folder]);
        assert_eq!(faults(&fixture, &ended.look()), [""; 0]);
        if is_refused {
            assert_said(&ended, &["numbers/", ".dwo is not used: it is of another build"]);
            assert_said(&ended, &["more files of split debug information are not used"]);
        } else {
            assert!(ended.stderr.iter().all(|line| !line.contains("not used")), "{:?}", ended.stderr);
        }
    }
}

#[test]
fn a_stripped_program_is_told_from_its_debug_file_and_package_together_and_from_the_package_alone_not() {
    let place = Scratch::new("split-stripped");
    let (whole, program) = (path(PACKED, "awaits"), place.path().join("awaits"));
    let make = |command: &str, options: &[&str], to: &Path| {
        let made = Command::new(command).args(options).arg("-o").arg(to).arg(&whole).status();
        assert!(made.is_ok_and(|made| made.success()), "{command}");
    };
    make("strip", &[], &program);
    std::fs::copy(path(PACKED, "awaits.dwp"), place.path().join("awaits.dwp")).expect("it is ours");
    let fixture = Fixture::spawn("a stripped program", &mut Command::new(&program));
    fixture.wait_for("it is up", |line| line.contains("\"ready\":true"));
    assert_said(&dump(&fixture, &[]), &["awaits.dwp is not used: the program has no skeletons", "--only-keep-debug"]);
    let debug = place.path().join("awaits.debug");
    let kept = Command::new("objcopy").arg("--only-keep-debug").arg(&whole).arg(&debug).status();
    assert!(kept.is_ok_and(|kept| kept.success()), "objcopy");
    let ended = dump(&fixture, &[]);
    assert_eq!(faults(&fixture, &ended.look()), [""; 0]);
}

#[test]
fn a_package_that_an_earlier_build_left_beside_a_whole_program_is_passed_over_in_silence() {
    let place = Scratch::new("split-left");
    let program = place.copy(&path("awaits-release", "awaits"));
    std::fs::copy(path(PACKED, "awaits.dwp"), program.with_extension("dwp")).expect("it is ours");
    let fixture = Fixture::spawn("a whole program", &mut Command::new(program));
    fixture.wait_for("it is up", |line| line.contains("\"ready\":true"));
    let ended = dump(&fixture, &[]);
    assert_eq!(faults(&fixture, &ended.look()), [""; 0]);
    assert!(ended.stderr.iter().all(|line| !line.contains("dwp")), "{:?}", ended.stderr);
}

#[test]
fn what_is_known_of_a_program_without_its_units_is_used_until_something_is_there_that_may_have_them() {
    // A folder of its own: what is made beside the program might be what is missing.
    let (place, kept) = (Scratch::new("split-cache"), Scratch::new("split-kept"));
    let (fixture, cache) = (alone(&place), text(kept.path().join("cache")));
    let (first, second) = (place.path().join("first"), place.path().join("second"));
    for folder in [&first, &second] {
        std::fs::create_dir(folder).expect("it is ours");
    }
    std::thread::sleep(SETTLED);
    let look = |folders: &[&Path]| {
        let ended = run(&fixture, &["ps", "--json", "--no-waits", "-v", "--cache-dir", &cache], folders);
        let analysed = ended.stderr.iter().any(|line| line.contains("analysing") && line.contains("awaits"));
        let (certain, all) = placed(&ended);
        (analysed, certain == all)
    };
    assert_eq!(look(&[&first]), (true, false));
    assert_eq!(look(&[&first]), (false, false), "nothing has changed where it was looked for");
    assert_eq!(look(&[]), (false, false), "nor where fewer are looked for");
    assert_eq!(look(&[&first, &second]), (true, false), "it may be in a folder that was not looked into");
    assert_eq!(look(&[&first, &second]), (false, false));
    // Not what is wanted, but it might be.
    let unit = units_of(&file(&path(PACKED, "awaits"))).swap_remove(0);
    std::fs::write(first.join("another.dwo"), [0; 64]).expect("it is ours");
    assert_eq!(look(&[&first, &second]), (false, false), "no unit is in a file of this name");
    let there = first.join(Path::new(&unit.file).file_name().expect("a name"));
    std::fs::write(there, [0; 64]).expect("it is ours");
    assert_eq!(look(&[&first, &second]), (true, false), "something has come");
    // It might still be written when it was looked at.
    std::thread::sleep(SETTLED);
    assert!(!look(&[&first, &second]).1);
    assert_eq!(look(&[&first, &second]), (false, false), "it stays what it was");
    std::fs::copy(path(PACKED, "awaits.dwp"), second.join("awaits.dwp")).expect("it is ours");
    std::thread::sleep(SETTLED);
    assert_eq!(look(&[&first, &second]), (true, true));
    assert_eq!(look(&[&first, &second]), (false, true));
}

/// Bytes are changed where a compiler's are real, in the files that a real program has.
#[test]
fn changed_bytes_of_real_files_are_refused_or_read_as_far_as_they_go() {
    let program = file(&path(UNPACKED, "awaits"));
    let units = units_of(&program);
    let unit = units.iter().find(|unit| unit.file.contains("mio")).expect("a dependency");
    let folder = path(UNPACKED, "awaits");
    let name = Path::new(&unit.file).file_name().expect("a name");
    let right = file(&folder.parent().expect("a folder").join(name));
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).expect("31 bits") % below
    };
    let image = Image::parse(&program).expect("an image");
    let places: Vec<VirtAddr> = image.functions().starts().step_by(50).take(100).collect();
    let (mut refused, mut taken) = (0, 0);
    for _ in 0..24 {
        let mut bytes = right.clone();
        for _ in 0..1 + random(200) {
            let at = random(bytes.len());
            bytes[at] = u8::try_from(random(256)).expect("a byte");
        }
        bytes.truncate(bytes.len() - random(4) * random(bytes.len()) / 8);
        match SplitFile::parse(&bytes) {
            Err(_) => refused += 1,
            Ok(file) => taken += usize::from(file.has(unit.id)),
        }
        let mut image = image.clone();
        image.take_split_file(&bytes);
        name_frames(&image, &places);
    }
    println!("{refused} of 24 were refused, {taken} had the unit");
    assert!(refused < 24, "some are read");
}
