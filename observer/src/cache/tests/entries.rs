//! Entries: what is kept comes back, and whatever is wrong with it or its image is noticed.

use std::process::Command;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::cache::entry::{HEAD, sealed};
use crate::model::{FileOffset, FileState};

/// Set in the child process that decodes within its memory.
const CHILD: &str = "ASYNC_OBSERVER_CACHE_CHILD";
/// Address space of that process in KiB: the test binary and its threads take most of it.
const MEMORY: u64 = 1 << 20;

fn evidence(file: &[u8], analysis: &Analysis) -> Evidence {
    Evidence::of(analysis, &read_from(file)).expect("the facts hold of the file")
}

fn entry(file: &[u8]) -> Vec<u8> {
    let analysis = analysis(file);
    Entry::seal(VERSION, &key(file, true), &evidence(file, &analysis), &analysis).expect("it can be written")
}

/// What comes of these facts, kept of one file and asked for of another.
fn asked(kept: &Analysis, of: &[u8], file: &[u8]) -> Result<Option<Analysis>, Stale> {
    let place = Scratch::new();
    let cache = place.cache();
    let sealed = Entry::seal(VERSION, &key(of, true), &evidence(of, &analysis(of)), kept).expect("it can be written");
    std::fs::write(place.0.join(format!("{}.facts", key(of, true).name(VERSION))), sealed).expect("it is our folder");
    let found = cache.find(&key(file, true), &read_from(file));
    assert_eq!(place.files().len(), usize::from(found.is_ok()), "what does not hold is removed");
    found
}

#[test]
fn what_is_kept_is_found_as_it_was() {
    let (file, place) = (file(), Scratch::new());
    let too_old = Analysis::TooOld { version: "1.20.6".to_owned(), reason: "too old".to_owned() };
    for known in [analysis(&file), Analysis::Nothing, too_old] {
        place.cache().keep(&key(&file, true), &known, &read_from(&file)).expect("it is kept");
        assert_eq!(place.cache().find(&key(&file, true), &read_from(&file)), Ok(Some(known)));
    }
    assert_eq!(place.cache().find(&key(&file, false), &read_from(&file)), Ok(None), "names were not left out");
}

#[test]
fn a_file_that_changed_under_the_same_build_id_and_size_is_noticed() {
    let original = file();
    let known = analysis(&original);
    assert_eq!(asked(&known, &original, &original), Ok(Some(known.clone())));
    let image = Image::parse(&original).expect("an image");
    let offset = |at| usize::try_from(image.offset_of(VirtAddr(at)).expect("in the file").0).expect("small");
    let changed = |at: usize| {
        let mut file = original.clone();
        file[at] ^= 0x40;
        asked(&known, &original, &file)
    };
    assert_eq!(changed(offset(CODE)), Err(Stale::Changed("an instruction that is probed")));
    assert_eq!(changed(offset(CODE + 6)), Err(Stale::Changed("an instruction that is probed")));
    assert_eq!(changed(offset(DATA + 79)), Err(Stale::Changed("its task vtables")));
    assert_eq!(changed(64 + 8), Err(Stale::OtherImage), "a program header");
    assert_eq!(changed(offset(CODE + 9)), Ok(Some(known.clone())), "nothing depends on this byte");
}

#[test]
fn facts_that_do_not_fit_together_are_not_used_whoever_wrote_them() {
    let file = file();
    let with = |change: &dyn Fn(&mut ImageFacts)| {
        let mut facts = facts(&file);
        change(&mut facts);
        asked(&Analysis::Runtime(Box::new(facts)), &file, &file).expect_err("it is refused")
    };
    assert_eq!(with(&|f| f.plan.points[1].offset = FileOffset(0)), Stale::Damaged, "another place in the file");
    assert_eq!(with(&|f| f.plan.points[1].bytes.clear()), Stale::Damaged, "no instruction");
    assert_eq!(with(&|f| f.plan.points[1].role = Role::Poll), Stale::Damaged, "a return probe where none may be");
    assert_eq!(with(&|f| f.segments[0].address.0 += 8), Stale::Changed("its headers"));
    assert_eq!(with(&|f| f.types[0].vtable.0 = u64::MAX), Stale::Changed("its task vtables"));
    let place = Scratch::new();
    let mut wrong = facts(&file);
    wrong.plan.points[0].bytes[0] ^= 1;
    let wrong = Analysis::Runtime(Box::new(wrong));
    place.cache().keep(&key(&file, true), &wrong, &read_from(&file)).expect("nothing failed");
    assert!(place.files().is_empty(), "nor are they kept");
}

#[test]
fn an_entry_of_another_version_format_or_image_is_not_used() {
    let file = file();
    let bytes = entry(&file);
    assert!(Entry::unseal(&bytes, VERSION, &key(&file, true)).is_ok());
    let refused =
        |bytes: &[u8], version: &str, key: &Key| Entry::unseal(bytes, version, key).expect_err("it is refused");
    assert_eq!(refused(&bytes, "1.2.4+test", &key(&file, true)), Stale::OtherVersion);
    let mut later = bytes.clone();
    later[8] += 1;
    assert_eq!(refused(&later, VERSION, &key(&file, true)), Stale::OtherVersion);
    assert_eq!(refused(&bytes, VERSION, &key(&file, false)), Stale::OtherImage);
    assert_eq!(refused(&[&bytes[..], &[0]].concat(), VERSION, &key(&file, true)), Stale::Damaged);
}

#[test]
fn a_file_that_is_known_by_its_last_change_is_known_once_that_is_past() {
    let (file, place) = (file(), Scratch::new());
    let now =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock").as_secs().cast_signed();
    for (seconds, is_settled) in [(now, false), (now + 100, false), (now - 100, true)] {
        assert_eq!(Key::by_file(7, seconds, 9).is_settled(), is_settled, "changed at {seconds}, now it is {now}");
        // So are the files that its debug information may be in.
        let state = FileState { device: 1, inode: 2, size: 3, changed: (seconds, 0) };
        assert_eq!(key(&file, false).with_debug_file(state).is_settled(), is_settled, "a debug file, at {seconds}");
    }
    let past = Key::by_file(7, now - 100, file.len() as u64);
    place.cache().keep(&past, &Analysis::Nothing, &read_from(&file)).expect("nothing failed");
    assert_eq!(place.files().len(), 1);
    let later = Key::by_file(7, now - 99, file.len() as u64);
    assert_eq!(place.cache().find(&later, &read_from(&file)), Ok(None));
}

proptest! {
    #[test]
    fn no_bytes_are_an_entry(bytes in vec(any::<u8>(), 0..600)) {
        let file = file();
        prop_assert!(Entry::unseal(&bytes, VERSION, &key(&file, true)).is_err());
    }

    #[test]
    fn no_changed_entry_is_taken_for_a_whole_one(
        changes in vec((any::<Index>(), any::<u8>()), 1..8),
        cut in proptest::option::of(any::<Index>()),
    ) {
        let file = file();
        let (original, mut bytes) = (entry(&file), entry(&file));
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        prop_assert_eq!(Entry::unseal(&bytes, VERSION, &key(&file, true)).is_ok(), bytes == original);
    }

    #[test]
    fn changed_values_with_a_right_checksum_are_used_only_if_the_file_agrees(
        changes in vec((any::<Index>(), any::<u8>()), 1..4),
    ) {
        let file = file();
        let mut values = entry(&file)[HEAD..].to_vec();
        for (at, value) in changes {
            let at = at.index(values.len());
            values[at] = value;
        }
        let Ok(entry) = Entry::unseal(&sealed(VERSION, &values), VERSION, &key(&file, true)) else { return Ok(()) };
        if entry.evidence.check(&entry.analysis, &read_from(&file)).is_err() {
            return Ok(());
        }
        if let Analysis::Runtime(facts) = entry.analysis {
            let image = Image::parse(&file).expect("an image");
            for point in facts.plan.points {
                prop_assert_eq!(image.offset_of(point.at), Some(point.offset));
                prop_assert_eq!(image.slice_at(point.at, point.bytes.len()), Some(&point.bytes[..]));
            }
        }
    }
}

#[test]
fn what_an_entry_claims_to_hold_costs_no_memory() {
    if std::env::var_os(CHILD).is_some() {
        let file = file();
        let values = entry(&file)[HEAD..].to_vec();
        // Each byte made the first of a huge number: among them are the lengths of all lists and texts.
        for at in 0..values.len() {
            let huge =
                [&values[..at], &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f], &values[at + 1..]].concat();
            let _ = Entry::unseal(&sealed(VERSION, &huge), VERSION, &key(&file, true));
        }
        return;
    }
    let child = Command::new("/bin/sh")
        .args(["-c", &format!("ulimit -v {MEMORY} && exec \"$0\" --exact \"$1\" --test-threads 1 --nocapture")])
        .arg(std::env::current_exe().expect("tests run from a file"))
        .arg("cache::tests::entries::what_an_entry_claims_to_hold_costs_no_memory")
        .env(CHILD, "1")
        .output()
        .expect("a shell");
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success() && said.contains("1 passed"), "{said}{}", String::from_utf8_lossy(&child.stderr));
}
