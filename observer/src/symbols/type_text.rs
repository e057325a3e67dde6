//! A Rust type as text (a demangled symbol's or DWARF's), read into a tree and written in one normal form.
//!
//! Does not know: which symbol carries which type, nor any runtime. It reads text, it cannot see what a name stands for.

use super::{type_reader, type_writer};

/// Longest text that is read.
const LONGEST_READ: usize = 1 << 16;

/// A type, or any text that holds types.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct TypeText {
    pub(super) parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// A keyword, an operator or a literal.
    Word(String),
    Path(Path),
    /// A tuple, an array, parameters: what is between brackets, and whether a comma closes the list.
    Group(char, Vec<TypeText>, bool),
}

/// A path, as `app::Server<u8>::serve::{async_fn}`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Path {
    pub(super) segments: Vec<Segment>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) name: Name,
    pub(super) arguments: Vec<TypeText>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Name {
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
        type_reader::read(text)
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

    /// Whether the last names of both are the same: symbols and debug information name the same type differently before that.
    pub fn ends_as(&self, other: &Self) -> bool {
        match (self.path(), other.path()) {
            (Some(own), Some(others)) => own.last_name() == others.last_name(),
            (own, others) => own.is_none() && others.is_none(),
        }
    }

    /// The normal form.
    pub fn short(&self) -> String {
        type_writer::short(self, false)
    }

    /// The normal form of a type that is known to be a future: a body it ends in is an async one.
    pub fn short_future(&self) -> String {
        type_writer::short(self, true)
    }
}

impl Path {
    /// Whether its names are these; generic arguments do not count.
    pub fn is(&self, names: &[&str]) -> bool {
        self.segments.len() == names.len()
            && self.segments.iter().zip(names).all(|(s, n)| matches!(&s.name, Name::Plain(name) if name == n))
    }

    fn last_name(&self) -> Option<&str> {
        self.segments.iter().rev().find_map(|segment| match &segment.name {
            Name::Plain(name) => Some(name.as_str()),
            Name::Body(..) | Name::Of(..) => None,
        })
    }

    /// Whether it begins with these names.
    pub fn is_in(&self, module: &[&str]) -> bool {
        let begins = |(s, n): (&Segment, &&str)| matches!(&s.name, Name::Plain(name) if name == n);
        self.segments.len() > module.len() && self.segments.iter().zip(module).all(begins)
    }

    /// Whether its last name is one of these.
    pub fn ends_in(&self, names: &[&str]) -> bool {
        self.segments.last().is_some_and(|s| matches!(&s.name, Name::Plain(name) if names.contains(&name.as_str())))
    }

    /// The generic arguments of the last name that has some.
    pub fn last_arguments(&self) -> &[TypeText] {
        let last = self.segments.iter().rfind(|segment| !segment.arguments.is_empty());
        last.map(|segment| segment.arguments.as_slice()).unwrap_or_default()
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
            Name::Of(of, _) => type_writer::nested(of, 0),
        });
        names.collect::<Vec<_>>().join("::")
    }
}

impl Body {
    /// The compiler's word.
    pub(super) fn word(self) -> &'static str {
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

impl From<Path> for TypeText {
    fn from(path: Path) -> Self {
        Self { parts: vec![Part::Path(path)] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unpaired_brackets_are_no_type() {
        for text in ["a::B<u8", "a::B>", "(a", "{closure#0", "<a as b::c", "a::B<(u8>"] {
            assert_eq!(TypeText::parse(text), None, "{text}");
        }
    }

    #[test]
    fn dwarf_tells_the_kind_of_a_body_and_symbols_the_impl() {
        let parse = |text: &str| TypeText::parse(text).expect("brackets pair");
        let symbol = parse("<app::S as app::Job>::go::{closure#0}");
        let dwarf = parse("app::{impl#2}::go::{async_fn_env#0}");
        assert_eq!(symbol.with_bodies_of(&dwarf).short_future(), "<app::S as app::Job>::go::{async_fn}");
        let path = dwarf.path().expect("a path");
        let named = path.with_impl_of(symbol.path().expect("a path")).expect("the same method");
        assert_eq!(TypeText::from(named).short_future(), "<app::S as app::Job>::go::{async_fn}");
        assert_eq!(path.key(), "app::{impl#2}::go::{async_fn#0}");
        let other = parse("<app::S as app::Job>::stop::{closure#0}");
        assert_eq!(path.with_impl_of(other.path().expect("a path")), None, "another method's");
    }

    #[test]
    fn the_body_a_wrapper_holds_is_found_unless_it_holds_several() {
        let body = |text: &str| TypeText::parse(text).expect("brackets pair").only_body().map(Path::key);
        assert_eq!(body("app::Traced<app::run::{async_fn_env#0}>").as_deref(), Some("app::run::{async_fn#0}"));
        assert_eq!(body("app::Either<app::a::{async_fn_env#0}, app::b::{async_fn_env#0}>"), None);
        assert_eq!(body("core::future::ready::Ready<u64>"), None);
    }
}
