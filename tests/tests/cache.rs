//! What is known of images is kept on disk: a second look says the same without reading them, and nothing that happens to
//! the folder changes what is said.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use observer::model::{Analysis, Role};
use observer::plan;
use observer::symbols::Image;
use serde_json::Value;
use tests::fixture::{Fixture, SETTLED, Scratch, path, write_program};
use tests::observer::{CACHES, Ended, Observer, program};

const CELL: &str = "newest-release";

fn leaks() -> Fixture {
    Fixture::start(CELL, "leaks", &["still"])
}

/// One `ps` of a process, with this folder.
fn ps(pid: u32, folder: &Path) -> Ended {
    ps_with(pid, &["--cache-dir", folder.to_str().expect("it is text")])
}

fn ps_with(pid: u32, more: &[&str]) -> Ended {
    let pid = pid.to_string();
    let ended = Observer::run(["ps", "--json", "--tasks", "-v", "--pid", &pid].iter().chain(more)).ended();
    assert_eq!(ended.code, Some(0), "{:?}", ended.stderr);
    ended
}

/// What was said of the tasks, without when.
fn told(ended: &Ended) -> Vec<Value> {
    let lines = ended.look().lines;
    let of_tasks = lines.into_iter().filter(|line| line["event"] == "site" || line["event"] == "task");
    let mut told: Vec<Value> = of_tasks.collect();
    for line in &mut told {
        line.as_object_mut().expect("lines are objects").remove("ts");
    }
    assert!(told.len() > 100, "{} lines", told.len());
    told
}

/// The images of which this was said.
fn images<'a>(ended: &'a Ended, before: &str, after: &str) -> Vec<&'a str> {
    let said = ended.stderr.iter().filter_map(|line| line.strip_prefix("async-observer: "));
    said.filter_map(|line| line.strip_prefix(before)?.split_once(after)).map(|(image, _)| image).collect()
}

fn analysed(ended: &Ended) -> Vec<&str> {
    images(ended, "analysing ", " (")
}

fn known(ended: &Ended) -> Vec<&str> {
    images(ended, "", " is known from before")
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let listed = std::fs::read_dir(folder).expect("the folder is there");
    listed.map(|entry| entry.expect("it can be listed").path()).collect()
}

/// The entry of a program: those of libraries without a runtime are much smaller.
fn largest(folder: &Path) -> PathBuf {
    let size = |path: &PathBuf| std::fs::metadata(path).expect("it is there").len();
    entries(folder).into_iter().max_by_key(size).expect("there is one")
}

#[test]
fn a_second_look_says_the_same_and_reads_no_image() {
    let (fixture, folder) = (leaks(), Scratch::new("cache-second"));
    let folder = folder.path().join("cache");
    let (first, second) = (ps(fixture.pid(), &folder), ps(fixture.pid(), &folder));
    assert!(analysed(&first).len() >= 2, "the program and its libraries: {:?}", first.stderr);
    assert_eq!((known(&first).len(), analysed(&second).len()), (0, 0), "{:?}", second.stderr);
    assert_eq!(known(&second), analysed(&first), "also those that hold nothing");
    assert_eq!(told(&second), told(&first));
    let mode = |path: &Path| std::fs::metadata(path).expect("it is there").permissions().mode() & 0o7777;
    assert_eq!(mode(&folder), 0o700);
    assert!(entries(&folder).iter().all(|entry| mode(entry) == 0o600));
}

#[test]
fn every_command_knows_what_another_has_found_out() {
    let (fixture, folder) = (leaks(), Scratch::new("cache-commands"));
    let cache = folder.path().join("cache");
    let pid = fixture.pid().to_string();
    let options = ["--pid", &pid, "-v", "--cache-dir", cache.to_str().expect("it is text")];
    let first = Observer::run(["--json", "-d", "100ms"].iter().chain(&options)).ended();
    assert!(first.code == Some(0) && !analysed(&first).is_empty(), "{:?}", first.stderr);
    for words in [
        &["sweep", "--json", "--for", "200ms", "--samples", "2", "--trace-spawns"][..],
        &["ps", "--json"],
        &["--json", "-d", "100ms", "--events", "init"],
    ] {
        let ended = Observer::run(words.iter().chain(&options)).ended();
        assert_eq!((ended.code, analysed(&ended).len()), (Some(0), 0), "{words:?}: {:?}", ended.stderr);
        assert_eq!(
            known(&ended).len(),
            analysed(&first).len(),
            "each is looked up once: {words:?}: {:?}",
            ended.stderr
        );
    }
    let ended = Observer::run(["ps", "--json", "--no-names"].iter().chain(&options)).ended();
    assert_eq!(ended.code, Some(0), "{:?}", ended.stderr);
    assert!(!analysed(&ended).is_empty(), "what was named is not what is not to be named: {:?}", ended.stderr);
    let site = ended.look().lines.into_iter().find(|line| line["event"] == "site").expect("it has tasks");
    assert!(site["future"].is_null(), "{site}");
}

#[test]
fn a_damaged_entry_and_one_of_another_version_are_replaced() {
    let (fixture, folder) = (leaks(), Scratch::new("cache-damaged"));
    let folder = folder.path().join("cache");
    let first = ps(fixture.pid(), &folder);
    let entry = largest(&folder);
    let written = std::fs::read(&entry).expect("it can be read");
    let changed = |at: usize| {
        let mut bytes = written.clone();
        bytes[at] ^= 1;
        bytes
    };
    let half = written[..written.len() / 2].to_vec();
    for (wrong, reason) in [
        (changed(written.len() / 2), "its entry is damaged"),
        (half, "its entry is damaged"),
        // Behind the magic number: how it is laid out, and by which version.
        (changed(8), "its entry is of another version"),
        (changed(12), "its entry is of another version"),
    ] {
        std::fs::write(&entry, &wrong).expect("it can be written");
        let again = ps(fixture.pid(), &folder);
        assert_eq!(analysed(&again).len(), 1, "{:?}", again.stderr);
        let refused = images(&again, "what was known of ", &format!(" is not used: {reason}"));
        assert_eq!(refused, analysed(&again), "{:?}", again.stderr);
        assert_eq!(told(&again), told(&first));
        assert_eq!(std::fs::read(&entry).expect("it is there again"), written, "the same was found out anew");
    }
}

#[test]
fn a_program_that_was_changed_under_its_build_id_is_analysed_anew() {
    let place = Scratch::new("cache-changed");
    let folder = place.path().join("cache");
    let fixture = leaks();
    let first = ps(fixture.pid(), &folder);
    // Where a task would be told to shut down, which none of this program is: it runs on as before.
    let mut bytes = std::fs::read(path(CELL, "leaks")).expect("it can be read");
    let image = Image::parse(&bytes).expect("it is an image");
    let Analysis::Runtime(facts) = plan::analyse(&image, false) else { panic!("it has a runtime") };
    let shutdown = facts.plan.points.iter().find(|point| point.role == Role::Shutdown).expect("it has tasks");
    let at = usize::try_from(shutdown.offset.0).expect("it is in the file");
    // push rbx instead of push rbp, ud2, or the like: another instruction.
    bytes[at] = if bytes[at] == 0x53 { 0x55 } else { 0x53 };
    let changed = place.path().join("changed");
    std::fs::write(&changed, &bytes).expect("it is ours");
    let copy = place.copy(&path(CELL, "leaks"));
    write_program(&changed, &copy);
    let other = Fixture::spawn("a changed copy", Command::new(&copy).arg("still"));
    other.wait_for("it is up", |line| line.contains("\"ready\":true"));
    let second = ps(other.pid(), &folder);
    let refused =
        images(&second, "what was known of ", " is not used: its file has changed: an instruction that is probed");
    assert_eq!(refused, [copy.to_str().expect("it is text")], "{:?}", second.stderr);
    assert_eq!(analysed(&second), refused);
    let sites = |ended: &Ended| ended.look().lines.iter().filter(|line| line["event"] == "site").count();
    assert_eq!(sites(&second), sites(&first));
    let third = ps(fixture.pid(), &folder);
    assert_eq!(analysed(&third).len(), 1, "what is kept now is the copy's: {:?}", third.stderr);
    assert_eq!(told(&third), told(&first));
}

#[test]
fn the_right_debug_file_is_used_though_the_image_is_known_from_when_only_a_wrong_one_was_there() {
    let place = Scratch::new("cache-debug-files");
    let folder = |name: &str| {
        let folder = place.path().join(name);
        std::fs::create_dir_all(&folder).expect("it is ours");
        folder.into_os_string().into_string().expect("a path")
    };
    let (wrong, right, cache) = (folder("wrong"), folder("right"), folder("cache"));
    let of = |name: &str| path("awaits-apart", name);
    std::fs::copy(of("of-another/awaits.debug"), format!("{wrong}/awaits.debug")).expect("it can be copied");
    let fixture = Fixture::start("awaits-apart", "awaits", &[]);
    let look = || {
        let words = ["--cache-dir", &cache, "--debug-dir", &wrong, "--debug-dir", &right];
        let ended = ps_with(fixture.pid(), &words);
        let lines = ended.look().lines;
        let sites: Vec<&Value> =
            lines.iter().filter(|line| line["event"] == "site" && line["type"] == "TOKIO_TASK").collect();
        let named = sites.iter().filter(|site| site["futureCertain"] == true).count();
        (sites.len(), named, analysed(&ended).len())
    };
    std::thread::sleep(SETTLED);
    let (all, named, _) = look();
    assert!(all > 10 && named < all, "{named} of {all} are named by panics alone");
    assert_eq!(look(), (all, named, 0), "it is known now");
    std::fs::copy(of("debug/awaits.debug"), format!("{right}/awaits.debug")).expect("it can be copied");
    std::thread::sleep(SETTLED);
    assert_eq!(look(), (all, all, 1), "another file that may be its own is another image to the cache");
    assert_eq!(look(), (all, all, 0));
}

#[test]
fn a_folder_that_is_deleted_under_way_harms_nobody() {
    let (fixture, place) = (leaks(), Scratch::new("cache-deleted"));
    let folder = place.path().join("cache");
    let folder_text = folder.to_str().expect("it is text");
    let observer = Observer::attach(fixture.pid(), &["--cache-dir", folder_text, "-d", "500ms"]);
    std::fs::remove_dir_all(&folder).expect("it was made");
    assert!(observer.stream().of("init").count() > 100, "its tasks are said all the same");
    assert!(!folder.exists(), "what is known already is not kept again");
    assert!(!analysed(&ps(fixture.pid(), &folder)).is_empty());
}

#[test]
fn where_nothing_can_be_kept_that_is_said_and_all_is_shown() {
    let (fixture, place) = (leaks(), Scratch::new("cache-refused"));
    let shared = place.path().join("shared");
    std::fs::create_dir(&shared).expect("it can be made");
    std::fs::set_permissions(&shared, PermissionsExt::from_mode(0o777)).expect("it is ours");
    let link = place.path().join("link");
    std::os::unix::fs::symlink("/var", &link).expect("it can be made");
    let right = told(&ps_with(fixture.pid(), &["--no-cache"]));
    // Not even root may make a folder in /proc.
    let nowhere = Path::new("/proc/1/async-observer");
    for (folder, reason) in
        [(shared.as_path(), "others may write to"), (&link, "is not a folder"), (nowhere, "cannot make")]
    {
        for _ in 0..2 {
            let ended = ps(fixture.pid(), folder);
            let said: Vec<&String> = ended.stderr.iter().filter(|line| line.contains("is not kept: ")).collect();
            assert!(matches!(said[..], [line] if line.contains(reason)), "{:?}", ended.stderr);
            assert!(known(&ended).is_empty() && !analysed(&ended).is_empty());
            assert_eq!(told(&ended), right);
        }
    }
    assert!(entries(&shared).is_empty());
}

#[test]
fn the_users_own_folder_is_used_unless_it_is_refused() {
    let (fixture, caches) = (leaks(), Scratch::new("cache-usual"));
    let pid = fixture.pid().to_string();
    let run = |more: &[&str]| {
        let mut command = Command::new(program());
        command.args(["ps", "--json", "-v", "--pid", &pid]).args(more).env(CACHES, caches.path());
        Observer::run_as(&mut command).ended()
    };
    let own = caches.path().join("async-observer");
    assert!(!analysed(&run(&["--no-cache"])).is_empty() && !own.exists());
    let first = run(&[]);
    assert_eq!(entries(&own).len(), analysed(&first).len());
    assert_eq!(known(&run(&[])), analysed(&first));
    assert_eq!(analysed(&run(&["--no-cache"])), analysed(&first));
}
