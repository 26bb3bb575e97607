//! The program on a device by Vulkan, such as Mesa's lavapipe, which is a CPU. Without one the tests say so
//! and pass.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use crate::resume::run_with_kills;
use crate::{TINY, losses, mm1, run, stderr, succeeds};

/// `TINY` with as few steps as show everything.
const SHORT: [&str; 8] = [
    "--set",
    "stage.encoder.steps=2",
    "--set",
    "stage.pretrain.steps=4",
    "--set",
    "stage.sft.steps=3",
    "--set",
    "stage.few-shot.questions=3",
];
const ON_VULKAN: [&str; 2] = ["--device", "vulkan"];

/// Whether there is such a device.
fn there_is_one() -> bool {
    let plan = mm1(&["plan", TINY, "--no-measure"]).args(ON_VULKAN).output().unwrap();
    let none = stderr(&plan).contains("device vulkan: none found");
    if none {
        assert_eq!(plan.status.code(), Some(2));
        eprintln!("skipped: {}", stderr(&plan));
    } else {
        succeeds(&plan);
        let plan = String::from_utf8_lossy(&plan.stdout).into_owned();
        assert!(plan.contains("\n  on vulkan: "), "{plan}");
    }
    !none
}

/// A figure of each step of a run.
fn numbers(out: &Path, figure: &str) -> Vec<f64> {
    let text = fs::read_to_string(out.join("metrics.jsonl")).unwrap();
    let number = |line: &str| serde_json::from_str::<serde_json::Value>(line).ok()?[figure].as_f64();
    text.lines().map_while(number).collect()
}

/// The answer of the run's model to one message, as likely as it is.
fn answer(run: &Path, more: &[&str]) -> String {
    let run = run.to_str().unwrap();
    let chat = mm1(&["chat", "--run", run, "--json", "--temperature", "0", "--max-tokens", "8"])
        .args(more)
        .arg("what is it?")
        .output()
        .unwrap();
    succeeds(&chat);
    let answer: serde_json::Value = serde_json::from_slice(&chat.stdout).unwrap();
    answer["answer"].to_string()
}

#[test]
fn a_run_on_vulkan_is_that_of_the_cpu_and_moves_to_it() {
    if !there_is_one() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (here, there, killed) =
        (dir.path().join("here"), dir.path().join("there"), dir.path().join("killed"));
    succeeds(&run(&here, &SHORT));
    let more = [&SHORT[..], &ON_VULKAN].concat();
    succeeds(&run(&there, &more));
    let (ours, theirs) = (losses(&here), losses(&there));
    assert_eq!(ours.len(), 2 + 4 + 3);
    for ((stage, step, ours), theirs) in ours.iter().zip(&theirs) {
        assert_eq!((stage, step), (&theirs.0, &theirs.1));
        let [a, b] = [ours, &theirs.2].map(|loss| loss.parse::<f64>().unwrap());
        assert!((a / b - 1.0).abs() < 1e-4, "{stage}, step {step}: {a} on the CPU, {b} there");
    }
    // Losses of so few steps may have the same digits in f32.
    let norms = |out: &Path| numbers(out, "grad_norm");
    assert_ne!(norms(&here), norms(&there), "both were computed by the CPU's operations");
    let scores = |out: &Path| fs::read_to_string(out.join("eval.json")).unwrap();
    assert_eq!(scores(&here), scores(&there));

    let kills = run_with_kills(TINY, &more, dir.path(), &killed);
    assert!(kills >= 2, "only {kills} kills: the run is too short to prove anything");
    assert_eq!(losses(&killed), theirs);

    assert_eq!(answer(&there, &[]), answer(&there, &["--device", "cpu"]));
    let moved = run(&there, &SHORT);
    succeeds(&moved);
    assert!(stderr(&moved).contains("computed on vulkan and goes on with cpu"), "{}", stderr(&moved));
    let plan = fs::read_to_string(there.join("plan.toml")).unwrap();
    assert!(plan.contains("devices = [\"vulkan\", \"cpu\"]"), "{plan}");
}

#[test]
fn a_plan_says_that_vulkan_multiplies_in_f32() {
    if !there_is_one() {
        return;
    }
    let of = |more: &[&str], precision: &str| {
        let precision = format!("precision={precision}");
        let plan = mm1(&["plan", TINY, "--no-measure", "--set", &precision]).args(more).output().unwrap();
        succeeds(&plan);
        String::from_utf8_lossy(&plan.stdout).into_owned()
    };
    let said = "\n    warning: vulkan has no bfloat16: precision \"bf16\" is f32 there\n";
    let rounded = of(&ON_VULKAN, "bf16");
    assert!(rounded.contains(said), "{rounded}");
    for (more, precision) in [(&ON_VULKAN[..], "f32"), (&[], "bf16")] {
        let plan = of(more, precision);
        assert!(!plan.contains("bfloat16"), "{plan}");
    }
}

/// Steps of the quickstart that are compared.
const FIRST: usize = 100;

/// How far their losses may be apart, as a part of them: each step carries the roundings of all before it.
const APART: f64 = 1e-5;

/// The losses of the quickstart's first steps, in f32.
fn first_losses(out: &Path, more: &[&str]) -> Vec<f64> {
    let recipe = concat!(env!("CARGO_MANIFEST_DIR"), "/../../recipes/quickstart.toml");
    let mut child = mm1(&["run", recipe, "--out", out.to_str().unwrap(), "--set", "precision=f32"])
        .args(more)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = || fs::read_to_string(out.join("metrics.jsonl")).map_or(0, |text| text.matches('\n').count());
    while lines() < FIRST {
        assert_eq!(child.try_wait().unwrap(), None, "it has ended before step {FIRST}");
        std::thread::sleep(Duration::from_millis(50));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let mut losses = numbers(out, "loss");
    losses.truncate(FIRST);
    losses
}

#[test]
#[ignore = "six minutes on lavapipe: scripts/gpu-check runs it"]
fn the_quickstart_on_vulkan_begins_with_the_losses_of_the_cpu() {
    if !there_is_one() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let ours = first_losses(&dir.path().join("here"), &[]);
    let theirs = first_losses(&dir.path().join("there"), &ON_VULKAN);
    let apart: Vec<f64> = ours.iter().zip(&theirs).map(|(a, b)| (a / b - 1.0).abs()).collect();
    let of = |steps: usize| apart[..steps].iter().copied().fold(0.0, f64::max);
    println!("losses apart: {:.1e} in 10 steps, {:.1e} in {FIRST}", of(10), of(FIRST));
    assert!(of(FIRST) < APART, "{apart:?}");
    assert!(ours.last() < ours.first(), "nothing is learned: {ours:?}");
    assert_ne!(ours, theirs, "both were computed by the CPU's operations");
}
