//! `cargo xtask floors`: no import climbs, and what one floor knows alone is not used elsewhere.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// A module of `observer/src`, and the modules it may see. Lowest floor first; `model` is seen by all above it.
const FLOORS: &[(&str, u8, &[&str])] = &[
    ("model", 1, &[]),
    ("target", 2, &["model"]),
    ("symbols", 2, &["model"]),
    ("perf", 2, &["model"]),
    ("decode", 2, &["model"]),
    ("lifecycle", 2, &["model"]),
    ("unwind", 2, &["model"]),
    ("runtime", 3, &["model", "symbols"]),
    ("lives", 3, &["model", "perf"]),
    ("census", 3, &["model", "target"]),
    ("verdict", 3, &["model"]),
    ("plan", 4, &["model", "symbols", "runtime"]),
    ("sink", 4, &["model", "lifecycle", "verdict"]),
    ("cache", 5, &["model", "symbols"]),
    ("attach", 5, &["model", "perf", "plan"]),
    (
        "session",
        6,
        &[
            "model",
            "target",
            "symbols",
            "perf",
            "decode",
            "lifecycle",
            "unwind",
            "runtime",
            "lives",
            "census",
            "verdict",
            "plan",
            "sink",
            "cache",
            "attach",
        ],
    ),
    ("cli", 7, &["session", "sink", "model"]),
];

/// Words that only these modules may write: packages and language that one floor knows alone.
const ALONE: &[(&str, &[&str])] = &[
    ("aya", &["attach"]),
    ("aya_obj", &["attach"]),
    ("aya_log", &["attach"]),
    ("serde_json", &["sink"]),
    ("serde", &["model", "cache", "sink"]),
    ("postcard", &["cache"]),
    ("prost", &["sink"]),
    ("flate2", &["sink"]),
    ("clap", &["cli"]),
    ("gimli", &["symbols"]),
    ("addr2line", &["symbols"]),
    ("object", &["symbols"]),
    ("iced_x86", &["symbols", "runtime", "plan"]),
    ("rustc_demangle", &["symbols"]),
    ("observer_common", &["model", "decode", "attach"]),
    ("unsafe", &["attach", "perf", "target"]),
];

/// Checks the tree; says every breach.
pub fn run(root: &Path) -> Result<()> {
    let source = root.join("observer/src");
    let mut breaches = Vec::new();
    let mut files = 0;
    for file in rust_files(&source)? {
        let inside = file.strip_prefix(&source).context("a file of the folder")?;
        let first = inside.components().next().map(|part| part.as_os_str().to_string_lossy().into_owned());
        let module = first.unwrap_or_default().trim_end_matches(".rs").to_owned();
        // The list of modules and the program's first lines are the roof: they name what is below.
        if module == "lib" || module == "main" {
            continue;
        }
        files += 1;
        let text = fs::read_to_string(&file).with_context(|| format!("reading {}", inside.display()))?;
        let at = inside.display().to_string();
        breaches.extend(breaches_of(&module, &text).into_iter().map(|breach| format!("{at}: {breach}")));
    }
    if files == 0 {
        bail!("no source file found: is this the project's root?");
    }
    if !breaches.is_empty() {
        bail!(
            "{} imports climb or leave their floor:\n  {}\nThe table stands in ARCHITECTURE.md; move the code, or the value, down.",
            breaches.len(),
            breaches.join("\n  ")
        );
    }
    println!("floors: {files} files, no import climbs");
    Ok(())
}

fn breaches_of(module: &str, text: &str) -> Vec<String> {
    let Some((_, floor, sees)) = FLOORS.iter().find(|(name, ..)| *name == module) else {
        return vec![format!("module `{module}` stands on no floor: add it to the table")];
    };
    let code = without_comments_and_strings(text);
    let mut breaches = Vec::new();
    for seen in crate_modules(&code) {
        if seen != module && FLOORS.iter().any(|(name, ..)| *name == seen) && !sees.contains(&seen.as_str()) {
            breaches.push(format!("`{module}` (floor {floor}) uses `crate::{seen}`"));
        }
    }
    for (word, owners) in ALONE {
        if !owners.contains(&module) && mentions(&code, word) {
            breaches.push(format!("`{module}` uses `{word}`, which only {} may", owners.join(", ")));
        }
    }
    breaches
}

/// Modules named as `crate::name` or in `crate::{name, ...}`.
fn crate_modules(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        if let Some(list) = rest.strip_prefix('{') {
            let mut depth = 0;
            let mut name = String::new();
            for c in list.chars() {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => name.clear(),
                    _ if depth > 0 => {}
                    c if c.is_alphanumeric() || c == '_' => {
                        name.push(c);
                        continue;
                    }
                    ':' if !name.is_empty() => {
                        found.insert(std::mem::take(&mut name));
                    }
                    _ => {}
                }
            }
        } else {
            found.insert(rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect());
        }
    }
    found
}

/// Whether the word stands as a path's start (`word::`), or, for a keyword, as a word.
fn mentions(code: &str, word: &str) -> bool {
    code.match_indices(word).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = &code[at + word.len()..];
        let starts = !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':' || c == '.');
        let ends = if word == "unsafe" { after.starts_with([' ', '{', '\n']) } else { after.starts_with("::") };
        starts && ends
    })
}

/// Replaces comments and string literals by spaces, so that a word in prose is not a use.
fn without_comments_and_strings(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '/' if chars.peek() == Some(&'/') => {
                for c in chars.by_ref() {
                    if c == '\n' {
                        out.push('\n');
                        break;
                    }
                }
            }
            '"' => {
                while let Some(c) = chars.next() {
                    match c {
                        '\\' => drop(chars.next()),
                        '"' => break,
                        _ => {}
                    }
                }
                out.push(' ');
            }
            // A quote as a character would open a string that never ends.
            '\'' if chars.peek() == Some(&'"') => drop(chars.next()),
            c => out.push(c),
        }
    }
    out
}

fn rust_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(rust_files(&path)?);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_import_that_climbs_is_named() {
        let breaches = breaches_of("decode", "use crate::session::Options;\n");
        assert_eq!(breaches, ["`decode` (floor 2) uses `crate::session`"]);
    }

    #[test]
    fn a_climb_inside_a_list_or_a_path_is_found_too() {
        assert_eq!(breaches_of("model", "use crate::{lifecycle::Task, model::Ns};").len(), 1);
        assert_eq!(breaches_of("model", "fn f() { crate::plan::plan(); }").len(), 1);
    }

    #[test]
    fn what_a_floor_may_see_is_no_breach() {
        assert!(breaches_of("census", "use crate::model::Ns;\nuse crate::target::Memory;\nuse super::x;").is_empty());
    }

    #[test]
    fn a_package_of_another_floor_is_a_breach_and_its_name_in_prose_is_not() {
        assert_eq!(breaches_of("session", "use aya::Ebpf;").len(), 1);
        assert!(breaches_of("session", "// aya::Ebpf and unsafe { }\nlet s = \"aya::x\";").is_empty());
    }

    #[test]
    fn unsafe_outside_its_rooms_is_a_breach() {
        assert_eq!(breaches_of("sink", "fn f() { unsafe { g() } }").len(), 1);
        assert!(breaches_of("attach", "fn f() { unsafe { g() } }").is_empty());
    }

    #[test]
    fn a_module_without_a_floor_is_refused() {
        assert_eq!(breaches_of("misc", "").len(), 1);
    }
}
