//! `mm1 ablate`: one recipe with every combination of some settings, and one table of what they score.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use mm1_data::printable::printable_lines;
use mm1_data::whole_file;
use mm1_lab::ablation::{AblationRun, AblationTable, PaperTable};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use toml::Table;

use crate::arguments::{ChangedDataArgs, DeviceArgs, RecipeArgs, ThreadsArgs};
use crate::commands::run::stages;
use crate::error::input;
use crate::interrupt::stop_flag;
use crate::output::{self, print_json, tell};
use crate::plan::Worker;
use crate::pretrained;
use crate::progress::clock;
use crate::recipe::check::check_stages;
use crate::recipe::{WrittenRecipe, put};

#[derive(Debug, Args)]
pub(crate) struct AblateArgs {
    // Its overrides are those of every run.
    #[command(flatten)]
    recipe: RecipeArgs,
    /// Folder of table.md and table.json, with a run folder inside for each combination. It is made, or
    /// continued.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    threads: ThreadsArgs,
    #[command(flatten)]
    changed_data: ChangedDataArgs,
    /// Print one JSON document as the last line of standard output.
    #[arg(long)]
    json: bool,
}

/// An ablation, `[ablation]`: many runs of one recipe, done by `mm1 ablate`; `mm1 run` refuses it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ablation {
    /// What is changed; every combination of one value from each axis is one run.
    #[schemars(length(min = 1))]
    axis: Vec<AblationAxis>,
    /// The paper's table, printed beside this one; by default none is.
    #[serde(default)]
    paper: Option<PaperTable>,
}

/// An axis of an ablation, `[[ablation.axis]]`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AblationAxis {
    /// What is changed, as the head of its column in the table.
    name: String,
    /// The values that it takes.
    #[schemars(length(min = 1))]
    value: Vec<AxisValue>,
}

/// A value of an axis, `[[ablation.axis.value]]`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AxisValue {
    /// The value's name in the table and in the run folder's name.
    name: String,
    /// Settings by their path, as `--set` has them: `"stage.pretrain.steps" = 40`.
    #[schemars(with = "serde_json::Map<String, serde_json::Value>")]
    set: Table,
}

/// Does all runs of an ablation, each in a folder of its own, and writes `table.md` and `table.json`.
///
/// # Errors
/// As `mm1 run`; the same command again continues.
pub(crate) fn ablate(args: &AblateArgs) -> Result<()> {
    let started = Instant::now();
    let (ablation, tree) = input(read(&args.recipe))?;
    let cells = combinations(&ablation.axis);
    // All are checked before the first one runs.
    let recipes = cells.iter().map(|values| recipe(args, &tree, values)).collect::<Result<Vec<_>>>()?;
    let (worker, stop) = (Worker::alone(args.threads.start_pool()?), stop_flag()?);
    let (mut done, mut last) = (Vec::new(), None);
    for (number, (values, recipe)) in cells.iter().zip(recipes).enumerate() {
        let names: Vec<String> = values.iter().map(|value| value.name.clone()).collect();
        let folder = args.out.join(slug(&names));
        tell(format_args!(
            "run {} of {}: {}, in {}",
            number + 1,
            cells.len(),
            names.join(", "),
            folder.display()
        ));
        let scores = stages(recipe, &folder, worker, &stop, args.changed_data.choice())
            .with_context(|| format!("run {}", folder.display()))?
            .scores;
        done.push(AblationRun { names, folder, scores: serde_json::to_value(scores)? });
        let heads = ablation.axis.iter().map(|axis| axis.name.clone()).collect();
        let table = AblationTable::new(heads, &done, ablation.paper.clone())?;
        // After each run: what a stop leaves is a table too.
        whole_file::replace(&args.out.join("table.md"), table.markdown().as_bytes())?;
        whole_file::replace(&args.out.join("table.json"), &serde_json::to_vec_pretty(&table)?)?;
        last = Some(table);
    }
    let seconds = started.elapsed().as_secs_f64();
    tell(format_args!("done in {}", clock(seconds)));
    if args.json {
        print_json(&json!({"out": args.out, "seconds": seconds, "table": last}))?;
    } else if let Some(table) = last {
        // As it is: in pieces it would be no table.
        output::print(printable_lines(&table.markdown()).as_bytes())?;
    }
    Ok(())
}

/// The ablation of a recipe, and the recipe under it.
fn read(recipe: &RecipeArgs) -> Result<(Ablation, Table)> {
    let (shown, mut tree) = (recipe.path().display(), recipe.tree()?);
    let ablation = tree
        .remove("ablation")
        .with_context(|| format!("{shown} has no [ablation] table; a single run is done by `mm1 run`"))?;
    let ablation: Ablation = ablation.try_into().with_context(|| format!("{shown}: ablation"))?;
    let empty = ablation.axis.iter().find(|axis| axis.value.is_empty());
    ensure!(
        !ablation.axis.is_empty() && empty.is_none(),
        "{shown}: ablation.axis needs values to choose from"
    );
    Ok((ablation, tree))
}

/// Every choice of one value from each axis, the last changing fastest.
fn combinations(axes: &[AblationAxis]) -> Vec<Vec<AxisValue>> {
    axes.iter().fold(vec![Vec::new()], |cells, axis| {
        let with = |cell: &Vec<AxisValue>, value: &AxisValue| [cell.clone(), vec![value.clone()]].concat();
        cells.iter().flat_map(|cell| axis.value.iter().map(move |value| with(cell, value))).collect()
    })
}

/// The recipe `tree` with the settings of `values`, checked as far as it can be without its data.
fn recipe(args: &AblateArgs, tree: &Table, values: &[AxisValue]) -> Result<WrittenRecipe> {
    let names = values.iter().map(|value| value.name.as_str()).collect::<Vec<_>>().join(", ");
    let shown = args.recipe.path().display();
    let mut tree = tree.clone();
    for (path, setting) in values.iter().flat_map(|value| &value.set) {
        input(
            put(&mut tree, path, setting.clone())
                .with_context(|| format!("{shown}: ablation: {names}: {path}")),
        )?;
    }
    let written = args.device.put(args.recipe.edited(tree)?);
    let recipe = pretrained::complete(written.clone())?.recipe;
    input(check_stages(&recipe).with_context(|| format!("{shown}: ablation: {names}")))?;
    input(recipe.device.open())?;
    Ok(written)
}

/// A folder's name.
fn slug(names: &[String]) -> String {
    let plain = |c: char| if c.is_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    names.iter().map(|name| name.chars().map(plain).collect::<String>()).collect::<Vec<_>>().join("_")
}
