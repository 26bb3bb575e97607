//! Image encoder and connector of ours as the second file that llama.cpp takes beside a language model, the
//! "mmproj".

use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use super::metadata::MetadataValue;
use super::tensor_type::TensorType;
use super::writer::{TensorSpec, write};
use crate::export::part::{self, ExportedPart, Places};
use crate::export::{idefics3, pool_side};
use crate::mm1::Mm1;
use crate::weights;

/// What is written.
#[derive(Clone, Copy, Debug)]
pub struct GgufProjector<'a> {
    /// The network, of which encoder and connector are taken.
    pub model: &'a Mm1,
    /// How people call it.
    pub name: &'a str,
    /// Mean and deviation of pixels between 0 and 1.
    pub pixels: [[f32; 3]; 2],
    /// To what the longer side of a picture is resized before tiles of the encoder's size are cut.
    /// Unit: pixels.
    pub longest_side: usize,
    /// How its matrices lie in the file; see [`super::GgufLanguageModel`]. Patches and positions are F32.
    pub matrices: TensorType,
}

/// Writes encoder and connector in llama.cpp's form of Idefics3. llama.cpp cuts a picture into tiles and
/// shows the whole after them. Where one tile shows all, the model sees each picture twice.
///
/// # Errors
/// One line with the setting that Idefics3, or llama.cpp's, has not; as [`write()`].
pub fn write_projector(path: &Path, projector: &GgufProjector<'_>) -> Result<()> {
    let GgufProjector { model, matrices, .. } = *projector;
    idefics3::check(model.config())?;
    ensure!(
        pool_side(model.config())? > 1,
        "model.connector.tokens: llama.cpp's Idefics3 pools 2 x 2 patches or more, not each by itself"
    );
    let mut places = Places::new();
    for (path, shape) in weights::shapes(model).into_iter().filter(|(path, _)| !path.starts_with("lm.")) {
        let own = idefics3::GGUF_NAMES.places(&path, &shape, model.config());
        places.insert(path.clone(), own.with_context(|| format!("`{path}`"))?);
    }
    let parts = part::in_order(model, &places);
    let specs: Vec<TensorSpec> = parts.into_iter().map(|part| spec(part, matrices)).collect();
    write(path, &settings(projector)?, &specs, |writer| {
        part::visit(model, &places, |values| writer.put(values))
    })
}

/// As llama.cpp's own converter stores them.
fn spec(part: &ExportedPart, matrices: TensorType) -> TensorSpec {
    let whole = part.shape.last().is_some_and(|row| row.is_multiple_of(matrices.block()));
    let tensor_type = match part.shape.len() {
        2 if part.name.contains("position") => TensorType::F32,
        2 if whole => matrices,
        2 => TensorType::F16,
        _ => TensorType::F32,
    };
    TensorSpec { name: part.name.clone(), shape: part.shape.clone(), tensor_type }
}

fn settings(projector: &GgufProjector<'_>) -> Result<Vec<(String, MetadataValue)>> {
    let GgufProjector { model, name, pixels: [mean, std], longest_side, matrices } = *projector;
    let config = model.config();
    let vision = &config.vision;
    let size = |value: usize| MetadataValue::u32(u32::try_from(value).unwrap_or(u32::MAX));
    let text = |value: &str| MetadataValue::Text(value.to_owned());
    let values = [
        ("general.architecture", text("clip")),
        ("general.type", text("mmproj")),
        ("general.name", text(name)),
        ("general.file_type", size(matrices.file_type())),
        ("clip.has_vision_encoder", MetadataValue::Bool(true)),
        ("clip.projector_type", text("idefics3")),
        // llama.cpp calls the approximation by tanh so.
        ("clip.use_gelu", MetadataValue::Bool(true)),
        ("clip.vision.image_size", size(vision.image_size)),
        ("clip.vision.preproc_image_size", size(longest_side)),
        ("clip.vision.patch_size", size(vision.patch)),
        ("clip.vision.embedding_length", size(vision.dim)),
        ("clip.vision.feed_forward_length", size(vision.ffn)),
        ("clip.vision.block_count", size(vision.blocks())),
        ("clip.vision.attention.head_count", size(vision.heads)),
        ("clip.vision.attention.layer_norm_epsilon", MetadataValue::f32(vision.norm_eps as f32)),
        ("clip.vision.projection_dim", size(config.lm.dim)),
        ("clip.vision.projector.scale_factor", size(pool_side(config)?)),
        ("clip.vision.image_mean", MetadataValue::f32s(mean)),
        ("clip.vision.image_std", MetadataValue::f32s(std)),
    ];
    Ok(values.map(|(key, value)| (key.to_owned(), value)).into())
}
