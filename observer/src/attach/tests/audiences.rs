//! One link for all processes of an image: who is reported, who is not, and what is left of those that end.

use super::forked::{Child, forked, stays};
use super::*;
use crate::model::Ns;

fn heard(mechanism: Mechanism, audience: Audience) -> Probes {
    Probes::load(&Options { mechanism: Some(mechanism), ring_pages: 64, audience, ..Options::default() }).unwrap()
}

/// Calls it this often, and ends.
fn calls(times: usize) -> impl Fn(&Child) {
    move |_| {
        let cell = Cell::new(LIVE);
        for _ in 0..times {
            busy(&cell);
        }
    }
}

/// Who was seen how often.
fn tally(seen: &[Seen]) -> Vec<(u32, usize)> {
    let mut tally = std::collections::BTreeMap::new();
    for record in seen {
        *tally.entry(record.tgid).or_insert(0) += 1;
        assert_eq!(record.flags, 0, "{record:?}");
    }
    tally.into_iter().collect()
}

fn sorted(mut expected: Vec<(u32, usize)>) -> Vec<(u32, usize)> {
    expected.sort();
    expected
}

#[test]
fn one_link_reports_every_process_of_an_image_by_its_number() {
    let Some(_alone) = live() else { return };
    for mechanism in mechanisms() {
        let mut probes = heard(mechanism, Audience::Linked);
        let points = [point(Role::Poll, busy as *const () as usize)];
        let before = forked(calls(3));
        let links = probes.attach(&everyone(&points)).unwrap();
        let after = forked(calls(5));
        assert_eq!((links.probes(), links.links()), (2, 2), "an entry and a return, however many processes there are");
        let pids = (before.pid(), after.pid());
        before.run();
        after.run();
        busy(&Cell::new(LIVE));
        let (seen, _) = drain(&mut probes);
        assert_eq!(tally(&seen), sorted(vec![(pids.0, 6), (pids.1, 10), (std::process::id(), 2)]), "{mechanism:?}");
        assert!(seen.iter().all(|record| record.cookie.target == Cookie::BY_PROCESS));
        assert_eq!(counted(&probes), Counters { hits: 18, returns: 9, ..Counters::default() });
    }
}

#[test]
fn only_those_who_are_listed_are_reported_and_the_others_are_counted() {
    let Some(_alone) = live() else { return };
    for mechanism in mechanisms() {
        let mut probes = heard(mechanism, Audience::Listed);
        let points = [point(Role::Poll, busy as *const () as usize)];
        let _links = probes.attach(&everyone(&points)).unwrap();
        let children = [forked(calls(3)), forked(calls(5)), forked(calls(7))];
        let listed = children[1].pid();
        probes.list(Pid(listed)).unwrap();
        probes.list(Pid(children[2].pid())).unwrap();
        probes.forget(&[(Pid(children[2].pid()), Ns(now()))]).unwrap();
        children.into_iter().for_each(|child| child.run());
        assert_eq!(tally(&drain(&mut probes).0), [(listed, 10)], "{mechanism:?}");
        assert_eq!(counted(&probes), Counters { hits: 10, returns: 5, foreign: 20, ..Counters::default() });
    }
}

#[test]
fn all_are_reported_but_those_excluded_and_ourselves() {
    let Some(_alone) = live() else { return };
    for mechanism in mechanisms() {
        let mut probes = heard(mechanism, Audience::NotExcluded);
        let points = [point(Role::Poll, busy as *const () as usize), place_of_a_mint()];
        let _links = probes.attach(&everyone(&points)).unwrap();
        let children = [forked(calls(3)), forked(calls(5)), forked(calls(7))];
        let pids: Vec<u32> = children.iter().map(|child| child.pid()).collect();
        probes.exclude(Pid(pids[1])).unwrap();
        children.into_iter().for_each(|child| child.run());
        busy(&Cell::new(LIVE));
        // SAFETY: it saves what it must and returns.
        unsafe { async_observer_test_registers() };
        assert_eq!(tally(&drain(&mut probes).0), sorted(vec![(pids[0], 6), (pids[2], 14)]), "{mechanism:?}");
        assert_eq!(counted(&probes), Counters { hits: 20, returns: 10, foreign: 13, ..Counters::default() });
    }
}

fn place_of_a_mint() -> AttachPoint {
    AttachPoint {
        register: Some(MintRegister(0)),
        ..point(Role::Mint, async_observer_test_places as *const () as usize)
    }
}

#[test]
fn a_link_for_one_process_does_not_see_its_siblings() {
    let Some(_alone) = live() else { return };
    for mechanism in mechanisms() {
        let mut probes = heard(mechanism, Audience::Linked);
        let points = [point(Role::Poll, busy as *const () as usize)];
        let (one, other) = (forked(calls(3)), forked(calls(5)));
        let scope = Scope::Process { pid: Pid(one.pid()), target: 4 };
        let _links = probes.attach(&requests(&points).map(|request| ImageRequest { scope, ..request })).unwrap();
        let pid = one.pid();
        one.run();
        other.run();
        let (seen, _) = drain(&mut probes);
        assert_eq!(tally(&seen), [(pid, 6)], "{mechanism:?}");
        assert_eq!(seen[0].cookie.target, 4);
        assert_eq!(counted(&probes), Counters { hits: 6, returns: 3, ..Counters::default() });
    }
}

#[test]
fn a_link_for_everyone_outlives_the_process_whose_image_it_was_opened_by() {
    let Some(_alone) = live() else { return };
    for mechanism in mechanisms() {
        let mut probes = heard(mechanism, Audience::Linked);
        let points = [point(Role::Poll, busy as *const () as usize)];
        let (first, second) = (forked(calls(0)), forked(calls(2)));
        let path = std::path::PathBuf::from(format!("/proc/{}/exe", first.pid()));
        let requests = || everyone(&points).map(|request| ImageRequest { path: &path, ..request });
        let links = probes.attach(&requests()).unwrap();
        first.kill();
        let pid = second.pid();
        second.run();
        assert_eq!(tally(&drain(&mut probes).0), [(pid, 4)], "{mechanism:?}");
        drop(links);
        // Nobody's end is reported, only that the file cannot be opened that way.
        assert!(matches!(probes.attach(&requests()), Err(AttachError::FileUnreadable { .. })));
    }
}

#[test]
fn processes_without_room_are_refused_and_forgetting_makes_room() {
    let Some(_alone) = live() else { return };
    let probes =
        Probes::load(&Options { ring_pages: 1, audience: Audience::Listed, processes: 8, ..Options::default() });
    let probes = probes.unwrap();
    (1..=8).for_each(|pid| probes.list(Pid(pid)).unwrap());
    assert!(matches!(probes.list(Pid(9)), Err(AttachError::TooManyProcesses)));
    probes.list(Pid(8)).unwrap();
    probes.forget(&[(Pid(3), Ns(now()))]).unwrap();
    probes.forget(&[(Pid(3), Ns(now()))]).unwrap();
    probes.list(Pid(9)).unwrap();
}

/// A call in which the child stays until it is killed.
#[inline(never)]
extern "C" fn stuck(cell: *const Cell, child: &Child) -> u64 {
    child.tell();
    // SAFETY: no arguments.
    unsafe { libc::pause() };
    black_box(cell) as u64 ^ 0x99
}

/// Children that are killed in the middle of a call, one after another.
fn killed_in_calls(probes: &mut Probes, times: usize, forget: bool) -> Counters {
    let points = [point(Role::Poll, stuck as *const () as usize)];
    let _links = probes.attach(&everyone(&points)).unwrap();
    for _ in 0..times {
        let mut child = forked(|child| {
            stuck(&Cell::new(LIVE), child);
        });
        child.go();
        child.told();
        let pid = Pid(child.pid());
        child.kill();
        if forget {
            probes.forget(&[(pid, Ns(now()))]).unwrap();
        }
    }
    counted(probes)
}

#[test]
fn calls_of_killed_processes_do_not_fill_the_map_for_ever() {
    let Some(_alone) = live() else { return };
    let load = || Probes::load(&Options { ring_pages: 64, in_progress: 32, ..Options::default() }).unwrap();
    let counters = killed_in_calls(&mut load(), 200, true);
    assert_eq!(counters, Counters { hits: 200, ..Counters::default() });
    // Without being told of their ends it would be full.
    let counters = killed_in_calls(&mut load(), 100, false);
    assert!(counters.entries_forgotten >= 60, "{counters:?}");
}

/// What is seen of a call that is open while a process is forgotten as of that moment.
fn seen_of_a_call_while_forgetting(of: impl Fn(Pid, Ns, Ns) -> (Pid, Ns)) -> Vec<(Option<RecordKind>, u16)> {
    let mut probes = best(64);
    let points = [point(Role::Poll, stays as *const () as usize)];
    let _links = probes.attach(&everyone(&points)).unwrap();
    let mut child = forked(|child| stays(&Cell::new(LIVE), child));
    let before = Ns(now());
    child.go();
    child.told();
    let (pid, end) = of(Pid(child.pid()), before, Ns(now()));
    probes.forget(&[(pid, end)]).unwrap();
    child.run();
    let (seen, _) = drain(&mut probes);
    seen.iter().map(|record| (record.kind, record.flags)).collect()
}

#[test]
fn forgetting_a_process_leaves_the_calls_of_others_and_those_begun_after_its_end() {
    let Some(_alone) = live() else { return };
    let whole = [(Some(RecordKind::Enter), 0), (Some(RecordKind::Leave), 0)];
    assert_eq!(seen_of_a_call_while_forgetting(|_, _, after| (Pid(std::process::id()), after)), whole);
    // Its number is another program's by now, which was amid a call when we heard of the end.
    assert_eq!(seen_of_a_call_while_forgetting(|pid, before, _| (pid, before)), whole);
    let forgotten = [(Some(RecordKind::Enter), 0), (Some(RecordKind::Leave), FLAG_SUBJECT_UNKNOWN)];
    assert_eq!(seen_of_a_call_while_forgetting(|pid, _, after| (pid, after)), forgotten);
}

#[test]
fn whether_numbers_are_the_kernels_own_is_told_by_the_namespace() {
    let link = std::fs::read_link("/proc/self/ns/pid").unwrap();
    assert_eq!(sees_every_process().unwrap(), link.to_str() == Some("pid:[4026531836]"));
}
