//! What a run holds.

use serde_json::Value;

use crate::{losses, run, succeeds};

/// Peak of a run in MiB, of so many steps of pre-training.
#[cfg(target_os = "linux")]
fn peak(steps: u32) -> u64 {
    let dir = tempfile::tempdir().unwrap();
    let steps = format!("stage.pretrain.steps={steps}");
    let done = run(dir.path(), &["--json", "--set", &steps, "--set", "stage.pretrain.checkpoint.every=1000"]);
    succeeds(&done);
    let last: Value = serde_json::from_slice(&done.stdout).unwrap();
    last["peak_mib"].as_u64().unwrap()
}

#[test]
#[cfg(target_os = "linux")]
fn memory_does_not_grow_over_a_thousand_steps() {
    let (few, many) = (peak(100), peak(1100));
    assert!(many <= few + few / 20, "{few} MiB in 100 steps, {many} MiB in 1,100");
}

#[test]
fn recomputed_blocks_give_the_same_digits() {
    let (kept, again) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    succeeds(&run(kept.path(), &[]));
    let edits = ["encoder", "pretrain", "sft"].map(|stage| format!("stage.{stage}.recompute_blocks=true"));
    let arguments: Vec<&str> = edits.iter().flat_map(|edit| ["--set", edit]).collect();
    succeeds(&run(again.path(), &arguments));
    assert_eq!(losses(kept.path()), losses(again.path()));
}
