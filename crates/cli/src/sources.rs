//! [`Sources`]: the data of a recipe, opened.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use mm1_corpora::ShardFolder;
use mm1_data::recaption::open_written;
#[cfg(not(feature = "emoji"))]
use mm1_data::source::World;
use mm1_data::source::first::FirstDocuments;
use mm1_data::source::{Source, SourceConfig};
use mm1_data::store::Store;
#[cfg(feature = "emoji")]
use mm1_data::world::World;

use crate::recipe::{RecaptionStage, Recipe, Stage};

/// Where the captions of stages lie in a run folder.
pub(crate) const RECAPTIONED: &str = "recaptioned";

/// Where the stage `name` writes captions in the run folder `root`.
pub(crate) fn captions_of(root: &Path, name: &str) -> PathBuf {
    root.join(RECAPTIONED).join(name)
}

/// Opened sources by name.
#[derive(Clone)]
pub(crate) struct Sources {
    by_name: BTreeMap<String, Arc<dyn Source>>,
    /// Of stages that write captions: what they have written, as far as it was opened by
    /// [`Self::with_written`]; else the same images with the captions that they have.
    of_stages: BTreeMap<String, Arc<dyn Source>>,
    /// The built-in world, when a source or a task needs it.
    #[cfg(feature = "emoji")]
    pub(crate) world: Option<Arc<World>>,
}

impl Sources {
    /// Opens the sources of `recipe` that are `wanted`; those that are built in draw from `world`.
    ///
    /// # Errors
    /// A source that can't be opened, with the remedy.
    pub(crate) fn open(
        recipe: &Recipe,
        world: Option<Arc<World>>,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<Self> {
        let store = Store::new(recipe.store.clone())?;
        let opening = SourceOpening { recipe, world: world.as_ref(), store: &store };
        let mut by_name = BTreeMap::new();
        for name in recipe.data.keys().filter(|name| wanted(name)) {
            opening.open(name, &mut Vec::new(), &mut by_name)?;
        }
        let mut of_stages: BTreeMap<String, Arc<dyn Source>> = BTreeMap::new();
        let stages = recipe.stage.iter().filter_map(Stage::recaption);
        for stage in stages.filter(|stage| wanted(&stage.name)) {
            let source = opening.open(&stage.source, &mut Vec::new(), &mut by_name)?;
            let first = FirstDocuments::new(source, stage.images)
                .with_context(|| format!("stage.{}.images = {}", stage.name, stage.images))?;
            of_stages.insert(stage.name.clone(), Arc::new(first));
        }
        Ok(Self {
            by_name,
            of_stages,
            #[cfg(feature = "emoji")]
            world,
        })
    }

    /// No source, and the built-in world for tasks.
    #[cfg_attr(
        not(feature = "emoji"),
        expect(unused_variables, reason = "there is no world without its pictures")
    )]
    pub(crate) fn of_world(world: Option<Arc<World>>) -> Self {
        Self {
            by_name: BTreeMap::new(),
            of_stages: BTreeMap::new(),
            #[cfg(feature = "emoji")]
            world,
        }
    }

    /// The same with the captions that stages of the run in `root` have written, each once it is done.
    ///
    /// # Errors
    /// Captions that are missing or are not all that the stage has written.
    pub(crate) fn with_written(&self, recipe: &Recipe, root: &Path) -> Result<Self> {
        let mut sources = self.clone();
        for stage in recipe.stage.iter().filter_map(Stage::recaption) {
            let Some(captions) = sources.of_stages.get_mut(&stage.name) else { continue };
            if let Some(written) = written(recipe, stage, root)? {
                *captions = written;
            }
        }
        Ok(sources)
    }

    /// The source of that name: one of the recipe's that were opened, or what a stage writes.
    pub(crate) fn named(&self, name: &str) -> &Arc<dyn Source> {
        self.by_name.get(name).unwrap_or_else(|| &self.of_stages[name])
    }

    /// Those of the recipe, in the order of their names.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<dyn Source>> {
        self.by_name.values()
    }
}

/// What a stage of the run in `root` has written; `None` before it is done.
fn written(recipe: &Recipe, stage: &RecaptionStage, root: &Path) -> Result<Option<Arc<dyn Source>>> {
    let folder = captions_of(root, &stage.name);
    let store = Store::new(recipe.store.clone())?;
    let opened = open_written(&folder, &stage.name, recipe.data_seed(), &store).with_context(|| {
        format!(
            "{}: not what stage {} has written there: bring its shards back, or take another --out",
            folder.display(),
            stage.name
        )
    })?;
    Ok(opened.map(|files| Arc::new(files) as Arc<dyn Source>))
}

/// What opening a source takes.
struct SourceOpening<'a> {
    recipe: &'a Recipe,
    world: Option<&'a Arc<World>>,
    store: &'a Store,
}

impl<'a> SourceOpening<'a> {
    /// The source `name`, opened once and put into `by_name` with all that it is made of. `over` are those
    /// that are made of it.
    fn open(
        &self,
        name: &'a str,
        over: &mut Vec<&'a str>,
        by_name: &mut BTreeMap<String, Arc<dyn Source>>,
    ) -> Result<Arc<dyn Source>> {
        if let Some(open) = by_name.get(name) {
            return Ok(open.clone());
        }
        let (config, seed) = (&self.recipe.data[name], self.recipe.data_seed());
        let source = match config.made_of() {
            None => config
                .open_with(name, seed, self.world, self.store)
                .with_context(|| format!("data.{name}{}", remedy(config)))?,
            Some(of) => {
                let field = format!("data.{name}.of");
                self.recipe.check_source(&field, of)?;
                over.push(name);
                ensure!(!over.contains(&of), "{field} = \"{of}\": that source is made of {name} itself");
                let inner = self.open(of, over, by_name)?;
                over.pop();
                config.open_over(name, seed, inner).with_context(|| format!("data.{name}"))?
            }
        };
        by_name.insert(name.to_owned(), source.clone());
        Ok(source)
    }
}

/// What to do where a source is a folder that `mm1 data fetch` would make and that is not there; else
/// nothing.
fn remedy(config: &SourceConfig) -> String {
    let SourceConfig::Shards { path, .. } = config else { return String::new() };
    let missing = path.iter().map(Path::new).find(|path| {
        let of_stream = |stream: ShardFolder| path.file_name().is_some_and(|name| name == stream.folder());
        !path.exists() && ShardFolder::ALL.into_iter().any(of_stream)
    });
    match missing.and_then(Path::parent) {
        Some(folder) => format!(" (run `mm1 data fetch desk --to {}` first)", folder.display()),
        None => String::new(),
    }
}
