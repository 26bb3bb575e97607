//! `mm1 data`: what is done with data before training. One file a command.

mod fetch;
mod import;
mod inspect;
mod join;
mod preview;
mod recaption;
#[cfg(feature = "emoji")]
mod sample;
mod sources;
mod stats;
mod verify;

use std::path::Path;

use anyhow::Result;
use clap::Subcommand;

use crate::error::InputError;

/// Download, convert, inspect, count and verify data; preview the packed rows of a recipe.
#[derive(Debug, Subcommand)]
pub(crate) enum DataCommand {
    /// Download real corpora with the machine's own package clients, as shards.
    Fetch(fetch::FetchArgs),
    /// Convert data of any format into shards, filtered by the paper's rules.
    Import(Box<import::ImportArgs>),
    /// Show one document: its texts and images in order.
    Inspect(inspect::InspectArgs),
    /// Join the tasks of an import, a recaption, stats or verify that were done with --task; exit code 2 if
    /// tasks are missing, with their numbers.
    Join(join::JoinArgs),
    /// Show the first packed rows of a recipe's stage, as training would see them.
    Preview(preview::PreviewArgs),
    /// Write synthetic captions by a trained model, joined with those that the images have.
    Recaption(recaption::RecaptionArgs),
    /// Write built-in pictures with captions into a folder, to try the program as with pictures of one's own.
    #[cfg(feature = "emoji")]
    Sample(sample::SampleArgs),
    /// Count documents, images, words and tokens.
    Stats(stats::StatsArgs),
    /// Read everything and list what is damaged; exit code 2 if anything is.
    Verify(verify::VerifyArgs),
}

/// Does one of the commands.
///
/// # Errors
/// Wrong input; a disk that is full.
pub(crate) fn data(command: &DataCommand) -> Result<()> {
    match command {
        DataCommand::Fetch(args) => fetch::fetch(args),
        DataCommand::Import(args) => import::import(args),
        DataCommand::Inspect(args) => inspect::inspect(args),
        DataCommand::Join(args) => join::join(args),
        DataCommand::Preview(args) => preview::preview(args),
        DataCommand::Recaption(args) => recaption::recaption(args),
        #[cfg(feature = "emoji")]
        DataCommand::Sample(args) => sample::sample(args),
        DataCommand::Stats(args) => stats::stats(args),
        DataCommand::Verify(args) => verify::verify(args),
    }
}

/// Writes a file that the person named.
fn write(path: &Path, text: &str) -> Result<()> {
    let written = std::fs::write(path, text);
    written.map_err(|e| InputError::new(format!("{}: can't be written: {e}", path.display())).into())
}
