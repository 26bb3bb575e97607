//! The program as a person meets it.
#![expect(clippy::unwrap_used, reason = "a test fails where something is missing")]

mod adapters;
mod architecture;
mod backbones;
mod chat;
mod data;
mod encoders;
mod eval;
#[path = "../../../lab/tests/it/events.rs"]
mod events;
mod export;
mod fetch;
mod gguf;
mod html_page;
mod import;
mod machine;
mod memory;
mod own_pictures;
mod page;
mod ranks;
mod recaption;
mod recaption_stage;
mod recipes;
mod reference;
mod refuse;
mod report;
mod resolution;
mod resume;
mod road;
mod score;
mod serve;
mod study;
mod tensorboard;
mod terminal;
#[cfg(feature = "vulkan")]
mod vulkan;
mod watch;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The whole road in a second or two.
const TINY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/tiny.toml");

/// `mm1` with arguments.
fn mm1(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mm1"));
    command.args(arguments);
    command
}

/// `mm1 run TINY --out OUT` with more arguments.
fn run(out: &Path, more: &[&str]) -> Output {
    mm1(&["run", TINY, "--out", out.to_str().unwrap()]).args(more).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn succeeds(output: &Output) {
    assert!(output.status.success(), "{}", stderr(output));
}

/// Every (stage, step, loss) of a run, the loss digit for digit.
fn losses(out: &Path) -> Vec<(String, u64, String)> {
    let text = std::fs::read_to_string(out.join("metrics.jsonl")).unwrap();
    text.lines()
        .map(|line| {
            let v: serde_json::Value = serde_json::from_str(line).unwrap();
            (v["stage"].as_str().unwrap().to_string(), v["step"].as_u64().unwrap(), v["loss"].to_string())
        })
        .collect()
}

/// A PNG of one colour.
fn picture(path: PathBuf, side: u32, colour: [u8; 3]) {
    image::RgbImage::from_pixel(side, side, image::Rgb(colour)).save(path).unwrap();
}
