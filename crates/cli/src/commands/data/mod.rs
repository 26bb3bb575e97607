//! `mm1 data`: what is done with data before training. One file a command.

pub(crate) mod fetch;
mod preview;

use anyhow::Result;
use clap::Subcommand;

/// Work with data before training.
#[derive(Debug, Subcommand)]
pub(crate) enum DataCommand {
    /// Get real corpora by the machine's own package clients, as shards.
    Fetch(fetch::FetchArgs),
    /// Show the next rows of a recipe's stage as training would see them.
    Preview(preview::PreviewArgs),
}

/// Does one of the commands.
///
/// # Errors
/// Wrong input; a disk that is full.
pub(crate) fn data(command: &DataCommand) -> Result<()> {
    match command {
        DataCommand::Fetch(args) => fetch::fetch(args),
        DataCommand::Preview(args) => preview::preview(args),
    }
}

/// The number of threads: as asked, or one for each core.
fn threads(asked: Option<u16>) -> usize {
    asked.map_or_else(|| std::thread::available_parallelism().map_or(1, usize::from), usize::from)
}
