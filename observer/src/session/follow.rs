//! Follows processes as they come and go: news become marks in the stream, new files are looked at, probes come and go with
//! who runs them.
//!
//! Does not know: records, tasks. What the marks mean to the targets is `population`'s.

use std::collections::HashMap;
use std::sync::Arc;

use crate::attach::Probes;
use crate::lives::{Change as Happening, Lives, News};
use crate::model::{Enclosure, FileId, Missing, Ns, Pid, Sight};
use crate::perf::PerfError;
use crate::sink::LostNews;
use crate::target::{Process, is_running, monotonic_now};

use super::Options;
use super::analyst::{Analyst, Answer, Ask, Found};
use super::budget::Level;
use super::dying::Dying;
use super::error::SessionError;
use super::held::{Held, Runner};
use super::images::Looked;
use super::known_files::{Coming, KnownFiles};
use super::machine::{Machine, look_at};
use super::marks::Mark;
use super::meter::Round;
use super::population::Step;
use super::probing::{Probing, Wanted};
use super::roster::Code;
use super::stream::Stream;
use super::whom::Whom;

/// Pages of each CPU's ring of news: a thousand forks and execs between two looks.
pub(super) const NEWS_PAGES: usize = 128;
/// Where hardly any memory may be locked.
pub(super) const FEW_NEWS_PAGES: usize = 8;
/// Between two looks at which probes nobody runs into any more.
const HOUSEKEEPING: Ns = Ns(1_000_000_000);

/// What follows.
pub(super) struct Follower<'a> {
    lives: Option<Lives>,
    analyst: Analyst,
    files: KnownFiles,
    probing: Probing<'a>,
    members: Whom,
    /// Processes that came to run a file whose probes are in.
    newcomers: Vec<(FileId, Pid)>,
    /// Processes that run something that may be observed, and since when.
    runners: HashMap<Pid, Ns>,
    dying: Dying,
    next_housekeeping: Ns,
    level: Level,
    missing: Vec<Missing>,
    round: Round,
    say: &'a dyn Fn(u8, &str),
}

impl<'a> Follower<'a> {
    /// Begins to follow, with news since before anything that is found by looking is looked for. Without news, that is
    /// said, and what is there now is all.
    pub(super) fn begin(
        options: &'a Options,
        lives: Result<Lives, PerfError>,
        (processes, held): (&[Arc<Process>], Vec<Held>),
        stream: &mut Stream,
        say: &'a dyn Fn(u8, &str),
    ) -> Result<Self, SessionError> {
        let members = Whom::of(&options.selection, processes);
        let mut missing = Vec::new();
        let lives = match lives {
            Ok(lives) => Some(lives),
            Err(error) => {
                let what = match members.are_everyone() {
                    true => "processes that begin from now on",
                    false => "what these processes load or begin from now on",
                };
                missing.push(Missing { event: "init", reason: format!("{what} will not be seen: {error}") });
                None
            }
        };
        let analyst = Analyst::begin(options.names.clone(), options.caching.clone(), options.verbosity)
            .map_err(|source| SessionError::System { what: "start a thread", source })?;
        let mut follower = Self {
            lives,
            analyst,
            files: KnownFiles::default(),
            probing: Probing::new(options.events, options.slow, held, Ns::of(options.keep_probes), say),
            members,
            newcomers: Vec::new(),
            runners: HashMap::new(),
            dying: Dying::default(),
            next_housekeeping: Ns(0),
            level: Level::Nothing,
            missing,
            round: Round::new(options.verbosity),
            say,
        };
        match follower.members.are_everyone() {
            true => follower.list(stream)?,
            false => follower.settle(processes, stream)?,
        }
        Ok(follower)
    }

    /// What will not be seen of those that are followed.
    pub(super) fn missing(&self) -> impl Iterator<Item = Missing> + '_ {
        self.missing.iter().cloned()
    }

    /// What is followed, in a word.
    pub(super) fn what(&self) -> &'static str {
        match (&self.lives, self.members.are_everyone()) {
            (None, _) => "nothing",
            (Some(_), false) => "named",
            (Some(_), true) => "everyone",
        }
    }

    /// What the named processes run is known already.
    fn settle(&mut self, processes: &[Arc<Process>], stream: &mut Stream) -> Result<(), SessionError> {
        for process in processes {
            let modules = process.modules()?;
            self.files.hold_nothing(&modules.iter().map(|module| module.file).collect::<Vec<_>>());
        }
        for Held { names, facts, image, .. } in self.probing.held() {
            for name in names {
                self.files.hold_facts(*name, &[*name]);
                stream.population.settled(*name, Arc::clone(facts), Arc::clone(image));
            }
        }
        let began = monotonic_now();
        let mut residents = Vec::new();
        for process in processes {
            residents.extend(look_at(process.pid())?);
        }
        stream.mark(began, Mark::Listed(residents));
        Ok(())
    }

    /// Looks at all processes there are.
    fn list(&mut self, stream: &mut Stream) -> Result<(), SessionError> {
        let began = monotonic_now();
        let Machine { mut residents, not_permitted } = Machine::look()?;
        if not_permitted > 0 {
            (self.say)(
                1,
                &format!(
                    "processes that may not be looked at, and are not observed: {not_permitted} (CAP_SYS_PTRACE permits most)"
                ),
            );
        }
        residents.retain(|(pid, resident)| self.members.wants(*pid, &resident.enclosure));
        for (pid, resident) in &residents {
            for code in &resident.code {
                self.runs(*pid, began, code);
            }
        }
        stream.mark(began, Mark::Listed(residents));
        stream.mark(monotonic_now(), Mark::ListingOver);
        Ok(())
    }

    /// Takes in what happened since the last time.
    pub(super) fn fill(&mut self, stream: &mut Stream, probes: &Probes) {
        let Some(lives) = &mut self.lives else { return };
        // The stream puts everything in order of time itself.
        let heard = lives.hear(Ns(u64::MAX));
        let lost = heard.lost();
        for News { at, change } in heard.news {
            self.happened(at, change, stream, probes);
        }
        let ended = self.dying.ended(monotonic_now(), is_running);
        self.bury(ended, stream);
        let count = lost + heard.malformed;
        if count > 0 {
            self.missed_news(Some(count), stream);
        }
    }

    /// A CPU has come online.
    pub(super) fn listen_on(&mut self, cpu: u32, stream: &mut Stream) -> Result<(), PerfError> {
        if let Some(lives) = &mut self.lives {
            lives.listen_on(cpu, NEWS_PAGES)?;
            self.missed_news(None, stream);
        }
        Ok(())
    }

    fn missed_news(&mut self, count: Option<u64>, stream: &mut Stream) {
        let at = monotonic_now();
        let looks_again = self.members.are_everyone()
            && match self.list(stream) {
                Ok(()) => true,
                Err(error) => {
                    (self.say)(1, &format!("processes cannot be listed: {}", error.in_full()));
                    false
                }
            };
        stream.mark(at, Mark::LostNews(LostNews { at, count, looks_again }));
    }

    fn happened(&mut self, at: Ns, change: Happening, stream: &mut Stream, probes: &Probes) {
        match change {
            Happening::Forked { parent, child } => {
                self.dying.lives(child, at);
                if self.members.are_everyone() {
                    // Of a child that runs nothing to observe it is not worth to be asked.
                    let enclosure = match self.runners.contains_key(&parent) {
                        true => super::machine::enclosure(child),
                        false => Enclosure::default(),
                    };
                    if self.runners.contains_key(&parent) {
                        self.runners.insert(child, at);
                    }
                    stream.mark(at, Mark::Step(parent, Step::Forked { child, enclosure }));
                }
            }
            Happening::Execed { pid } => {
                self.dying.lives(pid, at);
                // What it mapped since may have been read before, on another CPU.
                if self.runners.get(&pid).is_some_and(|since| *since <= at) {
                    self.runners.remove(&pid);
                }
                if self.members.follows(pid) {
                    stream.mark(at, Mark::Step(pid, Step::Execed));
                }
            }
            Happening::Exited { pid, tid, leader } => {
                if self.members.follows(pid) {
                    stream.mark(at, Mark::ThreadEnded(pid, tid));
                    if leader {
                        self.dying.begins(pid, at);
                    }
                }
            }
            Happening::Mapped { pid, range, offset, file, path } => {
                if !self.members.follows(pid) || self.files.holds_nothing(file) {
                    return;
                }
                // Now, because it may have ended when its turn comes.
                let enclosure = super::machine::enclosure(pid);
                if !self.members.wants(pid, &enclosure) || self.level >= Level::Processes {
                    // It may come to run what is probed for others: its hits are of no use.
                    if let Err(error) = probes.exclude(pid) {
                        (self.say)(2, &format!("process {pid} is reported although it is not wanted: {error}"));
                    }
                    return;
                }
                let code = Code { file, path: path.into(), start: range.start, length: range.len(), offset };
                self.runs(pid, at, &code);
                stream.mark(at, Mark::Step(pid, Step::Mapped(code, enclosure)));
            }
            Happening::Lost { .. } => {}
        }
    }

    /// From now on this is done without.
    pub(super) fn degrade(&mut self, level: Level) {
        self.level = level;
    }

    /// See [`Probing::plant_less`].
    pub(super) fn plant_less(&mut self, sight: Sight) {
        self.probing.plant_less(sight);
    }

    /// See [`Probing::plant_more`].
    pub(super) fn plant_more(&mut self, sight: Sight, stream: &Stream, probes: &mut Probes) {
        self.probing.plant_more(sight, stream, probes);
    }

    /// See [`Probing::is_settled`].
    pub(super) fn is_settled(&self) -> bool {
        self.probing.is_settled()
    }

    /// The last words on who was followed, of what happened up to the last moment, when the probes begin to be taken out. What
    /// was alive in the last of named processes is what is live at the end of the stream, which their end is.
    pub(super) fn end(mut self, last: Ns, stream: &mut Stream, probes: &Probes) {
        self.fill(stream, probes);
        if self.members.are_everyone() {
            let ended = self.dying.ended_at_last(last, is_running);
            self.bury(ended, stream);
        }
    }

    fn bury(&mut self, ended: Vec<(Pid, Ns)>, stream: &mut Stream) {
        for (pid, at) in ended {
            self.runners.remove(&pid);
            stream.mark(at, Mark::Step(pid, Step::Ended));
        }
    }

    /// Somebody runs a file: asks what it holds, unless that is known.
    fn runs(&mut self, pid: Pid, at: Ns, code: &Code) {
        let ask = Ask { file: code.file, pid, at: code.start };
        match self.files.comes(ask) {
            Coming::ToNothing => return,
            Coming::ToProbes => self.newcomers.push((code.file, pid)),
            Coming::Waits => {}
            Coming::Asks => self.analyst.ask(ask),
        }
        self.runners.insert(pid, at);
    }

    /// Puts probes into what was looked at, takes out what nobody runs.
    pub(super) fn tend(&mut self, stream: &mut Stream, probes: &mut Probes, now: Ns) {
        while let Some(answer) = self.analyst.answer() {
            self.answered(answer, stream, probes);
        }
        if self.members.are_everyone() {
            self.round.tell(self.analyst.open(), self.say);
        }
        for (file, pid) in std::mem::take(&mut self.newcomers) {
            let joined = self.members.runner(pid).map_or(Ok(()), |runner| self.probing.joins(file, runner, probes));
            if let Err(error) = joined {
                (self.say)(2, &format!("process {pid} is not observed: {}", error.in_full()));
            }
        }
        for file in self.probing.give_back(stream) {
            self.files.forget(file);
        }
        if now >= self.next_housekeeping {
            self.next_housekeeping = Ns(now.0 + HOUSEKEEPING.0);
            for file in self.probing.release_unused(stream, now) {
                self.files.forget(file);
            }
        }
    }

    fn answered(&mut self, answer: Answer, stream: &mut Stream, probes: &mut Probes) {
        let Answer { ask, found } = answer;
        self.round.looked();
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                (self.say)(2, &format!("an image of process {} was not looked at: {}", ask.pid, error.in_full()));
                if let Some(next) = self.files.next_after(ask) {
                    self.analyst.ask(next);
                }
                return;
            }
        };
        let Found { file, path, looked, opened, missing } = found;
        for missing in missing {
            (self.say)(1, &format!("missing {}: {}", missing.event, missing.reason));
        }
        let facts = match looked {
            Looked::Runtime(facts) if facts.observer && self.members.are_everyone() => {
                (self.say)(2, &format!("{path} is an observer: it is left alone"));
                return self.holds_nothing(&[ask.file, file], stream);
            }
            Looked::Runtime(facts) => facts,
            Looked::Nothing => return self.holds_nothing(&[ask.file, file], stream),
            Looked::Unsupported(reason) => {
                (self.say)(1, &format!("process {}: {}", ask.pid, reason.in_words()));
                return self.holds_nothing(&[ask.file, file], stream);
            }
        };
        self.round.carries();
        let mut names = vec![file, ask.file];
        names.dedup();
        let Some(waiting) = self.files.hold_facts(ask.file, &names) else { return };
        let mut runners: Vec<Runner> = waiting.into_iter().filter_map(|pid| self.members.runner(pid)).collect();
        runners.sort_by_key(|runner| runner.pid);
        runners.dedup();
        let everyone = self.members.are_everyone();
        let wanted = Wanted { names, path: path.clone(), opened, facts: &facts, runners, everyone };
        if let Err(error) = self.probing.begin(wanted, stream, probes) {
            (self.say)(1, &format!("{path} cannot be observed as it should: {}", error.in_full()));
        }
    }

    /// A process is no target any more.
    pub(super) fn ended(&mut self, pid: Pid) {
        self.probing.ended(pid);
    }

    fn holds_nothing(&mut self, names: &[FileId], stream: &mut Stream) {
        self.files.hold_nothing(names);
        names.iter().for_each(|name| stream.population.forget_file(*name));
    }
}
