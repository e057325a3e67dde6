//! A large new vector that several threads fill, each a piece: most of what it costs is the kernel's clearing of pages.
//!
//! Does not know: what it is filled with.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::syscall::prefer_huge_pages;

/// The vector, while it is filled.
pub struct Filling<T> {
    vector: Vec<T>,
    len: usize,
    /// Places that are filled, of the pieces that were given last.
    filled: AtomicUsize,
}

/// A piece of it.
pub struct Piece<'a, T> {
    places: &'a mut [std::mem::MaybeUninit<T>],
    filled: &'a AtomicUsize,
}

impl<T: Copy> Filling<T> {
    /// Of this length.
    pub fn new(len: usize) -> Self {
        let mut vector = Vec::with_capacity(len);
        prefer_huge_pages(&mut vector);
        Self { vector, len, filled: AtomicUsize::new(0) }
    }

    /// All of it, in pieces of this many places; the last may be shorter.
    pub fn pieces(&mut self, piece: usize) -> impl Iterator<Item = Piece<'_, T>> {
        let Self { vector, len, filled } = self;
        *filled.get_mut() = 0;
        let filled = &*filled;
        vector.spare_capacity_mut()[..*len].chunks_mut(piece).map(move |places| Piece { places, filled })
    }

    /// The vector, after every piece was filled.
    ///
    /// # Panics
    ///
    /// If one was not.
    pub fn finish(self) -> Vec<T> {
        let Self { mut vector, len, filled } = self;
        assert_eq!(filled.into_inner(), len, "not every piece was filled");
        // SAFETY: the vector has room for `len` values, and so many different places of the first `len` were written.
        unsafe { vector.set_len(len) };
        vector
    }
}

impl<T: Copy> Piece<'_, T> {
    /// Fills it, as far as the values go.
    pub fn fill(self, values: impl Iterator<Item = T>) {
        let mut filled = 0;
        for (place, value) in self.places.iter_mut().zip(values) {
            place.write(value);
            filled += 1;
        }
        self.filled.fetch_add(filled, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_filled_by_several_threads_is_in_its_place() {
        let mut filling = Filling::new(10_500);
        std::thread::scope(|scope| {
            for (number, piece) in filling.pieces(1000).enumerate() {
                scope.spawn(move || piece.fill((number * 1000..).take(1000)));
            }
        });
        assert_eq!(filling.finish(), (0..10_500).collect::<Vec<_>>());
    }

    #[test]
    #[should_panic(expected = "not every piece was filled")]
    fn what_is_not_filled_is_never_given() {
        let mut filling = Filling::new(10);
        filling.pieces(5).for_each(|piece| piece.fill([1, 2, 3].into_iter()));
        filling.finish();
    }
}
