//! Sources: one file per format, each yields [`Document`]s.

pub mod folder;

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use self::folder::Folder;
use crate::document::Document;
#[cfg(feature = "emoji")]
use crate::world::{Stream, World};

/// The built-in world, which this build does not have.
#[cfg(not(feature = "emoji"))]
pub enum World {}

/// Training or held-out data. No sample, and for the built-in world no composition, is in both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Split {
    /// Seen in training; demonstrations are drawn from it.
    Train,
    /// Held out.
    Test,
}

impl Split {
    /// `train` or `test`, as sample ids write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Test => "test",
        }
    }
}

/// Documents by index.
pub trait Source: Send + Sync {
    /// The document at `index` of `split`: a pure function of its arguments. In `Train` there is no last index; a
    /// source of `n` documents begins its next epoch at each multiple of `n`, in another order.
    ///
    /// # Errors
    /// A damaged sample; the loader skips, counts and lists it.
    fn document(&self, split: Split, index: u64) -> Result<Document>;

    /// Number of documents of `split`; `None` where there is no end.
    fn len(&self, split: Split) -> Option<u64>;
}

/// A source as a recipe writes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum SourceConfig {
    /// Built in: one emoji and its name.
    EmojiCaptioned {},
    /// Built in: scenes with full descriptions.
    EmojiScenes {},
    /// Built in: pages with several pictures.
    EmojiInterleaved {},
    /// Built in: prose without pictures.
    EmojiText {},
    /// Built in: conversations about scenes.
    EmojiChat {},
    /// Pictures with captions in a folder, or in a JSON-lines file beside them.
    Folder {
        /// The folder, or its `.jsonl` file.
        path: PathBuf,
        /// Share of the pictures that is held out.
        #[serde(default = "default_test_share")]
        test_share: f64,
    },
}

fn default_test_share() -> f64 {
    0.1
}

impl SourceConfig {
    /// Opens the source. `name` is the recipe's name of it, `seed` its order, `world` the built-in world.
    ///
    /// # Errors
    /// A folder that can't be used; a built-in source without the world.
    pub fn open(&self, name: &str, seed: u64, world: Option<&Arc<World>>) -> Result<Arc<dyn Source>> {
        if let Self::Folder { path, test_share } = self {
            return Ok(Arc::new(Folder::open(name, path, *test_share, seed)?));
        }
        self.open_world(name, world)
    }

    #[cfg(feature = "emoji")]
    fn open_world(&self, name: &str, world: Option<&Arc<World>>) -> Result<Arc<dyn Source>> {
        let stream = match self {
            Self::EmojiCaptioned {} => Stream::Captioned,
            Self::EmojiScenes {} => Stream::Scenes,
            Self::EmojiInterleaved {} => Stream::Interleaved,
            Self::EmojiText {} => Stream::Text,
            Self::EmojiChat {} => Stream::Chat,
            Self::Folder { .. } => anyhow::bail!("source `{name}` is a folder, not of the built-in world"),
        };
        let world =
            world.ok_or_else(|| anyhow::anyhow!("source `{name}` needs the built-in world: give it one"))?;
        Ok(world.source(stream))
    }

    #[cfg(not(feature = "emoji"))]
    fn open_world(&self, name: &str, _: Option<&Arc<World>>) -> Result<Arc<dyn Source>> {
        anyhow::bail!("source `{name}` needs the built-in pictures: build with the cargo feature `emoji`")
    }
}
