//! `mm1 watch` beside a run and beside a study, on a terminal and elsewhere.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::recaption_stage::{CAPTIONER, REWRITTEN};
use crate::refuse::refused;
use crate::{TINY, mm1, stderr, study, succeeds};

/// A run without an end in this test.
const LONG: [&str; 4] =
    ["--set", "stage.pretrain.steps=1000000", "--set", "stage.pretrain.checkpoint.every=1000000"];

/// A program that ends with the test, whatever comes of it.
struct Running(Child);

impl Running {
    fn begin(command: &mut Command) -> Self {
        Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    /// Asks it to stop.
    fn stop(&mut self) {
        let asked = Command::new("kill").args(["-TERM", &self.0.id().to_string()]).status().unwrap();
        assert!(asked.success());
        assert_eq!(self.0.wait().unwrap().code(), Some(130));
    }

    /// Waits until `is_so`.
    fn wait_until(&mut self, mut is_so: impl FnMut() -> bool) {
        let begun = Instant::now();
        while !is_so() {
            assert!(self.0.try_wait().unwrap().is_none(), "the run has ended");
            assert!(begun.elapsed() < Duration::from_secs(300), "nothing came of it");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn watch(folder: &Path, more: &[&str]) -> Output {
    mm1(&["watch", folder.to_str().unwrap()]).args(more).output().unwrap()
}

/// What one look shows.
fn look(folder: &Path) -> String {
    let shown = watch(folder, &["--once"]);
    succeeds(&shown);
    String::from_utf8(shown.stdout).unwrap()
}

fn steps(run: &Path, stage: &str) -> usize {
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap_or_default();
    text.lines().filter(|line| line.contains(&format!("\"{stage}\""))).count()
}

/// The line of a stage.
fn line<'a>(shown: &'a str, stage: &str) -> &'a str {
    let of_stage = |line: &&str| line.trim_start().starts_with(&format!("{stage} "));
    shown.lines().find(of_stage).unwrap_or_else(|| panic!("no line of {stage} in {shown}"))
}

#[test]
fn a_run_is_seen_as_it_goes() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    refused(&watch(&out, &[]), &["out: no run has begun here; give the --out of `mm1 run`"]);
    let mut run = Running::begin(mm1(&["run", TINY, "--out", out.to_str().unwrap()]).args(LONG));
    run.wait_until(|| steps(&out, "pretrain") > 30);
    let names =
        || -> Vec<_> { fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().file_name()).collect() };
    let before = names();
    let shown = look(&out);
    assert!(shown.starts_with("tiny: running\n"), "{shown}");
    assert!(line(&shown, "encoder").contains(&format!("{} 5/5  loss ", "█".repeat(24))), "{shown}");
    assert!(line(&shown, "encoder").ends_with(" images/s"), "{shown}");
    let now = line(&shown, "pretrain");
    assert!(
        now.contains("/1000000  loss ") && now.contains(" tokens/s  ") && now.ends_with(" left"),
        "{now}"
    );
    assert!(line(&shown, "few-shot").ends_with(" waiting"), "{shown}");
    assert!(line(&shown, "sft").ends_with(" waiting, 6 steps"), "{shown}");
    assert!(shown.contains("loss of pretrain\n") && shown.contains(" step "), "{shown}");
    assert_eq!(before, names(), "nothing is written into the folder");

    // It goes on, and so does what is said of it.
    let seen = |shown: &str| -> u64 {
        let (_, behind) = line(shown, "pretrain").split_once("░ ").unwrap();
        behind.split('/').next().unwrap().parse().unwrap()
    };
    run.wait_until(|| steps(&out, "pretrain") as u64 > seen(&shown) + 30);
    assert!(seen(&look(&out)) > seen(&shown) + 29);

    // Line by line, until the run has ended.
    let file = dir.path().join("lines");
    let mut lines = mm1(&["watch", out.to_str().unwrap(), "--every", "1", "--json"]);
    let mut lines = lines.stdout(fs::File::create(&file).unwrap()).spawn().unwrap();
    let shown = || fs::read_to_string(&file).unwrap();
    run.wait_until(|| shown().lines().count() > 1);
    run.stop();
    assert!(lines.wait().unwrap().success());
    let text = shown();
    let lines: Vec<&str> = text.lines().collect();
    let [of_steps @ .., end, json] = &lines[..] else { panic!("{text}") };
    assert!(of_steps.len() > 1 && of_steps.iter().all(|line| line.contains("/1000000  loss ")), "{text}");
    assert_eq!(*end, "tiny: interrupted; the same command continues it");
    let json: Value = serde_json::from_str(json).unwrap();
    assert_eq!((&json["run"], &json["state"]), (&"tiny".into(), &"interrupted".into()), "{json}");
    let pretrain = &json["stages"][1];
    assert_eq!(pretrain["done"].as_u64(), Some(steps(&out, "pretrain") as u64), "{json}");
    assert_eq!((&pretrain["name"], &pretrain["finished"]), (&"pretrain".into(), &false.into()), "{json}");
}

/// `script` of util-linux gives a program a terminal.
#[cfg(target_os = "linux")]
#[test]
fn on_a_terminal_each_look_takes_the_place_of_the_last() {
    const COLUMNS: usize = 50;
    const ROWS: usize = 7;
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let mut run = Running::begin(mm1(&["run", TINY, "--out", out.to_str().unwrap()]).args(LONG));
    run.wait_until(|| steps(&out, "pretrain") > 30);
    let shell = format!(
        "stty cols {COLUMNS} rows {ROWS}; exec {} watch {}",
        env!("CARGO_BIN_EXE_mm1"),
        out.display()
    );
    let file = dir.path().join("terminal");
    let mut terminal = Command::new("script")
        .args(["-qec", &shell, "/dev/null"])
        .stdin(Stdio::null())
        .stdout(fs::File::create(&file).unwrap())
        .spawn()
        .unwrap();
    // Each look ends by clearing what is below.
    let bytes = || fs::read(&file).unwrap();
    run.wait_until(|| bytes().windows(3).filter(|end| *end == b"\x1b[J").count() > 1);
    run.stop();
    assert!(terminal.wait().unwrap().success());
    let text = String::from_utf8(bytes()).unwrap();
    let looks: Vec<&str> = text.split("\u{1b}[J").filter(|look| !look.is_empty()).collect();
    assert!(looks.len() > 2, "{text:?}");
    let mut lines_before = 0;
    for look in &looks {
        // As many lines up as there were.
        let up = if lines_before > 0 { format!("\u{1b}[{lines_before}A\r") } else { String::new() };
        let lines = look.strip_prefix(&up).unwrap_or_else(|| panic!("{up:?} is not before {look:?}"));
        let lines: Vec<&str> = lines.split_terminator("\u{1b}[K\r\n").collect();
        assert!(lines.len() < ROWS && lines.iter().all(|line| line.chars().count() <= COLUMNS), "{lines:?}");
        assert!(line(&lines.join("\n"), "encoder").contains("5/5"), "{lines:?}");
        lines_before = lines.len();
    }
    assert!(looks[0].starts_with("tiny: running"), "{looks:?}");
    assert!(looks[looks.len() - 1].contains("tiny: interrupted"), "{looks:?}");
}

#[test]
fn a_stage_that_writes_captions_is_seen_to_work_and_to_end() {
    let dir = tempfile::tempdir().unwrap();
    let tiny = fs::read_to_string(TINY).unwrap();
    let (encoder, rest) = tiny.split_once("[[stage]]\nname = \"pretrain\"").unwrap();
    let (_, few_shot) = rest.split_once("[[stage]]\nname = \"few-shot\"").unwrap();
    let (few_shot, _) = few_shot.split_once("[[stage]]\nname = \"sft\"").unwrap();
    let file = dir.path().join("recipe.toml");
    let few_shot = format!("[[stage]]\nname = \"few-shot\"{few_shot}");
    fs::write(&file, [encoder, CAPTIONER, REWRITTEN, few_shot.as_str()].concat()).unwrap();
    let run = |out: &Path, images: u32| {
        let mut command = mm1(&["run", file.to_str().unwrap(), "--out", out.to_str().unwrap()]);
        command.args(["--set", &format!("stage.rewritten.images={images}")]);
        command
    };
    let long = dir.path().join("long");
    let mut running = Running::begin(&mut run(&long, 1_000_000));
    let begun = "writing captions of 1,000,000 images";
    running.wait_until(|| long.join("recaptioned/rewritten/.recaption.json").exists());
    running.wait_until(|| !look(&long).contains(begun));
    let shown = look(&long);
    assert!(line(&shown, "captioner").contains(" 30/30  loss "), "{shown}");
    let now = line(&shown, "rewritten");
    assert!(now.ends_with(" of 1,000,000 images so far"), "{now}");
    assert!(line(&shown, "few-shot").ends_with(" waiting"), "{shown}");
    running.stop();

    let short = dir.path().join("short");
    succeeds(&run(&short, 60).output().unwrap());
    let shown = look(&short);
    assert!(line(&shown, "rewritten").ends_with(" done, 60 of 60 images"), "{shown}");
    assert!(line(&shown, "few-shot").ends_with(" done, 40 answers"), "{shown}");
    // At once where it has ended.
    let ended = watch(&short, &[]);
    succeeds(&ended);
    assert_eq!(String::from_utf8_lossy(&ended.stdout), "tiny: done\n");

    let failed = dir.path().join("failed");
    let none = run(&failed, 60).args(["--set", "stage.rewritten.min_words=1000"]).output().unwrap();
    let words =
        ["no caption is left", "were too short (min_words)", "did not end (max_tokens): change these"];
    refused(&none, &words);
    let watched = watch(&failed, &[]);
    assert_eq!(watched.status.code(), Some(1), "{watched:?}");
    assert!(stderr(&watched).contains("mm1: the run has failed: stage rewritten: no caption is left"));
}

#[test]
fn a_study_is_seen_as_it_goes() {
    let dir = tempfile::tempdir().unwrap();
    let (file, out) = (study::recipe(dir.path(), study::AXES), dir.path().join("out"));
    let text = fs::read_to_string(&file).unwrap();
    // Its runs take a while.
    fs::write(&file, text.replace("steps = 12", "steps = 400").replace("every = 3", "every = 200")).unwrap();
    let bill = ["ablate", file.to_str().unwrap(), "--out", out.to_str().unwrap(), "--bill", "--no-measure"];
    succeeds(&mm1(&bill).output().unwrap());
    refused(&watch(&out.join("tiny"), &[]), &["a study is planned here and none of its runs has begun"]);
    let mut ablation = Running::begin(mm1(&["ablate", file.to_str().unwrap(), "--no-measure"]).args([
        "--out",
        out.to_str().unwrap(),
        "--jobs",
        "2",
    ]));
    let folder = out.join("tiny");
    ablation.wait_until(|| folder.join("study.json").exists());
    let mut lines = mm1(&["watch", folder.to_str().unwrap(), "--every", "1", "--json"]);
    let lines = lines.stdout(Stdio::piped()).spawn().unwrap();
    let mut shown = String::new();
    ablation.wait_until(|| {
        shown = look(&folder);
        shown.contains(" runs done, 2 running")
    });
    assert!(shown.starts_with("tiny: ") && shown.contains(" of 4 runs done"), "{shown}");
    // The name of each of both, and below it where it is.
    assert_eq!(shown.lines().count(), 5, "{shown}");
    let watched = lines.wait_with_output().unwrap();
    succeeds(&watched);
    let text = String::from_utf8(watched.stdout).unwrap();
    let json: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    let states: Vec<&Value> = json["runs"].as_array().unwrap().iter().map(|run| &run["state"]).collect();
    assert_eq!(states, ["done"; 4], "{json}");
    assert!(text.contains("\ntiny: 4 of 4 runs done\n"), "{text}");
    assert!(ablation.0.wait().unwrap().success());
}
