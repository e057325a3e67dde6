//! A CPU that comes online while a stream runs: what happens there is seen from then on, and what was missed is said.
//!
//! Only a machine that may lose one for a while shows it: `cargo xtask vm --suite all` boots one with a CPU switched off.

use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tests::fixture::{Fixture, path};
use tests::life::Lives;
use tests::observer::Observer;

const CPU: usize = 1;

fn switch(on: bool) {
    let file = format!("/sys/devices/system/cpu/cpu{CPU}/online");
    std::fs::write(&file, if on { "1" } else { "0" }).unwrap_or_else(|error| panic!("{file}: {error}"));
}

/// A program that runs on that CPU alone.
fn there(program: &str) -> Command {
    let mut command = Command::new(path("newest-release", program));
    // SAFETY: between fork and exec, one system call on memory that is its own.
    unsafe {
        command.pre_exec(|| {
            let mut set: libc::cpu_set_t = std::mem::zeroed();
            libc::CPU_SET(CPU, &mut set);
            match libc::sched_setaffinity(0, size_of_val(&set), &raw const set) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        })
    };
    command
}

#[test]
#[ignore = "switches a CPU off and on: cargo xtask vm --suite all"]
fn what_happens_on_a_cpu_that_comes_online_is_seen_from_then_on() {
    switch(false);
    let observer = Observer::run(["trace", "--all", "--json", "--allow-slow"]).wait_until_attached();
    let (mut before, mut pids) = (0, Vec::new());
    // Twice: what was open on a CPU that goes is of no use when it comes back.
    for round in 0..2 {
        switch(true);
        let heard = |line: &&String| line.contains("\"event\":\"lostNews\"");
        tests::wait::until("the CPU is listened to", || {
            (observer.said().iter().filter(heard).count() > before).then_some(())
        });
        before = observer.said().iter().filter(heard).count();
        let mut fixture = Fixture::spawn("on the new CPU", &mut there("burst"));
        let pid = fixture.pid();
        pids.push(pid);
        let target = observer.wait_for("its program is observed", |line| {
            line.contains("\"event\":\"target\"") && line.contains(&format!("\"pid\":{pid},"))
        });
        assert!(target.is_some(), "the observer ended in round {round}");
        fixture.release();
        fixture.release();
        fixture.wait_for("it has worked", |line| line.contains("\"truth\""));
        fixture.release();
        assert!(fixture.finish().status.success());
        tests::wait::until("its end is seen", || {
            let gone = |line: &String| line.contains("\"event\":\"gone\"") && line.contains(&format!("\"pid\":{pid},"));
            observer.said().iter().any(gone).then_some(())
        });
        if round == 0 {
            switch(false);
            // The observer looks once a second who is there: one that is back by then was never away.
            std::thread::sleep(tests::wait::long(Duration::from_secs(2)));
        }
    }
    let stream = observer.stop();
    let missed: Vec<&Value> = stream.of("lostNews").collect();
    assert!(missed.iter().all(|line| line["count"].is_null() && line["looksAgain"] == true), "{missed:?}");
    assert_eq!(stream.of("degraded").collect::<Vec<_>>(), Vec::<&Value>::new());
    for pid in pids {
        let of = |event| stream.of(event).filter(move |line| line["pid"] == pid && line["tid"].is_u64()).count();
        assert!(of("init") > 0 && of("after") > 0 && of("destroy") > 0, "records of process {pid} came");
    }
    Lives::of(&stream).assert_sane("hotplug");
    assert_eq!((stream.total("lost"), stream.total("malformed")), (0, 0));
}
