//! `mm1 plan`: what a recipe would do and what it would take.

use anyhow::Result;
use clap::Args;

use crate::arguments::{DeviceArgs, RecipeArgs, ThreadsArgs};
use crate::estimate::RunEstimate;
use crate::fleet::{FleetArgs, FleetPlan};
use crate::network::Network;
use crate::output::{print_json, tell};
use crate::plan::{Plan, Worker};
use crate::ranks::Ranks;
use crate::recipe::WrittenRecipe;

#[derive(Debug, Args)]
pub(crate) struct PlanArgs {
    #[command(flatten)]
    recipe: RecipeArgs,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    threads: ThreadsArgs,
    /// Measure nothing: the plan says nothing of time. Otherwise two steps of each training stage are done,
    /// and the first questions of each evaluation asked.
    #[arg(long)]
    no_measure: bool,
    /// Print one JSON document as the last line of standard output.
    #[arg(long)]
    json: bool,
    // The last, since what follows it would stand under its heading.
    #[command(flatten)]
    fleet: FleetArgs,
}

/// Prints what it would do by many ranks.
fn fleet(args: &PlanArgs, recipe: WrittenRecipe, planned: u32) -> Result<()> {
    if !args.fleet.measure {
        return print_fleet(args, recipe, planned, args.fleet.network());
    }
    let ranks = Ranks::begin()?;
    let done = ranks.network().and_then(|network| match ranks.is_first() {
        true => print_fleet(args, recipe, planned, network),
        false => Ok(()),
    });
    ranks.end(done)
}

fn print_fleet(args: &PlanArgs, recipe: WrittenRecipe, ranks: u32, network: Network) -> Result<()> {
    let plan = FleetPlan::of(recipe, &args.fleet, ranks, network)?;
    if args.json {
        return print_json(&plan);
    }
    print!("{}", plan.summary());
    Ok(())
}

/// Checks the recipe and prints what it would do.
///
/// # Errors
/// Whatever is wrong with the recipe or its data.
pub(crate) fn plan(args: &PlanArgs) -> Result<()> {
    let recipe = args.device.put(args.recipe.read()?);
    if let Some(ranks) = args.fleet.ranks {
        return fleet(args, recipe, ranks);
    }
    // A loader holds more memory for more threads.
    let worker = Worker::alone(args.threads.start_pool()?);
    let plan = Plan::resolve(recipe, None)?;
    // Before a step is done: it leaves memory behind that would be counted.
    let memory = plan.memory(worker)?;
    if !args.json {
        print!("{}", plan.summary(&memory));
    }
    let estimate = if args.no_measure {
        RunEstimate::unmeasured(&plan)
    } else {
        tell("measuring two steps of each training stage; --no-measure leaves this out");
        RunEstimate::measure(&plan, &memory, worker)?
    };
    if args.json {
        let mut document = serde_json::to_value(plan.to_table()?)?;
        document["memory"] = serde_json::to_value(memory)?;
        document["estimate"] = serde_json::to_value(estimate)?;
        print_json(&document)?;
    } else {
        print!("{}", estimate.summary());
    }
    Ok(())
}
