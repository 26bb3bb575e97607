//! `mm1 data verify`: whether data is whole.

use anyhow::Result;
use clap::Args;
use mm1_data::examine::PictureCheck;
use mm1_data::verify;
use serde_json::json;

use super::sources::{DocumentProgress, SourceArgs, account_table, counted};
use crate::error::{InputError, input};
use crate::output::print_json;

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    #[command(flatten)]
    sources: SourceArgs,
    /// Print one JSON document as the last line of standard output.
    #[arg(long)]
    json: bool,
}

/// Compares shards with their manifests, reads every document and decodes every picture.
///
/// # Errors
/// Wrong input, and any problem with the data.
pub(crate) fn verify(args: &VerifyArgs) -> Result<()> {
    let store = SourceArgs::store()?;
    let detected = args.sources.detect(&store)?;
    // How many documents there are shows as files are opened one after the other.
    let mut bar = DocumentProgress::open_ended("verifying");
    let how = args.sources.examination(PictureCheck::Pixels);
    let verified = input(verify::verify(&detected, &store, how, &mut |done| bar.update(done)))?;
    bar.finish(&format!(
        "whole: {} and {} in {}, beside {}",
        counted(verified.documents, "document"),
        counted(verified.images, "image"),
        counted(verified.files, "file"),
        counted(verified.manifests, "manifest")
    ));
    if args.json {
        let mut report = serde_json::to_value(&verified)?;
        report["whole"] = json!(verified.problems.is_empty());
        report["files_left_out"] = json!(detected.left);
        print_json(&report)?;
    } else {
        verified.problems.iter().for_each(|problem| println!("{problem}"));
        print!("{}", account_table(&verified.account, &verified.left_out));
    }
    match verified.problems.len() {
        0 => Ok(()),
        1 => Err(InputError::new("1 problem was found").into()),
        n => Err(InputError::new(format!("{n} problems were found")).into()),
    }
}
