//! `mm1 data sample`: built-in pictures with captions in a folder, as a person's own pictures would be.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use clap::{Args, ValueEnum};
use mm1_data::show;
use mm1_data::source::Split;
use mm1_data::world::{DetailKind, World, WorldConfig};
use serde_json::json;

use crate::error::{InputError, input};
use crate::output::{print_json, tell};

/// Different emoji: few, so that a small model can learn all of them from a few hundred pictures.
const EMOJI: usize = 12;

/// What the pictures show.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum SampleKind {
    /// One emoji on a coloured background.
    Emoji,
    /// Streets, receipts, tables, maps, charts and crowds in turn, with small letters and things. Their
    /// questions stand in questions.jsonl.
    Detail,
}

#[derive(Debug, Args)]
pub(crate) struct SampleArgs {
    /// The folder to write, which is made: 001.png and so on, with a caption beside each in 001.txt.
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// Number of pictures.
    #[arg(long, value_name = "N", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    number: u64,
    /// What the pictures show.
    #[arg(long, value_enum, default_value_t = SampleKind::Emoji)]
    kind: SampleKind,
    /// Longer side of the largest pictures of the kind detail, in pixels.
    #[arg(long, value_name = "PIXELS", default_value_t = WorldConfig::default().detail_size, value_parser = clap::value_parser!(u32).range(32..=1344))]
    detail_size: u32,
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
    match args.kind {
        SampleKind::Emoji => emoji(args)?,
        SampleKind::Detail => detail(args)?,
    }
    let pictures = if args.number == 1 { "picture" } else { "pictures" };
    tell(format_args!("{} {pictures} with captions in {shown}", args.number));
    if args.json {
        print_json(&json!({ "to": args.to, "pictures": args.number }))?;
    }
    Ok(())
}

fn emoji(args: &SampleArgs) -> Result<()> {
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
    Ok(())
}

/// Each kind in turn, and a line for each question in the form of a task file's items.
fn detail(args: &SampleArgs) -> Result<()> {
    let config = WorldConfig { detail_size: args.detail_size, ..WorldConfig::default() };
    let world = input(World::new(&config, args.seed))?;
    let kinds = DetailKind::ALL.len() as u64;
    let mut questions = String::new();
    for at in 0..args.number {
        let kind = DetailKind::ALL[(at % kinds) as usize];
        let shown = world.detail(Split::Train, kind, at / kinds);
        let name = format!("{:03}", at + 1);
        let picture = world.detail_picture(&shown).into();
        put(&args.to.join(format!("{name}.png")), &show::png(&picture)?)?;
        put(&args.to.join(format!("{name}.txt")), format!("{}\n", shown.caption).as_bytes())?;
        for (asked, question) in (1..).zip(&shown.questions) {
            let line = json!({
                "id": format!("{name}-{asked}"), "image": format!("{name}.png"), "question": question.text,
                "answers": question.answers, "category": question.category.name(),
                "letters": question.letters.map(|letters| json!({
                    "pixels": letters.pixels, "share": letters.share, "class": letters.class(),
                })),
            });
            questions.push_str(&format!("{line}\n"));
        }
    }
    put(&args.to.join("questions.jsonl"), questions.as_bytes())
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
