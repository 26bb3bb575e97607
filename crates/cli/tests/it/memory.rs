//! What a run holds.

use crate::{losses, run, stderr, succeeds};

/// Peak of pre-training in MiB, in so many steps.
#[cfg(target_os = "linux")]
fn peak(steps: u32) -> u64 {
    let dir = tempfile::tempdir().unwrap();
    let edits = [format!("stage.pretrain.steps={steps}"), "stage.pretrain.checkpoint.every=2000".to_owned()];
    let done = run(dir.path(), &["--set", &edits[0], "--set", &edits[1]]);
    succeeds(&done);
    let told = stderr(&done);
    let start = format!("pretrain {steps} steps done with at most ");
    let mib = told.lines().find_map(|line| line.trim().strip_prefix(&start)?.strip_suffix(" MiB of memory"));
    mib.unwrap().parse().unwrap()
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
