//! What the runs of a study show, read from folders with known answers.

use std::fs;
use std::path::{Path, PathBuf};

use mm1_lab::law::PowerLaw;
use mm1_lab::law::page as law_page;
use mm1_lab::law::reading::LawRuns;
use mm1_lab::study::figure;
use mm1_lab::study::findings::StudyFindings;
use mm1_lab::study::page;
use mm1_lab::study::record::{FILE, RunState, StudyAxis, StudyRecord, StudyRun};
use mm1_lab::study::results::StudyResults;
use serde_json::json;

use crate::html::elements;
use crate::random::Random;

const QUESTIONS: usize = 200;

/// A run folder with the answers to one task: right with probability `right`.
fn run(folder: &Path, seed: u64, right: f64, random: &mut Random) {
    let stage = folder.join("eval/few-shot");
    fs::create_dir_all(&stage).unwrap();
    fs::write(folder.join("plan.toml"), format!("[settled.recipe]\nseed = {seed}\n")).unwrap();
    let mut lines = json!({"about": {"task": "vqa", "shots": 0, "blind": false}}).to_string() + "\n";
    let mut sum = 0.0;
    for i in 0..QUESTIONS {
        let score = if random.uniform() < right { 100.0 } else { 0.0 };
        sum += score;
        lines += &(json!({"id": format!("{i:03}"), "score": score}).to_string() + "\n");
    }
    fs::write(stage.join("vqa-0-shot.jsonl"), lines).unwrap();
    let score = json!([{"stage": "few-shot", "task": "vqa", "shots": 0, "metric": "vqa-accuracy",
                        "value": sum / QUESTIONS as f64, "ci95": [0.0, 100.0], "n": QUESTIONS}]);
    fs::write(folder.join("eval.json"), score.to_string()).unwrap();
}

fn axis(name: &str, values: &[&str], repeats: bool, margin: Option<f64>) -> StudyAxis {
    let values: Vec<String> = values.iter().map(ToString::to_string).collect();
    StudyAxis { name: name.to_owned(), base: values[0].clone(), values, repeats, margin }
}

/// Tokens matter by 30 points, the kind by nothing.
fn study(root: &Path, seeds: &[&str]) -> StudyRecord {
    let axes = vec![
        axis("connector kind", &["average-pool", "c-abstractor"], false, Some(20.0)),
        axis("tokens", &["16", "64"], false, None),
        axis("seed", seeds, true, None),
    ];
    let (mut runs, mut random) = (Vec::new(), Random::new(5));
    for kind in &axes[0].values {
        for tokens in &axes[1].values {
            for seed in seeds {
                let names = vec![kind.clone(), tokens.clone(), (*seed).to_owned()];
                let folder = PathBuf::from(names.join("_"));
                let right = if tokens == "64" { 0.7 } else { 0.4 };
                run(&root.join(&folder), seed.parse().unwrap(), right, &mut random);
                runs.push(StudyRun { names, folder, state: RunState::Done });
            }
        }
    }
    let study = StudyRecord { name: "a <study>".to_owned(), axes, runs, paper: None };
    fs::write(root.join(FILE), serde_json::to_vec(&study).unwrap()).unwrap();
    study
}

#[test]
fn what_matters_is_found_and_what_does_not_is_within_its_margin() {
    let root = tempfile::tempdir().unwrap();
    let study = study(root.path(), &["1", "2", "3"]);
    assert_eq!(StudyRecord::read(root.path()).unwrap(), study);
    let findings = StudyFindings::of(&StudyResults::collect(study.clone(), root.path()));
    assert_eq!(findings.notes, [""; 0]);
    let [outcome] = &findings.outcomes[..] else { panic!("{findings:?}") };
    assert_eq!((outcome.stage.as_str(), outcome.shots, outcome.settings.len()), ("few-shot", 0, 4));
    assert!(outcome.settings.iter().all(|of| (of.mean.seeds, of.mean.examples) == (3, QUESTIONS)));
    let [kind, tokens] = &outcome.sentences[..] else { panic!("{outcome:?}") };
    assert!(kind.starts_with("connector kind: equivalent within ± 20 ("), "{kind}");
    assert!(tokens.starts_with("tokens 16 → 64: +"), "{tokens}");
    let difference = outcome.axes[1].differences[0].difference.estimate;
    let [low, high] = difference.ci95();
    assert!(low < 30.0 && 30.0 < high && high - low < 25.0, "{difference:?}");
    assert_eq!(outcome.axes[1].differences[0].comparisons, 2);
}

#[test]
fn one_seed_says_what_it_can_not_say_and_open_runs_are_counted() {
    let root = tempfile::tempdir().unwrap();
    let mut study = study(root.path(), &["1"]);
    study.axes[2].repeats = true;
    study.runs[3].state = RunState::Failed("no room".to_owned());
    let findings = StudyFindings::of(&StudyResults::collect(study.clone(), root.path()));
    assert!(findings.notes.iter().any(|note| note.starts_with("1 of 4 runs is not done")), "{findings:?}");
    let sentences = &findings.outcomes[0].sentences;
    assert!(
        sentences.iter().all(|s| s.ends_with("of one seed: the chance of another training is not in it"))
    );
    study.axes.pop();
    study.runs.iter_mut().for_each(|run| drop(run.names.pop()));
    let findings = StudyFindings::of(&StudyResults::collect(study.clone(), root.path()));
    assert!(findings.notes.iter().any(|note| note.starts_with("Every setting was trained with one seed")));
}

#[test]
fn a_setting_that_lacks_a_seed_is_compared_over_the_others() {
    let root = tempfile::tempdir().unwrap();
    let mut study = study(root.path(), &["1", "2", "3"]);
    study.runs[1].state = RunState::Failed("the loss is not finite".to_owned());
    let findings = StudyFindings::of(&StudyResults::collect(study.clone(), root.path()));
    assert!(findings.notes.iter().any(|note| note.starts_with("Some settings lack seeds")), "{findings:?}");
    let outcome = &findings.outcomes[0];
    assert_eq!(outcome.settings.iter().map(|of| of.mean.seeds).collect::<Vec<_>>(), [2, 3, 3, 3]);
    assert!(outcome.axes.iter().all(|axis| axis.differences[0].difference.seeds == 2), "{outcome:?}");
    // No combination of the other axis is done with all values.
    study.runs[2..6].iter_mut().for_each(|run| run.state = RunState::Waiting);
    study.runs[0].state = RunState::Waiting;
    let findings = StudyFindings::of(&StudyResults::collect(study.clone(), root.path()));
    let none = "connector kind: no combination of the other axes is done with all its values";
    assert!(findings.notes.iter().any(|note| note.starts_with(none)), "{findings:?}");
}

#[test]
fn the_page_the_markdown_and_the_csv_have_all_of_it() {
    let root = tempfile::tempdir().unwrap();
    let study = study(root.path(), &["1", "2", "3"]);
    fs::write(root.path().join("average-pool_16_1/report.html"), "").unwrap();
    let path = page::write(root.path()).unwrap();
    let html = fs::read_to_string(path).unwrap();
    let names = elements(&html);
    assert_eq!(names.iter().filter(|name| *name == "svg").count(), 2 + 2);
    assert!(html.contains("a &lt;study&gt;") && html.contains("tokens 16 → 64: +"), "{html}");
    assert!(html.contains("<a href=\"average-pool_16_1/report.html\">its page</a>"), "{html}");
    let results = StudyResults::collect(study, root.path());
    let findings = StudyFindings::of(&results);
    let markdown = page::markdown(&results, &findings);
    assert!(markdown.contains("## few-shot, 0 shots\n\n- connector kind: "), "{markdown}");
    assert!(markdown.ends_with(&format!("## Runs\n\n{}", results.table().markdown())), "{markdown}");
    let csv = page::csv(&results);
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(lines.len(), 13);
    assert_eq!(lines[0], "connector kind,tokens,seed,stage,task,shots,metric,value,low,high,n,run");
    assert!(lines[1].starts_with("average-pool,16,1,few-shot,vqa,0,vqa-accuracy,"), "{}", lines[1]);
}

/// `text` with the last `old` in it as `new`.
fn replaced_last(text: &str, old: &str, new: &str) -> String {
    let (before, after) = text.rsplit_once(old).unwrap();
    format!("{before}{new}{after}")
}

#[test]
fn results_say_the_same_without_the_run_folders() {
    let root = tempfile::tempdir().unwrap();
    let study = study(root.path(), &["1", "2", "3"]);
    let results = StudyResults::collect(study, root.path());
    assert_eq!(results.examples.iter().map(Vec::len).collect::<Vec<_>>(), [QUESTIONS]);
    let elsewhere = tempfile::tempdir().unwrap();
    let file = elsewhere.path().join("tokens.json");
    fs::write(&file, results.text().unwrap()).unwrap();
    let read = StudyResults::read(&file).unwrap();
    assert_eq!(read, results);
    let (of_folder, of_file) = (StudyFindings::of(&results), StudyFindings::of(&read));
    assert_eq!(page::markdown(&read, &of_file), page::markdown(&results, &of_folder));
    let path = page::write(&file).unwrap();
    assert_eq!(path, elsewhere.path().join("tokens.html"));
    let (of_folder, html) = (fs::read_to_string(page::write(root.path()).unwrap()).unwrap(), path);
    assert_eq!(fs::read_to_string(html).unwrap(), of_folder);

    let short =
        results.text().unwrap().replacen("\"examples\":0,\"scores\":[", "\"examples\":0,\"scores\":[1.5,", 1);
    for (text, expected) in
        [(short.as_str(), "201 scores for list 0 of examples, which has 200"), ("{}", "not the results.json")]
    {
        fs::write(&file, text).unwrap();
        let error = StudyResults::read(&file).unwrap_err().to_string();
        assert!(error.contains("tokens.json: ") && error.contains(expected), "{error}");
    }
}

#[test]
fn studies_with_names_of_no_axis_and_torn_tables_are_refused() {
    let root = tempfile::tempdir().unwrap();
    let results = StudyResults::collect(study(root.path(), &["1", "2", "3"]), root.path());
    let file = root.path().join("tokens.json");
    for (old, new, expected) in [
        ("[\"c-abstractor\",\"64\",\"3\"]", "[\"c-abstractor\",\"64\"]", "a run has 2 values for 3 axes"),
        (
            "[\"c-abstractor\",\"64\",\"3\"]",
            "[\"mlp\",\"64\",\"3\"]",
            "\"connector kind\" has no value \"mlp\"",
        ),
        ("\"base\":\"16\"", "\"base\":\"32\"", "the axis \"tokens\" has no value \"32\""),
        (
            "\"axes\":",
            "\"paper\":{\"title\":\"t\",\"columns\":[\"a\",\"b\"],\"rows\":[[\"1\"]]},\"axes\":",
            "paper.rows.0 has 1 texts for 2 columns",
        ),
    ] {
        let text = results.text().unwrap();
        // Each run is there twice, with its place and with its scores.
        for (end, damaged) in
            [("first", text.replacen(old, new, 1)), ("last", replaced_last(&text, old, new))]
        {
            fs::write(&file, damaged).unwrap();
            let error = format!("{:#}", StudyResults::read(&file).unwrap_err());
            assert!(error.contains("tokens.json: damaged") && error.contains(expected), "{end}: {error}");
        }
        let record = serde_json::to_string(&results.study).unwrap().replacen(old, new, 1);
        fs::write(root.path().join(FILE), record).unwrap();
        let error = format!("{:#}", StudyRecord::read(root.path()).unwrap_err());
        assert!(error.contains("study.json: damaged") && error.contains(expected), "{error}");
    }
}

/// The files of `docs/results` with numbers, those of laws or those of studies.
fn documented(laws: bool) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/results");
    let files = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let numbers = files.filter(|path| path.extension().is_some_and(|end| end == "json"));
    let found: Vec<PathBuf> = numbers.filter(|path| LawRuns::is_file(path) == laws).collect();
    assert!(!found.is_empty(), "{}: none (laws: {laws})", folder.display());
    found
}

/// The page in `docs/results` and the figure in `docs/images` are made of the numbers in `path`, beside the
/// page; `MM1_UPDATE=1` makes them again.
fn are_of(path: &Path, markdown: &str, svg: &str) {
    let wide = |line: &&str| !line.starts_with('|') && line.chars().count() > 110;
    assert_eq!(markdown.lines().find(wide), None);
    let image =
        path.parent().unwrap().join("../images").join(path.with_extension("svg").file_name().unwrap());
    for (file, made) in [(path.with_extension("md"), markdown), (image, svg)] {
        if std::env::var_os("MM1_UPDATE").is_some() {
            fs::write(&file, made).unwrap();
        }
        assert!(fs::read_to_string(&file).unwrap() == made, "{}: MM1_UPDATE=1", file.display());
    }
}

#[test]
fn the_results_of_the_documentation_are_made_of_their_numbers() {
    for path in documented(false) {
        let results = StudyResults::read(&path).unwrap();
        let findings = StudyFindings::of(&results);
        let svg = figure::svg_file(&results, &findings).unwrap();
        let names = elements(&format!("<!DOCTYPE html>{}", svg.trim_end()));
        assert!(names.iter().filter(|name| *name == "svg").count() > 2, "{names:?}");
        are_of(&path, &page::markdown(&results, &findings), &svg);
    }
}

#[test]
fn the_law_of_the_documentation_is_made_of_its_numbers() {
    for path in documented(true) {
        let runs = LawRuns::read_file(&path).unwrap();
        let law = PowerLaw::fit(runs.axis, runs.target, &runs.observations()).unwrap();
        // The sizes, rates and seeds of recipes/ablations/law.toml.
        assert_eq!((law.optima.len(), runs.runs.len()), (5, 5 * 5 * 3));
        let title = format!("The law of the {}", runs.axis.name());
        are_of(&path, &law_page::markdown(&title, &runs, &law), &law_page::svg_file(&law));
    }
}
