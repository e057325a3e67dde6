//! Reads the text of a Rust type, as either mangling's demangler and DWARF write it, into [`TypeText`]'s tree.
//!
//! Does not know: how it will be written. The three writers differ: the legacy mangling has `{{closure}}`, `<impl A for B>`
//! and `dyn A+Output = T`; v0 has `path::<args>` and `{closure#0}`; DWARF has `{async_fn_env#0}<args>` and `(dyn A + B)`.

use super::type_text::{Body, Name, Part, Path, Segment, TypeText};

/// Types nested deeper than this are not read: they read `..`.
const DEEPEST: usize = 40;

/// The whole text as one type; `None` if its brackets do not pair.
pub(super) fn read(text: &str) -> Option<TypeText> {
    let mut reader = Reader { rest: text, depth: 0 };
    let read = reader.text()?;
    reader.rest.is_empty().then_some(read)
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
            let block = self.rest.starts_with("::<impl ");
            if !block && self.rest.starts_with("::<") && segments.last().is_some_and(|s| s.arguments.is_empty()) {
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
