//! Writes [`TypeText`]'s tree in one normal form.
//!
//! Does not know: which text it was read from.
//!
//! The form, so that one type reads the same whichever evidence named it:
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

use super::type_text::{Body, Name, Part, Path, Segment, TypeText};

/// Texts up to this length show all their generic arguments.
const SHORT: usize = 120;
/// Longest text that is written at all; a longer one ends in `…`.
const LONGEST: usize = 400;

/// The normal form; of a type that is known to be a future, a body it ends in is an async one.
pub(super) fn short(text: &TypeText, future: bool) -> String {
    let mut out = String::new();
    // The deepest writing that is short enough, else the shallowest.
    for depth in (0..8).rev() {
        out.clear();
        write_text(text, &mut out, depth, future);
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

/// With arguments nested as deeply as this, at most.
pub(super) fn nested(text: &TypeText, depth: usize) -> String {
    let mut out = String::new();
    write_text(text, &mut out, depth, false);
    out
}

fn write_text(text: &TypeText, out: &mut String, depth: usize, future: bool) {
    let alone = text.parts.len() == 1;
    for part in &text.parts {
        match part {
            Part::Word(word) => match word.as_str() {
                "->" | "+" | "=" => _ = write!(out, " {word} "),
                "dyn" | "mut" | "const" | "unsafe" | "extern" | "impl" | ";" => _ = write!(out, "{word} "),
                _ => out.push_str(word),
            },
            Part::Path(path) => write_path(path, out, depth, future && alone),
            // DWARF brackets every `dyn A + B`; only behind a reference or pointer it must be so.
            Part::Group('(', of, false) if alone && of.len() == 1 => {
                of.iter().for_each(|t| write_text(t, out, depth, false))
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

fn write_path(path: &Path, out: &mut String, depth: usize, future: bool) {
    let last = path.segments.len().saturating_sub(1);
    let first = skipped(path);
    for (at, segment) in path.segments.iter().enumerate().skip(first) {
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
fn skipped(path: &Path) -> usize {
    let standard = matches!(path.segments.first(),
        Some(Segment { name: Name::Plain(root), .. }) if ["core", "alloc", "std"].contains(&root.as_str()));
    let named = |s: &Segment| matches!(&s.name, Name::Plain(name) if !name.starts_with('{'));
    if standard { path.segments.iter().rposition(named).unwrap_or(0) } else { 0 }
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
