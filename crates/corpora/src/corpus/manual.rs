//! Manuals as HTML: pages with screenshots, photographs, plots and maps among their text.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use mm1_data::document::{Document, DocumentKind};
use mm1_data::error_line::error_line;
use mm1_data::filter::{DocumentFilter, FilterSpec};
use mm1_data::source::SourceConfig;
use mm1_data::source::album::MissingPicture;
use mm1_data::store::{Paths, Store, StoreSpec};

use super::definition::Corpus;
use crate::archive::{UnpackLimits, unpack};
use crate::package::{Client, Package, Version};
use crate::passage::passages;
use crate::settings::CorpusSettings;
use crate::sink::Sink;

pub(super) const GIMP: Corpus = Corpus {
    name: "gimp-help",
    title: "GIMP's user manual in English",
    packages: &[Package {
        client: Client::Apt,
        name: "gimp-help-en",
        known: &[Version {
            version: "2.10.34-2",
            sha256: "a2deec76763aaf2fcdd197bac0736cdcb0770ba993d48d233329e1c92b0bfe36",
        }],
    }],
    licence: "GFDL-1.2-or-later",
    attribution: "The GIMP Documentation Team",
    make: |packages, settings, sink| make(packages, "usr/share/gimp/2.0/help/en/", settings, sink),
};

pub(super) const SKLEARN: Corpus = Corpus {
    name: "sklearn-doc",
    title: "scikit-learn's user guide, examples and reference",
    packages: &[Package {
        client: Client::Apt,
        name: "python-sklearn-doc",
        known: &[Version {
            version: "1.2.1+dfsg-1",
            sha256: "4e244556326064e87e7563e3e544c2288d44b5719db2d7b3a85c9a84ae93488d",
        }],
    }],
    licence: "BSD-3-Clause",
    attribution: "The scikit-learn developers",
    make: |packages, settings, sink| make(packages, "usr/share/doc/python-sklearn-doc/html/", settings, sink),
};

pub(super) const SKIMAGE: Corpus = Corpus {
    name: "skimage-doc",
    title: "scikit-image's user guide, examples and reference",
    packages: &[Package {
        client: Client::Apt,
        name: "python-skimage-doc",
        known: &[Version {
            version: "0.19.3-8",
            sha256: "2c87d8f7d4504b29fe80283a24a153fb4175b0e4964bd90a2a0152b36bb6b468",
        }],
    }],
    licence: "BSD-3-Clause",
    attribution: "The scikit-image team",
    make: |packages, settings, sink| make(packages, "usr/share/doc/python-skimage-doc/html/", settings, sink),
};

pub(super) const SCIPY: Corpus = Corpus {
    name: "scipy-doc",
    title: "SciPy's user guide and reference",
    packages: &[Package {
        client: Client::Apt,
        name: "python-scipy-doc",
        known: &[Version {
            version: "1.10.1-2",
            sha256: "a237fdcef1675622f1a5d8a291c64feba140615130ee625554f94772d4ea3ad7",
        }],
    }],
    licence: "BSD-3-Clause",
    attribution: "The SciPy community",
    make: |packages, settings, sink| make(packages, "usr/share/doc/python-scipy-doc/html/", settings, sink),
};

pub(super) const GRASS: Corpus = Corpus {
    name: "grass-doc",
    title: "GRASS GIS's manual",
    packages: &[Package {
        client: Client::Apt,
        name: "grass-doc",
        known: &[Version {
            version: "8.2.1-1",
            sha256: "0f6da53d1f7d51b019dfe64bf45718b64022989afc94bb6c833f495aa2f61ff7",
        }],
    }],
    licence: "GPL-2.0-or-later, parts GFDL",
    attribution: "The GRASS Development Team",
    make: |packages, settings, sink| make(packages, "usr/share/doc/grass-doc/html/", settings, sink),
};

/// Pictures that the HTML reader knows, and pages.
const ENDINGS: [&str; 7] = [".html", ".htm", ".jpg", ".jpeg", ".png", ".gif", ".webp"];
/// Folders that are no content: sources and downloads.
const FOLDERS: [&str; 4] = ["_static/", "_sources/", "_downloads/", "_modules/"];
/// Pages that are lists of links.
const LISTS: [&str; 5] = ["genindex", "search.html", "py-modindex", "full_index", "keywords.html"];
/// What a picture of content is: at least so many pixels on its shorter side, used so often at most.
const CONTENT: (u32, u32) = (48, 4);

fn make(packages: &[PathBuf], root: &str, settings: CorpusSettings, sink: &mut Sink) -> Result<()> {
    let folder = tempfile::tempdir().context("a folder for the pages")?;
    extract(&packages[0], root, &folder.path().join("pages"))?;
    let documents = pages(folder.path(), sink)?;
    let mut filter = DocumentFilter::new(FilterSpec {
        min_side: CONTENT.0,
        max_uses: CONTENT.1,
        // Screenshots of menus and rows of plots are long.
        max_aspect: 20.0,
        names: Vec::new(),
        ..FilterSpec::default()
    })?;
    // Two passes over all pages: a logo shows by its uses, which are known at the end.
    // Without keys: the pictures of one package are of one codec, and its shards stay as they were.
    documents.iter().for_each(|document| filter.observe(document, Vec::new()));
    for document in documents {
        let Some(mut document) = filter.apply(document) else { continue };
        if document.pictures().next().is_none() {
            document.kind = DocumentKind::TextOnly;
        }
        for passage in passages(document, settings.words) {
            sink.push_page(&passage)?;
        }
    }
    let counts = filter.counts();
    let rules = |what: &str, removed: &std::collections::BTreeMap<_, u64>| {
        removed
            .iter()
            .map(|(rule, count)| (format!("{what} by the rule {rule:?}"), *count))
            .collect::<Vec<_>>()
    };
    let removed = [rules("pictures", &counts.removed_pictures), rules("pages", &counts.removed_documents)];
    removed.into_iter().flatten().for_each(|(rule, count)| sink.leave_out(rule, count));
    Ok(())
}

/// Writes the pages and pictures below `root` of the package into `to`. Names were checked by the unpacking.
fn extract(package: &Path, root: &str, to: &Path) -> Result<()> {
    let wanted = |name: &str| {
        let lower = name.to_lowercase();
        name.starts_with(root)
            && ENDINGS.iter().any(|end| lower.ends_with(end))
            && !FOLDERS.iter().any(|folder| name.contains(folder))
            && !LISTS.iter().any(|list| name.contains(list))
    };
    let mut found = false;
    unpack(package, UnpackLimits::default(), &wanted, &mut |name, bytes| {
        found = true;
        let path = to.join(&name[root.len()..]);
        fs::create_dir_all(path.parent().unwrap_or(to))?;
        let page = name.to_lowercase().ends_with("html") || name.to_lowercase().ends_with("htm");
        // Old pages are Latin-1, and say so.
        let bytes = match std::str::from_utf8(&bytes) {
            Err(_) if page => bytes.iter().map(|&byte| char::from(byte)).collect::<String>().into_bytes(),
            _ => bytes,
        };
        fs::write(&path, bytes).with_context(|| path.display().to_string())
    })?;
    anyhow::ensure!(found, "no page below {root} in the package");
    Ok(())
}

/// The pages by the reader of HTML; what it can't read is listed.
fn pages(folder: &Path, sink: &mut Sink) -> Result<Vec<Document>> {
    let config = SourceConfig::Html {
        path: Paths::from(folder.join("pages").as_path()),
        missing: MissingPicture::LeaveOut,
        test_share: 0.0,
    };
    let store = Store::new(StoreSpec { cache: folder.join("cache"), ..StoreSpec::default() })?;
    let files = config.open_files("manual", 0, &store)?;
    let mut documents = Vec::new();
    for index in 0..files.documents() {
        match files.stored(index) {
            Ok(document) => {
                let id = document.id.trim_start_matches("manual/").to_owned();
                documents.push(Document { id, ..document });
            }
            Err(error) => {
                let reason = error_line(&error).replace(&format!("{}/pages/", folder.display()), "");
                sink.skip(format!("page {index}"), reason);
            }
        }
    }
    Ok(documents)
}
