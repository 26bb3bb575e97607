//! [`fetch`]: corpus after corpus; what can't be fetched is reported, and the rest continues.

use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail, ensure};
use mm1_data::error_line::error_line;
use mm1_data::shard::Provenance;
use serde::Serialize;

use crate::corpus::Corpus;
use crate::package::{Clients, PackageFile};
use crate::record::{CorpusRecord, UsedPackage, attribute};
use crate::settings::CorpusSettings;
use crate::sink::{Sink, clear};

/// What is fetched, and how.
#[derive(Clone, Debug)]
pub struct FetchOptions {
    /// The folder of the shards.
    pub to: PathBuf,
    /// Names of corpora; all, where there is none.
    pub only: Vec<String>,
    /// The longer side of a rendered drawing, in pixels.
    pub size: u32,
    /// The most words of a passage of text; 0 leaves documents whole.
    pub words: usize,
    /// Whether versions without a known checksum are taken.
    pub unpinned: bool,
    /// Who gets packages.
    pub clients: Clients,
}

/// A corpus that could not be had.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MissingCorpus {
    /// Its name.
    pub corpus: String,
    /// Why, and what to do.
    pub reason: String,
}

/// What was fetched, now or before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FetchReport {
    /// Corpora that are there.
    pub corpora: Vec<CorpusRecord>,
    /// Corpora that are not.
    pub missing: Vec<MissingCorpus>,
}

/// Fetches `corpora`; `progress` gets a line for each. A corpus that is whole is not done again.
///
/// # Errors
/// An unknown name in `only`; a folder that can't be written; a full disk.
pub fn fetch(
    corpora: &[Corpus],
    options: &FetchOptions,
    progress: &mut dyn FnMut(&str),
) -> Result<FetchReport> {
    let FetchOptions { to, only, size, words, .. } = options;
    for name in only {
        let known = || corpora.iter().map(|corpus| corpus.name).collect::<Vec<_>>().join(", ");
        ensure!(corpora.iter().any(|c| c.name == name), "--only: no corpus {name:?}; known: {}", known());
    }
    fs::create_dir_all(to).with_context(|| to.display().to_string())?;
    let settings = CorpusSettings { size: *size, words: *words };
    let mut report = FetchReport::default();
    for corpus in corpora.iter().filter(|c| only.is_empty() || only.iter().any(|name| name == c.name)) {
        if let Some(record) = CorpusRecord::finished(to, corpus.name, settings) {
            progress(&format!("{}: there already", corpus.name));
            report.corpora.push(record);
            continue;
        }
        progress(&format!("{}: {}", corpus.name, corpus.title));
        match make(corpus, options, settings) {
            Ok(record) => {
                let total = record.total();
                progress(&format!(
                    "{}: {} documents, {} pictures, {} words",
                    corpus.name, total.documents, total.images, total.words
                ));
                report.corpora.push(record);
            }
            // All others would fail in the same way, each after its download.
            Err(error) if is_disk(&error) => return Err(error.context(corpus.name)),
            Err(error) => {
                let reason = error_line(&error);
                progress(&format!("{}: missing: {reason}", corpus.name));
                report.missing.push(MissingCorpus { corpus: corpus.name.to_owned(), reason });
            }
        }
    }
    if !report.corpora.is_empty() {
        attribute(to)?;
    }
    Ok(report)
}

fn make(corpus: &Corpus, options: &FetchOptions, settings: CorpusSettings) -> Result<CorpusRecord> {
    let to = options.to.as_path();
    let mut packages: Vec<PackageFile> = Vec::new();
    for package in corpus.packages {
        packages.push(package.get(&options.clients, options.unpinned)?);
    }
    let named = corpus.packages.iter().zip(&packages).map(|(package, got)| UsedPackage {
        client: format!("{:?}", package.client).to_lowercase(),
        name: package.name.to_owned(),
        version: got.version.clone(),
        sha256: got.sha256.clone(),
    });
    let named: Vec<UsedPackage> = named.collect();
    let source: Vec<String> =
        named.iter().map(|s| format!("{} {} {}", s.client, s.name, s.version)).collect();
    let origin = Provenance {
        source: if source.is_empty() { corpus.title.to_owned() } else { source.join(", ") },
        licence: corpus.licence.to_owned(),
        attribution: corpus.attribution.to_owned(),
    };
    CorpusRecord::forget(to, corpus.name)?;
    let mut sink = Sink::new(to, corpus.name, origin)?;
    let paths: Vec<PathBuf> = packages.into_iter().map(|got| got.path).collect();
    let made = (corpus.make)(&paths, settings, &mut sink);
    let written = sink.finish()?;
    let any = written.streams.values().any(|counts| counts.documents > 0);
    if let Err(error) = made.and_then(|()| if any { Ok(()) } else { bail!("no document in its packages") }) {
        // A part of a corpus is none.
        clear(to, corpus.name)?;
        return Err(error);
    }
    let record = CorpusRecord {
        corpus: corpus.name.to_owned(),
        title: corpus.title.to_owned(),
        packages: named,
        licence: corpus.licence.to_owned(),
        attribution: corpus.attribution.to_owned(),
        settings,
        streams: written.streams,
        skipped: written.skipped,
        left_out: written.left_out,
    };
    record.write(to)?;
    Ok(record)
}

/// Whether the disk is why, which no other corpus would mend.
fn is_disk(error: &anyhow::Error) -> bool {
    let full = [ErrorKind::StorageFull, ErrorKind::QuotaExceeded, ErrorKind::ReadOnlyFilesystem];
    error.chain().any(|e| e.downcast_ref::<std::io::Error>().is_some_and(|e| full.contains(&e.kind())))
}
