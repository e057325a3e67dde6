//! Memory must equal the file at every point, before anything is planted there, and must not any more when it is.
//!
//! A file that was replaced under a running program, a wrong offset or a wrong bias would put a breakpoint into the
//! middle of an instruction and kill the target. The kernel plants in the memory of whoever maps the file: where memory is as before,
//! what the process runs is not that file's.

use crate::model::{AttachPoint, Bias};
use crate::target::{Memory, MemoryError};

/// The breakpoint instruction of x86-64: another observer's probe may stand there already.
const BREAKPOINT: u8 = 0xcc;

/// What the check found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Verified {
    /// Points where memory equals the file, another probe's breakpoint aside.
    pub(super) equal: usize,
    /// Points of those on which another probe stands.
    pub(super) shared: usize,
    /// Points where memory differs or cannot be read: they are left out.
    pub(super) differing: usize,
}

/// Keeps the points whose memory equals the file.
pub(super) fn keep_verified(
    points: &mut Vec<AttachPoint>,
    bias: Bias,
    memory: &Memory<'_>,
) -> Result<Verified, MemoryError> {
    let mut verified = Verified::default();
    let mut kept = Vec::with_capacity(points.len());
    for point in points.drain(..) {
        let mut bytes = vec![0; point.bytes.len()];
        match memory.read_exact(bias.to_process(point.at), &mut bytes) {
            Ok(()) => {}
            Err(error @ (MemoryError::NotPermitted { .. } | MemoryError::Vanished { .. })) => return Err(error),
            Err(MemoryError::Partial { .. } | MemoryError::Io { .. }) => {
                verified.differing += 1;
                continue;
            }
        }
        match compare(&point.bytes, &bytes) {
            Match::Different => {
                verified.differing += 1;
                continue;
            }
            Match::Probed => verified.shared += 1,
            Match::Equal => {}
        }
        verified.equal += 1;
        kept.push(point);
    }
    *points = kept;
    Ok(verified)
}

/// The points at which nothing stands: memory is as in the file still. What cannot be read, or was written by others, tells nothing.
pub(super) fn untouched<'a>(
    points: impl IntoIterator<Item = &'a AttachPoint>,
    bias: Bias,
    memory: &Memory<'_>,
) -> Vec<&'a AttachPoint> {
    let is_untouched = |point: &&AttachPoint| {
        let mut bytes = vec![0; point.bytes.len()];
        let read = memory.read_exact(bias.to_process(point.at), &mut bytes);
        read.is_ok() && compare(&point.bytes, &bytes) == Match::Equal
    };
    points.into_iter().filter(is_untouched).collect()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Match {
    Equal,
    /// Equal but for a breakpoint in the place of the first byte.
    Probed,
    Different,
}

fn compare(file: &[u8], memory: &[u8]) -> Match {
    if file == memory {
        return Match::Equal;
    }
    match (file.split_first(), memory.split_first()) {
        (Some((_, file)), Some((&BREAKPOINT, memory))) if file == memory => Match::Probed,
        _ => Match::Different,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_equals_the_file_is_kept_also_under_another_probe() {
        assert_eq!(compare(&[0x55], &[0x55]), Match::Equal);
        assert_eq!(compare(&[0x55], &[0xcc]), Match::Probed);
        assert_eq!(compare(&[0x0f, 0x84, 1], &[0xcc, 0x84, 1]), Match::Probed);
    }

    #[test]
    fn any_other_difference_is_one() {
        assert_eq!(compare(&[0x55], &[0x53]), Match::Different);
        assert_eq!(compare(&[0x0f, 0x84, 1], &[0xcc, 0x84, 2]), Match::Different);
        assert_eq!(compare(&[0x0f, 0x84], &[0x0f, 0x85]), Match::Different);
    }
}
