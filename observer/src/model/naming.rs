//! What is known of a future type's name and place, and why where nothing is known.

use serde::{Deserialize, Serialize};

/// A future type's name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Naming {
    /// The evidence belongs to this type alone.
    Certain(String),
    /// Several types share the evidence (merged drop glue, a location found beside others): it may be another's name.
    Uncertain(String),
    /// Nothing in the image names it.
    Unknown(Unnamed),
}

/// Why a future type has no name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Unnamed {
    /// No symbol table and no debug information.
    Stripped,
    /// Symbols are there, none of those reached carries the type.
    NoSymbolCarriesIt,
    /// Naming was not asked for (`--no-names`), or was cut short by its bound.
    NotSearched,
}

impl Naming {
    /// The name, certain or not.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Certain(text) | Self::Uncertain(text) => Some(text),
            Self::Unknown(_) => None,
        }
    }

    /// Whether the name belongs to this type alone.
    pub fn is_certain(&self) -> bool {
        matches!(self, Self::Certain(_))
    }
}

/// Where the future's body stands in the source, as the compiler recorded it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// Path as the compiler was given it.
    pub file: String,
    /// Line, from 1.
    pub line: u32,
    /// Column, from 1; `None` where the source (DWARF) does not tell.
    pub column: Option<u32>,
    /// Whether the evidence belongs to this type alone.
    pub certain: bool,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.file, self.line)?;
        self.column.map_or(Ok(()), |column| write!(f, ":{column}"))
    }
}
