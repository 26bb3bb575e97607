//! `preprocessor_config.json`: how pictures are prepared for an encoder of Hugging Face's, as the
//! processors of CLIP, SigLIP, ViT, DINOv2 (BiT) and Idefics3 write it, and the one beside an exported
//! model of ours. What it says is taken from its fields alone, whatever the name of the processor; what
//! can't be done, and what is not known, is refused.

use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::spec::{Fit, ImageConfig, ImageSpec, ResizeFilter};
use super::tiling::{OverviewPlace, TileIndicators, Tiling};
use crate::text_file;

/// Fields that do not change the pixels of a picture of three channels.
const WITHOUT_EFFECT: [&str; 11] = [
    "_valid_processor_keys",
    "auto_map",
    "data_format",
    "device",
    "disable_grouping",
    "do_convert_rgb",
    "feature_extractor_type",
    "image_processor_type",
    "processor_class",
    "return_tensors",
    "video_sampling",
];

/// A size as it is written.
#[derive(Clone, Copy, Deserialize)]
#[serde(
    untagged,
    deny_unknown_fields,
    expecting = "expected a number of pixels, {\"shortest_edge\": N} or {\"height\": N, \"width\": N}"
)]
enum SizeField {
    /// The short side where a crop follows, as CLIP's first files have it; of a crop, both sides.
    Number(usize),
    Shortest {
        shortest_edge: usize,
    },
    Sides {
        height: usize,
        width: usize,
    },
}

/// A length as Idefics3's processor has it.
#[derive(Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
struct LongestEdge {
    longest_edge: usize,
}

impl ImageSpec {
    /// What an encoder's folder says of its pictures: its `preprocessor_config.json`, or the part
    /// `image_processor` of its `processor_config.json`, as transformers 5 writes it; `None`, where it has
    /// neither.
    ///
    /// # Errors
    /// As [`ImageSpec::from_preprocessor`]; two files that differ.
    pub fn of_encoder(folder: &Path) -> Result<Option<Self>> {
        let [own, shared] =
            ["preprocessor_config.json", "processor_config.json"].map(|name| folder.join(name));
        let own = own.exists().then(|| Self::from_preprocessor(&own)).transpose()?;
        let nested = if shared.exists() { Self::from_processor(&shared)? } else { None };
        match (own, nested) {
            (Some(own), Some(nested)) => {
                ensure!(
                    own == nested,
                    "{}: preprocessor_config.json and processor_config.json prepare pictures in different \
                     ways: take the wrong one out",
                    folder.display()
                );
                Ok(Some(own))
            }
            (own, nested) => Ok(own.or(nested)),
        }
    }

    /// The part `image_processor` of a `processor_config.json`; one without it says nothing of pictures.
    fn from_processor(path: &Path) -> Result<Option<Self>> {
        let read = || -> Result<Option<Self>> {
            let Some(fields) = image_processor(path)? else { return Ok(None) };
            let spec = fields.spec().context("image_processor")?;
            spec.check()?;
            Ok(Some(spec))
        };
        read().with_context(|| path.display().to_string())
    }

    /// Reads a `preprocessor_config.json`. Two things differ from its processor: transparency lies over
    /// white, and a picture is rotated upright by its EXIF orientation.
    ///
    /// # Errors
    /// One line that names the file and the field: a file that can't be read, a field that is missing,
    /// unknown or needs what can't be done.
    pub fn from_preprocessor(path: &Path) -> Result<Self> {
        let read = || -> Result<Self> {
            let spec = PreprocessorFields(object(path)?).spec()?;
            spec.check()?;
            Ok(spec)
        };
        read().with_context(|| path.display().to_string())
    }
}

impl Tiling {
    /// The tiles that the processor of the whole Idefics3 in `folder` cuts. What else it says is
    /// [`ImageSpec::of_encoder`]'s, which sees each tile as a picture.
    ///
    /// # Errors
    /// One line that names the file and the field: tiles that are cut in another way than ours.
    pub fn of_idefics3(folder: &Path) -> Result<Self> {
        let [own, shared] =
            ["preprocessor_config.json", "processor_config.json"].map(|name| folder.join(name));
        let (path, fields) = match own.exists() {
            true => (own.clone(), Some(PreprocessorFields(object(&own)?))),
            false if shared.exists() => (shared.clone(), image_processor(&shared)?),
            false => return Ok(Self::default()),
        };
        let tiles = fields.map_or_else(|| Ok(Self::default()), PreprocessorFields::tiles_of_idefics3);
        tiles.with_context(|| path.display().to_string())
    }
}

/// The fields of the part `image_processor` of a `processor_config.json`, if it has one.
fn image_processor(path: &Path) -> Result<Option<PreprocessorFields>> {
    match object(path)?.remove("image_processor") {
        None => Ok(None),
        Some(Value::Object(part)) => Ok(Some(PreprocessorFields(part))),
        Some(_) => bail!("image_processor is no JSON object"),
    }
}

/// The JSON object in a file.
fn object(path: &Path) -> Result<Map<String, Value>> {
    let text = text_file::read(path).context("the preprocessor's settings")?;
    serde_json::from_str(&text).context("not a JSON object")
}

/// The fields that were not looked at yet.
struct PreprocessorFields(Map<String, Value>);

impl PreprocessorFields {
    fn spec(mut self) -> Result<ImageSpec> {
        if let Some(config) = self.take::<ImageConfig>("image")? {
            // As this program writes it.
            let size = self.take("size")?.context("size is missing")?;
            self.check_rest()?;
            return Ok(config.of_size(size));
        }
        let (mode, size) = match self.square_of_idefics3()? {
            Some(side) => (Fit::Sides, side),
            None => self.fit()?,
        };
        let filter = self.filter(mode)?;
        let rescaled = self.take("do_rescale")?.unwrap_or(true);
        ensure!(rescaled, "do_rescale = false: levels of 0 to 255 are always divided by 255");
        let factor: f64 = self.take("rescale_factor")?.unwrap_or(1.0 / 255.0);
        ensure!((factor * 255.0 - 1.0).abs() < 1e-6, "rescale_factor = {factor}: only 1/255 is done");
        let normalised = self.take("do_normalize")?.unwrap_or(true);
        let (mean, std) = (self.take("image_mean")?, self.take("image_std")?);
        let (mean, std) = match (normalised, mean, std) {
            (false, ..) => ([0.0; 3], [1.0; 3]),
            (true, Some(mean), Some(std)) => (mean, std),
            (true, None, _) => bail!("image_mean is missing: give three numbers, or do_normalize = false"),
            (true, _, None) => bail!("image_std is missing: give three numbers, or do_normalize = false"),
        };
        self.check_rest()?;
        Ok(ImageConfig { mode, filter, mean, std, ..ImageConfig::default() }.of_size(size))
    }

    /// The tiles of Idefics3's processor: squares, so many of them along the longer side of a picture.
    fn tiles_of_idefics3(mut self) -> Result<Tiling> {
        if !self.take::<bool>("do_image_splitting")?.unwrap_or(false) {
            return Ok(Tiling::default());
        }
        let [square, size] = ["max_image_size", "size"].map(|field| self.take::<LongestEdge>(field));
        let (Some(square), Some(size)) = (square?, size?) else {
            bail!("do_image_splitting = true, but max_image_size or size is missing")
        };
        let [tile, side] = [square, size].map(|edge| edge.longest_edge);
        let resized = self.take::<bool>("do_resize")?.unwrap_or(true);
        let longest = u32::try_from(side.checked_div(tile).unwrap_or(0))?;
        ensure!(
            resized && tile * longest as usize == side,
            "do_image_splitting = true: only a picture whose longer side is resized to whole tiles can be \
             cut, but it is size = {side} with max_image_size = {tile}, do_resize = {resized}"
        );
        let (overview, indicators) = (OverviewPlace::Last, TileIndicators::RowsColumns);
        let tiling = Tiling::Idefics3 { longest, overview, indicators };
        tiling.check(tile)?;
        Ok(tiling)
    }

    /// The side of Idefics3's square, to which both sides of a picture are resized. The tiles that its
    /// processor may cut besides, after a resize of its own, are no matter of the encoder: each is such a
    /// square.
    fn square_of_idefics3(&mut self) -> Result<Option<usize>> {
        let Some(square) = self.take::<LongestEdge>("max_image_size")? else { return Ok(None) };
        for field in ["do_resize", "size", "do_image_splitting", "do_pad"] {
            self.0.remove(field);
        }
        Ok(Some(square.longest_edge))
    }

    /// How a picture becomes a square, and its side.
    fn fit(&mut self) -> Result<(Fit, usize)> {
        let resized = self.take("do_resize")?.unwrap_or(true);
        let (size, crop) = (self.take::<SizeField>("size")?, self.take::<SizeField>("crop_size")?);
        let cropped = self.take("do_center_crop")?.unwrap_or(crop.is_some());
        let side = match crop {
            _ if !cropped => None,
            Some(SizeField::Number(side)) => Some(side),
            Some(SizeField::Sides { height, width }) if height == width => Some(height),
            _ => {
                bail!("crop_size: a centre crop needs a square, such as {{\"height\": 224, \"width\": 224}}")
            }
        };
        match (resized, size, side) {
            (false, _, Some(side)) => Ok((Fit::Middle, side)),
            (false, _, None) => {
                bail!("do_resize = false without do_center_crop: pictures would keep their own sizes")
            }
            (
                true,
                Some(SizeField::Number(edge) | SizeField::Shortest { shortest_edge: edge }),
                Some(side),
            ) => Ok((Fit::ShortestEdge(edge), side)),
            (true, Some(SizeField::Sides { height, width }), None) if height == width => {
                Ok((Fit::Sides, height))
            }
            (true, Some(SizeField::Sides { height, width }), Some(side)) if [height, width] == [side; 2] => {
                Ok((Fit::Sides, side))
            }
            (true, Some(_), Some(_)) => {
                bail!("size: with a centre crop it is {{\"shortest_edge\": N}}, or the sides of the crop")
            }
            (true, Some(_), None) => {
                bail!(
                    "size: without a centre crop it is a square, such as {{\"height\": 224, \"width\": 224}}"
                )
            }
            (true, None, _) => bail!("size is missing: give it, or do_resize = false"),
        }
    }

    fn filter(&mut self, mode: Fit) -> Result<ResizeFilter> {
        match self.take::<u64>("resample")? {
            Some(0) => Ok(ResizeFilter::Nearest),
            Some(1) => Ok(ResizeFilter::Lanczos),
            Some(2) => Ok(ResizeFilter::Bilinear),
            Some(3) => Ok(ResizeFilter::Bicubic),
            Some(other) => bail!(
                "resample = {other}: 0 (nearest), 1 (Lanczos), 2 (bilinear) and 3 (bicubic) are done, \
                 as Pillow numbers them"
            ),
            // Nothing is resized.
            None if mode == Fit::Middle => Ok(ResizeFilter::default()),
            None => bail!("resample is missing: give 0 (nearest), 1 (Lanczos), 2 (bilinear) or 3 (bicubic)"),
        }
    }

    /// The value of a field, where it is there.
    fn take<T: DeserializeOwned>(&mut self, name: &str) -> Result<Option<T>> {
        match self.0.remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => {
                let parsed = serde_json::from_value(value.clone());
                parsed.map(Some).map_err(|_| anyhow::anyhow!("{name} = {value} is not understood"))
            }
        }
    }

    /// Refuses what might change the picture.
    fn check_rest(&self) -> Result<()> {
        for (name, value) in &self.0 {
            let without_effect = WITHOUT_EFFECT.contains(&name.as_str());
            ensure!(
                without_effect || matches!(value, Value::Null | Value::Bool(false)),
                "{name} = {value} is not known: take it out if pictures are prepared without it"
            );
        }
        Ok(())
    }
}
