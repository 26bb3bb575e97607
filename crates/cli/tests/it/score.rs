//! `mm1 score`: values, the table, and input that is refused.

use std::fs;
use std::path::Path;
use std::process::Output;

use serde_json::{Value, json};

use crate::refuse::refused;
use crate::{mm1, succeeds};

/// `mm1 score METRIC` of two files.
fn score(folder: &Path, metric: &str, refs: &str, preds: &str, more: &[&str]) -> Output {
    let (refs_file, preds_file) = (folder.join("refs.json"), folder.join("preds.json"));
    fs::write(&refs_file, refs).unwrap();
    fs::write(&preds_file, preds).unwrap();
    let files = ["--refs", refs_file.to_str().unwrap(), "--preds", preds_file.to_str().unwrap()];
    mm1(&["score", metric]).args(files).args(more).output().unwrap()
}

fn scored(metric: &str, refs: &Value, preds: &Value) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let output = score(folder.path(), metric, &refs.to_string(), &preds.to_string(), &["--json"]);
    succeeds(&output);
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn every_metric_on_its_own_scale() {
    let refs = json!({"b": ["a red dog runs", "dogs run"], "a": "that blue cat sleeps"});
    let preds = json!({"a": "That blue cat sleeps.", "b": "A red dog runs"});
    for (metric, best) in
        [("cider", 1000.0), ("cider-d", 1000.0), ("bleu", 100.0), ("bleu-1", 100.0), ("rouge", 100.0)]
    {
        let report = scored(metric, &refs, &preds);
        let value = report["value"].as_f64().unwrap();
        // The dog's second reference takes from its CIDEr.
        assert!(value > 0.7 * best && value < best + 1e-3, "{metric}: {report}");
        assert_eq!(report["n"], 2);
        let low = report["ci95"][0].as_f64().unwrap();
        assert!(low <= value && value <= report["ci95"][1].as_f64().unwrap(), "{report}");
    }
    assert_eq!(scored("rouge-l", &refs, &preds), scored("rouge", &refs, &preds));
    let bleu = scored("bleu", &refs, &preds);
    assert_eq!(bleu["metric"], "bleu");
    for n in ["1", "2", "3", "4"] {
        assert_eq!(bleu[format!("bleu{n}")], scored(&format!("bleu-{n}"), &refs, &preds)["value"]);
    }
    let answers = json!({"1": vec!["red"; 10], "2": "5%"});
    let given = json!({"1": "Red", "2": "0.051"});
    assert_eq!(scored("vqa", &answers, &given)["value"], 0.0);
    assert_eq!(scored("anls", &answers, &given)["value"], 50.0);
    assert_eq!(scored("relaxed", &answers, &given)["value"], 100.0);
    assert_eq!(scored("exact", &answers, &given)["value"], 0.0);
}

#[test]
fn a_table_for_people() {
    let folder = tempfile::tempdir().unwrap();
    let output =
        score(folder.path(), "bleu", r#"{"1": ["a red dog runs"]}"#, r#"{"1": "a red dog runs"}"#, &[]);
    succeeds(&output);
    let table = String::from_utf8(output.stdout).unwrap();
    assert_eq!(table.lines().count(), 5, "{table}");
    assert!(
        table.lines().last().unwrap().starts_with("bleu-4      100.00 %       100.00 to 100.00"),
        "{table}"
    );
}

#[test]
fn files_that_are_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let refuse = |refs: &str, preds: &str, words: &[&str]| {
        refused(&score(folder.path(), "anls", refs, preds, &["--json"]), words);
    };
    let good = r#"{"a": ["x"], "b": "y"}"#;
    refuse(good, r#"{"b": "x"}"#, &["preds.json", "1 id of", "refs.json", "missing", "\"a\""]);
    refuse(good, r#"{"a": "x", "b": "y", "d": "z", "c": ""}"#, &["refs.json", "2 ids of", "\"c\", \"d\""]);
    refuse("{}", "{}", &["refs.json", "nothing to score"]);
    refuse("", "{}", &["refs.json", "must be JSON like"]);
    refuse("[1]", "{}", &["refs.json", "texts by id"]);
    refuse(good, r#"{"a": "x", "b": 7}"#, &["preds.json", "id \"b\"", "a string", "must be JSON like"]);
    refuse(r#"{"a": ["x", null]}"#, good, &["refs.json", "id \"a\"", "a list of texts"]);
    refuse(r#"{"a": [], "b": "y"}"#, r#"{"a": "x", "b": "y"}"#, &["refs.json", "id \"a\"", "at least one"]);
    refuse(r#"{"a": "x", "a": "y"}"#, r#"{"a": "x"}"#, &["refs.json", "id \"a\" is there twice"]);
    let missing = mm1(&["score", "vqa", "--refs", "no-such.json", "--preds", "x.json"]).output().unwrap();
    refused(&missing, &["no-such.json", "can't be read"]);
    let unknown = mm1(&["score", "meteor", "--refs", "x", "--preds", "y"]).output().unwrap();
    assert_eq!(unknown.status.code(), Some(2));
}

/// The guide's command gives the guide's table.
#[test]
fn the_example_of_the_guide_is_scored() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let page = fs::read_to_string(root.join("docs/guide/evaluation.md")).unwrap();
    let (_, after) = page.split_once("```sh\nmm1 score ").unwrap();
    let (command, after) = after.split_once("\n```").unwrap();
    let (_, after) = after.split_once("```text\n").unwrap();
    let (table, _) = after.split_once("```").unwrap();
    let output = mm1(&["score"]).args(command.split(' ')).current_dir(root).output().unwrap();
    succeeds(&output);
    assert_eq!(String::from_utf8(output.stdout).unwrap(), table);
}
