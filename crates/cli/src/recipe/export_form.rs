//! What `export = "…"` asks of a recipe, before anything is trained.

use anyhow::{Context as _, Result, bail, ensure};
use mm1_data::image::{Fit, ImageConfig, OverviewPlace, TileIndicators, Tiling};
use mm1_data::tokenizer::PictureMarks;
use mm1_model::export::{ExportForm, idefics3, llava};

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
            .and_then(|()| tilings(recipe).try_for_each(|tiling| check_idefics3(&tiling)))
            .context("export = \"idefics3\""),
        ExportForm::Llava => llava::check(&recipe.model)
            .and_then(|()| check_processor_of_llava(&recipe.image))
            .and_then(|()| tilings(recipe).try_for_each(|tiling| check_untiled(&tiling)))
            .context("export = \"llava\""),
    }
}

/// The tilings of all stages.
fn tilings(recipe: &Recipe) -> impl Iterator<Item = Tiling> {
    recipe.stage.iter().map(|stage| recipe.as_of(stage.name()).image.tiling)
}

/// Refuses tiles that the processor beside a model of the form can't cut.
///
/// # Errors
/// One line with the field, and the remedy.
pub(crate) fn check_tiling(form: ExportForm, tiling: &Tiling) -> Result<()> {
    match form {
        ExportForm::Own => ensure!(
            *tiling == Tiling::default(),
            "tiling: the processor of a model in its own form shows a picture as one: leave tiling out, or \
             train with export = \"idefics3\" and tiling.kind = \"idefics3\""
        ),
        ExportForm::Idefics3 => check_idefics3(tiling)?,
        ExportForm::Llava => check_untiled(tiling)?,
    }
    Ok(())
}

/// Refuses tiles of any kind.
fn check_untiled(tiling: &Tiling) -> Result<()> {
    ensure!(
        *tiling == Tiling::default(),
        "tiling: LLaVA sees a picture as one: leave tiling out, in [image] and in the stages"
    );
    Ok(())
}

/// Refuses tiles that are not Idefics3's.
fn check_idefics3(tiling: &Tiling) -> Result<()> {
    match tiling {
        Tiling::Whole {} => {}
        Tiling::Idefics3 { overview, indicators, .. } => {
            ensure!(
                *overview == OverviewPlace::Last,
                "tiling.overview = \"first\", but Idefics3 shows the overview behind the tiles: leave it out"
            );
            ensure!(
                *indicators == TileIndicators::RowsColumns,
                "tiling.indicators: Idefics3 has marks of its own between the views: leave it out"
            );
        }
        Tiling::Mm1 { .. } | Tiling::Dynamic { .. } | Tiling::Anyres { .. } => bail!(
            "tiling.kind: Idefics3 cuts pictures by a rule of its own: set it to \"idefics3\", or leave \
             tiling out, in [image] and in the stages"
        ),
    }
    Ok(())
}

/// The marks around pictures that the form of the recipe's export asks for, in all of its stages.
pub(crate) fn picture_marks(recipe: &Recipe) -> Option<PictureMarks> {
    let marks = |recipe: &Recipe| {
        let image = recipe.image_spec();
        PictureMarks::of(&image.config.tiling, image.size)
    };
    let of_stages = recipe.stage.iter().map(|stage| marks(&recipe.as_of(stage.name())));
    let largest = of_stages.chain([marks(recipe)]).max_by_key(|marks| marks.most_tiles);
    match recipe.export {
        ExportForm::Own | ExportForm::Llava => None,
        ExportForm::Idefics3 => largest,
    }
}

/// What LLaVA's processor, which is CLIP's, does with pictures.
fn check_processor_of_llava(image: &ImageConfig) -> Result<()> {
    let done = match image.mode {
        Fit::Squash | Fit::Sides | Fit::ShortestEdge(_) | Fit::Middle => true,
        Fit::CentreCrop | Fit::Pad => false,
    };
    ensure!(
        done,
        "image.mode: the processor of LLaVA stretches pictures to a square, or resizes the short side and \
         cuts the middle out: set it to \"sides\", or to {{ shortest-edge = N }}"
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
