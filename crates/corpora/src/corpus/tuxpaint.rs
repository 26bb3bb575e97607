//! Tux Paint's stamps: photo cut-outs and drawings, each with a sentence for children.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Result;

use super::definition::Corpus;
use super::gallery::{CaptionedPicture, Gallery, PictureData};
use crate::archive::{UnpackLimits, unpack};
use crate::caption::PictureFacts;
use crate::package::{Client, Package, Version};
use crate::settings::CorpusSettings;
use crate::sink::{Sink, group};

pub(super) const TUXPAINT: Corpus = Corpus {
    name: "tuxpaint",
    title: "Tux Paint stamps: photo cut-outs and drawings with captions",
    packages: &[Package {
        client: Client::Apt,
        name: "tuxpaint-stamps-default",
        known: &[Version {
            version: "2022.06.04-1",
            sha256: "6db6c1bfc870a47f1499d6203b083522eacb57c5f9c87d468f2e92eb6d9d5f34",
        }],
    }],
    licence: "GPL-2.0",
    attribution: "Bill Kendrick and the Tux Paint contributors",
    make,
};

/// Where the stamps are.
const ROOT: &str = "usr/share/tuxpaint/stamps/";
/// Pictures, the better first.
const PICTURES: [&str; 2] = ["png", "svg"];

fn make(packages: &[PathBuf], settings: CorpusSettings, sink: &mut Sink) -> Result<()> {
    let (mut captions, mut pictures) = (BTreeMap::new(), BTreeMap::new());
    let wanted = |name: &str| {
        let extension = name.rsplit('.').next().unwrap_or_default();
        name.starts_with(ROOT) && (extension == "txt" || PICTURES.contains(&extension))
    };
    unpack(&packages[0], UnpackLimits::default(), &wanted, &mut |name, bytes| {
        let (stem, extension) = name[ROOT.len()..].rsplit_once('.').unwrap_or_default();
        if extension == "txt" {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            // The first line is English, the others are translations of it.
            captions.insert(stem.to_owned(), text.lines().next().unwrap_or_default().trim().to_owned());
        } else {
            pictures.insert((stem.to_owned(), extension.to_owned()), bytes);
        }
        Ok(())
    })?;
    let mut gallery = Gallery::new(sink, settings);
    for (stem, caption) in captions {
        let mut found = PICTURES
            .iter()
            .filter_map(|end| Some((*end, pictures.remove(&(stem.clone(), (*end).to_owned()))?)));
        let Some((end, bytes)) = found.next() else {
            gallery.skip(&stem, "no PNG or SVG beside the caption");
            continue;
        };
        drop(found);
        if caption.is_empty() {
            gallery.skip(&stem, "an empty caption");
            continue;
        }
        let picture = match end {
            "svg" => PictureData::Svg(String::from_utf8_lossy(&bytes).into_owned()),
            _ => PictureData::File(bytes),
        };
        let topic = stem.rsplit_once('/').map_or("", |(folder, _)| folder).replace('/', ", ");
        gallery.push(CaptionedPicture {
            id: format!("{stem}.{end}"),
            group: group("stamp", &caption),
            about: PictureFacts { title: caption, topic, style: "picture", ..PictureFacts::default() },
            picture,
        })?;
    }
    gallery.flush()
}
