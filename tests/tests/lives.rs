//! Processes are heard of when they begin, exec, map code and end, as the kernel's own `/proc` says.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use observer::lives::{Change, Lives, News};
use observer::model::{AddressRange, FileId, FileOffset, Ns, Pid};
use observer::target::{Backing, Mapping, monotonic_now, parse_maps};
use tests::wait::until;

/// Code of a file, mapped: where, from which offset, of which file, under which name.
type Code = (AddressRange, FileOffset, FileId, String);

/// Everything heard so far, in order.
struct Listener {
    lives: Lives,
    news: Vec<News>,
}

impl Listener {
    /// Starts listening; says so loudly where it may not.
    fn start() -> Option<Self> {
        // SAFETY: no arguments.
        if unsafe { libc::geteuid() } != 0 {
            eprintln!("NOT TESTED: listening to all processes needs root");
            return None;
        }
        Some(Self { lives: Lives::listen(256).expect("listening"), news: Vec::new() })
    }

    fn hear(&mut self) {
        let heard = self.lives.hear(monotonic_now().before(10_000_000));
        assert_eq!((heard.malformed, heard.first_malformed), (0, None));
        self.news.extend(heard.news);
    }

    /// Where in the news such a change is, once it has come.
    fn wait_for(&mut self, what: &str, wanted: impl Fn(&Change) -> bool) -> usize {
        until(what, || {
            self.hear();
            self.news.iter().position(|news| wanted(&news.change))
        })
    }

    /// What this process was heard to map as code.
    fn mapped_by(&self, of: Pid) -> Vec<Code> {
        let code = |news: &News| match &news.change {
            Change::Mapped { pid, range, offset, file, path } if *pid == of => {
                Some((*range, *offset, *file, path.clone()))
            }
            _ => None,
        };
        self.news.iter().filter_map(code).collect()
    }
}

/// A child that is killed and reaped with the test.
struct Killed(Child);

impl Killed {
    fn start(program: &Path, arguments: &[&str]) -> Self {
        Self(Command::new(program).args(arguments).stdin(Stdio::null()).spawn().expect("starting a child"))
    }

    fn pid(&self) -> Pid {
        Pid(self.0.id())
    }

    /// Waits until it sleeps in `clock_nanosleep`: all that it maps at its start is mapped.
    fn settled(self) -> Self {
        let pid = self.pid();
        until("the child sleeps", || {
            fs::read_to_string(format!("/proc/{pid}/syscall")).ok()?.starts_with(SLEEPING).then_some(())
        });
        self
    }

    fn end(&mut self) {
        self.0.kill().expect("killing our child");
        self.0.wait().expect("reaping our child");
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What `/proc/PID/syscall` begins with then.
const SLEEPING: &str = "230 ";

/// A folder of the test, removed with it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("async-observer-lives-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).expect("a folder for the test");
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn code_of(pid: Pid) -> Vec<Code> {
    let text = fs::read_to_string(format!("/proc/{pid}/maps")).expect("the maps of a process of ours");
    let code = |mapping: Mapping| match (mapping.permissions.execute, mapping.file, mapping.backing) {
        (true, Some(file), Backing::File { path, .. }) => Some((mapping.range, mapping.offset, file, path)),
        _ => None,
    };
    parse_maps(&text).expect("maps").into_iter().filter_map(code).collect()
}

#[test]
fn a_child_is_heard_forked_execed_mapping_its_code_and_ending_in_order_of_time() {
    let Some(mut listener) = Listener::start() else { return };
    let begin = monotonic_now();
    let mut child = Killed::start(Path::new("sleep"), &["60"]).settled();
    let (us, pid) = (Pid(std::process::id()), child.pid());
    let truth = code_of(pid);
    assert!(truth.iter().any(|(.., path)| path.ends_with("sleep")), "{truth:?}");
    child.end();

    let exited = listener.wait_for(
        "the child's end",
        |change| matches!(change, Change::Exited { pid: who, leader: true, .. } if *who == pid),
    );
    let end = monotonic_now();
    let position = |wanted: &dyn Fn(&Change) -> bool| listener.news.iter().position(|news| wanted(&news.change));
    let forked = position(&|change| *change == Change::Forked { parent: us, child: pid }).expect("a fork");
    let execed = position(&|change| *change == Change::Execed { pid }).expect("an exec");
    let mapped = position(&|change| matches!(change, Change::Mapped { pid: who, .. } if *who == pid)).expect("code");
    assert!(forked < execed && execed < mapped && mapped < exited, "{forked} {execed} {mapped} {exited}");
    let of_child: Vec<Ns> = listener.news[forked..=exited].iter().map(|news| news.at).collect();
    assert!(of_child.is_sorted() && of_child[0] > begin && of_child[of_child.len() - 1] < end);

    let mut heard = listener.mapped_by(pid);
    heard.sort();
    assert_eq!(heard, truth);
}

#[test]
fn a_library_that_a_running_process_loads_is_heard() {
    let Some(mut listener) = Listener::start() else { return };
    let us = Pid(std::process::id());
    let folder = Folder::new("library");
    let (.., gcc) = code_of(us).into_iter().find(|(.., path)| path.contains("libgcc_s")).expect("a library to copy");
    let library = folder.0.join("not-yet-loaded.so");
    fs::copy(gcc, &library).expect("copying a library");
    let name = std::ffi::CString::new(library.to_str().expect("a path of text")).expect("no zero in it");
    // SAFETY: a path that ends in zero; the library's start-up code is that of one which this process already runs.
    let loaded = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
    assert!(!loaded.is_null());
    let truth: Vec<Code> = code_of(us).into_iter().filter(|(.., path)| Path::new(path) == library).collect();
    assert_eq!(truth.len(), 1);
    listener.wait_for(
        "the library",
        |change| matches!(change, Change::Mapped { pid, path, .. } if *pid == us && Path::new(path) == library),
    );
    let heard: Vec<Code> = listener.mapped_by(us).into_iter().filter(|(.., path)| Path::new(path) == library).collect();
    assert_eq!(heard, truth);
}

#[test]
fn a_thread_is_not_taken_for_a_process() {
    let Some(mut listener) = Listener::start() else { return };
    let us = Pid(std::process::id());
    // SAFETY: no arguments.
    let tid = std::thread::spawn(|| unsafe { libc::gettid() } as u32).join().expect("a thread");
    let exited = listener.wait_for(
        "the thread's end",
        |change| matches!(change, Change::Exited { pid, tid: who, leader: false } if *pid == us && who.0 == tid),
    );
    assert!(listener.news[..exited].iter().all(|news| match news.change {
        Change::Forked { child, .. } => child != Pid(tid) && child != us,
        _ => true,
    }));
}

#[test]
fn a_thousand_short_lives_are_heard_whole_or_the_loss_is_said() {
    // With fewer pages than the other tests, and so of its own.
    let Some(_) = Listener::start() else { return };
    const LIVES: usize = 1000;
    let mut lives = Lives::listen(64).expect("listening");
    let starting = std::thread::spawn(|| {
        let begin = std::time::Instant::now();
        let pids: Vec<u32> = (0..LIVES)
            .map(|_| {
                let mut child = Command::new("/bin/true").spawn().expect("/bin/true");
                child.wait().expect("reaping");
                child.id()
            })
            .collect();
        (pids, begin.elapsed())
    });
    let (mut news, mut entries) = (Vec::new(), 0);
    let mut hear = |until| {
        let heard = lives.hear(until);
        entries += heard.entries;
        assert_eq!(heard.malformed, 0);
        news.extend(heard.news);
    };
    while !starting.is_finished() {
        hear(monotonic_now().before(10_000_000));
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let (pids, took) = starting.join().expect("the children");
    hear(Ns(u64::MAX));
    let lost: u64 = news.iter().map(|news| if let Change::Lost { count } = news.change { count } else { 0 }).sum();
    let count = |of: &dyn Fn(&Change) -> Option<Pid>| {
        let heard: Vec<u32> = news.iter().filter_map(|news| of(&news.change)).map(|pid| pid.0).collect();
        pids.iter().filter(|pid| heard.contains(pid)).count()
    };
    let forked = count(&|change| if let Change::Forked { child, .. } = change { Some(*child) } else { None });
    let execed = count(&|change| if let Change::Execed { pid } = change { Some(*pid) } else { None });
    let mapped = count(&|change| if let Change::Mapped { pid, .. } = change { Some(*pid) } else { None });
    let exited = count(&|change| if let Change::Exited { pid, leader: true, .. } = change { Some(*pid) } else { None });
    eprintln!("{LIVES} lives in {took:?}: {entries} entries, {} news, {lost} lost", news.len());
    if lost == 0 {
        assert_eq!((forked, execed, mapped, exited), (LIVES, LIVES, LIVES, LIVES));
    }
    assert!(exited as u64 + lost >= LIVES as u64, "{exited} ends, {lost} lost");
}
