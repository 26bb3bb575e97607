//! `mm1 data preview`: the rows of a training stage, from the loader that training uses.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args;
use mm1_data::batch::{Batch, BatchExample};
use mm1_data::loader::{Cursor, Loader, LoaderConfig, SkippedSample};
use mm1_data::packed_page::PackedPage;
use mm1_data::printable::printable;
use mm1_eval::counted::counted;
use serde::Serialize;

use crate::arguments::{RecipeArgs, ThreadsArgs};
use crate::error::{InputError, input};
use crate::output::{print_json, tell};
use crate::plan::{Plan, Worker};
use crate::recipe::{RecaptionStage, Recipe, Stage, TrainStage};

#[derive(Debug, Args)]
pub(crate) struct PreviewArgs {
    #[command(flatten)]
    recipe: RecipeArgs,
    /// Number of rows, from the first on.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..))]
    rows: u64,
    /// Training stage. Default: the recipe's first.
    #[arg(long, value_name = "NAME")]
    stage: Option<String>,
    /// Write a page of the rows: every picture as the model is given it, and every token, the learned ones
    /// in colour.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    #[command(flatten)]
    threads: ThreadsArgs,
    /// Print one JSON document as the last line of standard output.
    #[arg(long)]
    json: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Preview<'a> {
    stage: &'a str,
    rows: Vec<PreviewRow>,
    skipped: &'a [SkippedSample],
}

/// One packed row.
#[derive(Serialize)]
struct PreviewRow {
    row: u64,
    source: String,
    samples: Vec<PreviewDocument>,
    tokens: usize,
    images: usize,
    /// Of the images; as many, where none is tiled.
    views: usize,
    padding: usize,
}

/// One document in a row.
#[derive(Serialize)]
struct PreviewDocument {
    id: String,
    tokens: usize,
    images: usize,
    views: usize,
    truncated: bool,
}

/// Shows the rows. Weights are neither read nor drawn.
///
/// # Errors
/// A recipe that is wrong, a stage that does not train, too many damaged documents.
pub(crate) fn preview(args: &PreviewArgs) -> Result<()> {
    let plan = Plan::resolve(args.recipe.read()?, None)?;
    let stage = training_stage(&plan.recipe, args.stage.as_deref())?;
    for name in stage.mixture.keys() {
        if let Some(RecaptionStage { source, .. }) = plan.recipe.recaption(name) {
            tell(format_args!(
                "mm1: warning: the captions of {name} are written by a stage of the run: here its images \
                 have those of data.{source}"
            ));
        }
    }
    let threads = args.threads.count();
    // Which row a batch begins with changes nothing: a row is a function of its number.
    let config = LoaderConfig { rows: 1, ..plan.loader(stage, Worker::alone(threads))? };
    let mut loader = input(Loader::start(config.clone(), Cursor::default()))?;
    let title = format!("{}, stage {}", plan.recipe.name, stage.name);
    let mut page = PackedPage::new(&title, &plan.tokenizer, &config.packing.image);
    let mut rows = Vec::new();
    for number in 0..args.rows {
        let (batch, _) = input(loader.next().with_context(|| format!("stage {}", stage.name)))?;
        rows.push(row(&config, number, &batch));
        if let (Some(row), true) = (rows.last(), args.html.is_some()) {
            page.row(&heading(row), &batch);
        }
        if !args.json {
            print!("{}", rows.last().map(describe).unwrap_or_default());
        }
    }
    let preview = Preview { stage: &stage.name, rows, skipped: loader.skipped() };
    if let Some(path) = &args.html {
        preview.skipped.iter().for_each(|s| page.line(&format!("skipped {}: {}", s.id, s.reason)));
        super::write(path, &page.finish(&title))?;
        tell(format_args!("written: {}", path.display()));
    }
    if args.json {
        print_json(&preview)?;
    } else {
        summary(&preview, stage);
    }
    Ok(())
}

fn training_stage<'a>(recipe: &'a Recipe, name: Option<&str>) -> Result<&'a TrainStage> {
    let mut stages = recipe.stage.iter().filter_map(Stage::training);
    let found = match name {
        Some(name) => stages.find(|stage| stage.name == name),
        None => stages.next(),
    };
    found.ok_or_else(|| {
        let known: Vec<&str> =
            recipe.stage.iter().filter_map(Stage::training).map(|s| s.name.as_str()).collect();
        let wanted = name.map_or("the recipe has no training stage".to_owned(), |name| {
            format!("--stage {name}: no training stage has this name")
        });
        InputError::new(format!("{wanted}; there are: {}", known.join(", "))).into()
    })
}

fn row(config: &LoaderConfig, number: u64, batch: &Batch) -> PreviewRow {
    let source = config.mixture.draw(config.seed, number);
    let sample = |example: &BatchExample| PreviewDocument {
        id: example.sample.clone(),
        tokens: example.len,
        images: example.views.len(),
        views: example.slots.len(),
        truncated: example.truncated,
    };
    PreviewRow {
        row: number,
        source: config.mixture.parts()[source].name.clone(),
        samples: batch.examples.iter().map(sample).collect(),
        tokens: batch.tokens(),
        images: batch.pictures(),
        views: batch.images(),
        padding: batch.length - batch.tokens(),
    }
}

/// A row in a line.
fn heading(row: &PreviewRow) -> String {
    let length = row.tokens + row.padding;
    format!(
        "row {}  {}  {}, {}, {} of {length} tokens ({:.0}% padding)",
        row.row,
        row.source,
        counted(row.samples.len() as u64, "document"),
        images(row.images, row.views),
        row.tokens,
        100.0 * row.padding as f64 / length as f64
    )
}

/// `2 images`, `2 images in 10 views`.
fn images(images: usize, views: usize) -> String {
    let pictures = counted(images as u64, "image");
    if views == images { pictures } else { format!("{pictures} in {}", counted(views as u64, "view")) }
}

/// A row and its documents, a line each.
fn describe(row: &PreviewRow) -> String {
    use std::fmt::Write as _;

    let mut text = heading(row) + "\n";
    for PreviewDocument { id, tokens, images, views, truncated } in &row.samples {
        let pictures = if *images == 1 { "image " } else { "images" };
        let cut = if *truncated { "  cut: longer than a row" } else { "" };
        let tiles = if views == images { String::new() } else { format!(" in {views:>3} views") };
        let _ = writeln!(text, "  {tokens:>6} tokens {images:>4} {pictures}{tiles}  {}{cut}", printable(id));
    }
    text
}

fn summary(preview: &Preview, stage: &TrainStage) {
    let sum = |of: fn(&PreviewRow) -> usize| preview.rows.iter().map(of).sum::<usize>();
    let room = preview.rows.len() * stage.length;
    println!(
        "stage {}: {} of {} tokens, {:.1}% filled, {}, {}, {} skipped",
        preview.stage,
        counted(preview.rows.len() as u64, "row"),
        stage.length,
        100.0 * sum(|row| row.tokens) as f64 / room as f64,
        counted(sum(|row| row.samples.len()) as u64, "document"),
        images(sum(|row| row.images), sum(|row| row.views)),
        counted(preview.skipped.len() as u64, "document")
    );
    for SkippedSample { id, reason } in preview.skipped {
        println!("  {}: {}", printable(id), printable(reason));
    }
}
