//! One object a line: what all of them begin with, and how numbers are written.
//!
//! Does not know: the objects.

use std::io::{self, Write};

use serde::{Serialize, Serializer};

use crate::model::Ns;

/// Version of the objects, in every one of them.
pub(super) const VERSION: u64 = 1;
/// Bytes that most lines have at most.
const LINE: usize = 256;

/// What every object begins with.
#[derive(Serialize)]
struct Line<'a, T> {
    v: u64,
    event: &'a str,
    ts: Integer,
    #[serde(flatten)]
    rest: T,
}

/// A number where every JSON reader can hold it exactly, else a string.
#[derive(Clone, Copy)]
pub(in crate::sink) struct Integer(pub(in crate::sink) u64);

impl Integer {
    /// The largest that every JSON reader holds exactly, with all below it.
    pub(super) const EXACT: u64 = 1 << 53;
}

impl Serialize for Integer {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        if self.0 <= Self::EXACT { to.serialize_u64(self.0) } else { to.collect_str(&self.0) }
    }
}

pub(in crate::sink) fn milliseconds(span: Ns) -> f64 {
    span.0 as f64 / 1e6
}

pub(in crate::sink) fn line<T: Serialize>(out: &mut dyn Write, event: &str, at: Ns, rest: T) -> io::Result<()> {
    write(out, &Line { v: VERSION, event, ts: Integer(at.0), rest })
}

fn write<T: Serialize>(out: &mut dyn Write, object: &T) -> io::Result<()> {
    // Put together here: a serializer writes many small pieces.
    let mut line = Vec::with_capacity(LINE);
    serde_json::to_writer(&mut line, object)?;
    line.push(b'\n');
    out.write_all(&line)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn integers_that_json_readers_would_round_are_strings() {
        let integer = |n| serde_json::to_value(Integer(n)).expect("a number or a string");
        assert_eq!(integer(1 << 53), json!(9_007_199_254_740_992_u64));
        assert_eq!(integer((1 << 53) + 1), json!("9007199254740993"));
    }
}
