//! What observing would cost a process, for people: the slow points, and what each tier adds.
//!
//! Does not know where the figures come from.

use std::io::{self, Write};

use super::{ExpectedOf, SlowOf};

/// So many slow points are listed; the others are counted.
const LISTED: usize = 12;

/// Lists the points that the kernel must single-step, the hot ones first.
pub(super) fn write_slow(slow: &[SlowOf], out: &mut dyn Write) -> io::Result<()> {
    if slow.is_empty() {
        return Ok(());
    }
    let hot = slow.iter().filter(|point| point.hot).count();
    let planted = if hot > 0 { format!(", {hot} of them hot: planted with --allow-slow only") } else { String::new() };
    writeln!(out, "  {} points that the kernel must single-step{planted}", slow.len())?;
    let (hot, seldom): (Vec<&SlowOf>, Vec<&SlowOf>) = slow.iter().partition(|point| point.hot);
    for point in hot.into_iter().chain(seldom).take(LISTED) {
        let SlowOf { role, at, symbol, instruction, hot, ns, .. } = point;
        let symbol = symbol.as_ref().map_or(String::new(), |(name, behind)| format!("  in {name}+{behind:#x}"));
        let ns = ns.map_or("cost not measured".to_owned(), |ns| format!("{ns:.0} ns a hit"));
        let hot = if *hot { "hot     " } else { "seldom  " };
        writeln!(out, "    {hot}{role} at {at}: {ns}, {instruction}{symbol}")?;
    }
    match slow.len().saturating_sub(LISTED) {
        0 => Ok(()),
        more => writeln!(out, "    and {more} more: --json lists all"),
    }
}

/// Shows what each tier would add.
pub(super) fn write_expected(
    hit_ns: Option<(f64, f64)>,
    expected: &[ExpectedOf],
    out: &mut dyn Write,
) -> io::Result<()> {
    let Some((emulated, stepped)) = hit_ns else { return Ok(()) };
    writeln!(
        out,
        "  Expected here: a hit costs {emulated:.0} ns, one that is single-stepped {stepped:.0} ns. Added CPU time:"
    )?;
    writeln!(out, "  {:>20} {:>20}  tier", "ns a poll", "ns a spawn")?;
    for ExpectedOf { tier, slow, poll, spawn } in expected {
        let slow = if *slow { " --allow-slow" } else { "" };
        writeln!(out, "  {:>20} {:>20}  {tier}{slow}", text(*poll), text(*spawn))?;
    }
    Ok(())
}

fn text(span: Option<(f64, f64)>) -> String {
    match span.map(|(least, most)| (least.round(), most.round())) {
        None => "not seen".to_owned(),
        Some((least, most)) if least == most => format!("{least:.0}"),
        Some((least, most)) => format!("{least:.0} to {most:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::VirtAddr;

    fn point(role: &'static str, hot: bool) -> SlowOf {
        let symbol = Some(("tokio::spawn".to_owned(), 16));
        let (path, instruction) = ("/app".to_owned(), "lea rax,[1F0h]".to_owned());
        SlowOf { role, path, at: VirtAddr(0x10), symbol, instruction, hot, ns: Some(16_000.4) }
    }

    fn listed(slow: &[SlowOf]) -> String {
        let mut out = Vec::new();
        write_slow(slow, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn hot_points_come_first_and_say_what_plants_them() {
        let text = listed(&[point("raise", false), point("birth", true)]);
        let expected = "  2 points that the kernel must single-step, 1 of them hot: planted with --allow-slow only\n    \
            hot     birth at 0x10: 16000 ns a hit, lea rax,[1F0h]  in tokio::spawn+0x10\n    \
            seldom  raise at 0x10: 16000 ns a hit, lea rax,[1F0h]  in tokio::spawn+0x10\n";
        assert_eq!(text, expected);
        assert_eq!(listed(&[]), "");
    }

    #[test]
    fn a_long_list_says_how_many_it_leaves_out() {
        assert!(listed(&vec![point("poll", true); LISTED + 3]).ends_with("and 3 more: --json lists all\n"));
    }

    #[test]
    fn what_a_tier_would_not_see_costs_nothing_that_can_be_said() {
        let of = |poll, spawn| ExpectedOf { tier: "full", slow: false, poll, spawn };
        let mut out = Vec::new();
        write_expected(Some((460.0, 16_000.0)), &[of(None, Some((500.0, 700.4)))], &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("            not seen           500 to 700  full\n"), "{text}");
    }
}
