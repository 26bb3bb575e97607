//! [`Jobs`]: the runs of a study and the stages that several of them have in common, each done once.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::Result;
use mm1_lab::process::ProcessRecord;
use mm1_lab::study::record::RunState;
use mm1_model::device::DeviceName;
use toml::{Table, Value};

use super::Study;
use crate::recipe::Recipe;
use crate::run_folder;
use crate::stage_key::{run_key, shared_prefix};

/// Where all runs lie, in the folder of studies.
pub(crate) const RUNS: &str = "runs";

/// A run folder to fill: of a combination, or of stages that several runs begin with.
pub(super) struct Job {
    /// What it is called before a person.
    pub(super) title: String,
    /// The recipe as `mm1 run` takes it.
    pub(super) text: String,
    /// Named by the key.
    pub(super) folder: PathBuf,
    /// The job whose stages it begins with, a place in [`Jobs`].
    pub(super) after: Option<usize>,
    /// The stages that it does itself.
    pub(super) own: Vec<String>,
    /// A combination whose run it is, or begins.
    pub(super) cell: usize,
    /// On which it is done.
    pub(super) device: DeviceName,
    /// Runs that begin with it; 0 for that of a combination.
    pub(super) shared_by: usize,
}

/// All of them, those that others begin with first.
pub(super) struct Jobs {
    pub(super) all: Vec<Job>,
    /// The job of each combination.
    pub(super) of_cell: Vec<usize>,
}

/// The first stages of a run: their key, and their recipe.
type Prefix = (String, Recipe);

impl Jobs {
    /// The jobs of a study in the folder `out`.
    ///
    /// # Errors
    /// A recipe that can't be written.
    pub(super) fn of(study: &Study, out: &Path) -> Result<Self> {
        let runs = out.join(RUNS);
        let chains = study.cells.iter().map(|cell| prefixes(&cell.recipe)).collect::<Result<Vec<_>>>()?;
        let next = followers(study, &chains);
        let (mut jobs, mut by_key) = (Self { all: Vec::new(), of_cell: Vec::new() }, BTreeMap::new());
        for (number, (cell, chain)) in study.cells.iter().zip(&chains).enumerate() {
            let names = cell.names.join(", ");
            let job = |title: String, text: String, key: &str, after: Option<usize>, own: Vec<String>| Job {
                title,
                text,
                folder: runs.join(key),
                after,
                own,
                cell: number,
                device: cell.recipe.device,
                shared_by: 0,
            };
            let (mut after, mut done) = (None, 0);
            for (count, (key, prefix)) in chain.iter().enumerate() {
                if next[key].len() < 2 && !is_done(&runs.join(key)) {
                    continue;
                }
                if !by_key.contains_key(key) {
                    let title = format!("{} of {names}", prefix.name);
                    let text = recipe_text(prefix, &cell.text)?;
                    let place = jobs.push(job(title, text, key, after, stages_from(prefix, done)));
                    by_key.insert(key.clone(), place);
                }
                (after, done) = (by_key.get(key).copied(), count + 1);
            }
            if !by_key.contains_key(&cell.key) {
                let own = stages_from(&cell.recipe, done);
                let place = jobs.push(job(names.clone(), cell.text.clone(), &cell.key, after, own));
                jobs.count_shared(after);
                by_key.insert(cell.key.clone(), place);
            }
            jobs.of_cell.push(by_key[&cell.key]);
        }
        Ok(jobs)
    }

    fn push(&mut self, job: Job) -> usize {
        self.all.push(job);
        self.all.len() - 1
    }

    /// Counts a run for the stages that it begins with.
    fn count_shared(&mut self, mut after: Option<usize>) {
        while let Some(place) = after {
            self.all[place].shared_by += 1;
            after = self.all[place].after;
        }
    }

    /// How far each is by what its folder holds.
    pub(super) fn states(&self) -> Vec<RunState> {
        let state = |job: &Job| if is_done(&job.folder) { RunState::Done } else { RunState::Waiting };
        let mut states: Vec<RunState> = self.all.iter().map(state).collect();
        // Shared stages that nobody begins with any more are not done for their own sake.
        let mut wanted = vec![false; states.len()];
        for (place, job) in self.all.iter().enumerate().rev() {
            if job.shared_by > 0 && !wanted[place] {
                states[place] = RunState::Done;
            }
            if let (Some(after), RunState::Waiting) = (job.after, &states[place]) {
                wanted[after] = true;
            }
        }
        states
    }
}

/// The names of a recipe's stages but for the first `done`.
fn stages_from(recipe: &Recipe, done: usize) -> Vec<String> {
    recipe.stage[done..].iter().map(|stage| stage.name().to_owned()).collect()
}

/// The first stages of a run that others may have, too: the fewest first.
fn prefixes(recipe: &Recipe) -> Result<Vec<Prefix>> {
    let prefixes = (1..recipe.stage.len()).map_while(|count| shared_prefix(recipe, count));
    prefixes.map(|prefix| Ok((run_key(&prefix)?, prefix))).collect()
}

/// What comes after each key of first stages: where it is one thing alone, nothing is shared by
/// stopping there.
fn followers<'a>(study: &'a Study, chains: &'a [Vec<Prefix>]) -> BTreeMap<&'a String, BTreeSet<&'a String>> {
    let mut next: BTreeMap<&String, BTreeSet<&String>> = BTreeMap::new();
    for (cell, chain) in study.cells.iter().zip(chains) {
        let keys: Vec<&String> = chain.iter().map(|(key, _)| key).chain([&cell.key]).collect();
        for pair in keys.windows(2) {
            next.entry(pair[0]).or_default().insert(pair[1]);
        }
    }
    next
}

/// The recipe of shared stages as a file, with the `store` of the run that it was made of.
fn recipe_text(prefix: &Recipe, of: &str) -> Result<String> {
    let mut tree: Table = toml::to_string(prefix)?.parse()?;
    // It follows from the tokenizer.
    if let Some(lm) =
        tree.get_mut("model").and_then(|model| model.get_mut("lm")).and_then(Value::as_table_mut)
    {
        lm.remove("vocab");
    }
    if let Some(store) = of.parse::<Table>()?.remove("store") {
        tree.insert("store".to_owned(), store);
    }
    Ok(toml::to_string(&tree)?)
}

/// Whether the last process that worked in a run folder has done all of it.
pub(super) fn is_done(folder: &Path) -> bool {
    last_process(folder).is_some_and(|last| last.end.as_deref() == Some("done"))
}

/// The last process that worked in a run folder.
pub(crate) fn last_process(folder: &Path) -> Option<ProcessRecord> {
    let processes: Option<Vec<ProcessRecord>> = run_folder::read_json(&folder.join("processes.json")).ok()?;
    processes?.pop()
}
