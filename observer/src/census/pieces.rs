//! Work in pieces that two threads take in turn: where one of them is held up, the other takes more of them.
//!
//! Does not know: what a piece is.

use std::sync::{Mutex, PoisonError};

/// Cells in a piece: they stay in the cache from one pass over them to the next.
pub const PIECE: usize = 8 << 10;
/// Below this many cells a second thread does not pay.
const WORTH_TWO: usize = 50_000;

/// Whether this many cells are worth a second thread.
pub fn is_worth_two(cells: usize) -> bool {
    cells >= WORTH_TWO
}

/// Does the work on each piece, by two threads or by one; gives the results in the order of the pieces. `worker` makes
/// what one thread does, with what it keeps from piece to piece.
pub fn each_piece<P, R, E, W>(
    pieces: impl Iterator<Item = P> + Send,
    two: bool,
    worker: impl Fn() -> W + Sync,
) -> Result<Vec<R>, E>
where
    R: Send,
    E: Send,
    W: FnMut(P) -> Result<R, E>,
{
    let pieces = Mutex::new(pieces.enumerate());
    let next = || pieces.lock().unwrap_or_else(PoisonError::into_inner).next();
    let run = || {
        let (mut work, mut done) = (worker(), Vec::new());
        while let Some((number, piece)) = next() {
            done.push((number, work(piece)?));
        }
        Ok(done)
    };
    let done = match two {
        false => run()?,
        true => {
            let (first, second) = std::thread::scope(|scope| {
                let second = scope.spawn(run);
                let first = run();
                match second.join() {
                    Ok(second) => (first, second),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            });
            let mut all = first?;
            all.extend(second?);
            all.sort_unstable_by_key(|(number, _)| *number);
            all
        }
    };
    Ok(done.into_iter().map(|(_, result)| result).collect())
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    #[test]
    fn every_piece_is_worked_on_once_and_the_results_are_in_order() {
        for two in [false, true] {
            let worker = || |piece: usize| Ok::<_, Infallible>(piece * 3);
            let expected: Vec<usize> = (0..1000).map(|piece| piece * 3).collect();
            assert_eq!(each_piece(0..1000, two, worker), Ok(expected));
        }
    }

    #[test]
    fn a_failure_of_either_thread_is_the_failure() {
        for bad in [0, 500, 999] {
            let worker = || move |piece: usize| if piece == bad { Err(piece) } else { Ok(()) };
            assert_eq!(each_piece(0..1000, true, worker), Err(bad));
        }
    }
}
