//! How a form calls the tensors of a model's three parts.

use anyhow::{Context as _, Result, bail};

use super::connector::ConnectorNames;
use super::encoder_form::EncoderForm;
use super::lm::LmForm;
use super::part::ExportedPart;
use super::vision::VisionNames;
use crate::config::Mm1Config;

/// How a form calls the tensors of a model, and orders them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ModelNames {
    pub(crate) vision: VisionNames,
    /// Which of the encoders of transformers it has, with what stands in their files beside ours; none in a
    /// form that has an encoder of its own.
    pub(crate) encoder: Option<EncoderForm>,
    pub(crate) connector: ConnectorNames,
    pub(crate) lm: LmForm,
}

impl ModelNames {
    /// What the parameter at `path` of this shape becomes.
    ///
    /// # Errors
    /// A parameter that has no place.
    pub(crate) fn places(&self, path: &str, shape: &[usize], model: &Mm1Config) -> Result<Vec<ExportedPart>> {
        let (part, inner) = path.split_once('.').context("it is of no part of the model")?;
        match part {
            "vision" => match self.encoder {
                Some(form) => form.places(&self.vision, (inner, shape), &model.vision),
                None => self.vision.places(inner, shape, &model.vision),
            },
            "connector" => self.connector.places(path, shape, model),
            "lm" => self.lm.places(inner, shape, &model.lm),
            _ => bail!("it has no place in the file"),
        }
    }
}
