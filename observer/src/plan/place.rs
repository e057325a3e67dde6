//! Where exactly a point sits: an instruction that runs if and only if the wanted one does, cheap if there is one.
//!
//! Does not know: why a point is wanted.

use std::collections::HashSet;

use iced_x86::{Decoder, DecoderOptions, Instruction, InstructionInfoFactory, Mnemonic};

use super::class::class;
use super::function::Functions;
use super::own_id::{IdSpot, Stands, Writing};
use crate::model::{AttachPoint, CellLayout, Cost, FileOffset, VirtAddr};
use crate::runtime::{BirthSite, MintSite, RaiseSite};
use crate::symbols::{Image, LOST_IN_CALLS, decode, is_written};

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

/// Where a birth is probed.
#[derive(Debug)]
pub(super) struct Birth {
    pub(super) place: Place,
    /// What tells the id there.
    pub(super) id: BornId,
}

/// What tells the id of a task at its birth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BornId {
    /// What is there.
    At(IdSpot),
    /// The mint before it: at the place the id is not, or not where a cookie can say.
    Minted,
    /// The mint before it, as far as there is one: the vtable's address is not seen to be written to a task, so that it may be
    /// taken once for many tasks, or for none.
    NotWritten,
}

/// For a birth: on the line from the instruction that takes the vtable's address. Where the task's id is minted on that
/// very line, behind the mint, so that the id is known when the birth is seen. Else before it, where everything that
/// comes by becomes a birth. Of the cheap places the first at which the id is known, if there is one.
pub(super) fn of_birth(
    image: &Image<'_>,
    functions: &mut Functions<'_, '_>,
    birth: &BirthSite,
    layout: &CellLayout,
    mints: &[MintSite],
) -> Result<Birth, Refused> {
    let not_written = |place| Birth { place, id: BornId::NotWritten };
    let Some(function) = functions.around(birth.at) else { return Place::exactly(image, birth.at).map(not_written) };
    let writing = Writing::of(image, &function, birth, layout);
    let otherwise = if writing.is_some() { BornId::Minted } else { BornId::NotWritten };
    let at = |place: Place, stands: Stands<'_>, budget: &mut usize| {
        let id = writing.as_ref().and_then(|writing| writing.id_at(image, place.at, stands, budget));
        Birth { place, id: id.map_or(otherwise, BornId::At) }
    };
    let line: Vec<VirtAddr> = function.line(birth.at).iter().map(|step| step.at).collect();
    let minted = line.iter().rposition(|&at| is_mint(mints, at));
    // The instruction right behind the addition is the mint's own place, should it need one.
    let rest = minted.map_or(line.as_slice(), |n| line.get(n + 2..).unwrap_or_default());
    let budget = &mut functions.budget;
    // Where it is not seen how the id is written no place is better than the first.
    let any_will_do = !writing.as_ref().is_some_and(Writing::tells);
    let is_best = |found: &Birth| matches!(found.id, BornId::At(_)) || any_will_do;
    let mut first = None;
    for place in rest.iter().filter_map(|&place| Place::cheap(image, [place])) {
        let found = at(place, Stands::Behind, budget);
        if is_best(&found) {
            return Ok(found);
        }
        first.get_or_insert(found);
    }
    // Where the id is minted on the line nothing before it will do.
    for place in function.before(birth.at).take_while(|_| minted.is_none()) {
        let Some(place) = Place::cheap(image, [place]) else { continue };
        let Some(between) = function.leads(place.at, birth.at, |at| is_mint(mints, at), budget) else { continue };
        let found = at(place, Stands::Before(&between), budget);
        if is_best(&found) {
            return Ok(found);
        }
        first.get_or_insert(found);
    }
    if let Some(first) = first {
        return Ok(first);
    }
    let reason = "the task's id is minted right before the task is handed on";
    let exactly = if minted.is_some() { rest.first().ok_or(Refused { at: birth.at, reason })? } else { &birth.at };
    Ok(at(Place::exactly(image, *exactly)?, Stands::Behind, budget))
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
    let mut holding = Vec::new();
    let mut id = IdInRegister::new(mint);
    for step in function.line_across_calls(mint.at) {
        // The instruction that takes the id out of the register still sees it there.
        holding.push(step.at);
        let after = decode(image, step.at).is_some_and(|i| id.is_kept_by(&i, step.calls_image()));
        if !after {
            break;
        }
    }
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

/// The instruction under a point, as disassemblers write it.
pub fn instruction_text(point: &AttachPoint) -> String {
    Decoder::with_ip(64, &point.bytes, point.at.0, DecoderOptions::NONE).decode().to_string()
}

/// Whether an addition that mints stands at this place.
fn is_mint(mints: &[MintSite], at: VirtAddr) -> bool {
    mints.binary_search_by_key(&at, |m| m.add).is_ok()
}

/// Follows a minted id along a line.
struct IdInRegister {
    number: usize,
    /// Nothing has read it yet, so nobody else knows it: no task can have it.
    unread: bool,
    factory: InstructionInfoFactory,
}

impl IdInRegister {
    fn new(mint: &MintSite) -> Self {
        Self { number: usize::from(mint.register.0), unread: true, factory: InstructionInfoFactory::new() }
    }

    /// Whether the register holds the id behind the instruction, too, and its task cannot have been born by then.
    fn is_kept_by(&mut self, instruction: &Instruction, calls_image: bool) -> bool {
        let lost = LOST_IN_CALLS.contains(&self.number);
        if instruction.mnemonic() == Mnemonic::Call && lost || calls_image && !self.unread {
            return false;
        }
        let number = self.number;
        let mut mine = self
            .factory
            .info(instruction)
            .used_registers()
            .iter()
            .filter(|used| used.register().is_gpr() && used.register().full_register().number() == number);
        let compared = matches!(instruction.mnemonic(), Mnemonic::Test | Mnemonic::Cmp);
        mine.all(|used| {
            self.unread &= compared;
            !is_written(used.access())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::MintRegister;
    use crate::symbols::Boundary;
    use crate::symbols::tiny::{CODE, DATA, Tiny};

    const ADD: [u8; 5] = [0xf0, 0x48, 0x0f, 0xc1, 0x08]; // lock xadd [rax], rcx
    const LEA: [u8; 7] = [0x48, 0x8d, 0x15, 0, 0, 0, 0]; // lea rdx, [rip+0]
    const CALL: [u8; 5] = [0xe8, 0, 0, 0, 0];
    const RET: [u8; 1] = [0xc3];

    fn birth(at: u64) -> BirthSite {
        BirthSite { at: VirtAddr(CODE + at), vtable: VirtAddr(DATA), boundary: Boundary::FromFunctionStart }
    }

    fn mint(add: u64) -> MintSite {
        MintSite {
            add: VirtAddr(CODE + add),
            at: VirtAddr(CODE + add + ADD.len() as u64),
            register: MintRegister(1),
            counter: VirtAddr(DATA),
            boundary: Boundary::FromFunctionStart,
        }
    }

    /// Where the birth and the mint come to sit, from the code's start.
    fn places(code: &[&[u8]], birth: &BirthSite, mints: &[MintSite]) -> (u64, Vec<u64>) {
        let bytes = Tiny::new(&code.concat(), &[0; 8]).build();
        let image = Image::parse(&bytes).expect("tiny images are images");
        let mut functions = Functions::new(&image);
        let born = of_birth(&image, &mut functions, birth, &CellLayout::sample(), mints).expect("a place").place;
        let taken = HashSet::from([born.at]);
        let minted = mints.iter().map(|m| of_mint(&image, &mut functions, m, &taken).expect("a place").at.0 - CODE);
        (born.at.0 - CODE, minted.collect())
    }

    #[test]
    fn a_mint_and_a_birth_sit_on_the_next_emulated_instructions() {
        let test_je: &[u8] = &[0x48, 0x85, 0xc9, 0x74, 0xf6]; // test rcx, rcx; je back to the addition
        let code: [&[u8]; 6] = [&[0x90], &ADD, test_je, &LEA, &CALL, &RET];
        assert_eq!(places(&code, &birth(11), &[mint(1)]), (18, vec![9]));
    }

    #[test]
    fn on_one_line_the_mint_comes_first() {
        let minted_first: [&[u8]; 4] = [&ADD, &LEA, &CALL, &RET];
        assert_eq!(places(&minted_first, &birth(5), &[mint(0)]), (12, vec![5]));
        let taken_first: [&[u8]; 5] = [&LEA, &ADD, &[0x48, 0x89, 0xd6], &CALL, &RET]; // mov rsi, rdx
        assert_eq!(places(&taken_first, &birth(0), &[mint(7)]), (15, vec![12]));
    }

    #[test]
    fn a_birth_that_cannot_come_behind_its_mint_is_refused() {
        let bytes = Tiny::new(&[&LEA[..], &ADD, &CALL, &RET].concat(), &[0; 8]).build();
        let image = Image::parse(&bytes).expect("tiny images are images");
        let place = of_birth(&image, &mut Functions::new(&image), &birth(0), &CellLayout::sample(), &[mint(7)]);
        assert!(place.is_err(), "with the id of the task before it, it would be another task's: {place:?}");
    }

    #[test]
    fn an_id_that_leaves_its_register_is_read_before_it_does() {
        let lost: [&[u8]; 5] = [&ADD, &[0x48, 0x89, 0xc1], &CALL, &LEA, &RET]; // mov rcx, rax
        assert_eq!(places(&lost, &birth(13), &[mint(0)]).1, [5]);
        let kept: [&[u8]; 5] = [&ADD, &[0x48, 0x89, 0xc8], &CALL, &LEA, &RET]; // mov rax, rcx
        assert_eq!(places(&kept, &birth(13), &[mint(0)]).1, [8]);
    }

    #[test]
    fn an_id_that_nobody_else_knows_may_wait_behind_a_call() {
        let add: &[u8] = &[0xf0, 0x48, 0x0f, 0xc1, 0x18]; // lock xadd [rax], rbx
        let indirect: &[u8] = &[0xff, 0xd2]; // call rdx
        let pass: &[u8] = &[0x48, 0x89, 0xda]; // mov rdx, rbx
        let in_rbx = MintSite { register: MintRegister(3), ..mint(0) };
        let place = |code: &[&[u8]], mint| {
            let bytes = Tiny::new(&code.concat(), &[0; 8]).build();
            let image = Image::parse(&bytes).expect("tiny images are images");
            of_mint(&image, &mut Functions::new(&image), mint, &HashSet::new()).expect("a place").at.0 - CODE
        };
        assert_eq!(place(&[add, indirect, pass, &CALL, &RET], &in_rbx), 10);
        assert_eq!(
            place(&[add, pass, indirect, &CALL, &RET], &in_rbx),
            5,
            "the call may be the one that bears the task"
        );
        assert_eq!(place(&[&ADD, indirect, &CALL, &RET], &mint(0)), 5, "the call may overwrite rcx");
    }

    #[test]
    fn a_birth_with_nothing_cheap_behind_it_moves_to_the_entry() {
        let code: [&[u8]; 4] = [&[0x55], &[0x48, 0x89, 0xe5], &LEA, &RET]; // push rbp; mov rbp, rsp
        assert_eq!(places(&code, &birth(4), &[]).0, 0);
        let behind_a_mint: [&[u8]; 4] = [&[0x55], &ADD, &LEA, &RET];
        assert_eq!(places(&behind_a_mint, &birth(6), &[mint(1)]), (6, vec![6]), "the id must be known by then");
    }

    #[test]
    fn without_unwind_information_a_point_stays_where_it_was_found() {
        let mut tiny = Tiny::new(&[&LEA[..], &CALL].concat(), &[0; 8]);
        tiny.functions.clear();
        let bytes = tiny.build();
        let image = Image::parse(&bytes).expect("tiny images are images");
        let layout = CellLayout::sample();
        let place = of_birth(&image, &mut Functions::new(&image), &birth(0), &layout, &[]).expect("a place").place;
        assert_eq!((place.at, place.cost, place.bytes), (VirtAddr(CODE), Cost::SingleStepped, LEA.to_vec()));
    }

    #[test]
    fn no_point_sits_where_no_instruction_may_be_probed() {
        let bytes = Tiny::new(&[0xcc, 0xc3], &[0; 8]).build();
        let image = Image::parse(&bytes).expect("tiny images are images");
        let at = |address| Place::exactly(&image, VirtAddr(address)).map(|place| place.at);
        assert_eq!(at(CODE + 1), Ok(VirtAddr(CODE + 1)));
        assert!(at(CODE).is_err(), "int3");
        assert!(at(DATA).is_err(), "no code");
        assert!(at(CODE + 2).is_err(), "behind the code");
    }
}
