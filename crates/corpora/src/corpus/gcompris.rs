//! GCompris: photographs of monuments and animals with their titles, each with a licence of its own.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use mm1_data::document::{Document, DocumentKind, Image, Segment, Special};

use super::definition::Corpus;
use crate::archive::{UnpackLimits, unpack};
use crate::package::{Client, Package, Version};
use crate::rcc::read_rcc;
use crate::settings::CorpusSettings;
use crate::sink::{FileTerms, Sink, group};
use crate::stream::ShardFolder;

pub(super) const GCOMPRIS: Corpus = Corpus {
    name: "gcompris",
    title: "GCompris: photographs of monuments and animals with titles, to evaluate with",
    packages: &[Package {
        client: Client::Apt,
        name: "gcompris-qt-data",
        known: &[Version {
            version: "3.1-2",
            sha256: "e9cf06ab2105529068df73085784e835d2ff03f870d2a8091f09125d40abac9f",
        }],
    }],
    licence: "CC-BY, CC-BY-SA, CC0-1.0 or in the public domain, by picture",
    attribution: "the photographers named with each picture; the GCompris team",
    make,
};

/// The activities that show photographs with titles.
const ACTIVITIES: [&str; 2] = ["explore_monuments", "explore_world_animals"];
/// By what the pictures of a resource begin in its texts.
const ADDRESS: &str = "qrc:/";
/// Where the terms of pictures stand.
const TERMS: &str = "README";

fn make(packages: &[PathBuf], _: CorpusSettings, sink: &mut Sink) -> Result<()> {
    let wanted = |name: &str| ACTIVITIES.iter().any(|activity| name.ends_with(&format!("/{activity}.rcc")));
    unpack(&packages[0], UnpackLimits::default(), &wanted, &mut |name, bytes| {
        let wanted = |path: &str| {
            path.ends_with(".webp")
                || path.ends_with(TERMS)
                || path.contains("/board/") && path.ends_with(".qml")
        };
        activity(read_rcc(&bytes, &wanted).with_context(|| name.to_owned())?, sink)
    })
}

/// The pictures of an activity's boards with their titles.
fn activity(mut files: BTreeMap<String, Vec<u8>>, sink: &mut Sink) -> Result<()> {
    let text = |bytes: &Vec<u8>| String::from_utf8_lossy(bytes).into_owned();
    let terms = files.iter().filter(|(path, _)| path.ends_with(TERMS));
    let terms: BTreeMap<_, _> = terms.flat_map(|(path, bytes)| terms_of_files(path, &text(bytes))).collect();
    let boards: Vec<String> =
        files.iter().filter(|(path, _)| path.ends_with(".qml")).map(|(_, bytes)| text(bytes)).collect();
    for TitledPicture { title, path } in boards.iter().flat_map(|board| titled_pictures(board)) {
        let Some(bytes) = files.remove(&path) else {
            sink.skip(path, "no such picture, or one that an earlier title has");
            continue;
        };
        let Some(terms) = terms.get(&path) else {
            sink.skip(path, "no licence is said of it");
            continue;
        };
        let id = format!("{}#{path}", group("photo", &title));
        let end = Segment::Token { token: Special::End, learn: true };
        let segments = vec![Segment::Image(Image::named(&path, bytes)), Segment::text(title), end];
        let document = Document { id, kind: DocumentKind::Captioned, segments };
        let terms = FileTerms { licence: terms.licence.clone(), attribution: terms.attribution.clone() };
        sink.push_licensed(ShardFolder::PhotosTest, &document, terms)?;
    }
    Ok(())
}

/// A picture of a board.
#[derive(Debug, PartialEq, Eq)]
struct TitledPicture {
    title: String,
    /// In the resource.
    path: String,
}

/// The pictures of a board, which is a list of tables in QML: of each `title` and `image2` are read.
fn titled_pictures(board: &str) -> Vec<TitledPicture> {
    let (mut found, mut title) = (Vec::new(), None);
    for line in board.lines() {
        let Some((field, value)) = line.trim().split_once(':') else { continue };
        let quoted = value.split('"').nth(1).unwrap_or_default();
        match field.trim().trim_matches('"') {
            "title" => title = Some(quoted.to_owned()),
            "image2" => {
                let path = quoted.strip_prefix(ADDRESS).unwrap_or(quoted).to_owned();
                found.extend(title.take().map(|title| TitledPicture { title, path }));
            }
            _ => {}
        }
    }
    found
}

/// The terms of the files that a README names, in blocks of `Copyright:`, `License:`, `Source:` and
/// `Files:`, by their paths in the resource.
fn terms_of_files(readme: &str, text: &str) -> Vec<(String, FileTerms)> {
    let folder = readme.strip_suffix(TERMS).unwrap_or_default();
    let mut found = Vec::new();
    for block in text.replace("\r\n", "\n").split("\n\n") {
        let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let (Some(author), Some(licence)) = (field("Copyright:"), field("License:")) else { continue };
        let attribution = match field("Source:") {
            Some(source) => format!("{author}, {source}"),
            None => author.to_owned(),
        };
        let files = block.lines().skip_while(|line| !line.starts_with("Files:")).skip(1);
        for file in files.map(str::trim).filter(|file| !file.is_empty()) {
            let terms = FileTerms { licence: licence.to_owned(), attribution: attribution.clone() };
            found.push((format!("{folder}{file}"), terms));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_and_terms_are_those_of_the_pictures() {
        let board = "QtObject {\n    property var tab: [\n        {\n            \"image\": \
                     \"qrc:/a/key.svg\",\n            \"title\": qsTr(\"Taj Mahal\"),\n            \"text\": \
                     qsTr(\"In Agra: \\\"a\\\"\"),\n            \"image2\": \
                     \"qrc:/a/b/taj.webp\",\n            \"text2\": qsTr(\"Taj Mahal\")\n        }\n    ]\n}";
        let found = titled_pictures(board);
        assert_eq!(found, [TitledPicture { title: "Taj Mahal".into(), path: "a/b/taj.webp".into() }]);
        let terms = terms_of_files(
            "a/README",
            "Copyright: Yann\r\nLicense: CC-BY-SA 4.0\r\nSource: \
             https://example.org/Taj\r\nFiles:\r\nb/taj.webp\r\n\r\n\
             Copyright: Nobody\nFiles:\nc.webp\n",
        );
        assert_eq!(terms.len(), 1, "what has no licence has no terms");
        let (path, FileTerms { licence, attribution }) = &terms[0];
        assert_eq!((path.as_str(), licence.as_str()), ("a/b/taj.webp", "CC-BY-SA 4.0"));
        assert_eq!(attribution, "Yann, https://example.org/Taj");
    }
}
