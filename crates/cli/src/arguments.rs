//! Arguments that several commands share.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};
use mm1_model::device::{DeviceKind, DeviceName};
use mm1_model::ops::WeightFormat;
use toml::Table;

use crate::continuation::ChangedData;
use crate::error::InputError;
use crate::ranks::Ranks;
use crate::recipe::{self, WrittenRecipe};

/// A recipe and what is changed of it.
#[derive(Debug, Args)]
pub(crate) struct RecipeArgs {
    /// Recipe: a TOML file, the plan.toml of a run, or a name that `mm1 recipes` lists.
    recipe: PathBuf,
    /// Override a setting: model.lm.layers=4, or stage.pretrain.steps=40 by a stage's name. Without a value,
    /// model.lm.layers=, the setting is left out. May be repeated.
    #[arg(long = "set", value_name = "PATH=VALUE")]
    edits: Vec<String>,
    /// Leave a setting or a whole table out, as if the recipe did not have it. May be repeated.
    #[arg(long = "unset", value_name = "PATH")]
    unset: Vec<String>,
}

impl RecipeArgs {
    /// The recipe with its overrides.
    ///
    /// # Errors
    /// [`crate::error::InputError`]: a file that can't be read, an override of no setting.
    pub(crate) fn read(&self) -> Result<WrittenRecipe> {
        self.edited(self.tree()?)
    }

    /// The recipe's file, or the name of a built-in one, as refusals name it.
    pub(crate) fn path(&self) -> &Path {
        &self.recipe
    }

    /// Whether an override is about the table `table`.
    pub(crate) fn edits(&self, table: &str) -> bool {
        let about = |edit: &String| edit.trim_start().split(['.', '=']).next().map(str::trim) == Some(table);
        self.edits.iter().chain(&self.unset).any(about)
    }

    /// An override, if one was given.
    pub(crate) fn given(&self) -> Option<&'static str> {
        let given = [(&self.edits, "--set"), (&self.unset, "--unset")];
        given.into_iter().find_map(|(edits, name)| (!edits.is_empty()).then_some(name))
    }

    /// The recipe before its overrides.
    ///
    /// # Errors
    /// [`crate::error::InputError`]: a file that can't be read or is no TOML.
    pub(crate) fn tree(&self) -> Result<Table> {
        recipe::read_tree(&self.recipe)
    }

    /// `tree`, a recipe of this file, with its overrides.
    ///
    /// # Errors
    /// [`crate::error::InputError`]: an override of no setting.
    pub(crate) fn edited(&self, tree: Table) -> Result<WrittenRecipe> {
        let left_out = self.unset.iter().map(|path| format!("{path}="));
        let edits: Vec<String> = left_out.chain(self.edits.iter().cloned()).collect();
        WrittenRecipe::of_tree(&self.recipe, tree, &edits)
    }
}

/// Whether a run goes on where its data has changed.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct ChangedDataArgs {
    /// Go on although the files of a source are no longer those that the run was begun with.
    #[arg(long)]
    accept_changed_data: bool,
}

impl ChangedDataArgs {
    /// What is done with a run whose data has changed.
    pub(crate) fn choice(self) -> ChangedData {
        if self.accept_changed_data { ChangedData::Accept } else { ChangedData::Refuse }
    }
}

/// Where tensors are.
#[derive(Clone, Copy, Debug, Default, Args)]
pub(crate) struct DeviceArgs {
    /// Device to compute on: cpu, vulkan, cuda, metal or rocm, with :1 behind it for the second GPU of that
    /// kind. All but cpu need a program built with the feature of that name. Default: the recipe's, which is
    /// cpu unless it says otherwise.
    #[arg(long, value_name = "DEVICE")]
    device: Option<DeviceName>,
    /// Which of several ranks on this machine it is for, of which each takes the next device.
    #[arg(skip)]
    rank: usize,
}

impl DeviceArgs {
    /// The CPU, whatever a recipe or run says.
    pub(crate) fn cpu() -> Self {
        Self { device: Some(DeviceName::default()), rank: 0 }
    }

    /// The same for this one of `ranks`.
    pub(crate) fn of(self, ranks: &Ranks) -> Self {
        Self { rank: ranks.local(), ..self }
    }

    /// The recipe, to be done on the device that was asked for.
    pub(crate) fn put(self, recipe: WrittenRecipe) -> WrittenRecipe {
        match self.device {
            Some(device) => recipe.with("device", &device.to_string()),
            None => recipe,
        }
    }

    /// What was asked for, or else `recipe`'s; of several ranks this one's.
    pub(crate) fn or(self, recipe: DeviceName) -> DeviceName {
        let first = self.device.unwrap_or(recipe);
        // They are counted by opening them.
        if self.rank == 0 { first } else { first.of_rank(self.rank, first.kind().count()) }
    }
}

/// How the language model's weights are kept while it answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Weights {
    #[default]
    Precision,
    #[value(name = "q8_0")]
    Q8_0,
}

impl Weights {
    /// The format, on that device.
    ///
    /// # Errors
    /// A device without products of it.
    pub(crate) fn on(self, device: DeviceName) -> Result<WeightFormat> {
        match (self, device.kind()) {
            (Self::Precision, _) => Ok(WeightFormat::Precision),
            (Self::Q8_0, DeviceKind::Cpu) => Ok(WeightFormat::Q8_0),
            (Self::Q8_0, _) => Err(InputError::new(
                "--weights q8_0: only the CPU multiplies with them: take --device cpu, or leave it out",
            )
            .into()),
        }
    }
}

/// Threads of this process.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct ThreadsArgs {
    /// Threads for computing and for loading data; no result depends on it. Default: one per core.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
}

/// Bytes of a thread's stack: as many as the main thread has.
const STACK: usize = 8 << 20;

impl ThreadsArgs {
    /// As many as asked, or one per core.
    pub(crate) fn count(self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        self.threads.map_or_else(cores, usize::from)
    }

    /// Starts the pool that computes, and says how many threads it has.
    ///
    /// # Errors
    /// If the system gives no more threads.
    pub(crate) fn start_pool(self) -> Result<usize> {
        let threads = self.count();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).stack_size(STACK);
        pool.build_global().context("starting the threads")?;
        Ok(threads)
    }
}
