use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use burn::tensor::TensorData;
use mm1_train::Snapshot;
use mm1_train::checkpoint::{latest, remove_leftovers, save};
use serde_json::json;

const FILES: [&str; 4] = ["model.safetensors", "optimizer.safetensors", "state.json", "manifest.json"];

fn snapshot(step: u64) -> Snapshot {
    let tensors = |names: &[&str]| -> BTreeMap<String, TensorData> {
        let data =
            |i: usize| TensorData::new((0..6).map(|j| (i * 6 + j) as f32 + step as f32).collect(), [2, 3]);
        names.iter().enumerate().map(|(i, name)| (name.to_string(), data(i))).collect()
    };
    let state = json!({ "cursor": step * 10, "seed": u64::MAX });
    Snapshot { step, model: tensors(&["a", "b"]), optimizer: tensors(&["a.m", "a.v"]), state }
}

fn listing(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn what_is_saved_is_loaded() {
    let dir = tempfile::tempdir().unwrap();
    let stage = dir.path().join("checkpoints/pretrain");
    assert!(latest(&stage).unwrap().is_none());
    let path = save(&stage, &snapshot(12), 2).unwrap();
    assert_eq!(path, stage.join("step-00000012"));
    assert_eq!(listing(&path), ["manifest.json", "model.safetensors", "optimizer.safetensors", "state.json"]);
    let found = latest(&stage).unwrap().unwrap();
    assert_eq!((found.step, found.warnings.len()), (12, 0));
    assert_eq!(found.load().unwrap(), snapshot(12));
    assert_eq!(found.weights(), path.join("model.safetensors"));
}

#[test]
fn the_newest_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    for step in [5, 10, 100, 20_000_000_000] {
        save(dir.path(), &snapshot(step), 2).unwrap();
    }
    assert_eq!(listing(dir.path()), ["step-00000100", "step-20000000000"]);
    assert_eq!(latest(dir.path()).unwrap().unwrap().step, 20_000_000_000);
    let error = save(dir.path(), &snapshot(1), 0).unwrap_err().to_string();
    assert!(error.contains("keep = 0"), "{error}");
}

#[test]
fn saving_twice_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    save(dir.path(), &snapshot(3), 1).unwrap();
    save(dir.path(), &snapshot(3), 1).unwrap();
    assert_eq!(listing(dir.path()), ["step-00000003"]);
    let other = Snapshot { state: json!("other"), ..snapshot(3) };
    let error = format!("{:#}", save(dir.path(), &other, 1).unwrap_err());
    assert!(error.contains("is a checkpoint of another run; move it away"), "{error}");
    assert_eq!(listing(dir.path()), ["step-00000003"]);
    assert_eq!(latest(dir.path()).unwrap().unwrap().load().unwrap(), snapshot(3));
}

#[test]
fn any_damage_is_noticed_and_the_one_before_is_used() {
    let dir = tempfile::tempdir().unwrap();
    save(dir.path(), &snapshot(1), 2).unwrap();
    let newest = save(dir.path(), &snapshot(2), 2).unwrap();
    for file in FILES {
        let path = newest.join(file);
        let good = fs::read(&path).unwrap();
        let flipped = |at: usize| {
            let mut bad = good.clone();
            bad[at] ^= 1;
            bad
        };
        let cut = good[..good.len() - 1].to_vec();
        for bad in [flipped(0), flipped(good.len() / 2), flipped(good.len() - 2), cut, Vec::new()] {
            fs::write(&path, bad).unwrap();
            let found = latest(dir.path()).unwrap().unwrap();
            assert_eq!(found.step, 1, "{file}");
            assert_eq!(found.warnings.len(), 1);
            let warning = &found.warnings[0];
            assert!(warning.contains("step-00000002 is damaged") && warning.contains(file), "{warning}");
        }
        fs::remove_file(&path).unwrap();
        assert_eq!(latest(dir.path()).unwrap().unwrap().step, 1, "without {file}");
        fs::write(&path, good).unwrap();
        assert_eq!(latest(dir.path()).unwrap().unwrap().step, 2);
    }
}

#[test]
fn a_damaged_one_is_replaced_when_its_step_comes_again() {
    let dir = tempfile::tempdir().unwrap();
    save(dir.path(), &snapshot(1), 1).unwrap();
    let newest = save(dir.path(), &snapshot(2), 2).unwrap();
    fs::write(newest.join("state.json"), "{}").unwrap();
    save(dir.path(), &snapshot(2), 2).unwrap();
    let found = latest(dir.path()).unwrap().unwrap();
    assert_eq!((found.step, found.warnings.len()), (2, 0));
}

#[test]
fn a_damaged_later_one_does_not_push_out_a_good_one() {
    let dir = tempfile::tempdir().unwrap();
    let later = save(dir.path(), &snapshot(9), 1).unwrap();
    fs::write(later.join("model.safetensors"), "").unwrap();
    save(dir.path(), &snapshot(4), 1).unwrap();
    assert_eq!(latest(dir.path()).unwrap().unwrap().step, 4);
}

#[test]
fn without_a_good_one_nothing_starts_again_silently() {
    let dir = tempfile::tempdir().unwrap();
    for step in [1, 2] {
        let path = save(dir.path(), &snapshot(step), 2).unwrap();
        fs::write(path.join("model.safetensors"), "no").unwrap();
    }
    let error = latest(dir.path()).unwrap_err().to_string();
    assert!(error.starts_with("no checkpoint in"), "{error}");
    assert!(error.contains("step-00000001") && error.contains("step-00000002"), "{error}");
    assert!(error.contains("model.safetensors has 2 bytes instead of"), "{error}");
}

#[test]
fn what_a_killed_writer_left_is_ignored_and_removed() {
    let dir = tempfile::tempdir().unwrap();
    let good = save(dir.path(), &snapshot(1), 2).unwrap();
    // Killed just before the rename: all files are there, under the temporary name.
    let left = dir.path().join("step-00000002.tmp-4711");
    fs::create_dir(&left).unwrap();
    for file in FILES {
        fs::copy(good.join(file), left.join(file)).unwrap();
    }
    let found = latest(dir.path()).unwrap().unwrap();
    assert_eq!((found.step, found.warnings.len()), (1, 0));
    fs::write(dir.path().join("notes.tmp-1"), "mine").unwrap();
    assert_eq!(remove_leftovers(dir.path()).unwrap(), [left]);
    assert_eq!(listing(dir.path()), ["notes.tmp-1", "step-00000001"]);
}

/// A real file system of 1 MiB, where this process may mount one.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_leaves_the_one_before() {
    let dir = tempfile::tempdir().unwrap();
    let mount = |program: &str, args: &[&str]| {
        std::process::Command::new(program)
            .args(args)
            .arg(dir.path())
            .output()
            .is_ok_and(|o| o.status.success())
    };
    if !mount("mount", &["-t", "tmpfs", "-o", "size=1m", "tmpfs"]) {
        eprintln!("not permitted to mount a file system; the unit test with /dev/full stands alone");
        return;
    }
    let saved = save(dir.path(), &snapshot(1), 2);
    let mut big = snapshot(2);
    big.model.insert("big".into(), TensorData::new(vec![0f32; 1 << 19], [1 << 19]));
    let failed = save(dir.path(), &big, 2);
    let (there, found) = (listing(dir.path()), latest(dir.path()));
    assert!(mount("umount", &[]));
    saved.unwrap();
    let error = format!("{:#}", failed.unwrap_err());
    assert!(error.contains("the disk is full: checkpoint"), "{error}");
    assert!(
        error.contains("step-00000002 needs 2097") && error.contains("step-00000001 is intact"),
        "{error}"
    );
    assert_eq!(there, ["step-00000001"]);
    assert_eq!(found.unwrap().unwrap().step, 1);
}
