//! What can be checked of a recipe's stages without data.

use anyhow::{Context as _, Result, bail, ensure};
use mm1_data::image::Tiling;
use mm1_model::adapter::AdapterPart;
use mm1_model::group::ParameterGroup;
use mm1_model::vision::Stem;

use super::{
    EvalStage, ObjectiveConfig, ObjectiveKind, ProbeStage, RecaptionStage, Recipe, Stage, TrainStage,
};
use crate::tasks;

/// Checks all stages.
///
/// # Errors
/// One line that names the field.
pub(crate) fn check_stages(recipe: &Recipe) -> Result<()> {
    ensure!(!recipe.stage.is_empty(), "stage: a recipe needs at least one [[stage]]");
    for (i, stage) in recipe.stage.iter().enumerate() {
        let name = stage.name();
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        ensure!(
            !name.is_empty() && name.chars().all(plain),
            "stage.{i}.name = \"{name}\" must be letters, digits, - and _"
        );
        ensure!(
            recipe.stage[..i].iter().all(|s| s.name() != name),
            "stage.{i}.name = \"{name}\" is taken by an earlier stage"
        );
        match stage {
            Stage::Pretrain(s) => check_train(recipe, s, &[ObjectiveKind::Language, ObjectiveKind::Align])
                .and_then(|()| check_align(recipe, s)),
            Stage::Sft(s) => check_train(recipe, s, &[ObjectiveKind::Language]),
            Stage::Encoder(s) => {
                check_train(recipe, s, &ObjectiveKind::OF_ENCODERS).and_then(|()| check_encoder(recipe, s))
            }
            Stage::Probe(s) => check_probe(recipe, s),
            Stage::Eval(s) => check_eval(recipe, s),
            Stage::Recaption(s) => check_recaption(recipe, s),
        }
        .with_context(|| format!("stage.{name}"))?;
        check_views(recipe, name).with_context(|| format!("stage.{name}"))?;
    }
    Ok(())
}

/// A position looks at the last view before it: of a picture in tiles at one of them.
fn check_views(recipe: &Recipe, stage: &str) -> Result<()> {
    let tiled = recipe.as_of(stage).image.tiling != Tiling::default();
    ensure!(
        recipe.model.connector.fills_the_sequence() || !tiled,
        "tiling: model.connector.kind = \"cross-attention\" looks at the last view alone: leave tiling \
         out, or take another connector"
    );
    Ok(())
}

pub(crate) fn positive(fields: &[(&str, u64)]) -> Result<()> {
    for (field, value) in fields {
        ensure!(*value > 0, "{field} must be at least 1");
    }
    Ok(())
}

fn check_train(recipe: &Recipe, s: &TrainStage, objectives: &[ObjectiveKind]) -> Result<()> {
    ensure!(
        objectives.contains(&s.objective.kind()),
        "objective must be \"{}\" in this kind of stage",
        objectives.iter().map(|o| o.name()).collect::<Vec<_>>().join("\" or \"")
    );
    positive(&[
        ("steps", s.steps),
        ("rows", s.rows as u64),
        ("accumulate", s.accumulate as u64),
        ("length", s.length as u64),
        ("checkpoint.every", s.checkpoint.every),
        ("checkpoint.keep", s.checkpoint.keep as u64),
    ])?;
    ensure!(!s.mixture.is_empty(), "mixture names no source");
    for name in s.mixture.keys() {
        check_mixed(recipe, s, name)?;
    }
    check_after(recipe, s)?;
    check_adapter(recipe, s)?;
    s.optimizer.check()
}

/// Refuses the name of no source and of no stage before `s` that writes captions.
fn check_mixed(recipe: &Recipe, s: &TrainStage, name: &str) -> Result<()> {
    let before = || recipe.stage.iter().take_while(|stage| stage.name() != s.name);
    let mut written = before().filter_map(Stage::recaption).map(|stage| stage.name.as_str());
    if recipe.data.contains_key(name) || written.any(|of| of == name) {
        return Ok(());
    }
    ensure!(
        recipe.recaption(name).is_none(),
        "mixture: stage.{name} writes these captions, and comes later: put it before this stage"
    );
    let written = before().filter_map(Stage::recaption).map(|stage| stage.name.as_str());
    let known: Vec<&str> = recipe.data.keys().map(String::as_str).chain(written).collect();
    bail!(
        "mixture: no [data.{name}], and no stage of kind \"recaption\" before has this name; known: {}",
        known.join(", ")
    )
}

/// Refuses an `after` that names no earlier stage.
fn check_after(recipe: &Recipe, s: &TrainStage) -> Result<()> {
    let Some(after) = &s.after else { return Ok(()) };
    let before = || recipe.stage.iter().map(Stage::name).take_while(|name| *name != s.name);
    let known = before().collect::<Vec<_>>();
    let remedy = match &known[..] {
        [] => "this is the first one: leave it out".to_owned(),
        known => format!("there are: {}", known.join(", ")),
    };
    ensure!(known.contains(&after.as_str()), "after = \"{after}\": no earlier stage has this name; {remedy}");
    Ok(())
}

/// What adapters need of the model and of the stages before.
fn check_adapter(recipe: &Recipe, s: &TrainStage) -> Result<()> {
    let Some(adapter) = &s.adapter else { return Ok(()) };
    adapter.check()?;
    for part in &adapter.parts {
        let (name, rank) = (part.name(), adapter.rank);
        let (group, dim) = match part {
            AdapterPart::Vision => (ParameterGroup::Vision, recipe.model.vision.dim),
            AdapterPart::Lm => (ParameterGroup::Lm, recipe.model.lm.dim),
        };
        ensure!(rank <= dim, "adapter.rank = {rank} must be at most model.{name}.dim = {dim}");
        ensure!(
            !s.optimizer.freeze.contains(&group),
            "optimizer.freeze and adapter.parts both have \"{name}\": an adapter freezes the rest of its \
             part by itself; take it out of one of them"
        );
    }
    let Some(before) = recipe.kept_adapter_before(&s.name) else { return Ok(()) };
    let kept = before.adapter.clone().unwrap_or_default();
    ensure!(
        (kept.rank, kept.alpha, &kept.targets, &kept.parts)
            == (adapter.rank, adapter.alpha, &adapter.targets, &adapter.parts),
        "adapter: stage.{} keeps its adapters for this stage (merge = false): take its rank, alpha, targets \
         and parts, or set merge = true there",
        before.name
    );
    Ok(())
}

/// What alignment leaves as it is.
fn check_align(recipe: &Recipe, s: &TrainStage) -> Result<()> {
    ensure!(
        s.objective != ObjectiveConfig::Align || recipe.model.connector.fills_the_sequence(),
        "objective \"align\" trains image tokens, and model.connector.kind = \"cross-attention\" makes none: \
         leave this stage out"
    );
    ensure!(
        s.objective != ObjectiveConfig::Align || s.optimizer.freeze.contains(&ParameterGroup::Lm),
        "objective \"align\" trains image tokens towards the decoder's embeddings and leaves the decoder as \
         it is: say optimizer.freeze = [\"lm\"], or [\"vision\", \"lm\"] for the connector alone"
    );
    Ok(())
}

/// What the objectives of an encoder need.
fn check_encoder(recipe: &Recipe, s: &TrainStage) -> Result<()> {
    let Some(views) = s.objective.views() else { return Ok(()) };
    views.check()?;
    let (count, vision) = (views.global.len(), &recipe.model.vision);
    if let ObjectiveConfig::Dino { dino, .. } = &s.objective {
        ensure!(count >= 2, "views.global has {count} views; objective \"dino\" compares two or more");
        dino.check()?;
        ensure!(
            dino.koleo == 0.0 || s.accumulate == 1,
            "dino.koleo needs accumulate = 1: it looks for neighbours among all images of a step"
        );
        let size = views.local.size;
        ensure!(
            views.local.views == 0 || size.is_multiple_of(vision.patch),
            "views.local.size = {size} must be a multiple of model.vision.patch = {}",
            vision.patch
        );
    } else {
        ensure!(
            count == 1 && views.local.views == 0,
            "views: objective \"{}\" takes one view of an image; only \"dino\" compares several",
            s.objective.name()
        );
    }
    if let ObjectiveConfig::Aim { aim, .. } = &s.objective {
        aim.check()?;
        ensure!(
            vision.stem == Stem::Patch && !vision.class_token,
            "objective \"aim\" needs model.vision.stem = \"patch\" and class_token = false: convolutions and \
             a class token would show a patch what it is to predict"
        );
    }
    Ok(())
}

fn check_probe(recipe: &Recipe, s: &ProbeStage) -> Result<()> {
    positive(&[
        ("train", s.train),
        ("test", s.test),
        ("pairs", s.pairs),
        ("neighbours", s.neighbours as u64),
    ])?;
    recipe.check_source("classes", &s.classes)?;
    ensure!(s.prompt.contains("{}"), "prompt = \"{}\" has no {{}} for the class", s.prompt);
    s.captions.iter().try_for_each(|source| recipe.check_source("captions", source))
}

fn check_recaption(recipe: &Recipe, s: &RecaptionStage) -> Result<()> {
    ensure!(
        !recipe.data.contains_key(&s.name),
        "name: [data.{}] has this name too, and a mixture could mean both: take another one",
        s.name
    );
    recipe.check_source("source", &s.source)?;
    positive(&[
        ("images", s.images),
        ("min_words", s.min_words as u64),
        ("max_tokens", s.max_tokens as u64),
        ("batch", s.batch as u64),
    ])?;
    ensure!(
        s.prompt.as_ref().is_none_or(|prompt| !prompt.is_empty() && prompt.trim() == prompt),
        "prompt: it is empty, or begins or ends with white space"
    );
    ensure!(
        s.temperature >= 0.0 && s.temperature.is_finite(),
        "temperature = {}: give 0 for the likeliest tokens, or a number above",
        s.temperature
    );
    ensure!(s.top_p > 0.0 && s.top_p <= 1.0, "top_p = {}: give a number above 0, up to 1", s.top_p);
    ensure!(
        (0.0..1.0).contains(&s.max_skipped_share),
        "max_skipped_share = {}: give a number from 0 up to, not including, 1",
        s.max_skipped_share
    );
    ensure!(
        (0.001..=1e6).contains(&s.shard_mib),
        "shard_mib = {}: give a number from 0.001 to 1000000",
        s.shard_mib
    );
    let before = recipe.before(&s.name);
    ensure!(
        recipe.model.from.is_some() || before.iter().any(|s| matches!(s, Stage::Pretrain(_) | Stage::Sft(_))),
        "no stage of kind \"pretrain\" or \"sft\" before has made a model that can describe an image"
    );
    Ok(())
}

fn check_eval(recipe: &Recipe, s: &EvalStage) -> Result<()> {
    s.protocol.check()?;
    s.protocol.check_resolution(recipe.model.vision.patch)?;
    for task in &s.protocol.tasks {
        tasks::check(task)?;
        tasks::sources(task).into_iter().try_for_each(|source| recipe.check_source("tasks", source))?;
    }
    Ok(())
}
