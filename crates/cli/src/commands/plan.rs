//! `mm1 plan`: the bill of a recipe.

use std::path::Path;

use anyhow::Result;

use crate::plan::Plan;
use crate::recipe::Recipe;

/// Checks the recipe and prints what it would do.
pub(crate) fn plan(recipe: &Path, edits: &[String], json: bool) -> Result<()> {
    let plan = Plan::resolve(Recipe::read(recipe, edits)?, None)?;
    // As many as `mm1 run` takes by itself.
    let bills = plan.bills(std::thread::available_parallelism().map_or(1, usize::from))?;
    if json {
        let mut document = serde_json::to_value(plan.to_table()?)?;
        document["memory"] = serde_json::to_value(bills)?;
        println!("{document}");
    } else {
        print!("{}", plan.summary(&bills));
    }
    Ok(())
}
