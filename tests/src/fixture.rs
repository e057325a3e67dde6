//! A program to be observed: started, released when the observer is there, and ended whatever happens.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::places::Places;
use crate::wait::{Collected, until_or_tell};

/// A change that is younger may be followed by another at the same time of the kernel's clock: nothing is kept on it.
pub const SETTLED: Duration = Duration::from_millis(2100);

/// A running fixture. Dropping it kills it.
pub struct Fixture {
    name: String,
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Collected,
    stderr: Collected,
}

/// What a fixture left behind.
#[derive(Debug)]
pub struct Ended {
    /// How it ended.
    pub status: ExitStatus,
    /// Its lines on stdout.
    pub stdout: Vec<String>,
    /// Its lines on stderr.
    pub stderr: Vec<String>,
}

/// Where `cargo xtask fixtures` puts programs.
pub fn path(cell: &str, program: &str) -> PathBuf {
    let path = fixtures().join("target/bin").join(cell).join(program);
    assert!(path.exists(), "fixture {cell}/{program} is not built: run `cargo xtask fixtures --only {cell}`");
    path
}

/// Options of the observer for a cell's programs: where debug information is that is looked for only where somebody says so.
pub fn debug_dir(program: &Path) -> Vec<String> {
    let folder = program.with_file_name("debug");
    let options = folder.is_dir().then(|| ["--debug-dir".to_owned(), folder.display().to_string()]);
    options.into_iter().flatten().collect()
}

/// The names of the cells that have this program, in the order of the table; `matrix` and `crowd` stand for three each.
pub fn cells(program: &str) -> Vec<String> {
    let table = std::fs::read_to_string(fixtures().join("cells.txt")).expect("the table of cells is in the repository");
    let words =
        table.lines().filter(|line| !line.starts_with('#')).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let with = words.filter(|words| words.get(3).is_some_and(|programs| programs.split(',').any(|has| has == program)));
    with.map(|words| words[0].to_owned()).collect()
}

fn fixtures() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures"))
}

impl Fixture {
    /// Starts a program of a cell and waits until it says that it is up.
    pub fn start(cell: &str, program: &str, arguments: &[&str]) -> Self {
        let fixture = Self::spawn(&format!("{cell}/{program}"), Command::new(path(cell, program)).args(arguments));
        fixture.wait_for("it is up", |line| line.contains("\"ready\":true"));
        fixture
    }

    /// Starts any program.
    pub fn spawn(name: &str, command: &mut Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{name} could not start: {error}"));
        let stdout = Collected::from(child.stdout.take().expect("is piped"));
        let stderr = Collected::from(child.stderr.take().expect("is piped"));
        Self { name: name.into(), stdin: child.stdin.take(), child, stdout, stderr }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Lets it go on past its gate, or past the next one.
    pub fn release(&mut self) {
        self.write("go\n");
    }

    fn write(&mut self, text: &str) {
        let stdin = self.stdin.as_mut().expect("stdin is open until the fixture is finished");
        let written = stdin.write_all(text.as_bytes()).and_then(|()| stdin.flush());
        written.unwrap_or_else(|error| panic!("{}: {error}", self.name));
    }

    /// Says a line to it, and does not wait for an answer.
    pub fn say(&mut self, line: &str) {
        self.write(&format!("{line}\n"));
    }

    /// Says a line to it and waits for the line that it answers with.
    pub fn answer(&mut self, question: &str) -> Value {
        let from = self.stdout.so_far().len();
        self.say(question);
        let found = self.stdout.wait_for(&format!("{}: the answer to {question}", self.name), from, |_| true);
        let (_, line) = found.unwrap_or_else(|| panic!("{} ended before it answered {question}", self.name));
        parse(&self.name, &line)
    }

    /// Waits for a line on its stdout.
    pub fn wait_for(&self, what: &str, wanted: impl Fn(&str) -> bool) -> Value {
        let found = self.stdout.wait_for(&format!("{}: {what}", self.name), 0, wanted);
        let (_, line) = found.unwrap_or_else(|| panic!("{} ended before: {what}", self.name));
        parse(&self.name, &line)
    }

    /// The lines it wrote to its stdout by now.
    pub fn said(&self) -> Vec<String> {
        self.stdout.so_far()
    }

    /// Asks a program with places for the truth of this moment.
    pub fn ask(&mut self) -> Places {
        self.tell("truth")
    }

    /// Has a program with places do something; gives its truth after that.
    pub fn tell(&mut self, word: &str) -> Places {
        let from = self.stdout.so_far().len();
        self.write(&format!("{word}\n"));
        let found =
            self.stdout.wait_for(&format!("{}: the truth", self.name), from, |line| line.contains("\"truth\":true"));
        let (_, line) = found.unwrap_or_else(|| panic!("{} ended before it told the truth", self.name));
        Places::of(&parse(&self.name, &line))
    }

    /// Has a program with places become another, and waits until it is up.
    pub fn become_other(&mut self, program: &Path, argument: &str) {
        let from = self.stdout.so_far().len();
        self.write(&format!("exec {} {argument}\n", program.display()));
        let found = self.stdout.wait_for("the other program is up", from, |line| line.contains("\"ready\":true"));
        assert!(found.is_some(), "{} ended instead", self.name);
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: libc::c_int) {
        // SAFETY: the pid is our own child's, which is not reaped while this lives.
        let sent = unsafe { libc::kill(self.child.id().cast_signed(), signal) };
        assert_eq!(sent, 0, "{} is there to take a signal", self.name);
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits for its end.
    pub fn finish(mut self) -> Ended {
        let pid = self.child.id();
        // Whether we hold it up must not be left to guesses: each of its threads stands somewhere.
        let status = until_or_tell(
            &format!("{} ends", self.name),
            || threads(pid),
            || self.child.try_wait().expect("it is our child"),
        );
        Ended { status, stdout: self.stdout.all(), stderr: self.stderr.all() }
    }

    /// Waits for its successful end and gives the truth it printed.
    pub fn truth(self) -> Value {
        let name = self.name.clone();
        let ended = self.finish();
        assert!(ended.status.success(), "{name} ended with {}: {}", ended.status, ended.stderr.join("\n"));
        let line = ended.stdout.iter().rev().find(|line| line.contains("\"truth\":true"));
        parse(&name, line.unwrap_or_else(|| panic!("{name} printed no truth: {:?}", ended.stdout)))
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn parse(name: &str, line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{name} printed no JSON ({error}): {line}"))
}

/// A temporary folder that anybody may read, for as long as this lives.
pub struct Scratch(PathBuf);

impl Scratch {
    /// A new one; the name tells a test's from another's.
    pub fn new(name: &str) -> Self {
        use std::os::unix::fs::PermissionsExt;
        let path = std::env::temp_dir().join(format!("async-observer-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("the temporary folder can be written");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("it is ours");
        Self(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A copy of a program in it.
    pub fn copy(&self, program: &Path) -> PathBuf {
        let copy = self.0.join(program.file_name().expect("a program has a name"));
        write_program(program, &copy);
        copy
    }
}

/// Writes a program's file over this one, or to a new one. By a process of its own: what this one has open for writing, a
/// child that another thread starts has open, too, until it begins its program, and a file that is open for writing
/// cannot be run.
pub fn write_program(program: &Path, to: &Path) {
    let written = Command::new("cp").arg(program).arg(to).status().expect("cp starts");
    assert!(written.success(), "{} can be copied to {}", program.display(), to.display());
}

impl Drop for Scratch {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

/// What each thread of a process is doing: as the scheduler, the kernel's stack and its registers tell.
fn threads(pid: u32) -> String {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let of = |task: std::fs::DirEntry| {
        let told = |file| std::fs::read_to_string(task.path().join(file)).unwrap_or_else(|error| error.to_string());
        ["comm", "stat", "syscall", "wchan", "stack"].map(|file| format!("{file}: {}", told(file).trim())).join("\n")
    };
    tasks.map(of).collect::<Vec<_>>().join("\n\n")
}
