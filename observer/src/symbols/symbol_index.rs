//! Which functions the symbol table names at an address, demangled.
//!
//! Does not know: what a name means. One address may bear several names: equal functions are merged.

use std::fmt::{self, Write};

use super::Image;
use super::symbol_table::LONGEST;
use crate::model::VirtAddr;

/// The image's function symbols, by address.
#[derive(Clone, Debug, Default)]
pub struct SymbolIndex<'d> {
    sorted: Vec<(VirtAddr, &'d str)>,
}

impl<'d> SymbolIndex<'d> {
    /// Indexes the symbol table; empty where the image is stripped.
    pub fn of(image: &Image<'d>) -> Self {
        let functions = image.symbols().filter(|s| s.is_function);
        let mut sorted: Vec<_> = functions.map(|s| (s.at, s.name)).collect();
        sorted.sort_unstable();
        sorted.dedup();
        Self { sorted }
    }

    /// No function symbol at all.
    pub fn is_empty(&self) -> bool {
        self.sorted.is_empty()
    }

    /// The symbols at exactly this address, as the compiler mangled them.
    pub fn mangled_at(&self, at: VirtAddr) -> impl Iterator<Item = &'d str> + '_ {
        let from = self.sorted.partition_point(|(place, _)| *place < at);
        self.sorted.get(from..).unwrap_or_default().iter().take_while(move |(place, _)| *place == at).map(|(_, n)| *n)
    }

    /// The names at exactly this address, demangled, without their hash.
    pub fn names_at(&self, at: VirtAddr) -> impl Iterator<Item = String> + '_ {
        self.mangled_at(at).filter_map(demangle)
    }

    /// The addresses of the functions whose mangled name holds this text.
    pub fn holding<'s>(&'s self, text: &'s str) -> impl Iterator<Item = VirtAddr> + 's {
        self.sorted.iter().filter(move |(_, name)| name.contains(text)).map(|(at, _)| *at)
    }
}

/// The Rust path that a symbol stands for, without its hash; `None` if no Rust compiler mangled it. It is no longer than the longest
/// symbol: compressed v0 names can unfold without end.
pub fn demangle(symbol: &str) -> Option<String> {
    if symbol.len() > LONGEST {
        return None;
    }
    let mut name = Bounded(String::new());
    write!(name, "{:#}", rustc_demangle::try_demangle(symbol).ok()?).ok()?;
    Some(name.0)
}

struct Bounded(String);

impl Write for Bounded {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        if self.0.len() + s.len() > LONGEST {
            return Err(fmt::Error);
        }
        self.0.push_str(s);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_both_manglings_lose_their_hash_and_foreign_ones_are_none() {
        let legacy = "_ZN4demo6twin_a28_$u7b$$u7b$closure$u7d$$u7d$17hab1f2900e9a1f3bdE.llvm.447120653381276704";
        assert_eq!(demangle(legacy).as_deref(), Some("demo::twin_a::{{closure}}"));
        assert_eq!(demangle("_RNCNvCsdBezzDwma51_4demo6twin_a0").as_deref(), Some("demo::twin_a::{closure#0}"));
        assert_eq!(demangle("_ZNSt6vectorIiE"), None);
        assert_eq!(demangle("main"), None);
    }

    /// `a::f::<..>` of tuples nested so deep, each holding the one inside it twice, the second time by reference.
    fn doubling(depth: usize) -> String {
        let digits = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
        let number = |n: usize| match n {
            0..62 => String::from(char::from(digits[n])),
            _ => format!("{}{}", char::from(digits[n / 62]), char::from(digits[n % 62])),
        };
        let prefix = "INvC1a1f";
        let again = (0..depth).map(|n| format!("B{}_E", number(prefix.len() + depth - n - 1)));
        format!("_R{prefix}{}h{}E", "T".repeat(depth), again.collect::<String>())
    }

    #[test]
    fn a_name_that_unfolds_without_end_is_none() {
        assert_eq!(demangle(&doubling(2)).as_deref(), Some("a::f::<((u8, u8), (u8, u8))>"));
        assert_eq!(demangle(&doubling(60)), None);
        assert_eq!(demangle(&"_".repeat(LONGEST + 1)), None);
    }
}
