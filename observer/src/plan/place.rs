//! Where exactly a point sits: an instruction that runs if and only if the wanted one does, cheap if there is one.
//!
//! Does not know: why a point is wanted.

use std::collections::HashSet;

use iced_x86::{Instruction, InstructionInfoFactory, OpAccess};

use super::class::class;
use super::function::Functions;
use crate::model::{Cost, FileOffset, VirtAddr};
use crate::runtime::{BirthSite, MintSite, RaiseSite};
use crate::symbols::{Image, decode};

/// A verified place: an instruction's start, its bytes in the file and its class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) at: VirtAddr,
    pub(super) offset: FileOffset,
    pub(super) bytes: Vec<u8>,
    pub(super) cost: Cost,
}

/// A place that cannot be probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) at: VirtAddr,
    pub(super) reason: &'static str,
}

impl Place {
    /// The instruction at `at` itself, whatever it costs.
    pub(super) fn exactly(image: &Image<'_>, at: VirtAddr) -> Result<Self, Refused> {
        let refused = |reason| Refused { at, reason };
        let instruction = decode(image, at).ok_or(refused("no instruction starts there"))?;
        let offset = image.offset_of(at).ok_or(refused("it is not in the file"))?;
        let bytes = image.slice_at(at, instruction.len()).ok_or(refused("it is not whole in the file"))?;
        let cost = class(&instruction, bytes).map_err(refused)?;
        Ok(Self { at, offset, bytes: bytes.to_vec(), cost })
    }

    /// The first emulated one of a line.
    fn cheap(image: &Image<'_>, line: &[Instruction]) -> Option<Self> {
        let places = line.iter().filter_map(|i| Self::exactly(image, VirtAddr(i.ip())).ok());
        places.into_iter().find(|place| place.cost == Cost::Emulated)
    }
}

/// For a birth: on the line from the instruction that takes the vtable's address. Where the task's id is minted on that
/// very line, behind the mint, so that the id is known when the birth is seen.
pub(super) fn of_birth(
    image: &Image<'_>,
    functions: &mut Functions<'_, '_>,
    birth: &BirthSite,
    mints: &[MintSite],
) -> Result<Place, Refused> {
    let Some(function) = functions.around(birth.at) else { return Place::exactly(image, birth.at) };
    let line = function.line(image, birth.at);
    let minted = line.iter().rposition(|i| mint_at(mints, VirtAddr(i.ip())).is_some());
    let rest = minted.and_then(|at| line.get(at + 1..)).unwrap_or(&line);
    if let Some(place) = Place::cheap(image, rest) {
        return Ok(place);
    }
    // The instruction right behind the mint's addition is the mint's own place.
    let at = minted.and_then(|at| line.get(at + 2)).map_or(birth.at, |i| VirtAddr(i.ip()));
    Place::exactly(image, at)
}

/// For a mint: on the line behind the addition, as long as the register keeps the id, and before any birth.
pub(super) fn of_mint(
    image: &Image<'_>,
    functions: &mut Functions<'_, '_>,
    mint: &MintSite,
    births: &HashSet<VirtAddr>,
) -> Result<Place, Refused> {
    let Some(function) = functions.around(mint.at) else { return Place::exactly(image, mint.at) };
    if function.is_landing(mint.at) {
        return Err(Refused { at: mint.at, reason: "something else jumps right behind the addition" });
    }
    let mut line = function.line(image, mint.at);
    line.truncate(kept(&line, mint));
    match Place::cheap(image, &line).filter(|place| !births.contains(&place.at)) {
        Some(place) => Ok(place),
        None => Place::exactly(image, mint.at),
    }
}

/// For a raise: on the line from the instruction that loads the exception's class.
pub(super) fn of_raise(
    image: &Image<'_>,
    functions: &mut Functions<'_, '_>,
    raise: &RaiseSite,
) -> Result<Place, Refused> {
    let Some(function) = functions.around(raise.at) else { return Place::exactly(image, raise.at) };
    Place::cheap(image, &function.line(image, raise.at)).map_or_else(|| Place::exactly(image, raise.at), Ok)
}

/// The mint whose addition stands at this place.
fn mint_at(mints: &[MintSite], at: VirtAddr) -> Option<&MintSite> {
    mints.binary_search_by_key(&at, |m| m.add).ok().and_then(|n| mints.get(n))
}

/// How many instructions of the line see the id in the mint's register: up to and with the first that writes it.
fn kept(line: &[Instruction], mint: &MintSite) -> usize {
    let mut factory = InstructionInfoFactory::new();
    let writes = |instruction: &Instruction, factory: &mut InstructionInfoFactory| {
        factory.info(instruction).used_registers().iter().any(|used| {
            used.register().is_gpr()
                && used.register().full_register().number() == usize::from(mint.register.0)
                && !matches!(used.access(), OpAccess::Read | OpAccess::CondRead | OpAccess::NoMemAccess)
        })
    };
    line.iter().position(|i| writes(i, &mut factory)).map_or(line.len(), |at| at + 1)
}
