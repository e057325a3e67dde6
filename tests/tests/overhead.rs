//! What observing is said to cost while it runs: the parts add up to the whole, and the whole to what was seen.

use serde_json::Value;
use tests::fixture::Fixture;
use tests::observer::Observer;
use tests::stream::number;

/// Whether an `overhead` line or the end's is of time in which nothing was hit.
fn is_quiet(line: &str) -> bool {
    line.contains("\"event\":\"overhead\"") && line.contains("\"hits\":0,")
}

#[test]
fn the_lines_add_up_to_the_end_s_and_hits_to_the_events() {
    let mut fixture = Fixture::start("newest-release", "idle", &[]);
    let options = ["--events", "before,after", "--overhead-every", "100ms"];
    let observer = Observer::attach(fixture.pid(), &options);
    fixture.wait_for("it counts its tasks", |line| line.contains("\"existing\""));
    fixture.release();
    fixture.wait_for("it used its tasks", |line| line.contains("\"used\""));
    let worked = |line: &str| line.contains("\"event\":\"overhead\"") && !is_quiet(line);
    observer.wait_for("it says what that has cost", worked);
    // From here on the program waits: what the lines have not told by a quiet one is nothing.
    let told = observer.said().len();
    let quiet = || observer.said().iter().skip(told).any(|line| is_quiet(line));
    tests::wait::until("it says that nothing is hit any more", || quiet().then_some(()));
    let stream = observer.stop();

    let whole = &stream.end()["overhead"];
    let lines: Vec<&Value> = stream.of("overhead").collect();
    assert!(lines.len() > 1, "it was said again and again");
    for member in ["hits", "records", "lost", "foreignHits"] {
        let sum: u64 = lines.iter().map(|line| number(line, member)).sum();
        assert_eq!(sum, number(whole, member), "{member}");
    }
    let said: u64 = lines.iter().map(|line| number(line, "forNs")).sum();
    assert!(said <= number(whole, "forNs"), "the lines' time is within that of the whole");
    // Each poll is hit at its entry and at its return, and is one record; two where a kernel has no cookies, see ARCHITECTURE.md.
    let polls = stream.of("after").filter(|after| after["inferred"] != true).count() as u64;
    assert!(polls > 0, "it polled");
    let each = if stream.start()["mechanism"] == "tracefs" { 2 } else { 1 };
    assert_eq!((number(whole, "hits"), number(whole, "records")), (2 * polls, polls * each));
    // Parts are rounded to nanoseconds each.
    if whole["hitNs"].is_null() {
        assert!(whole["addedNs"].is_null(), "{whole}");
    } else {
        let sum: u64 = lines.iter().map(|line| number(line, "addedNs")).sum();
        assert!(sum.abs_diff(number(whole, "addedNs")) <= lines.len() as u64, "{sum} in parts, the whole is {whole}");
    }
}

#[test]
fn sampling_says_what_it_costs_when_it_is_time_for_it_when_it_is_asked_and_at_the_end() {
    let mut fixture = Fixture::start("newest-release", "busy", &[]);
    fixture.release();
    fixture.wait_for("its tasks are spawned", |line| line.contains("\"kind\":\"heavy\""));
    let is_cost = |line: &str| line.contains("\"event\":\"overhead\"");
    let observer = Observer::attach_with(fixture.pid(), &["--tier", "sampled", "--overhead-every", "200ms"]);
    observer.wait_for("it says what it costs", is_cost);
    let stream = observer.stop();
    let (whole, totals) = (&stream.end()["overhead"], &stream.end()["totals"]);
    for (member, expected) in
        [("hits", 0), ("records", 0), ("samples", number(totals, "samples")), ("lost", number(totals, "lost"))]
    {
        assert_eq!(number(whole, member), expected, "{member}");
        let said: u64 = stream.of("overhead").map(|line| number(line, member)).sum();
        assert!(said <= expected, "{member}: {said} in parts, the whole is {whole}");
    }
    assert!(number(whole, "samples") > 0, "it burns");
    assert_eq!(number(whole, "addedNs"), number(whole, "samples") * 10_000);
    assert!(number(whole, "observerCpuNs") > 0 && number(whole, "observerMemory") > 0, "{whole}");

    // Not before an hour has passed, unless somebody asks.
    let observer = Observer::attach_with(fixture.pid(), &["--tier", "sampled", "--overhead-every", "1h"]);
    observer.wait_for("it samples", |line| line.contains("\"interval\""));
    assert!(!observer.said().iter().any(|line| is_cost(line)), "nobody has asked");
    observer.signal(libc::SIGUSR1);
    observer.wait_for("it answers", is_cost);
    assert_eq!(observer.stop().of("overhead").count(), 1);
}
