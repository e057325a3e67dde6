//! Probes going in and coming out: mechanisms, refused places, errors, privileges.

use super::*;

#[test]
fn uprobe_multi_is_taken_where_the_kernel_has_it_and_refused_where_not() {
    let Some(_alone) = live() else { return };
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse::<u32>().unwrap());
    let version = (numbers.next().unwrap(), numbers.next().unwrap());
    let forced = Probes::load(&Options { mechanism: Some(Mechanism::UprobeMulti), ..Options::default() });
    if version >= (6, 10) {
        assert_eq!(best(1).mechanism(), Mechanism::UprobeMulti);
    } else if version < (6, 6) {
        assert_eq!(best(1).mechanism(), Mechanism::Tracefs);
        assert!(matches!(forced, Err(AttachError::KernelCannot { .. })));
    }
}

#[test]
fn every_way_of_setting_the_programs_up_passes_this_kernels_verifier() {
    let Some(_alone) = live() else { return };
    // Constants cut programs down: each set of them is another program to the verifier.
    let sessions = [Sessions::IfThere, Sessions::Never];
    let quiet = [Quiet::Reported, Quiet::Unsaid, Quiet::Summed, Quiet::Governed];
    let audiences = [Audience::Linked, Audience::Listed, Audience::NotExcluded];
    for mechanism in mechanisms() {
        for (calls, sessions) in [(Calls::Once, sessions[0]), (Calls::Once, sessions[1]), (Calls::Twice, sessions[0])] {
            for (quiet, audience) in quiet.into_iter().flat_map(|quiet| audiences.map(|audience| (quiet, audience))) {
                for spawners in [Spawners::Unseen, Spawners::Reported] {
                    let set = Options { calls, sessions, quiet, audience, spawners, ..Options::default() };
                    let loaded = Probes::load(&Options { mechanism: Some(mechanism), ring_pages: 1, ..set });
                    assert!(loaded.is_ok(), "{mechanism:?} {set:?}: {}", chain(&loaded.err().unwrap()));
                }
            }
        }
    }
}

#[test]
fn links_take_their_probes_out_when_dropped() {
    let Some(_alone) = live() else { return };
    let first_bytes = || -> [u8; 4] {
        // SAFETY: code of this process, which is readable.
        unsafe { std::ptr::read_volatile((freed as *const ()).cast()) }
    };
    let bare = first_bytes();
    for mechanism in mechanisms() {
        let mut probes = probes(mechanism, 8);
        let points = [point(Role::Poll, freed as *const () as usize)];
        let cell = Cell::new(LIVE);
        let links = probes.attach(&requests(&points)).unwrap();
        assert_eq!(first_bytes()[0], 0xcc, "the kernel's breakpoint");
        freed(&cell);
        drop(links);
        assert_eq!(first_bytes(), bare);
        freed(&cell);
        assert_eq!(probes.counters().unwrap().hits, 2);
        // The same session can attach again.
        let links = probes.attach(&requests(&points)).unwrap();
        freed(&cell);
        links.detach();
        assert_eq!(probes.counters().unwrap().hits, 4);
    }
}

#[test]
fn probes_of_some_programs_go_and_the_others_stay() {
    let Some(_alone) = live() else { return };
    for mechanism in mechanisms() {
        let mut probes = probes(mechanism, 8);
        let points =
            [point(Role::Poll, polled as *const () as usize), point(Role::Dealloc, freed as *const () as usize)];
        let mut links = probes.attach(&requests(&points)).unwrap();
        let calls = links.give_up(|program| matches!(program, Program::Enter | Program::Leave));
        assert_eq!((links.probes(), calls.probes()), (1, 2));
        drop(calls);
        let mut cell = Cell::new(LIVE);
        polled(&mut cell, LIVE);
        freed(&cell);
        assert_eq!(probes.counters().unwrap().hits, 1);
    }
}

#[test]
fn a_thousand_points_go_into_one_link_and_come_out_with_it() {
    let Some(_alone) = live() else { return };
    for mechanism in mechanisms() {
        let mut probes = probes(mechanism, 64);
        let first = async_observer_test_thousand as *const () as usize;
        let points: Vec<AttachPoint> = (0..1000).map(|n| point(Role::Raise, first + n)).collect();
        let requests = requests(&points);
        let start = Instant::now();
        let links = probes.attach(&requests).unwrap();
        let attached = start.elapsed();
        assert_eq!((links.probes(), links.links()), (1000, 1));
        // SAFETY: it does nothing.
        unsafe { async_observer_test_thousand() };
        let start = Instant::now();
        drop(links);
        let detached = start.elapsed();
        let (seen, drained) = drain(&mut probes);
        assert!(seen.iter().map(|record| record.cookie.point).eq(0..1000), "{drained:?}");
        eprintln!("{mechanism:?}: 1000 points attached in {attached:?}, detached in {detached:?}");
    }
}

#[test]
fn a_place_that_takes_no_probe_costs_only_its_own_events() {
    let Some(_alone) = live() else { return };
    for mechanism in mechanisms() {
        let mut probes = probes(mechanism, 8);
        let first = async_observer_test_thousand as *const () as usize;
        let mut points: Vec<AttachPoint> = (0..5).map(|n| point(Role::Raise, first + n)).collect();
        points[1] = point(Role::Raise, async_observer_test_trap as *const () as usize);
        points[3].offset = FileOffset(1 << 40);
        let links = probes.attach(&requests(&points)).unwrap();
        assert_eq!(links.probes(), 3);
        let mut refused: Vec<u32> = links.refused().iter().map(|refused| refused.point.0).collect();
        refused.sort();
        assert_eq!(refused, [1, 3]);
        // SAFETY: it does nothing.
        unsafe { async_observer_test_thousand() };
        let (seen, _) = drain(&mut probes);
        let mut points: Vec<u32> = seen.iter().map(|record| record.cookie.point).collect();
        points.sort();
        assert_eq!(points, [0, 2, 4], "{mechanism:?}");
    }
}

#[test]
fn errors_tell_a_gone_target_from_a_file_that_cannot_be_opened() {
    let Some(_alone) = live() else { return };
    let mut ended = std::process::Command::new("true").spawn().unwrap();
    ended.wait().unwrap();
    for mechanism in mechanisms() {
        let mut probes = probes(mechanism, 8);
        let points = [point(Role::Raise, raised as *const () as usize)];
        let [mut request] = requests(&points);
        request.path = Path::new("/proc/self/map_files/nowhere");
        assert!(matches!(probes.attach(&[request]), Err(AttachError::FileUnreadable { .. })));
        let [mut request] = requests(&points);
        request.scope = Scope::Process { pid: Pid(ended.id()), target: 9 };
        assert!(matches!(probes.attach(&[request]), Err(AttachError::TargetGone { .. })), "{mechanism:?}");
    }
}

/// Runs on a thread of user 65534 that keeps only these capabilities (by number). Raw system calls, because the C
/// library's would take the rights from every thread.
fn with_capabilities<T: Send + 'static>(kept: &'static [u32], run: fn() -> T) -> T {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    const VERSION_3: u32 = 0x2008_0522;
    std::thread::spawn(move || {
        let mut sets = [[0u32; 3]; 2];
        for capability in kept {
            let bit = 1 << (capability % 32);
            sets[*capability as usize / 32][0] |= bit;
            sets[*capability as usize / 32][1] |= bit;
        }
        let header = Header { version: VERSION_3, pid: 0 };
        // SAFETY: plain numbers, and two structs that outlive the call and have the layout of this version.
        unsafe {
            assert_eq!(libc::prctl(libc::PR_SET_KEEPCAPS, 1, 0, 0, 0), 0);
            assert_eq!(libc::syscall(libc::SYS_setresuid, 65534, 65534, 65534), 0);
            assert_eq!(libc::syscall(libc::SYS_capset, &raw const header, sets.as_ptr()), 0);
        }
        run()
    })
    .join()
    .unwrap()
}

#[test]
fn without_privileges_the_error_names_the_capabilities() {
    let Some(_alone) = live() else { return };
    let error = with_capabilities(&[], || Probes::load(&Options::default()).err());
    assert!(
        matches!(&error, Some(AttachError::NotPermitted { needs, .. }) if needs.contains(&crate::model::Capability::Bpf)),
        "{error:?}"
    );
}

#[test]
fn two_capabilities_are_enough_for_uprobe_multi() {
    let Some(_alone) = live() else { return };
    if best(1).mechanism() == Mechanism::Tracefs {
        return; // those ask for more, see `AttachError`
    }
    const CAP_PERFMON: u32 = 38;
    const CAP_BPF: u32 = 39;
    let counters = with_capabilities(&[CAP_PERFMON, CAP_BPF], || {
        let mut probes = best(8);
        assert_eq!(probes.mechanism(), Mechanism::UprobeMulti);
        let points = [point(Role::Poll, polled as *const () as usize)];
        let _links = probes.attach(&requests(&points)).unwrap();
        polled(&mut Cell::new(LIVE), LIVE);
        assert_eq!(drain(&mut probes).1.records, 2);
        counted(&probes)
    });
    assert_eq!(counters, Counters { lost: 0, hits: 2, returns: 1, ..Counters::default() });
}
