//! Who is to be sampled, as processes come to run something that can be: news say who may, a thread looks at each.
//!
//! Does not know: samples.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use crate::lives::{Change, Lives, News};
use crate::model::{Enclosure, Missing, Ns, Pid};
use crate::perf::PerfError;
use crate::session::error::SessionError;
use crate::session::images::Images;
use crate::session::machine::{self, Machine};
use crate::session::roster::Resident;
use crate::session::{Within, progress};
use crate::sink::LostNews;
use crate::target::{Process, monotonic_now};

use super::SampledOptions;
use super::subject::Subject;

/// So long after its news a process is looked at: a program maps its libraries one after the other, and has to move what it
/// finds in them to its addresses before its types stand there.
const SETTLING: Ns = Ns(100_000_000);
/// One whose types do not stand in memory yet is looked at again so often, each time after twice as long.
const TRIES: u32 = 5;

/// Who may join.
#[derive(Clone, Debug)]
pub(in crate::session) enum Whom {
    /// Whoever runs something that can be sampled.
    Everyone(Within),
    /// Only these processes.
    Named(HashSet<Pid>),
}

impl Whom {
    /// These processes alone.
    pub(in crate::session) fn named(pids: impl IntoIterator<Item = Pid>) -> Self {
        Self::Named(pids.into_iter().collect())
    }

    /// Whether this process may join, by its number alone.
    fn may_be(&self, pid: Pid) -> bool {
        match self {
            Self::Everyone(_) => pid.0 != std::process::id(),
            Self::Named(named) => named.contains(&pid),
        }
    }

    /// Whether who has this number and is enclosed so may join.
    fn holds(&self, pid: Pid, enclosure: &Enclosure) -> bool {
        let is_within = match self {
            Self::Everyone(within) => within.holds(enclosure),
            Self::Named(_) => true,
        };
        is_within && self.may_be(pid)
    }
}

/// Those who may join, and the thread that looks at them.
pub(super) struct Crowd {
    whom: Whom,
    lives: Option<Lives>,
    missing: Vec<Missing>,
    due: HashMap<Pid, Due>,
    /// What was lost of the news and not said yet.
    lost: Option<LostNews>,
    machine: Look,
    asks: Sender<Ask>,
    answers: Receiver<Answer>,
}

/// Whether all that are there are being looked at. One look at a time: while news are lost, more would pile up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    /// Nobody asks for it.
    Idle,
    UnderWay,
    /// It is under way, and another must follow: news were lost since it began.
    AndAgain,
}

/// When a process is looked at.
#[derive(Clone, Copy, Debug)]
struct Due {
    at: Ns,
    asked: Asked,
}

/// What is asked about a process.
#[derive(Clone, Copy, Debug)]
struct Asked {
    /// How it came to run what it runs, in a word.
    why: &'static str,
    /// How often it was looked at before.
    tries: u32,
}

enum Ask {
    One(Pid, Asked),
    /// All that are there.
    Machine,
}

enum Answer {
    Joins(Box<Subject>, &'static str),
    /// Its types do not stand in memory.
    NotYet(Pid, Asked),
    /// All that are there were looked at.
    Machine,
}

impl Crowd {
    /// Nobody yet. The news must be those since before anything that is found by looking.
    pub(super) fn new(
        whom: Whom,
        lives: Result<Lives, PerfError>,
        options: &SampledOptions,
    ) -> Result<Self, SessionError> {
        let short = "a process is sampled from a tenth of a second after it began its program or loaded a library: what ends \
                     sooner is not seen; `--tier polls` sees every poll";
        let mut missing = vec![Missing { event: "busy", reason: short.to_owned() }];
        let lives = lives.map_err(|error| {
            let reason = format!("processes that begin from now on, or load a library, will not be seen: {error}");
            missing.push(Missing { event: "busy", reason });
        });
        let (asks, questions) = channel();
        let (replies, answers) = channel();
        let recruiter = Recruiter { whom: whom.clone(), replies };
        let (names, caching, verbosity) = (options.names.clone(), options.caching.clone(), options.verbosity);
        let work = move || {
            let say = progress(verbosity);
            let mut images = Images::new(names, &caching, &say);
            // Nobody listens any more at the end of the run.
            while questions.recv().is_ok_and(|ask| recruiter.take(&ask, &mut images, &say)) {}
        };
        let thread = std::thread::Builder::new().name("images".to_owned()).spawn(work);
        thread.map_err(|source| SessionError::System { what: "start a thread", source })?;
        Ok(Self {
            whom,
            lives: lives.ok(),
            missing,
            due: HashMap::new(),
            lost: None,
            machine: Look::Idle,
            asks,
            answers,
        })
    }

    /// Begins to look at those who are there. A program that was launched for it begins in this moment.
    pub(super) fn begin(&mut self) {
        match &self.whom {
            Whom::Everyone(_) => self.look_at_machine(),
            Whom::Named(named) => {
                let now = monotonic_now();
                named.clone().into_iter().for_each(|pid| self.settles(pid, now, "exec"));
            }
        }
    }

    /// What will not be seen of those who join.
    pub(super) fn missing(&self) -> &[Missing] {
        &self.missing
    }

    /// Who joins now, and how each came to run what it runs.
    pub(super) fn tend(&mut self, is_sampled: impl Fn(Pid) -> bool) -> Vec<(Subject, &'static str)> {
        let heard = self.lives.as_mut().map(|lives| lives.hear(Ns(u64::MAX))).unwrap_or_default();
        let lost = heard.lost() + heard.malformed;
        for News { at, change } in heard.news {
            match change {
                // A child runs what its parent runs, for as long as it begins no other program.
                Change::Forked { parent, child } if is_sampled(parent) => self.settles(child, at, "fork"),
                Change::Execed { pid } => self.settles(pid, at, "exec"),
                Change::Mapped { pid, .. } => self.settles(pid, at, "loaded"),
                Change::Exited { pid, leader: true, .. } => {
                    self.due.remove(&pid);
                }
                Change::Forked { .. } | Change::Exited { .. } | Change::Lost { .. } => {}
            }
        }
        if lost > 0 {
            let looks_again = matches!(self.whom, Whom::Everyone(_));
            self.lost = Some(LostNews { at: monotonic_now(), count: Some(lost), looks_again });
            if looks_again {
                self.look_at_machine();
            }
        }
        let now = monotonic_now();
        let due: Vec<(Pid, Due)> = self.due.extract_if(|_, due| due.at <= now).collect();
        due.into_iter().for_each(|(pid, due)| self.ask(Ask::One(pid, due.asked)));
        let mut joining = Vec::new();
        while let Ok(answer) = self.answers.try_recv() {
            match answer {
                Answer::Joins(subject, why) => joining.push((*subject, why)),
                Answer::NotYet(pid, Asked { why, tries }) if tries < TRIES => {
                    let asked = Asked { why, tries: tries + 1 };
                    self.due.entry(pid).or_insert(Due { at: Ns(now.0 + (SETTLING.0 << tries)), asked });
                }
                Answer::NotYet(..) => {}
                Answer::Machine => {
                    if std::mem::replace(&mut self.machine, Look::Idle) == Look::AndAgain {
                        self.look_at_machine();
                    }
                }
            }
        }
        joining
    }

    /// News that were lost at the last look, if that was not said yet.
    pub(super) fn take_lost(&mut self) -> Option<LostNews> {
        self.lost.take()
    }

    /// Something was heard of a process: it is looked at when nothing more is for a while. How it began says more than what it
    /// loads then.
    fn settles(&mut self, pid: Pid, at: Ns, why: &'static str) {
        if !self.whom.may_be(pid) {
            return;
        }
        let why = match self.due.get(&pid) {
            Some(due) if why == "loaded" => due.asked.why,
            _ => why,
        };
        self.due.insert(pid, Due { at: Ns(at.0 + SETTLING.0), asked: Asked { why, tries: 0 } });
    }

    /// Looks at all that are there, known ones too: they may have begun another program, or loaded more.
    fn look_at_machine(&mut self) {
        self.machine = match self.machine {
            Look::Idle => {
                self.ask(Ask::Machine);
                Look::UnderWay
            }
            Look::UnderWay | Look::AndAgain => Look::AndAgain,
        };
    }

    fn ask(&self, ask: Ask) {
        // The thread has ended only if it panicked: then nobody new is sampled, which the panic's words show.
        let _ = self.asks.send(ask);
    }
}

/// What the thread works with.
struct Recruiter {
    whom: Whom,
    replies: Sender<Answer>,
}

impl Recruiter {
    /// Whether somebody still listens.
    fn take(&self, ask: &Ask, images: &mut Images<'_>, say: &dyn Fn(u8, &str)) -> bool {
        match ask {
            Ask::One(pid, asked) => match machine::look_at(*pid) {
                Ok(Some((pid, resident))) => self.consider(pid, &resident, *asked, images, say),
                // Who has ended, or may not be looked at, is nobody to be sampled.
                Ok(None) | Err(_) => true,
            },
            Ask::Machine => match Machine::look() {
                Ok(Machine { residents, not_permitted }) => {
                    if not_permitted > 0 {
                        let why = "(CAP_SYS_PTRACE permits most)";
                        say(
                            1,
                            &format!("processes that may not be looked at, and are not sampled: {not_permitted} {why}"),
                        );
                    }
                    let found = Asked { why: "found", tries: 0 };
                    residents.iter().all(|(pid, resident)| self.consider(*pid, resident, found, images, say))
                        && self.replies.send(Answer::Machine).is_ok()
                }
                Err(error) => {
                    say(1, &format!("processes cannot be listed: {}", error.in_full()));
                    self.replies.send(Answer::Machine).is_ok()
                }
            },
        }
    }

    fn consider(
        &self,
        pid: Pid,
        resident: &Resident,
        asked: Asked,
        images: &mut Images<'_>,
        say: &dyn Fn(u8, &str),
    ) -> bool {
        let holds_nothing = |images: &Images<'_>| resident.code.iter().all(|code| images.holds_nothing(code.file));
        if !self.whom.holds(pid, &resident.enclosure) || holds_nothing(images) {
            return true;
        }
        let process = Process::open(pid).map(Arc::new).map_err(SessionError::from);
        match process.and_then(|process| Subject::open(process, images)) {
            // Other observers are not sampled, unless they are named.
            Ok(_) if matches!(self.whom, Whom::Everyone(_)) && holds_nothing(images) => true,
            Ok(subject) => self.replies.send(Answer::Joins(Box::new(subject), asked.why)).is_ok(),
            Err(SessionError::Nothing { reasons, .. }) if reasons.is_empty() => true,
            Err(error) if error.is_of_ended() => true,
            Err(error) => {
                say(2, &format!("process {pid} is not sampled: {}", error.in_full()));
                self.replies.send(Answer::NotYet(pid, asked)).is_ok()
            }
        }
    }
}
