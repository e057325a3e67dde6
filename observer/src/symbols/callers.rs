//! Who mentions which function: every direct call, jump or address taken, found in one pass over all code.
//!
//! Does not know: calls through registers and tables. Places are bytes that look like an instruction; a rare one is not.

use super::{Functions, Image, Segment, Targets};
use crate::model::VirtAddr;

/// The mentions of an image's known functions, by the function mentioned.
#[derive(Clone, Debug, Default)]
pub struct Callers {
    sorted: Vec<Mention>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Mention {
    of: VirtAddr,
    /// The four bytes that name it.
    at: VirtAddr,
}

impl Callers {
    /// Of every one of these functions.
    pub fn read(image: &Image<'_>, functions: &Functions) -> Self {
        let functions = Targets::new(functions.starts());
        let slots = image.pointers().as_slice().iter().filter(|p| functions.contains(p.to));
        let slots = Targets::new(slots.map(|p| p.at));
        let mut sorted = Vec::new();
        for segment in image.segments().iter().filter(|s| s.is_executable()) {
            let code = image.bytes().get(segment.file()).unwrap_or_default();
            branches(segment, code, &functions, &mut sorted);
            operands(image, segment, code, (&functions, &slots), &mut sorted);
        }
        sorted.sort_unstable();
        Self { sorted }
    }

    /// The places inside code that mention the function that starts at `function`.
    pub fn of(&self, function: VirtAddr) -> impl Iterator<Item = VirtAddr> + '_ {
        let from = self.sorted.partition_point(|m| m.of < function);
        self.sorted.iter().skip(from).take_while(move |m| m.of == function).map(|m| m.at)
    }
}

/// `call rel32` and `jmp rel32`.
fn branches(segment: &Segment, code: &[u8], functions: &Targets, found: &mut Vec<Mention>) {
    for opcode in memchr::memchr2_iter(0xe8, 0xe9, code) {
        found.extend(relative(segment, code, opcode + 1).filter(|m| functions.contains(m.of)));
    }
}

/// `lea reg, [rip+function]`, and `call`, `jmp` or `mov reg` of `[rip+slot]` where the slot holds a function's address.
fn operands(
    image: &Image<'_>,
    segment: &Segment,
    code: &[u8],
    (functions, slots): (&Targets, &Targets),
    found: &mut Vec<Mention>,
) {
    for (n, pair) in code.windows(2).enumerate() {
        let [opcode, modrm] = *pair else { continue };
        if modrm & 0xc7 != 0x05 || !matches!(opcode, 0x8b | 0x8d | 0xff) {
            continue;
        }
        let Some(mention) = relative(segment, code, n + 2) else { continue };
        if opcode == 0x8d {
            found.extend(functions.contains(mention.of).then_some(mention));
        } else if slots.contains(mention.of) {
            found.extend(image.pointer_at(mention.of).map(|of| Mention { of, at: mention.at }));
        }
    }
}

/// The four bytes at `at` of a segment's code as a mention of what they go to.
fn relative(segment: &Segment, code: &[u8], at: usize) -> Option<Mention> {
    let of = relative_target(segment, code, at)?;
    Some(Mention { of, at: VirtAddr(segment.start().0.wrapping_add(at as u64)) })
}

/// Where the four bytes at `at` of a segment's code go to, as a displacement from what follows them.
pub(super) fn relative_target(segment: &Segment, code: &[u8], at: usize) -> Option<VirtAddr> {
    let displacement = i32::from_le_bytes(*code.get(at..)?.first_chunk::<4>()?);
    let next = segment.start().0.wrapping_add(at as u64).wrapping_add(4);
    Some(VirtAddr(next.wrapping_add_signed(i64::from(displacement))))
}
