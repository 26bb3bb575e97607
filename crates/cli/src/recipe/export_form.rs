//! What `export = "…"` asks of a recipe, before anything is trained.

use anyhow::{Context as _, Result, ensure};
use mm1_data::image::{Fit, ImageConfig, Tiling};
use mm1_model::export::{ExportForm, idefics3};

use super::Recipe;

/// Refuses a recipe whose model could not become what its `export` names.
///
/// # Errors
/// One line with the field, and the remedy.
pub(crate) fn check(recipe: &Recipe) -> Result<()> {
    match recipe.export {
        ExportForm::Own => Ok(()),
        ExportForm::Idefics3 => idefics3::check(&recipe.model)
            .and_then(|()| check_pictures(&recipe.image))
            .and_then(|()| recipe.stage.iter().try_for_each(|stage| check_views(&recipe.as_of(stage.name()))))
            .context("export = \"idefics3\""),
    }
}

/// Refuses what no form of an export has words for: a picture in several views. `recipe` is that of a stage.
///
/// # Errors
/// One line with the field, and the remedy.
pub(crate) fn check_views(recipe: &Recipe) -> Result<()> {
    ensure!(
        recipe.image.tiling == Tiling::default(),
        "tiling: exported models show an image as one; an export of tiles is not written yet: leave tiling \
         out, in [image] and in the stages"
    );
    Ok(())
}

/// What Idefics3's processor does with pictures: both sides become the model's, and a picture of zeros alone
/// is taken for the filling of a batch, and left out.
fn check_pictures(image: &ImageConfig) -> Result<()> {
    ensure!(
        matches!(image.mode, Fit::Squash | Fit::Sides),
        "image.mode: the processor of Idefics3 stretches pictures to a square: set it to \"sides\""
    );
    let mid = |mean: &f32| {
        let level = mean * 255.0;
        (level - level.round()).abs() < 1e-3
    };
    ensure!(
        !image.mean.iter().all(mid),
        "image.mean = {:?}: a picture of this colour would be all zeros, which Idefics3 leaves out: take \
         means between two of the 256 levels, such as 0.5",
        image.mean
    );
    Ok(())
}
