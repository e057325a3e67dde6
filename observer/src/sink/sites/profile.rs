//! Live tasks as a profile: for the pprof tool, or as folded stacks for flame graphs.
//!
//! A sample is a site: its values are how many live tasks and how many stuck ones it has, its stack is the process, then
//! who spawned it as far as known, then the future's type and place. Mirrors `profile.proto` of google/pprof (the fields
//! used here, unchanged since 2016).
//!
//! Does not know: where the bytes go.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{self, Write};

use flate2::Compression;
use flate2::write::GzEncoder;
use prost::Message;

use crate::model::Origin;
use crate::sink::Spelling;
use crate::sink::label::type_label;

use super::SiteOf;

/// One site with its count.
#[derive(Clone, Debug)]
pub struct ProfileSample<'a> {
    /// The site.
    pub of: SiteOf<'a>,
    /// Live tasks.
    pub live: u64,
    /// Of those, the ones proved to be stuck.
    pub stuck: u64,
    /// Where they come from; `None` where nobody saw that.
    pub origin: Option<Origin>,
}

/// A line of a stack.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Frame {
    /// A function, a future type or a process.
    name: String,
    /// Where, as far as known.
    file: String,
    /// From 1; 0 is unknown, as in the format.
    line: i64,
}

/// The profile as a gzipped protobuf.
pub fn write_pprof(samples: &[ProfileSample<'_>], taken_at_ns: i64, out: &mut dyn Write) -> io::Result<()> {
    let mut gzip = GzEncoder::new(out, Compression::default());
    gzip.write_all(&Tables::of(samples, taken_at_ns).encode_to_vec())?;
    gzip.finish().map(|_| ())
}

/// Folded stacks: frames joined by `;`, a blank, the number of live tasks. Sites without live tasks are left out.
pub fn write_folded(samples: &[ProfileSample<'_>], out: &mut dyn Write) -> io::Result<()> {
    for sample in samples.iter().filter(|sample| sample.live > 0) {
        let mut line = String::new();
        for frame in stack(sample) {
            let place = match frame.line {
                0 => String::new(),
                number => format!(" ({}:{number})", frame.file),
            };
            // Both are separators of the format.
            let text = format!("{}{place}", frame.name).replace(';', ",").replace('\n', " ");
            let _ = write!(line, "{}{text}", if line.is_empty() { "" } else { ";" });
        }
        writeln!(out, "{line} {}", sample.live)?;
    }
    Ok(())
}

/// Outermost first.
fn stack(sample: &ProfileSample<'_>) -> Vec<Frame> {
    let of = &sample.of;
    let task = &of.entry.task;
    let process = Frame { name: format!("{} (pid {})", of.exe, of.pid), file: of.exe.to_owned(), line: 0 };
    let spawned_at = of.spawned_at.map(|place| Frame {
        name: format!("spawned at {place}"),
        file: place.file.clone(),
        line: i64::from(place.line),
    });
    let place = task.place.as_ref();
    // The place stands beside the name; where there is no name it is the name.
    let named = task.future.text().is_some();
    let name = type_label(Spelling::Person, task.resource, &task.future, place.filter(|_| !named), Some(&of.entry.id));
    let future = Frame {
        name,
        file: place.map_or(String::new(), |place| place.file.clone()),
        line: place.map_or(0, |place| i64::from(place.line)),
    };
    let spawners = sample.origin.iter().flat_map(spawners).chain(spawned_at);
    std::iter::once(process).chain(spawners).chain([future]).collect()
}

/// Ancestors, then calls, outermost first, without what is the runtime's own.
fn spawners(origin: &Origin) -> Vec<Frame> {
    let ancestors = origin.ancestors.iter().rev().map(|ancestor| Frame {
        name: Spelling::Person.of(&ancestor.future).into_owned(),
        file: String::new(),
        line: 0,
    });
    let calls = origin.callers.iter().rev().flat_map(|caller| {
        let image = caller.image.as_ref();
        let nameless = caller.functions.is_empty().then(|| Frame {
            name: image.map_or_else(|| caller.address.to_string(), |image| format!("{}+{}", image.path, image.at)),
            file: image.map_or(String::new(), |image| image.path.clone()),
            line: 0,
        });
        let own = caller.functions.iter().rev().filter(|function| !function.machinery).map(|function| Frame {
            name: function.name.clone(),
            file: function.place.as_ref().map_or(String::new(), |place| place.file.clone()),
            line: function.place.as_ref().map_or(0, |place| i64::from(place.line)),
        });
        nameless.into_iter().chain(own)
    });
    ancestors.chain(calls).collect()
}

/// The tables of a profile: texts, functions and locations, each once.
#[derive(Default)]
struct Tables {
    profile: Profile,
    texts: HashMap<String, i64>,
    frames: HashMap<Frame, u64>,
}

impl Tables {
    fn of(samples: &[ProfileSample<'_>], taken_at_ns: i64) -> Profile {
        let mut tables = Self::default();
        // The format wants the empty text first.
        tables.text("");
        for (kind, unit) in [("tasks", "count"), ("stuck", "count")] {
            let value = ValueType { kind: tables.text(kind), unit: tables.text(unit) };
            tables.profile.sample_type.push(value);
        }
        tables.profile.default_sample_type = tables.text("tasks");
        tables.profile.time_nanos = taken_at_ns;
        for sample in samples.iter().filter(|sample| sample.live > 0) {
            // The format wants the innermost first.
            let location_id = stack(sample).into_iter().rev().map(|frame| tables.location(frame)).collect();
            let value = [sample.live, sample.stuck].map(|n| i64::try_from(n).unwrap_or(i64::MAX)).into();
            tables.profile.sample.push(Sample { location_id, value });
        }
        tables.profile
    }

    fn text(&mut self, text: &str) -> i64 {
        if let Some(index) = self.texts.get(text) {
            return *index;
        }
        let index = self.profile.string_table.len() as i64;
        self.profile.string_table.push(text.to_owned());
        self.texts.insert(text.to_owned(), index);
        index
    }

    fn location(&mut self, frame: Frame) -> u64 {
        if let Some(id) = self.frames.get(&frame) {
            return *id;
        }
        // Ids begin at 1.
        let id = self.profile.location.len() as u64 + 1;
        let (name, filename) = (self.text(&frame.name), self.text(&frame.file));
        self.profile.function.push(Function { id, name, system_name: name, filename, start_line: 0 });
        self.profile.location.push(Location { id, line: vec![Line { function_id: id, line: frame.line }] });
        self.frames.insert(frame, id);
        id
    }
}

#[derive(Clone, PartialEq, Message)]
struct Profile {
    #[prost(message, repeated, tag = "1")]
    sample_type: Vec<ValueType>,
    #[prost(message, repeated, tag = "2")]
    sample: Vec<Sample>,
    #[prost(message, repeated, tag = "4")]
    location: Vec<Location>,
    #[prost(message, repeated, tag = "5")]
    function: Vec<Function>,
    #[prost(string, repeated, tag = "6")]
    string_table: Vec<String>,
    #[prost(int64, tag = "9")]
    time_nanos: i64,
    #[prost(int64, tag = "14")]
    default_sample_type: i64,
}

#[derive(Clone, PartialEq, Message)]
struct ValueType {
    #[prost(int64, tag = "1")]
    kind: i64,
    #[prost(int64, tag = "2")]
    unit: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Sample {
    #[prost(uint64, repeated, tag = "1")]
    location_id: Vec<u64>,
    #[prost(int64, repeated, tag = "2")]
    value: Vec<i64>,
}

#[derive(Clone, PartialEq, Message)]
struct Location {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(message, repeated, tag = "4")]
    line: Vec<Line>,
}

#[derive(Clone, PartialEq, Message)]
struct Line {
    #[prost(uint64, tag = "1")]
    function_id: u64,
    #[prost(int64, tag = "2")]
    line: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Function {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(int64, tag = "2")]
    name: i64,
    #[prost(int64, tag = "3")]
    system_name: i64,
    #[prost(int64, tag = "4")]
    filename: i64,
    #[prost(int64, tag = "5")]
    start_line: i64,
}
