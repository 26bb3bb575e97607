//! The report is there at every checkpoint and on every way out of a run.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::refuse::refused;
use crate::{TINY, mm1, run, stderr, succeeds};

fn page(out: &Path) -> String {
    fs::read_to_string(out.join("report.html")).unwrap()
}

/// Starts the tiny recipe with more steps than anybody waits for.
fn endless(out: &Path) -> Child {
    mm1(&["run", TINY, "--out", out.to_str().unwrap(), "--set", "stage.encoder.steps=1000000"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Waits for something that a run is to bring about.
fn wait(what: impl Fn() -> bool) {
    let begun = Instant::now();
    while !what() {
        assert!(begun.elapsed() < Duration::from_secs(60), "it does not come");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn at_an_interrupt() {
    let dir = tempfile::tempdir().unwrap();
    let child = endless(dir.path());
    wait(|| dir.path().join("checkpoints/encoder").is_dir());
    let interrupt = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(interrupt.success());
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(130), "{}", stderr(&ended));
    assert!(stderr(&ended).contains("what there is so far: open "), "{}", stderr(&ended));
    let page = page(dir.path());
    assert!(page.contains("The run was interrupted; the same command continues it."));
    assert!(page.contains("<li>interrupted 2"), "the date of the end");
    assert!(page.contains("So far, the loss of stage encoder went from "));
}

#[test]
fn at_a_checkpoint_of_a_run_that_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = endless(dir.path());
    wait(|| dir.path().join("report.html").is_file());
    child.kill().unwrap();
    child.wait().unwrap();
    let page = page(dir.path());
    assert!(page.contains("The run is not finished: stage encoder has "));
    assert!(page.contains("<li>last heard of 2"), "no end is known");
}

#[test]
fn at_a_failure() {
    let dir = tempfile::tempdir().unwrap();
    succeeds(&run(dir.path(), &[]));
    assert!(page(dir.path()).contains("<li>done 2"));
    let checkpoints = dir.path().join("checkpoints/sft");
    fs::remove_dir_all(&checkpoints).unwrap();
    fs::write(&checkpoints, "a file where a folder is needed").unwrap();
    let failed = run(dir.path(), &[]);
    assert!(!failed.status.success());
    assert!(stderr(&failed).contains("what there is so far: open "), "{}", stderr(&failed));
    let page = page(dir.path());
    assert!(page.contains("The run has failed: stage sft: "), "{page:.3000}");
    assert!(page.contains("<li>in 2 processes</li>"));
}

#[test]
fn made_again_it_is_the_same() {
    let dir = tempfile::tempdir().unwrap();
    succeeds(&run(dir.path(), &[]));
    let first = page(dir.path());
    fs::remove_file(dir.path().join("report.html")).unwrap();
    let again = mm1(&["report", dir.path().to_str().unwrap()]).output().unwrap();
    succeeds(&again);
    assert!(stderr(&again).starts_with("open "), "{}", stderr(&again));
    assert_eq!(page(dir.path()), first);

    let empty = tempfile::tempdir().unwrap();
    let refused = mm1(&["report", empty.path().to_str().unwrap()]).output().unwrap();
    assert_eq!(refused.status.code(), Some(2), "{}", stderr(&refused));
    assert!(stderr(&refused).contains("not a run folder"), "{}", stderr(&refused));
    assert!(!empty.path().join("report.html").exists());
}

#[test]
fn losses_have_the_unit_of_their_stage() {
    let dir = tempfile::tempdir().unwrap();
    succeeds(&run(dir.path(), &[]));
    let page = page(dir.path());
    let times = |unit: &str| page.matches(&format!(">{unit}</text>")).count();
    assert_eq!(times("nats a caption"), 1, "the encoder's objective is superclass");
    assert_eq!(times("nats a token"), 2, "pretrain and sft are language stages");
    assert_eq!(times("nats a picture"), 0);
}

#[test]
fn several_runs_have_a_page_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (dir.path().join("a"), dir.path().join("b"));
    succeeds(&run(&a, &[]));
    succeeds(&run(&b, &["--set", "stage.pretrain.steps=9"]));
    let report = |more: &[&str]| {
        let both = ["report", a.to_str().unwrap(), b.to_str().unwrap()];
        mm1(&[&both[..], more].concat()).current_dir(dir.path()).output().unwrap()
    };
    let before = page(&a);
    let made = report(&[]);
    succeeds(&made);
    assert_eq!(stderr(&made).trim(), "open comparison.html");
    let text = fs::read_to_string(dir.path().join("comparison.html")).unwrap();
    for of in
        ["2 runs compared", "<td class=\"left\">stage.pretrain.steps</td>", "Loss of stage sft over steps"]
    {
        assert!(text.contains(of), "{of}");
    }
    succeeds(&report(&["--out", "other.html"]));
    assert_eq!(fs::read_to_string(dir.path().join("other.html")).unwrap(), text);
    assert_eq!(page(&a), before, "the reports of the runs stay");
    let printed = report(&["--md"]);
    succeeds(&printed);
    let printed = String::from_utf8(printed.stdout).unwrap();
    assert!(printed.contains("| run | scene-vqa 0-shot |") && printed.contains("| a | "), "{printed}");
    let csv = report(&["--csv"]);
    let csv = String::from_utf8(csv.stdout).unwrap();
    assert!(csv.starts_with("run,stage,task,") && csv.contains("\nb,few-shot,scene-vqa,0,"), "{csv}");
    // A page of one run is in its folder, and a folder is compared once.
    refused(&mm1(&["report", a.to_str().unwrap(), "--out", "x.html"]).output().unwrap(), &["--out"]);
    let twice = mm1(&["report", a.to_str().unwrap(), a.to_str().unwrap()]).output().unwrap();
    refused(&twice, &["the same folder comes twice"]);
    let study = dir.path().join("study");
    fs::create_dir(&study).unwrap();
    fs::write(study.join("study.json"), "{}").unwrap();
    let among = mm1(&["report", a.to_str().unwrap(), study.to_str().unwrap()]).output().unwrap();
    refused(&among, &["a study or a law, which has a page of its own"]);
}
