//! Processes are heard of when they begin, exec, map code and end, as the kernel's own `/proc` says.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use observer::lives::{Change, Lives, News};
use observer::model::{AddressRange, FileId, FileOffset, Ns, Pid};
use observer::target::{Backing, Mapping, Process, monotonic_now, parse_maps};
use tests::wait::{fewer, until};

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
fn a_process_whose_other_thread_execs_goes_on_after_its_leaders_end() {
    const SELF: &str = "ASYNC_OBSERVER_TEST_EXECS";
    if std::env::var_os(SELF).is_some() {
        let failed = std::thread::spawn(|| Command::new("sleep").arg("60").exec()).join();
        panic!("exec came back: {failed:?}");
    }
    let Some(mut listener) = Listener::start() else { return };
    let own = std::env::current_exe().expect("this test");
    let name = "a_process_whose_other_thread_execs_goes_on_after_its_leaders_end";
    let mut command = Command::new(own);
    command.args(["--exact", name]).env(SELF, "yes").stdin(Stdio::null()).stdout(Stdio::null());
    let mut child = Killed(command.spawn().expect("starting this test")).settled();
    let pid = child.pid();
    assert_eq!(fs::read_to_string(format!("/proc/{pid}/comm")).expect("our child"), "sleep\n");
    child.end();
    let is_end = |change: &Change| matches!(change, Change::Exited { pid: who, leader: true, .. } if *who == pid);
    until("both ends", || {
        listener.hear();
        (listener.news.iter().filter(|news| is_end(&news.change)).count() == 2).then_some(())
    });
    let steps: Vec<bool> = listener
        .news
        .iter()
        .filter_map(|news| match &news.change {
            change if is_end(change) => Some(false),
            Change::Execed { pid: who } if *who == pid => Some(true),
            _ => None,
        })
        .collect();
    // This test's program, the end of its first thread, `sleep`, the end.
    assert_eq!(steps, [true, false, true, false]);
}

#[test]
fn a_thousand_short_lives_are_heard_whole_or_the_loss_is_said() {
    // With fewer pages than the other tests, and so of its own.
    let Some(_) = Listener::start() else { return };
    const MANY: usize = 1000;
    let many = fewer(MANY);
    let mut lives = Lives::listen(64).expect("listening");
    let starting = std::thread::spawn(move || {
        let begin = std::time::Instant::now();
        let pids: Vec<u32> = (0..many)
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
    eprintln!("{many} lives in {took:?}: {entries} entries, {} news, {lost} lost", news.len());
    if lost == 0 {
        assert_eq!((forked, execed, mapped, exited), (many, many, many, many));
    }
    assert!(exited as u64 + lost >= many as u64, "{exited} ends, {lost} lost");
}

/// Runs a copy of `sleep` on an overlay in a mount namespace of its own, from its lower layer. The upper layer is on the
/// same file system or on another.
const ON_OVERLAY: &str = r#"
    mount -t tmpfs none "$1" && mkdir "$1/lower" "$1/upper" "$1/merged" || exit 9
    if [ "$2" = another ]; then mount -t tmpfs none "$1/upper" || exit 9; fi
    mkdir "$1/upper/u" "$1/upper/w" && cp "$(command -v sleep)" "$1/lower/sleeper" || exit 9
    mount -t overlay none -o "lowerdir=$1/lower,upperdir=$1/upper/u,workdir=$1/upper/w" "$1/merged" || exit 9
    exec "$1/merged/sleeper" 60
"#;

#[test]
fn an_executable_on_an_overlay_is_heard_of_and_is_opened_by_every_way() {
    for upper in ["same", "another"] {
        let Some(mut listener) = Listener::start() else { return };
        let folder = Folder::new(&format!("overlay-{upper}"));
        let place = folder.0.to_str().expect("a path of text");
        let arguments = ["-m", "--propagation", "private", "sh", "-c", ON_OVERLAY, "sh", place, upper];
        let mut child = Killed::start(Path::new("unshare"), &arguments);
        let pid = child.pid();
        let sleeps = until("the child sleeps or ends", || {
            if child.0.try_wait().expect("our child").is_some() {
                return Some(false);
            }
            let sleeps = fs::read_to_string(format!("/proc/{pid}/syscall")).ok()?.starts_with(SLEEPING);
            sleeps.then_some(true)
        });
        if !sleeps {
            eprintln!("NOT TESTED: no overlay can be mounted here");
            return;
        }
        let program = folder.0.join("merged/sleeper");
        listener.wait_for("the executable", |change| {
            matches!(change, Change::Mapped { pid: who, path, .. } if *who == pid && Path::new(path) == program)
        });
        let is_program = |code: &Code| Path::new(&code.3) == program;
        let heard: Vec<Code> = listener.mapped_by(pid).into_iter().filter(is_program).collect();
        let truth: Vec<Code> = code_of(pid).into_iter().filter(is_program).collect();
        let process = Process::open(pid).expect("our child");
        let exe = process.modules().expect("its modules").into_iter().find(|module| module.is_exe).expect("one");
        let stat = |path: String| {
            let found = fs::metadata(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
            (libc::major(found.dev()), libc::minor(found.dev()), found.ino())
        };
        let range = truth[0].0;
        eprintln!(
            "upper layer on {upper} file system: heard {:?}, maps {:?}, stat of root {:?}, exe {:?}, map_files {:?}",
            heard[0].2,
            truth[0].2,
            stat(format!("/proc/{pid}/root{}", program.display())),
            stat(format!("/proc/{pid}/exe")),
            stat(format!("/proc/{pid}/map_files/{:x}-{:x}", range.start.0, range.end.0)),
        );
        // By map_files; then, as without the capability for it, by exe; then, as for a library, by name.
        let whole = exe.read();
        let mut by_exe = exe.clone();
        by_exe.mappings.iter_mut().for_each(|mapping| mapping.range.end.0 += 1);
        let mut by_name = by_exe.clone();
        by_name.is_exe = false;
        let (by_exe, by_name) = (by_exe.read(), by_name.read());
        child.end();
        let content = fs::read(which("sleep")).expect("the program that was copied");
        for read in [whole, by_exe, by_name] {
            assert!(read.expect("the executable") == content, "{upper}");
        }
        // The file's numbers depend on the kernel's version; the place and the name do not.
        let place = |code: &[Code]| -> Vec<_> { code.iter().map(|code| (code.0, code.1, code.3.clone())).collect() };
        assert_eq!(place(&heard), place(&truth));
    }
}

/// The program's file along `PATH`.
fn which(program: &str) -> PathBuf {
    let path = std::env::var_os("PATH").expect("a PATH");
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file()).expect("the program")
}
