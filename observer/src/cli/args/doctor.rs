//! Options of `doctor`.

use crate::model::Pid;

use super::values::parse_pid;

/// Options of `doctor`.
#[derive(Clone, Debug, clap::Args)]
pub(in crate::cli) struct Doctor {
    /// Say what would be observed in this process, too, and what would be missing and why (repeatable)
    #[arg(short, long, value_name = "PID", value_parser = parse_pid)]
    pub(in crate::cli) pid: Vec<Pid>,

    /// JSON Lines instead of text
    #[arg(long)]
    pub(in crate::cli) json: bool,

    /// Say more on standard error: what is being looked at
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub(in crate::cli) verbose: u8,
}
