//! `mm1 ablate`: many runs, what they have in common done once, and what they show.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::refuse::refused;
use crate::{TINY, losses, mm1, stderr, succeeds};

/// Two connectors behind one encoder, with two seeds.
pub(crate) const AXES: &str = "
[[ablation.axis]]
path = \"model.connector.tokens\"
values = [1, 4]
[[ablation.axis]]
path = \"seed\"
values = [3, 4]
";

/// The small recipe with an encoder that can be shared, and no tuning.
pub(crate) fn recipe(folder: &Path, axes: &str) -> PathBuf {
    let tiny = fs::read_to_string(TINY).unwrap();
    let (kept, _) = tiny.split_once("[[stage]]\nname = \"sft\"").unwrap();
    let text = kept.replace("objective = \"superclass\"", "objective = \"clip\"");
    let file = folder.join("study.toml");
    fs::write(&file, text + axes).unwrap();
    file
}

fn ablate(file: &Path, out: &Path, more: &[&str]) -> Command {
    let mut command = mm1(&["ablate", file.to_str().unwrap(), "--out", out.to_str().unwrap()]);
    command.args(["--no-measure"]).args(more);
    command
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// The run folder of each combination.
pub(crate) fn runs(out: &Path) -> BTreeMap<String, PathBuf> {
    let study = json(&out.join("tiny/study.json"));
    let run = |run: &Value| {
        let names: Vec<&str> =
            run["names"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
        (names.join(" "), out.join("tiny").join(run["folder"].as_str().unwrap()))
    };
    study["runs"].as_array().unwrap().iter().map(run).collect()
}

/// The recipe of a run: its file has the name of the run folder.
fn recipe_of(out: &Path, run: &Path) -> PathBuf {
    let key = run.file_name().unwrap().to_str().unwrap();
    let mut files = fs::read_dir(out.join("tiny/recipes")).unwrap().map(|entry| entry.unwrap().path());
    files.find(|file| file.to_str().unwrap().contains(key)).unwrap()
}

/// The weights of the last step of a stage.
fn weights(run: &Path, stage: &str, step: u64) -> Vec<u8> {
    fs::read(run.join(format!("checkpoints/{stage}/step-{step:08}/model.safetensors"))).unwrap()
}

#[test]
fn shared_stages_come_to_the_digits_of_own_ones() {
    let dir = tempfile::tempdir().unwrap();
    let (file, out) = (recipe(dir.path(), AXES), dir.path().join("out"));
    let done = ablate(&file, &out, &[]).output().unwrap();
    succeeds(&done);
    let told = stderr(&done);
    assert!(told.contains("4 combinations (2 connector tokens × 2 seed), 4 to do, 0 done before"), "{told}");
    assert!(told.contains("first stages that several runs have in common are done once: 2"), "{told}");
    assert!(told.contains("encoder is that of"), "{told}");
    let runs = runs(&out);
    assert_eq!(runs.keys().collect::<Vec<_>>(), ["1 3", "1 4", "4 3", "4 4"]);
    assert_eq!(fs::read_dir(out.join("runs")).unwrap().count(), 6);
    let alone = dir.path().join("alone");
    for name in ["1 4", "4 3"] {
        let shared = &runs[name];
        let own = alone.join(name);
        let recipe = recipe_of(&out, shared);
        succeeds(&mm1(&["run", recipe.to_str().unwrap(), "--out", own.to_str().unwrap()]).output().unwrap());
        assert_eq!(losses(&own).len(), 5 + 12);
        assert_eq!(losses(shared), losses(&own), "{name}");
        assert_eq!(weights(shared, "encoder", 5), weights(&own, "encoder", 5), "{name}");
        assert_eq!(weights(shared, "pretrain", 12), weights(&own, "pretrain", 12), "{name}");
        assert_eq!(json(&shared.join("eval.json")), json(&own.join("eval.json")), "{name}");
    }
}

#[test]
fn a_second_study_takes_what_the_first_has_done() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let one = "[[ablation.axis]]\npath = \"model.connector.tokens\"\nvalues = [1]\n";
    succeeds(&ablate(&recipe(dir.path(), one), &out, &[]).output().unwrap());
    let two = fs::read_to_string(recipe(dir.path(), &one.replace("[1]", "[1, 4]"))).unwrap();
    let file = dir.path().join("other.toml");
    fs::write(&file, two.replace("name = \"tiny\"", "name = \"other\"")).unwrap();
    let done = ablate(&file, &out, &[]).output().unwrap();
    succeeds(&done);
    assert!(stderr(&done).contains("1 to do, 1 done before"), "{}", stderr(&done));
    // The name of the study is no setting.
    let study = json(&out.join("other/study.json"));
    assert_eq!(study["runs"][0]["folder"], json(&out.join("tiny/study.json"))["runs"][0]["folder"]);
}

/// Steps that are written in all run folders.
fn steps(out: &Path) -> usize {
    let runs = fs::read_dir(out.join("runs")).into_iter().flatten().map(|run| run.unwrap().path());
    runs.map(|run| fs::read_to_string(run.join("metrics.jsonl")).map_or(0, |text| text.lines().count())).sum()
}

pub(crate) fn tables(out: &Path) -> [String; 2] {
    ["table.md", "table.json"].map(|name| fs::read_to_string(out.join("tiny").join(name)).unwrap())
}

#[test]
fn a_study_killed_at_any_moment_gives_the_same_digits() {
    let dir = tempfile::tempdir().unwrap();
    let (whole, killed) = (dir.path().join("whole"), dir.path().join("killed"));
    let file = recipe(dir.path(), AXES);
    succeeds(&ablate(&file, &whole, &[]).output().unwrap());
    let mut kills = 0;
    loop {
        let jobs = ["1", "3"][kills % 2];
        let mut child = ablate(&file, &killed, &["--jobs", jobs]).stderr(Stdio::null()).spawn().unwrap();
        let (before, mut ended) = (steps(&killed), None);
        while ended.is_none() && steps(&killed) <= before + 9 {
            ended = child.try_wait().unwrap();
            std::thread::sleep(Duration::from_millis(2));
        }
        if let Some(status) = ended {
            assert!(status.success(), "after {kills} kills: {status}");
            break;
        }
        child.kill().unwrap(); // SIGKILL
        child.wait().unwrap();
        kills += 1;
        assert!(kills < 60, "the study never ends");
    }
    assert!(kills >= 3, "only {kills} kills: the study is too short to prove anything");
    let (expected, found) = (runs(&whole), runs(&killed));
    for (name, run) in &found {
        assert_eq!(losses(run), losses(&expected[name]), "{name}");
    }
    assert_eq!(tables(&killed), tables(&whole));
}

#[test]
fn two_studies_in_one_folder_do_not_disturb_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let (alone, both) = (dir.path().join("alone"), dir.path().join("both"));
    let file = recipe(dir.path(), AXES);
    succeeds(&ablate(&file, &alone, &[]).output().unwrap());
    let begin = || {
        ablate(&file, &both, &["--jobs", "2"]).stderr(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
    };
    let started = [begin(), begin()];
    let ended: Vec<Output> = started.map(|child| child.wait_with_output().unwrap()).into();
    ended.iter().for_each(succeeds);
    let (expected, found) = (runs(&alone), runs(&both));
    for (name, run) in &found {
        assert_eq!(losses(run), losses(&expected[name]), "{name}");
    }
    assert_eq!(tables(&both), tables(&alone));
}

#[test]
fn a_run_that_fails_is_named_and_the_rest_is_done() {
    let dir = tempfile::tempdir().unwrap();
    let (file, out) = (recipe(dir.path(), AXES), dir.path().join("out"));
    let bill = ablate(&file, &out, &["--bill"]).output().unwrap();
    succeeds(&bill);
    assert!(stderr(&bill).contains("tokens of training: up to") && bill.stdout.is_empty(), "{bill:?}");
    assert!(!out.join("runs").exists());
    // A folder that another program has filled.
    let mut recipes = fs::read_dir(out.join("tiny/recipes")).unwrap().map(|entry| entry.unwrap().path());
    let of_run =
        recipes.find(|file| file.file_name().unwrap().to_str().unwrap().starts_with("4_3.")).unwrap();
    let key = of_run.file_name().unwrap().to_str().unwrap().split('.').nth(1).unwrap().to_owned();
    fs::create_dir_all(out.join("runs").join(&key)).unwrap();
    let foreign = out.join("runs").join(&key).join("thesis.tex");
    fs::write(&foreign, "x").unwrap();
    let done = ablate(&file, &out, &[]).output().unwrap();
    let told = stderr(&done);
    assert_eq!(done.status.code(), Some(1), "{told}");
    assert!(told.contains("failed: 4, 3: --out") && told.contains("thesis.tex"), "{told}");
    assert!(told.lines().last().unwrap().starts_with("mm1: 1 of 4 runs failed"), "{told}");
    let study = json(&out.join("tiny/study.json"));
    let states: Vec<bool> =
        study["runs"].as_array().unwrap().iter().map(|run| run["state"] == "done").collect();
    assert_eq!(states, [true, true, false, true]);
    // When the reason is gone the same command does it.
    fs::remove_file(foreign).unwrap();
    let again = ablate(&file, &out, &[]).output().unwrap();
    succeeds(&again);
    assert!(stderr(&again).contains("1 to do, 3 done before"), "{}", stderr(&again));
}

#[test]
fn studies_that_are_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let study = |axes: &str| ablate(&recipe(dir.path(), axes), &out, &[]).output().unwrap();
    let axis =
        |path: &str, values: &str| format!("[[ablation.axis]]\npath = \"{path}\"\nvalues = {values}\n");
    for (axes, words) in [
        (String::new(), &["study.toml has no [ablation] table", "mm1 run"][..]),
        (
            axis("model.connector.tokns", "[1]"),
            &["ablation: 1: ", "unknown field `tokns`; did you mean `tokens`?"],
        ),
        (axis("stage.nope.steps", "[1]"), &["ablation: 1: stage.nope.steps: no [[stage]] is named \"nope\""]),
        (
            axis("model.connector.tokens", "[]"),
            &["study.toml: ablation: axis \"model.connector.tokens\" needs values"],
        ),
        (axis("model.connector.tokens", "[4, 5]"), &["model.connector.tokens = 5 must be a square number"]),
        (axis("stage.pretrain.rows", "[2, 0]"), &["ablation: 0: stage.pretrain: rows must be at least 1"]),
        (axis("seed", "[1, \"x\"]"), &["seed = \"x\" must be a whole number"]),
    ] {
        refused(&study(&axes), words);
        assert!(!out.join("runs").exists(), "{axes}");
    }
    let file = recipe(dir.path(), AXES);
    let numbered = fs::read_to_string(&file).unwrap().replace("name = \"tiny\"", "name = 5");
    fs::write(&file, numbered).unwrap();
    refused(&ablate(&file, &out, &[]).output().unwrap(), &["study.toml: name = 5 must be a text"]);
    let file = recipe(dir.path(), AXES);
    for edit in [["--set", "ablation.base={seed=4}"], ["--unset", "ablation.axis"]] {
        refused(
            &ablate(&file, &out, &edit).output().unwrap(),
            &["--set and --unset change the recipe of every \
             run; change [ablation] in the file"],
        );
    }
}

#[test]
fn the_bill_is_json_too() {
    let dir = tempfile::tempdir().unwrap();
    let (file, out) = (recipe(dir.path(), AXES), dir.path().join("out"));
    let mut bill =
        mm1(&["ablate", file.to_str().unwrap(), "--out", out.to_str().unwrap(), "--bill", "--json"]);
    let bill = bill.args(["--jobs", "2", "--threads", "2"]).output().unwrap();
    succeeds(&bill);
    assert!(!out.join("runs").exists());
    let json: Value = serde_json::from_slice(&bill.stdout).unwrap();
    assert_eq!((&json["study"], json["combinations"].as_u64()), (&"tiny".into(), Some(4)), "{json}");
    assert_eq!(json["runs"], serde_json::json!({"left": 4, "done": 0}), "{json}");
    assert_eq!((json["shared"].as_u64(), json["side_by_side"].as_u64()), (Some(2), Some(2)), "{json}");
    let seconds = |of: &str| json["seconds"][of].as_f64().unwrap();
    assert!(seconds("training") > 0.0 && seconds("evaluation") > 0.0, "{json}");
    assert_eq!(seconds("captions"), 0.0, "{json}");
    // A step of a single run has 2 x 2 rows of 192 tokens.
    let tokens = |of: &str| json["tokens"][of].as_u64().unwrap();
    assert!(tokens("runs") == 4 * 12 * 4 * 192 && tokens("shared") > 0, "{json}");
}

#[test]
fn several_recipes_are_one_study() {
    let dir = tempfile::tempdir().unwrap();
    let (folder, out) = (dir.path().join("studies"), dir.path().join("out"));
    fs::create_dir_all(folder.join("recipes")).unwrap();
    let small = fs::read_to_string(recipe(dir.path(), "")).unwrap();
    let deep = small.replace("kind = \"average-pool\"\ntokens = 4", "kind = \"mlp\"");
    assert_ne!(small, deep);
    let put = |name: &str, text: &str| fs::write(folder.join("recipes").join(name), text).unwrap();
    put("small.toml", &small);
    put("deep.toml", &deep);
    put("study.toml", &(small + AXES));
    let study = folder.join("study.toml");
    let values = |values: &str| {
        let axis = format!("name = \"tiny\"\n[[ablation.axis]]\npath = \"recipe\"\nvalues = {values}\n");
        let steps = "[[ablation.axis]]\npath = \"stage.pretrain.steps\"\nvalues = [3, 5]\n";
        fs::write(&study, axis + steps).unwrap();
    };
    // From the folder of the study, wherever the program runs.
    values("[\"recipes/small.toml\", \"recipes/deep.toml\"]");
    let done = ablate(&study, &out, &[]).output().unwrap();
    succeeds(&done);
    assert!(stderr(&done).contains("4 combinations (2 recipe × 2 pretrain steps)"), "{}", stderr(&done));
    // Both have the same encoder, which is trained once.
    assert!(stderr(&done).contains("first stages that several runs have in common are done once: 1"));
    let runs = runs(&out);
    let alone = dir.path().join("alone");
    let recipe = folder.join("recipes/deep.toml");
    let run = mm1(&["run", recipe.to_str().unwrap(), "--out", alone.to_str().unwrap()])
        .args(["--set", "stage.pretrain.steps=5"])
        .output()
        .unwrap();
    succeeds(&run);
    assert_eq!(losses(&runs["recipes/deep.toml 5"]), losses(&alone));
    for (wrong, words) in [
        ("[\"recipes/none.toml\"]", &["none.toml", "`mm1 recipes` lists"][..]),
        ("[\"recipes/study.toml\"]", &["recipes/study.toml: it has an [ablation] table of its own"]),
        ("[3]", &["recipe = 3 must be a text"]),
    ] {
        values(wrong);
        refused(&ablate(&study, &out, &[]).output().unwrap(), words);
    }
}

#[test]
fn what_a_study_shows_is_a_page_a_table_and_sentences() {
    let dir = tempfile::tempdir().unwrap();
    let (file, out) = (recipe(dir.path(), AXES), dir.path().join("out"));
    let done = ablate(&file, &out, &["--json"]).output().unwrap();
    succeeds(&done);
    let document: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(document["findings"]["outcomes"].as_array().unwrap().len(), 2);
    assert_eq!(document["runs"].as_array().unwrap().len(), 4);
    let page = fs::read_to_string(out.join("tiny/report.html")).unwrap();
    assert!(page.contains("connector tokens: no difference found"), "{page}");
    let report = |more: &str| {
        let printed = mm1(&["report", out.join("tiny").to_str().unwrap(), more]).output().unwrap();
        succeeds(&printed);
        String::from_utf8(printed.stdout).unwrap()
    };
    let markdown = report("--md");
    for words in ["# tiny\n", "## few-shot, 2 shots\n", "- connector tokens: ", "| 1 | 3 | "] {
        assert!(markdown.contains(words), "{markdown}");
    }
    let csv = report("--csv");
    assert!(csv.starts_with("connector tokens,seed,stage,task,shots,"), "{csv}");
    // 4 runs, 2 numbers of shots, the task and its categories.
    assert!(csv.lines().count() > 8 && csv.lines().skip(1).all(|line| line.contains("few-shot")), "{csv}");
    // A run by itself.
    let run = mm1(&["report", runs(&out)["1 3"].to_str().unwrap(), "--csv"]).output().unwrap();
    assert!(
        String::from_utf8(run.stdout).unwrap().starts_with("stage,task,shots,metric,value,low,high,n,run\n")
    );
}

/// Sizes and rates of the small recipe without pictures.
fn law_recipe(folder: &Path) -> PathBuf {
    let axes = "
[[ablation.axis]]
name = \"size\"
value = [
  { name = \"8\", set = { \"model.lm.dim\" = 8 } },
  { name = \"16\", set = { \"model.lm.dim\" = 16 } },
  { name = \"32\", set = { \"model.lm.dim\" = 32 } },
]
[[ablation.axis]]
path = \"stage.pretrain.optimizer.lr\"
values = [1e-3, 1e-2, 1e-1]
[[ablation.axis]]
path = \"seed\"
values = [1, 2]
";
    let tiny = fs::read_to_string(recipe(folder, "")).unwrap();
    let (head, rest) = tiny.split_once("[[stage]]\nname = \"encoder\"").unwrap();
    let (_, pretrain) = rest.split_once("[[stage]]\nname = \"pretrain\"").unwrap();
    let (pretrain, _) = pretrain.split_once("[[stage]]\nname = \"few-shot\"").unwrap();
    let text =
        format!("{head}[data.text]\nkind = \"emoji-text\"\n[[stage]]\nname = \"pretrain\"{pretrain}{axes}");
    let text = text.replace("{ captioned = 0.5, interleaved = 0.5 }", "{ text = 1.0 }");
    let file = folder.join("law.toml");
    fs::write(&file, text).unwrap();
    file
}

#[test]
fn the_law_of_a_recipe_is_that_of_its_runs() {
    let dir = tempfile::tempdir().unwrap();
    let (file, out) = (law_recipe(dir.path()), dir.path().join("out"));
    let (file, out) = (file.to_str().unwrap(), out.to_str().unwrap());
    refused(&mm1(&["law", file]).output().unwrap(), &["law: give --out for the runs of a recipe"]);
    let law = mm1(&["law", file, "--out", out, "--no-measure", "--json"]).output().unwrap();
    let folder = dir.path().join("out/tiny");
    let told = stderr(&law);
    assert!(told.contains("18 combinations (3 size × 3 optimizer lr × 2 seed)"), "{told}");
    let page = fs::read_to_string(folder.join("law.html")).unwrap();
    assert!(page.contains("Each size") && page.contains("oss of training over its last 2 steps"), "{page}");
    // So few steps may have their best rate at the edge, which is refused with the rate to add.
    match law.status.code() {
        Some(0) => {
            let document: Value = serde_json::from_slice(&law.stdout).unwrap();
            assert_eq!(document, json(&folder.join("law.json")));
            assert_eq!(document["runs"].as_array().unwrap().len(), 18);
            assert_eq!(document["law"]["optima"].as_array().unwrap().len(), 3);
            made_again(&folder);
        }
        _ => refused(&law, &["law.html"]),
    }
    // The same from what is there.
    let again = mm1(&["law", folder.to_str().unwrap(), "--json"]).output().unwrap();
    assert_eq!((again.status.code(), &again.stdout), (law.status.code(), &law.stdout));
    let other = mm1(&["law", folder.to_str().unwrap(), "--target", "scene-vqa:8"]).output().unwrap();
    refused(&other, &["no run is finished and has a scene-vqa:8"]);
}

/// The file of a law needs no run.
fn made_again(folder: &Path) {
    let kept = tempfile::tempdir().unwrap();
    let file = kept.path().join("kept.json");
    fs::copy(folder.join("law.json"), &file).unwrap();
    let of_file = |command: &str, more: &[&str]| {
        let done = mm1(&[command, file.to_str().unwrap()]).args(more).output().unwrap();
        succeeds(&done);
        String::from_utf8(done.stdout).unwrap()
    };
    let document: Value = serde_json::from_str(&of_file("law", &["--json"])).unwrap();
    assert_eq!(document, json(&file));
    assert!(of_file("report", &["--md"]).starts_with("# The law of the learning rate"));
    assert_eq!(of_file("report", &["--svg"]), fs::read_to_string(folder.join("law.svg")).unwrap());
    assert_eq!(of_file("report", &["--csv"]).lines().count(), 19);
    of_file("report", &[]);
    let page = |file: PathBuf| fs::read_to_string(file).unwrap();
    assert_eq!(page(kept.path().join("kept.html")), page(folder.join("law.html")));
}

#[test]
fn the_file_of_a_law_is_fitted_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/lab/law.json");
    let mut runs = json(Path::new(golden))["runs"].clone();
    for run in runs.as_array_mut().unwrap() {
        run["folder"] = "../runs/x".into();
    }
    let file = dir.path().join("kept.json");
    let measured = "loss of held-out texts in nats a token";
    let law = serde_json::json!({
        "axis": "learning-rate", "target": "loss", "measured": measured, "notes": [], "runs": runs,
    });
    fs::write(&file, law.to_string()).unwrap();
    let law = |file: &str, more: &[&str]| mm1(&["law", file]).args(more).output().unwrap();
    let file = file.to_str().unwrap();
    let fitted = law(file, &[]);
    succeeds(&fitted);
    let told = String::from_utf8_lossy(&fitted.stdout).into_owned();
    assert!(told.contains("the exponent is −0.407 ± 0.017"), "{told}");
    // What would be about runs is not passed over in silence.
    for option in
        [&["--out", "x"][..], &["--bill"], &["--no-measure"], &["--jobs", "2"], &["--set", "seed=2"]]
    {
        let words = [option[0], "is about the runs of a recipe, and", "has runs that are done: leave it out"];
        refused(&law(file, option), &words);
        refused(&law(dir.path().to_str().unwrap(), option), &words);
    }
    let other =
        ["the file has the learning rate over the size by the loss of held-out texts", "leave it out"];
    refused(&law(file, &["--target", "scene-vqa:8"]), &other);
    refused(&law(file, &["--axis", "weight-decay"]), &other);
    // JSON is no recipe.
    refused(&law(golden, &[]), &["law.json: not the law.json that `mm1 law` writes: missing field"]);
    let report = mm1(&["report", golden]).output().unwrap();
    refused(&report, &["not the results.json of `mm1 ablate`, nor the law.json of `mm1 law`"]);
}

#[test]
fn a_recipe_follows_its_own_law() {
    let plan = |more: &[&str]| {
        let planned = mm1(&["plan", TINY, "--no-measure", "--json"]).args(more).output().unwrap();
        succeeds(&planned);
        let document: Value = serde_json::from_slice(&planned.stdout).unwrap();
        document["settled"]["derived"]["lr"]["pretrain"].as_f64().unwrap()
    };
    let (paper, own) = (plan(&[]), plan(&["--set", "law.a=-0.5", "--set", "law.b=-0.5535"]));
    assert!(own < paper, "{own} {paper}");
    let wrong = mm1(&["plan", TINY, "--set", "law.a=0.5", "--set", "law.b=1.0"]).output().unwrap();
    refused(&wrong, &["stage.pretrain: law: a = 0.5 and b = 1 give a learning rate of"]);
}
