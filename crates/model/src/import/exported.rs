//! A whole model in a folder: an Idefics3 (which SmolVLM is too) or a LLaVA of transformers or of `mm1
//! export`, or one in a form of our own. Its parts are read one by one, each strictly.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use burn::module::Module;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::llava::{self, LlavaEncoder};
use super::lm_names::LmNames;
use super::settings::{EncoderSettings, HiddenWidth, bounded, optional, settings};
use super::tensors::{ForeignTensors, TensorAccount};
use super::{ImportedEncoder, files, lm_settings, pixels};
use crate::config::Mm1Config;
use crate::connector::{AveragePoolConfig, Connector, ConnectorConfig, MlpConnectorConfig};
use crate::device::DeviceKind;
use crate::export::part::{self, ExportedPart};
use crate::export::vision::{PositionTable, VisionNames};
use crate::export::{ExportForm, ExportedIds};
use crate::init::Init;
use crate::vision::{Vision, VisionConfig};
use crate::weights::{self, Named};

/// What `config.json` calls a whole model, and its form.
const KINDS: [(&str, ExportForm); 4] = [
    ("idefics3", ExportForm::Idefics3),
    ("smolvlm", ExportForm::Idefics3),
    ("llava", ExportForm::Llava),
    ("mm1", ExportForm::Own),
];

/// Settings of the decoder of a SmolVLM that change nothing.
const DECODER_WITHOUT_EFFECT: [&str; 4] =
    ["_flash_attn_2_enabled", "neftune_noise_alpha", "perceiver_config", "pixel_shuffle_factor"];

/// The largest size that is believed, so that products of sizes stay numbers.
const MOST: u64 = 1 << 16;

/// A folder with a whole model, of which nothing but the settings were read.
#[derive(Debug)]
pub struct ExportedFolder {
    /// Its form.
    pub form: ExportForm,
    path: PathBuf,
    /// Its `config.json`.
    config: Value,
}

/// A part of a model.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ModelPart {
    Vision,
    Connector,
    Lm,
}

impl ModelPart {
    const ALL: [Self; 3] = [Self::Vision, Self::Connector, Self::Lm];

    /// With what the names of its tensors begin.
    fn beginnings(self, form: ExportForm) -> &'static [&'static str] {
        match (form, self) {
            (ExportForm::Own, Self::Vision) => &["vision."],
            (ExportForm::Own, Self::Connector) => &["connector."],
            (ExportForm::Own, Self::Lm) => &["language_model."],
            (ExportForm::Idefics3, Self::Vision) => &["model.vision_model."],
            (ExportForm::Idefics3, Self::Connector) => &["model.connector."],
            (ExportForm::Idefics3, Self::Lm) => &["model.text_model.", "lm_head."],
            (ExportForm::Llava, Self::Vision) => &["model.vision_tower."],
            (ExportForm::Llava, Self::Connector) => &["model.multi_modal_projector."],
            (ExportForm::Llava, Self::Lm) => &["model.language_model.", "lm_head."],
        }
    }
}

/// A decoder that is a part of a whole model.
pub(super) struct DecoderFiles {
    /// As the `config.json` of a decoder alone has them.
    pub(super) settings: Value,
    pub(super) names: &'static LmNames,
    pub(super) tensors: ForeignTensors,
}

/// A connector as it was found.
#[derive(Clone, Debug)]
pub struct ImportedConnector {
    /// Its settings.
    pub config: ConnectorConfig,
    /// Every parameter of [`Connector`], by its path there.
    pub tensors: Vec<Named>,
    /// What became of the tensors of the whole model; those of the other parts are left.
    pub account: TensorAccount,
}

/// What `config.json` calls a whole model.
pub(super) fn names() -> [&'static str; 4] {
    KINDS.map(|(name, _)| name)
}

/// Opens a folder with a whole model; `None` where its `config.json` is of something else, or is not there.
///
/// # Errors
/// A `config.json` that can't be read.
pub fn open(path: &Path) -> Result<Option<ExportedFolder>> {
    let file = path.join("config.json");
    if !file.exists() {
        return Ok(None);
    }
    let config: Value = files::json(&file)?;
    let form = KINDS.into_iter().find(|(kind, _)| config["model_type"] == **kind);
    Ok(form.map(|(_, form)| ExportedFolder { form, path: path.to_owned(), config }))
}

impl ExportedFolder {
    /// The image encoder.
    ///
    /// # Errors
    /// As [`super::open`].
    pub fn vision(&self) -> Result<ImportedEncoder> {
        if self.form == ExportForm::Llava {
            return self.llava_vision();
        }
        let (config, doubled) = self.vision_config()?;
        let mut foreign = self.tensors(ModelPart::Vision)?;
        self.check_depth("layers", config.layers, &foreign)?;
        let names = self.form.names(&config)?.vision;
        let position = PositionTable { doubled, ..names.position };
        let names = VisionNames { position, ..names };
        let vision = Vision::new(&Init::new(0, &DeviceKind::Cpu.open()?), &config);
        let places = |path: &str, shape: &[usize]| names.places(path, shape, &config);
        let tensors = read_all(&vision, &mut foreign, places)?;
        let account = foreign.finish("image encoder")?;
        // Without a word of them pixels are as Idefics3 prepares them.
        let [mean, std] = [[0.5; 3]; 2];
        let mut imported = ImportedEncoder { config, tensors, mean, std, from: self.from(), account };
        match self.form {
            ExportForm::Own => pixels::apply_own_preprocessor(&self.path, &mut imported)?,
            ExportForm::Idefics3 | ExportForm::Llava => {
                pixels::apply_preprocessor(&self.path, &mut imported)?;
            }
        }
        Ok(imported)
    }

    /// The encoder of a LLaVA, which is one of the families that come alone.
    fn llava_vision(&self) -> Result<ImportedEncoder> {
        let LlavaEncoder { family, config, left } = self.llava_encoder()?;
        let mut foreign = self.tensors(ModelPart::Vision)?;
        self.check_depth("layers", config.layers, &foreign)?;
        foreign.leave(&left.iter().map(String::as_str).collect::<Vec<_>>());
        foreign.narrow(family.landmark, &[])?;
        let mut imported = family.read(config, foreign)?;
        pixels::apply_preprocessor(&self.path, &mut imported)?;
        Ok(imported)
    }

    fn llava_encoder(&self) -> Result<LlavaEncoder> {
        llava::encoder(&self.config).with_context(|| self.path.join("config.json").display().to_string())
    }

    /// The connector.
    ///
    /// # Errors
    /// As [`super::open`]; a connector that none of ours is.
    pub fn connector(&self) -> Result<ImportedConnector> {
        let model = self.model_config()?;
        let mut foreign = self.tensors(ModelPart::Connector)?;
        if let ConnectorConfig::CAbstractor(connector) = &model.connector {
            self.check_depth("depth", connector.depth, &foreign)?;
        }
        let device = DeviceKind::Cpu.open()?;
        let init = Init::new(0, &device);
        let connector = Connector::new(&init, &model.connector, &model.vision, &model.lm);
        let names = self.form.names(&model.vision)?.connector;
        let places = |path: &str, shape: &[usize]| names.places(&format!("connector.{path}"), shape, &model);
        let tensors = read_all(&connector, &mut foreign, places).with_context(|| match self.form {
            ExportForm::Own | ExportForm::Llava => "its connector can't be read",
            ExportForm::Idefics3 => {
                "its connector can't be taken, as ours is an average of patches and one map: take the other \
                 parts alone, by [model.vision] from and [model.lm] from, or by --part of `mm1 import`"
            }
        })?;
        let account = foreign.finish("connector")?;
        Ok(ImportedConnector { config: model.connector, tensors, account })
    }

    /// Settings and tensors of the decoder.
    pub(super) fn decoder(&self) -> Result<DecoderFiles> {
        let tensors = self.tensors(ModelPart::Lm)?;
        Ok(DecoderFiles { settings: self.decoder_settings(), names: self.form.lm().names, tensors })
    }

    /// The shape of the whole.
    ///
    /// # Errors
    /// One line with the file and the setting that ours has not.
    pub fn model_config(&self) -> Result<Mm1Config> {
        let named = || self.path.join("config.json").display().to_string();
        let (vision, _) = self.vision_config()?;
        let lm = lm_settings::read(&self.decoder_settings()).with_context(named)?;
        let connector = match self.form {
            ExportForm::Own => self.own_part("connector_config")?,
            ExportForm::Idefics3 => self.pool(&vision).with_context(named)?,
            ExportForm::Llava => ConnectorConfig::Mlp(MlpConnectorConfig {}),
        };
        connector.check(&vision, &lm).with_context(named)?;
        Ok(Mm1Config { from: None, vision, connector, lm })
    }

    /// The token ids that its settings name.
    ///
    /// # Errors
    /// One line with the file and the id that is missing or is none.
    pub fn ids(&self) -> Result<ExportedIds> {
        let file = self.path.join("config.json");
        let id = |name: &str| self.id(name).with_context(|| file.display().to_string());
        let needed = |name: &str| id(name)?.with_context(|| format!("{}: {name} is missing", file.display()));
        Ok(ExportedIds {
            image: needed("image_token_id")?,
            pad: needed("pad_token_id")?,
            begin: id("bos_token_id")?,
            ends: self.ends()?,
        })
    }

    /// The token id that is called `name`, of the whole or else of its language model.
    fn id(&self, name: &str) -> Result<Option<u32>> {
        // LLaVA calls it an index.
        let index = name.replace("image_token_id", "image_token_index");
        let text = &self.config["text_config"];
        for (settings, name) in [(&self.config, name), (&self.config, &index), (text, name)] {
            if let Some(id) = optional(settings, name)? {
                return Ok(Some(id));
            }
        }
        Ok(None)
    }

    /// The ids that end an answer: one or several, of the whole or else of its settings of generation.
    fn ends(&self) -> Result<Vec<u32>> {
        let name = "eos_token_id";
        let generation = self.path.join("generation_config.json");
        let (file, given) = if self.config[name].is_null() && generation.exists() {
            let given = files::json(&generation)?;
            (generation, given)
        } else {
            (self.path.join("config.json"), self.config.clone())
        };
        let ends = match &given[name] {
            Value::Array(_) => optional(&given, name),
            _ => optional(&given, name).map(|end| end.map(|end| vec![end])),
        };
        Ok(ends.with_context(|| file.display().to_string())?.unwrap_or_default())
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The longest text that it was trained on, in tokens, if its settings say so.
    pub fn context(&self) -> Option<usize> {
        usize::try_from(self.config["text_config"]["max_position_embeddings"].as_u64()?).ok()
    }

    fn from(&self) -> String {
        self.path.display().to_string()
    }

    /// The tensors of a part, and what is of none.
    fn tensors(&self, part: ModelPart) -> Result<ForeignTensors> {
        let mut tensors = files::tensors(&self.path)?;
        if self.form == ExportForm::Llava {
            tensors = tensors.into_iter().map(|(name, tensor)| (llava::present_name(name), tensor)).collect();
        }
        let mut foreign = ForeignTensors::new(self.from(), tensors);
        for other in ModelPart::ALL.into_iter().filter(|other| *other != part) {
            foreign.leave(other.beginnings(self.form));
        }
        Ok(foreign)
    }

    /// Shape of the encoder, and whether its table of positions is one of twice the side.
    fn vision_config(&self) -> Result<(VisionConfig, bool)> {
        let found = match self.form {
            ExportForm::Own => self.own_part("vision_config").map(|config| (config, false)),
            ExportForm::Idefics3 => self.idefics3_vision(),
            ExportForm::Llava => self.llava_encoder().map(|encoder| (encoder.config, false)),
        };
        let named = || format!("{}: vision_config", self.path.join("config.json").display());
        let (config, doubled): (VisionConfig, bool) = found.with_context(named)?;
        config.check().with_context(named)?;
        Ok((config, doubled))
    }

    fn idefics3_vision(&self) -> Result<(VisionConfig, bool)> {
        let defaults = json!({
            "hidden_size": 1152,
            "intermediate_size": 3072,
            "num_hidden_layers": 12,
            "num_attention_heads": 16,
            "num_channels": 3,
            "image_size": 224,
            "patch_size": 32,
            "hidden_act": "gelu_pytorch_tanh",
            "layer_norm_eps": 1e-6,
        });
        let given = &self.config["vision_config"];
        let hidden: HiddenWidth = settings(given, &defaults)?;
        bounded(&[("intermediate_size", hidden.intermediate_size)])?;
        let shape = settings::<EncoderSettings>(given, &defaults)?.shape(hidden.intermediate_size)?;
        let table = shape.image_size;
        // Pictures may be smaller than the table; see `export::idefics3` for one of twice the side.
        let pictures = optional(&self.preprocessor()?["max_image_size"], "longest_edge");
        let side = pictures.context("preprocessor_config.json: max_image_size")?.unwrap_or(table);
        ensure!(
            side == table || table.is_multiple_of(2) && side == table / 2,
            "image_size = {table}, but pictures are of {side} pixels by preprocessor_config.json: only the \
             same and half of it can be imported"
        );
        Ok((VisionConfig { image_size: side, ..shape }, side != table))
    }

    /// The average pool that an Idefics3's map may be.
    fn pool(&self, vision: &VisionConfig) -> Result<ConnectorConfig> {
        let factor = optional(&self.config, "scale_factor")?.unwrap_or(2);
        let grid = vision.grid();
        ensure!(
            factor > 0 && grid.is_multiple_of(factor),
            "scale_factor = {factor}: only what divides the {grid}x{grid} patches can be imported"
        );
        Ok(ConnectorConfig::AveragePool(AveragePoolConfig { tokens: (grid / factor).pow(2), bias: false }))
    }

    /// Settings of a part in our own form, by a recipe's names.
    fn own_part<T: DeserializeOwned>(&self, name: &str) -> Result<T> {
        let given = &self.config[name];
        let large = given
            .as_object()
            .into_iter()
            .flatten()
            .find(|(_, value)| value.as_u64().is_some_and(|size| size > MOST));
        if let Some((field, size)) = large {
            bail!("{field} = {size}: only up to {MOST} can be imported");
        }
        serde_path_to_error::deserialize(given)
            .with_context(|| format!("{name} is not as this program writes it"))
    }

    /// Refuses more blocks than there are tensors, before any of them is made.
    fn check_depth(&self, field: &str, depth: usize, foreign: &ForeignTensors) -> Result<()> {
        ensure!(
            depth <= foreign.len(),
            "{}: {field} = {depth} by its config.json, but there are {} tensors",
            self.from(),
            foreign.len()
        );
        Ok(())
    }

    fn decoder_settings(&self) -> Value {
        let mut text = self.config["text_config"].clone();
        if let Some(text) = text.as_object_mut() {
            text.retain(|name, _| !DECODER_WITHOUT_EFFECT.contains(&name.as_str()));
            // Of the whole, since the head is its own.
            let tied = &self.config["tie_word_embeddings"];
            text.insert("tie_word_embeddings".to_owned(), tied.clone());
        }
        text
    }

    fn preprocessor(&self) -> Result<Value> {
        let file = self.path.join("preprocessor_config.json");
        if file.exists() { files::json(&file) } else { Ok(Value::Null) }
    }
}

impl ImportedConnector {
    /// Its values in `connector`, which was made by its settings.
    ///
    /// # Errors
    /// A parameter that is missing, superfluous, or of another shape.
    pub fn fit(self, connector: Connector) -> Result<Connector> {
        weights::assign(connector, self.tensors)
    }
}

/// The values of every parameter of `module`, by what `places` says of it.
fn read_all<M: Module>(
    module: &M,
    foreign: &mut ForeignTensors,
    places: impl Fn(&str, &[usize]) -> Result<Vec<ExportedPart>>,
) -> Result<Vec<Named>> {
    let shapes = weights::shapes(module).into_iter();
    let read = |(path, shape): (String, Vec<usize>)| {
        let parts = places(&path, &shape)?;
        // All shapes are compared with the file's before memory is asked for.
        let stored = parts.iter().map(|part| foreign.take_stored(&part.name, &part.shape));
        let mut stored = stored.collect::<Result<VecDeque<_>>>()?;
        let values = part::put_together(&parts, &shape, |part| {
            let tensor = stored.pop_front().context("a part without a tensor")?;
            tensor.values.read().with_context(|| format!("`{}` can't be read", part.name))
        });
        let values = values.with_context(|| foreign.from().to_owned())?;
        Ok((path, shape, values))
    };
    shapes.map(read).collect()
}
