//! Attach points: what a probe sits on and what a hit of it means.

use serde::{Deserialize, Serialize};

use observer_common::{Cookie, MintRegister};

use super::{FileOffset, VirtAddr};

/// What a hit of the point means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Role {
    /// A task id was just taken from the runtime's counter by this thread. Writes no record.
    Mint,
    /// A spawner takes the address of this point's task vtable: one task of that type is born.
    Birth,
    /// As [`Role::Mint`], but that the id is reported, with the spawner's registers and stack.
    Spawn,
    /// `vtable.poll`: entry and return.
    Poll,
    /// `vtable.shutdown`: entry and return.
    Shutdown,
    /// `vtable.drop_join_handle_slow`: entry and return.
    DropJoinHandle,
    /// `vtable.drop_abort_handle`: entry and return.
    DropAbortHandle,
    /// `vtable.dealloc`: entry; the memory is freed next.
    Dealloc,
    /// A Rust panic begins to unwind on this thread.
    Raise,
    /// Before that, it is told to the program's panic hook, with its place.
    Hook,
}

/// Which kernel program a point needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Program {
    /// Remembers the minted id for the thread.
    Mint,
    /// Reports a birth.
    Birth,
    /// Reports a task id and who takes it.
    Spawn,
    /// Reports the entry of a vtable function and remembers its header for the return.
    Enter,
    /// Reports the return of a vtable function (a return probe).
    Leave,
    /// Reports a panic.
    Raise,
    /// Reports where a panic was.
    Hook,
    /// Reports the entry of a vtable function that needs no return.
    EnterOnly,
}

/// What one hit costs the target, by the class of the instruction under the breakpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cost {
    /// The kernel emulates the instruction: one trap.
    Emulated,
    /// The kernel single-steps it out of line: two traps, several times dearer (35 times in a virtual machine).
    SingleStepped,
}

/// In a cookie's slot: the record's process number tells whose hit it is.
pub const BY_PROCESS: u16 = Cookie::BY_PROCESS;

impl Cost {
    /// How many times the cheapest hit it costs, as measured in a virtual machine; less on bare metal.
    pub fn factor(self) -> u32 {
        match self {
            Self::Emulated => 1,
            Self::SingleStepped => 35,
        }
    }
}

/// A point's number in its session, see [`super::Catalog::point`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PointIndex(pub u32);

/// One verified place in one image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachPoint {
    /// What a hit means.
    pub role: Role,
    /// The instruction's link-time address: where process memory must equal the file.
    pub at: VirtAddr,
    /// The same place in the file.
    pub offset: FileOffset,
    /// The file's bytes from there on, one decoded instruction long (1 to 15).
    pub bytes: Vec<u8>,
    /// What one hit costs.
    pub cost: Cost,
    /// The type born here, for [`Role::Birth`].
    pub vtable: Option<VirtAddr>,
    /// Where the id is, for [`Role::Mint`] and [`Role::Spawn`]; for [`Role::Birth`] where the birth itself tells it, else the mint
    /// before it does.
    #[serde(with = "register")]
    pub register: Option<MintRegister>,
    /// Which word of the cell holds the id, where that lies behind a record's head; 0 where the head holds it. At a birth whose register
    /// points to the memory that holds the id: how many words from there, and one; 0 where the register holds the id itself.
    pub far: u8,
    /// At [`Role::Poll`] the word of the cell that tells one task from another, within a record's head; 0 where none does,
    /// for all types whose code this is.
    pub telling: u8,
}

/// The register as its number: whose type it is knows nothing of serde.
mod register {
    use observer_common::MintRegister;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "what serde calls has this form")]
    pub(super) fn serialize<S: Serializer>(register: &Option<MintRegister>, to: S) -> Result<S::Ok, S::Error> {
        register.map(|register| register.0).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<MintRegister>, D::Error> {
        Ok(Option::deserialize(from)?.map(MintRegister))
    }
}

impl Role {
    /// The first event that is missing where a point of this role is.
    pub fn event(self) -> &'static str {
        match self {
            Self::Mint | Self::Birth | Self::Spawn => "init",
            Self::Poll => "before",
            Self::Shutdown | Self::Raise | Self::Hook => "resolve",
            Self::DropJoinHandle | Self::DropAbortHandle | Self::Dealloc => "destroy",
        }
    }

    /// Whether who calls the function holds a reference to the task, and has given up that one, and no other, when it returns.
    fn gives_up(self) -> bool {
        matches!(self, Self::DropJoinHandle | Self::DropAbortHandle)
    }

    /// The programs a point of this role needs, the return probe last.
    pub fn programs(self) -> &'static [Program] {
        match self {
            Self::Mint => &[Program::Mint],
            Self::Birth => &[Program::Birth],
            Self::Spawn => &[Program::Spawn],
            Self::Poll | Self::Shutdown | Self::DropJoinHandle | Self::DropAbortHandle => {
                &[Program::Enter, Program::Leave]
            }
            Self::Dealloc => &[Program::EnterOnly],
            Self::Raise => &[Program::Raise],
            Self::Hook => &[Program::Hook],
        }
    }
}

impl AttachPoint {
    /// What the kernel carries to the probe for this point.
    pub fn cookie(&self, target: u16, index: PointIndex) -> Cookie {
        let register = match self.register {
            Some(register) => register.0,
            None if self.role == Role::Birth => Cookie::NO_REGISTER,
            None if self.role.gives_up() => Cookie::GIVES_UP,
            None => self.telling,
        };
        Cookie { point: index.0, target, register, far: self.far }
    }
}
