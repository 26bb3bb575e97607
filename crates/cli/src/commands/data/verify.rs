//! `mm1 data verify`: whether data is whole.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;
use mm1_data::examine::PictureCheck;
use mm1_data::source::detect::UnusedFile;
use mm1_data::task::{DONE, TaskFolder, TaskHeader};
use mm1_data::verify::{self, Verified};
use serde_json::json;

use super::sources::{DocumentProgress, Share, SourceArgs, TaskArgs, account_table, counted, task_done};
use crate::error::{InputError, input};
use crate::output::print_json;

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    #[command(flatten)]
    sources: SourceArgs,
    #[command(flatten)]
    task: TaskArgs,
    /// Folder of the tasks; with --task. A task that finds problems ends well: the join reports them.
    #[arg(long, value_name = "DIR", requires = "task")]
    to: Option<PathBuf>,
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
    let (detected, share) = args.sources.detect_share(&store, args.task)?;
    let folder = share.map(|share| args.folder(share)).transpose()?;
    let to = args.to.as_deref().unwrap_or(Path::new(""));
    if folder.as_ref().is_some_and(|folder| folder.has(DONE)) {
        return task_done(to, args.task.task, args.json);
    }
    // How many documents there are shows as files are opened one after the other.
    let mut bar = DocumentProgress::open_ended("verifying");
    let how = args.sources.examination(PictureCheck::Pixels);
    let share = input(verify::verify_share(&detected, &store, how, &mut |done| bar.update(done)))?;
    if let Some(folder) = folder {
        bar.finish("the share is verified");
        input(folder.finish(DONE, &share))?;
        return task_done(to, args.task.task, args.json);
    }
    let verified = verify::join(&[share])?;
    bar.finish(&format!(
        "whole: {} and {} in {}, beside {}",
        counted(verified.documents, "document"),
        counted(verified.images, "image"),
        counted(verified.files, "file"),
        counted(verified.manifests, "manifest")
    ));
    report(&verified, &detected.left, args.json)
}

impl VerifyArgs {
    fn folder(&self, share: Share) -> Result<TaskFolder> {
        let header = TaskHeader::new("verify", share.task.of, &[("input", share.input)]);
        let to = self.to.as_deref().context("--task needs --to DIR, the folder of all tasks");
        input(to.and_then(|to| TaskFolder::open(to, share.task, header)))
    }
}

/// What was found, by one process or by tasks.
///
/// # Errors
/// Any problem with the data.
pub(super) fn report(verified: &Verified, left: &[UnusedFile], as_json: bool) -> Result<()> {
    if as_json {
        let mut report = serde_json::to_value(verified)?;
        report["whole"] = json!(verified.problems.is_empty());
        report["files_left_out"] = json!(left);
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
