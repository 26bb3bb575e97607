//! [`SourceConfig`]: a source as a recipe writes it, and how it is opened.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::album::{Album, Missing};
use super::conversation::Conversations;
use super::files::{Files, Format, Opening};
use super::folder::Folder;
use super::html::Html;
use super::mmc4::Mmc4;
use super::obelics::Obelics;
use super::parquet::{ParquetCaptioned, ParquetText};
use super::shard::Shard;
use super::table::Table;
use super::text::{JsonText, Text, Unit};
use super::webdataset::Webdataset;
use super::{Source, World};
use crate::store::{Blob, Paths, Store, StoreSpec};
#[cfg(feature = "emoji")]
use crate::world::Stream;

/// A source of documents, `[data.NAME]`; a stage's `mixture` and `tasks` call it by its NAME.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum SourceConfig {
    /// Built in: one emoji on a coloured background with a short, noisy text, as pictures and alt texts of
    /// the web.
    EmojiCaptioned {},
    /// Built in: scenes of a few emoji with a full description, as synthetic captions.
    EmojiScenes {},
    /// Built in: pages of text with several pictures between the paragraphs.
    EmojiInterleaved {},
    /// Built in: prose without pictures.
    EmojiText {},
    /// Built in: conversations about scenes, for supervised fine-tuning.
    EmojiChat {},
    /// Built in: questions about two pictures.
    EmojiPairs {},
    /// Built in: new words, bound to pictures and used at once.
    EmojiBinding {},
    /// Built in: signs and what they say.
    EmojiSigns {},
    /// Built in: one emoji in any pose and light before any background; the text is its name, its class.
    EmojiRenderings {},
    /// Built in: as `emoji-renderings`, on white.
    EmojiStickers {},
    /// Pictures in a folder for each class, whose name is their text: `CLASS/*.jpg`, or `train/CLASS/*.jpg`
    /// with `test/CLASS/*.jpg` or `val/CLASS/*.jpg`.
    Classes {
        /// The folder that holds a folder for each class.
        path: PathBuf,
        /// Share of the pictures that is held out for tests, where there is no `test/` or `val/`.
        /// Unit: share of 1.
        #[serde(default = "default_test_share")]
        #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
        test_share: f64,
    },
    /// Pictures with captions in a folder, or in a JSON-lines file beside them.
    Folder {
        /// The folder, or its `.jsonl` file.
        path: PathBuf,
        /// Share of the pictures that is held out for tests.
        /// Unit: share of 1.
        #[serde(default = "default_test_share")]
        #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
        test_share: f64,
    },
    /// Shards of our own: documents of every kind.
    Shards {
        /// The archives: paths, globs, ranges, folders or addresses.
        path: Paths,
        /// Share of the documents that is held out for tests.
        /// Unit: share of 1.
        #[serde(default = "default_test_share")]
        #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
        test_share: f64,
    },
    /// WebDataset archives of pictures with captions.
    Webdataset {
        /// The archives: paths, globs, ranges, folders or addresses.
        path: Paths,
        /// The member with the caption: its extension, or `json.FIELD`.
        #[serde(default = "default_caption")]
        caption: String,
        /// Share of the samples that is held out for tests.
        /// Unit: share of 1.
        #[serde(default = "default_test_share")]
        #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
        test_share: f64,
    },
    /// Parquet of pictures with captions, as Hugging Face's `datasets` writes it.
    ParquetCaptioned {
        /// The files: paths, globs, ranges, folders or addresses.
        path: Paths,
        /// The column of pictures: bytes, or a struct of `bytes` and `path`.
        #[serde(default = "default_image")]
        image: String,
        /// The column of captions.
        #[serde(default = "default_text")]
        text: String,
        /// Memory that open row groups may take; the least recently used are closed first.
        /// Unit: MiB.
        #[serde(default = "default_memory")]
        #[schemars(range(min = 1, max = 1_048_576))]
        memory_mib: u64,
        /// Share of the documents that is held out for tests.
        /// Unit: share of 1.
        #[serde(default = "default_test_share")]
        #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
        test_share: f64,
    },
    /// OBELICS: Parquet of parallel lists of pictures and texts.
    Obelics {
        /// The files: paths, globs, ranges, folders or addresses.
        path: Paths,
        /// The column of lists of pictures.
        #[serde(default = "default_images")]
        images: String,
        /// The column of lists of texts.
        #[serde(default = "default_texts")]
        texts: String,
        /// The folder of pictures that are named by a path; by default such paths are relative to the working
        /// folder.
        #[serde(default)]
        pictures: PathBuf,
        /// What becomes of a document whose picture is missing.
        #[serde(default)]
        missing: Missing,
        /// Memory that open row groups may take; the least recently used are closed first.
        /// Unit: MiB.
        #[serde(default = "default_memory")]
        #[schemars(range(min = 1, max = 1_048_576))]
        memory_mib: u64,
        /// Share of the documents that is held out for tests.
        /// Unit: share of 1.
        #[serde(default = "default_test_share")]
        #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
        test_share: f64,
    },
    /// MMC4: JSON lines of sentences and the pictures that belong to them.
    Mmc4 {
        /// The files: paths, globs, ranges, folders or addresses.
        path: Paths,
        /// The folder of the pictures.
        pictures: PathBuf,
        /// What becomes of a document whose picture is missing.
        #[serde(default)]
        missing: Missing,
        /// Share of the documents that is held out for tests.
        /// Unit: share of 1.
        #[serde(default = "default_test_share")]
        #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
        test_share: f64,
    },
    /// HTML pages and the pictures beside them.
    Html {
        /// The pages: paths, globs, ranges, folders or addresses.
        path: Paths,
        /// What becomes of a document whose picture is missing.
        #[serde(default)]
        missing: Missing,
        /// Share of the documents that is held out for tests.
        /// Unit: share of 1.
        #[serde(default = "default_test_share")]
        #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
        test_share: f64,
    },
    /// Plain text without pictures.
    Text {
        /// The files: paths, globs, ranges, folders or addresses.
        path: Paths,
        /// What a document is.
        #[serde(default)]
        documents: Unit,
        /// Share of the documents that is held out for tests.
        /// Unit: share of 1.
        #[serde(default = "default_test_share")]
        #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
        test_share: f64,
    },
    /// Text without pictures in JSON lines.
    JsonText {
        /// The files: paths, globs, ranges, folders or addresses.
        path: Paths,
        /// The field of the text.
        #[serde(default = "default_text")]
        text: String,
        /// Share of the documents that is held out for tests.
        /// Unit: share of 1.
        #[serde(default = "default_test_share")]
        #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
        test_share: f64,
    },
    /// Text without pictures in a column of Parquet.
    ParquetText {
        /// The files: paths, globs, ranges, folders or addresses.
        path: Paths,
        /// The column of the text.
        #[serde(default = "default_text")]
        text: String,
        /// Memory that open row groups may take; the least recently used are closed first.
        /// Unit: MiB.
        #[serde(default = "default_memory")]
        #[schemars(range(min = 1, max = 1_048_576))]
        memory_mib: u64,
        /// Share of the documents that is held out for tests.
        /// Unit: share of 1.
        #[serde(default = "default_test_share")]
        #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
        test_share: f64,
    },
    /// Conversations in JSON, as LLaVA, ShareGPT and OpenAI have them.
    Conversations {
        /// The files: paths, globs, ranges, folders or addresses.
        path: Paths,
        /// The folder of the pictures; by default their paths are relative to the working folder.
        #[serde(default)]
        pictures: PathBuf,
        /// Share of the documents that is held out for tests.
        /// Unit: share of 1.
        #[serde(default = "default_test_share")]
        #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
        test_share: f64,
    },
}

fn default_test_share() -> f64 {
    0.1
}

fn default_caption() -> String {
    "txt".to_owned()
}

fn default_image() -> String {
    "image".to_owned()
}

fn default_images() -> String {
    "images".to_owned()
}

fn default_text() -> String {
    "text".to_owned()
}

fn default_texts() -> String {
    "texts".to_owned()
}

pub(super) fn default_memory() -> u64 {
    512
}

impl SourceConfig {
    /// Opens the source. `name` is the recipe's name of it, `seed` its order, `world` the built-in world.
    ///
    /// # Errors
    /// Files that can't be used; a built-in source without the world.
    pub fn open(&self, name: &str, seed: u64, world: Option<&Arc<World>>) -> Result<Arc<dyn Source>> {
        self.open_with(name, seed, world, &Store::new(StoreSpec::default())?)
    }

    /// Opens the source with a store of the caller's.
    ///
    /// # Errors
    /// As [`SourceConfig::open`].
    pub fn open_with(
        &self,
        name: &str,
        seed: u64,
        world: Option<&Arc<World>>,
        store: &Store,
    ) -> Result<Arc<dyn Source>> {
        match self {
            Self::Folder { path, test_share } => Ok(Arc::new(Folder::open(name, path, *test_share, seed)?)),
            Self::Classes { path, test_share } => {
                Ok(Arc::new(Folder::of_classes(name, path, *test_share, seed)?))
            }
            _ if self.is_built_in() => self.open_world(name, world),
            _ => Ok(Arc::new(self.open_files(name, seed, store)?)),
        }
    }

    /// Opens a source of files with an index, which can be read in stored order too.
    ///
    /// # Errors
    /// Another kind of source; files that can't be used.
    pub fn open_files(&self, name: &str, seed: u64, store: &Store) -> Result<Files> {
        let (format, paths, test_share) = self.format(name)?;
        Files::open(format, &Opening { name, seed, paths: &paths, test_share, store })
    }

    /// Opens files that were found before.
    pub(crate) fn open_found(&self, name: &str, store: &Store, files: Vec<Blob>) -> Result<Files> {
        let (format, paths, test_share) = self.format(name)?;
        Files::open_found(format, &Opening { name, seed: 0, paths: &paths, test_share, store }, files)
    }

    /// The format, paths and held-out share of a source of files with an index.
    fn format(&self, name: &str) -> Result<(Box<dyn Format>, Paths, f64)> {
        let context = || format!("source `{name}`");
        let table = |columns: &[&str], memory_mib: u64| Table::new(columns, memory_mib).with_context(context);
        Ok(match self.clone() {
            Self::Shards { path, test_share } => (Box::new(Shard), path, test_share),
            Self::Webdataset { path, caption, test_share } => {
                (Box::new(Webdataset { caption }), path, test_share)
            }
            Self::ParquetCaptioned { path, image, text, memory_mib, test_share } => {
                (Box::new(ParquetCaptioned(table(&[&image, &text], memory_mib)?)), path, test_share)
            }
            Self::Obelics { path, images, texts, pictures, missing, memory_mib, test_share } => {
                let table = table(&[&images, &texts], memory_mib)?;
                (Box::new(Obelics { table, album: Album::new(pictures, missing) }), path, test_share)
            }
            Self::Mmc4 { path, pictures, missing, test_share } => {
                (Box::new(Mmc4 { album: Album::new(pictures, missing) }), path, test_share)
            }
            Self::Html { path, missing, test_share } => (Box::new(Html { missing }), path, test_share),
            Self::Text { path, documents, test_share } => (Box::new(Text { documents }), path, test_share),
            Self::JsonText { path, text, test_share } => {
                (Box::new(JsonText { field: text }), path, test_share)
            }
            Self::ParquetText { path, text, memory_mib, test_share } => {
                (Box::new(ParquetText(table(&[&text], memory_mib)?)), path, test_share)
            }
            Self::Conversations { path, pictures, test_share } => {
                (Box::new(Conversations { album: Album::new(pictures, Missing::Refuse) }), path, test_share)
            }
            _ => bail!("source `{name}` has no files with an index"),
        })
    }

    /// Whether it shows the built-in world.
    pub fn is_built_in(&self) -> bool {
        matches!(
            self,
            Self::EmojiCaptioned {}
                | Self::EmojiScenes {}
                | Self::EmojiInterleaved {}
                | Self::EmojiText {}
                | Self::EmojiChat {}
                | Self::EmojiPairs {}
                | Self::EmojiBinding {}
                | Self::EmojiSigns {}
                | Self::EmojiRenderings {}
                | Self::EmojiStickers {}
        )
    }

    #[cfg(feature = "emoji")]
    fn open_world(&self, name: &str, world: Option<&Arc<World>>) -> Result<Arc<dyn Source>> {
        let stream = match self {
            Self::EmojiCaptioned {} => Stream::Captioned,
            Self::EmojiScenes {} => Stream::Scenes,
            Self::EmojiInterleaved {} => Stream::Interleaved,
            Self::EmojiText {} => Stream::Text,
            Self::EmojiChat {} => Stream::Chat,
            Self::EmojiPairs {} => Stream::Pairs,
            Self::EmojiBinding {} => Stream::Binding,
            Self::EmojiSigns {} => Stream::Signs,
            Self::EmojiRenderings {} => Stream::Renderings,
            Self::EmojiStickers {} => Stream::Stickers,
            _ => bail!("source `{name}` is not of the built-in world"),
        };
        let world =
            world.with_context(|| format!("source `{name}` needs the built-in world: give it one"))?;
        Ok(world.source(stream))
    }

    #[cfg(not(feature = "emoji"))]
    fn open_world(&self, name: &str, _: Option<&Arc<World>>) -> Result<Arc<dyn Source>> {
        bail!("source `{name}` needs the built-in pictures: build with the cargo feature `emoji`")
    }
}
