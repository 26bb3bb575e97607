//! What can be said of every recipe without running it.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use burn::tensor::Device;
use mm1_model::group::ParameterCounts;
use mm1_model::{Mm1, Mm1Config, weights};
use serde_json::Value;
use toml::Table;

use crate::{mm1, succeeds};

/// The recipes of this repository that write a whole model, but those of the paper's sizes, and that of the
/// tests.
fn all() -> Vec<(PathBuf, Table)> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../recipes");
    let (mut folders, mut found) = (vec![root], vec![PathBuf::from(crate::TINY)]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.ends_with("paper") {
                continue;
            }
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
    let read =
        |path: PathBuf| (path.clone(), std::fs::read_to_string(path).unwrap().parse::<Table>().unwrap());
    let whole = |recipe: &Table| {
        let model = recipe.get("model");
        let own = |part: &toml::Value| part.get("from").is_none();
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

/// What `mm1 plan paper/SIZE` prints with these arguments.
fn on_ranks(size: &str, arguments: &[&str]) -> Value {
    let started = Instant::now();
    let recipe = format!("paper/{size}");
    let planned = mm1(&["plan", &recipe, "--json"]).args(arguments).output().unwrap();
    succeeds(&planned);
    assert!(started.elapsed() < Duration::from_secs(10), "it took {:?}", started.elapsed());
    serde_json::from_slice(&planned.stdout).unwrap()
}

/// Decoder: blocks of 4 d^2 and 3 d ffn and two norms, and a norm behind them.
#[test]
fn the_papers_models_are_planned_from_sizes() {
    for (size, layers, dim, ffn, law) in
        [("3b", 26_u64, 3072, 8192, 6e-5), ("7b", 32, 4096, 11_008, 4e-5), ("30b", 48, 7168, 19_136, 2e-5)]
    {
        let plan = on_ranks(size, &["--ranks", "64"]);
        let lm = layers * (4 * dim * dim + 3 * dim * ffn + 2 * dim) + dim;
        assert_eq!(plan["parameters"]["lm"], lm, "{size}");
        assert_eq!(plan["image_tokens"], 144);
        // The law of the paper, and the rates that it used.
        let rate = (-0.4214 * (lm as f64).ln() - 0.5535).exp();
        assert!((rate / law - 1.0).abs() < 0.2, "{size}: {rate}");
    }
}

#[test]
fn a_plan_for_ranks_is_the_hand_computed_one() {
    let sizes = ["captioned=2e9:20:1", "synthetic=3e8:30:1", "interleaved=6e8:1000:2", "text=2e9:1000:0"];
    let sources: Vec<&str> = sizes.iter().flat_map(|size| ["--source", size]).collect();
    let given = [
        "--ranks",
        "64",
        "--device-memory",
        "80GB",
        "--price",
        "2.5",
        "--micro-batch-seconds",
        "0.5",
        "--latency",
        "10",
        "--bandwidth",
        "25",
    ];
    let plan = on_ranks("3b", &[&given[..], &sources].concat());
    let near = |value: &Value, expected: f64| {
        let value = value.as_f64().unwrap();
        assert!((value / expected - 1.0).abs() < 1e-9, "{value}, not {expected}");
    };
    let parameters: f64 = ["vision", "connector", "lm", "embedding"]
        .iter()
        .map(|part| plan["parameters"][part].as_f64().unwrap())
        .sum();
    let stage = &plan["stages"]["pretrain"];
    assert_eq!(
        (&stage["micro_batches_per_rank"], &stage["positions_per_step"]),
        (&8.into(), &2_097_152.into())
    );
    let memory = &stage["memory"];
    near(&memory["weights"], 4.0 * parameters);
    near(&memory["gradients"], 4.0 * parameters);
    near(&memory["moments"], (8.0 * parameters / 64.0).ceil());
    let parts = ["weights", "gradients", "moments", "activations"].map(|part| memory[part].as_f64().unwrap());
    near(&memory["total"], parts.iter().sum());
    assert!(parts[3] > 1e9 && stage["fits"] == true, "{memory}");
    // Captions fill rows with most images: 4096 / (20 + 144).
    assert_eq!(stage["images_per_micro_batch"], 25);
    // Eight times gradients, once weights.
    let bytes = (9.0 * 63.0 * 4.0 * parameters / 64.0).ceil();
    near(&stage["exchange"]["bytes"], bytes);
    let exchange = stage["exchange"]["seconds"].as_f64().unwrap();
    // Of each of 26 blocks three matrices of 25M values cross alone, and of the rest about 2^24 together.
    let messages = (exchange - bytes / 25e9) / (9.0 * 63.0 * 1e-5);
    assert!((messages - messages.round()).abs() < 1e-3, "{messages}");
    let alone = 3.0 * 26.0;
    let rest = (parameters - alone * 3072.0 * 8192.0) / f64::from(1 << 24);
    assert!((alone + 0.5 * rest..alone + 2.0 * rest).contains(&messages), "{messages}");
    let step = 8.0 * 0.5 + exchange;
    let time = &stage["time"];
    near(&time["step_seconds"], step);
    near(&time["efficiency"], 4.0 / step);
    near(&time["tokens_per_day"], 2_097_152.0 / step * 86_400.0);
    near(&time["days"], 200_000.0 * step / 86_400.0);
    near(&time["cost"], 2.5 * 64.0 * 200_000.0 * step / 3600.0);
    // Weights and moments; two are kept, and one more is written.
    near(&stage["checkpoint_bytes"], 3.0 * 12.0 * parameters);
    // 419.4 * 10^9 positions, 45% of them of documents of 1000 + 2 * 144.
    let interleaved = &stage["data"]["interleaved"];
    near(&interleaved["positions"], 0.45 * 2_097_152.0 * 200_000.0);
    near(&interleaved["epochs"], 0.45 * 2_097_152.0 * 200_000.0 / 1288.0 / 6e8);
}

/// The exchange of a 30B does not care for its weights: they fit into no device of 80 GB.
#[test]
fn a_plan_for_ranks_says_what_does_not_fit() {
    let plan = on_ranks("30b", &["--ranks", "128", "--device-memory", "80GB", "--tflops", "400"]);
    let stage = &plan["stages"]["pretrain"];
    assert_eq!(stage["fits"], false);
    // At least six operations of each parameter of the decoder and position.
    let least = 6.0 * plan["parameters"]["lm"].as_f64().unwrap() * 2_097_152.0;
    let operations = stage["operations"].as_f64().unwrap();
    assert!(operations > least && operations < 3.0 * least, "{operations} {least}");
    let computing = operations / 128.0 / 400e12;
    let step = stage["time"]["step_seconds"].as_f64().unwrap();
    let exchange = stage["exchange"]["seconds"].as_f64().unwrap();
    assert!((step - computing - exchange).abs() < 1e-6 * step, "{step} {computing} {exchange}");
    for (arguments, what) in [
        (&["--ranks", "100"][..], "accumulate = 512 can't be shared by 100 ranks"),
        (&["--ranks", "8", "--source", "photos=1:1:1"], "no [data.photos]"),
        (&["--ranks", "8", "--source", "text=1:1"], "NAME=DOCUMENTS:TOKENS:IMAGES"),
        (&["--ranks", "8", "--device-memory", "80"], "80GB"),
        (&["--price", "2"], "--ranks"),
        (&["--ranks", "8", "--set", "model.lm.from=elsewhere"], "in place of `from`"),
    ] {
        let refused = mm1(&["plan", "paper/3b"]).args(arguments).output().unwrap();
        assert_eq!(refused.status.code(), Some(2), "{arguments:?}");
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(said.contains(what), "{arguments:?}: {said}");
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
    let plan: Value = serde_json::from_slice(&plan.stdout).unwrap();
    let block: i64 = 4 * 2560 * 2560 + 3 * 2560 * 6912 + 2 * 2560;
    assert_eq!(plan["settled"]["derived"]["parameters"]["lm"], 32 * block + 2560);
}
