use std::fs;
use std::path::{Path, PathBuf};

use mm1_lab::comparison;
use serde_json::json;

use crate::html::elements;

/// A run of `steps` steps whose loss is `scale / step`, with other settings by `dim`.
fn run(folder: &Path, dim: u64, steps: u64, scale: f64) {
    fs::create_dir_all(folder).unwrap();
    let plan = format!(
        "[settled.derived.parameters]\nlm = 200000\n[settled.recipe]\nname = \"of {dim}\"\nseed = 7\n\
         [settled.recipe.model.lm]\ndim = {dim}\nlayers = 2\n[[settled.recipe.stage]]\nkind = \"pretrain\"\n\
         name = \"pretrain\"\nobjective = \"language\"\nsteps = {steps}\n[settled.recipe.stage.optimizer]\n\
         lr = {scale:?}\n"
    );
    fs::write(folder.join("plan.toml"), plan).unwrap();
    let line = |step: u64| {
        let line = json!({
            "step": step, "stage": "pretrain", "loss": scale / step as f64, "lr": 1e-3, "grad_norm": 1.0,
            "weight": 10.0, "tokens": 100 * dim, "images": 4, "seconds": 0.5, "data_seconds": 0.01,
        });
        format!("{line}\n")
    };
    fs::write(folder.join("metrics.jsonl"), (1..=steps).map(line).collect::<String>()).unwrap();
    let score = json!([
        { "stage": "few-shot", "task": "scene-vqa", "shots": 4, "metric": "vqa-accuracy", "value": scale,
          "ci95": [scale - 1.0, scale + 2.0], "n": 200, "baselines": {} },
        { "stage": "few-shot", "task": "scene-vqa/colour", "shots": 4, "metric": "vqa-accuracy", "value": 1.0 },
    ]);
    fs::write(folder.join("eval.json"), score.to_string()).unwrap();
}

fn page(folders: &[PathBuf]) -> String {
    let page = comparison::page(&comparison::read(folders).unwrap());
    let names = elements(&page);
    assert!(!names.iter().any(|name| ["script", "link", "iframe", "a"].contains(&name.as_str())));
    for outside in ["http:", "https:", "url(", "@import", "src="] {
        assert!(!page.contains(outside), "the page needs {outside}");
    }
    assert!(!page.contains("NaN") && !page.contains("inf"), "a broken number is on the page");
    page
}

fn count(page: &str, text: &str) -> usize {
    page.matches(text).count()
}

#[test]
fn runs_stand_beside_each_other_with_what_differs() {
    let dir = tempfile::tempdir().unwrap();
    let folders = ["narrow", "wide <b>"].map(|name| dir.path().join(name));
    run(&folders[0], 16, 40, 5.0);
    run(&folders[1], 32, 60, 4.0);
    let page = page(&folders);
    for text in [
        "<h1>2 runs compared</h1>",
        "wide &lt;b&gt;",
        "<tr><td class=\"left\">model.lm.dim</td><td class=\"left\">16</td><td class=\"left\">32</td></tr>",
        "<td class=\"left\">stage.pretrain.optimizer.lr</td><td class=\"left\">5.0</td>",
        "<td class=\"left\">stage.pretrain.steps</td><td class=\"left\">40</td>",
        "<b>5.0</b> <small>[4.0, 7.0]</small></td><td><b>4.0</b> <small>[3.0, 6.0]</small>",
        "<td>4</td><td>200</td>",
        "5.000 → 0.125",
        "<figcaption>Loss over steps</figcaption>",
        "<figcaption>Loss over tokens</figcaption>",
        "<figcaption>Loss over time</figcaption>",
        ">nats a token</text>",
    ] {
        assert!(page.contains(text), "{text} is missing");
    }
    // What is equal, the recipe's name, and categories are left out.
    for text in ["model.lm.layers", "<td class=\"left\">name</td>", "scene-vqa/colour"] {
        assert!(!page.contains(text), "{text} is on the page");
    }
    assert_eq!(count(&page, "<svg class=\"plot\""), 3);
    assert_eq!(count(&page, "<path class=\"line c1\""), 3 + 2, "a curve in each plot and two legends");
}

#[test]
fn a_curve_shows_its_value_under_the_pointer_until_it_ends() {
    let dir = tempfile::tempdir().unwrap();
    let folders = ["short", "long"].map(|name| dir.path().join(name));
    run(&folders[0], 16, 10, 8.0);
    run(&folders[1], 16, 41, 4.0);
    let page = page(&folders);
    let steps = page.split("<figcaption>Loss over steps").nth(1).unwrap();
    let strips: Vec<&str> = steps.split("</svg>").next().unwrap().split("<g class=\"at\">").skip(1).collect();
    assert_eq!(strips.len(), 40);
    // Its middle is at step 1.5, and that of the last at 40.5.
    assert!(strips[0].contains(">step 1.5<") && strips[0].contains(">short: 8.000<"), "{}", strips[0]);
    assert!(strips[0].contains(">long: 4.000<"), "{}", strips[0]);
    assert!(!strips[39].contains("short:") && strips[39].contains(">long: 0.100<"), "{}", strips[39]);
}

#[test]
fn names_are_as_long_as_they_must_be() {
    let dir = tempfile::tempdir().unwrap();
    let folders = ["a/last", "b/last"].map(|name| dir.path().join(name));
    folders.iter().for_each(|folder| run(folder, 16, 3, 1.0));
    let names: Vec<String> = comparison::read(&folders).unwrap().into_iter().map(|run| run.name).collect();
    assert_eq!(names, ["a/last", "b/last"]);
    assert!(page(&folders).contains("The runs have the same settings."));
}

#[test]
fn what_can_not_be_compared_is_refused_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let one = dir.path().join("one");
    run(&one, 16, 3, 1.0);
    let refused = |folders: &[PathBuf]| comparison::read(folders).err().unwrap().to_string();
    let again = refused(&[one.clone(), dir.path().join("one/../one")]);
    assert!(again.contains("the same folder comes twice"), "{again}");
    assert!(refused(&[one.clone(), dir.path().join("no")]).contains("not a run folder"));
    assert!(refused(&vec![one; 13]).contains("give 12 at most"));
}

#[test]
fn runs_without_training_or_plans_are_compared_by_their_scores() {
    let dir = tempfile::tempdir().unwrap();
    let folders = ["a", "b"].map(|name| dir.path().join(name));
    for folder in &folders {
        run(folder, 16, 3, 1.0);
        fs::remove_file(folder.join("plan.toml")).unwrap();
        fs::remove_file(folder.join("metrics.jsonl")).unwrap();
        fs::write(folder.join("samples.json"), "[]").unwrap();
    }
    let page = page(&folders);
    assert!(page.contains("<h2>Scores</h2>") && !page.contains("<h2>Training</h2>"));
    assert!(!page.contains("<h2>Settings that differ</h2>") && !page.contains("What is missing"));
}
