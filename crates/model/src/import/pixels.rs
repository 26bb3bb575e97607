//! How an encoder's pixels were prepared, by the settings beside it.

use std::path::Path;

use anyhow::Result;
use serde::Deserialize;

use super::ImportedEncoder;
use super::files::json;

/// Takes mean and deviation of the pixels from the settings in the folder, where it has some.
pub(super) fn apply_preprocessor(folder: &Path, imported: &mut ImportedEncoder) -> Result<()> {
    let preprocessor = folder.join("preprocessor_config.json");
    if preprocessor.exists() {
        json::<Preprocessor>(&preprocessor)?.apply(imported);
    }
    Ok(())
}

/// How pixels were prepared.
#[derive(Deserialize)]
struct Preprocessor {
    do_normalize: Option<bool>,
    image_mean: Option<[f32; 3]>,
    image_std: Option<[f32; 3]>,
}

impl Preprocessor {
    fn apply(self, to: &mut ImportedEncoder) {
        if self.do_normalize == Some(false) {
            (to.mean, to.std) = ([0.0; 3], [1.0; 3]);
            return;
        }
        to.mean = self.image_mean.unwrap_or(to.mean);
        to.std = self.image_std.unwrap_or(to.std);
    }
}
