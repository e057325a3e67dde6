//! `doctor`: what the session found, put into words and handed to a sink; and its exit code.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::SystemTime;

use crate::model::Cost;
use crate::session::{Diagnosis, DoctorOptions, Expected, Machine, Reads, SessionError, SlowPoint, Span, doctor, now};
use crate::sink::{DoctorJson, DoctorReport, DoctorSink, DoctorText, ExpectedOf, Fact, PointsOf, SlowOf};

use super::args::Doctor;
use super::{Failure, Opened, advice, standard_output};

/// Examines and says it.
pub(super) fn run(args: &Doctor) -> Result<ExitCode, Failure> {
    let diagnosis = doctor(&DoctorOptions { pids: args.pid.clone(), verbosity: args.verbose.saturating_add(1) })?;
    let Opened { mut out, colour } = standard_output();
    let mut sink: Box<dyn DoctorSink> =
        if args.json { Box::new(DoctorJson) } else { Box::new(DoctorText::new(colour)) };
    let exit = diagnosis.refusal().map_or(0, Failure::code_of);
    match say(&diagnosis, exit, &mut *sink, &mut out).and_then(|()| out.flush()) {
        // Whoever reads has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        said => said.map_err(SessionError::Output)?,
    }
    Ok(ExitCode::from(exit))
}

fn say(diagnosis: &Diagnosis, exit: u8, sink: &mut dyn DoctorSink, out: &mut dyn Write) -> io::Result<()> {
    let Diagnosis { machine, targets, reads } = diagnosis;
    let (at, facts) = (now(), facts(machine));
    sink.say(&DoctorReport::Start { at, wall: SystemTime::now(), kernel: &machine.kernel, facts: &facts }, out)?;
    for row in &machine.rows {
        sink.say(&DoctorReport::Need { at, pid: None, row: advice::row(row) }, out)?;
    }
    for target in targets {
        for row in &target.rows {
            sink.say(&DoctorReport::Need { at, pid: Some(target.pid), row: advice::row(row) }, out)?;
        }
        let Some(observed) = &target.observed else { continue };
        let points: Vec<PointsOf> = observed
            .points
            .iter()
            .map(|points| {
                let (role, purpose) = advice::role(points.role);
                PointsOf { role, purpose, count: points.count, single_stepped: points.single_stepped }
            })
            .collect();
        let (count, single) = points.iter().fold((0, 0), |(all, dear), of| (all + of.count, dear + of.single_stepped));
        let measured = machine.prices.map(|prices| (prices.stepped / prices.price.hit).round() as u32);
        let factor = measured.unwrap_or(Cost::SingleStepped.factor());
        let cost = advice::cost(count, single, (factor, measured.is_some()));
        let slow: Vec<SlowOf> = observed.slow.iter().map(slow_of).collect();
        let expected: Vec<ExpectedOf> = observed.expected.iter().map(expected_of).collect();
        let report = DoctorReport::Target {
            at,
            entry: &observed.entry,
            points: &points,
            factor,
            cost: &cost,
            hit_ns: machine.prices.map(|prices| (prices.price.hit, prices.stepped)),
            slow: &slow,
            expected: &expected,
        };
        sink.say(&report, out)?;
    }
    let live = machine.mechanism.map(|mechanism| mechanism.as_str());
    let reads_word = match reads {
        Reads::Everyones => "everyone",
        Reads::ThisUsers => "this-user",
        Reads::Nobodys => "nobody",
    };
    let summary = summary(diagnosis, live);
    sink.say(&DoctorReport::End { at, live, reads: reads_word, exit, summary: &summary }, out)
}

fn slow_of(slow: &SlowPoint) -> SlowOf {
    let SlowPoint { role, path, at, symbol, instruction, hot, ns } = slow.clone();
    SlowOf { role: advice::role(role).0, path, at, symbol, instruction, hot, ns }
}

fn expected_of(expected: &Expected) -> ExpectedOf {
    let span = |of: Option<Span>| of.map(|Span { least, most }| (least, most));
    let Expected { tier, slow, poll, spawn } = *expected;
    ExpectedOf { tier, slow, poll: span(poll), spawn: span(spawn) }
}

/// The sum in words: what it is about, the verdict, whether that is good.
fn summary(diagnosis: &Diagnosis, live: Option<&str>) -> Vec<(&'static str, String, bool)> {
    let live = match live {
        Some(by) => ("live stream", format!("works by {by}"), true),
        None => ("live stream", "does not work: see MISSING above".to_owned(), false),
    };
    let reads = match diagnosis.reads {
        Reads::Everyones => "work",
        Reads::ThisUsers => "work for processes of this user",
        Reads::Nobodys => "do not work: see MISSING above",
    };
    let reads = ("ps and sweep", reads.to_owned(), diagnosis.reads != Reads::Nobodys);
    let targets = diagnosis.targets.iter().map(|target| match target.refusal() {
        None if target.observed.as_ref().is_some_and(|observed| !observed.entry.is_probed()) => {
            let why = "can be looked at (ps, sweep) and sampled; the live stream would plant nothing in it: see missing above";
            ("process", format!("{} {why}", target.pid), false)
        }
        None => ("process", format!("{} can be observed", target.pid), true),
        Some(_) => ("process", format!("{} cannot be observed: see MISSING above", target.pid), false),
    });
    [live, reads].into_iter().chain(targets).collect()
}

fn facts(machine: &Machine) -> Vec<Fact> {
    let Machine { own, settings, .. } = machine;
    let number = |value: Option<i64>| value.map(|value| value.to_string());
    let fact = |word, name, value: Option<String>, note: Option<&str>| {
        let note = note.map(str::to_owned);
        Fact { word, name, value, note }
    };
    let not_shown = (!settings.securityfs)
        .then_some("securityfs is not mounted: mount -t securityfs securityfs /sys/kernel/security");
    let locked = settings.locked_memory.map(|limit| match limit {
        None => "unlimited".to_owned(),
        Some(bytes) => format!("{} KiB", bytes >> 10),
    });
    let user = if own.user == 0 { "0 (root)".to_owned() } else { own.user.to_string() };
    let namespace = if machine.first_user_namespace { "first" } else { "another" };
    let bpf = match settings.unprivileged_bpf_disabled {
        Some(0) => "anyone may load simple programs, tracing still needs capabilities",
        Some(_) => "bpf needs CAP_BPF, as is usual",
        None => "this kernel does not say",
    };
    let perf = match settings.perf_event_paranoid {
        Some(..=0) => "anyone may open events of the whole system",
        Some(..=2) => "events of the whole system need CAP_PERFMON, as is usual",
        Some(_) => "more than Linux knows: some distributions' kernels then ask for CAP_SYS_ADMIN",
        None => "this kernel does not say",
    };
    let yama = match settings.ptrace_scope {
        None => "Yama is not in this kernel",
        Some(0) => "processes of one user may read each other",
        Some(1) => "without CAP_SYS_PTRACE only own children can be read",
        Some(2) => "reading needs CAP_SYS_PTRACE",
        Some(_) => "nobody may read another process",
    };
    vec![
        fact("kernel", "kernel", Some(machine.kernel.clone()), None),
        fact("user", "user", Some(user), None),
        fact("capabilities", "capabilities", Some(own.effective.to_string()), None),
        fact("userNamespace", "user namespace", Some(namespace.to_owned()), None),
        fact("lockdown", "lockdown", settings.lockdown.clone(), not_shown),
        fact(
            "securityModules",
            "security modules",
            settings.security_modules.as_ref().map(|all| all.join(",")),
            not_shown,
        ),
        fact(
            "unprivilegedBpfDisabled",
            "kernel.unprivileged_bpf_disabled",
            number(settings.unprivileged_bpf_disabled),
            Some(bpf),
        ),
        fact("perfEventParanoid", "kernel.perf_event_paranoid", number(settings.perf_event_paranoid), Some(perf)),
        fact("ptraceScope", "kernel.yama.ptrace_scope", number(settings.ptrace_scope), Some(yama)),
        fact("perfEventMlockKb", "kernel.perf_event_mlock_kb", number(settings.perf_event_mlock_kb), None),
        fact("lockedMemory", "lockable memory (ulimit -l)", locked, None),
    ]
}
