//! Emoji that Iconify packs as JSON: Google's Noto and Microsoft's Fluent, drawn from their SVG.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Result, ensure};
use serde::Deserialize;

use super::definition::Corpus;
use super::gallery::{CaptionedPicture, Gallery, PictureData};
use crate::caption::PictureFacts;
use crate::emoji::{EMOJIBASE, EMOJILIB, Emojis, json};
use crate::package::{Client, Package, Version};
use crate::settings::CorpusSettings;
use crate::sink::{Sink, group};

pub(super) const NOTO: Corpus = Corpus {
    name: "noto",
    title: "Noto emoji: shaded drawings of all emoji",
    packages: &[
        Package {
            client: Client::Npm,
            name: "@iconify-json/noto",
            known: &[Version {
                version: "1.2.9",
                sha256: "3e918d88fc945c0bb3d468dbace6f88caef67f01c9f0e7bcae0915a042e8f1ad",
            }],
        },
        EMOJIBASE,
        EMOJILIB,
    ],
    licence: "Apache-2.0 (pictures); MIT (labels and keywords)",
    attribution: "Noto Emoji by Google Inc; emojibase by Miles Johnson; emojilib by its contributors",
    make: |packages, settings, sink| make(packages, "shaded drawing", settings, sink),
};

pub(super) const FLUENT_FLAT: Corpus = Corpus {
    name: "fluent-flat",
    title: "Fluent emoji: flat drawings of all emoji",
    packages: &[
        Package {
            client: Client::Npm,
            name: "@iconify-json/fluent-emoji-flat",
            known: &[Version {
                version: "1.2.6",
                sha256: "7d064769dee690815f823bc5bcc511d957198caf9f5edd8dd9c1aa48a6aeb175",
            }],
        },
        EMOJIBASE,
        EMOJILIB,
    ],
    licence: "MIT",
    attribution: "Fluent Emoji by Microsoft Corporation; emojibase by Miles Johnson; emojilib by \
                  its contributors",
    make: |packages, settings, sink| make(packages, "flat drawing", settings, sink),
};

#[derive(Deserialize)]
struct Icons {
    prefix: String,
    icons: BTreeMap<String, Icon>,
    #[serde(default = "sixteen")]
    width: f64,
    #[serde(default = "sixteen")]
    height: f64,
}

/// Sides and corner in the units of the drawing, where they are not the set's.
#[derive(Deserialize)]
struct Icon {
    body: String,
    width: Option<f64>,
    height: Option<f64>,
    #[serde(default)]
    left: f64,
    #[serde(default)]
    top: f64,
}

/// Iconify's own default.
fn sixteen() -> f64 {
    16.0
}

fn make(packages: &[PathBuf], style: &'static str, settings: CorpusSettings, sink: &mut Sink) -> Result<()> {
    let icons: Icons = json(&packages[0], "package/icons.json")?;
    let names: BTreeMap<String, String> = json(&packages[0], "package/chars.json")?;
    let emojis = Emojis::read(&packages[1], &packages[2])?;
    ensure!(!names.is_empty(), "package/chars.json is empty");
    let mut gallery = Gallery::new(sink, settings);
    // Several code points may share a drawing; it is taken once, under the first.
    let mut taken = BTreeMap::new();
    for (code_points, name) in &names {
        let id = format!("{}/{name}", icons.prefix);
        let Some(icon) = icons.icons.get(name) else {
            gallery.skip(&id, "a mirrored copy of another drawing");
            continue;
        };
        if let Some(first) = taken.insert(name, code_points) {
            gallery.skip(&format!("{id} ({code_points})"), &format!("the drawing of {first}"));
            continue;
        }
        let Some(emoji) = emojis.find(code_points) else {
            gallery.skip(&id, &format!("{code_points} is not among emojibase's emoji"));
            continue;
        };
        gallery.push(CaptionedPicture {
            id,
            group: group("emoji", &emoji.base),
            about: PictureFacts { style, ..emoji.about.clone() },
            picture: PictureData::Svg(icon.svg(&icons)),
        })?;
    }
    gallery.flush()
}

impl Icon {
    /// As a whole SVG file.
    fn svg(&self, set: &Icons) -> String {
        let (width, height) = (self.width.unwrap_or(set.width), self.height.unwrap_or(set.height));
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" xmlns:xlink=\"http://www.w3.org/1999/xlink\" \
             width=\"{width}\" height=\"{height}\" viewBox=\"{} {} {width} {height}\">{}</svg>",
            self.left, self.top, self.body
        )
    }
}
