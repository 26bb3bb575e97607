//! The program on a device by Vulkan, such as Mesa's lavapipe, which is a CPU. Without one the tests say so
//! and pass.

use std::fs;
use std::path::Path;

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
    assert_ne!(ours, theirs, "both were computed by the CPU's operations");
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
