//! The observer's lines as values. Knows their members, not what must hold between them.

use serde_json::Value;

use crate::schema;

/// Everything one run said.
#[derive(Debug)]
pub struct Stream {
    /// Every line, `start` first and `end` last.
    pub lines: Vec<Value>,
}

/// A member that must be there, since the schema says so.
pub fn number(line: &Value, member: &str) -> u64 {
    let value = &line[member];
    value
        .as_u64()
        .or_else(|| value.as_str()?.parse().ok())
        .unwrap_or_else(|| panic!("`{member}` is no number in {line}"))
}

/// A member that must be there, since the schema says so.
pub fn word<'a>(line: &'a Value, member: &str) -> &'a str {
    line[member].as_str().unwrap_or_else(|| panic!("`{member}` is no text in {line}"))
}

impl Stream {
    /// Parses lines, each held to the schema; says what is wrong with the first that is.
    pub fn parse(lines: &[String]) -> Result<Self, String> {
        let mut parsed = Vec::with_capacity(lines.len());
        for (index, text) in lines.iter().enumerate() {
            let line: Value =
                serde_json::from_str(text).map_err(|error| format!("line {}: no JSON ({error}): {text}", index + 1))?;
            if let Some(fault) = schema::fault(&line) {
                return Err(format!("line {}: {fault}: {text}", index + 1));
            }
            parsed.push(line);
        }
        let kind = |line: Option<&Value>| line.map_or("nothing", |line| word(line, "event")).to_owned();
        match (kind(parsed.first()).as_str(), kind(parsed.last()).as_str()) {
            ("start", "end") => Ok(Self { lines: parsed }),
            (first, last) => Err(format!("begins with {first} and ends with {last}, not with start and end")),
        }
    }

    /// The first line.
    pub fn start(&self) -> &Value {
        &self.lines[0]
    }

    /// The last line.
    pub fn end(&self) -> &Value {
        &self.lines[self.lines.len() - 1]
    }

    /// A total of the `end` line.
    pub fn total(&self, of: &str) -> u64 {
        number(&self.end()["totals"], of)
    }

    /// Lines of one kind.
    pub fn of<'a>(&'a self, event: &'a str) -> impl Iterator<Item = &'a Value> {
        self.lines.iter().filter(move |line| line["event"] == event)
    }

    /// The one target's images.
    pub fn images(&self) -> &[Value] {
        self.start()["targets"][0]["images"].as_array().map_or(&[], Vec::as_slice)
    }

    /// What `start` said would be missing, as `event: reason`.
    pub fn missing(&self) -> Vec<String> {
        let missing = self.start()["targets"][0]["missing"].as_array().map_or(&[][..], Vec::as_slice);
        missing.iter().map(|entry| format!("{}: {}", word(entry, "event"), word(entry, "reason"))).collect()
    }
}
