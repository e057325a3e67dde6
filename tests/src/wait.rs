//! Waiting for conditions, with a deadline, as patiently as the machine is slow. Knows nothing of what is waited for.

use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long anything may take on a busy machine before a test gives up.
const PATIENCE: Duration = Duration::from_secs(120);
/// The environment's name for how many times slower this machine is than a real one: 1 where it is not there.
const SLOWNESS: &str = "ASYNC_OBSERVER_SLOWNESS";

fn slowness() -> u32 {
    static READ: OnceLock<u32> = OnceLock::new();
    *READ.get_or_init(|| match std::env::var(SLOWNESS) {
        Ok(text) => text.parse().ok().filter(|times| *times > 0).unwrap_or_else(|| panic!("{SLOWNESS}={text}")),
        Err(_) => 1,
    })
}

/// A time that is long enough on a real machine, as long as it must be on this one.
pub fn long(time: Duration) -> Duration {
    time * slowness()
}

/// A crowd for a real machine, as small as it must be on this one.
pub fn fewer(count: usize) -> usize {
    count / slowness() as usize
}

/// Room, a power of two, for what waits to be read on a real machine, as large as it must be on this one.
pub fn room(count: usize) -> usize {
    (count * slowness() as usize).next_power_of_two()
}

/// Waits until `condition` gives something, and fails with `what` otherwise.
pub fn until<T>(what: &str, condition: impl FnMut() -> Option<T>) -> T {
    until_or_tell(what, String::new, condition)
}

/// The same, and tells what else is known then.
pub fn until_or_tell<T>(what: &str, known: impl Fn() -> String, mut condition: impl FnMut() -> Option<T>) -> T {
    let patience = long(PATIENCE);
    let deadline = Instant::now() + patience;
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {patience:?} in vain: {what}\n{}", known());
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// CLOCK_MONOTONIC in nanoseconds, the clock of the stream's `ts`.
pub fn now() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place for the answer.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned()
}

/// Lines of a child's output, collected while it runs.
pub struct Collected {
    shared: Arc<(Mutex<State>, Condvar)>,
    reader: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    lines: Vec<String>,
    ended: bool,
}

impl Collected {
    /// Begins to collect.
    pub fn from(pipe: impl Read + Send + 'static) -> Self {
        let shared = Arc::new((Mutex::new(State::default()), Condvar::new()));
        let theirs = shared.clone();
        let reader = std::thread::spawn(move || {
            let mut pipe = BufReader::with_capacity(1 << 16, pipe);
            let mut line = Vec::new();
            // A line that is cut off by the child's end is a line too: tests that kill look at it.
            while matches!(pipe.read_until(b'\n', &mut line), Ok(1..)) {
                let text = String::from_utf8_lossy(line.strip_suffix(b"\n").unwrap_or(&line)).into_owned();
                lock(&theirs.0).lines.push(text);
                theirs.1.notify_all();
                line.clear();
            }
            lock(&theirs.0).ended = true;
            theirs.1.notify_all();
        });
        Self { shared, reader: Some(reader) }
    }

    /// Waits for the first line at or after `from` that satisfies `wanted`; gives its index and text, or `None` if the
    /// output ended without one.
    ///
    /// # Panics
    /// When neither comes in time.
    pub fn wait_for(&self, what: &str, from: usize, wanted: impl Fn(&str) -> bool) -> Option<(usize, String)> {
        let patience = long(PATIENCE);
        let deadline = Instant::now() + patience;
        let mut seen = from;
        let mut state = lock(&self.shared.0);
        loop {
            while seen < state.lines.len() {
                if wanted(&state.lines[seen]) {
                    return Some((seen, state.lines[seen].clone()));
                }
                seen += 1;
            }
            if state.ended {
                return None;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "waited {patience:?} in vain: {what}");
            state = match self.shared.1.wait_timeout(state, left) {
                Ok((state, _)) => state,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
    }

    /// The lines there are by now.
    pub fn so_far(&self) -> Vec<String> {
        lock(&self.shared.0).lines.clone()
    }

    /// All lines, after the output ended.
    pub fn all(&mut self) -> Vec<String> {
        if let Some(reader) = self.reader.take() {
            reader.join().ok();
        }
        lock(&self.shared.0).lines.clone()
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
