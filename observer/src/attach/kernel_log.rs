//! What the kernel side says in words: the rare anomaly, as texts.
//!
//! Does not know why it is said. Empty unless [`super::Options::kernel_log`] asked for it.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use aya::EbpfLoader;
use aya_log::EbpfLogger;

use super::AttachError;
use super::error::chain;
use super::object::BYTES;

/// More texts than this between two readings are only counted.
const KEPT: usize = 1000;

/// The texts' way out of the kernel.
pub(super) struct KernelLog {
    logger: EbpfLogger<Collector>,
    texts: Arc<Mutex<Texts>>,
}

#[derive(Default)]
struct Texts {
    kept: Vec<String>,
    beyond: u64,
}

/// Receives aya-log's texts one by one.
struct Collector(Arc<Mutex<Texts>>);

impl KernelLog {
    /// Opens it. aya-log takes its ring only out of an object that aya has loaded: one is loaded for that.
    pub(super) fn open() -> Result<Self, AttachError> {
        let texts = Arc::new(Mutex::new(Texts::default()));
        let mut object = EbpfLoader::new().btf(None).load(BYTES)?;
        let logger = EbpfLogger::init_with_logger(&mut object, Collector(Arc::clone(&texts)))
            .map_err(|error| AttachError::Object(chain(&error)))?;
        Ok(Self { logger, texts })
    }

    /// The ring, for the programs to write to.
    pub(super) fn ring(&self) -> io::Result<OwnedFd> {
        self.logger.as_fd().try_clone_to_owned()
    }

    /// The texts since the last reading.
    pub(super) fn read(&mut self) -> Vec<String> {
        self.logger.flush();
        let texts = std::mem::take(&mut *self.texts.lock().unwrap_or_else(PoisonError::into_inner));
        let mut kept = texts.kept;
        if texts.beyond > 0 {
            kept.push(format!("and {} more", texts.beyond));
        }
        kept
    }
}

impl log::Log for Collector {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let mut texts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if texts.kept.len() < KEPT {
            texts.kept.push(record.args().to_string());
        } else {
            texts.beyond += 1;
        }
    }

    fn flush(&self) {}
}
