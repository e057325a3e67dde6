//! A process's file descriptors: what each links to, and what its epoll instances have registered.
//!
//! Does not know: what the registered tokens mean to the process.

use std::fs;

use super::error::TargetError;
use super::process::Process;

/// One file that an epoll instance watches, a `tfd:` line of its `fdinfo`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Watched {
    /// What the process gave to get back with each event.
    pub token: u64,
    /// The number under which it was registered.
    pub fd: u32,
}

/// Descriptors that are looked at; more than any limit that is usual.
const MAX_DESCRIPTORS: usize = 1 << 20;

impl Process {
    /// Everything that its epoll instances watch, by token, each once though an instance may have several descriptors.
    pub fn watched(&self) -> Result<Vec<Watched>, TargetError> {
        let mut watched = Vec::new();
        for name in self.names("fd")?.into_iter().take(MAX_DESCRIPTORS) {
            let Ok(link) = fs::read_link(self.path("fd").join(&name)) else { continue };
            if link.as_os_str() != "anon_inode:[eventpoll]" {
                continue;
            }
            match self.text(&format!("fdinfo/{name}")) {
                Ok(text) => watched.extend(parse_watched(&text)),
                // Closed since the folder was listed.
                Err(TargetError::Vanished { .. }) if !self.has_ended() => {}
                Err(error) => return Err(error),
            }
        }
        watched.sort_unstable();
        watched.dedup();
        Ok(watched)
    }

    /// What this descriptor links to (`socket:[4711]`, a path); `None` where it is closed or may not be read.
    pub fn descriptor(&self, fd: u32) -> Option<String> {
        let link = fs::read_link(self.path("fd").join(fd.to_string())).ok()?;
        Some(link.to_string_lossy().into_owned())
    }
}

/// The `tfd:` lines of an epoll instance's `fdinfo`, `proc_pid_fdinfo(5)`; other lines are passed over.
pub fn parse_watched(text: &str) -> Vec<Watched> {
    text.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<Watched> {
    let mut words = line.split_whitespace();
    let (mut fd, mut token) = (None, None);
    while let Some(word) = words.next() {
        match word {
            "tfd:" => fd = words.next()?.parse().ok(),
            "data:" => token = u64::from_str_radix(words.next()?, 16).ok(),
            _ => {}
        }
    }
    Some(Watched { token: token?, fd: fd? })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::Pid;

    #[test]
    fn reads_what_an_epoll_instance_watches() {
        let text = "pos:\t0\nflags:\t02000002\nmnt_id:\t16\nino:\t2075\n\
                    tfd:        5 events: 80000019 data:     7f13c4000080  pos:0 ino:81b sdev:10\n\
                    tfd:       12 events: 8000201d data: ffffffffffffffff  pos:0 ino:3e sdev:9\n\
                    tfd:        x events: 19 data: 1\ntfd: 3 events: 19\n";
        let expected = [Watched { token: 0x7f13_c400_0080, fd: 5 }, Watched { token: u64::MAX, fd: 12 }];
        assert_eq!(parse_watched(text), expected);
    }

    #[test]
    fn our_own_runtime_watches_what_it_registered() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        runtime.block_on(async {
            use std::os::fd::AsRawFd;
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let us = Process::open(Pid(std::process::id())).unwrap();
            let fd = listener.as_raw_fd() as u32;
            let ours: Vec<Watched> = us.watched().unwrap().into_iter().filter(|watched| watched.fd == fd).collect();
            assert_eq!(ours.len(), 1, "{ours:?}");
            assert!(us.descriptor(fd).unwrap().starts_with("socket:["));
            assert_eq!(us.descriptor(u32::MAX), None);
        });
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC*", near in "[-0-9a-ftd:\\s]{0,200}") {
            parse_watched(&text);
            parse_watched(&near);
        }
    }
}
