//! The model as a LLaVA (Liu et al. 2023, arXiv 2310.03744): transformers and, in GGUF, llama.cpp run it
//! without code of ours.
//!
//! LLaVA takes the patches as a block of its encoder leaves them, before the last norm, and makes an image
//! token of each by a perceptron. The encoder is a CLIP, a SigLIP or a DINOv2, by its class token and its
//! norm before the first block. It ends with the feature block, so that is the last of its hidden states; the
//! norm behind it stands in the file, and nobody looks behind it.

use anyhow::{Result, bail, ensure};
use serde_json::{Value, json};

use super::connector::ConnectorNames;
use super::encoder_form::EncoderForm;
use super::idefics3;
use super::lm::{self, LmForm};
use super::model_names::ModelNames;
use super::vision::VisionNames;
use crate::config::Mm1Config;
use crate::connector::ConnectorConfig;
use crate::import::lm_names::LLAVA;
use crate::mm1::Mm1;
use crate::vision::VisionConfig;
use crate::weights;

/// Refuses a network that no LLaVA is.
///
/// # Errors
/// One line with the field, what LLaVA has, and the remedy.
pub fn check(model: &Mm1Config) -> Result<()> {
    let ConnectorConfig::Mlp(_) = &model.connector else {
        bail!(
            "model.connector.kind: LLaVA makes an image token of each patch, which is \"mlp\" alone: take \
             that, or another export"
        )
    };
    ensure!(
        !model.vision.last_norm,
        "model.vision.last_norm = true, but LLaVA takes features as a block leaves them: set it to false"
    );
    EncoderForm::of(&model.vision)?;
    ensure!(
        !(model.lm.qkv_bias && model.lm.qk_norm),
        "model.lm.qk_norm = true, but transformers has no decoder with that and qkv_bias: set one of them to \
         false"
    );
    Ok(())
}

/// Names of the decoder in transformers.
pub(crate) const LM: LmForm = LmForm { names: &LLAVA, pairs: false };

/// Names in transformers.
///
/// # Errors
/// As [`check`].
pub(crate) fn names(vision: &VisionConfig) -> Result<ModelNames> {
    let form = EncoderForm::of(vision)?;
    let prefix = match form {
        EncoderForm::Clip | EncoderForm::Siglip => "model.vision_tower.vision_model.",
        EncoderForm::Dinov2 => "model.vision_tower.",
    };
    Ok(ModelNames {
        vision: VisionNames { prefix, ..form.names() },
        encoder: Some(form),
        connector: ConnectorNames::Mlp([
            "model.multi_modal_projector.linear_1",
            "model.multi_modal_projector.linear_2",
        ]),
        lm: LM,
    })
}

/// Names in llama.cpp: of encoder and connector in one file, of the decoder in another.
pub(crate) const GGUF_NAMES: ModelNames =
    ModelNames { connector: ConnectorNames::Mlp(["mm.0", "mm.2"]), ..idefics3::GGUF_NAMES };

/// The same model as the form can have it: the patches of a CLIP have no bias, which all positions take over.
///
/// # Errors
/// As [`check`].
pub fn prepared(model: &Mm1) -> Result<Mm1> {
    if EncoderForm::of(&model.config().vision)? != EncoderForm::Clip {
        return Ok(model.clone());
    }
    let mut vision = weights::parameters(&model.vision);
    let bias = vision.iter_mut().find(|(path, ..)| path == "patch_bias");
    let bias = bias.map(|(_, _, bias)| std::mem::replace(bias, vec![0.0; bias.len()])).unwrap_or_default();
    for (_, _, table) in vision.iter_mut().filter(|(path, ..)| path == "position") {
        for row in table.chunks_exact_mut(bias.len()) {
            row.iter_mut().zip(&bias).for_each(|(position, bias)| *position += bias);
        }
    }
    let mut prepared = model.clone();
    prepared.vision = weights::assign(prepared.vision, vision)?;
    Ok(prepared)
}

/// `config.json`, but for what all forms have; `context` is the longest text that it was trained on, in
/// tokens.
///
/// # Errors
/// As [`check`].
pub(crate) fn settings(model: &Mm1Config, context: usize, image: u32) -> Result<Value> {
    let vision = &model.vision;
    Ok(json!({
        "model_type": "llava",
        "architectures": ["LlavaForConditionalGeneration"],
        // What others call image_token_id.
        "image_token_index": image,
        "image_seq_length": model.image_tokens(),
        "projector_hidden_act": "gelu",
        "multimodal_projector_bias": true,
        "vision_feature_layer": -1,
        "vision_feature_select_strategy": select_strategy(vision.class_token),
        "text_config": lm::settings(&model.lm, context)?,
        "vision_config": EncoderForm::of(vision)?.settings(vision),
    }))
}

/// Which of the encoder's tokens become image tokens, in LLaVA's words: by default all but the first.
pub(crate) fn select_strategy(class_token: bool) -> &'static str {
    if class_token { "default" } else { "full" }
}

/// `processor_config.json`, but for the name of the processor.
pub fn processor_settings(model: &Mm1Config) -> Value {
    let class_token = model.vision.class_token;
    json!({
        "patch_size": model.vision.patch,
        "vision_feature_select_strategy": select_strategy(class_token),
        "num_additional_image_tokens": usize::from(class_token),
        "image_token": "<image>",
    })
}
