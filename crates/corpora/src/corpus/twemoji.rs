//! The built-in Twemoji pictures, named by emojibase.

use std::path::PathBuf;

use anyhow::Result;
use twemoji_assets::png::PngTwemojiAsset;

use super::definition::Corpus;
use super::gallery::{CaptionedPicture, Gallery, PictureData};
use crate::caption::PictureFacts;
use crate::emoji::{EMOJIBASE, EMOJILIB, Emojis};
use crate::settings::CorpusSettings;
use crate::sink::{Sink, group};

pub(super) const TWEMOJI: Corpus = Corpus {
    name: "twemoji",
    title: "Twemoji: the built-in drawings of all emoji, 72 pixels",
    packages: &[EMOJIBASE, EMOJILIB],
    licence: "CC-BY-4.0 (pictures); MIT (labels and keywords)",
    attribution: "Twemoji by Twitter, Inc and other contributors; emojibase by Miles Johnson; emojilib by \
                  its contributors",
    make,
};

fn make(packages: &[PathBuf], settings: CorpusSettings, sink: &mut Sink) -> Result<()> {
    let emojis = Emojis::read(&packages[0], &packages[1])?;
    let mut gallery = Gallery::new(sink, settings);
    for (code_points, emoji) in emojis.iter() {
        let id = format!("twemoji/{code_points}");
        // Some of its names have the variation selector, some have not.
        let plain = emoji.symbol.replace('\u{fe0f}', "");
        let found =
            PngTwemojiAsset::from_emoji(&emoji.symbol).or_else(|| PngTwemojiAsset::from_emoji(&plain));
        let Some(bytes) = found.map(|picture| picture.to_vec()) else {
            gallery.skip(&id, "Twemoji does not draw it");
            continue;
        };
        gallery.push(CaptionedPicture {
            id,
            group: group("emoji", &emoji.base),
            about: PictureFacts { style: "flat drawing", ..emoji.about.clone() },
            picture: PictureData::File(bytes),
        })?;
    }
    gallery.flush()
}
