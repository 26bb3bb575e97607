//! `mm1 data sample`: built-in pictures with captions in a folder, as a person's own pictures would be.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use mm1_data::show;
use mm1_data::source::Split;
use mm1_data::world::{World, WorldConfig};
use serde_json::json;

use crate::error::{InputError, input};
use crate::output::{print_json, tell};

/// Different emoji: few, so that a small model can learn all of them from a few hundred pictures.
const EMOJI: usize = 12;

#[derive(Debug, Args)]
pub(crate) struct SampleArgs {
    /// The folder to write, which is made: 001.png and so on, with a caption beside each in 001.txt.
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// Number of pictures.
    #[arg(long, value_name = "N", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    number: u64,
    /// From which the pictures follow.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print one JSON document as the last line of standard output.
    #[arg(long)]
    json: bool,
}

/// Writes the pictures.
///
/// # Errors
/// A folder that holds something already, or can't be written.
pub(crate) fn sample(args: &SampleArgs) -> Result<()> {
    let shown = args.to.display();
    let empty = fs::read_dir(&args.to).map_or(true, |mut entries| entries.next().is_none());
    ensure!(empty, InputError::new(format!("--to {shown}: not empty; give a new folder")));
    fs::create_dir_all(&args.to)
        .map_err(|e| InputError::new(format!("--to {shown}: the folder can't be made: {e}")))?;
    let world = input(World::new(&WorldConfig { emoji: EMOJI, ..WorldConfig::default() }, args.seed))?;
    // Of one emoji each: their captions are short.
    let simple = |index: &u64| world.caption_scene(Split::Train, *index).objects.len() == 1;
    for (number, index) in (1..=args.number).zip((0..).filter(simple)) {
        let item = world.caption_question(Split::Train, index);
        let picture = item.pictures.first().context("a caption without a picture")?;
        let caption = capital(item.answers.first().map_or("", String::as_str));
        let name = args.to.join(format!("{number:03}"));
        put(&name.with_extension("png"), &show::png(picture)?)?;
        put(&name.with_extension("txt"), format!("{caption}\n").as_bytes())?;
    }
    let pictures = if args.number == 1 { "picture" } else { "pictures" };
    tell(format_args!("{} {pictures} with captions in {shown}", args.number));
    if args.json {
        print_json(&json!({ "to": args.to, "pictures": args.number }))?;
    }
    Ok(())
}

/// Writes a file of the folder.
fn put(path: &Path, bytes: &[u8]) -> Result<()> {
    fs::write(path, bytes).with_context(|| format!("writing {}", path.display()))
}

/// The caption as a sentence.
fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}
