//! Several ranks under `mpirun` give the digits of one.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Instant;

use serde_json::Value;

use crate::encoders::{ENCODERS, objectives};
use crate::study::{AXES, recipe, runs, tables};
use crate::{TINY, losses, recaption, stderr, succeeds};

/// What a clock gave.
const TIMES: [&str; 5] = ["seconds", "data_seconds", "exchange_seconds", "waiting_seconds", "time"];

/// `mm1` with arguments, by `ranks` ranks.
fn mpirun(ranks: usize, arguments: &[&str]) -> Command {
    let mut mpirun = Command::new("mpirun");
    // A gate may be root, and have fewer cores than ranks.
    mpirun.env("OMPI_ALLOW_RUN_AS_ROOT", "1").env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
    mpirun.args(["--oversubscribe", "--bind-to", "none", "-n", &ranks.to_string()]);
    mpirun.arg(env!("CARGO_BIN_EXE_mm1")).args(arguments);
    mpirun
}

/// All three stages for 20 steps, by `ranks` ranks.
fn run(ranks: usize, out: &Path, more: &[&str]) -> Output {
    let mut mpirun = mpirun(ranks, &["run", TINY, "--threads", "1", "--out", out.to_str().unwrap()]);
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
    let begun = Instant::now();
    succeeds(&run(2, &two, &[]));
    let seconds = begun.elapsed().as_secs_f64();
    let (expected, found) = (digits(&one), digits(&two));
    assert_eq!(expected.0.len(), 60);
    assert_eq!(found.0, expected.0);
    for (name, bytes) in expected.1 {
        assert!(found.1[&name] == bytes, "{name} differs");
    }
    // How the ranks spent their time.
    assert!(!one.join("ranks.json").exists());
    let stages: Value = serde_json::from_slice(&fs::read(two.join("ranks.json")).unwrap()).unwrap();
    let names = ["encoder", "pretrain", "sft"];
    assert!(stages.as_array().unwrap().iter().map(|of| of["stage"].as_str().unwrap()).eq(names));
    let lines = fs::read_to_string(two.join("metrics.jsonl")).unwrap();
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut all = 0.0;
    for of in stages.as_array().unwrap() {
        assert_eq!((of["steps"].as_u64(), of["ranks"].as_array().unwrap().len()), (Some(20), 2), "{of}");
        let steps = lines.iter().filter(|line| line["stage"] == of["stage"]);
        let sum = |name: &str| steps.clone().map(|line| line[name].as_f64().unwrap()).sum::<f64>();
        let first = &of["ranks"][0];
        let [work, exchange, waiting] =
            ["work", "exchange", "waiting"].map(|name| first[name].as_f64().unwrap());
        assert!(work > 0.0 && exchange > 0.0 && waiting >= 0.0, "{of}");
        assert!(sum("waiting_seconds") <= sum("exchange_seconds"), "{of}");
        // A rank tells its time up to the note of the last step: all exchanges of the lines but that note's,
        // and those of checkpoints before, which no line has. How long they take depends on the machine.
        let told = |name: &str| steps.clone().take(19).map(|line| line[name].as_f64().unwrap()).sum::<f64>();
        let rounding = 1e-6;
        assert!(exchange + waiting > told("exchange_seconds") - rounding, "{of}");
        assert!(waiting > told("waiting_seconds") - rounding, "{of}");
        all += work + exchange + waiting;
    }
    assert!(all < seconds, "{all} of {seconds} s: {stages}");
    let report = fs::read_to_string(two.join("report.html")).unwrap();
    assert!(report.contains("Ranks of pretrain") && report.contains("2 ranks work "));
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

/// Each picture is compared with, or balanced against, those of all ranks; and measures are of all pictures.
#[test]
#[cfg_attr(not(feature = "mpi"), ignore = "needs the feature mpi, and Open MPI")]
fn ranks_train_and_measure_every_encoder_as_one() {
    let dir = tempfile::tempdir().unwrap();
    for (objective, edits) in objectives() {
        let outs = [1, 2].map(|ranks| {
            let out = dir.path().join(format!("{objective}-{ranks}"));
            let edits = edits.iter().flat_map(|edit| ["--set", edit]);
            let mut run = mpirun(ranks, &["run", ENCODERS, "--threads", "1", "--out", out.to_str().unwrap()]);
            succeeds(&run.args(edits).output().unwrap());
            out
        });
        let [one, two] = &outs;
        assert_eq!(losses(one).len(), 10);
        assert_eq!(losses(two), losses(one), "{objective}");
        for name in ["eval.json", "checkpoints/encoder/step-00000010/model.safetensors"] {
            assert!(
                fs::read(two.join(name)).unwrap() == fs::read(one.join(name)).unwrap(),
                "{objective}: {name}"
            );
        }
    }
}

#[test]
#[cfg_attr(not(feature = "mpi"), ignore = "needs the feature mpi, and Open MPI")]
fn ranks_share_the_runs_of_a_study() {
    let dir = tempfile::tempdir().unwrap();
    let file = recipe(dir.path(), AXES);
    let study = |ranks: usize, out: &Path| {
        let arguments = ["ablate", file.to_str().unwrap(), "--out", out.to_str().unwrap()];
        let more = ["--no-measure", "--threads", "1", "--json"];
        mpirun(ranks, &[&arguments[..], &more].concat()).output().unwrap()
    };
    let (one, two) = (dir.path().join("one"), dir.path().join("two"));
    succeeds(&study(1, &one));
    let done = study(2, &two);
    succeeds(&done);
    // One of them speaks.
    assert_eq!(String::from_utf8_lossy(&done.stdout).lines().count(), 1);
    let told = stderr(&done);
    assert_eq!(told.matches("4 combinations").count(), 1, "{told}");
    // Two encoders, and two runs behind each.
    assert_eq!(told.matches("done by rank 1").count(), 3, "{told}");
    assert_eq!(tables(&two), tables(&one));
    let read = |out: &Path| fs::read_to_string(out.join("tiny/study.json")).unwrap();
    assert_eq!(read(&two), read(&one));
    let (expected, found) = (runs(&one), runs(&two));
    assert_eq!(found.len(), 4);
    for (name, run) in &found {
        assert_eq!(losses(run), losses(&expected[name]), "{name}");
    }
    let names = |out: &Path| -> Vec<_> {
        let mut names: Vec<_> =
            fs::read_dir(out.join("tiny")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(names(&two), names(&one));
    // A run that fails at one rank is named by rank 0, and the rest is done.
    for run in found.values() {
        fs::remove_dir_all(run).unwrap();
    }
    let foreign = found["4 4"].join("thesis.tex");
    fs::create_dir(foreign.parent().unwrap()).unwrap();
    fs::write(&foreign, "x").unwrap();
    let failed = study(2, &two);
    let told = stderr(&failed);
    assert_eq!(failed.status.code(), Some(1), "{told}");
    assert!(told.contains("thesis.tex") && told.contains("1 of 4 runs failed"), "{told}");
    assert_eq!(losses(&found["4 3"]), losses(&expected["4 3"]));
}

#[test]
#[cfg_attr(not(feature = "mpi"), ignore = "needs the feature mpi, and Open MPI")]
fn ranks_describe_pictures_to_the_bytes_of_one() {
    let dir = tempfile::tempdir().unwrap();
    let (trained, source) = (dir.path().join("run"), dir.path().join("pictures"));
    fs::create_dir(&source).unwrap();
    recaption::pictures(&source);
    succeeds(&crate::run(&trained, &[]));
    let (one, three) = (dir.path().join("one"), dir.path().join("three"));
    succeeds(&recaption::command(&trained, &source, &one, &["--batch", "4"]).output().unwrap());
    let [trained, source, to] = [&trained, &source, &three].map(|path| path.to_str().unwrap());
    let arguments = ["data", "recaption", "--run", trained, source, "--to", to];
    let more = ["--shard-mib", "0.03", "--max-tokens", "12", "--batch", "2", "--threads", "1"];
    let done = mpirun(3, &[&arguments[..], &more].concat()).output().unwrap();
    succeeds(&done);
    assert_eq!(stderr(&done).matches("07.png").count(), 1, "{}", stderr(&done));
    let (expected, found) = (recaption::files(&one), recaption::files(&three));
    assert!(expected.keys().filter(|name| name.ends_with(".tar")).count() > 2);
    assert!(found.keys().eq(expected.keys()));
    for (name, bytes) in expected {
        assert!(found[&name] == bytes, "{name} differs");
    }
    let refused = mpirun(2, &[&arguments[..], &["--task", "0/2"]].concat()).output().unwrap();
    assert_eq!(refused.status.code(), Some(2));
    assert!(stderr(&refused).contains("start tasks without mpirun"), "{}", stderr(&refused));
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
