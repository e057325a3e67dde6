//! Reading another process's memory. Never writes.
//!
//! Does not know: what the bytes mean, which ranges are worth reading.

use std::cell::OnceCell;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::error::MemoryError;
use super::process::Process;
use super::syscall;
use crate::model::{Capability, ProcAddr};

/// Addresses at most this far apart are read together, gap and all: copying a page costs less than another call.
const NEAR: u64 = 4 << 10;
/// At most this much is read together.
const GROUP: u64 = 1 << 20;

/// A process's memory.
///
/// Reads by `process_vm_readv`; where that call is refused (a seccomp filter), by `/proc/PID/mem`.
#[derive(Debug)]
pub struct Memory<'p> {
    process: &'p Process,
    /// The second route, opened at the first need; `None` inside where it is closed, too.
    file: OnceCell<Option<File>>,
}

impl<'p> Memory<'p> {
    pub(super) fn new(process: &'p Process) -> Self {
        Self { process, file: OnceCell::new() }
    }

    /// The process that is read.
    pub fn process(&self) -> &'p Process {
        self.process
    }

    /// Reads as much as is readable in one piece from `at` on, at most the buffer; gives how many bytes that is.
    /// 0 where not even the first can be read.
    pub fn read(&self, at: ProcAddr, to: &mut [u8]) -> Result<usize, MemoryError> {
        let mut read = 0;
        while read < to.len() {
            let Some(from) = at.0.checked_add(read as u64) else { break };
            match self.read_once(ProcAddr(from), &mut to[read..])? {
                0 => break,
                n => read += n,
            }
        }
        Ok(read)
    }

    /// Fills the buffer, or says how much of it could be read.
    pub fn read_exact(&self, at: ProcAddr, to: &mut [u8]) -> Result<(), MemoryError> {
        match self.read(at, to)? {
            read if read == to.len() => Ok(()),
            read => Err(MemoryError::Partial { at, wanted: to.len(), read }),
        }
    }

    /// One word in the machine's byte order.
    pub fn read_word(&self, at: ProcAddr) -> Result<u64, MemoryError> {
        let mut word = [0; 8];
        self.read_exact(at, &mut word)?;
        Ok(u64::from_ne_bytes(word))
    }

    /// Reads `len` bytes at each address and gives them to `each` with the address's index, or `None` for those that
    /// cannot be read. Addresses in ascending order that lie close together are read in one piece, so that a million
    /// neighbours cost a thousand calls.
    pub fn read_each(
        &self,
        addresses: &[ProcAddr],
        len: usize,
        mut each: impl FnMut(usize, Option<&[u8]>),
    ) -> Result<(), MemoryError> {
        let mut bytes = Vec::new();
        let mut next = 0;
        while let Some(first) = addresses.get(next) {
            let near = addresses[next..].windows(2).take_while(|pair| is_near(pair[0], pair[1], *first)).count();
            let offset = |at: &ProcAddr| (at.0 - first.0) as usize;
            bytes.resize(offset(&addresses[next + near]) + len, 0);
            let read = self.read(*first, &mut bytes)?;
            let group = addresses[next..=next + near].iter().map(offset);
            let whole = group.take_while(|offset| offset + len <= read).fold(0, |index, offset| {
                each(next + index, Some(&bytes[offset..offset + len]));
                index + 1
            });
            next += whole;
            if whole == 0 {
                each(next, None);
                next += 1;
            }
        }
        Ok(())
    }

    fn read_once(&self, at: ProcAddr, to: &mut [u8]) -> Result<usize, MemoryError> {
        let error = match syscall::read_remote(self.process.pid(), at, to) {
            Ok(read) => return Ok(read),
            Err(error) => error,
        };
        let pid = self.process.pid();
        match error.raw_os_error() {
            Some(libc::EFAULT) => Ok(0),
            Some(libc::ESRCH) => Err(MemoryError::Vanished { pid }),
            _ if self.process.has_ended() => Err(MemoryError::Vanished { pid }),
            Some(libc::EPERM | libc::ENOSYS) => self.read_file(at, to),
            _ => Err(MemoryError::Io { pid, at, source: error }),
        }
    }

    fn read_file(&self, at: ProcAddr, to: &mut [u8]) -> Result<usize, MemoryError> {
        let pid = self.process.pid();
        let Some(file) = self.file.get_or_init(|| self.process.open_file("mem").ok()) else {
            return Err(MemoryError::NotPermitted { pid, capability: Capability::SysPtrace });
        };
        loop {
            match file.read_at(to, at.0) {
                // The file ends nowhere while there is an address space behind it.
                Ok(0) if !to.is_empty() => return Err(MemoryError::Vanished { pid }),
                Ok(read) => return Ok(read),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // An unmapped page reads as EIO here, an address beyond the file's range as EINVAL.
                Err(error) if matches!(error.raw_os_error(), Some(libc::EIO | libc::EFAULT | libc::EINVAL)) => {
                    return Ok(0);
                }
                Err(source) => return Err(MemoryError::Io { pid, at, source }),
            }
        }
    }
}

/// Whether two addresses one behind the other are worth a common read, in a group that begins at `first`.
fn is_near(one: ProcAddr, next: ProcAddr, first: ProcAddr) -> bool {
    next >= one && next.0 - one.0 <= NEAR && next.0 - first.0 <= GROUP
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Pid;
    use crate::target::page_size;
    use crate::target::sleeper::Sleeper;

    fn us() -> Process {
        Process::open(Pid(std::process::id())).unwrap()
    }

    fn address_of<T>(what: &T) -> ProcAddr {
        ProcAddr(std::ptr::from_ref(what) as u64)
    }

    /// The end of a mapping behind which nothing is mapped.
    fn last_readable_end(process: &Process) -> ProcAddr {
        let maps = process.maps().unwrap();
        let gap = maps.windows(2).find(|pair| {
            pair[0].is_private_writable() && pair[0].range.end < pair[1].range.start && pair[0].file.is_none()
        });
        gap.unwrap()[0].range.end
    }

    #[test]
    fn reads_what_is_there_by_both_routes() {
        let truth: [u64; 4] = [1, u64::MAX, 3, 0x0123_4567_89ab_cdef];
        let process = us();
        let memory = process.memory();
        let expected: Vec<u8> = truth.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let (mut first, mut second) = ([0; 32], [0; 32]);
        memory.read_exact(address_of(&truth), &mut first).unwrap();
        assert_eq!(memory.read_file(address_of(&truth), &mut second).unwrap(), 32);
        assert_eq!((&first[..], &second[..]), (&expected[..], &expected[..]));
        assert_eq!(memory.read_word(address_of(&truth[3])).unwrap(), truth[3]);
    }

    #[test]
    fn a_read_over_the_end_of_a_mapping_says_how_far_it_came() {
        let process = us();
        let memory = process.memory();
        let end = last_readable_end(&process);
        let mut bytes = vec![0; 100];
        assert_eq!(memory.read(ProcAddr(end.0 - 60), &mut bytes).unwrap(), 60);
        assert_eq!(memory.read(end, &mut bytes).unwrap(), 0);
        let error = memory.read_exact(ProcAddr(end.0 - 60), &mut bytes).unwrap_err();
        assert!(matches!(error, MemoryError::Partial { wanted: 100, read: 60, .. }), "{error:?}");
        assert_eq!(memory.read_file(end, &mut bytes).unwrap(), 0);
        assert_eq!(memory.read(ProcAddr(u64::MAX - 8), &mut bytes).unwrap(), 0);
    }

    #[test]
    fn scattered_reads_skip_what_is_unreadable_and_nothing_else() {
        let truth: Vec<u64> = (0..3000).map(|n| n * 7).collect();
        let process = us();
        let bad = ProcAddr(page_size());
        let mut addresses: Vec<ProcAddr> = truth.iter().map(address_of).collect();
        addresses[5] = bad;
        addresses[1024] = bad;
        addresses[2999] = bad;
        let mut got = vec![Some(0); addresses.len()];
        let each = |index: usize, bytes: Option<&[u8]>| {
            got[index] = bytes.map(|bytes| u64::from_ne_bytes(bytes.try_into().unwrap()));
        };
        process.memory().read_each(&addresses, 8, each).unwrap();
        for (index, got) in got.iter().enumerate() {
            let expected = (addresses[index] != bad).then_some(truth[index]);
            assert_eq!(*got, expected, "address {index}");
        }
    }

    #[test]
    fn memory_of_an_ended_process_has_vanished() {
        let mut child = Sleeper::start();
        let process = child.process();
        let at = process.maps().unwrap()[0].range.start;
        let mut bytes = [0; 4];
        process.memory().read_exact(at, &mut bytes).unwrap();
        assert_eq!(&bytes, b"\x7fELF");
        let memory = process.memory();
        memory.read_file(at, &mut bytes).unwrap();
        child.end();
        assert!(matches!(memory.read_exact(at, &mut bytes), Err(MemoryError::Vanished { .. })));
        assert!(matches!(memory.read_file(at, &mut bytes), Err(MemoryError::Vanished { .. })), "by the other route");
    }
}
