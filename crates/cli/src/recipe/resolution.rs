//! The size of pictures and their tiling, as they are in a stage: a stage sets them for itself and for those
//! that follow.

use mm1_data::image::Tiling;

use super::{ObjectiveKind, Recipe, Stage, TrainStage};

impl Recipe {
    /// The recipe with the size of pictures and the tiling that hold in `stage`: its own, else those of the
    /// last stage before it that has some.
    pub(crate) fn as_of(&self, stage: &str) -> Self {
        let line = self.line(stage);
        let trained = || line.iter().filter_map(|stage| stage.training());
        let trained_size = trained().filter_map(|s| s.image_size).next_back();
        let asked = match line.last() {
            Some(Stage::Eval(eval)) => eval.protocol.image_size,
            _ => None,
        };
        let tiling = trained().filter_map(|s| s.tiling.as_ref()).next_back();
        let mut of_stage = match asked.or(trained_size) {
            Some(size) => self.with_image_size(size),
            None => self.clone(),
        };
        of_stage.image.tiling = tiling.unwrap_or(&self.image.tiling).clone();
        of_stage
    }

    /// The recipe with pictures of `size` pixels a side, which show the same share as before.
    pub(crate) fn with_image_size(&self, size: usize) -> Self {
        let mut sized = self.clone();
        sized.image = self.image_spec().at(size).config;
        sized.model.vision.image_size = size;
        sized
    }

    /// The recipe with the size of pictures and the tiling of a training stage. Only where the decoder reads
    /// pictures they are tiled.
    pub(crate) fn pictures_of(&self, stage: &TrainStage) -> Self {
        let mut of_stage = self.as_of(&stage.name);
        if stage.objective.kind() != ObjectiveKind::Language {
            of_stage.image.tiling = Tiling::default();
        }
        of_stage
    }
}
