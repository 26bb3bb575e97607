//! Prints the words of each line, as captions are scored by: `words < captions.txt`.

use std::io::{BufRead as _, BufWriter, Write as _};

use mm1_eval::score::ptb::PtbTokenizer;

fn main() -> std::io::Result<()> {
    let mut out = BufWriter::new(std::io::stdout().lock());
    let words = PtbTokenizer::new();
    for line in std::io::stdin().lock().lines() {
        writeln!(out, "{}", words.tokenize(&line?))?;
    }
    out.flush()
}
