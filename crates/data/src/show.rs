//! A document shown to a person: its segments in lines of text, its pictures in a terminal, all of it as an
//! HTML page.

use std::fmt::Write as _;

use anyhow::Result;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Serialize;

use crate::document::{Document, Image, Picture, Segment};
use crate::error_line::error_line;
use crate::image::{PictureHeader, open, read_header};
use crate::shard::{self, Provenance};

/// A segment in words and numbers.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum ShownSegment {
    /// Text.
    Text {
        /// The text itself.
        text: String,
        /// Whether it is learned.
        learn: bool,
    },
    /// A picture.
    Image {
        /// Its name or address; empty where it has none.
        name: String,
        /// `JPEG`, `PNG`, `WebP`, `GIF` or `pixels`; empty where the header can't be read.
        format: &'static str,
        /// Pixels from left to right; 0 where the header can't be read.
        width: u32,
        /// Pixels from top to bottom; 0 where the header can't be read.
        height: u32,
        /// Bytes as it is stored.
        bytes: u64,
        /// Why it can't be used.
        #[serde(skip_serializing_if = "Option::is_none")]
        damage: Option<String>,
    },
    /// A token with a meaning of its own.
    Token {
        /// Which.
        token: String,
        /// Whether it is learned.
        learn: bool,
    },
}

/// The segments in order. Pictures are decoded, so that damage shows.
pub fn segments(document: &Document) -> Vec<ShownSegment> {
    let shown = |segment: &Segment| match segment {
        Segment::Text { text, learn } => ShownSegment::Text { text: text.clone(), learn: *learn },
        Segment::Token { token, learn } => {
            ShownSegment::Token { token: format!("{token:?}").to_lowercase(), learn: *learn }
        }
        Segment::Image(image) => {
            let seen = read_header(image);
            let damage = seen.as_ref().err().map(error_line);
            let damage = damage.or_else(|| open(image).err().map(|e| error_line(&e)));
            let PictureHeader { width, height, format } =
                seen.unwrap_or(PictureHeader { width: 0, height: 0, format: "" });
            let name = image.name().to_owned();
            ShownSegment::Image { name, format, width, height, bytes: image.stored_bytes() as u64, damage }
        }
    };
    document.segments.iter().map(shown).collect()
}

/// The PNG file of a picture.
///
/// # Errors
/// A picture that can't be decoded.
pub fn png(image: &Image) -> Result<Vec<u8>> {
    let picture = open(image)?;
    shard::png(&picture)
}

/// A picture as lines of half blocks in 24-bit colour, at most `columns` wide and `lines` high.
///
/// # Errors
/// A picture that can't be decoded.
pub fn thumbnail(image: &Image, columns: u32, lines: u32) -> Result<Vec<String>> {
    let picture = open(image)?;
    let (width, height) = (f64::from(picture.width), f64::from(picture.height));
    let scale = (f64::from(columns) / width).min(f64::from(lines * 2) / height).min(1.0);
    let cells = |side: f64, most: u32| ((side * scale).ceil() as u32).clamp(1, most);
    let (across, down) = (cells(width, columns), cells(height, lines * 2));
    // Half blocks: a cell of a terminal is about twice as high as wide, so two pixels stand in each.
    let colour = |x: u32, y: u32| (y < down).then(|| mean(&picture, [x, y], [across, down]));
    let mut out = Vec::new();
    for y in (0..down).step_by(2) {
        let mut line = String::new();
        for x in 0..across {
            let [r, g, b] = colour(x, y).unwrap_or_default();
            let _ = write!(line, "\x1b[38;2;{r};{g};{b}m");
            if let Some([r, g, b]) = colour(x, y + 1) {
                let _ = write!(line, "\x1b[48;2;{r};{g};{b}m");
            }
            line.push('▀');
        }
        out.push(line + "\x1b[0m");
    }
    Ok(out)
}

/// The mean colour of the part of a picture that one cell of a grid shows.
fn mean(picture: &Picture, [x, y]: [u32; 2], [across, down]: [u32; 2]) -> [u8; 3] {
    let part = |at: u32, of: u32, side: u32| {
        let bound = |at: u32| (u64::from(at) * u64::from(side) / u64::from(of)) as u32;
        bound(at)..bound(at + 1).max(bound(at) + 1).min(side)
    };
    let (mut sums, mut count) = ([0_u64; 3], 0);
    for row in part(y, down, picture.height) {
        for column in part(x, across, picture.width) {
            let at = (row as usize * picture.width as usize + column as usize) * 3;
            for (sum, value) in sums.iter_mut().zip(&picture.rgb[at..at + 3]) {
                *sum += u64::from(*value);
            }
            count += 1;
        }
    }
    sums.map(|sum| (sum / count.max(1)) as u8)
}

const STYLE: &str = include_str!("page.css");

/// A page of one file around `body`, in the light or dark colours that the reader has chosen.
pub(crate) fn frame(title: &str, body: &str) -> String {
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/>\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\
         <meta name=\"color-scheme\" content=\"light dark\"/><title>{}</title>\
         <style>{STYLE}</style></head>\n<body>{body}</body></html>\n",
        escaped(title)
    )
}

/// A page of one file: pictures inside, no script.
pub fn html(document: &Document, origin: &Provenance, file: &str) -> String {
    let mut page = format!(
        "<header><h1>{id}</h1><dl><dt>kind</dt><dd>{kind}</dd><dt>file</dt><dd>{file}</dd>",
        id = escaped(&document.id),
        kind = kind(document),
        file = escaped(file)
    );
    let Provenance { source, licence, attribution } = origin;
    for (name, value) in [("source", source), ("licence", licence), ("attribution", attribution)] {
        if !value.is_empty() {
            let _ = write!(page, "<dt>{name}</dt><dd>{}</dd>", escaped(value));
        }
    }
    page.push_str("</dl></header>\n");
    for (segment, shown) in document.segments.iter().zip(segments(document)) {
        match (segment, shown) {
            (Segment::Image(image), ShownSegment::Image { name, format, width, height, bytes, damage }) => {
                let about = format!("{} {format} {width}×{height}, {bytes} bytes", escaped(&name));
                let seen = match damage {
                    None => format!("<img src=\"{}\" alt=\"{}\">", data_address(image), escaped(&name)),
                    Some(damage) => format!("<span class=\"damage\">{}</span>", escaped(&damage)),
                };
                let _ = writeln!(page, "<figure>{seen}<figcaption>{about}</figcaption></figure>");
            }
            (_, ShownSegment::Text { text, learn }) => {
                let class = if learn { "" } else { " class=\"read\"" };
                let _ = writeln!(page, "<p{class}>{}</p>", escaped(&text));
            }
            (_, ShownSegment::Token { token, .. }) => {
                let _ = writeln!(page, "<span class=\"token\">{}</span>", escaped(&token));
            }
            _ => {}
        }
    }
    frame(&document.id, &page)
}

/// The kind as a recipe writes it.
pub fn kind(document: &Document) -> String {
    let value = serde_json::to_value(document.kind).ok();
    value.and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

/// A picture that was decoded before, as a `data:` address.
fn data_address(image: &Image) -> String {
    let (bytes, kind) = match image {
        Image::File { bytes, .. } => match read_header(image).map_or("", |seen| seen.format) {
            shown @ ("JPEG" | "PNG" | "WebP" | "GIF" | "BMP") => (bytes.to_vec(), shown),
            // What no browser shows.
            _ => (png(image).unwrap_or_default(), "PNG"),
        },
        Image::Pixels(picture) => (shard::png(picture).unwrap_or_default(), "PNG"),
    };
    format!("data:image/{};base64,{}", kind.to_lowercase(), BASE64_STANDARD.encode(bytes))
}

/// Text that stays text inside an element or a quoted attribute.
pub(crate) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            // Control characters, which HTML does not have, except those of white space.
            c if c.is_control() && !"\n\t\r".contains(c) => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}
