//! What this program itself may do, and giving up what it does not need any more.
//!
//! Does not know: what is needed for what.

use std::fs;
use std::io;

use super::status::Status;
use super::syscall;
use crate::model::{Capability, CapabilitySet};

/// This program's own state, as the kernel shows it.
pub fn own_status() -> io::Result<Status> {
    let text = fs::read_to_string("/proc/thread-self/status")?;
    Status::parse(&text).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "malformed /proc/thread-self/status"))
}

/// Whether this program is in the first user namespace: what is asked of the whole system is judged there.
pub fn in_first_user_namespace() -> bool {
    // Where it cannot be read there are no user namespaces.
    fs::read_to_string("/proc/self/uid_map").map_or(true, |text| maps_all_users(&text))
}

/// One line that maps every user to itself.
fn maps_all_users(text: &str) -> bool {
    text.split_ascii_whitespace().eq(["0", "0", "4294967295"])
}

/// Gives up, for good, every capability without which all that these allow is still allowed; gives what is left.
///
/// The kernel lets a thread do so for itself only, and those that it starts later inherit what it has. So this must be
/// called while no other thread runs; it refuses otherwise. A program that was started before keeps what it has.
pub fn keep_only(needed: &[Capability]) -> io::Result<CapabilitySet> {
    let threads = fs::read_dir("/proc/self/task")?.count();
    if threads != 1 {
        return Err(io::Error::other(format!("{threads} threads run: each would keep its own")));
    }
    let had = syscall::capabilities()?;
    let left = syscall::Capabilities {
        effective: had.effective.enough_for(needed),
        permitted: had.permitted.enough_for(needed),
        // What would be inherited by a program that is started from here; there is none.
        inheritable: CapabilitySet::default(),
    };
    if left != had {
        syscall::set_capabilities(left)?;
    }
    Ok(left.effective)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_state_is_read_and_says_what_capget_says() {
        let status = own_status().unwrap();
        assert_eq!(status.effective, syscall::capabilities().unwrap().effective);
        assert!(!status.is_stopped());
    }

    #[test]
    fn with_other_threads_nothing_is_given_up() {
        let before = syscall::capabilities().unwrap();
        // The test harness runs this beside its own thread.
        let refused = keep_only(&[]).unwrap_err();
        assert!(refused.to_string().contains("threads run"), "{refused}");
        assert_eq!(syscall::capabilities().unwrap(), before);
    }

    #[test]
    fn the_first_user_namespace_is_the_one_that_maps_everyone() {
        assert!(maps_all_users("         0          0 4294967295\n"));
        assert!(!maps_all_users("         0       1000          1\n"));
        assert!(!maps_all_users("0 0 1000\n1000 1000 4294966295\n"));
    }
}
