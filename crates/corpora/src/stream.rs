//! [`ShardFolder`]: the folders that fetched data goes to, what is counted in them, and what could not go
//! there.

use mm1_data::shard::is_shard;
use serde::{Deserialize, Serialize};

/// The folders of the fetched data, by what they are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ShardFolder {
    /// Pictures with the text that came with them.
    Captioned,
    /// Pictures with a sentence made from all that is known of them.
    Synthetic,
    /// Pages with pictures.
    Interleaved,
    /// Text without pictures.
    Text,
    /// Questions about pictures, for training.
    Vqa,
    /// Questions that their authors hold out.
    VqaTest,
    /// Photographs with titles, to look at and not to train on.
    PhotosTest,
}

impl ShardFolder {
    /// Every stream.
    pub const ALL: [Self; 7] = [
        Self::Captioned,
        Self::Synthetic,
        Self::Interleaved,
        Self::Text,
        Self::Vqa,
        Self::VqaTest,
        Self::PhotosTest,
    ];

    /// The name of its folder.
    pub fn folder(self) -> &'static str {
        match self {
            Self::Captioned => "captioned",
            Self::Synthetic => "synthetic",
            Self::Interleaved => "interleaved",
            Self::Text => "text",
            Self::Vqa => "vqa",
            Self::VqaTest => "vqa-test",
            Self::PhotosTest => "photos-test",
        }
    }
}

/// What is in a stream's shards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardCounts {
    /// Archives.
    pub shards: u64,
    /// Documents in them.
    pub documents: u64,
    /// Pictures in these.
    pub images: u64,
    /// Words in these.
    pub words: u64,
}

/// Something that could not be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkippedItem {
    /// Its name in the package.
    pub id: String,
    /// Why.
    pub reason: String,
}

/// Whether a file is a shard of `stem`, or one that was being written.
pub(crate) fn is_of(file: &str, stem: &str) -> bool {
    is_shard(file.strip_suffix(".part").unwrap_or(file), stem)
}
