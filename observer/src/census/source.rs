//! Memory, wherever it is read from.
//!
//! Does not know: what is looked for in it.

use crate::model::ProcAddr;
use crate::target::Memory;

/// Memory that is read.
pub trait Source {
    /// Reads exactly so many bytes; false where it cannot.
    fn read(&mut self, at: ProcAddr, to: &mut [u8]) -> bool;

    /// The same, of this moment, whatever was read before.
    fn read_now(&mut self, at: ProcAddr, to: &mut [u8]) -> bool {
        self.read(at, to)
    }
}

impl<S: Source + ?Sized> Source for &mut S {
    fn read(&mut self, at: ProcAddr, to: &mut [u8]) -> bool {
        (**self).read(at, to)
    }

    fn read_now(&mut self, at: ProcAddr, to: &mut [u8]) -> bool {
        (**self).read_now(at, to)
    }
}

impl Source for Memory<'_> {
    fn read(&mut self, at: ProcAddr, to: &mut [u8]) -> bool {
        self.read_exact(at, to).is_ok()
    }
}
