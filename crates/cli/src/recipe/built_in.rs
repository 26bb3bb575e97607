//! The recipes of `recipes/`, inside of the program: `mm1 run quickstart` needs no file.

use std::path::Path;

/// A recipe of the repository.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BuiltInRecipe {
    /// Its path in `recipes/`, without the ending.
    pub(crate) name: &'static str,
    /// The file.
    pub(crate) text: &'static str,
}

/// The recipe of a name.
macro_rules! recipe {
    ($name:literal) => {
        BuiltInRecipe { name: $name, text: include_str!(concat!("../../../../recipes/", $name, ".toml")) }
    };
}

/// All of them, in the order of their names.
pub(crate) const RECIPES: [BuiltInRecipe; 30] = [
    recipe!("ablations/connector"),
    recipe!("ablations/encoder"),
    recipe!("ablations/flamingo"),
    recipe!("ablations/law"),
    recipe!("ablations/mixture"),
    recipe!("ablations/own-pictures"),
    recipe!("ablations/sizes"),
    recipe!("ablations/smol-connector"),
    recipe!("ablations/smol-text"),
    recipe!("ablations/synthetic"),
    recipe!("ablations/text"),
    recipe!("encoder/aim-quick"),
    recipe!("encoder/clip-quick"),
    recipe!("encoder/dino-quick"),
    recipe!("encoder/probe"),
    recipe!("own-pictures"),
    recipe!("paper/30b"),
    recipe!("paper/3b"),
    recipe!("paper/7b"),
    recipe!("pretrain/desk"),
    recipe!("pretrain/smol"),
    recipe!("pretrain/smol-llava"),
    recipe!("pretrain/smol-stock"),
    recipe!("quickstart"),
    recipe!("sft/encoder"),
    recipe!("sft/length"),
    recipe!("sft/mixture"),
    recipe!("sft/reasoning"),
    recipe!("sft/resolution"),
    recipe!("sft/smol"),
];

impl BuiltInRecipe {
    /// The recipe of that name, with or without the ending, and with `recipes/` before it or not.
    pub(crate) fn named(name: &str) -> Option<Self> {
        let name = name.strip_prefix("recipes/").unwrap_or(name);
        let name = name.strip_suffix(".toml").unwrap_or(name);
        RECIPES.into_iter().find(|recipe| recipe.name == name)
    }

    /// The same for what a command is given where a file is meant. A file of that name comes first.
    pub(crate) fn of_argument(file: &Path) -> Option<Self> {
        if file.exists() { None } else { Self::named(file.to_str()?) }
    }

    /// The first sentence of its first comment.
    pub(crate) fn title(&self) -> String {
        let comment = self.text.lines().filter(|line| !line.starts_with("#:"));
        let lines = comment.map_while(|line| line.strip_prefix('#')).map(str::trim);
        let text = lines.take_while(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
        // Not after "et al.", which a year follows.
        let ends = |&(at, _): &(usize, &str)| text[at + 2..].starts_with(char::is_uppercase);
        let end = text.match_indices(". ").find(ends).map_or(text.len(), |(at, _)| at);
        text[..end].trim_end_matches(['.', ':']).to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file that is added to `recipes/` is added here.
    #[test]
    fn every_recipe_of_the_repository_is_inside() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../recipes");
        let (mut folders, mut found) = (vec![root.clone()], Vec::new());
        while let Some(folder) = folders.pop() {
            // A task file is no recipe.
            if folder.ends_with("tasks") {
                continue;
            }
            for entry in folder.read_dir().expect("folder") {
                let path = entry.expect("entry").path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let name = path.strip_prefix(&root).expect("inside").with_extension("");
                    found.push(name.to_str().expect("text").to_owned());
                }
            }
        }
        found.sort();
        assert_eq!(found, RECIPES.map(|recipe| recipe.name));
        for recipe in RECIPES {
            assert!(recipe.title().len() > 20, "{}: {}", recipe.name, recipe.title());
        }
        assert!(BuiltInRecipe::named("recipes/quickstart.toml").is_some());
        assert!(BuiltInRecipe::named("quick").is_none());
    }
}
