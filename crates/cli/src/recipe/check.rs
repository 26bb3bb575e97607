//! What can be checked of a recipe's stages without data.

use anyhow::{Context as _, Result, ensure};
use mm1_data::image::Tiling;
use mm1_model::adapter::AdapterPart;
use mm1_model::group::ParameterGroup;
use mm1_model::vision::Stem;

use super::{EvalStage, ObjectiveConfig, ObjectiveKind, ProbeStage, Recipe, Stage, TrainStage};
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
        recipe.check_source("mixture", name)?;
    }
    check_adapter(recipe, s)?;
    s.optimizer.check()
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

fn check_eval(recipe: &Recipe, s: &EvalStage) -> Result<()> {
    s.protocol.check()?;
    s.protocol.check_resolution(recipe.model.vision.patch)?;
    for task in &s.protocol.tasks {
        tasks::check(task)?;
        tasks::sources(task).into_iter().try_for_each(|source| recipe.check_source("tasks", source))?;
    }
    Ok(())
}
