//! Puts the commit into the program, for `plan.toml`.

use std::process::Command;

fn main() {
    let git = Command::new("git").args(["describe", "--always", "--dirty", "--abbrev=12"]).output();
    let commit = git
        .ok()
        .filter(|o| o.status.success())
        .and_then(|o| String::from_utf8(o.stdout).ok())
        .map_or_else(|| "unknown".to_string(), |s| s.trim().to_string());
    println!("cargo::rustc-env=MM1_COMMIT={commit}");
    println!("cargo::rerun-if-changed=../../.git/logs/HEAD");
}
