//! Whoever does not read the output, or has no room for it, holds up the observer's words and nothing else: the target works at
//! its own pace, what finds no room is counted, memory stays bounded, and the end can be asked for at any time.

use std::io::Read;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::Duration;

use tests::fixture::{Fixture, Scratch};
use tests::life::Lives;
use tests::observer::{CACHES, Ended, Observer, program};
use tests::stream::{Stream, number};
use tests::wait::{Collected, until};

/// So much the observer may use, MiB: an eighth of it is for records that nobody has taken, a third of what a burst writes.
const BOUND: u64 = 96;

/// An observer whose output is read only when a test says so.
struct Unread {
    child: Child,
    out: Option<ChildStdout>,
    stderr: Collected,
    start: String,
    #[expect(dead_code, reason = "the folder is deleted with it")]
    caches: Scratch,
}

impl Unread {
    /// Attaches; reads the `start` line and no more.
    fn attach(pid: u32, name: &str) -> Self {
        let caches = Scratch::new(&format!("caches-unread-{name}"));
        let mut command = Command::new(program());
        command.args(["--json", "--ring-pages", "16", "--max-memory", &format!("{BOUND}M"), "--pid", &pid.to_string()]);
        command.env(CACHES, caches.path()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the observer starts");
        let mut out = child.stdout.take().expect("is piped");
        let stderr = Collected::from(child.stderr.take().expect("is piped"));
        let (mut start, mut byte) = (Vec::new(), [0]);
        while byte != *b"\n" {
            out.read_exact(&mut byte).unwrap_or_else(|error| panic!("no start line: {error}"));
            start.extend(byte);
        }
        let start = String::from_utf8(start).expect("is text").trim_end().to_owned();
        Self { child, out: Some(out), stderr, start, caches }
    }

    fn interrupt(&self) {
        // SAFETY: the pid is our own child's, which is not reaped while this lives.
        let sent = unsafe { libc::kill(self.child.id().cast_signed(), libc::SIGINT) };
        assert_eq!(sent, 0, "the observer is there to take a signal");
    }

    /// The most memory that it has had, MiB.
    fn peak(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a status has VmHWM");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") >> 10
    }

    fn ended(&mut self) -> ExitStatus {
        until("the observer ends", || self.child.try_wait().expect("it is our child"))
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A burst of work, done to its end: tasks, by the program's own count.
fn burst(fixture: &mut Fixture) -> u64 {
    fixture.release();
    let quiet = fixture.wait_for("the burst is over", |line| line.contains("\"quiet\""));
    quiet["spawned"].as_u64().expect("the fixture counts")
}

/// What a burst does when nobody looks.
fn unobserved() -> u64 {
    burst(&mut Fixture::start("newest-release", "burst", &[]))
}

#[test]
fn a_reader_who_stops_reading_holds_up_no_target_and_is_told_what_he_missed() {
    let mut fixture = Fixture::start("newest-release", "burst", &[]);
    let mut observer = Unread::attach(fixture.pid(), "stops");
    // Not a byte is read until the work is done.
    assert_eq!(burst(&mut fixture), unobserved(), "the work of a target whose observer is not read");
    let peak = observer.peak();
    assert!(peak <= BOUND, "{peak} MiB of {BOUND} were used");

    let mut rest = Collected::from(observer.out.take().expect("is read once"));
    rest.wait_for("a loss is said", 0, |line| line.contains("\"event\":\"lost\"")).expect("a loss is said");
    observer.interrupt();
    assert_eq!(observer.ended().code(), Some(0), "{:?}", observer.stderr.so_far());
    let mut lines = vec![observer.start.clone()];
    lines.extend(rest.all());
    let stream = Stream::parse(&lines).unwrap_or_else(|wrong| panic!("the observer's output: {wrong}"));
    let said: u64 = stream.of("lost").map(|line| number(line, "count")).sum();
    assert_eq!((stream.total("lost"), said > 0), (said, true), "the total of what was lost");
    assert_eq!(stream.total("late"), 0, "what is held back stays in order");
    Lives::of_lossy(&stream).assert_sane("when nobody reads");
}

#[test]
fn an_interrupt_ends_an_observer_that_nobody_reads() {
    let mut fixture = Fixture::start("newest-release", "burst", &[]);
    let mut observer = Unread::attach(fixture.pid(), "interrupt");
    burst(&mut fixture);
    observer.interrupt();
    assert_eq!(observer.ended().code(), Some(1));
    let said = observer.stderr.all().join("\n");
    assert!(said.contains("nobody read the last ") && said.contains("next step: read the output"), "{said}");
    let is_running = fixture.is_running();
    assert!(is_running, "the target goes on");
}

#[test]
fn a_slow_reader_gets_whole_lines_in_order_to_the_end() {
    let mut fixture = Fixture::start("newest-release", "burst", &[]);
    let mut observer = Unread::attach(fixture.pid(), "slow");
    burst(&mut fixture);
    observer.interrupt();
    let mut out = observer.out.take().expect("is read once");
    let (mut read, mut piece) = (Vec::new(), vec![0; 256 << 10]);
    loop {
        match out.read(&mut piece).expect("a pipe can be read") {
            0 => break,
            length => read.extend_from_slice(&piece[..length]),
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(observer.ended().code(), Some(0), "who reads, however slowly, is waited for");
    let mut lines = vec![observer.start.clone()];
    lines.extend(String::from_utf8(read).expect("is text").lines().map(str::to_owned));
    let stream = Stream::parse(&lines).unwrap_or_else(|wrong| panic!("the observer's output: {wrong}"));
    Lives::of_lossy(&stream).assert_sane("with a slow reader");
}

#[test]
fn a_full_disk_ends_it_with_the_next_step() {
    let mut fixture = Fixture::start("newest-release", "burst", &[]);
    let place = Scratch::new("full-disk");
    let place = place.path().display();
    let observer = program();
    let script =
        format!("mount -t tmpfs -o size=1m none {place} && exec {} -o {place}/events \"$@\"", observer.display());
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &script, "sh", "--json", "--pid", &fixture.pid().to_string()]);
    let mut observer = Observer::run_as(&mut command);
    // What comes before it is attached is none of its business, and would not fill its disk.
    let file = format!("/proc/{}/root{place}/events", observer.pid());
    until("the observer has begun to write", || std::fs::metadata(&file).ok().filter(|file| file.len() > 0));
    assert_eq!(burst(&mut fixture), unobserved(), "the work of a target whose observer has no room");
    ended_for_want_of_room(&observer.ended());
}

#[test]
fn a_file_that_takes_nothing_ends_it_with_the_next_step() {
    let fixture = Fixture::start("newest-release", "burst", &[]);
    let pid = fixture.pid().to_string();
    ended_for_want_of_room(&Observer::run(["-o", "/dev/full", "--json", "--pid", &pid]).ended());
}

fn ended_for_want_of_room(ended: &Ended) {
    let said = ended.stderr.join("\n");
    assert_eq!(ended.code, Some(1), "{said}");
    assert!(said.contains("No space left on device") && said.contains("next step: check the disk"), "{said}");
}
