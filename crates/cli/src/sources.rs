//! [`Sources`]: the data of a recipe, opened.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use mm1_corpora::ShardFolder;
#[cfg(not(feature = "emoji"))]
use mm1_data::source::World;
use mm1_data::source::{Source, SourceConfig};
use mm1_data::store::Store;
#[cfg(feature = "emoji")]
use mm1_data::world::World;

use crate::recipe::Recipe;

/// Opened sources by name.
#[derive(Clone)]
pub(crate) struct Sources {
    by_name: BTreeMap<String, Arc<dyn Source>>,
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
        // What a wanted source is made of is opened with it.
        let under: BTreeSet<&str> =
            recipe.data.iter().filter(|(name, _)| wanted(name)).filter_map(|(_, c)| c.made_of()).collect();
        let needed = |name: &str| wanted(name) || under.contains(name);
        let open = |(name, config): (&String, &SourceConfig)| -> Result<(String, Arc<dyn Source>)> {
            let source = config.open_with(name, recipe.seed, world.as_ref(), &store);
            Ok((name.clone(), source.with_context(|| format!("data.{name}{}", remedy(config)))?))
        };
        let (over, own): (Vec<_>, Vec<_>) =
            recipe.data.iter().filter(|(name, _)| needed(name)).partition(|(_, c)| c.made_of().is_some());
        let mut by_name: BTreeMap<String, Arc<dyn Source>> =
            own.into_iter().map(open).collect::<Result<_>>()?;
        for (name, config) in over {
            let of = config.made_of().unwrap_or_default();
            recipe.check_source(&format!("data.{name}.of"), of)?;
            let inner = by_name.get(of).with_context(|| {
                format!("data.{name}.of = \"{of}\": that source is itself made of another one")
            })?;
            let source = config.open_over(name, recipe.seed, inner.clone());
            by_name.insert(name.clone(), source.with_context(|| format!("data.{name}"))?);
        }
        Ok(Self {
            by_name,
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
            #[cfg(feature = "emoji")]
            world,
        }
    }

    /// The source of that name, which is one of the recipe's that were opened.
    pub(crate) fn named(&self, name: &str) -> &Arc<dyn Source> {
        &self.by_name[name]
    }

    /// All of them, in the order of their names.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<dyn Source>> {
        self.by_name.values()
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
