//! The observer under test: the finished program, through its command line.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::fixture::Scratch;
use crate::look::Look;
use crate::stream::Stream;
use crate::wait::{Collected, until};

/// Where programs look for the folder of a user's caches.
pub const CACHES: &str = "XDG_CACHE_HOME";

/// A running observer. Dropping it kills it.
pub struct Observer {
    child: Child,
    stdout: Collected,
    stderr: Collected,
    #[expect(dead_code, reason = "the folder is deleted with it")]
    caches: Scratch,
}

/// What an observer left behind.
#[derive(Debug)]
pub struct Ended {
    /// Its exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// Its lines on stdout.
    pub stdout: Vec<String>,
    /// Its lines on stderr.
    pub stderr: Vec<String>,
}

impl Ended {
    /// What a `ps` or `sweep` said, each line held to the schema.
    pub fn look(&self) -> Look {
        Look::parse(&self.stdout).unwrap_or_else(|wrong| panic!("the observer's output: {wrong}"))
    }
}

/// The program: what `ASYNC_OBSERVER` names, else this workspace's release build, brought up to date first.
pub fn program() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let build = || {
        if let Some(path) = std::env::var_os("ASYNC_OBSERVER") {
            return path.into();
        }
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let status = Command::new(cargo)
            .args(["build", "--quiet", "--release", "--package", "observer", "--bin", "async-observer"])
            .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
            .status()
            .expect("cargo starts");
        assert!(status.success(), "the observer does not build");
        // This test stands in target/PROFILE/deps.
        let test = std::env::current_exe().expect("a test knows its own path");
        test.ancestors().nth(3).expect("it stands that deep").join("release/async-observer")
    };
    BUILT.get_or_init(build).clone()
}

impl Observer {
    /// Runs the program with these arguments.
    ///
    /// # Panics
    /// Where live tests cannot run: they fail, they are never skipped.
    pub fn run(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        // SAFETY: no argument, no failure.
        assert_eq!(unsafe { libc::geteuid() }, 0, "live tests run as root: sudo, or `cargo xtask test`");
        Self::run_as(Command::new(program()).args(arguments))
    }

    /// Runs a command that is or becomes the program. Unless the command says otherwise, it has a folder of its own for
    /// caches: neither the user's, nor another test's.
    pub fn run_as(command: &mut Command) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let caches = Scratch::new(&format!("caches-{}", COUNT.fetch_add(1, Ordering::Relaxed)));
        if !command.get_envs().any(|(name, _)| name == CACHES) {
            command.env(CACHES, caches.path());
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?} could not start: {error}"));
        let stdout = Collected::from(child.stdout.take().expect("is piped"));
        let stderr = Collected::from(child.stderr.take().expect("is piped"));
        Self { child, stdout, stderr, caches }
    }

    /// Attaches to a process, with all its probes whatever they cost, and waits until they are in place, which its `start`
    /// line says.
    pub fn attach(pid: u32, more: &[&str]) -> Self {
        Self::attach_with(pid, &[&["--allow-slow"], more].concat())
    }

    /// The same with these options alone.
    pub fn attach_with(pid: u32, more: &[&str]) -> Self {
        let observer = Self::run(["--json", "--pid", &pid.to_string()].iter().chain(more));
        observer.wait_until_attached()
    }

    /// Waits for the `start` line.
    pub fn wait_until_attached(mut self) -> Self {
        if self.wait_for("the observer is attached", |line| line.contains("\"event\":\"start\"")).is_none() {
            let ended = self.ended();
            panic!("the observer ended with {:?} before it was attached: {}", ended.code, ended.stderr.join("\n"));
        }
        self
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The lines it wrote by now.
    pub fn said(&self) -> Vec<String> {
        self.stdout.so_far()
    }

    /// Its lines on stderr so far.
    pub fn told(&self) -> Vec<String> {
        self.stderr.so_far()
    }

    /// Waits for a line on its stdout; `None` if it ended without one.
    pub fn wait_for(&self, what: &str, wanted: impl Fn(&str) -> bool) -> Option<String> {
        Some(self.stdout.wait_for(what, 0, wanted)?.1)
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: libc::c_int) {
        // SAFETY: the pid is our own child's, which is not reaped before `ended`.
        let sent = unsafe { libc::kill(self.child.id().cast_signed(), signal) };
        assert_eq!(sent, 0, "the observer is there to take a signal");
    }

    /// Waits for its end, whatever that is.
    pub fn ended(&mut self) -> Ended {
        until("the observer ends", || self.has_ended())
    }

    /// What it left behind, if it has ended.
    pub fn has_ended(&mut self) -> Option<Ended> {
        let status = self.child.try_wait().expect("it is our child")?;
        Some(Ended { code: status.code(), stdout: self.stdout.all(), stderr: self.stderr.all() })
    }

    /// Waits for its good end and gives the stream, each line held to the schema.
    pub fn stream(mut self) -> Stream {
        let ended = self.ended();
        assert_eq!(ended.code, Some(0), "the observer failed: {}", ended.stderr.join("\n"));
        // A test that finds fault with the stream shows what the observer said of it.
        ended.stderr.iter().for_each(|line| println!("the observer: {line}"));
        Stream::parse(&ended.stdout).unwrap_or_else(|wrong| panic!("the observer's output: {wrong}"))
    }

    /// Waits for the good end of a `ps` or `sweep` and gives what it said, each line held to the schema.
    pub fn look(mut self) -> Look {
        let ended = self.ended();
        assert_eq!(ended.code, Some(0), "the observer failed: {}", ended.stderr.join("\n"));
        ended.look()
    }

    /// Interrupts it as ^C does, and waits for its good end.
    pub fn ended_well(mut self) -> Ended {
        self.signal(libc::SIGINT);
        let ended = self.ended();
        assert_eq!(ended.code, Some(0), "the observer failed: {}", ended.stderr.join("\n"));
        ended
    }

    /// Interrupts it as ^C does, and gives the stream.
    pub fn stop(self) -> Stream {
        self.signal(libc::SIGINT);
        self.stream()
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
