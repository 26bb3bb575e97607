//! The album: the folder of the pictures that documents name. No name leaves it.

use std::path::{Component, Path, PathBuf};

use crate::document::Image;
use crate::regular_file;
use anyhow::{Context as _, Result, bail, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The largest picture file that is read.
const MAX_FILE: u64 = 128 << 20;

/// What becomes of a document whose image is not there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum MissingPicture {
    /// The document counts as damaged.
    #[default]
    Refuse,
    /// The document stays without the image, as for sets whose addresses have died.
    LeaveOut,
}

/// A picture as a record has it: its bytes, or the path of its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PictureCell {
    pub(crate) bytes: Option<Vec<u8>>,
    pub(crate) path: Option<String>,
}

/// A folder of pictures.
pub(crate) struct Album {
    /// No picture outside of it is read.
    root: PathBuf,
    missing: MissingPicture,
}

impl Album {
    pub(crate) fn new(root: PathBuf, missing: MissingPicture) -> Self {
        Self { root, missing }
    }

    /// Whether there is a file with this name, relative to the folder.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.root.join(name).is_file()
    }

    /// The file with this name, relative to the folder; `None` where it is missing and may be.
    ///
    /// # Errors
    /// A name or a link that leaves the folder, a file that can't be read or is too large; one that is
    /// missing.
    pub(crate) fn picture(&self, name: &str) -> Result<Option<Image>> {
        let inside =
            Path::new(name).components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
        ensure!(inside && !name.is_empty(), "the picture {name:?} is not inside its folder");
        let path = self.root.join(name);
        if !path.exists() {
            ensure!(self.missing == MissingPicture::LeaveOut, "the picture {} is not there", path.display());
            return Ok(None);
        }
        let read = || {
            // Both are resolved, since the folder itself may be reached through a link.
            let (file, root) = (path.canonicalize()?, self.root.canonicalize()?);
            ensure!(file.starts_with(root), "a link that leaves the folder");
            Ok(Image::named(name, regular_file::read(&file, MAX_FILE)?))
        };
        read().map(Some).with_context(|| path.display().to_string())
    }

    /// The bytes of the cell, or else the file or `data:` address that it names; `None` where it is missing
    /// and may be.
    ///
    /// # Errors
    /// As [`Album::address`]; a cell without bytes and path.
    pub(crate) fn cell(&self, cell: &PictureCell) -> Result<Option<Image>> {
        match (&cell.bytes, &cell.path) {
            (Some(bytes), path) => Ok(Some(Image::named(path.as_deref().unwrap_or_default(), bytes.clone()))),
            (None, Some(path)) => self.address(path),
            (None, None) => bail!("the picture has neither bytes nor a path"),
        }
    }

    /// A picture in a `data:` address, or as [`Album::picture`].
    ///
    /// # Errors
    /// As [`Album::picture`]; an address of a server, a `data:` address that is not Base64.
    pub(crate) fn address(&self, address: &str) -> Result<Option<Image>> {
        let Some(data) = address.strip_prefix("data:") else {
            if self.missing == MissingPicture::LeaveOut && address.contains("://") {
                return Ok(None);
            }
            ensure!(
                !address.contains("://"),
                "{address}: pictures are read from a folder or `data:`, not from servers"
            );
            return self.picture(address);
        };
        match data.split_once(";base64,") {
            Some((kind, text)) if kind.starts_with("image/") => {
                Ok(Some(BASE64_STANDARD.decode(text.trim()).context("a damaged `data:` picture")?.into()))
            }
            _ => bail!("a `data:` address that is no picture in Base64"),
        }
    }
}
