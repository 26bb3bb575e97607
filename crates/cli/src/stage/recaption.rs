//! Captions written anew by the model as the stages before have left it, in shards that later stages train
//! on.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::{Result, ensure};
use mm1_data::recaption::{Recaption, RecaptionSettings, RecaptionSpec, finished};
use mm1_model::Mm1;
use mm1_serve::generate::Generator;
use mm1_serve::sampler::Sampling;
use xxhash_rust::xxh3::xxh3_64;

use crate::captioner::{Captioner, sums};
use crate::checkpoints;
use crate::context::Context;
use crate::error::input;
use crate::output::tell;
use crate::plan::Plan;
use crate::recaption_input::{documents, request};
use crate::recipe::{RecaptionStage, Recipe};
use crate::sources;
use crate::stage::model;

/// The model of a recipe without an own training, before its first.
const ORIGIN: &str = "as imported";

/// Writes what the stage lacks; one that is done is not done again.
///
/// # Errors
/// Too many documents that can't be used, no caption that is left, a full disk, an interrupt.
pub(crate) fn run(context: &Context, stage: &RecaptionStage) -> Result<()> {
    let (plan, ranks) = (&context.plan, &context.ranks);
    let folder = sources::captions_of(context.folder.root(), &stage.name);
    let before = if ranks.is_first() { input(finished(&folder))? } else { None };
    if let Some(tally) = ranks.of_first(before)? {
        if ranks.is_first() {
            tell(format_args!("{:>14} done before: {}", stage.name, sums(&tally)));
        }
        return Ok(());
    }
    let model = model::before(&plan.recipe, context.folder.root(), &stage.name, plan.compute.device())?;
    let image = plan.recipe.as_of(&stage.name).image_spec();
    let generator = Generator::new(&plan.compute, model, plan.tokenizer.clone(), image);
    let (captioner, documents) = (captioner(plan, stage, &generator), documents(&plan.sources, stage));
    if !ranks.is_first() {
        return captioner.go_on(&documents, ranks, None, || context.check_stop());
    }
    let writing = input(Recaption::open(&folder, spec(context, stage)?))?;
    let writing = captioner.write(&documents, ranks, writing, || context.check_stop())?;
    let tally = writing.tally();
    ensure!(tally.read() == stage.images, "{} of {} images are in a count", tally.read(), stage.images);
    tell(format_args!("{:>14} {}", stage.name, sums(tally)));
    Ok(())
}

fn captioner<'a>(plan: &Plan, stage: &'a RecaptionStage, generator: &'a Generator) -> Captioner<'a> {
    Captioner {
        generator,
        request: request(&plan.recipe, stage),
        max_tokens: stage.max_tokens,
        sampling: sampling(&plan.recipe, stage),
        batch: stage.batch,
        min_words: Some(stage.min_words),
    }
}

/// Each stage has draws of its own, and each image of a stage.
fn sampling(recipe: &Recipe, stage: &RecaptionStage) -> Sampling {
    if stage.temperature == 0.0 {
        return Sampling::Greedy;
    }
    let seed = recipe.seed ^ xxh3_64(stage.name.as_bytes());
    Sampling::Random { temperature: stage.temperature, top_k: None, top_p: stage.top_p, min_p: 0.0, seed }
}

/// All that decides what is written; the run's plan has it, too.
fn spec(context: &Context, stage: &RecaptionStage) -> Result<RecaptionSpec> {
    let (plan, root) = (&context.plan, context.folder.root());
    let model = match plan.recipe.trained_before(&stage.name) {
        Some(last) => checkpoints::identity(root, last.name())?,
        None => ORIGIN.to_owned(),
    };
    // Batches decide nothing.
    let of_stage = RecaptionStage { batch: 1, ..stage.clone() };
    let settings = [
        ("model", model),
        ("stage", serde_json::to_string(&of_stage)?),
        ("seed", plan.recipe.seed.to_string()),
        ("data-seed", plan.recipe.data_seed().to_string()),
    ];
    Ok(RecaptionSpec {
        settings: RecaptionSettings::from(settings.map(|(name, value)| (name.to_owned(), value))),
        shard_bytes: (stage.shard_mib * f64::from(1 << 20)) as u64,
        max_skipped_share: stage.max_skipped_share,
        share_setting: "max_skipped_share",
        keep_alt_text: stage.keep_alt_text,
        may_be_empty: false,
    })
}

/// Seconds of the stage on this machine, by its first batch. A network of random weights seldom ends a
/// description: this is about the most that a trained one takes.
///
/// # Errors
/// Images that can't be read; a failure of the model.
pub(crate) fn seconds(plan: &Plan, stage: &RecaptionStage) -> Result<f64> {
    let recipe = plan.recipe.as_of(&stage.name);
    let model = Mm1::new(&recipe.model, plan.recipe.seed, plan.compute.device())?;
    let generator = Generator::new(&plan.compute, model, plan.tokenizer.clone(), recipe.image_spec());
    let (captioner, documents) = (captioner(plan, stage, &generator), documents(&plan.sources, stage));
    let count = stage.images.min(stage.batch as u64);
    // The first one fills memory and caches.
    captioner.describe(&documents, &[0], &mut BTreeMap::new())?;
    let begun = Instant::now();
    captioner.describe(&documents, &(0..count).collect::<Vec<_>>(), &mut BTreeMap::new())?;
    Ok(begun.elapsed().as_secs_f64() * stage.images as f64 / count as f64)
}
