//! Sweet Home 3D's furniture: rendered icons with names, keywords and categories.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

use super::definition::Corpus;
use super::gallery::{CaptionedPicture, Gallery, PictureData};
use crate::archive::{UnpackLimits, unpack, unzip};
use crate::caption::PictureFacts;
use crate::package::{Client, Package, Version};
use crate::settings::CorpusSettings;
use crate::sink::{Sink, group};

pub(super) const SWEETHOME3D: Corpus = Corpus {
    name: "sweethome3d",
    title: "Sweet Home 3D furniture: rendered pictures with names and keywords",
    packages: &[Package {
        client: Client::Apt,
        name: "sweethome3d-furniture",
        known: &[Version {
            version: "1.8-1",
            sha256: "3ccb90c63f9525e887a767b9cd5c8b6933b8b6b2973a615a5359ee68a2118668",
        }],
    }],
    licence: "CC-BY-3.0 and CC0-1.0, by library",
    attribution: "Andrew Kator and Jennifer Legaz; Reallusion; Scopia; the contributors of Blend Swap; \
                  converted by Emmanuel Puybaret (eTeks)",
    make,
};

/// The list of a library.
const LIST: &str = "PluginFurnitureCatalog.properties";

fn make(packages: &[PathBuf], settings: CorpusSettings, sink: &mut Sink) -> Result<()> {
    let mut gallery = Gallery::new(sink, settings);
    unpack(&packages[0], UnpackLimits::default(), &|name| name.ends_with(".sh3f"), &mut |name, bytes| {
        let library = name.rsplit('/').next().unwrap_or(name).trim_end_matches(".sh3f");
        let Library { list, mut icons } = read_library(library, &bytes)?;
        for number in 1.. {
            let field = |key: &str| list.get(&format!("{key}#{number}")).map_or("", String::as_str);
            let (title, icon) = (field("name"), field("icon"));
            if title.is_empty() {
                break;
            }
            let id = format!("{library}{icon}");
            let Some(bytes) = icons.remove(icon.trim_start_matches('/')) else {
                gallery.skip(&id, "no picture, or one that an earlier piece has");
                continue;
            };
            let tags = field("tags").split(',').map(|tag| tag.trim().to_owned());
            let about = PictureFacts {
                title: title.to_owned(),
                tags: tags
                    .filter(|tag| !tag.is_empty() && !library.starts_with(&tag.replace(' ', "")))
                    .collect(),
                topic: field("category").to_lowercase(),
                description: field("description").to_owned(),
                style: "3D render",
            };
            gallery.push(CaptionedPicture {
                id,
                group: group("furniture", title),
                about,
                picture: PictureData::File(bytes),
            })?;
        }
        Ok(())
    })?;
    gallery.flush()
}

/// The pieces of a library by their properties, and the files of their icons.
struct Library {
    list: BTreeMap<String, String>,
    icons: BTreeMap<String, Vec<u8>>,
}

fn read_library(name: &str, zip: &[u8]) -> Result<Library> {
    let (mut list, mut icons) = (None, BTreeMap::new());
    unzip(zip, &|file| file == LIST || file.ends_with(".png"), &mut |file, bytes| {
        if file == LIST {
            list = Some(properties(&bytes));
        } else {
            icons.insert(file.to_owned(), bytes);
        }
        Ok(())
    })?;
    Ok(Library { list: list.with_context(|| format!("{name}: no {LIST}"))?, icons })
}

/// Java's properties: `key=value` in Latin-1, other letters as `\u0041`.
fn properties(bytes: &[u8]) -> BTreeMap<String, String> {
    let text: String = bytes.iter().map(|&byte| char::from(byte)).collect();
    let lines = text.lines().filter(|line| !line.starts_with(['#', '!']));
    lines
        .filter_map(|line| line.split_once('='))
        .map(|(k, v)| (k.trim().to_owned(), unescaped(v.trim())))
        .collect()
}

fn unescaped(value: &str) -> String {
    let mut parts = value.split("\\u");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let code =
            part.get(..4).and_then(|digits| u32::from_str_radix(digits, 16).ok()).and_then(char::from_u32);
        match code {
            Some(letter) => {
                out.push(letter);
                out.push_str(&part[4..]);
            }
            None => out.push_str(part),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_are_read_as_java_does() {
        let list = properties(
            b"# name#1=no\nname#1=Caf\xe9 \\u00e0 c\\u00f4t\\u00e9\n icon#1 = /a.png\r\nodd\nx=\\uzz",
        );
        assert_eq!(list["name#1"], "Caf\u{e9} \u{e0} c\u{f4}t\u{e9}");
        assert_eq!((list["icon#1"].as_str(), list["x"].as_str(), list.len()), ("/a.png", "zz", 3));
    }
}
