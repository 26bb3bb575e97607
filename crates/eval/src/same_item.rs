//! [`ItemIdentity`]: whether an item shows what another asks, whatever its name, its file's format and its
//! spelling.

use anyhow::Result;
use mm1_data::document::Image;
use mm1_data::image::{PictureKey, open};
use mm1_data::question::{Question, normalised_question};

use crate::contamination::pixel_hash;

/// What tells an item from others.
pub(crate) struct ItemIdentity {
    id: String,
    looks: Vec<PictureLook>,
    /// Of an item without pictures: its question and its options, normalised and sorted.
    words: Option<(String, Vec<String>)>,
}

/// What tells a picture from others.
enum PictureLook {
    /// It matches the same picture in another format, size and quality.
    Key(PictureKey),
    /// The hash of the pixels of one of a single colour, which has nothing else.
    Blank(u64),
}

impl ItemIdentity {
    /// Decodes its pictures.
    ///
    /// # Errors
    /// A damaged picture.
    pub(crate) fn of(item: &Question) -> Result<Self> {
        let text = normalised_question(&item.text);
        let words = (item.pictures.is_empty() && !text.is_empty()).then(|| {
            let mut choices: Vec<String> =
                item.choices.iter().map(|text| normalised_question(text)).collect();
            choices.sort();
            (text, choices)
        });
        let looks = item.pictures.iter().map(PictureLook::of).collect::<Result<_>>()?;
        Ok(Self { id: item.id.clone(), looks, words })
    }

    /// Whether one is, or shows, the other: the same id, a picture of it, or without pictures the same
    /// question with the same options.
    pub(crate) fn shows(&self, other: &Self) -> bool {
        self.id == other.id
            || (self.words.is_some() && self.words == other.words)
            || self.looks.iter().any(|look| other.looks.iter().any(|other| look.matches(other)))
    }
}

impl PictureLook {
    fn of(picture: &Image) -> Result<Self> {
        let key = PictureKey::of(picture)?;
        Ok(if key.is_blank() { Self::Blank(pixel_hash(&*open(picture)?)) } else { Self::Key(key) })
    }

    fn matches(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Key(a), Self::Key(b)) => a.matches(b),
            (Self::Blank(a), Self::Blank(b)) => a == b,
            _ => false,
        }
    }
}
