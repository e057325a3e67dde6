//! Where exactly a point sits: an instruction that runs if and only if the wanted one does, cheap if there is one.
//!
//! Does not know: why a point is wanted.

use std::collections::HashSet;

use iced_x86::{Instruction, InstructionInfoFactory, Mnemonic, OpAccess};

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

    /// The first emulated one.
    fn cheap(image: &Image<'_>, places: impl IntoIterator<Item = VirtAddr>) -> Option<Self> {
        let mut places = places.into_iter().filter_map(|at| Self::exactly(image, at).ok());
        places.find(|place| place.cost == Cost::Emulated)
    }
}

/// For a birth: on the line from the instruction that takes the vtable's address. Where the task's id is minted on that
/// very line, behind the mint, so that the id is known when the birth is seen. Else before it, where everything that
/// comes by becomes a birth.
pub(super) fn of_birth(
    image: &Image<'_>,
    functions: &mut Functions<'_, '_>,
    birth: &BirthSite,
    mints: &[MintSite],
) -> Result<Place, Refused> {
    let Some(function) = functions.around(birth.at) else { return Place::exactly(image, birth.at) };
    let line: Vec<VirtAddr> = function.line(birth.at).iter().map(|step| step.at).collect();
    let minted = line.iter().rposition(|&at| is_mint(mints, at));
    let rest = minted.and_then(|n| line.get(n + 1..)).unwrap_or(&line);
    if let Some(place) = Place::cheap(image, rest.iter().copied()) {
        return Ok(place);
    }
    if let Some(n) = minted {
        // The instruction right behind the addition is the mint's own place.
        return Place::exactly(image, line.get(n + 2).copied().unwrap_or(birth.at));
    }
    let mut earlier = function.before(birth.at).filter_map(|at| Place::cheap(image, [at]));
    match earlier.find(|place| function.leads(place.at, birth.at, |at| is_mint(mints, at))) {
        Some(place) => Ok(place),
        None => Place::exactly(image, birth.at),
    }
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
    let line: Vec<VirtAddr> = function.line(mint.at).iter().map(|step| step.at).collect();
    let mut factory = InstructionInfoFactory::new();
    let lost = line.iter().position(|&at| decode(image, at).is_none_or(|i| !keeps(&i, mint, &mut factory)));
    // The first instruction that takes the id out of the register still sees it there.
    let holding = line.iter().copied().take(lost.map_or(line.len(), |n| n + 1));
    match Place::cheap(image, holding).filter(|place| !births.contains(&place.at)) {
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
    let line = function.line(raise.at).iter().map(|step| step.at);
    Place::cheap(image, line).map_or_else(|| Place::exactly(image, raise.at), Ok)
}

/// Whether an addition that mints stands at this place.
fn is_mint(mints: &[MintSite], at: VirtAddr) -> bool {
    mints.binary_search_by_key(&at, |m| m.add).is_ok()
}

/// Whether the mint's register holds the id behind the instruction, too.
fn keeps(instruction: &Instruction, mint: &MintSite, factory: &mut InstructionInfoFactory) -> bool {
    let number = usize::from(mint.register.0);
    // A call keeps rbx, rsp, rbp and r12 to r15.
    if instruction.mnemonic() == Mnemonic::Call && !matches!(number, 3..=5 | 12..=15) {
        return false;
    }
    let written = |used: &iced_x86::UsedRegister| {
        used.register().is_gpr()
            && used.register().full_register().number() == number
            && !matches!(used.access(), OpAccess::Read | OpAccess::CondRead | OpAccess::NoMemAccess)
    };
    !factory.info(instruction).used_registers().iter().any(written)
}
