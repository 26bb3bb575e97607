//! The benchmarks, one file each: [`SETS`] by name, and tasks of a user's own ([`own`]).

pub mod arc;
pub mod benchmark;
mod harness;
pub mod hellaswag;
mod json;
pub mod lambada;
pub mod own;
pub mod piqa;
#[cfg(feature = "emoji")]
pub mod scenes;
pub mod sciq;
pub mod source;
pub mod triviaqa;
pub mod webqs;
pub mod winogrande;

use std::path::Path;

use anyhow::{Context as _, Result};

use self::benchmark::Benchmark;

/// What opens a set in its folder.
pub type Open = fn(&Path) -> Result<Benchmark>;

/// The sets that can be opened by name.
pub const SETS: [(&str, Open); 9] = [
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

/// Opens the set `name`, whose files are in the folder `name` of `data`.
///
/// # Errors
/// An unknown name, or files that can't be read: one line with the remedy.
pub fn open(name: &str, data: &Path) -> Result<Benchmark> {
    let known = || {
        let names: Vec<&str> = SETS.iter().map(|(name, _)| *name).collect();
        format!("there is no benchmark {name}; known: {}", names.join(", "))
    };
    let (_, open) = SETS.iter().find(|(known, _)| *known == name).with_context(known)?;
    open(&data.join(name))
}
