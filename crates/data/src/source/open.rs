//! Opens sources: what a recipe writes becomes something that documents are read from.

use std::sync::Arc;

use anyhow::{Context as _, Result, bail};

use super::album::{Album, MissingPicture};
use super::config::SourceConfig;
use super::conversation::{Conversations, ParquetConversations};
use super::few_shot::FewShotConversations;
use super::files::{Files, Format, Opening};
use super::folder::PictureFolder;
use super::html::Html;
use super::instructions::CaptionInstructions;
use super::interface::Source;
use super::mmc4::Mmc4;
use super::obelics::Obelics;
use super::parquet::{ParquetCaptioned, ParquetRows, ParquetText, RowFormat};
use super::shard::Shard;
use super::table::ParquetColumns;
use super::text::{JsonText, PlainText};
use super::webdataset::Webdataset;
use crate::store::{Blob, Paths, Store, StoreSpec};
#[cfg(feature = "emoji")]
use crate::world::{World, WorldStream};
#[cfg(not(feature = "emoji"))]
use NoWorld as World;

/// The built-in world, which this build does not have.
#[cfg(not(feature = "emoji"))]
pub enum NoWorld {}

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
            Self::Folder { path, test_share } => {
                Ok(Arc::new(PictureFolder::open(name, path, *test_share, seed)?))
            }
            Self::Classes { path, test_share } => {
                Ok(Arc::new(PictureFolder::of_classes(name, path, *test_share, seed)?))
            }
            Self::Instructions { of, .. } | Self::FewShot { of, .. } => {
                bail!("source `{name}` is made of source `{of}`, which a recipe has to have")
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

    /// Opens a source that is made of another one, `inner`; its order is that one's.
    ///
    /// # Errors
    /// Settings that are wrong; a source that is made of no other.
    pub fn open_over(&self, name: &str, seed: u64, inner: Arc<dyn Source>) -> Result<Arc<dyn Source>> {
        match self {
            Self::Instructions { requests, .. } => {
                let source = CaptionInstructions::new(inner, requests, seed);
                Ok(Arc::new(source.with_context(|| format!("source `{name}`"))?))
            }
            Self::FewShot { shots, .. } => {
                let source = FewShotConversations::new(inner, *shots);
                Ok(Arc::new(source.with_context(|| format!("source `{name}`"))?))
            }
            _ => bail!("source `{name}` is made of no other source"),
        }
    }

    /// The format, paths and held-out share of a source of files with an index.
    fn format(&self, name: &str) -> Result<(Box<dyn Format>, Paths, f64)> {
        Ok(match self.clone() {
            Self::Shards { path, test_share } => (Box::new(Shard), path, test_share),
            Self::Webdataset { path, caption, test_share } => {
                (Box::new(Webdataset { caption }), path, test_share)
            }
            Self::ParquetCaptioned { path, image, text, memory_mib, test_share } => {
                (rows(name, ParquetCaptioned, &[&image, &text], memory_mib)?, path, test_share)
            }
            Self::Obelics { path, images, texts, pictures, missing, memory_mib, test_share } => {
                let pages = Obelics { album: Album::new(pictures, missing) };
                (rows(name, pages, &[&images, &texts], memory_mib)?, path, test_share)
            }
            Self::Mmc4 { path, pictures, missing, test_share } => {
                (Box::new(Mmc4 { album: Album::new(pictures, missing) }), path, test_share)
            }
            Self::Html { path, missing, test_share } => (Box::new(Html::new(missing)), path, test_share),
            Self::Text { path, documents, test_share } => {
                (Box::new(PlainText { documents }), path, test_share)
            }
            Self::JsonText { path, text, test_share } => {
                (Box::new(JsonText { field: text }), path, test_share)
            }
            Self::ParquetText { path, text, memory_mib, test_share } => {
                (rows(name, ParquetText, &[&text], memory_mib)?, path, test_share)
            }
            Self::ParquetConversations { path, turns, images, pictures, memory_mib, test_share } => {
                let columns = [turns.as_str(), &images];
                let columns: Vec<&str> = columns.into_iter().filter(|name| !name.is_empty()).collect();
                let talks = Conversations { album: Album::new(pictures, MissingPicture::Refuse) };
                let format = ParquetConversations { turns: turns.clone(), talks };
                (rows(name, format, &columns, memory_mib)?, path, test_share)
            }
            Self::Conversations { path, pictures, test_share } => (
                Box::new(Conversations { album: Album::new(pictures, MissingPicture::Refuse) }),
                path,
                test_share,
            ),
            _ => bail!("source `{name}` has no files with an index"),
        })
    }

    #[cfg(feature = "emoji")]
    fn open_world(&self, name: &str, world: Option<&Arc<World>>) -> Result<Arc<dyn Source>> {
        let stream = match self {
            Self::EmojiCaptioned {} => WorldStream::Captioned,
            Self::EmojiScenes {} => WorldStream::Scenes,
            Self::EmojiInterleaved {} => WorldStream::Interleaved,
            Self::EmojiText {} => WorldStream::Text,
            Self::EmojiChat {} => WorldStream::Chat,
            Self::EmojiPairs {} => WorldStream::Pairs,
            Self::EmojiBinding {} => WorldStream::Binding,
            Self::EmojiSigns {} => WorldStream::Signs,
            Self::EmojiRenderings {} => WorldStream::Renderings,
            Self::EmojiStickers {} => WorldStream::Stickers,
            Self::EmojiDetail {} => WorldStream::Detail,
            Self::EmojiDetailChat {} => WorldStream::DetailChat,
            Self::EmojiQuiz {} => WorldStream::Quiz,
            Self::EmojiDescriptions {} => WorldStream::Descriptions,
            Self::EmojiVqa {} => WorldStream::Vqa,
            Self::EmojiReasoning {} => WorldStream::Reasoning,
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

/// Some columns of Parquet files, a document a row, for the source `name`.
fn rows<F: RowFormat + 'static>(
    name: &str,
    format: F,
    columns: &[&str],
    memory_mib: u64,
) -> Result<Box<dyn Format>> {
    let columns = ParquetColumns::new(columns, memory_mib).with_context(|| format!("source `{name}`"))?;
    Ok(Box::new(ParquetRows { columns, format }))
}
