//! WebDataset archives (`.tar`, `.tar.gz`, `.tar.zst`) of pictures with captions.

use anyhow::{Context as _, Result, bail};

use super::files::{FileLayout, Format, ReadDocument};
use super::page::DocumentBuilder;
use super::{json, tar};
use crate::document::Image;
use crate::index::IndexEntry;
use crate::left_out::LeftOut;
use crate::store::Blob;
use crate::text_file;

/// Extensions of pictures.
pub(crate) const PICTURES: [&str; 8] = ["jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff"];
/// Extensions of pictures in formats that are not read.
pub(crate) const PICTURES_NOT_READ: [&str; 10] =
    ["avif", "heic", "heif", "jxl", "jp2", "j2k", "jpx", "svg", "psd", "ico"];

/// Samples of one picture and one caption.
pub struct Webdataset {
    /// Where the caption is: an extension such as `txt`, or `json.FIELD` for a field of the `.json` member.
    pub caption: String,
}

impl Format for Webdataset {
    fn endings(&self) -> &'static [&'static str] {
        &[".tar", ".tar.gz", ".tgz", ".tar.zst"]
    }

    fn layout(&self) -> FileLayout {
        FileLayout::Records("tar".to_owned())
    }

    fn scan(&self, file: &Blob, add: &mut dyn FnMut(IndexEntry)) -> Result<()> {
        tar::scan(file, |key| key, add)
    }

    fn left_out(&self, file: &Blob) -> Result<LeftOut> {
        tar::left_out(file)
    }

    fn read(&self, file: &Blob, record: &IndexEntry, _: u64) -> Result<ReadDocument> {
        let mut sample = tar::read(file, record)?;
        let key = sample.key.clone();
        let text = self.text(&sample).with_context(|| key.clone())?;
        if let Some(name) = sample.names().find(|name| PICTURES_NOT_READ.contains(name)) {
            bail!("{key}: its picture .{name} is of a format that is not read: write JPEG, PNG or WebP");
        }
        let mut pictures = sample.take(|extension| PICTURES.contains(&extension));
        // Two pictures for one caption: which of them it describes can't be known.
        let (Some((extension, bytes)), None) = (pictures.pop(), pictures.pop()) else {
            bail!(
                "{key}: a sample has one picture ({}); this one has {}",
                PICTURES.join(", "),
                sample.extensions()
            )
        };
        let picture = Image::named(&format!("{key}.{extension}"), bytes);
        let mut read = DocumentBuilder::captioned(key, picture, &text)?;
        // The picture was taken; what is left is the caption and the others.
        read.left_out.add("a member beside the picture and the caption", sample.names().count() as u64 - 1);
        Ok(read)
    }
}

impl Webdataset {
    fn text(&self, sample: &tar::TarSample) -> Result<String> {
        let (extension, field) = self.caption.split_once('.').unwrap_or((&self.caption, ""));
        let wanted =
            || format!("no .{extension} among {}: set `caption` to one of them", sample.extensions());
        let bytes = sample.member(extension).with_context(wanted)?;
        if field.is_empty() {
            return text_file::text(bytes.to_vec()).with_context(|| format!(".{extension}"));
        }
        let value = json::parse(&format!(".{extension}"), bytes)?;
        let text = value.get(field).and_then(serde_json::Value::as_str);
        Ok(text.with_context(|| format!(".{extension} has no text in {field:?}"))?.to_owned())
    }
}
