//! A second process for a test: the test's own executable, running the same test again to play a scene in it.
//!
//! A census of the test's own process would find the copies that the census itself makes of what it reads. The player
//! tells its truth (its runtime's own ids, the addresses in its handles) line by line, and waits between acts.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use tokio::task::JoinHandle;

use crate::model::{Pid, ProcAddr, Tid};
use crate::target::Process;

const PLAY: &str = "ASYNC_OBSERVER_CENSUS_PLAY";
const MARK: &str = "TRUTH ";

/// The side of the test that watches.
pub struct Player {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

/// One task that the player told of.
#[derive(Clone, Debug)]
pub struct Told {
    /// What the player calls it.
    pub label: String,
    pub header: ProcAddr,
    pub vtable: ProcAddr,
    pub id: u64,
    /// A thread that the player named with it.
    pub tid: Option<Tid>,
}

impl Player {
    /// Starts the player of the test with this path, `None` where this process is the player.
    pub fn of(test: &str) -> Option<Self> {
        if std::env::var_os(PLAY).is_some() {
            return None;
        }
        let mut command = Command::new(std::env::current_exe().unwrap());
        let arguments = [&format!("census::tests::{test}"), "--exact", "--nocapture", "--test-threads=1"];
        Some(Self::start(command.args(arguments).env(PLAY, test)))
    }

    /// Starts any program that tells in the same way.
    pub fn start(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (stdin, stdout) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, stdin, stdout }
    }

    pub fn process(&self) -> Process {
        Process::open(Pid(self.child.id())).unwrap()
    }

    /// What it tells until it waits.
    pub fn act(&mut self) -> Vec<Told> {
        let mut told = Vec::new();
        loop {
            let mut line = String::new();
            assert_ne!(self.stdout.read_line(&mut line).unwrap(), 0, "the player ended in the middle of an act");
            // The test harness prints on the same line before the first truth.
            let Some((_, truth)) = line.trim_end().split_once(MARK) else { continue };
            match truth.split(' ').collect::<Vec<_>>()[..] {
                ["wait"] => return told,
                [label, header, vtable, id, tid] => told.push(Told {
                    label: label.to_owned(),
                    header: ProcAddr(header.parse().unwrap()),
                    vtable: ProcAddr(vtable.parse().unwrap()),
                    id: id.parse().unwrap(),
                    tid: tid.parse().ok().map(Tid),
                }),
                _ => panic!("{line:?}"),
            }
        }
    }

    /// Lets it go on.
    pub fn go_on(&mut self) {
        writeln!(self.stdin.as_mut().unwrap()).unwrap();
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        self.stdin = None;
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// In the player: tells of a task by its handle, which is a pointer to the header and nothing else.
pub fn tell<T>(label: &str, handle: &JoinHandle<T>) {
    tell_on(label, handle, None);
}

/// The same with the thread that runs it.
pub fn tell_on<T>(label: &str, handle: &JoinHandle<T>, tid: Option<Tid>) {
    assert_eq!(size_of::<JoinHandle<T>>(), 8);
    let us = Process::open(Pid(std::process::id())).unwrap();
    let word = |at: u64| us.memory().read_word(ProcAddr(at)).unwrap();
    let header = word(std::ptr::from_ref(handle) as u64);
    let id: u64 = handle.id().to_string().parse().unwrap();
    let tid = tid.map_or("-".to_owned(), |tid| tid.to_string());
    println!("{MARK}{label} {header} {} {id} {tid}", word(header + 16));
}

/// In the player: the act is over; waits for the word to go on.
pub fn wait() {
    println!("{MARK}wait");
    if std::io::stdin().lines().next().is_none() {
        std::process::exit(0);
    }
}

/// In the player: the thread it is on.
pub fn this_thread() -> Tid {
    let link = std::fs::read_link("/proc/thread-self").unwrap();
    Tid(link.file_name().unwrap().to_str().unwrap().parse().unwrap())
}
