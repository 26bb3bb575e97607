//! Our side of `bench/data`: loads as many batches as each line on standard input says, and answers it with
//! one line of JSON.
//!
//!     bench_load CONFIG.json
//!
//! The tokenizer is learned from `learn_from` and written where `tokenizer` says, unless it is there.

use std::fs::{self, File};
use std::io::{BufRead as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result};
use mm1_data::augment::PictureViews;
use mm1_data::batch::BatchContent;
use mm1_data::image::{DecodeBudget, Fit, ImageConfig};
use mm1_data::loader::{Cursor, Loader, LoaderConfig, RankShare, RowFill};
use mm1_data::mixture::{Mixture, MixturePart};
use mm1_data::pack::Packing;
use mm1_data::source::SourceConfig;
use mm1_data::tokenizer::Tokenizer;
use serde::Deserialize;
use serde_json::json;

/// As the program itself has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Deserialize)]
struct Config {
    source: SourceConfig,
    tokenizer: PathBuf,
    /// A text file.
    learn_from: PathBuf,
    rows: usize,
    length: usize,
    /// Side of a picture.
    size: usize,
    image_tokens: usize,
    threads: usize,
    /// This loader's rank, of `ranks`.
    #[serde(default)]
    rank: u32,
    #[serde(default = "one")]
    ranks: u32,
}

fn one() -> u32 {
    1
}

fn main() -> Result<()> {
    let path = std::env::args().nth(1).context("usage: bench_load CONFIG.json")?;
    let config: Config = serde_json::from_reader(File::open(path)?)?;
    let mut loader = Loader::start(loader_config(&config)?, Cursor::default())?;
    for line in std::io::stdin().lock().lines() {
        let batches: usize = line?.trim().parse().context("a number of batches")?;
        let (started, mut images, mut tokens) = (Instant::now(), 0, 0);
        for _ in 0..batches {
            let (batch, _) = loader.next()?;
            images += batch.images();
            tokens += batch.tokens();
        }
        let seconds = started.elapsed().as_secs_f64();
        let mut out = std::io::stdout().lock();
        writeln!(out, "{}", json!({ "images": images, "tokens": tokens, "seconds": seconds }))?;
        out.flush()?;
    }
    Ok(())
}

fn loader_config(config: &Config) -> Result<LoaderConfig> {
    let part =
        MixturePart { name: "bench".to_owned(), source: config.source.open("bench", 1, None)?, weight: 1.0 };
    let packing = Packing {
        tokenizer: Arc::new(tokenizer(&config.tokenizer, &config.learn_from)?),
        image: ImageConfig { mode: Fit::CentreCrop, ..ImageConfig::default() }.of_size(config.size),
        views: PictureViews::default(),
        image_tokens: config.image_tokens,
        length: config.length,
        decoding: DecodeBudget::default(),
    };
    Ok(LoaderConfig {
        mixture: Mixture::new(vec![part])?,
        packing,
        rows: config.rows,
        fill: RowFill::Packed,
        content: BatchContent::Language,
        share: RankShare { rank: config.rank, ranks: config.ranks },
        seed: 1,
        threads: config.threads,
        max_skipped_share: 0.0,
    })
}

fn tokenizer(path: &Path, learn_from: &Path) -> Result<Tokenizer> {
    if !path.exists() {
        let text = fs::read_to_string(learn_from)?;
        Tokenizer::train(text.lines().map(str::to_owned), 16_384)?.save(path)?;
    }
    Tokenizer::load(path)
}
