//! `mm1 recipes`: the recipes that are inside of the program.

use anyhow::{Context as _, Result};
use clap::Args;

use crate::error::input;
use crate::output;
use crate::recipe::built_in::{BuiltInRecipe, RECIPES};

#[derive(Debug, Args)]
#[command(after_help = "A recipe is run by its name: mm1 run quickstart --out runs/quickstart
To change it, take a copy:  mm1 recipes quickstart > my.toml")]
pub(crate) struct RecipesArgs {
    /// Print this recipe. Default: list all, a line each.
    name: Option<String>,
}

/// Prints the list, or one recipe.
///
/// # Errors
/// A name that is none; an output that can't be written.
pub(crate) fn recipes(args: &RecipesArgs) -> Result<()> {
    match &args.name {
        Some(name) => {
            let known = || RECIPES.map(|recipe| recipe.name).join(", ");
            let found = BuiltInRecipe::named(name);
            let recipe =
                input(found.with_context(|| {
                    format!("{name}: no such recipe in this program; there are: {}", known())
                }))?;
            output::print(recipe.text.as_bytes())
        }
        None => {
            let line = |recipe: &BuiltInRecipe| format!("{:<20} {}\n", recipe.name, recipe.title());
            print!("{}", RECIPES.iter().map(line).collect::<String>());
            Ok(())
        }
    }
}
