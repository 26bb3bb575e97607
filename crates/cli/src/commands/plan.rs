//! `mm1 plan`: the bill of a recipe.

use std::path::Path;

use anyhow::Result;

use crate::plan::Plan;
use crate::recipe::Recipe;

/// Checks the recipe and prints what it would do.
pub(crate) fn plan(recipe: &Path, edits: &[String], json: bool) -> Result<()> {
    let plan = Plan::resolve(Recipe::read(recipe, edits)?, None)?;
    if json {
        println!("{}", serde_json::to_string(&plan.to_table()?)?);
    } else {
        print!("{}", plan.summary()?);
    }
    Ok(())
}
