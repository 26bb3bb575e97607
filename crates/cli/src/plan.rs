//! The [`Plan`]: a recipe with everything checked and everything derived, before the first step.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use burn::tensor::Device;
use mm1_data::batch::BatchContent;
use mm1_data::document::Special;
use mm1_data::image::{DecodeBudget, Tiling};
use mm1_data::loader::{LoaderConfig, RankShare, RowFill};
use mm1_data::mixture::{Mixture, MixturePart};
use mm1_data::pack::Packing;
use mm1_data::picture_tokens::PictureFormat;
#[cfg(feature = "emoji")]
use mm1_data::source::SourceConfig;
use mm1_data::store::StoreSpec;
use mm1_data::tokenizer::Tokenizer;
#[cfg(feature = "emoji")]
use mm1_data::world::World;
use mm1_model::adapter::AdapterPart;
use mm1_model::device::DeviceName;
use mm1_model::group::ParameterCounts;
use mm1_model::{Compute, Mm1, adapted};
use mm1_serve::prompts::PromptTokenizer;
use serde::Serialize;
use toml::Table;
use xxhash_rust::xxh3::xxh3_64;

use crate::continuation::{ChangedData, Continuation};
use crate::error::input;
use crate::evaluation::{rehearse, style_after};
use crate::local::LocalPrompts;
use crate::pretrained::{self, CompleteRecipe, OriginHashes};
use crate::ranks::Ranks;
use crate::recaption_input;
use crate::recipe::check::check_stages;
use crate::recipe::export_form;
use crate::recipe::{ObjectiveConfig, Recipe, Stage, TrainStage, WrittenRecipe};
use crate::recipe_tokenizer;
use crate::run_folder::RunFolder;
use crate::sources::Sources;
use crate::stage_parameters::{AdapterCounts, StageParameters};
use crate::tasks::{self, TaskData};

/// A run as it will be done.
pub(crate) struct Plan {
    /// The recipe, with the vocabulary filled in.
    pub(crate) recipe: Recipe,
    /// Where and how everything is computed.
    pub(crate) compute: Compute,
    /// The opened sources.
    pub(crate) sources: Sources,
    pub(crate) tokenizer: Arc<Tokenizer>,
    pub(crate) derived: Derived,
}

/// One process of those that do a run together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Worker {
    /// Threads of its loader; no digit depends on them.
    pub(crate) threads: usize,
    /// Its share of the micro-batches. Together all processes see what one would see.
    pub(crate) share: RankShare,
}

impl Worker {
    /// The only process of a run.
    pub(crate) fn alone(threads: usize) -> Self {
        Self { threads, share: RankShare::default() }
    }

    /// One of `ranks`.
    pub(crate) fn of(ranks: &Ranks, threads: usize) -> Self {
        Self { threads, share: ranks.share() }
    }
}

/// What follows from the recipe.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Derived {
    /// Image tokens for a picture of the model's size, of a tiled one for each view.
    pub(crate) image_tokens: usize,
    /// How large pictures are in each training stage that has another size than the model at first, or tiles.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) stage_pictures: BTreeMap<String, StagePictures>,
    pub(crate) parameters: ParameterCounts,
    /// Those of the stages with pictures of another size, whose tables of positions are longer or shorter.
    #[serde(skip)]
    counts: BTreeMap<String, ParameterCounts>,
    /// Of the adapters of each stage that has some.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) adapters: BTreeMap<String, AdapterCounts>,
    /// Hash of the weights of `model.vision.from`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) encoder: Option<String>,
    /// Hash of the weights of the connector of `model.from`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) connector: Option<String>,
    /// Hash of the weights of `model.lm.from`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) lm: Option<String>,
    /// Hash of the tokenizer's vocabulary and merges, and of its chat template.
    pub(crate) tokenizer: String,
    /// The ids of this program's special tokens in the tokenizer of another; empty in one of its own.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) special_tokens: BTreeMap<&'static str, u32>,
    /// Memory of weights, gradients and optimizer state in MiB, in the stage that keeps most; activations
    /// come on top.
    pub(crate) state_mib: u64,
    /// Peak learning rate of each training stage.
    pub(crate) lr: BTreeMap<String, f64>,
    /// Positions in a step of each training stage.
    pub(crate) positions_per_step: BTreeMap<String, u64>,
}

/// Pictures as a training stage sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct StagePictures {
    /// Side of a view in pixels.
    pub(crate) image_size: usize,
    /// Tokens of the picture with most views, indicators among them.
    pub(crate) most_tokens: usize,
    /// Image tokens of each view.
    #[serde(skip)]
    pub(crate) image_tokens: usize,
    /// Whether a picture may have several views.
    #[serde(skip)]
    pub(crate) tiled: bool,
}

impl Plan {
    /// Checks all of the recipe and computes what follows from it. With a `folder` its tokenizer is taken, or
    /// trained and kept there.
    ///
    /// # Errors
    /// [`crate::error::InputError`]: one line that names the field and the remedy.
    pub(crate) fn resolve(written: WrittenRecipe, folder: Option<&RunFolder>) -> Result<Self> {
        input(Self::of_complete(pretrained::complete(written)?, folder))
    }

    fn of_complete(complete: CompleteRecipe, folder: Option<&RunFolder>) -> Result<Self> {
        let CompleteRecipe { mut recipe, weights, tokenizer } = complete;
        check_stages(&recipe)?;
        export_form::check(&recipe)?;
        let compute = Compute::new(recipe.device.open()?).with_precision(recipe.precision);
        #[cfg(feature = "emoji")]
        let world =
            recipe.needs_world().then(|| World::new(&recipe.world, recipe.data_seed())).transpose()?;
        #[cfg(not(feature = "emoji"))]
        let world = None;
        let sources = Sources::open(&recipe, world, |_| true)?;
        let tokenizer = Arc::new(recipe_tokenizer::open(&recipe, &sources, folder, tokenizer)?);
        let lm = &mut recipe.model.lm;
        ensure!(
            lm.from.is_some() || lm.vocab.is_none_or(|vocab| vocab == tokenizer.vocab()),
            "model.lm.vocab = {} but the tokenizer has {} entries; leave it out to take the tokenizer's",
            lm.vocab.unwrap_or_default(),
            tokenizer.vocab()
        );
        // Of an imported decoder some rows may be of no token; it grows by those that it lacks.
        let rows = lm.from.as_ref().and(lm.vocab).unwrap_or(0);
        lm.vocab = Some(rows.max(tokenizer.vocab()));
        recipe.model.check()?;
        recipe.image.tiling.check(recipe.image_spec().size).context("image")?;
        recipe.image_spec().check()?;
        check_sizes(&recipe)?;
        let derived = Derived::of(&recipe, weights, &tokenizer, compute.device())?;
        for s in recipe.stage.iter().filter_map(Stage::training) {
            let most = most_positions(&recipe, s, &tokenizer);
            ensure!(
                s.length > most + 1,
                "stage.{}.length = {} leaves no room for text beside the {most} tokens of one picture",
                s.name,
                s.length
            );
        }
        let plan = Self { compute, sources, tokenizer, derived, recipe };
        plan.rehearse()?;
        Ok(plan)
    }

    /// Computes on `device`, one of the recipe's kind.
    ///
    /// # Errors
    /// [`crate::error::InputError`]: there is none.
    pub(crate) fn take_device(&mut self, device: DeviceName) -> Result<()> {
        if device != self.recipe.device {
            self.compute = Compute::new(input(device.open())?).with_precision(self.recipe.precision);
        }
        Ok(())
    }

    /// Finds what the stages of the recipe can't ask: before training, not after.
    fn rehearse(&self) -> Result<()> {
        let Self { recipe, sources, tokenizer, .. } = self;
        for stage in recipe.stage.iter().filter_map(Stage::recaption) {
            recaption_input::rehearse(recipe, sources, tokenizer, stage)
                .with_context(|| format!("stage.{}", stage.name))?;
        }
        for stage in &recipe.stage {
            let Stage::Eval(stage) = stage else { continue };
            let of_stage = recipe.as_of(&stage.name);
            let image = of_stage.image_spec();
            let prompts = PromptTokenizer::new(tokenizer.clone(), image, of_stage.model.image_tokens());
            let data = TaskData::of_run(recipe, sources, stage.protocol.data.as_deref());
            let names = &stage.protocol.tasks;
            let rehearsed =
                names.iter().map(|task| data.task(task)).collect::<Result<Vec<_>>>().and_then(|tasks| {
                    let style = style_after(recipe.trained_before(&stage.name));
                    rehearse(stage, style, recipe.data_seed(), &tasks, &LocalPrompts(&prompts))
                });
            rehearsed.with_context(|| format!("stage.{}", stage.name))?;
        }
        Ok(())
    }

    /// The mixture of a training stage.
    fn mixture(stage: &TrainStage, sources: &Sources) -> Result<Mixture> {
        let part = |(name, &weight): (&String, &f64)| MixturePart {
            name: name.clone(),
            source: sources.named(name).clone(),
            weight,
        };
        input(
            Mixture::new(stage.mixture.iter().map(part).collect())
                .with_context(|| format!("stage.{}.mixture", stage.name)),
        )
    }

    /// The loader of a training stage, for `worker`, before any stage has written captions: their images have
    /// those of the source.
    pub(crate) fn loader(&self, stage: &TrainStage, worker: Worker) -> Result<LoaderConfig> {
        self.loader_of(stage, worker, &self.sources)
    }

    /// The same over `sources`, those of the plan as a run has them.
    pub(crate) fn loader_of(
        &self,
        stage: &TrainStage,
        worker: Worker,
        sources: &Sources,
    ) -> Result<LoaderConfig> {
        let (packs, of_stage) = (stage.objective.packs(), self.recipe.pictures_of(stage));
        Ok(LoaderConfig {
            mixture: Self::mixture(stage, sources)?,
            packing: Packing {
                tokenizer: self.tokenizer.clone(),
                image: of_stage.image_spec(),
                // Beside a caption of its own a picture takes no room.
                image_tokens: if packs { of_stage.model.image_tokens() } else { 1 },
                views: stage.objective.views().cloned().unwrap_or_default(),
                length: stage.length,
                decoding: DecodeBudget::default(),
            },
            rows: stage.rows,
            fill: if packs { RowFill::Packed } else { RowFill::Single },
            content: match stage.objective {
                ObjectiveConfig::Language => BatchContent::Language,
                _ => BatchContent::Captions,
            },
            share: worker.share,
            // Each stage has an order of its own.
            seed: self.recipe.seed ^ xxh3_64(stage.name.as_bytes()),
            threads: worker.threads,
            max_skipped_share: 0.1,
        })
    }

    /// Writes `plan.toml` before the first step; later, refuses to continue a run that was planned otherwise
    /// or whose data is another one now.
    ///
    /// # Errors
    /// [`crate::error::InputError`] with the first setting that differs, old and new.
    pub(crate) fn settle(&self, folder: &RunFolder, changed_data: ChangedData) -> Result<()> {
        let mut data = BTreeMap::new();
        for name in self.recipe.data.keys() {
            let stamp = input(self.sources.named(name).stamp().with_context(|| format!("data.{name}")))?;
            data.extend(stamp.map(|stamp| (name.clone(), stamp)));
        }
        Continuation { plan: self.to_table()?, recipe: &self.recipe, data, changed_data }.settle(folder)
    }

    /// `plan.toml`: which program, and all settings; the part `settled` must be the same when a run is
    /// continued.
    pub(crate) fn to_table(&self) -> Result<Table> {
        #[derive(Serialize)]
        struct Settled<'a> {
            recipe: &'a Recipe,
            derived: &'a Derived,
        }
        #[derive(Serialize)]
        struct File<'a> {
            version: &'a str,
            commit: &'a str,
            store: &'a StoreSpec,
            settled: Settled<'a>,
        }
        let settled = Settled { recipe: &self.recipe, derived: &self.derived };
        let (version, commit) = (env!("CARGO_PKG_VERSION"), env!("MM1_COMMIT"));
        let file = File { version, commit, store: &self.recipe.store, settled };
        // Through text, so that the table compares equal to the one read back.
        Ok(toml::to_string(&file)?.parse()?)
    }
}

impl Derived {
    /// How many parameters `stage`, whose settings are `training`, holds and trains.
    pub(crate) fn parameters_of(&self, stage: &Stage, training: &TrainStage) -> StageParameters {
        let adapters = self.adapters.get(&training.name).copied().unwrap_or_default();
        let counts = self.counts.get(&training.name).unwrap_or(&self.parameters);
        match stage {
            Stage::Encoder(_) => StageParameters::of_encoder(counts),
            _ => StageParameters::of_language(training, counts, adapters),
        }
    }

    fn of(recipe: &Recipe, weights: OriginHashes, tokenizer: &Tokenizer, device: &Device) -> Result<Self> {
        let OriginHashes { encoder, connector, lm } = weights;
        let network = Mm1::new(&recipe.model, recipe.seed, device)?;
        let (parameters, mut adapters) = (ParameterCounts::of(&network), BTreeMap::new());
        let (mut lr, mut positions_per_step) = (BTreeMap::new(), BTreeMap::new());
        let (mut stage_pictures, mut counts) = (BTreeMap::new(), BTreeMap::new());
        // Without training there are weights alone.
        let mut state = (size_of::<f32>() * parameters.total()) as u64;
        for stage in &recipe.stage {
            if let Some(s) = stage.training() {
                let sized = recipe.as_of(&s.name).model;
                if sized != recipe.model {
                    counts
                        .insert(s.name.clone(), ParameterCounts::of(&Mm1::new(&sized, recipe.seed, device)?));
                }
                stage_pictures.extend(pictures_in(recipe, s, tokenizer).map(|of| (s.name.clone(), of)));
            }
            let (s, of_law, bytes) = match stage {
                Stage::Pretrain(s) | Stage::Sft(s) => {
                    let own = adapter_counts(&network, s);
                    adapters.extend(own.map(|own| (s.name.clone(), own)));
                    let of = StageParameters::of_language(s, &parameters, own.unwrap_or_default());
                    (s, of.of_law, of.state_bytes(s.optimizer.moments))
                }
                Stage::Encoder(s) => {
                    (s, parameters.vision, s.optimizer.moments.state_bytes(parameters.total()))
                }
                Stage::Probe(_) | Stage::Eval(_) | Stage::Recaption(_) => continue,
            };
            state = state.max(bytes);
            let peak = s.optimizer.peak(of_law, &recipe.law).with_context(|| format!("stage.{}", s.name))?;
            lr.insert(s.name.clone(), peak);
            positions_per_step.insert(s.name.clone(), (s.rows * s.accumulate * s.length) as u64);
        }
        Ok(Self {
            image_tokens: recipe.model.image_tokens(),
            stage_pictures,
            parameters,
            counts,
            adapters,
            encoder,
            connector,
            lm,
            tokenizer: tokenizer.fingerprint().to_string(),
            special_tokens: match recipe.model.lm.from {
                Some(_) => tokenizer.special_ids(),
                None => BTreeMap::new(),
            },
            state_mib: state.div_ceil(1 << 20),
            lr,
            positions_per_step,
        })
    }
}

/// Checks the sizes and tilings of all stages.
fn check_sizes(recipe: &Recipe) -> Result<()> {
    for stage in &recipe.stage {
        let of_stage = recipe.as_of(stage.name());
        let fits = of_stage.model.check().and_then(|()| of_stage.image_spec().check());
        fits.with_context(|| format!("stage.{}, image_size = {}", stage.name(), of_stage.image_spec().size))?;
    }
    Ok(())
}

/// What is said of the pictures of a stage; nothing, where they are as `[model.vision]` has them.
fn pictures_in(recipe: &Recipe, stage: &TrainStage, tokenizer: &Tokenizer) -> Option<StagePictures> {
    let of_stage = recipe.pictures_of(stage);
    let image = of_stage.image_spec();
    let tiled = image.config.tiling != Tiling::default();
    let most_tokens = most_positions(recipe, stage, tokenizer);
    (tiled || image.size != recipe.model.vision.image_size).then_some(StagePictures {
        image_size: image.size,
        most_tokens,
        image_tokens: of_stage.model.image_tokens(),
        tiled,
    })
}

/// Positions of the largest picture of a stage, with what is written around its views.
fn most_positions(recipe: &Recipe, stage: &TrainStage, tokenizer: &Tokenizer) -> usize {
    let of_stage = recipe.pictures_of(stage);
    let image = of_stage.image_spec();
    let pictures = PictureFormat { image: &image, image_tokens: of_stage.model.image_tokens() };
    pictures.most_positions(tokenizer)
}

/// The parameters of the adapters of `stage` in `network`, if it has some.
fn adapter_counts(network: &Mm1, stage: &TrainStage) -> Option<AdapterCounts> {
    let adapted = adapted::with_adapters(network.clone(), stage.adapter.as_ref()?, 0);
    let [vision, lm] = [AdapterPart::Vision, AdapterPart::Lm].map(|part| adapted::parameters(&adapted, part));
    Some(AdapterCounts { vision, lm })
}

impl Recipe {
    #[cfg(feature = "emoji")]
    fn needs_world(&self) -> bool {
        self.data.values().any(SourceConfig::is_built_in)
            || self.stage.iter().any(
                |s| matches!(s, Stage::Eval(e) if e.protocol.tasks.iter().any(|t| tasks::is_built_in(t))),
            )
    }
}

/// A caption as an encoder stage learns it.
pub(crate) fn caption_tokens(tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
    let mut ids = tokenizer.encode(text);
    ids.push(tokenizer.id(Special::End));
    ids
}
