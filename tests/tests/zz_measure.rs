//! Censuses against the runtime's own count of its tasks.

use std::time::Instant;

use observer::census::{Census, High, How};
use tests::fixture::Fixture;
use tests::inside::Inside;

#[test]
fn measure() {
    let arguments = std::env::var("CROWD").unwrap_or("tasks=1000000".into());
    let program = std::env::var("CROWD_PROGRAM").unwrap_or("crowd-glibc".into());
    let fixture = Fixture::start("newest-release", &program, &arguments.split(' ').collect::<Vec<_>>());
    let inside = Inside::of(fixture.pid());
    println!("counters {:x?}", inside.counters);
    for round in 0..1 {
        let mut series = inside.series();
        for _ in 0..4 {
            let began = Instant::now();
            let cpu = cpu();
            let census: Census = series.take().unwrap();
            let took = began.elapsed().as_secs_f64() * 1e3;
            let cpu = self::cpu() - cpu;
            println!(
                "{round} {:?} {:?} {took:.1} ms (cpu {cpu:.1}), {} tasks, by type {:?}, bounds {} {:?}, {} MiB",
                census.how,
                series.doubt(),
                census.tasks.len(),
                inside.by_type(&census),
                census.bounds.low,
                census.bounds.high,
                census.bytes_read >> 20
            );
            let _ = (High::AtMost(0), How::Walk);
        }
    }
}

fn cpu() -> f64 {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut t) };
    t.tv_sec as f64 * 1e3 + t.tv_nsec as f64 / 1e6
}
