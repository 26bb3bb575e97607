//! Stages that train and measure image encoders.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::Value;

use crate::resume::run_with_kills;
use crate::{losses, mm1, stderr, succeeds};

/// An encoder and its measures.
pub(crate) const ENCODERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/encoders.toml");

/// Two large views and one small one.
const VIEWS: &str = "stage.encoder.views={ global = [{ scale = [0.5, 1.0], flip = 0.5 }, { solarise = 0.5 \
                     }], local = { views = 1, size = 8 } }";
/// A head as small as the encoder.
const DINO: &str = "stage.encoder.dino={ prototypes = 24, hidden = 16, bottleneck = 8, ibot = 1.0 }";

/// Trains and measures an encoder, with edits.
pub(crate) fn run(out: &Path, edits: &[&str]) -> Output {
    let edits = edits.iter().flat_map(|edit| ["--set", edit]);
    mm1(&["run", ENCODERS, "--out", out.to_str().unwrap()]).args(edits).output().unwrap()
}

fn records(out: &Path) -> Vec<Value> {
    serde_json::from_slice(&fs::read(out.join("eval.json")).unwrap()).unwrap()
}

/// Settings of each objective.
pub(crate) fn objectives() -> [(&'static str, Vec<&'static str>); 4] {
    [
        ("clip", vec![]),
        ("siglip", vec!["stage.encoder.objective=siglip"]),
        ("dino", vec!["stage.encoder.objective=dino", VIEWS, DINO]),
        ("aim", vec!["stage.encoder.objective=aim", "stage.probe.attentive=true"]),
    ]
}

#[test]
fn every_objective_trains_and_is_measured() {
    let dir = tempfile::tempdir().unwrap();
    for (objective, edits) in objectives() {
        let out = dir.path().join(objective);
        let output = run(&out, &edits);
        succeeds(&output);
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(told.contains("attentive-probe"), objective == "aim", "{told}");
        let records = records(&out);
        let tasks: Vec<&str> = records.iter().map(|r| r["task"].as_str().unwrap()).collect();
        let mut expected = vec![
            "knn",
            "knn/random",
            "knn/pixels",
            "linear-probe",
            "linear-probe/random",
            "linear-probe/pixels",
        ];
        if objective == "aim" {
            expected.extend(["attentive-probe", "attentive-probe/random", "attentive-probe/pixels"]);
        }
        if ["clip", "siglip"].contains(&objective) {
            expected.extend(["zero-shot", "retrieval/image-to-text", "retrieval/text-to-image"]);
        }
        assert_eq!(tasks, expected, "{objective}");
        let knn = &records[0];
        assert_eq!((knn["n"].as_u64(), knn["metric"].as_str()), (Some(30), Some("accuracy")));
        assert!((knn["baselines"]["chance"].as_f64().unwrap() - 100.0 / 12.0).abs() < 1e-9);
        assert_eq!(knn["baselines"]["pixels"], records[2]["value"]);
        let metrics = fs::read_to_string(out.join("metrics.jsonl")).unwrap();
        let first: Value = serde_json::from_str(metrics.lines().next().unwrap()).unwrap();
        let figure = match objective {
            "dino" => "view_entropy",
            "aim" => "grad_norm",
            _ => "scale",
        };
        assert!(first[figure].as_f64().is_some_and(|f| f > 0.0), "{objective}: {first}");
        // A pair a row, two micro-batches of six.
        assert_eq!(first["images"], 12, "{objective}");
    }
}

#[test]
fn every_objective_killed_at_any_moment_gives_the_same_digits() {
    let dir = tempfile::tempdir().unwrap();
    for (objective, mut edits) in objectives() {
        let (whole, killed) =
            (dir.path().join(format!("{objective}-1")), dir.path().join(format!("{objective}-2")));
        edits.push("stage.encoder.steps=16");
        succeeds(&run(&whole, &edits));
        let edits: Vec<&str> = edits.iter().flat_map(|edit| ["--set", edit]).collect();
        let kills = run_with_kills(ENCODERS, &edits, dir.path(), &killed);
        assert!(kills >= 3, "only {kills} kills: the run is too short to prove anything");
        assert_eq!(losses(&killed), losses(&whole), "{objective}");
        assert_eq!(records(&killed), records(&whole), "{objective}");
    }
}

#[test]
fn an_encoder_goes_on_at_another_resolution() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (dir.path().join("first"), dir.path().join("second"));
    succeeds(&run(&first, &[]));
    let recipe: toml::Table = fs::read_to_string(ENCODERS).unwrap().parse().unwrap();
    let mut later = recipe.clone();
    // All but the resolution comes from the run.
    let vision: toml::Table = format!("from = {first:?}\nimage_size = 32").parse().unwrap();
    later["model"]["vision"] = vision.into();
    later["stage"].as_array_mut().unwrap().remove(0);
    let file = dir.path().join("later.toml");
    fs::write(&file, toml::to_string(&later).unwrap()).unwrap();
    let of = |edits: &[&str]| {
        let edits = edits.iter().flat_map(|edit| ["--set", edit]);
        let out = ["run", file.to_str().unwrap(), "--out", second.to_str().unwrap()];
        mm1(&out).args(edits).output().unwrap()
    };
    let refused = of(&["model.vision.dim=32"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(stderr(&refused).contains("model.vision.dim = 32, but "), "{}", stderr(&refused));
    succeeds(&of(&["world.picture_size=32"]));
    let plan = fs::read_to_string(second.join("plan.toml")).unwrap();
    assert!(
        plan.contains("dim = 16") && plan.contains("image_size = 32") && plan.contains("encoder = \""),
        "{plan}"
    );
    // The weights are the same in every process.
    succeeds(&of(&["world.picture_size=32"]));
    // The text tower too.
    let tasks = |out: &Path| -> Vec<Value> {
        let scores = fs::read(out.join("eval.json")).unwrap();
        let scores: Vec<Value> = serde_json::from_slice(&scores).unwrap();
        scores.iter().map(|score| score["task"].clone()).collect()
    };
    assert_eq!(tasks(&second), tasks(&first));
    assert!(tasks(&second).contains(&"zero-shot".into()), "{:?}", tasks(&second));
    // Other weights under the same name belong to another run.
    fs::remove_dir_all(&first).unwrap();
    succeeds(&run(&first, &["seed=4"]));
    let other = of(&["world.picture_size=32"]);
    assert!(stderr(&other).contains("belongs to another run (derived.encoder"), "{}", stderr(&other));
}

/// A copy of an imported model of `testdata`, and a recipe beside it that measures it.
fn imported(dir: &Path, name: &str) -> (PathBuf, PathBuf) {
    let (folder, file) = (dir.join(name), dir.join(format!("{name}.toml")));
    fs::create_dir(&folder).unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/import").join(name);
    for found in fs::read_dir(source).unwrap() {
        let found = found.unwrap();
        fs::copy(found.path(), folder.join(found.file_name())).unwrap();
    }
    let mut recipe: toml::Table = fs::read_to_string(ENCODERS).unwrap().parse().unwrap();
    let vision: toml::Table = format!("from = {folder:?}").parse().unwrap();
    recipe["model"]["vision"] = vision.into();
    // The folders do not say how they take pictures.
    let image: toml::Table =
        "mode = \"squash\"\nmean = [0.5, 0.5, 0.5]\nstd = [0.5, 0.5, 0.5]".parse().unwrap();
    recipe.insert("image".into(), image.into());
    recipe["world"]["picture_size"] = 20.into();
    recipe["stage"].as_array_mut().unwrap().remove(0);
    fs::write(&file, toml::to_string(&recipe).unwrap()).unwrap();
    (folder, file)
}

#[test]
fn an_imported_pair_is_measured_as_one_of_ours() {
    let dir = tempfile::tempdir().unwrap();
    let probe = |file: &Path, out: &str, edits: &[&str]| {
        let out = dir.path().join(out);
        let edits = edits.iter().flat_map(|edit| ["--set", edit]);
        let arguments = ["run", file.to_str().unwrap(), "--out", out.to_str().unwrap()];
        (mm1(&arguments).args(edits).output().unwrap(), out)
    };
    let tasks = |out: &Path| -> Vec<(String, u64)> {
        let records = records(out);
        let own = records.iter().filter(|r| !r["baselines"].as_object().is_none_or(|b| b.is_empty()));
        own.map(|r| (r["task"].as_str().unwrap().to_owned(), r["n"].as_u64().unwrap())).collect()
    };
    let all = |names: &[(&str, u64)]| -> Vec<(String, u64)> {
        names.iter().map(|(task, n)| ((*task).to_owned(), *n)).collect()
    };
    let whole = all(&[
        ("knn", 30),
        ("linear-probe", 30),
        ("zero-shot", 30),
        ("retrieval/image-to-text", 20),
        ("retrieval/text-to-image", 20),
    ]);
    for name in ["clip", "siglip-pair"] {
        let (_, file) = imported(dir.path(), name);
        let (output, out) = probe(&file, &format!("{name}-run"), &[]);
        succeeds(&output);
        assert_eq!(tasks(&out), whole, "{name}");
    }
    // Behind another block there is no common space.
    let file = dir.path().join("clip.toml");
    let (output, out) = probe(&file, "block", &["model.vision.feature_block=1"]);
    succeeds(&output);
    assert!(stderr(&output).contains("probe no text tower: model.vision.feature_block = 1 is"), "{output:?}");
    assert_eq!(tasks(&out), whole[..2]);
    let (output, out) = probe(&file, "bare", &["model.vision.last_norm=false"]);
    succeeds(&output);
    assert!(stderr(&output).contains("probe no text tower: model.vision.last_norm = false is"), "{output:?}");
    assert_eq!(tasks(&out), whole[..2]);
    // A tokenizer that is none is reported before anything is measured, one that is not there is done
    // without.
    let tokenizer = dir.path().join("clip/tokenizer.json");
    fs::write(&tokenizer, "{}").unwrap();
    let (output, _) = probe(&file, "damaged", &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("clip/tokenizer.json: "), "{output:?}");
    fs::remove_file(tokenizer).unwrap();
    let (output, out) = probe(&file, "without", &[]);
    succeeds(&output);
    assert!(stderr(&output).contains("clip has a text tower, but no tokenizer.json"), "{output:?}");
    assert_eq!(tasks(&out), whole[..2]);
}

#[test]
fn an_ablation_is_one_table() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ablation.toml");
    let axes = "\n[[ablation.axis]]\nname = \"encoder\"\nvalue = [\n  { name = \"CLIP\", set = { \
                \"stage.encoder.objective\" = \"clip\" } },\n  { name = \"AIM\", set = { \
                \"stage.encoder.objective\" = \"aim\" } },\n]\n[[ablation.axis]]\nname = \"px\"\nvalue = [{ \
                name = \"8\", set = { \"model.vision.image_size\" = 8 } }, { name = \"16\", set = {} \
                }]\n[ablation.paper]\ntitle = \"Paper\"\ncolumns = [\"encoder\", \"0-shot\"]\nrows = \
                [[\"ViT-L\", \"36.9\"]]\n";
    fs::write(&file, fs::read_to_string(ENCODERS).unwrap() + axes).unwrap();
    let (file, out) = (file.to_str().unwrap(), dir.path().join("out"));
    let alone = mm1(&["run", file, "--out", out.to_str().unwrap()]).output().unwrap();
    assert!(
        stderr(&alone).contains("an ablation is many runs: `mm1 ablate` does them"),
        "{}",
        stderr(&alone)
    );
    // A cell that can't run is reported before the first one runs.
    let wrong = dir.path().join("wrong.toml");
    let last = axes.replace("set = {} }", "set = { \"stage.encoder.rows\" = 0 } }");
    fs::write(&wrong, fs::read_to_string(ENCODERS).unwrap() + &last).unwrap();
    let wrong = mm1(&["ablate"]).arg(wrong).arg("--out").arg(&out).output().unwrap();
    assert!(wrong.status.code() == Some(2) && !out.exists(), "{wrong:?}");
    assert!(stderr(&wrong).contains("ablation: CLIP, 16: stage.encoder: rows"), "{}", stderr(&wrong));
    let ablate = || mm1(&["ablate", file, "--out", out.to_str().unwrap()]).output().unwrap();
    let done = ablate();
    succeeds(&done);
    let table = String::from_utf8(done.stdout).unwrap();
    let rows: Vec<&str> = table.lines().collect();
    assert!(rows[0].starts_with("| encoder | px | knn | linear-probe | zero-shot |"), "{table}");
    for (row, start) in
        rows[2..6].iter().zip(["| CLIP | 8 |", "| CLIP | 16 |", "| AIM | 8 |", "| AIM | 16 |"])
    {
        assert!(row.starts_with(start), "{row}");
    }
    assert!(rows[5].ends_with("| – |") && table.ends_with("| ViT-L | 36.9 |\n"), "{table}");
    assert_eq!(table, fs::read_to_string(out.join("encoders/table.md")).unwrap());
    // A recipe inside of the program, and a setting that is left out.
    let unset = ["--unset", "data.nothing"];
    let built_in = mm1(&["ablate", "ablations/encoder", "--out", "nowhere"]).args(unset).output().unwrap();
    assert_eq!(built_in.status.code(), Some(2));
    assert!(
        stderr(&built_in).contains("--unset data.nothing: there is no data.nothing to leave out"),
        "{built_in:?}"
    );
    // Again: nothing is done twice.
    let again = ablate();
    succeeds(&again);
    assert!(stderr(&again).contains("0 to do, 4 done before"), "{}", stderr(&again));
    assert_eq!(String::from_utf8(again.stdout).unwrap(), table);
}

#[test]
fn settings_of_encoders_that_are_wrong() {
    let dir = tempfile::tempdir().unwrap();
    for (edits, parts) in [
        (vec!["stage.encoder.objective=dino"], vec!["stage.encoder", "views.global has 1 views"]),
        (vec![VIEWS], vec!["objective \"clip\" takes one view"]),
        (vec!["stage.encoder.objective=aim", "model.vision.stem=conv"], vec!["objective \"aim\" needs"]),
        (
            vec!["stage.encoder.objective=dino", VIEWS, "stage.encoder.dino.koleo=0.1"],
            vec!["dino.koleo needs accumulate = 1"],
        ),
        (
            vec!["stage.encoder.objective=dino", VIEWS, "stage.encoder.dino.prototypes=0"],
            vec!["dino.prototypes"],
        ),
        (
            vec!["stage.encoder.objective=dino", VIEWS, "stage.encoder.views.local.size=6"],
            vec!["views.local.size = 6"],
        ),
        (vec!["stage.probe.classes=nope"], vec!["stage.probe", "no [data.nope]"]),
        (vec!["stage.probe.prompt=a photo"], vec!["prompt = \"a photo\" has no {}"]),
        (vec!["model.vision.from=/nowhere"], vec!["model.vision.from = \"/nowhere\""]),
    ] {
        let output = run(&dir.path().join("run"), &edits);
        let line = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{line}");
        assert_eq!(line.trim().lines().count(), 1, "{line}");
        assert!(parts.iter().all(|part| line.contains(part)), "{line} lacks one of {parts:?}");
    }
}

#[test]
fn a_plan_says_how_few_pictures_a_probe_has() {
    let classes = tempfile::tempdir().unwrap();
    let shop = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../recipes/tasks/shop");
    for (class, part) in [("ball", "train"), ("ball", "test"), ("box", "train"), ("box", "test")] {
        let folder = classes.path().join(part).join(class);
        fs::create_dir_all(&folder).unwrap();
        fs::copy(shop.join(format!("{class}-red.png")), folder.join("a.png")).unwrap();
    }
    let source = format!("data.renderings={{kind=\"classes\", path=\"{}\"}}", classes.path().display());
    let edits =
        ["plan", ENCODERS, "--no-measure", "--set", &source, "--set", "stage.encoder.mixture={scenes=1.0}"];
    let shown = mm1(&edits).output().unwrap();
    succeeds(&shown);
    let text = String::from_utf8(shown.stdout).unwrap();
    for words in [
        "the encoder's features of 2 held-out pictures of data.renderings, judged by 2 training pictures",
        "warning: with fewer than 200 held-out pictures a score is a rough guess",
    ] {
        assert!(text.contains(words), "`{words}` is not in: {text}");
    }
}
