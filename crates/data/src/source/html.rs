//! HTML pages in a folder: the text of the body and its pictures in reading order. Pictures are those of the
//! same folder; what is on servers, and what is not content (scripts, styles, navigation), is left out.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use ego_tree::NodeRef;
use ego_tree::iter::Edge;
use scraper::Node;
use scraper::node::Element;

use super::album::{Album, MissingPicture};
use super::files::{FileLayout, Format, ReadDocument, bytes};
use super::html_picture::addresses;
use super::page::DocumentBuilder;
use super::tree::parse;
use super::webdataset::PICTURES;
use crate::document::{DocumentKind, Image};
use crate::image::{DecodeBudget, PictureHeader, check_decodable, opened, read_header};
use crate::index::IndexEntry;
use crate::store::Blob;
use crate::text_file;

/// Endings of pages.
pub(crate) const ENDINGS: &[&str] = &[".html", ".htm", ".xhtml"];

/// The largest page: its tree takes many times its size.
const MAX_PAGE: u64 = 16 << 20;

/// Elements whose content is not read.
const LEFT_OUT: [&str; 19] = [
    "head", "script", "style", "noscript", "template", "nav", "header", "footer", "aside", "form", "button",
    "select", "textarea", "svg", "math", "iframe", "object", "audio", "video",
];

/// Elements that stand in a line with the text around them; all others begin a line.
const INLINE: [&str; 30] = [
    "a", "abbr", "acronym", "b", "bdi", "bdo", "big", "cite", "code", "data", "dfn", "em", "font", "i",
    "img", "kbd", "label", "mark", "q", "s", "samp", "small", "span", "strong", "sub", "sup", "time", "tt",
    "u", "var",
];

/// Classes of what Sphinx and DocBook put around the content of a page: navigation, indexes and links to
/// sections.
const AROUND: [&str; 11] = [
    "navheader",
    "navfooter",
    "navbar",
    "sphinxsidebar",
    "sphinxsidebarwrapper",
    "related",
    "toctree-wrapper",
    "headerlink",
    "indexterm",
    "sphx-glr-footer",
    "sphx-glr-download-link-note",
];

/// Pages, each a document.
pub struct Html {
    missing: MissingPicture,
    /// Pictures are decoded to see whether they are damaged.
    decoding: DecodeBudget,
}

impl Html {
    pub(crate) fn new(missing: MissingPicture) -> Self {
        Self { missing, decoding: DecodeBudget::default() }
    }
}

impl Format for Html {
    fn endings(&self) -> &'static [&'static str] {
        ENDINGS
    }

    fn layout(&self) -> FileLayout {
        FileLayout::Whole
    }

    fn scan(&self, _: &Blob, _: &mut dyn FnMut(IndexEntry)) -> Result<()> {
        Ok(())
    }

    fn read(&self, file: &Blob, record: &IndexEntry, _: u64) -> Result<ReadDocument> {
        ensure!(record.len <= MAX_PAGE, "a page of {} bytes; the limit is {MAX_PAGE}", record.len);
        let text = text_file::text(bytes(file, record)?)?;
        // Pictures are looked for in the folder that the recipe names, never above it.
        let root = file.address.strip_suffix(&file.name).unwrap_or(&file.address);
        let folder = Path::new(&file.name).parent().unwrap_or(Path::new("")).to_owned();
        let mut reader = PageReader {
            page: DocumentBuilder::default(),
            gap: String::new(),
            album: Album::new(if root.is_empty() { PathBuf::from(".") } else { root.into() }, self.missing),
            folder,
            decoding: &self.decoding,
        };
        reader.read(&parse(&text)?)?;
        let kind = if reader.page.pictures() { DocumentKind::Interleaved } else { DocumentKind::TextOnly };
        reader.page.end(String::new(), kind)
    }
}

struct PageReader<'a> {
    page: DocumentBuilder,
    /// What separates the next word from the one before: nothing, a space or a line break; in verbatim text
    /// any space.
    gap: String,
    album: Album,
    /// The folder of the page, inside the album.
    folder: PathBuf,
    decoding: &'a DecodeBudget,
}

impl PageReader<'_> {
    fn read(&mut self, tree: &scraper::Html) -> Result<()> {
        let (mut left_out, mut verbatim) = (0_u32, 0_u32);
        for edge in tree.tree.root().traverse() {
            let (node, open) = match edge {
                Edge::Open(node) => (node, true),
                Edge::Close(node) => (node, false),
            };
            match node.value() {
                Node::Element(element) => {
                    let name = element.name();
                    let step = |count: u32| if open { count + 1 } else { count.saturating_sub(1) };
                    if LEFT_OUT.contains(&name) || is_around(element) {
                        left_out = step(left_out);
                    } else if name == "pre" {
                        verbatim = step(verbatim);
                    }
                    if !INLINE.contains(&name) {
                        "\n".clone_into(&mut self.gap);
                    }
                    if name == "img" && open && left_out == 0 {
                        self.picture(node)?;
                    }
                }
                Node::Text(text) if open && left_out == 0 => self.text(text, verbatim > 0),
                _ => {}
            }
        }
        Ok(())
    }

    fn text(&mut self, text: &str, verbatim: bool) {
        if verbatim {
            // Of highlighted code each word and each space is an element of its own.
            let words = text.trim_end();
            if !words.is_empty() {
                self.page.joined(&self.gap, words);
                self.gap.clear();
            }
            self.gap.push_str(&text[words.len()..]);
            return;
        }
        if self.gap.is_empty() && text.starts_with(char::is_whitespace) {
            " ".clone_into(&mut self.gap);
        }
        for word in text.split_whitespace() {
            self.page.joined(&self.gap, word);
            " ".clone_into(&mut self.gap);
        }
        if self.gap == " " && !text.ends_with(char::is_whitespace) {
            self.gap.clear();
        }
    }

    /// Adds the first file of an `img` that can be read, or counts why there is none.
    fn picture(&mut self, image: NodeRef<'_, Node>) -> Result<()> {
        let (mut missing, mut why) = (None, "a picture without an address");
        for address in addresses(image) {
            match self.place(&address)? {
                PicturePlace::Page => {
                    self.add(self.album.address(&address).ok().flatten());
                    return Ok(());
                }
                PicturePlace::File(name) if self.album.has(&name) => {
                    let picture = self.album.picture(&name)?;
                    self.add(picture);
                    return Ok(());
                }
                PicturePlace::File(name) => missing = missing.or(Some(name)),
                PicturePlace::Nowhere(reason) => why = reason,
            }
        }
        match missing {
            // Refused, or counted.
            Some(name) => self.page.found(self.album.picture(&name)?),
            None => self.page.leave_out(why),
        }
        Ok(())
    }

    /// Adds a picture that was found; one that is damaged is left out, and the page stays.
    fn add(&mut self, picture: Option<Image>) {
        match picture.filter(|picture| is_whole(picture, self.decoding)) {
            Some(picture) => {
                self.page.picture(picture);
                self.gap.clear();
            }
            None => self.page.leave_out("a picture that is damaged"),
        }
    }

    fn place(&self, address: &str) -> Result<PicturePlace> {
        if address.starts_with("data:") {
            let picture = address.starts_with("data:image/") && address.contains(";base64,");
            return Ok(if picture { PicturePlace::Page } else { PicturePlace::Nowhere(OTHER_FORMAT) });
        }
        let path = address.split(['?', '#']).next().unwrap_or_default();
        // Anything with a scheme or a host is not in the folder.
        if path.contains(':') || path.starts_with("//") {
            return Ok(PicturePlace::Nowhere("a picture on a server"));
        }
        let extension = Path::new(path).extension().unwrap_or_default().to_string_lossy().to_lowercase();
        if !PICTURES.contains(&extension.as_str()) {
            return Ok(PicturePlace::Nowhere(OTHER_FORMAT));
        }
        let name = self.inside(&decoded(path));
        Ok(PicturePlace::File(
            name.with_context(|| format!("the picture {address:?} is not inside the folder"))?,
        ))
    }

    /// The path of what the page calls `path`, in the album; `None` where it leaves it.
    fn inside(&self, path: &str) -> Option<String> {
        let mut parts: Vec<&str> = Vec::new();
        let folder = if path.starts_with('/') { "" } else { self.folder.to_str()? };
        for part in folder.split('/').chain(path.split('/')) {
            match part {
                "" | "." => {}
                ".." => drop(parts.pop()?),
                part => parts.push(part),
            }
        }
        Some(parts.join("/"))
    }
}

/// Where an address of a picture leads.
enum PicturePlace {
    /// The picture is in the page itself.
    Page,
    /// A file of the album by its name.
    File(String),
    /// There is nothing to read, and why.
    Nowhere(&'static str),
}

const OTHER_FORMAT: &str = "a picture of a format that is not read";

/// Pixels of the largest picture that is decoded to see whether it is damaged.
const LOOKED_AT: u64 = 25_000_000;

/// Whether a picture can be decoded. Only decoding shows damage in its middle; of a very large one its header
/// and its end are looked at.
fn is_whole(picture: &Image, decoding: &DecodeBudget) -> bool {
    let _held = decoding.hold(picture);
    let small = |seen: PictureHeader| u64::from(seen.width) * u64::from(seen.height) <= LOOKED_AT;
    check_decodable(picture).is_ok()
        && (!read_header(picture).is_ok_and(small) || opened(picture, [255; 3], &|_| [1; 2]).is_ok())
}

/// Whether an element is not content by its role or class.
fn is_around(element: &Element) -> bool {
    let role = matches!(element.attr("role"), Some("navigation" | "search" | "contentinfo" | "banner"));
    role || element.classes().any(|class| AROUND.contains(&class))
}

/// `%20` and the like as bytes of UTF-8; what is not such an escape stays.
fn decoded(path: &str) -> String {
    let mut out = Vec::new();
    let mut rest = path.as_bytes();
    while let [first, tail @ ..] = rest {
        // The library would take `+1` for a number too.
        let digits =
            tail.get(..2).filter(|digits| *first == b'%' && digits.iter().all(u8::is_ascii_hexdigit));
        match digits.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                rest = &tail[2..];
            }
            None => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}
