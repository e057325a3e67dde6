//! What `doctor --json` says, as values. Knows its members, not what must hold between them.

use serde_json::Value;

use crate::observer::Ended;
use crate::schema;

/// Everything one doctor said.
#[derive(Debug)]
pub struct Diagnosis {
    /// Every line, `start` first and `end` last.
    pub lines: Vec<Value>,
    /// The exit code.
    pub code: i32,
}

impl Diagnosis {
    /// From what it left behind, each line held to the schema.
    ///
    /// # Panics
    /// When a line is not as the schema says, or the exit code is not the one that is said.
    pub fn of(ended: &Ended) -> Self {
        let parse = |text: &String| {
            let line: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("no JSON ({error}): {text}"));
            assert_eq!(schema::diagnosis_fault(&line), None, "{text}");
            line
        };
        let lines: Vec<Value> = ended.stdout.iter().map(parse).collect();
        let code = ended.code.unwrap_or_else(|| panic!("a signal ended it: {:?}", ended.stderr));
        let last = lines.last().unwrap_or_else(|| panic!("it said nothing, and ended with {code}: {:?}", ended.stderr));
        assert_eq!((&last["event"], &last["exit"]), (&Value::from("end"), &Value::from(code)), "{last}");
        assert_eq!(lines[0]["event"], "start");
        Self { lines, code }
    }

    /// A fact of the start.
    pub fn fact(&self, word: &str) -> Option<&str> {
        self.lines[0]["facts"][word].as_str()
    }

    /// The sum.
    pub fn end(&self) -> &Value {
        &self.lines[self.lines.len() - 1]
    }

    /// The needs of the machine, or of a process.
    pub fn needs(&self, pid: Option<u32>) -> impl Iterator<Item = &Value> {
        self.lines.iter().filter(move |line| line["event"] == "need" && line["pid"].as_u64() == pid.map(u64::from))
    }

    /// One of them.
    ///
    /// # Panics
    /// When there is not exactly one.
    pub fn need(&self, pid: Option<u32>, need: &str) -> &Value {
        let found: Vec<&Value> = self.needs(pid).filter(|line| line["need"] == need).collect();
        match found[..] {
            [one] => one,
            _ => panic!("{} rows for {need}: {:#?}", found.len(), self.lines),
        }
    }

    /// Asserts that a need of the machine, or of a process, came out like this, with these words in the reason and the next step.
    ///
    /// # Panics
    /// When it did not.
    pub fn assert(&self, pid: Option<u32>, need: &str, result: &str, says: &[&str], step: &str) {
        let row = self.need(pid, need);
        assert_eq!(row["result"], result, "{row:#}");
        let why = row["why"].as_str().or(row["detail"].as_str()).unwrap_or_default();
        for word in says {
            assert!(why.contains(word), "`{why}` does not say `{word}`");
        }
        let next = row["nextStep"].as_str().unwrap_or_default();
        assert!(next.contains(step), "`{next}` does not say `{step}`");
    }

    /// What would be observed in a process.
    pub fn target(&self, pid: u32) -> Option<&Value> {
        self.lines.iter().find(|line| line["event"] == "target" && line["pid"] == pid)
    }
}
