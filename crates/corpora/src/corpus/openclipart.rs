//! The Open Clip Art Library: drawings of which people wrote title, description and keywords into the SVG
//! itself.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use mm1_data::error_line::error_line;
use resvg::usvg::roxmltree::{Document as Xml, Node, ParsingOptions};

use super::definition::Corpus;
use super::gallery::{CaptionedPicture, Gallery, PictureData};
use crate::archive::{UnpackLimits, unpack};
use crate::caption::PictureFacts;
use crate::package::{Client, Package, Version};
use crate::settings::CorpusSettings;
use crate::sink::{Sink, group};

pub(super) const OPENCLIPART: Corpus = Corpus {
    name: "openclipart",
    title: "Open Clip Art Library: drawings with titles, descriptions and keywords",
    packages: &[Package {
        client: Client::Apt,
        name: "openclipart-svg",
        known: &[Version {
            version: "1:0.18+dfsg-19",
            sha256: "989712d90d57dfa3230049f553bb43b76c30ee4d4b8c5f6e106e33f7db5cbdc5",
        }],
    }],
    licence: "public domain",
    attribution: "the artists of the Open Clip Art Library",
    make,
};

/// Where the drawings are.
const ROOT: &str = "usr/share/openclipart/svg/";
/// Keywords that say nothing of the picture.
const EMPTY: [&str; 6] = ["unsorted", "clip_art", "clipart", "clip art", "svg", "unknown"];

fn make(packages: &[PathBuf], settings: CorpusSettings, sink: &mut Sink) -> Result<()> {
    let mut gallery = Gallery::new(sink, settings);
    let wanted = |name: &str| name.starts_with(ROOT) && name.ends_with(".svg");
    unpack(&packages[0], UnpackLimits::default(), &wanted, &mut |name, bytes| {
        let id = name.trim_start_matches(ROOT).to_owned();
        match read(&id, bytes) {
            Ok((about, svg)) => {
                let series = about.title.trim_end_matches(|c: char| !c.is_alphabetic());
                let group = group("clip", if series.is_empty() { &about.title } else { series });
                gallery.push(CaptionedPicture { id, group, about, picture: PictureData::Svg(svg) })
            }
            Err(error) => {
                gallery.skip(&id, &error_line(&error));
                Ok(())
            }
        }
    })?;
    gallery.flush()
}

fn read(id: &str, bytes: Vec<u8>) -> Result<(PictureFacts, String)> {
    let svg = String::from_utf8(bytes).context("not UTF-8")?;
    let options = ParsingOptions { allow_dtd: true, ..ParsingOptions::default() };
    let xml = Xml::parse_with_options(&svg, options)?;
    let work = xml.descendants().find(|node| is(node, "Work")).context("nothing is written of it")?;
    let field = |name: &str| {
        let node = work.children().find(|node| is(node, name));
        node.map(|node| words(&text_of(node))).unwrap_or_default()
    };
    let title = field("title");
    anyhow::ensure!(title.chars().any(char::is_alphabetic), "no title");
    let creator = field("creator").to_lowercase();
    let description = field("description");
    let subject = work.children().find(|node| is(node, "subject"));
    let items = subject.iter().flat_map(|node| node.descendants().filter(|node| is(node, "li")));
    let useful = |tag: &String| {
        let lower = tag.to_lowercase();
        !tag.is_empty() && lower != creator && !EMPTY.contains(&lower.as_str())
    };
    let tags = items.map(|node| words(&text_of(node))).filter(useful).collect();
    let folders: Vec<&str> = id.rsplit_once('/').map_or("", |(folder, _)| folder).split('/').collect();
    let about = PictureFacts {
        tags,
        topic: folders.join(", ").replace('_', " "),
        // An address or a copy of the title describes nothing.
        description: if description.contains('@') || description == title {
            String::new()
        } else {
            description
        },
        title,
        style: "clip-art drawing",
    };
    drop(xml);
    Ok((about, svg))
}

fn is(node: &Node, name: &str) -> bool {
    node.tag_name().name() == name
}

fn text_of(node: Node) -> String {
    node.descendants().filter(Node::is_text).filter_map(|node| node.text()).collect()
}

fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
