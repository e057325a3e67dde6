//! What `ps --json` and `sweep --json` say, as values. Knows their members, not what must hold between them.

use serde_json::Value;

use crate::schema;
use crate::stream::{number, word};

/// Everything one run said.
#[derive(Debug)]
pub struct Look {
    /// Every line, `end` last.
    pub lines: Vec<Value>,
}

impl Look {
    /// Parses lines, each held to the schema; says what is wrong with the first that is.
    pub fn parse(lines: &[String]) -> Result<Self, String> {
        let parsed = lines.iter().enumerate().map(|(index, text)| {
            let line: Value =
                serde_json::from_str(text).map_err(|error| format!("line {}: no JSON ({error}): {text}", index + 1))?;
            match schema::look_fault(&line) {
                Some(fault) => Err(format!("line {}: {fault}: {text}", index + 1)),
                None => Ok(line),
            }
        });
        let lines: Vec<Value> = parsed.collect::<Result<_, _>>()?;
        let last = lines.last().map_or("nothing", |line| word(line, "event"));
        if last == "end" { Ok(Self { lines }) } else { Err(format!("ends with {last}, not with end")) }
    }

    /// The last line.
    pub fn end(&self) -> &Value {
        &self.lines[self.lines.len() - 1]
    }

    /// A member of the `end` line.
    pub fn total(&self, of: &str) -> u64 {
        number(self.end(), of)
    }

    /// Lines of one kind about one process.
    pub fn of<'a>(&'a self, event: &'a str, pid: u32) -> impl Iterator<Item = &'a Value> {
        self.lines.iter().filter(move |line| line["event"] == event && line["pid"] == pid)
    }

    /// Lines of one kind, whatever they are about.
    pub fn of_any<'a>(&'a self, event: &'a str) -> impl Iterator<Item = &'a Value> {
        self.lines.iter().filter(move |line| line["event"] == event)
    }

    /// The latest reading of a process.
    ///
    /// # Panics
    /// When it was not read.
    pub fn census(&self, pid: u32) -> &Value {
        self.of("census", pid).last().unwrap_or_else(|| panic!("{pid} was not read: {:?}", self.lines))
    }

    /// How many tasks it had then, closures included.
    pub fn live(&self, pid: u32) -> u64 {
        number(self.census(pid), "live")
    }

    /// Why a process could not be observed, if that was said.
    pub fn unreadable(&self, pid: u32) -> Option<&str> {
        Some(word(self.of("unreadable", pid).next()?, "reason"))
    }
}

/// The offset in its image of a line's future type.
pub fn type_offset(line: &Value) -> u64 {
    let id = word(line, "typeId");
    let offset = id.rsplit_once("+0x").and_then(|(_, hex)| u64::from_str_radix(hex, 16).ok());
    offset.unwrap_or_else(|| panic!("`{id}` is no type id"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_does_not_end_well_is_refused() {
        assert_eq!(Look::parse(&[]).map(|look| look.lines).unwrap_err(), "ends with nothing, not with end");
        let wrong = Look::parse(&["x".into()]).map(|look| look.lines).unwrap_err();
        assert!(wrong.starts_with("line 1: no JSON"), "{wrong}");
    }

    #[test]
    fn a_type_id_tells_the_offset_of_its_vtable() {
        assert_eq!(type_offset(&serde_json::json!({"typeId": "c0ffee+0x1f40"})), 0x1f40);
    }
}
