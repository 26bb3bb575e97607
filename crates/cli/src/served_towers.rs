//! [`ServedTowers`]: an image encoder and its text tower, for `mm1 serve`.

use std::path::Path;

use anyhow::Result;
use burn::tensor::{Tensor, TensorData};
use mm1_data::document::Image;
use mm1_data::image::{ImageSpec, normalise_into, prepare};
use mm1_model::Compute;
use mm1_serve::towers::Towers;

use crate::arguments::DeviceArgs;
use crate::error::input;
use crate::stage::dual_encoder::DualEncoder;

/// The towers of a run, as its training left them.
pub(crate) struct ServedTowers {
    pair: DualEncoder,
    compute: Compute,
    image: ImageSpec,
}

impl ServedTowers {
    /// Those of the run folder `root`, and the stage that they are of; `None` where it has none.
    ///
    /// # Errors
    /// A checkpoint or a folder that can't be read.
    pub(crate) fn of_run(root: &Path, device: DeviceArgs) -> Result<Option<(Self, String)>> {
        let recipe = crate::recipe::Recipe::of_run(root)?;
        let device = input(device.or(recipe.device).open())?;
        let Some((pair, recipe, stage)) = DualEncoder::of_folder(root, &device)? else { return Ok(None) };
        let compute = Compute::new(device).with_precision(recipe.precision);
        Ok(Some((Self { pair, compute, image: recipe.image_spec() }, stage)))
    }
}

impl Towers for ServedTowers {
    fn text(&self, text: &str) -> Result<(Vec<f32>, usize)> {
        let tokens = self.pair.tokens(text)?;
        Ok((values(self.pair.embed_texts(&self.compute, &[text.to_owned()])?), tokens))
    }

    fn picture(&self, picture: &Image) -> Result<Vec<f32>> {
        let (side, mut pixels) = (self.image.size, Vec::new());
        normalise_into(&prepare(picture, &self.image)?, &self.image, &mut pixels);
        let pixels = TensorData::new(pixels, [1, side, side, 3]);
        let pixels = Tensor::from_data(pixels, self.compute.device());
        Ok(values(self.pair.embed_pictures(&self.compute, pixels)))
    }
}

/// `[1, e]`
fn values(vectors: Tensor<2>) -> Vec<f32> {
    vectors.into_data().iter::<f32>().collect()
}
