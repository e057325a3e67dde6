//! Probes by trace events: what is left behind, by whom, and what many sites of one event share.

use std::sync::Arc;

use super::super::sites::Sites;
use super::super::trace_event::TraceEvent;
use super::super::tracefs::Tracefs;
use super::forked::{forked, stays};
use super::*;

/// Names of the definitions of this process.
fn own_definitions() -> usize {
    let names = Tracefs::open().unwrap().names().unwrap();
    names.iter().filter(|(pid, _)| pid.0 == std::process::id()).count()
}

#[test]
fn definitions_are_as_few_as_there_are_programs_and_go_with_the_links() {
    let Some(_alone) = live() else { return };
    let mut probes = probes(Mechanism::Tracefs, 8);
    let first = async_observer_test_thousand as *const () as usize;
    let mut points: Vec<AttachPoint> = (0..50).map(|n| point(Role::Poll, first + n)).collect();
    points.extend((50..100).map(|n| point(Role::Dealloc, first + n)));
    let links = probes.attach(&requests(&points)).unwrap();
    assert_eq!((links.probes(), links.links(), own_definitions()), (150, 3, 3));
    drop(links);
    assert_eq!(own_definitions(), 0);
}

#[test]
fn two_processes_with_probes_of_their_own_do_not_run_each_others_programs() {
    let Some(_alone) = live() else { return };
    let mut probes = probes(Mechanism::Tracefs, 8);
    let points = [point(Role::Poll, busy as *const () as usize)];
    let children = [(); 2].map(|()| {
        forked(|_| {
            busy(&Cell::new(LIVE));
        })
    });
    let pids: Vec<u32> = children.iter().map(|child| child.pid()).collect();
    let links: Vec<Links> = pids
        .iter()
        .zip(1..)
        .map(|(pid, target)| {
            let scope = Scope::Process { pid: Pid(*pid), target };
            probes.attach(&requests(&points).map(|request| ImageRequest { scope, ..request })).unwrap()
        })
        .collect();
    children.into_iter().for_each(|child| child.run());
    let (seen, _) = drain(&mut probes);
    let of: Vec<(u32, u16)> = seen.iter().map(|record| (record.tgid, record.cookie.target)).collect();
    assert_eq!(of, [(pids[0], 1), (pids[0], 1), (pids[1], 2), (pids[1], 2)]);
    drop(links);
}

#[test]
fn a_killed_observer_leaves_no_probe_and_its_definitions_go_with_the_next_start() {
    let Some(_alone) = live() else { return };
    let first_byte = || -> u8 {
        // SAFETY: code of this process, which is readable.
        unsafe { std::ptr::read_volatile((freed as *const ()).cast()) }
    };
    let bare = first_byte();
    let points = [point(Role::Dealloc, freed as *const () as usize)];
    let program = Object::load(&Options::default(), Mechanism::Tracefs, None).unwrap();
    let program = program.load_programs(AttachedBy::PerfEvent).unwrap().remove(&Program::EnterOnly).unwrap();
    let parent = Pid(std::process::id());
    // The child is the observer, and this process its target.
    let mut child = forked(|child| {
        let tracefs = Arc::new(Tracefs::open().unwrap());
        let sites = Sites::of(&requests(&points)[0], Program::EnterOnly).by_cookie(Program::EnterOnly).remove(0);
        let file = std::fs::File::open(EXE).unwrap();
        use std::os::fd::AsFd as _;
        let _event =
            TraceEvent::attach(&tracefs, program.as_fd(), &file, &sites, Some(parent), false).unwrap().unwrap();
        child.tell();
        child.wait();
    });
    child.go();
    child.told();
    let pid = child.pid();
    let definitions = || {
        let names = Tracefs::open().unwrap().names().unwrap();
        names.iter().filter(|(owner, _)| owner.0 == pid).count()
    };
    assert_eq!((first_byte(), definitions()), (0xcc, 1), "it observes, and another start leaves it alone");
    child.kill();
    assert_eq!(first_byte(), bare, "the kernel has taken the breakpoint out");
    freed(&Cell::new(LIVE));
    assert_eq!(definitions(), 0);
}

#[test]
fn a_return_whose_entry_nobody_saw_is_not_said_to_be_anybodys() {
    let Some(_alone) = live() else { return };
    let mut probes = probes(Mechanism::Tracefs, 8);
    let points = [point(Role::Poll, stays as *const () as usize)];
    let [request] = requests(&points);
    let mut child = forked(|child| {
        stays(&Cell::new(LIVE), child);
        stays(&Cell::new(LIVE), child);
    });
    child.go();
    child.told();
    let scope = Scope::Process { pid: Pid(child.pid()), target: 1 };
    let _links = probes.attach(&[ImageRequest { scope, ..request }]).unwrap();
    // Out of the first call, which is not known, into the second.
    child.go();
    child.told();
    child.run();
    let (seen, _) = drain(&mut probes);
    assert_eq!(
        seen.iter().map(|record| (record.kind, record.flags)).collect::<Vec<_>>(),
        [(Some(RecordKind::Enter), 0), (Some(RecordKind::Leave), 0)]
    );
}
