//! How an encoder's pixels were prepared, by the settings beside it.

use std::path::Path;

use anyhow::Result;
use serde::Deserialize;

use super::ImportedEncoder;
use super::files::json;

/// The settings of how pixels were prepared.
const FILE: &str = "preprocessor_config.json";

/// Takes mean and deviation of the pixels from the settings in the folder, where it has some.
///
/// # Errors
/// A file that can't be read, or numbers in it that are not three.
pub(super) fn apply_preprocessor(folder: &Path, imported: &mut ImportedEncoder) -> Result<()> {
    let file = folder.join(FILE);
    if !file.exists() {
        return Ok(());
    }
    let found: Preprocessor = json(&file)?;
    if found.do_normalize == Some(false) {
        (imported.mean, imported.std) = ([0.0; 3], [1.0; 3]);
    } else {
        imported.mean = found.image_mean.unwrap_or(imported.mean);
        imported.std = found.image_std.unwrap_or(imported.std);
    }
    Ok(())
}

/// The same of the settings that this program writes beside a model of its own form.
///
/// # Errors
/// As [`apply_preprocessor`].
pub(super) fn apply_own_preprocessor(folder: &Path, imported: &mut ImportedEncoder) -> Result<()> {
    let file = folder.join(FILE);
    if !file.exists() {
        return Ok(());
    }
    let OwnPreprocessor { image } = json(&file)?;
    imported.mean = image.mean.unwrap_or(imported.mean);
    imported.std = image.std.unwrap_or(imported.std);
    Ok(())
}

/// The settings of transformers' image processors.
#[derive(Deserialize)]
struct Preprocessor {
    do_normalize: Option<bool>,
    image_mean: Option<[f32; 3]>,
    image_std: Option<[f32; 3]>,
}

/// The settings of our own processor.
#[derive(Deserialize)]
struct OwnPreprocessor {
    #[serde(default)]
    image: OwnPixels,
}

#[derive(Default, Deserialize)]
struct OwnPixels {
    mean: Option<[f32; 3]>,
    std: Option<[f32; 3]>,
}
