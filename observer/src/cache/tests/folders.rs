//! The folder: whose it must be, how much it holds, and that nothing which happens to it harms anybody.

use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, SystemTime};

use super::*;

fn open(path: &Path) -> Result<Cache, CacheError> {
    Cache::open(path, VERSION.to_owned(), effective_user(), Limits::default())
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).expect("it is there").permissions().mode() & 0o7777
}

/// Keeps that nothing is in an image with this build id.
fn keep(cache: &mut Cache, id: u8) {
    let file = file();
    let key = Key::by_build(&[id], file.len() as u64, 0, true);
    cache.keep(&key, &Analysis::Nothing, &read_from(&file)).expect("it is kept");
}

fn knows(cache: &Cache, id: u8) -> bool {
    let file = file();
    let key = Key::by_build(&[id], file.len() as u64, 0, true);
    cache.find(&key, &read_from(&file)) == Ok(Some(Analysis::Nothing))
}

fn used_ago(path: &Path, ago: Duration) {
    let file = File::options().append(true).open(path).expect("it is there");
    file.set_modified(SystemTime::now() - ago).expect("it is ours");
}

#[test]
fn a_folder_is_made_for_its_owner_alone() {
    let place = Scratch::new();
    let deep = place.0.join("a/b");
    keep(&mut open(&deep).expect("it can be made"), 1);
    assert_eq!((mode(&place.0), mode(&deep)), (0o700, 0o700));
    let file = std::fs::read_dir(&deep).expect("it is there").next().expect("one entry").expect("it can be listed");
    assert_eq!(mode(&file.path()), 0o600);
}

#[test]
fn a_folder_that_others_may_write_to_is_refused() {
    let place = Scratch::new();
    std::fs::create_dir(&place.0).expect("it can be made");
    for mode in [0o777, 0o770, 0o1777, 0o702] {
        std::fs::set_permissions(&place.0, Permissions::from_mode(mode)).expect("it is ours");
        let refused = open(&place.0).expect_err("others may write to it");
        assert!(matches!(refused, CacheError::Shared { mode: said, .. } if said == mode), "{refused}");
    }
    std::fs::set_permissions(&place.0, Permissions::from_mode(0o755)).expect("it is ours");
    assert!(open(&place.0).is_ok(), "others may read it");
    let other = Cache::open(&place.0, VERSION.to_owned(), effective_user() + 1, Limits::default());
    assert!(matches!(other, Err(CacheError::NotOurs { .. })));
}

#[test]
fn a_link_or_a_file_in_the_folders_place_is_refused() {
    let (place, target) = (Scratch::new(), Scratch::new());
    std::fs::create_dir(&target.0).expect("it can be made");
    std::os::unix::fs::symlink(&target.0, &place.0).expect("it can be made");
    assert!(matches!(open(&place.0), Err(CacheError::NotAFolder(_))));
    std::fs::remove_file(&place.0).expect("it is ours");
    std::fs::write(&place.0, "").expect("it can be written");
    assert!(matches!(open(&place.0), Err(CacheError::NotAFolder(_))));
    assert!(matches!(open(&place.0.join("in-it")), Err(CacheError::Io { .. })));
    std::fs::remove_file(&place.0).expect("it is ours");
    assert!(target.files().is_empty());
}

#[test]
fn what_is_no_regular_file_in_an_entrys_place_is_not_opened() {
    let place = Scratch::new();
    let mut cache = place.cache();
    keep(&mut cache, 1);
    let entry = place.files().remove(0);
    let aside = place.0.join("aside");
    std::fs::rename(&entry, &aside).expect("it is ours");
    std::os::unix::fs::symlink(&aside, &entry).expect("it can be made");
    assert!(!knows(&cache, 1), "a link");
    std::fs::remove_file(&entry).ok();
    let made = std::process::Command::new("mkfifo").arg(&entry).status().expect("mkfifo starts");
    assert!(made.success());
    assert!(!knows(&cache, 1), "a pipe, which must not hold us");
    std::fs::write(&entry, vec![0; (Limits::default().entry + 1) as usize]).expect("it can be written");
    assert!(!knows(&cache, 1), "too large");
    keep(&mut cache, 1);
    assert!(knows(&cache, 1), "it heals");
}

#[test]
fn the_least_used_goes_first_when_there_is_too_much() {
    let limits = [Limits { total: 8 * 4096, ..Limits::default() }, Limits { entries: 8, ..Limits::default() }];
    for limits in limits {
        let place = Scratch::new();
        let mut cache = place.with(limits);
        for id in 0..8 {
            keep(&mut cache, id);
            let name = Key::by_build(&[id], file().len() as u64, 0, true).name(VERSION);
            used_ago(&place.0.join(format!("{name}.facts")), Duration::from_secs(7200 - 60 * u64::from(id)));
        }
        assert_eq!(place.files().len(), 8);
        assert!(knows(&cache, 0), "and that is noted as a use");
        keep(&mut cache, 8);
        let left: Vec<u8> = (0..9).filter(|id| knows(&cache, *id)).collect();
        assert_eq!(left, [0, 4, 5, 6, 7, 8], "{limits:?}");
    }
}

#[test]
fn what_no_version_uses_any_more_goes_and_foreign_files_stay() {
    let place = Scratch::new();
    let week = Duration::from_secs(8 * 24 * 3600);
    let mut other =
        Cache::open(&place.0, "0.9".to_owned(), effective_user(), Limits::default()).expect("it can be made");
    for id in [1, 2] {
        keep(&mut other, id);
    }
    used_ago(&place.files()[0], week);
    for name in [".new-1-2-3", ".new-4-5-6", "notes.txt"] {
        std::fs::write(place.0.join(name), "").expect("it can be written");
    }
    used_ago(&place.0.join(".new-1-2-3"), week);
    used_ago(&place.0.join("notes.txt"), week);
    keep(&mut place.cache(), 3);
    let names: Vec<String> =
        place.files().iter().map(|path| path.file_name().expect("a name").to_string_lossy().into_owned()).collect();
    assert_eq!(names.iter().filter(|name| name.ends_with(".facts")).count(), 2, "one of each version: {names:?}");
    let others: Vec<&String> = names.iter().filter(|name| !name.ends_with(".facts")).collect();
    assert_eq!(others, [".new-4-5-6", "notes.txt"], "one may still be written, one is not ours");
}

#[test]
fn a_folder_that_is_deleted_while_it_is_used_is_made_again() {
    let place = Scratch::new();
    let mut cache = place.cache();
    keep(&mut cache, 1);
    std::fs::remove_dir_all(&place.0).expect("it is ours");
    assert!(!knows(&cache, 1));
    keep(&mut cache, 2);
    assert!(knows(&cache, 2));
    let moved = Scratch::new();
    std::fs::rename(&place.0, &moved.0).expect("it is ours");
    std::os::unix::fs::symlink("/", &place.0).expect("it can be made");
    keep(&mut cache, 3);
    assert_eq!(moved.files().len(), 2, "whatever takes its name, what was checked is what is used");
    std::fs::remove_file(&place.0).expect("it is ours");
}

#[test]
fn where_nothing_can_be_written_that_is_said() {
    let place = Scratch::new();
    std::fs::create_dir(&place.0).expect("it can be made");
    // Not even root writes there.
    let unwritable = open(Path::new("/proc/1/async-observer")).expect_err("proc takes no folder");
    assert!(unwritable.to_string().starts_with("cannot make /proc/1/async-observer: "), "{unwritable}");
}

#[test]
fn observers_at_the_same_time_do_not_see_each_others_halves() {
    let place = Scratch::new();
    let (file, limits) = (file(), Limits { entries: 6, ..Limits::default() });
    let known = analysis(&file);
    std::thread::scope(|scope| {
        for thread in 0..4u8 {
            let (place, file, known) = (&place, &file, &known);
            scope.spawn(move || {
                let mut cache = place.with(limits);
                for round in 0..50u8 {
                    cache.keep(&key(file, true), known, &read_from(file)).expect("it is kept");
                    let found = cache.find(&key(file, true), &read_from(file)).expect("no half of an entry");
                    assert!(found.is_none_or(|found| found == *known));
                    // More than fits, so that others remove while this one reads.
                    keep(&mut cache, thread * 50 + round);
                }
            });
        }
    });
    assert!(place.files().len() <= 4 * 6, "each observer keeps to the bound as it knows it");
    assert!(place.files().iter().all(|path| path.to_string_lossy().ends_with(".facts")), "nothing is left over");
}
