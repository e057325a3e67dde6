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

use super::type_reader;

/// Texts up to this length show all their generic arguments.
pub const SHORT: usize = 120;
/// Longest text that is written at all; a longer one ends in `…`.
const LONGEST: usize = 400;
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn short(text: &str) -> String {
        TypeText::parse(text).expect("brackets pair").short()
    }

    fn future(text: &str) -> String {
        TypeText::parse(text).expect("brackets pair").short_future()
    }

    // The texts are what rustc-demangle 0.1.28 and DWARF gave for programs built with rustc 1.95.

    #[test]
    fn an_async_fn_reads_as_such_where_the_evidence_knows_and_as_async_where_it_does_not() {
        assert_eq!(future("demo::twin_a::{async_fn_env#0}"), "demo::twin_a::{async_fn}");
        assert_eq!(future("demo::twin_a::{closure#0}"), "demo::twin_a::{async}");
        assert_eq!(future("demo::twin_a::{{closure}}"), "demo::twin_a::{async}");
        assert_eq!(short("demo::mix::{{closure}}::{{closure}}"), "demo::mix::{closure}::{closure}");
    }

    #[test]
    fn an_index_is_kept_where_it_tells_something() {
        assert_eq!(future("demo::refs::{async_fn#0}::{async_block_env#1}"), "demo::refs::{async_fn}::{async_block#1}");
        assert_eq!(future("demo::refs::{closure#0}::{closure#1}"), "demo::refs::{closure}::{async#1}");
    }

    #[test]
    fn boxed_futures_read_alike_in_all_three_writings() {
        let expected = "Pin<Box<dyn Future<Output = u64> + Send>>";
        for text in [
            "core::pin::Pin<alloc::boxed::Box<dyn core::future::future::Future<Output = u64> + core::marker::Send>>",
            "core::pin::Pin<alloc::boxed::Box<dyn core::future::future::Future+Output = u64+core::marker::Send>>",
            "core::pin::Pin<alloc::boxed::Box<(dyn core::future::future::Future<Output=u64> + core::marker::Send), \
             alloc::alloc::Global>>",
        ] {
            assert_eq!(future(text), expected);
        }
    }

    #[test]
    fn methods_read_alike_in_both_manglings() {
        assert_eq!(future("<demo::adv::Server>::serve::{closure#0}"), "demo::adv::Server::serve::{async}");
        assert_eq!(future("demo::adv::Server::serve::{{closure}}"), "demo::adv::Server::serve::{async}");
        let expected = "<str as tokio::net::addr::sealed::ToSocketAddrsPriv>::to_socket_addrs::{closure}";
        for text in [
            "<str as tokio::net::addr::sealed::ToSocketAddrsPriv>::to_socket_addrs::{closure#0}",
            "tokio::net::addr::<impl tokio::net::addr::sealed::ToSocketAddrsPriv for str>::to_socket_addrs::{{closure}}",
        ] {
            assert_eq!(short(text), expected);
        }
    }

    #[test]
    fn generic_arguments_stand_at_their_function() {
        let expected = "demo::generic<String>::{async";
        for text in [
            "demo::generic::{async_fn_env#0}<alloc::string::String>",
            "demo::generic<alloc::string::String>::{closure#0}",
            "demo::generic::<alloc::string::String>::{{closure}}",
        ] {
            assert!(future(text).starts_with(expected), "{}", future(text));
        }
        assert_eq!(
            future("demo::run::{closure#0}::{closure#3}::{closure#0}<i16>"),
            "demo::run::{closure}::{closure#3}::{async}"
        );
    }

    #[test]
    fn what_is_no_path_is_kept() {
        for (text, expected) in [
            ("(u8, &mut [alloc::string::String])", "(u8, &mut [String])"),
            ("(u8,)", "(u8,)"),
            ("fn(u64) -> core::option::Option<*const u8>", "fn(u64) -> Option<*const u8>"),
            ("for<'a> fn(&'a str)", "fn(&str)"),
            ("&'static [u8; 512]", "&[u8; 512]"),
            ("a::B<'_, a::C<-3>>", "a::B<a::C<-3>>"),
            ("&(dyn a::B + core::marker::Send)", "&(dyn a::B + Send)"),
        ] {
            assert_eq!(short(text), expected);
        }
    }

    #[test]
    fn arguments_too_deep_to_be_short_are_elided_not_cut() {
        let deep = (0..8).fold("a::Last".to_owned(), |inner, n| format!("tower::layer{n}::Service<{inner}, {inner}>"));
        let read = short(&deep);
        assert!(read.len() <= SHORT && read.contains("<..>") && TypeText::parse(&read).is_some(), "{read}");
    }

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

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_text_is_read_or_refused(text in "([a-z]{1,3}|::|<|>|\\{|\\}|\\(|\\)|\\[|\\]|,| |&|'|\"|->|-|#|\\+|=|as|for|impl|dyn |closure|é|[0-9]){0,60}") {
            if let Some(read) = TypeText::parse(&text) {
                prop_assert!(read.short().len() <= LONGEST + 8);
                _ = (read.short_future(), read.only_body().map(Path::key), read.path().map(Path::bare));
            }
        }
    }
}
