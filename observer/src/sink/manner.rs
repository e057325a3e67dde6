//! How text looks to people: colours, and how names of types are spelt.

use std::borrow::Cow;

use anstyle::{AnsiColor, Style};

/// What the body of an async function is called behind the function's own path.
const BODY: &str = "::{async_fn}";

/// As a person writes them, or as the compiler does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Spelling {
    /// `app::echo`: who writes an async function gives its body no name.
    #[default]
    Person,
    /// `app::echo::{async_fn}`.
    Compiler,
}

/// How text looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Manner {
    /// Should be true only where the output is a terminal and NO_COLOR is not set.
    pub colour: bool,
    /// How names are spelt.
    pub spelling: Spelling,
}

impl Manner {
    /// The text in this colour, where there are colours.
    pub(super) fn paint(self, colour: AnsiColor, text: &str) -> String {
        if !self.colour {
            return text.to_owned();
        }
        let style = Style::new().fg_color(Some(colour.into()));
        format!("{}{text}{}", style.render(), style.render_reset())
    }
}

impl Spelling {
    /// The name, which is spelt as the compiler does. What is no async function's body keeps its own word: an async block in
    /// a function is not the function.
    pub(super) fn of(self, name: &str) -> Cow<'_, str> {
        match self {
            Self::Person if name.contains(BODY) => Cow::Owned(name.replace(BODY, "")),
            Self::Person | Self::Compiler => Cow::Borrowed(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_writes_the_function_and_the_compiler_its_body() {
        let name = "Timeout<app::echo<u8>::{async_fn}>";
        assert_eq!(Spelling::Person.of(name), "Timeout<app::echo<u8>>");
        assert_eq!(Spelling::Compiler.of(name), name);
        for other in ["app::echo::{async_block}", "app::echo::{async}", "app::echo::{async_fn}::{closure}"] {
            assert_eq!(Spelling::Person.of(other), other.replace("{async_fn}::", ""));
        }
    }
}
