//! Prints the words of each line, as captions are scored by: `words < captions.txt`.

use std::io::{BufRead as _, BufWriter, Write as _};

fn main() -> std::io::Result<()> {
    let mut out = BufWriter::new(std::io::stdout().lock());
    for line in std::io::stdin().lock().lines() {
        writeln!(out, "{}", mm1_eval::score::ptb::tokenize(&line?))?;
    }
    out.flush()
}
