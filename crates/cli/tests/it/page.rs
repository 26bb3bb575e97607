//! The page of `mm1 serve` in a browser: `bench/faults/page`, where there is a Chromium.

use std::process::Command;

use crate::{run, stderr, succeeds};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../bench/faults/page");

/// Names by which systems have it.
const BROWSERS: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

#[test]
fn the_page_is_used_in_a_browser() {
    let starts = |name: &&str| Command::new(name).arg("--version").output().is_ok_and(|o| o.status.success());
    let Some(browser) = BROWSERS.into_iter().find(starts) else {
        eprintln!("skipped: the page of mm1 serve is not tested, for there is no Chromium here");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("tiny-run");
    succeeds(&run(&out, &["--set", "stage.pretrain.steps=2", "--set", "stage.sft.steps=2"]));
    let script = Command::new("python3")
        .arg(SCRIPT)
        .args(["--run", out.to_str().unwrap(), "--program", env!("CARGO_BIN_EXE_mm1"), "--chromium", browser])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&script.stdout);
    assert!(script.status.success(), "{said}{}", stderr(&script));
    assert_eq!(said.lines().count(), 4, "{said}");
}
