//! Starts the processes of the host in miniature, is told of every life by the kernel's own word, and lets each go on.
//!
//! A life connects to a socket; SO_PEERCRED says which process that is in our own pid namespace, whatever it calls itself.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Child, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use super::book::Book;
use super::program::{Place, Program};
use crate::fixture::Scratch;
use crate::wait::{long, until};

/// One process's life between two execs, as it announced itself.
#[derive(Clone, Debug)]
pub struct Life {
    /// Its name: that of its first ancestor, and how it came from it (see `tests/fixtures/zoo/host/steps.rs`).
    pub token: String,
    /// The process.
    pub pid: u32,
    /// The books of its own program and of the modules in it.
    pub books: Vec<Book>,
}

/// The director. Dropping it kills what it started.
pub struct Director {
    scratch: Scratch,
    shared: Arc<Mutex<Shared>>,
    socket: String,
    listening: Option<JoinHandle<()>>,
    children: BTreeMap<String, Child>,
}

#[derive(Default)]
struct Shared {
    /// Token of a book and pid, in the order of announcement.
    announced: Vec<(String, u32)>,
    held: HashMap<String, UnixStream>,
    /// Lives are held at their gate.
    holding: bool,
    over: bool,
}

impl Director {
    /// A director without a process; the name tells a test's from another's.
    pub fn new(name: &str) -> Self {
        let scratch = Scratch::new(name);
        std::fs::create_dir_all(scratch.path().join("books")).expect("the scratch folder can be written");
        let socket = format!("async-observer-{name}-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&socket).expect("a short name");
        let listener = UnixListener::bind_addr(&address).expect("the name is ours");
        let shared = Arc::new(Mutex::new(Shared::default()));
        let theirs = shared.clone();
        let listening = std::thread::spawn(move || listen(&listener, &theirs));
        Self { scratch, shared, socket, listening: Some(listening), children: BTreeMap::new() }
    }

    /// From now on lives wait at their gate (`true`), or all that wait and all that come go on (`false`).
    pub fn hold(&self, holding: bool) {
        let mut shared = lock(&self.shared);
        shared.holding = holding;
        if !holding {
            shared.held.drain().for_each(|(_, socket)| go_on(socket));
        }
    }

    /// Starts a process.
    pub fn start(&mut self, token: &str, program: Program, place: Place, steps: &[String]) {
        let mut command = program.command(token, steps, place, self.scratch.path());
        command.env("HOST_PLACE", self.scratch.path().join("books")).env("HOST_SOCKET", &self.socket);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?} could not start: {error}"));
        self.children.insert(token.into(), child);
    }

    /// Waits until the life or module of this name is announced; gives its process.
    pub fn announced(&mut self, token: &str) -> u32 {
        until(&format!("{token} is announced"), || {
            let found = lock(&self.shared).announced.iter().find(|(name, _)| name == token).map(|(_, pid)| *pid);
            let root = token.split(['.', '+']).next().unwrap_or(token);
            if found.is_none()
                && let Some(child) = self.children.get_mut(root)
                && let Some(status) = child.try_wait().expect("it is our child")
            {
                // It may have been announced before it ended, but after we looked.
                let found = lock(&self.shared).announced.iter().find(|(name, _)| name == token).map(|(_, pid)| *pid);
                assert!(found.is_some(), "{root} ended with {status} before it announced {token}");
            }
            found
        })
    }

    /// The book of this name as it is now.
    pub fn book(&self, token: &str) -> Option<Book> {
        Book::read(&self.book_path(token))
    }

    /// Kills the process of a life by its pid, as soon as its book shows that it is amid its work.
    pub fn kill_amid_work(&mut self, token: &str, tasks: u64) {
        let pid = self.announced(token);
        until(&format!("{token} works"), || {
            self.book(token).filter(|book| book.all_futures().spawned >= tasks).map(drop)
        });
        // SAFETY: the process is a descendant of ours that ends only by this signal, so the pid is still its own.
        let sent = unsafe { libc::kill(pid.cast_signed(), libc::SIGKILL) };
        assert_eq!(sent, 0, "{token} is there to be killed");
    }

    /// Waits for the end of everything started; gives how each ended.
    pub fn finish(&mut self) -> BTreeMap<String, ExitStatus> {
        let children = std::mem::take(&mut self.children);
        let ended = children.into_iter().map(|(token, mut child)| {
            let status = until(&format!("{token} ends"), || child.try_wait().expect("it is our child"));
            (token, status)
        });
        ended.collect()
    }

    /// Every life announced so far with what its books say now, in the order of announcement; a module counts to its process.
    pub fn lives(&self) -> Vec<Life> {
        let announced = lock(&self.shared).announced.clone();
        let mut lives: Vec<Life> = Vec::new();
        for (name, pid) in announced {
            let book = self.book(&name).unwrap_or_else(|| panic!("{name} was announced and has no book"));
            let token = name.split('+').next().unwrap_or(&name).to_owned();
            match lives.iter_mut().find(|life| life.token == token) {
                Some(life) => {
                    assert_eq!(life.pid, pid, "{name} is of one process");
                    life.books.push(book);
                }
                None => lives.push(Life { token, pid, books: vec![book] }),
            }
        }
        lives
    }

    fn book_path(&self, token: &str) -> PathBuf {
        self.scratch.path().join("books").join(token)
    }
}

impl Drop for Director {
    fn drop(&mut self) {
        for child in self.children.values_mut() {
            child.kill().ok();
            child.wait().ok();
        }
        lock(&self.shared).over = true;
        let woken = SocketAddr::from_abstract_name(&self.socket).and_then(|address| UnixStream::connect_addr(&address));
        if woken.is_ok()
            && let Some(listening) = self.listening.take()
        {
            listening.join().ok();
        }
    }
}

/// Takes announcements until it is over.
fn listen(listener: &UnixListener, shared: &Mutex<Shared>) {
    loop {
        let Ok((socket, _)) = listener.accept() else { return };
        if lock(shared).over {
            return;
        }
        // A life that is killed amid its announcement says no more.
        socket.set_read_timeout(Some(long(Duration::from_secs(10)))).expect("it is a socket");
        let mut token = String::new();
        let whole = BufReader::new(&socket).read_line(&mut token).is_ok() && token.ends_with('\n');
        if !whole {
            continue;
        }
        let pid = peer(&socket);
        let mut shared = lock(shared);
        shared.announced.push((token.trim().into(), pid));
        if shared.holding {
            shared.held.insert(token.trim().into(), socket);
        } else {
            go_on(socket);
        }
    }
}

/// Who waits there and was killed does not mind.
fn go_on(mut socket: UnixStream) {
    socket.write_all(&[1]).ok();
}

/// The process at the other end, as the kernel numbers it for us.
fn peer(socket: &UnixStream) -> u32 {
    let mut credentials = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut size = libc::socklen_t::try_from(size_of::<libc::ucred>()).expect("is small");
    // SAFETY: the place is as big as is said.
    let told = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut credentials).cast(),
            &raw mut size,
        )
    };
    assert_eq!(told, 0, "a socket of this kind knows its peer");
    credentials.pid.cast_unsigned()
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
