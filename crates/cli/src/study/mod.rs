//! [`Study`]: the many runs of a recipe with an `[ablation]` table. What they have in common is done once:
//! equal runs of several studies, and equal first stages of several runs. Every run is an `mm1 run` of its
//! own, in a process of its own, so that what ends one of them ends no other. Several ranks share the runs.

mod bill;
mod child;
mod folder;
mod job;
mod schedule;
mod share;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use mm1_lab::grid::{Ablation, Combination, StudyGrid};
use mm1_lab::study::record::{RunState, StudyRecord};
use mm1_lab::study::results::StudyResults;
use serde_json::Value as Json;
use toml::{Table, Value};

pub(crate) use self::folder::is_planned;
pub(crate) use self::job::{RUNS, last_process};

use self::bill::Bill;
use self::folder::StudyFolder;
use self::job::Jobs;
use self::schedule::{StudyEnd, StudySchedule};
use self::share::JobShare;
use crate::arguments::{ChangedDataArgs, DeviceArgs, RecipeArgs, ThreadsArgs};
use crate::error::{InputError, Interrupted, input};
use crate::interrupt::stop_flag;
use crate::output::tell;
use crate::pretrained;
use crate::ranks::Ranks;
use crate::recipe::check::check_stages;
use crate::recipe::{Recipe, WrittenRecipe, put, read_tree};
use crate::stage_key::run_key;

/// The table of the axes.
const ABLATION: &str = "ablation";

/// The setting that stands for a whole recipe.
const RECIPE: &str = "recipe";

/// How the runs of a study are done.
#[derive(Debug, Args)]
pub(crate) struct StudyArgs {
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    threads: ThreadsArgs,
    #[command(flatten)]
    changed_data: ChangedDataArgs,
    /// Runs side by side; the threads are divided among them.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    jobs: u16,
    /// Print the bill and do no run: runs, shared and own stages, tokens, time and memory.
    #[arg(long)]
    bill: bool,
    /// Measure nothing for the bill, which then says nothing of time. Otherwise two steps of each kind of
    /// training stage are done, and the first questions of each kind of evaluation asked.
    #[arg(long)]
    no_measure: bool,
}

impl StudyArgs {
    /// An option that says how runs are done, if one was given.
    pub(crate) fn given(&self) -> Option<&'static str> {
        let given = [(self.bill, "--bill"), (self.no_measure, "--no-measure"), (self.jobs > 1, "--jobs")];
        given.into_iter().find_map(|(given, name)| given.then_some(name))
    }
}

/// A recipe with its combinations.
pub(crate) struct Study {
    /// The recipe's file, as refusals name it.
    shown: String,
    name: String,
    grid: StudyGrid,
    /// One for each combination.
    cells: Vec<StudyCell>,
}

/// The run of one combination.
struct StudyCell {
    names: Vec<String>,
    recipe: Recipe,
    /// The recipe as `mm1 run` takes it.
    text: String,
    /// The same for runs that come to the same digits.
    key: String,
}

/// What came of a study.
pub(crate) struct StudyOutcome {
    /// Its folder, with `study.json`, the tables and the page.
    pub(crate) folder: PathBuf,
    pub(crate) record: StudyRecord,
    /// What it will take, where no more was asked for.
    pub(crate) bill: Option<Json>,
}

impl Study {
    /// Reads the recipe and checks every run as far as it can be without its data.
    ///
    /// # Errors
    /// [`InputError`] with the file, the field and the remedy.
    pub(crate) fn read(recipe: &RecipeArgs, args: &StudyArgs) -> Result<Self> {
        let (shown, mut tree) = (recipe.path().display().to_string(), recipe.tree()?);
        ensure!(
            !recipe.edits(ABLATION),
            InputError::new(format!(
                "{shown}: --set and --unset change the recipe of every run; change [{ABLATION}] in the file"
            ))
        );
        let ablation = tree.remove(ABLATION).ok_or_else(|| {
            InputError::new(format!("{shown} has no [ablation] table; a single run is done by `mm1 run`"))
        })?;
        let grid = input(grid_of(ablation).with_context(|| format!("{shown}: ablation")))?;
        // The names of its runs take its place: nothing else looks at what kind it is.
        let name = match tree.get("name") {
            None => "study".to_owned(),
            Some(Value::String(name)) => name.clone(),
            Some(other) => {
                return Err(
                    InputError::new(format!("{shown}: name = {other} must be a text in quotes")).into()
                );
            }
        };
        let mut study = Self { shown, name, grid, cells: Vec::new() };
        for combination in &study.grid.combinations {
            study.cells.push(study.cell(recipe, args, &tree, combination)?);
        }
        Ok(study)
    }

    /// The run of a combination: the recipe `tree` with its settings, checked.
    fn cell(
        &self,
        recipe: &RecipeArgs,
        args: &StudyArgs,
        tree: &Table,
        combination: &Combination,
    ) -> Result<StudyCell> {
        let names = self.grid.names(combination);
        let place = || format!("{}: ablation: {}", self.shown, names.join(", "));
        let settings: Vec<(&String, &Value)> = self.grid.settings(combination).collect();
        let other = settings.iter().find(|(path, _)| *path == RECIPE);
        let mut tree = match other {
            Some((_, file)) => self.other_recipe(recipe.path(), file).with_context(place)?,
            None => tree.clone(),
        };
        if self.grid.repeats() && !tree.contains_key("data_seed") {
            // All seeds see the same pictures and answer the same questions.
            let seed = tree.get("seed").cloned().unwrap_or(Value::Integer(1));
            tree.insert("data_seed".to_owned(), seed);
        }
        for (path, setting) in settings.into_iter().filter(|(path, _)| *path != RECIPE) {
            let put = put(&mut tree, path, setting.clone());
            input(put.with_context(|| format!("{}: {path}", place())))?;
        }
        tree.insert("name".to_owned(), Value::String(format!("{}: {}", self.name, names.join(", "))));
        let written = args.device.put(recipe.edited(tree)?);
        let recipe = input(pretrained::complete(written.clone()).with_context(place))?.recipe;
        input(check_stages(&recipe).with_context(place))?;
        input(recipe.device.open())?;
        Ok(StudyCell { key: run_key(&recipe)?, text: written.text()?, names, recipe })
    }

    /// The recipe that an axis has in the place of the study's own, found from the study's file `study`.
    fn other_recipe(&self, study: &Path, file: &Value) -> Result<Table> {
        let Some(named) = file.as_str() else {
            return Err(InputError::new(format!(
                "recipe = {file} must be a text: the path of a recipe from the folder of {}, or a name that \
                 `mm1 recipes` lists",
                self.shown
            ))
            .into());
        };
        let beside = study.parent().unwrap_or(Path::new("")).join(named);
        let found = if beside.exists() { beside } else { PathBuf::from(named) };
        let tree = read_tree(&found)?;
        ensure!(
            !tree.contains_key(ABLATION),
            InputError::new(format!(
                "{}: it has an [ablation] table of its own: give a recipe without, such as the plan.toml of \
                 one of its runs",
                found.display()
            ))
        );
        Ok(tree)
    }

    /// Does all runs in `out`, or says what they would take. Each of several ranks does a share, and rank 0
    /// says what came of all; the others give nothing.
    ///
    /// # Errors
    /// What is wrong with the recipe or its data; an interrupt; runs that failed, when all others are done.
    pub(crate) fn run(&self, args: &StudyArgs, out: &Path, ranks: &Ranks) -> Result<Option<StudyOutcome>> {
        let stop = stop_flag()?;
        let (jobs, folder) = ranks.first_before_others(&stop, || {
            let jobs = Jobs::of(self, out)?;
            let folder = StudyFolder::make(self, &jobs, out)?;
            Ok((jobs, folder))
        })?;
        let share = JobShare::of(ranks, &jobs, folder.root())?;
        // The others begin when it is known that the recipes are right, and that what was measured is.
        let bill = ranks.first_before_others(&stop, || match ranks.is_first() {
            true => Bill::of(self, args, &jobs, &folder, ranks.count()),
            false => Ok(Bill::default()),
        })?;
        if ranks.is_first() {
            eprint!("{}", bill.summary(self, &jobs));
        }
        if args.bill {
            if !ranks.is_first() {
                return Ok(None);
            }
            let record = folder.record(self, &jobs, &jobs.states());
            let bill = Some(bill.json(self, &jobs));
            return Ok(Some(StudyOutcome { folder: folder.root().to_owned(), record, bill }));
        }
        let changed = |states: &[RunState]| match ranks.is_first() {
            true => folder.write(&folder.record(self, &jobs, states)),
            false => Ok(()),
        };
        let (jobs, folder, bill, share) = (&jobs, &folder, &bill, &share);
        let (device, stop, changed) = (args.device.of(ranks), &stop, &changed);
        let schedule = StudySchedule { args, device, jobs, folder, bill, share, stop, changed };
        let StudyEnd { states, interrupted } = schedule.run()?;
        let interrupted = ranks.end_together(interrupted)?;
        share.forget();
        ensure!(!interrupted, Interrupted);
        if !ranks.is_first() {
            return Ok(None);
        }
        let record = folder.record(self, jobs, &states);
        folder.write_results(&StudyResults::collect(record.clone(), folder.root()))?;
        Ok(Some(StudyOutcome { folder: folder.root().to_owned(), record, bill: None }))
    }

    /// Refuses a study of which runs have failed, when all that could be done is done.
    ///
    /// # Errors
    /// How many, and where their reasons are.
    pub(crate) fn check_failures(outcome: &StudyOutcome) -> Result<()> {
        let failed: Vec<_> =
            outcome.record.runs.iter().filter_map(|run| Some((run, run.failure()?))).collect();
        for (run, reason) in &failed {
            tell(format_args!("failed: {}: {reason}", run.names.join(", ")));
        }
        if !failed.is_empty() {
            let (count, all) = (failed.len(), outcome.record.runs.len());
            bail!("{count} of {all} runs failed, for the reasons above; the same command does them again");
        }
        Ok(())
    }
}

/// The combinations of an `[ablation]` table.
fn grid_of(ablation: Value) -> Result<StudyGrid> {
    let ablation: Ablation =
        ablation.try_into().map_err(|e: toml::de::Error| anyhow::anyhow!("{}", e.message()))?;
    ablation.grid()
}

impl WrittenRecipe {
    /// As a file has it.
    fn text(&self) -> Result<String> {
        Ok(toml::to_string(self.tree())?)
    }
}
