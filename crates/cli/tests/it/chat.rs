//! `mm1 chat` with its input from a pipe.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Output, Stdio};

use serde_json::Value;

use crate::refuse::refused;
use crate::{mm1, picture, run, stderr, succeeds};

/// `mm1 chat --run RUN` with `input` on standard input.
fn chat(run: &Path, more: &[&str], input: &[u8]) -> Output {
    let mut command = mm1(&["chat", "--max-tokens", "3", "--run", run.to_str().unwrap()]);
    command.args(more).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // It may end before it has read all.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

#[test]
fn fault_07_a_talk_goes_on_after_bytes_that_are_no_letters() {
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join("run");
    succeeds(&run(&model, &[]));
    let file = dir.path().join("red thing.png");
    picture(file.clone(), 20, [200, 0, 0]);
    let image = format!("/image '{}'\n", file.display());
    let talk =
        [b"what \xff\xfe is it?\n/help\n".as_slice(), image.as_bytes(), b"and this?\n/reset\n\n"].concat();
    let done = chat(&model, &["--json"], &[&talk, b"again\n/quit\nnever\n".as_slice()].concat());
    succeeds(&done);
    let answers: Vec<Value> =
        done.stdout.split(|&b| b == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect();
    let prompts: Vec<&str> = answers.iter().map(|answer| answer["prompt"].as_str().unwrap()).collect();
    assert_eq!(prompts, ["what \u{fffd}\u{fffd} is it?", "and this?", "again"]);
    assert_eq!(answers[1]["images"][0], file.to_str().unwrap());
    assert_eq!(answers[2]["images"].as_array().unwrap().len(), 0);
    let told = stderr(&done);
    for words in ["not UTF-8", "/image FILE  adds", "20 x 20 pixels, for the next message", "a new talk"] {
        assert!(told.contains(words), "`{words}` is not in: {told}");
    }
    // A sampled answer, and one of an earlier stage.
    succeeds(&chat(&model, &["--temperature", "0.7", "--top-p", "0.9", "--stage", "pretrain", "hello"], b""));
    refused(&chat(&model, &["--top-p", "0.5", "hello"], b""), &["--top-p 0.5 needs a --temperature"]);
    refused(&chat(&model, &["--temperature", "1", "--top-p", "1.5", "x"], b""), &["--top-p 1.5 must be"]);
    refused(&chat(&model, &["--stage", "sfd", "x"], b""), &["--stage sfd", "there are: pretrain, sft"]);
    refused(&chat(&model, &[], b"/imgae x.png\n"), &["/imgae is no command", "/image FILE"]);
    refused(&chat(&model, &[], b"/image \x1b[2Jx.png\n"), &["/image", "\\u{1b}[2Jx.png"]);
    // An encoder alone answers nothing.
    for stage in ["pretrain", "sft"] {
        fs::remove_dir_all(model.join("checkpoints").join(stage)).unwrap();
    }
    refused(&chat(&model, &["hello"], b""), &["an image encoder alone (stage encoder)", "pretrain or sft"]);
}

#[test]
fn fault_06_a_line_that_is_too_long_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join("run");
    succeeds(&run(&model, &[]));
    let long = "x".repeat(3 << 20) + "\n";
    refused(&chat(&model, &[], long.as_bytes()), &["a message of more than 1024 KiB"]);
}
