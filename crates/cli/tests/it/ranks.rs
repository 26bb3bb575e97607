//! Several ranks under `mpirun` give the digits of one.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::{TINY, stderr, succeeds};

/// What a clock gave.
const TIMES: [&str; 4] = ["seconds", "data_seconds", "exchange_seconds", "time"];

/// All three stages for 20 steps, by `ranks` ranks.
fn run(ranks: usize, out: &Path, more: &[&str]) -> Output {
    let mut mpirun = Command::new("mpirun");
    // A gate may be root, and have fewer cores than ranks.
    mpirun.env("OMPI_ALLOW_RUN_AS_ROOT", "1").env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
    mpirun.args(["--oversubscribe", "--bind-to", "none", "-n", &ranks.to_string()]);
    mpirun.args([env!("CARGO_BIN_EXE_mm1"), "run", TINY, "--threads", "1", "--out"]).arg(out);
    for stage in ["encoder", "pretrain", "sft"] {
        for edit in ["steps=20", "accumulate=2", "rows=1"] {
            mpirun.args(["--set", &format!("stage.{stage}.{edit}")]);
        }
    }
    // Of small parameters most ranks have nothing to give.
    mpirun.args(["--set", "stage.sft.optimizer.moments=8bit"]);
    mpirun.args(more).output().unwrap()
}

/// The figures of each step, and the bytes of each file that a run is compared by.
fn digits(out: &Path) -> (Vec<Value>, BTreeMap<String, Vec<u8>>) {
    let lines = fs::read_to_string(out.join("metrics.jsonl")).unwrap();
    let steps = lines.lines().map(|line| {
        let mut line: Value = serde_json::from_str(line).unwrap();
        line.as_object_mut().unwrap().retain(|name, _| !TIMES.contains(&name.as_str()));
        line
    });
    let names = ["eval.json", "samples.json", "eval/few-shot/scene-vqa-2-shot.jsonl"].map(str::to_owned);
    let of_stage = |stage: &str| {
        let files = ["model", "optimizer"];
        files.map(|file| format!("checkpoints/{stage}/step-00000020/{file}.safetensors"))
    };
    let names = names.into_iter().chain(["encoder", "pretrain", "sft"].into_iter().flat_map(of_stage));
    let read = |name: String| {
        let bytes = fs::read(out.join(&name)).unwrap();
        (name, bytes)
    };
    (steps.collect(), names.map(read).collect())
}

#[test]
#[cfg_attr(not(feature = "mpi"), ignore = "needs the feature mpi, and Open MPI")]
fn two_ranks_give_the_digits_of_one() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (folder.path().join("one"), folder.path().join("two"));
    succeeds(&run(1, &one, &[]));
    succeeds(&run(2, &two, &[]));
    let (expected, found) = (digits(&one), digits(&two));
    assert_eq!(expected.0.len(), 60);
    assert_eq!(found.0, expected.0);
    for (name, bytes) in expected.1 {
        assert!(found.1[&name] == bytes, "{name} differs");
    }
}

#[test]
#[cfg_attr(not(feature = "mpi"), ignore = "needs the feature mpi, and Open MPI")]
fn what_ranks_cannot_share_is_refused_once() {
    let folder = tempfile::tempdir().unwrap();
    let refused = run(2, folder.path(), &["--set", "stage.sft.accumulate=3"]);
    let said = stderr(&refused);
    assert_eq!(refused.status.code(), Some(2), "{said}");
    assert_eq!(said.matches("stage.sft.accumulate = 3 can't be shared by 2 ranks").count(), 1, "{said}");
}

/// A program that was built without says how to build it.
#[cfg(not(feature = "mpi"))]
#[test]
fn a_program_without_ranks_refuses_to_be_one_of_several() {
    let folder = tempfile::tempdir().unwrap();
    let mut mm1 = crate::mm1(&["run", TINY, "--out", folder.path().to_str().unwrap()]);
    let refused = mm1.env("OMPI_COMM_WORLD_SIZE", "2").output().unwrap();
    assert_eq!(refused.status.code(), Some(2));
    assert!(stderr(&refused).contains("--features mpi"), "{}", stderr(&refused));
}
