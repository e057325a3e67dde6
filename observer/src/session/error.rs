//! What can end a session before or during its work, told apart as far as exit codes and next steps differ.

use std::error::Error;
use std::io;

use crate::attach::AttachError;
use crate::census::CensusError;
use crate::model::{Missing, Pid};
use crate::perf::PerfError;
use crate::symbols::ImageError;
use crate::target::{LaunchError, MemoryError, TargetError};

/// Why a session failed.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// A target cannot be looked at.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// No process has this name.
    #[error("no process is named `{0}`")]
    NoSuchName(String),
    /// The program to launch cannot be started.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// Nothing in the process can be observed.
    #[error("{}", nothing(*pid, exe, reasons))]
    Nothing {
        /// The process.
        pid: Pid,
        /// Its executable.
        exe: String,
        /// What was found instead, by image.
        reasons: Vec<Unsupported>,
    },
    /// The process runs another program than at first.
    #[error("process {0} runs another program now than when it was opened")]
    Replaced(Pid),
    /// A process's memory is not what the file of one of its images says.
    #[error("the memory of process {pid} differs from {path} where probes would stand")]
    Differs {
        /// The process.
        pid: Pid,
        /// The image.
        path: String,
    },
    /// Probes stand in an image's file, and not in the memory of a process that maps it.
    #[error("{}", unreached(*pid, path))]
    Unreached {
        /// The process.
        pid: Pid,
        /// The image.
        path: String,
    },
    /// All processes are asked for, from where only some can be seen.
    #[error("all processes can be observed from the first pid namespace only, and this is one below it")]
    InnerNamespace,
    /// A bound is set to what is not measured here.
    #[error("what observing adds to the targets is not measured here, so no bound can be kept (--max-overhead)")]
    CostUnknown,
    /// The process is this program itself.
    #[error("process {0} is this observer itself")]
    Itself(Pid),
    /// Probes could not be loaded or attached.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// Who runs could not be sampled.
    #[error(transparent)]
    Sampling(PerfError),
    /// The events could not be written.
    #[error("cannot write the events")]
    Output(#[source] io::Error),
    /// Whoever reads the output took nothing more, and the end was asked for.
    #[error("nobody read the last {bytes} bytes of the output")]
    Unread {
        /// So many.
        bytes: u64,
    },
    /// The observer's own event loop failed.
    #[error("cannot {what}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

impl SessionError {
    /// Good, if whoever read the output has seen enough and closed it.
    pub(super) fn unless_nobody_reads(self) -> Result<(), Self> {
        match self {
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            other => Err(other),
        }
    }

    /// Whether it is that the output cannot be written.
    pub(super) fn is_of_output(&self) -> bool {
        matches!(self, Self::Output(_) | Self::Unread { .. })
    }

    /// Whether it only says that a process has ended meanwhile.
    pub(super) fn is_of_ended(&self) -> bool {
        matches!(
            self,
            Self::Target(TargetError::NoSuchProcess { .. } | TargetError::Vanished { .. } | TargetError::Zombie { .. })
        )
    }

    /// The error and its causes, in one line.
    pub fn in_full(&self) -> String {
        let mut said = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            let text = error.to_string();
            if !said.contains(&text) {
                said.push_str(": ");
                said.push_str(&text);
            }
            cause = error.source();
        }
        said
    }

    /// The number of the kernel's refusal that is behind it, if one is.
    pub fn errno(&self) -> Option<i32> {
        let mut cause: Option<&(dyn Error + 'static)> = Some(self);
        while let Some(error) = cause {
            if let Some(number) = error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) {
                return Some(number);
            }
            cause = error.source();
        }
        None
    }

    /// A census of a process failed.
    pub(super) fn census(pid: Pid, error: CensusError) -> Self {
        match error {
            CensusError::Target(error) => error.into(),
            CensusError::Memory(error) => Self::memory(pid, error),
            CensusError::Replaced { pid } => Self::Replaced(pid),
        }
    }

    /// A process's memory could not be read.
    pub(super) fn memory(pid: Pid, error: MemoryError) -> Self {
        Self::Target(match error {
            MemoryError::Vanished { .. } => TargetError::Vanished { pid },
            MemoryError::NotPermitted { capability, .. } => TargetError::NotPermitted {
                pid,
                what: "memory".to_owned(),
                capability,
                source: io::ErrorKind::PermissionDenied.into(),
            },
            MemoryError::Io { source, .. } => TargetError::Io { pid, what: "memory".to_owned(), source },
            MemoryError::Partial { at, .. } => {
                TargetError::Malformed { pid, what: "memory", reason: format!("{at} is not readable") }
            }
        })
    }
}

/// Why an image of a process cannot be observed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unsupported {
    /// A runtime older than what is known.
    TooOld {
        /// The image.
        path: String,
        /// The runtime's version.
        version: String,
        /// Why that is too old.
        reason: String,
    },
    /// The executable is no image that this program reads.
    Image {
        /// The image.
        path: String,
        /// Why not.
        reason: ImageError,
    },
    /// The image's code was moved to memory that is not its file's.
    Moved {
        /// The image.
        path: String,
    },
    /// The image's points do not stand in memory as in its file.
    Unverified {
        /// The image.
        path: String,
        /// In words.
        reason: String,
    },
}

impl Unsupported {
    /// What is missing because of it in a process that can be observed all the same.
    pub(super) fn besides(&self) -> Option<Missing> {
        match self {
            Self::TooOld { path, version, reason } => {
                let reason = format!("{path} holds tokio {version} besides: {reason}");
                Some(Missing { event: "init", reason })
            }
            Self::Moved { .. } => {
                let reason = format!("{}; what it has of a runtime is not seen", self.in_words());
                Some(Missing { event: "init", reason })
            }
            Self::Image { .. } | Self::Unverified { .. } => None,
        }
    }

    /// In one phrase.
    pub(super) fn in_words(&self) -> String {
        match self {
            Self::TooOld { path, version, reason } => format!("{path} holds tokio {version}: {reason}"),
            Self::Image { path, reason } => format!("{path} is {reason}"),
            Self::Moved { path } => {
                format!("the code of {path} was moved to anonymous memory (huge pages): probes cannot reach it")
            }
            Self::Unverified { path, reason } => format!("{path} cannot be probed: {reason}"),
        }
    }
}

fn unreached(pid: Pid, path: &str) -> String {
    format!(
        "the probes of {path} did not reach process {pid} (its file was copied up on an overlay, or its code was moved)"
    )
}

fn nothing(pid: Pid, exe: &str, reasons: &[Unsupported]) -> String {
    let what: Vec<String> = reasons.iter().map(Unsupported::in_words).collect();
    if what.is_empty() {
        format!("process {pid} ({exe}) has no supported async runtime: no tokio task type in any of its images")
    } else {
        format!("process {pid} ({exe}) has nothing to observe: {}", what.join("; "))
    }
}
