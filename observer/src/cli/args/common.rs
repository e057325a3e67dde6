//! Options that every command has.

use std::path::PathBuf;

use clap::builder::NonEmptyStringValueParser;

use crate::model::Pid;
use crate::session::{Caching, Names, Selection, Within};

use super::values::parse_pid;

/// Which processes, and where the output goes.
#[derive(Clone, Debug, clap::Args)]
pub(in crate::cli) struct Common {
    /// Look at this process (repeatable)
    #[arg(short, long, value_name = "PID", value_parser = parse_pid)]
    pub(in crate::cli) pid: Vec<Pid>,

    /// Look at the processes whose name is NAME, as `ps -o comm` shows it (repeatable)
    #[arg(short, long, value_name = "NAME")]
    pub(in crate::cli) name: Vec<String>,

    /// Look at every process of the machine that runs a supported runtime
    #[arg(short, long, conflicts_with_all = ["pid", "name"])]
    pub(in crate::cli) all: bool,

    /// With --all: only processes whose control group's path holds TEXT
    #[arg(long, value_name = "TEXT", requires = "all", value_parser = NonEmptyStringValueParser::new())]
    pub(in crate::cli) cgroup: Option<String>,

    /// With --all: only processes of the container whose id begins with ID
    #[arg(long, value_name = "ID", requires = "all", value_parser = NonEmptyStringValueParser::new())]
    pub(in crate::cli) container: Option<String>,

    /// Write there; - is standard output. ps and sweep write the live tasks as a profile to a FILE that ends in .pb.gz
    /// (for pprof) or .folded (for flame graphs), and the rest to standard output
    #[arg(short, long, value_name = "FILE")]
    pub(in crate::cli) output: Option<PathBuf>,

    /// JSON Lines instead of text
    #[arg(long)]
    pub(in crate::cli) json: bool,

    /// Do not look for the names of future types (faster on very large images)
    #[arg(long)]
    pub(in crate::cli) no_names: bool,

    /// Look for debug information that lies apart from its program or library in this folder, too (repeatable): as
    /// .build-id/xx/yyyy.debug, NAME.debug, NAME.dwp or .dwo files. It is found by itself beside the program, in /usr/lib/debug, and
    /// where the compiler wrote it
    #[arg(long, value_name = "DIR", conflicts_with = "no_names")]
    pub(in crate::cli) debug_dir: Vec<PathBuf>,

    /// Keep what is known of programs and libraries in this folder (otherwise $XDG_CACHE_HOME/async-observer, or
    /// /var/cache/async-observer for root, or ~/.cache/async-observer; it may be deleted at any time)
    #[arg(long, value_name = "DIR", conflicts_with = "no_cache")]
    pub(in crate::cli) cache_dir: Option<PathBuf>,

    /// Analyse programs and libraries anew, and keep nothing of it on disk
    #[arg(long)]
    pub(in crate::cli) no_cache: bool,

    /// Say less on standard error
    #[arg(short, long, conflicts_with = "verbose")]
    pub(in crate::cli) quiet: bool,

    /// Say more on standard error, and spell types as the compiler does (`app::echo::{async_fn}`, not `app::echo`); twice: what the
    /// kernel side logs, too
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub(in crate::cli) verbose: u8,
}

impl Common {
    /// 0 nothing, 1 progress, more: details.
    pub(in crate::cli) fn verbosity(&self) -> u8 {
        if self.quiet { 0 } else { self.verbose.saturating_add(1) }
    }

    /// Whether types are named, and by which files.
    pub(in crate::cli) fn names(&self) -> Names {
        if self.no_names { Names::Unwanted } else { Names::Wanted(self.debug_dir.clone()) }
    }

    /// Where what is known of images is kept.
    pub(in crate::cli) fn caching(&self) -> Caching {
        match &self.cache_dir {
            _ if self.no_cache => Caching::Off,
            Some(folder) => Caching::In(folder.clone()),
            None => Caching::Usual,
        }
    }

    /// Which processes; `None` where none was named.
    pub(in crate::cli) fn selection(&self) -> Option<Selection> {
        let (pids, names) = (self.pid.clone(), self.name.clone());
        match self.all {
            true => {
                Some(Selection::Everyone(Within { cgroup: self.cgroup.clone(), container: self.container.clone() }))
            }
            false => (!pids.is_empty() || !names.is_empty()).then_some(Selection::Running { pids, names }),
        }
    }
}
