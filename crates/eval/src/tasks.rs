//! The benchmarks, one file each: [`SETS`] by name, and tasks of a user's own ([`own`]).

pub mod benchmark;
pub mod facts;
mod harness;
mod json;
pub mod own;
pub mod picture;
mod reader;
#[cfg(feature = "emoji")]
pub mod scenes;
pub mod source;

pub mod coco;
pub mod flickr30k;
pub mod nocaps;
pub mod textcaps;

pub mod ai2d;
pub mod chartqa;
pub mod docvqa;
pub mod gqa;
pub mod ok_vqa;
pub mod scienceqa;
pub mod textvqa;
pub mod vizwiz;
pub mod vqav2;

pub mod mathvista;
pub mod mmbench;
pub mod mme;
pub mod mmmu;
pub mod pope;
pub mod seed;

pub mod arc;
pub mod hellaswag;
pub mod lambada;
pub mod piqa;
pub mod sciq;
pub mod triviaqa;
pub mod webqs;
pub mod winogrande;

use std::path::Path;

use anyhow::{Context as _, Result};

use self::benchmark::Benchmark;

/// Opens a set in its folder.
pub type Open = fn(&Path) -> Result<Benchmark>;

/// The sets that are read from disk: captions, questions about pictures, the benchmarks of tuned models,
/// TextCore.
pub const SETS: [(&str, Open); 29] = [
    ("coco", coco::open),
    ("flickr30k", flickr30k::open),
    ("nocaps", nocaps::open),
    ("textcaps", textcaps::open),
    ("ai2d", ai2d::open),
    ("chartqa", chartqa::open),
    ("docvqa", docvqa::open),
    ("gqa", gqa::open),
    ("ok-vqa", ok_vqa::open),
    ("scienceqa", scienceqa::open),
    ("textvqa", textvqa::open),
    ("vizwiz", vizwiz::open),
    ("vqav2", vqav2::open),
    ("mathvista", mathvista::open),
    ("mmbench", mmbench::open),
    ("mmbench-circular", mmbench::circular),
    ("mme", mme::open),
    ("mmmu", mmmu::open),
    ("pope", pope::open),
    ("seed", seed::open),
    ("arc-e", arc::easy),
    ("arc-c", arc::challenge),
    ("piqa", piqa::open),
    ("lambada", lambada::open),
    ("winogrande", winogrande::open),
    ("hellaswag", hellaswag::open),
    ("sciq", sciq::open),
    ("triviaqa", triviaqa::open),
    ("webqs", webqs::open),
];

/// The paper's text benchmarks (MM1, section 3): TextCore is the mean over these sets.
pub const TEXT_CORE: [&str; 9] =
    ["arc-e", "arc-c", "piqa", "lambada", "winogrande", "hellaswag", "sciq", "triviaqa", "webqs"];

/// Opens the set `name` in the folder `data/NAME`.
///
/// # Errors
/// An unknown name; files that are missing or have another form.
pub fn open(name: &str, data: &Path) -> Result<Benchmark> {
    let known = || SETS.map(|(name, _)| name).join(", ");
    let set = SETS.iter().find(|(set, _)| *set == name);
    let (_, open) = set.with_context(|| format!("no benchmark {name:?}; known: {}", known()))?;
    open(&data.join(name)).with_context(|| name.to_owned())
}
