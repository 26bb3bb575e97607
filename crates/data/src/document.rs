//! [`Document`]: the one type that every source yields. A caption pair, an illustrated page, a plain text and
//! a conversation are all a list of segments.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The kinds of data that MM1 mixes (paper, section 3.2), and the conversations of its tuning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DocumentKind {
    /// A picture and the text somebody wrote beside it.
    Captioned,
    /// A picture and a description made from what it shows (VeCap's part).
    Synthetic,
    /// A document with pictures among its text.
    Interleaved,
    /// Text without pictures.
    TextOnly,
    /// Turns of a user and an assistant.
    Conversation,
}

/// An 8-bit sRGB picture, rows from the top, three bytes a pixel.
#[derive(Clone, PartialEq, Eq)]
pub struct Picture {
    /// Pixels from left to right.
    pub width: u32,
    /// Pixels from top to bottom.
    pub height: u32,
    /// `height * width * 3` bytes.
    pub rgb: Vec<u8>,
}

impl std::fmt::Debug for Picture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Picture({}x{})", self.width, self.height)
    }
}

/// A picture in a document: encoded as its file is, until a row takes it, or drawn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Image {
    /// Decoded, as the built-in world draws it.
    Pixels(Arc<Picture>),
    /// A picture file. Whether it is whole shows only when it is decoded.
    File {
        /// Its name or address as the source has it; empty where it has none.
        name: Arc<str>,
        /// Its bytes.
        bytes: Arc<[u8]>,
    },
}

impl Image {
    /// Its name or address as the source has it; empty for one without and for one that is drawn.
    pub fn name(&self) -> &str {
        match self {
            Self::File { name, .. } => name,
            Self::Pixels(_) => "",
        }
    }

    /// Bytes as it is stored: of the file, or of the pixels.
    pub fn stored_bytes(&self) -> usize {
        match self {
            Self::File { bytes, .. } => bytes.len(),
            Self::Pixels(picture) => picture.rgb.len(),
        }
    }

    /// A picture file with the name or address that its source has for it.
    pub fn named(name: &str, bytes: Vec<u8>) -> Self {
        Self::File { name: name.into(), bytes: bytes.into() }
    }
}

impl From<Arc<Picture>> for Image {
    fn from(picture: Arc<Picture>) -> Self {
        Self::Pixels(picture)
    }
}

impl From<Vec<u8>> for Image {
    fn from(file: Vec<u8>) -> Self {
        Self::named("", file)
    }
}

/// A token with a meaning of its own. It can't be written in text: text that spells its name stays text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Special {
    /// Fills the end of a row; never seen by attention, never learned.
    Pad,
    /// The end of a document or of an assistant's turn: where generation stops.
    End,
    /// The place of one image token; a picture takes as many as the connector makes.
    Image,
    /// A user's turn begins.
    User,
    /// The assistant's turn begins.
    Assistant,
    /// Instructions to the assistant begin.
    System,
}

impl Special {
    /// Whose turn begins with it, as chat templates name roles.
    pub fn role(self) -> Option<&'static str> {
        match self {
            Self::User => Some("user"),
            Self::Assistant => Some("assistant"),
            Self::System => Some("system"),
            Self::Pad | Self::End | Self::Image => None,
        }
    }
}

/// One piece of a document.
#[derive(Clone, Debug, PartialEq)]
pub enum Segment {
    /// Text; `learn` says whether its tokens count in the loss.
    Text {
        /// The text itself.
        text: String,
        /// Whether the loss is taken on its tokens.
        learn: bool,
    },
    /// A picture in its place among the text.
    Image(Image),
    /// A token with a meaning of its own.
    Token {
        /// Which.
        token: Special,
        /// Whether the loss is taken on it.
        learn: bool,
    },
}

impl Segment {
    /// Text that is learned, as in all pre-training data.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text { text: text.into(), learn: true }
    }

    /// Text that is only read, such as a user's question or the prompt of a demonstration.
    pub fn prompt(text: impl Into<String>) -> Self {
        Self::Text { text: text.into(), learn: false }
    }
}

/// What a source yields: segments in reading order, with a name by which the sample can be found again.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// `source/split/index` or the file it came from.
    pub id: String,
    /// Which kind of data it is.
    pub kind: DocumentKind,
    /// The content in reading order.
    pub segments: Vec<Segment>,
}

impl Document {
    /// Its pictures in reading order.
    pub fn pictures(&self) -> impl Iterator<Item = &Image> {
        self.segments.iter().filter_map(|s| match s {
            Segment::Image(image) => Some(image),
            _ => None,
        })
    }

    /// Words of its texts: runs of characters between white space.
    pub fn words(&self) -> u64 {
        self.texts().map(|text| text.split_whitespace().count() as u64).sum()
    }

    /// Bytes of its content: texts in UTF-8, pictures as they are stored.
    pub fn bytes(&self) -> u64 {
        let of_segment = |segment: &Segment| match segment {
            Segment::Text { text, .. } => text.len(),
            Segment::Image(image) => image.stored_bytes(),
            Segment::Token { .. } => 0,
        };
        self.segments.iter().map(|segment| of_segment(segment) as u64).sum()
    }

    /// Its text in reading order, without the special tokens.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().filter_map(|s| match s {
            Segment::Text { text, .. } => Some(text.as_str()),
            _ => None,
        })
    }
}
