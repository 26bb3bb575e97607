//! Microsoft's Fluent emoji as three-dimensional renders, WebP files named by their code points.

use std::path::PathBuf;

use anyhow::Result;

use super::definition::Corpus;
use super::gallery::{CaptionedPicture, Gallery, PictureData};
use crate::archive::{UnpackLimits, unpack};
use crate::caption::PictureFacts;
use crate::emoji::{EMOJIBASE, EMOJILIB, Emojis};
use crate::package::{Client, Package, Version};
use crate::settings::CorpusSettings;
use crate::sink::{Sink, group};

pub(super) const FLUENT_3D: Corpus = Corpus {
    name: "fluent-3d",
    title: "Fluent emoji: 3D renders of all emoji",
    packages: &[
        Package {
            client: Client::Npm,
            name: "@lobehub/fluent-emoji-3d",
            known: &[Version {
                version: "1.1.0",
                sha256: "c1bb7eee7de090205a232518a9ab4adb3df458bfbe8a1f78232991194c8b2e58",
            }],
        },
        EMOJIBASE,
        EMOJILIB,
    ],
    licence: "MIT",
    attribution: "Fluent Emoji by Microsoft Corporation, packed by LobeHub; emojibase by Miles Johnson; \
                  emojilib by its contributors",
    make,
};

fn make(packages: &[PathBuf], settings: CorpusSettings, sink: &mut Sink) -> Result<()> {
    let emojis = Emojis::read(&packages[1], &packages[2])?;
    let mut gallery = Gallery::new(sink, settings);
    let wanted = |name: &str| name.starts_with("package/assets/") && name.ends_with(".webp");
    unpack(&packages[0], UnpackLimits::default(), &wanted, &mut |name, bytes| {
        let file = name.trim_start_matches("package/assets/");
        let Some(emoji) = emojis.find(file.trim_end_matches(".webp")) else {
            gallery.skip(file, "its code points are not among emojibase's emoji");
            return Ok(());
        };
        gallery.push(CaptionedPicture {
            id: format!("fluent-3d/{file}"),
            group: group("emoji", &emoji.base),
            about: PictureFacts { style: "3D render", ..emoji.about.clone() },
            picture: PictureData::File(bytes),
        })
    })?;
    gallery.flush()
}
