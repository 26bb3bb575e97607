//! What can be said of every recipe without running it.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use burn::tensor::Device;
use mm1_model::group::ParameterCounts;
use mm1_model::{Mm1, Mm1Config, weights};
use toml::{Table, Value};

use crate::{mm1, succeeds};

/// The recipes of this repository that write a whole model, and that of the tests.
fn all() -> Vec<(PathBuf, Table)> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../recipes");
    let (mut folders, mut found) = (vec![root], vec![PathBuf::from(crate::TINY)]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    let read =
        |path: PathBuf| (path.clone(), std::fs::read_to_string(path).unwrap().parse::<Table>().unwrap());
    let whole = |recipe: &Table| {
        let model = recipe.get("model");
        let own = |part: &Value| part.get("from").is_none();
        model.is_some_and(|model| ["vision", "lm"].iter().all(|part| model.get(part).is_some_and(own)))
    };
    found.into_iter().map(read).filter(|(_, recipe)| whole(recipe)).collect()
}

#[test]
fn the_counted_parameters_are_the_drawn_ones() {
    let recipes = all();
    assert!(recipes.len() >= 7, "{} recipes", recipes.len());
    for (path, mut recipe) in recipes {
        let mut config: Mm1Config = recipe.remove("model").unwrap().try_into().unwrap();
        config.lm.vocab = Some(512);
        for tied in [true, false] {
            config.lm.tied = tied;
            let model = Mm1::new(&config, 1, &Device::flex()).unwrap();
            let counted = ParameterCounts::of(&model).total();
            let drawn: usize = weights::parameters(&model).iter().map(|(.., values)| values.len()).sum();
            assert_eq!(counted, drawn, "{}", path.display());
        }
    }
}

/// Drawn, these weights are 10 GB and take a minute and more.
#[test]
fn a_plan_of_3b_draws_no_weights() {
    let sizes = ["dim=2560", "layers=32", "heads=20", "kv_heads=20", "ffn=6912"];
    let edits: Vec<String> = sizes.iter().map(|size| format!("model.lm.{size}")).collect();
    let started = Instant::now();
    let plan = mm1(&["plan", crate::TINY, "--json"])
        .args(edits.iter().flat_map(|edit| ["--set", edit]))
        .output()
        .unwrap();
    succeeds(&plan);
    assert!(started.elapsed() < Duration::from_secs(40), "it took {:?}", started.elapsed());
    let plan: serde_json::Value = serde_json::from_slice(&plan.stdout).unwrap();
    let block: i64 = 4 * 2560 * 2560 + 3 * 2560 * 6912 + 2 * 2560;
    assert_eq!(plan["settled"]["derived"]["parameters"]["lm"], 32 * block + 2560);
}
