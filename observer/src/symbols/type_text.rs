//! A Rust type as text (a demangled symbol's or DWARF's), read into a tree and written in one normal form.
//!
//! Does not know: which symbol carries which type, nor any runtime. It reads text, it cannot see what a name stands for.
//!
//! The normal form, so that one type reads the same whichever evidence named it:
//! * `app::echo::{async_fn}`: the body of an `async fn`; `{async_block}`, `{async_closure}`, `{closure}` likewise. Where
//!   symbols do not tell which of the async ones it is, the type of a task's future reads `{async}`, and a body inside
//!   other types reads `{closure}`, the compiler's word for all of them.
//! * An index follows where the evidence has one and it is not 0: `{async_block#2}`. Legacy symbols have none.
//! * Paths in `core`, `alloc` and `std` keep their last name: `Pin<Box<dyn Future<Output = ()> + Send>>`.
//! * Generic arguments stand where the type has them; DWARF knows the arguments of an `impl` and of its function in one list
//!   only, which then stands at the function. Lifetimes and the global allocator are left out.
//! * An inherent method reads `app::Server::serve`, a trait's `<app::Server as app::Job>::go`.
//! * Arguments nested deeper than fit into [`SHORT`] characters read `<..>`.

use std::fmt::Write as _;

/// Texts up to this length show all their generic arguments.
pub const SHORT: usize = 120;
/// Longest text that is written at all; a longer one ends in `…`.
const LONGEST: usize = 400;
/// Longest text that is read.
const LONGEST_READ: usize = 1 << 16;
/// Types nested deeper than this are not read: they read `..`.
const DEEPEST: usize = 40;

/// A type, or any text that holds types.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct TypeText {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    /// A keyword, an operator or a literal.
    Word(String),
    Path(Path),
    /// A tuple, an array, parameters: what is between brackets, and whether a comma closes the list.
    Group(char, Vec<TypeText>, bool),
}

/// A path, as `app::Server<u8>::serve::{async_fn}`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Path {
    segments: Vec<Segment>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Segment {
    name: Name,
    arguments: Vec<TypeText>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Name {
    Plain(String),
    Body(Body, Option<u32>),
    /// `<A>` or `<A as B>`.
    Of(Box<TypeText>, Option<Box<TypeText>>),
}

/// What kind of closure-like body a path ends in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// The compiler's word for any of them, or a closure proper: symbols do not tell.
    Closure,
    /// `async fn`.
    AsyncFn,
    /// `async { .. }`.
    AsyncBlock,
    /// `async || ..`.
    AsyncClosure,
}

impl TypeText {
    /// Reads a text; `None` if its brackets do not pair or it is longer than any symbol is.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > LONGEST_READ {
            return None;
        }
        let mut reader = Reader { rest: text, depth: 0 };
        let read = reader.text()?;
        reader.rest.is_empty().then_some(read)
    }

    /// The path, if the type is nothing but one.
    pub fn path(&self) -> Option<&Path> {
        match self.parts.as_slice() {
            [Part::Path(path)] => Some(path),
            _ => None,
        }
    }

    /// The one closure-like body that the type is or holds; `None` where it holds none or several.
    pub fn only_body(&self) -> Option<&Path> {
        let mut bodies = Vec::new();
        self.bodies(&mut bodies);
        let first = *bodies.first()?;
        bodies.iter().all(|body| *body == first).then_some(first)
    }

    fn bodies<'t>(&'t self, found: &mut Vec<&'t Path>) {
        for part in &self.parts {
            match part {
                Part::Path(path) if path.body().is_some() => found.push(path),
                Part::Path(path) => path.segments.iter().flat_map(|s| &s.arguments).for_each(|a| a.bodies(found)),
                Part::Group(_, of, _) => of.iter().for_each(|text| text.bodies(found)),
                Part::Word(_) => {}
            }
        }
    }

    /// This type with the kinds and indices of bodies that `other`, another text of the same type, knows.
    pub fn with_bodies_of(&self, other: &Self) -> Self {
        match (self.path(), other.path()) {
            (Some(own), Some(others)) => own.with_bodies_of(others).into(),
            _ => self.clone(),
        }
    }

    /// The normal form.
    pub fn short(&self) -> String {
        written(|out, depth| self.write(out, depth, false))
    }

    /// The normal form of a type that is known to be a future: a body it ends in is an async one.
    pub fn short_future(&self) -> String {
        written(|out, depth| self.write(out, depth, true))
    }

    fn write(&self, out: &mut String, depth: usize, future: bool) {
        let alone = self.parts.len() == 1;
        for part in &self.parts {
            match part {
                Part::Word(word) => match word.as_str() {
                    "->" | "+" | "=" => _ = write!(out, " {word} "),
                    "dyn" | "mut" | "const" | "unsafe" | "extern" | "impl" | ";" => _ = write!(out, "{word} "),
                    _ => out.push_str(word),
                },
                Part::Path(path) => path.write(out, depth, future && alone),
                // DWARF brackets every `dyn A + B`; only behind a reference or pointer it must be so.
                Part::Group('(', of, false) if alone && of.len() == 1 => {
                    of.iter().for_each(|t| t.write(out, depth, false))
                }
                Part::Group(open, of, comma) => {
                    out.push(*open);
                    list(out, of, depth);
                    if *comma && of.len() == 1 {
                        out.push(',');
                    }
                    out.push(if *open == '(' { ')' } else { ']' });
                }
            }
        }
    }
}

impl Path {
    /// Whether its names are these; generic arguments do not count.
    pub fn is(&self, names: &[&str]) -> bool {
        self.segments.len() == names.len()
            && self.segments.iter().zip(names).all(|(s, n)| matches!(&s.name, Name::Plain(name) if name == n))
    }

    /// The generic argument at this index of its last name.
    pub fn argument(&self, index: usize) -> Option<&TypeText> {
        self.segments.last()?.arguments.get(index)
    }

    /// The first name of the path, or of the type whose method it is.
    pub fn root(&self) -> Option<&str> {
        match &self.segments.first()?.name {
            Name::Plain(name) => Some(name),
            Name::Body(..) => None,
            Name::Of(of, _) => of.path()?.root(),
        }
    }

    /// The kind of body the path ends in.
    pub fn body(&self) -> Option<Body> {
        match self.segments.last()?.name {
            Name::Body(body, _) => Some(body),
            _ => None,
        }
    }

    /// Whether it names a method by the number of its `impl` block, as DWARF does.
    pub fn numbers_an_impl(&self) -> bool {
        self.segments.iter().any(is_numbered_impl)
    }

    /// Without any generic argument.
    pub fn bare(&self) -> Self {
        let bare = |s: &Segment| Segment { name: s.name.clone(), arguments: Vec::new() };
        Self { segments: self.segments.iter().map(bare).collect() }
    }

    /// This path with the kinds and indices of bodies that `other`, another text of the same path, knows.
    fn with_bodies_of(&self, other: &Self) -> Self {
        let mut merged = self.clone();
        for (own, others) in merged.segments.iter_mut().rev().zip(other.segments.iter().rev()) {
            if let (Name::Body(kind, index), Name::Body(known, number)) = (&mut own.name, &others.name) {
                if *known != Body::Closure {
                    *kind = *known;
                }
                *index = index.or(*number);
            } else if own.arguments.len() == others.arguments.len() {
                let pairs = own.arguments.iter_mut().zip(&others.arguments);
                pairs.for_each(|(own, others)| *own = own.with_bodies_of(others));
            }
        }
        merged
    }

    /// This path with the `impl` it numbers named as `other`, another text of the same path without arguments, names it.
    pub fn with_impl_of(&self, other: &Self) -> Option<Self> {
        let numbered = self.segments.iter().position(is_numbered_impl)?;
        let kept = self.segments.get(numbered + 1..)?;
        let named = other.segments.get(..other.segments.len().checked_sub(kept.len())?)?;
        let same = |(a, b): (&Segment, &Segment)| match (&a.name, &b.name) {
            (Name::Plain(a), Name::Plain(b)) => a == b,
            (Name::Body(..), Name::Body(..)) => true,
            _ => false,
        };
        if named.is_empty() || !kept.iter().rev().zip(other.segments.iter().rev()).all(same) {
            return None;
        }
        Some(Self { segments: named.iter().chain(kept).cloned().collect() })
    }

    /// The path as DWARF nests it: one name after the other, without arguments, bodies as bodies.
    pub fn key(&self) -> String {
        let names = self.segments.iter().map(|segment| match &segment.name {
            Name::Plain(name) => name.clone(),
            Name::Body(body, index) => format!("{{{}#{}}}", body.word(), index.unwrap_or(0)),
            Name::Of(of, _) => nested(of, 0),
        });
        names.collect::<Vec<_>>().join("::")
    }

    fn write(&self, out: &mut String, depth: usize, future: bool) {
        let last = self.segments.len().saturating_sub(1);
        let first = self.skipped();
        for (at, segment) in self.segments.iter().enumerate().skip(first) {
            if at > first {
                out.push_str("::");
            }
            match &segment.name {
                Name::Plain(name) => out.push_str(name),
                Name::Body(body, index) => {
                    let word = if future && at == last && *body == Body::Closure { "async" } else { body.word() };
                    match index {
                        None | Some(0) => _ = write!(out, "{{{word}}}"),
                        Some(index) => _ = write!(out, "{{{word}#{index}}}"),
                    }
                }
                Name::Of(of, None) => _ = write!(out, "<{}>", nested(of, depth)),
                Name::Of(of, Some(as_)) => _ = write!(out, "<{} as {}>", nested(of, depth), nested(as_, depth)),
            }
            if !segment.arguments.is_empty() {
                out.push('<');
                match depth.checked_sub(1) {
                    Some(depth) => list(out, &segment.arguments, depth),
                    None => out.push_str(".."),
                }
                out.push('>');
            }
        }
    }

    /// How many leading names are left out: the modules of the standard library.
    fn skipped(&self) -> usize {
        let standard = matches!(self.segments.first(),
            Some(Segment { name: Name::Plain(root), .. }) if ["core", "alloc", "std"].contains(&root.as_str()));
        let named = |s: &Segment| matches!(&s.name, Name::Plain(name) if !name.starts_with('{'));
        if standard { self.segments.iter().rposition(named).unwrap_or(0) } else { 0 }
    }
}

impl Body {
    fn word(self) -> &'static str {
        match self {
            Self::Closure => "closure",
            Self::AsyncFn => "async_fn",
            Self::AsyncBlock => "async_block",
            Self::AsyncClosure => "async_closure",
        }
    }
}

fn is_numbered_impl(segment: &Segment) -> bool {
    matches!(&segment.name, Name::Plain(name) if name.starts_with("{impl#"))
}

fn nested(text: &TypeText, depth: usize) -> String {
    let mut out = String::new();
    text.write(&mut out, depth, false);
    out
}

fn list(out: &mut String, of: &[TypeText], depth: usize) {
    for (at, text) in of.iter().enumerate() {
        if at > 0 {
            out.push_str(", ");
        }
        // In its own text: what stands before it is not its path.
        out.push_str(&nested(text, depth));
    }
}

impl From<Path> for TypeText {
    fn from(path: Path) -> Self {
        Self { parts: vec![Part::Path(path)] }
    }
}

/// The deepest writing that is short enough, else the shallowest.
fn written(write: impl Fn(&mut String, usize)) -> String {
    let mut out = String::new();
    for depth in (0..8).rev() {
        out.clear();
        write(&mut out, depth);
        if out.len() <= SHORT {
            return out;
        }
    }
    if out.len() > LONGEST {
        let cut = out.char_indices().map(|(at, _)| at).take_while(|&at| at <= LONGEST).last().unwrap_or(0);
        out.truncate(cut);
        out.push('…');
    }
    out
}

struct Reader<'t> {
    rest: &'t str,
    depth: usize,
}

impl Reader<'_> {
    /// Everything up to a comma or closing bracket that is not its own.
    fn text(&mut self) -> Option<TypeText> {
        if self.depth >= DEEPEST {
            self.skip()?;
            return Some(TypeText { parts: vec![Part::Word("..".into())] });
        }
        self.depth += 1;
        let mut parts = Vec::new();
        loop {
            self.rest = self.rest.trim_start();
            let Some(next) = self.rest.chars().next() else { break };
            match next {
                ',' | ')' | ']' | '>' | '}' => break,
                '<' | '{' => parts.push(self.path()?),
                '(' => parts.push(self.group('(', ')')?),
                '[' => parts.push(self.group('[', ']')?),
                '\'' => {
                    _ = self.take(1 + self.rest.get(1..)?.find(|c: char| !is_name(c)).unwrap_or(self.rest.len() - 1))
                }
                '"' => {
                    let end = self.rest.get(1..)?.find('"')? + 2;
                    parts.push(Part::Word(self.take(end)));
                }
                '-' if self.rest.starts_with("->") => parts.push(Part::Word(self.take(2))),
                c if c.is_ascii_digit() => {
                    let end = self.rest.find(|c: char| !is_name(c)).unwrap_or(self.rest.len());
                    parts.push(Part::Word(self.take(end)));
                }
                c if is_name(c) => match self.keyword() {
                    Some("as") => break,
                    Some("for") if self.rest.starts_with("for<") => {
                        _ = self.take(3);
                        _ = self.arguments()?;
                    }
                    Some("for") => break,
                    Some(word) => parts.push(Part::Word(self.take(word.len()))),
                    None => parts.push(self.path()?),
                },
                c => parts.push(Part::Word(self.take(c.len_utf8()))),
            }
        }
        self.depth -= 1;
        Some(TypeText { parts: bounds(parts) })
    }

    fn path(&mut self) -> Option<Part> {
        let mut segments: Vec<Segment> = Vec::new();
        loop {
            let braced = self.rest.split_once('}').map_or("", |(name, _)| name);
            let by_dwarf = braced.starts_with("{async") || braced.starts_with('{') && braced.contains("_env#");
            let name = match self.rest.chars().next()? {
                '<' => self.qualified(&mut segments)?,
                '{' => Some(self.braced()?),
                _ => {
                    let end = self.rest.find(|c: char| !is_name(c)).unwrap_or(self.rest.len());
                    if end == 0 {
                        return None;
                    }
                    Some(Name::Plain(self.take(end)))
                }
            };
            segments.extend(name.map(|name| Segment { name, arguments: Vec::new() }));
            if self.rest.starts_with("::<") && segments.last().is_some_and(|s| s.arguments.is_empty()) {
                _ = self.take(2);
            }
            if self.rest.starts_with('<') {
                let arguments = self.arguments()?;
                let named = |s: &&mut Segment| !matches!(s.name, Name::Body(..));
                // DWARF puts the arguments of a body's function behind the body.
                let owner = match by_dwarf {
                    true => segments.iter_mut().rev().find(named),
                    false => segments.last_mut().filter(named),
                };
                // Those that symbols put behind a body are the compiler's own (an async closure's kind).
                if let Some(owner) = owner.filter(|s| s.arguments.is_empty()) {
                    owner.arguments = arguments;
                }
            }
            if !self.rest.starts_with("::") {
                return Some(Part::Path(Path { segments }));
            }
            _ = self.take(2);
        }
    }

    /// `<A>` or `<A as B>`; `<A>` of a plain path is that path.
    fn qualified(&mut self, segments: &mut Vec<Segment>) -> Option<Option<Name>> {
        _ = self.take(1);
        // The legacy mangling puts `<impl Job for Server>` into the path of the module where the block stands.
        let block = self.keyword() == Some("impl");
        if block {
            _ = self.take(4);
            segments.clear();
        }
        let mut of = self.text()?;
        let mut as_ = None;
        if let Some(word @ ("as" | "for")) = self.keyword() {
            _ = self.take(word.len());
            let other = self.text()?;
            as_ = Some(Box::new(if block { std::mem::replace(&mut of, other) } else { other }));
        }
        self.close('>')?;
        match (of.path(), as_) {
            (Some(path), None) if segments.is_empty() => {
                segments.extend(path.segments.iter().cloned());
                Some(None)
            }
            (_, as_) => Some(Some(Name::Of(Box::new(of), as_))),
        }
    }

    fn braced(&mut self) -> Option<Name> {
        let mut open = 0usize;
        let end = self.rest.find(|c| {
            open = match c {
                '{' => open + 1,
                '}' => open - 1,
                _ => open,
            };
            open == 0
        })?;
        let text = self.take(end + 1);
        let inner = text.trim_matches(['{', '}']);
        let (word, index) = inner.split_once('#').map_or((inner, None), |(word, index)| (word, index.parse().ok()));
        let body = match word.strip_suffix("_env").unwrap_or(word) {
            "closure" => Body::Closure,
            "async_fn" => Body::AsyncFn,
            "async_block" => Body::AsyncBlock,
            "async_closure" => Body::AsyncClosure,
            _ => return Some(Name::Plain(text)),
        };
        Some(Name::Body(body, index))
    }

    fn group(&mut self, open: char, close: char) -> Option<Part> {
        _ = self.take(1);
        let (of, comma) = self.list(close)?;
        Some(Part::Group(open, of, comma))
    }

    /// Generic arguments, without lifetimes and the global allocator.
    fn arguments(&mut self) -> Option<Vec<TypeText>> {
        _ = self.take(1);
        let (mut of, _) = self.list('>')?;
        of.retain(|a| !a.parts.is_empty() && !a.path().is_some_and(|p| p.is(&["alloc", "alloc", "Global"])));
        Some(of)
    }

    fn list(&mut self, close: char) -> Option<(Vec<TypeText>, bool)> {
        let mut of = Vec::new();
        let mut comma = false;
        loop {
            let text = self.text()?;
            self.rest = self.rest.trim_start();
            let more = self.rest.starts_with(',');
            if more || !text.parts.is_empty() {
                of.push(text);
                comma = false;
            } else if !of.is_empty() {
                comma = true;
            }
            if !more {
                self.close(close)?;
                return Some((of, comma));
            }
            _ = self.take(1);
        }
    }

    fn close(&mut self, close: char) -> Option<()> {
        self.rest = self.rest.trim_start().strip_prefix(close)?;
        Some(())
    }

    /// Over everything up to a comma or closing bracket that is not its own, without reading it.
    fn skip(&mut self) -> Option<()> {
        let mut open = 0usize;
        let mut before = ' ';
        let end = self.rest.find(|c| {
            match c {
                '(' | '[' | '<' | '{' => open += 1,
                '>' if before == '-' => {}
                ')' | ']' | '>' | '}' if open == 0 => return true,
                ')' | ']' | '>' | '}' => open -= 1,
                ',' if open == 0 => return true,
                _ => {}
            }
            before = c;
            false
        });
        self.rest = self.rest.get(end.unwrap_or(self.rest.len())..)?;
        Some(())
    }

    fn keyword(&mut self) -> Option<&'static str> {
        self.rest = self.rest.trim_start();
        let end = self.rest.find(|c: char| !is_name(c)).unwrap_or(self.rest.len());
        let word = self.rest.get(..end)?;
        ["dyn", "mut", "const", "fn", "for", "as", "unsafe", "extern", "impl"].into_iter().find(|k| *k == word)
    }

    fn take(&mut self, len: usize) -> String {
        let (taken, rest) = self.rest.split_at_checked(len).unwrap_or((self.rest, ""));
        self.rest = rest;
        taken.to_string()
    }
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '$'
}

/// The legacy mangling writes `dyn Future<Output = ()>` as `dyn Future+Output = ()`: gives the `Output` back to its trait.
fn bounds(parts: Vec<Part>) -> Vec<Part> {
    let word = |part: Option<&Part>, text: &str| matches!(part, Some(Part::Word(w)) if w == text);
    let mut out: Vec<Part> = Vec::with_capacity(parts.len());
    let mut rest = parts.into_iter().peekable();
    while let Some(part) = rest.next() {
        let bound = word(out.last(), "+") && matches!(&part, Part::Path(p) if p.segments.len() == 1);
        if bound && word(rest.peek(), "=") && matches!(out.get(out.len().wrapping_sub(2)), Some(Part::Path(_))) {
            out.pop();
            let mut argument = vec![part];
            while let Some(next) = rest.next_if(|next| !word(Some(next), "+")) {
                argument.push(next);
            }
            if let Some(Part::Path(path)) = out.last_mut()
                && let Some(last) = path.segments.last_mut()
            {
                last.arguments.push(TypeText { parts: argument });
            }
        } else {
            out.push(part);
        }
    }
    out
}
