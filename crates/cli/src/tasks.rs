//! Tasks by name: built in, about a source of the recipe, a test set on disk, or a file of one's own.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use mm1_data::source::Source;
#[cfg(feature = "emoji")]
use mm1_data::world::{World, WorldConfig};
use mm1_eval::task::Task;
#[cfg(feature = "emoji")]
use mm1_eval::tasks::scenes::SceneTask;
use mm1_eval::tasks::source::SourceTask;
use mm1_eval::tasks::{SETS, facts, own};

use crate::error::input;
use crate::recipe::refusal::did_you_mean;
use crate::recipe::{Recipe, Stage};
use crate::sources::Sources;

/// Tasks about the built-in world.
pub(crate) const BUILT_IN: [&str; 9] = [
    "scene-captions",
    "scene-vqa",
    "scene-pairs",
    "scene-binding",
    "scene-steps",
    "scene-ocr",
    "scene-detail",
    "text-choice",
    "text-completion",
];

/// The longest caption of a source's picture.
const CAPTION_TOKENS: usize = 96;

/// The longest answer to a source's question.
const ANSWER_TOKENS: usize = 16;

/// A task about a source of the recipe.
#[derive(Clone, Copy)]
enum SourceTaskName<'a> {
    /// `captions:SOURCE`.
    Captions(&'a str),
    /// `perplexity:SOURCE`.
    Texts(&'a str),
    /// `vqa:SOURCE`, or `vqa:SOURCE/DEMONSTRATIONS` for demonstrations of another source.
    Questions { source: &'a str, demonstrations: &'a str },
}

impl<'a> SourceTaskName<'a> {
    /// `None` for the name of another task.
    fn parse(task: &'a str) -> Option<Self> {
        if let Some(source) = task.strip_prefix("captions:") {
            return Some(Self::Captions(source));
        }
        if let Some(source) = task.strip_prefix("perplexity:") {
            return Some(Self::Texts(source));
        }
        let names = task.strip_prefix("vqa:")?;
        let (source, demonstrations) = names.split_once('/').unwrap_or((names, names));
        Some(Self::Questions { source, demonstrations })
    }

    /// The sources that it needs.
    fn sources(self) -> BTreeSet<&'a str> {
        match self {
            Self::Captions(source) | Self::Texts(source) => [source].into(),
            Self::Questions { source, demonstrations } => [source, demonstrations].into(),
        }
    }
}

/// The sources of the recipe that a task needs.
pub(crate) fn sources(task: &str) -> BTreeSet<&str> {
    SourceTaskName::parse(task).map(SourceTaskName::sources).unwrap_or_default()
}

/// The source of the recipe whose held-out part a task asks.
pub(crate) fn held_out(task: &str) -> Option<&str> {
    Some(match SourceTaskName::parse(task)? {
        SourceTaskName::Captions(source) | SourceTaskName::Texts(source) => source,
        SourceTaskName::Questions { source, .. } => source,
    })
}

/// Whether a task is about the built-in pictures.
pub(crate) fn is_built_in(task: &str) -> bool {
    BUILT_IN.contains(&task)
}

/// Refuses the name of no task.
///
/// # Errors
/// The names that are known.
pub(crate) fn check(task: &str) -> Result<()> {
    let on_disk = || SETS.iter().map(|(name, _)| *name);
    let named: Vec<&str> = BUILT_IN.into_iter().chain([facts::NAME]).chain(on_disk()).collect();
    ensure!(
        SourceTaskName::parse(task).is_some() || is_task_file(task) || named.contains(&task),
        "tasks: unknown task \"{task}\"{} {}, {}, captions:SOURCE, vqa:SOURCE, \
         vqa:SOURCE/DEMONSTRATIONS, perplexity:SOURCE; with a folder of data {}; or a task file of your \
         own, as docs/guide/evaluation.md says",
        match did_you_mean(task, &named) {
            none if none.is_empty() => "; known:".to_owned(),
            best => format!("{best} Known:"),
        },
        BUILT_IN.join(", "),
        facts::NAME,
        on_disk().collect::<Vec<_>>().join(", ")
    );
    Ok(())
}

/// Whether a name is that of a file that describes a task.
fn is_task_file(task: &str) -> bool {
    Path::new(task).extension().is_some_and(|extension| extension == "toml")
}

/// What tasks are made of.
pub(crate) struct TaskData {
    sources: Sources,
    /// The folder of the test sets.
    folder: Option<PathBuf>,
    /// The sources that the recipe's stages are trained on.
    pub(crate) training: Vec<Arc<dyn Source>>,
}

/// The names of the sources in the mixtures of a recipe.
fn trained_sources(recipe: &Recipe) -> BTreeSet<&str> {
    let mixtures = recipe.stage.iter().filter_map(Stage::training).map(|s| &s.mixture);
    mixtures.flatten().filter(|(_, weight)| **weight > 0.0).map(|(name, _)| name.as_str()).collect()
}

impl TaskData {
    /// Of a run: its recipe's sources are open.
    pub(crate) fn of_run(recipe: &Recipe, sources: &Sources, folder: Option<&Path>) -> Self {
        Self {
            sources: sources.clone(),
            folder: folder.map(Path::to_owned),
            training: trained_sources(recipe).into_iter().map(|name| sources.named(name).clone()).collect(),
        }
    }

    /// Opens what `tasks` need of a run's recipe, its folder beside it; without one there are no sources, and
    /// the built-in pictures are the usual ones. What the recipe trains on is opened `with_training`.
    ///
    /// # Errors
    /// A source that the recipe lacks or that can't be opened.
    pub(crate) fn open(
        run: Option<(&Recipe, &Path)>,
        tasks: &[String],
        folder: Option<&Path>,
        with_training: bool,
    ) -> Result<Self> {
        let recipe = run.map(|(recipe, _)| recipe);
        let wanted: BTreeSet<&str> = tasks.iter().flat_map(|task| sources(task)).collect();
        for name in &wanted {
            let recipe = recipe
                .with_context(|| format!("--tasks: {name} is a source of a run's recipe: give --run"))?;
            recipe.check_source("--tasks", name)?;
        }
        let trained = recipe.filter(|_| with_training).map(trained_sources).unwrap_or_default();
        let wanted: BTreeSet<&str> = wanted.union(&trained).copied().collect();
        #[cfg(feature = "emoji")]
        let world = {
            let built_in = |recipe: &Recipe, name: &str| recipe.made_of(name).any(|of| of.is_built_in());
            let of_source = |name: &&str| recipe.is_some_and(|recipe| built_in(recipe, name));
            let needed = tasks.iter().any(|task| is_built_in(task)) || wanted.iter().any(of_source);
            let make = || {
                recipe.map_or_else(
                    || World::new(&WorldConfig::default(), 1),
                    |r| World::new(&r.world, r.data_seed()),
                )
            };
            needed.then(make).transpose()?
        };
        #[cfg(not(feature = "emoji"))]
        let world = None;
        let sources = match run {
            Some((recipe, root)) => {
                Sources::open(recipe, world, |name| wanted.contains(name))?.with_written(recipe, root)?
            }
            None => Sources::of_world(world),
        };
        Ok(Self {
            training: trained.iter().map(|name| sources.named(name).clone()).collect(),
            sources,
            folder: folder.map(Path::to_owned),
        })
    }

    /// The task of that name.
    ///
    /// # Errors
    /// An unknown name, missing files: one line that says what is missing.
    pub(crate) fn task(&self, name: &str) -> Result<Box<dyn Task>> {
        input(self.open_task(name).with_context(|| format!("task {name}")))
    }

    fn open_task(&self, name: &str) -> Result<Box<dyn Task>> {
        check(name)?;
        let source = |name: &str| -> Arc<dyn Source> { self.sources.named(name).clone() };
        match SourceTaskName::parse(name) {
            Some(SourceTaskName::Captions(of)) => {
                return Ok(Box::new(SourceTask::captions(name, source(of), CAPTION_TOKENS)));
            }
            Some(SourceTaskName::Texts(of)) => return Ok(Box::new(SourceTask::texts(name, source(of)))),
            Some(SourceTaskName::Questions { source: of, demonstrations }) => {
                let (held_out, training) = (source(of), source(demonstrations));
                return Ok(Box::new(SourceTask::questions(name, held_out, training, ANSWER_TOKENS)));
            }
            None => {}
        }
        if name == facts::NAME {
            return Ok(Box::new(facts::task()));
        }
        if is_task_file(name) {
            return Ok(Box::new(own::open(Path::new(name))?));
        }
        if !is_built_in(name) {
            let folder = self
                .folder
                .as_deref()
                .context("its files are needed: give their folder, --data or the stage's `data`")?;
            return Ok(Box::new(mm1_eval::tasks::open(name, folder)?));
        }
        #[cfg(feature = "emoji")]
        if let Some(world) = &self.sources.world {
            let task = match name {
                "scene-captions" => SceneTask::captions,
                "scene-pairs" => SceneTask::pairs,
                "scene-binding" => SceneTask::binding,
                "scene-ocr" => SceneTask::ocr,
                "scene-steps" => SceneTask::steps,
                "scene-detail" => SceneTask::detail,
                "text-choice" => SceneTask::text_choice,
                "text-completion" => SceneTask::text_completion,
                _ => SceneTask::vqa,
            };
            return Ok(Box::new(task(world.clone())));
        }
        bail!("it needs the built-in pictures: build with the cargo feature \"emoji\"")
    }
}
