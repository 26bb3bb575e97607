use std::fs;
use std::path::{Path, PathBuf};

use mm1_lab::report::{ReportAuthor, write};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::html::elements;

/// One pixel.
const PNG: &str =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC";

const PLAN: &str = r#"
commit = "3f2c1ab"
[settled.derived]
image_tokens = 16
[settled.derived.parameters]
vision = 1000000
connector = 12896
lm = 200000
embedding = 100000
[settled.recipe]
name = "quick <script>alert('name')</script>"
seed = 7
[[settled.recipe.stage]]
kind = "pretrain"
name = "pretrain"
steps = 40
[[settled.recipe.stage]]
kind = "sft"
name = "sft"
steps = 10
[[settled.recipe.stage]]
kind = "eval"
name = "eval"
"#;

fn line(stage: &str, step: u64, loss: Value) -> String {
    let line = json!({
        "step": step, "stage": stage, "loss": loss, "lr": 1e-3 / step as f64, "tokens": 2000, "images": 30,
        "seconds": 0.5, "grad_norm": 1.5, "data_seconds": 0.05, "tokens_per_second": 4000.0,
    });
    format!("{line}\n")
}

fn score(task: &str, stage: &str, shots: u64, value: f64) -> Value {
    json!({
        "stage": stage, "task": task, "shots": shots, "metric": "vqa-accuracy", "value": value,
        "ci95": [value - 2.5, value + 3.5], "n": 512, "baselines": {"blind": 11.25, "constant": 9.75},
    })
}

fn sample(id: u64, stage: &str, output: &str, score: f64) -> Value {
    json!({
        "id": format!("scene-vqa/test/{id}"), "category": "what", "stage": stage, "task": "scene-vqa",
        "shots": 0,
        "question": "What is <b>this</b>?", "answers": ["a \"red\" apple", "an <apple>"], "output": output,
        "prompt": "",
        "score": score, "pictures": [{"width": 1, "height": 1, "png_base64": PNG}],
    })
}

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn whole() -> Self {
        let folder = Self::new();
        let steps =
            |stage, n| (1..=n).map(move |i| line(stage, i, json!(5.0 / i as f64 + 0.5))).collect::<String>();
        folder.put("plan.toml", PLAN);
        let skipped = r#", "skipped": [{"id": "a&b.jpg", "reason": "truncated"}]}"#;
        let last = line("sft", 10, json!(1.0)).replace("}\n", &format!("{skipped}\n"));
        folder.put("metrics.jsonl", &(steps("pretrain", 40) + &steps("sft", 9) + &last));
        let mut scores = Vec::new();
        for (stage, base) in [("pretrain", 20.0), ("sft", 60.0)] {
            for shots in [0, 4, 8] {
                scores.push(score("scene-vqa", stage, shots, base + shots as f64));
                scores.push(score("scene-vqa/colour", stage, shots, base + 0.4));
            }
        }
        folder.put("eval.json", &Value::from(scores).to_string());
        let samples = [
            sample(0, "pretrain", "<script>alert(1)</script>", 0.0),
            sample(0, "sft", "a red apple", 100.0),
            sample(1, "sft", "an apple", 33.3),
        ];
        folder.put("samples.json", &Value::from(samples.to_vec()).to_string());
        folder
    }

    fn path(&self) -> PathBuf {
        self.0.path().to_path_buf()
    }

    fn put(&self, name: &str, text: &str) {
        fs::write(self.0.path().join(name), text).unwrap();
    }

    /// Writes the report and checks what holds for every one.
    fn report(&self) -> String {
        let path = write(&self.path(), ReportAuthor::Run).unwrap();
        assert_eq!(path, self.path().join("report.html"));
        let page = fs::read_to_string(path).unwrap();
        let names = elements(&page);
        assert!(
            !names.iter().any(|n| n == "script" || n == "link" || n == "iframe"),
            "only our own elements"
        );
        for outside in ["http:", "https:", "url(", "@import", "src=\"/"] {
            assert!(!page.contains(outside), "the page needs {outside}");
        }
        for link in page.split("href=\"").skip(1) {
            let place = link.strip_prefix('#').and_then(|link| link.split('"').next()).unwrap();
            assert!(page.contains(&format!("id=\"{place}\"")), "{place} is linked and not there");
        }
        assert!(!page.contains("NaN") && !page.contains("inf"), "a broken number is on the page");
        page
    }
}

fn count(page: &str, text: &str) -> usize {
    page.matches(text).count()
}

#[test]
fn captions_that_a_stage_wrote_are_shown_with_their_counts() {
    let folder = Folder::whole();
    assert!(!folder.report().contains("Captions written anew"));
    let state = |done: bool| {
        let tally = json!({
            "captions": 1200, "words_before": 4800, "words_after": 13_200, "gained": 900, "skipped": 3,
            "short": 1, "cut": 96,
        });
        json!({"asked": {}, "next": 1300, "done": done, "tally": tally, "skipped": [], "shards": []})
            .to_string()
    };
    for stage in ["anew", "<b>", "gone.tmp-12"] {
        fs::create_dir_all(folder.path().join("recaptioned").join(stage)).unwrap();
    }
    folder.put("recaptioned/anew/.recaption.json", &state(true));
    folder.put("recaptioned/<b>/.recaption.json", &state(false));
    folder.put("recaptioned/gone.tmp-12/.recaption.json", &state(true));
    let page = folder.report();
    let cells = "<td>1,300</td><td>1,200</td><td>1</td><td>96</td><td>3</td><td>4.0</td><td>11.0</td>\
                 <td>75.0%</td>";
    assert_eq!(count(&page, cells), 2, "{page}");
    assert!(page.contains(">anew</td>") && page.contains(">&lt;b&gt; (so far)</td>"), "{page}");
    assert!(!page.contains("gone.tmp"));
    folder.put("recaptioned/anew/.recaption.json", "{");
    let page = folder.report();
    assert!(page.contains("recaptioned/anew/.recaption.json can"), "{page}");
    assert_eq!(count(&page, cells), 1);
}

#[test]
fn a_whole_run_is_shown_with_its_numbers() {
    let page = Folder::whole().report();
    assert!(!page.contains("incomplete"));
    for text in [
        "1.31 M parameters (vision 1.00 M, connector 12.9 k, lm 200 k, embedding 100 k)",
        "16 image tokens a picture",
        "50 training steps",
        "100 k tokens",
        "25.0 s of training",
        "seed 7",
        "commit 3f2c1ab",
        "<b>24.0</b> <small>[21.5, 27.5]</small>",
        "<b>68.0</b> <small>[65.5, 71.5]</small>",
        "11.2", // blind 11.25
        "9.8",  // constant 9.75
        "scene-vqa/colour",
        "10.0 %", // waiting for data
        "5.500 → ",
        "a &quot;red&quot; apple",
        "or one of 1 more",
        "<li>an &lt;apple&gt;</li>",
        "a&amp;b.jpg",
        "steps = 40",
        PNG,
    ] {
        assert!(page.contains(text), "{text} is missing");
    }
    assert_eq!(count(&page, "<article"), 2, "one card a question");
    assert_eq!(count(&page, "✓</td>"), 1);
    assert_eq!(count(&page, "✗</td>"), 1);
    assert_eq!(count(&page, ">33.3</td>"), 1);
    assert_eq!(count(&page, "<svg class=\"plot\""), 2 * 4 + 1, "four curves a stage and one plot a task");
}

#[test]
fn text_of_the_run_stays_text() {
    let page = Folder::whole().report();
    assert!(page.contains("quick &lt;script&gt;alert(&#39;name&#39;)&lt;/script&gt;"));
    assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;"));
    assert!(page.contains("What is &lt;b&gt;this&lt;/b&gt;?"));
    assert!(!page.contains("<script>"));
}

#[test]
fn a_killed_run_says_how_far_it_came() {
    let folder = Folder::new();
    folder.put("plan.toml", PLAN);
    let steps: String = (1..=7).map(|i| line("pretrain", i, json!(3.0))).collect();
    folder.put("metrics.jsonl", &(steps + "{\"step\": 8, \"stage\": \"pre"));
    let page = folder.report();
    for text in [
        "This report is incomplete",
        "stage pretrain has 7 of 40 steps",
        "stage sft has 0 of 10 steps",
        "line 8",
        "eval.json is missing",
        "samples.json is missing",
    ] {
        assert!(page.contains(text), "{text} is missing");
    }
}

#[test]
fn an_encoders_own_figures_are_drawn_and_no_test_pictures_are_missed() {
    let folder = Folder::new();
    let plan = PLAN.replace("name = \"pretrain\"\n", "name = \"pretrain\"\nobjective = \"dino\"\n");
    folder.put("plan.toml", &plan.replace("kind = \"eval\"", "kind = \"probe\""));
    let figures = r#""weight": 64.0, "rank": 12.5, "view_entropy": 0.5}"#;
    let step = |i| line("pretrain", i, json!(3.0)).replace('}', &format!(", {figures}"));
    let other: String = (1..=10).map(|i| line("sft", i, json!(1.0))).collect();
    folder.put("metrics.jsonl", &((1..=40).map(step).collect::<String>() + &other));
    let page = folder.report();
    assert!(page.contains("eval.json is missing") && !page.contains("samples.json"));
    for (text, times) in [
        ("<figcaption>rank</figcaption>", 1),
        ("<figcaption>view entropy</figcaption>", 1),
        ("<figcaption>weight</figcaption>", 0),
        (">nats a picture</text>", 1),
        (">nats a token</text>", 1),
        ("pictures a second", 1),
        ("tokens a second", 1),
    ] {
        assert_eq!(count(&page, text), times, "{text}");
    }
    folder.put("eval.json", "[]");
    assert!(!folder.report().contains("incomplete"));
}

#[test]
fn losses_that_are_no_number_are_named_and_leave_a_gap() {
    let folder = Folder::new();
    let steps: String = (1..=9)
        .map(|i| line("pretrain", i, if i == 4 { Value::Null } else { json!(2.0 + i as f64) }))
        .collect();
    folder.put("metrics.jsonl", &steps);
    let page = folder.report();
    assert!(page.contains("Stage pretrain: the loss is not a number at step 4."));
    let raw = page.split("<path class=\"raw\" d=\"").nth(1).unwrap().split('"').next().unwrap();
    assert_eq!(count(raw, "M"), 2, "the measured line is broken in two: {raw}");

    let all: String = (1..=9).map(|i| line("pretrain", i, Value::Null)).collect();
    folder.put("metrics.jsonl", &all);
    assert!(folder.report().contains("at step 1, 2, 3, 4, 5 and 4 more."));
}

#[test]
fn a_step_done_again_replaces_the_one_before() {
    let folder = Folder::new();
    let steps = [1, 2, 3, 2, 3].map(|i| line("pretrain", i, json!(i as f64)));
    folder.put("metrics.jsonl", &steps.concat());
    assert!(folder.report().contains("3 training steps"));
}

#[test]
fn empty_and_damaged_folders_give_a_report() {
    let folder = Folder::new();
    let page = folder.report();
    assert!(
        page.contains("plan.toml")
            && page.contains("metrics.jsonl")
            && page.contains("No training step is recorded.")
    );

    folder.put("plan.toml", "name = ");
    folder.put("metrics.jsonl", "");
    folder.put("eval.json", r#"[{"stage": 3}, 7]"#);
    folder.put("samples.json", "{\"not\": \"a list\"}");
    let page = folder.report();
    for text in [
        "plan.toml is damaged",
        "metrics.jsonl is empty",
        "eval.json: left out are the entries 1 (",
        "samples.json is damaged",
    ] {
        assert!(page.contains(text), "{text} is missing");
    }
}

#[test]
fn what_is_no_folder_is_refused() {
    let error = write(Path::new("no/such/run"), ReportAuthor::Reader).unwrap_err().to_string();
    assert!(error.starts_with("no/such/run: not a run folder"), "{error}");
}

#[test]
fn a_long_run_keeps_its_spike_and_stays_small() {
    let folder = Folder::new();
    let loss = |i: u64| if i == 31_234 { 77.0 } else { 2.0 };
    let steps: String = (1..=60_000).map(|i| line("pretrain", i, json!(loss(i)))).collect();
    folder.put("metrics.jsonl", &steps);
    let page = folder.report();
    assert!(page.len() < 150_000, "{} bytes", page.len());
    let raw = page.split("<path class=\"raw\" d=\"").nth(1).unwrap().split('"').next().unwrap();
    let highest = |path: &str| -> f64 {
        path.split(['M', 'L'])
            .filter_map(|p| p.split(',').nth(1)?.trim_end_matches("h0").parse().ok())
            .fold(1e9, f64::min)
    };
    assert!(highest(raw) < 30.0, "the spike of 77 on an axis to 80 is near the top: {}", highest(raw));
}

#[test]
fn a_language_stage_has_its_loss_in_nats_a_token() {
    let folder = Folder::whole();
    // As the program writes it: every training stage names its objective.
    let plan = PLAN.replace("name = \"pretrain\"\n", "name = \"pretrain\"\nobjective = \"language\"\n");
    folder.put("plan.toml", &plan.replace("name = \"sft\"\n", "name = \"sft\"\nobjective = \"language\"\n"));
    let page = folder.report();
    assert!(!page.contains("nats a picture"));
    assert!(page.contains(">nats a token</text>") && page.contains("<small>nats a token</small>"));
    assert!(page.contains(">tokens a second</text>") && !page.contains(">pictures a second</text>"));
}

#[test]
fn a_recipe_that_only_measures_lacks_nothing() {
    let folder = Folder::new();
    let (head, _) = PLAN.split_once("[[settled.recipe.stage]]").unwrap();
    let stage = "[[settled.recipe.stage]]\nkind = \"probe\"\nname = \"probe\"\n";
    folder.put("plan.toml", &format!("{head}{stage}"));
    let found = json!([{
        "stage": "probe", "task": "knn", "shots": 0, "metric": "accuracy", "value": 61.0,
        "ci95": [57.0, 65.0], "n": 500, "baselines": {"random": 20.0, "pixels": 31.5, "chance": 1.0},
    }]);
    folder.put("eval.json", &found.to_string());
    let page = folder.report();
    for text in ["incomplete", "-0", "0 training steps", "No training step", "id=\"training\""] {
        assert!(!page.contains(text), "{text} is on the page");
    }
    assert!(page.contains("In stage probe, knn scores 61.0 %, clearly better than pixels (31.5)."));
}

#[test]
fn one_sentence_says_what_came_out() {
    let page = Folder::whole().report();
    let sentence = "In stage sft, scene-vqa scores 68.0 % with 8 shots, clearly better than blind (11.2).";
    assert!(page.contains(&format!("<p class=\"verdict\">{sentence}</p>")), "{page:.3000}");

    let folder = Folder::whole();
    std::fs::remove_file(folder.path().join("eval.json")).unwrap();
    assert!(folder.report().contains("The loss of stage sft went from 5.500 to "));

    // Less is better of a perplexity, and an interval over the baseline decides nothing.
    let score = json!({
        "stage": "sft", "task": "texts", "shots": 0, "metric": "perplexity", "value": 9.0, "ci95": [7.0, 12.0],
        "n": 50, "baselines": {"constant": 11.0},
    });
    folder.put("eval.json", &json!([score]).to_string());
    let page = folder.report();
    assert!(page.contains(
        "texts scores 9.0 (perplexity, lower is better) with 0 shots, not clearly \
                           different from constant (11.0)."
    ));
    assert!(page.contains("With fewer than 200 questions the intervals are wide"));
}

#[test]
fn overlap_with_training_is_shown_once_a_task() {
    let folder = Folder::whole();
    assert!(!folder.report().contains("Overlap with training"));
    let mut scores = vec![score("scene-vqa", "sft", 0, 60.0), score("scene-vqa", "sft", 4, 61.0)];
    for score in &mut scores {
        score["contamination"] = json!({
            "documents": 5000, "items": 40, "same_pictures": 2, "near_pictures": 4, "texts": 0,
            "examples": {"a": "picture"},
        });
    }
    folder.put("eval.json", &Value::from(scores).to_string());
    let page = folder.report();
    let row = "<td>40</td><td>5,000</td><td><b>2</b> <small>5 %</small></td>\
               <td><b>4</b> <small>10 %</small></td><td>0</td>";
    assert_eq!(count(&page, row), 1, "one row a task");
    assert!(page.contains("<a href=\"#overlap\">Overlap with training</a>"));
}

#[test]
fn machine_dates_and_memory_stand_in_the_head() {
    let folder = Folder::whole();
    let process = |end: Value, peak: u64| {
        json!({
            "started": "2026-11-29T07:28:15Z", "last": "2026-11-29T07:31:00Z",
            "machine": "A <Processor>, 2 cores, 24.0 GiB, linux x86_64", "threads": 2, "version": "0.1.0",
            "commit": "3f2c1ab", "peak_mib": peak, "end": end,
        })
    };
    folder
        .put("processes.json", &json!([process(Value::Null, 200), process(json!("done"), 241)]).to_string());
    let page = folder.report();
    for text in [
        "<li>begun 2026-11-29 07:28 UTC</li>",
        "<li>done 2026-11-29 07:31 UTC</li>",
        "<li>in 2 processes</li>",
        "<li>A &lt;Processor&gt;, 2 cores, 24.0 GiB, linux x86_64, 2 threads</li>",
        "<li>at most 241 MiB of memory</li>",
        "<li>mm1 0.1.0</li>",
    ] {
        assert_eq!(count(&page, text), 1, "{text}");
    }
    assert!(!page.contains("incomplete"));
    folder.put("processes.json", &json!([process(json!("interrupted"), 200)]).to_string());
    assert!(folder.report().contains("The run was interrupted; the same command continues it."));
    folder.put("processes.json", &json!([process(json!("failed: a disk is full"), 200)]).to_string());
    assert!(folder.report().contains("The run has failed: a disk is full."));
}

#[test]
fn a_sample_that_is_met_again_is_listed_once() {
    let folder = Folder::whole();
    let skipped = r#", "skipped": [{"id": "x.jpg", "reason": "truncated"}]}"#;
    let met = |i| line("pretrain", i, json!(1.0)).replace("}\n", &format!("{skipped}\n"));
    folder.put("metrics.jsonl", &(1..=40).map(met).collect::<String>());
    let page = folder.report();
    assert!(page.contains("1 sample could not be read") && count(&page, "x.jpg") == 1);
    assert!(page.contains("<td>40</td><td class=\"text\">truncated</td>"));
}

#[test]
fn values_show_under_the_pointer() {
    let page = Folder::whole().report();
    assert!(page.contains(">step 1: 5.500, average 5.500</text>"), "the first step of the loss");
    assert!(page.contains(">step 10: 1.00e-4</text>"), "the last rate of tuning");
}

#[test]
fn what_an_evaluation_leaves_is_reported_without_a_run() {
    let folder = Folder::new();
    folder.put("eval.json", &json!([score("scene-vqa", "sft", 0, 60.0)]).to_string());
    folder.put("samples.json", "[]");
    let page = folder.report();
    assert!(!page.contains("incomplete") && page.contains("scene-vqa scores 60.0 % with 0 shots"));
}
