//! What can be checked of a recipe's stages without data.

use anyhow::{Context as _, Result, ensure};
use mm1_data::augment::Views;
use mm1_model::group::ParameterGroup;
use mm1_model::vision::Stem;

use super::{EvalStage, LearningRate, Objective, OptimizerConfig, ProbeStage, Recipe, Stage, TrainStage};
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
            Stage::Pretrain(s) | Stage::Sft(s) => check_train(recipe, s, &[Objective::Language]),
            Stage::Encoder(s) => {
                check_train(recipe, s, &Objective::OF_ENCODERS).and_then(|()| check_encoder(recipe, s))
            }
            Stage::Probe(s) => check_probe(recipe, s),
            Stage::Eval(s) => check_eval(recipe, s),
        }
        .with_context(|| format!("stage.{name}"))?;
    }
    Ok(())
}

pub(crate) fn positive(fields: &[(&str, u64)]) -> Result<()> {
    for (field, value) in fields {
        ensure!(*value > 0, "{field} must be at least 1");
    }
    Ok(())
}

fn check_train(recipe: &Recipe, s: &TrainStage, objectives: &[Objective]) -> Result<()> {
    ensure!(
        objectives.contains(&s.objective),
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
    ensure!(
        s.objective != Objective::Language || s.views == Views::default(),
        "views belong to a stage of kind \"encoder\""
    );
    ensure!(!s.mixture.is_empty(), "mixture names no source");
    for name in s.mixture.keys() {
        recipe.check_source("mixture", name)?;
    }
    check_optimizer(&s.optimizer)
}

/// What the objectives of an encoder need.
fn check_encoder(recipe: &Recipe, s: &TrainStage) -> Result<()> {
    s.views.check()?;
    let (views, vision) = (s.views.global.len(), &recipe.model.vision);
    match s.objective {
        Objective::Dino => {
            ensure!(views >= 2, "views.global has {views} views; objective \"dino\" compares two or more");
            s.dino.check()?;
            ensure!(
                s.dino.koleo == 0.0 || s.accumulate == 1,
                "dino.koleo needs accumulate = 1: it looks for neighbours among all pictures of a step"
            );
            let size = s.views.local.size;
            ensure!(
                s.views.local.views == 0 || size.is_multiple_of(vision.patch),
                "views.local.size = {size} must be a multiple of model.vision.patch = {}",
                vision.patch
            );
        }
        _ => ensure!(
            views == 1 && s.views.local.views == 0,
            "views: objective \"{}\" takes one view of a picture; only \"dino\" compares several",
            s.objective.name()
        ),
    }
    if s.objective == Objective::Aim {
        s.aim.check()?;
        ensure!(
            vision.stem == Stem::Patch && !vision.class_token,
            "objective \"aim\" needs model.vision.stem = \"patch\" and class_token = false: convolutions and a class token would show a patch what it is to predict"
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
    positive(&[("questions", s.questions as u64), ("batch", s.batch as u64)])?;
    ensure!(!s.tasks.is_empty(), "tasks is empty");
    ensure!(!s.shots.is_empty(), "shots is empty; for no demonstration write shots = [0]");
    s.check_demonstration_size(recipe.model.vision.patch)?;
    for task in &s.tasks {
        tasks::check(task)?;
        tasks::sources(task).into_iter().try_for_each(|source| recipe.check_source("tasks", source))?;
    }
    Ok(())
}

fn check_optimizer(o: &OptimizerConfig) -> Result<()> {
    let finite = |field: &str, v: f64, least: f64| -> Result<()> {
        ensure!(
            v.is_finite() && v >= least,
            "optimizer.{field} = {v} must be a finite number of at least {least}"
        );
        Ok(())
    };
    if let LearningRate::Value(lr) = o.lr {
        ensure!(lr.is_finite() && lr > 0.0, "optimizer.lr = {lr} must be above 0, or \"law\"");
    }
    finite("weight_decay", o.weight_decay, 0.0)?;
    ensure!(
        o.clip_norm.is_finite() && o.clip_norm > 0.0,
        "optimizer.clip_norm = {} must be above 0",
        o.clip_norm
    );
    finite("scale.vision", o.scale.vision, 0.0)?;
    finite("scale.connector", o.scale.connector, 0.0)?;
    finite("scale.lm", o.scale.lm, 0.0)?;
    for group in &o.freeze {
        let names = ParameterGroup::ALL.map(ParameterGroup::name);
        ensure!(
            names.contains(&group.as_str()),
            "optimizer.freeze: unknown part \"{group}\"; known: {}",
            names.join(", ")
        );
    }
    Ok(())
}
