//! Image encoder and connector of ours as the second file that llama.cpp takes beside a language model, the
//! "mmproj".

use std::path::Path;

use anyhow::{Context as _, Result, bail};

use super::metadata::MetadataValue;
use super::tensor_type::TensorType;
use super::writer::{TensorSpec, write};
use crate::config::Mm1Config;
use crate::export::model_names::ModelNames;
use crate::export::part::{self, ExportedPart, Places};
use crate::export::{idefics3, llava, pool_side};
use crate::mm1::Mm1;
use crate::vision::VisionActivation;
use crate::weights;

/// What is written.
#[derive(Clone, Copy, Debug)]
pub struct GgufProjector<'a> {
    /// The network, of which encoder and connector are taken.
    pub model: &'a Mm1,
    /// Which of llama.cpp's.
    pub form: ProjectorForm,
    /// How people call it.
    pub name: &'a str,
    /// Mean and deviation of pixels between 0 and 1.
    pub pixels: [[f32; 3]; 2],
    /// How its matrices lie in the file; see [`super::GgufLanguageModel`]. Patches and positions are F32.
    pub matrices: TensorType,
}

/// An encoder and connector that llama.cpp has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProjectorForm {
    /// Idefics3's. llama.cpp cuts a picture into tiles and shows the whole after them. Where one tile shows
    /// all, the model sees each picture twice.
    Idefics3 {
        /// To what the longer side of a picture is resized before tiles of the encoder's size are cut.
        /// Unit: pixels.
        longest_side: usize,
    },
    /// LLaVA's. The GELU of its connector is that with `tanh` there, which differs by 5e-4 at most.
    Llava,
}

impl ProjectorForm {
    /// What llama.cpp would compute in another way than this model, if anything.
    ///
    /// # Errors
    /// One line with the setting that the form has not.
    pub fn obstacle(self, model: &Mm1Config) -> Result<Option<&'static str>> {
        match self {
            Self::Idefics3 { .. } => {
                idefics3::check(model)?;
                Ok((pool_side(model)? == 1)
                    .then_some("llama.cpp's Idefics3 pools 2 x 2 patches or more, not each by itself"))
            }
            Self::Llava => {
                llava::check(model)?;
                Ok(model.vision.class_token.then_some(
                    "llama.cpp's LLaVA takes the class token for a patch, and leaves the first patch out",
                ))
            }
        }
    }

    fn names(self) -> ModelNames {
        match self {
            Self::Idefics3 { .. } => idefics3::GGUF_NAMES,
            Self::Llava => llava::GGUF_NAMES,
        }
    }

    /// What the file says beside the sizes of the encoder.
    fn settings(self, model: &Mm1Config) -> Result<Vec<(&'static str, MetadataValue)>> {
        let kind = |name: &str| ("clip.projector_type", MetadataValue::Text(name.to_owned()));
        Ok(match self {
            Self::Idefics3 { longest_side } => vec![
                kind("idefics3"),
                ("clip.vision.preproc_image_size", size(longest_side)),
                ("clip.vision.projector.scale_factor", size(pool_side(model)?)),
            ],
            // Without a word of it llama.cpp takes what goes into the last block.
            Self::Llava => {
                let last = i32::try_from(model.vision.blocks())?;
                vec![kind("mlp"), ("clip.vision.feature_layer", MetadataValue::i32s([last]))]
            }
        })
    }
}

/// Writes encoder and connector in one of llama.cpp's forms.
///
/// # Errors
/// One line with the setting that the form, or llama.cpp's, has not; as [`write()`].
pub fn write_projector(path: &Path, projector: &GgufProjector<'_>) -> Result<()> {
    let GgufProjector { model, form, matrices, .. } = *projector;
    if let Some(obstacle) = form.obstacle(model.config())? {
        bail!("{obstacle}");
    }
    let mut places = Places::new();
    for (path, shape) in weights::shapes(model).into_iter().filter(|(path, _)| !path.starts_with("lm.")) {
        let own = form.names().places(&path, &shape, model.config());
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
    let GgufProjector { model, form, name, pixels: [mean, std], matrices } = *projector;
    let config = model.config();
    let vision = &config.vision;
    let text = |value: &str| MetadataValue::Text(value.to_owned());
    let mut values = vec![
        ("general.architecture", text("clip")),
        ("general.type", text("mmproj")),
        ("general.name", text(name)),
        ("general.file_type", size(matrices.file_type())),
        ("clip.has_vision_encoder", MetadataValue::Bool(true)),
        // llama.cpp calls the approximation by tanh so; without it, it takes CLIP's.
        ("clip.use_gelu", MetadataValue::Bool(vision.activation != VisionActivation::QuickGelu)),
        ("clip.vision.image_size", size(vision.image_size)),
        ("clip.vision.patch_size", size(vision.patch)),
        ("clip.vision.embedding_length", size(vision.dim)),
        ("clip.vision.feed_forward_length", size(vision.ffn)),
        ("clip.vision.block_count", size(vision.blocks())),
        ("clip.vision.attention.head_count", size(vision.heads)),
        ("clip.vision.attention.layer_norm_epsilon", MetadataValue::f32(vision.norm_eps as f32)),
        ("clip.vision.projection_dim", size(config.lm.dim)),
        ("clip.vision.image_mean", MetadataValue::f32s(mean)),
        ("clip.vision.image_std", MetadataValue::f32s(std)),
    ];
    values.extend(form.settings(config)?);
    Ok(values.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

fn size(value: usize) -> MetadataValue {
    MetadataValue::u32(u32::try_from(value).unwrap_or(u32::MAX))
}
