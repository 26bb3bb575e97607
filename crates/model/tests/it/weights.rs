//! Safetensors in and out, and what is refused.

use burn::tensor::Device;
use mm1_model::weights::{self, Group, Named};
use mm1_model::{Mm1, Mm1Config};

use crate::case;

fn small() -> Mm1Config {
    case::read("c-abstractor").config
}

#[test]
fn a_file_round_trips() {
    let device = Device::flex();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model.safetensors");
    let model = Mm1::new(&small(), 1, &device).unwrap();
    weights::save(&model, &file).unwrap();
    let other = weights::load(Mm1::new(&small(), 2, &device).unwrap(), &file).unwrap();
    assert!(weights::parameters(&model) == weights::parameters(&other));
    let again = folder.path().join("again.safetensors");
    weights::save(&other, &again).unwrap();
    assert!(std::fs::read(file).unwrap() == std::fs::read(again).unwrap());
}

#[test]
fn names_are_paths() {
    let model = Mm1::new(&small(), 1, &Device::flex()).unwrap();
    let shapes = weights::shapes(&model);
    let has =
        |path: &str, shape: &[usize]| assert!(shapes.contains(&(path.to_owned(), shape.to_vec())), "{path}");
    has("vision.blocks.0.attention.qkv", &[16, 48]);
    has("vision.stem.2.norm.beta", &[16]);
    has("connector.before.0.shortcut.weight", &[16, 20]);
    has("lm.blocks.1.mlp.norm.gamma", &[24]);
    has("lm.embedding", &[41, 24]);
    let mut names: Vec<_> = shapes.iter().map(|s| &s.0).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), shapes.len());
    assert!(shapes.iter().all(|(path, _)| Group::of(path).is_some()));
}

#[test]
fn counts_are_by_group() {
    let model = Mm1::new(&small(), 1, &Device::flex()).unwrap();
    let counts = weights::counts(&model);
    assert_eq!(counts.embedding, 2 * 41 * 24);
    let block = (24 * 36 + 24 * 24 + 24) + (24 * 40 + 20 * 24 + 24);
    assert_eq!(counts.lm, 2 * block + 24);
    let all: usize = weights::shapes(&model).iter().map(|(_, shape)| shape.iter().product::<usize>()).sum();
    assert_eq!(counts.total(), all);
    assert!(counts.vision > 0 && counts.connector > 0);
}

fn refused(change: impl FnOnce(&mut Vec<Named>)) -> String {
    let model = Mm1::new(&small(), 1, &Device::flex()).unwrap();
    let mut named = weights::parameters(&model);
    change(&mut named);
    format!("{:#}", weights::assign(model, named).unwrap_err())
}

#[test]
fn what_does_not_fit_is_refused_with_both_sides() {
    let index = |named: &[Named], path: &str| named.iter().position(|n| n.0 == path).unwrap();
    let error = refused(|named| {
        named.remove(index(named, "lm.head"));
    });
    assert!(error.contains("parameters are missing, such as `lm.head` [24, 41]"), "{error}");
    let error = refused(|named| named.push(("lm.tail".into(), vec![2], vec![0.0; 2])));
    assert!(error.contains("1 of ") && error.contains("not of the model, such as `lm.tail` [2]"), "{error}");
    let error = refused(|named| {
        let at = index(named, "lm.head");
        named[at].0 = "lm.hat".into();
    });
    assert!(error.contains("`lm.head` [24, 41]") && error.contains("`lm.hat` [24, 41]"), "{error}");
    let error = refused(|named| {
        let at = index(named, "lm.head");
        named[at].1 = vec![41, 24];
    });
    assert_eq!(error, "`lm.head` is [41, 24], but [24, 41] in the model");
}

#[test]
fn a_damaged_file_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("model.safetensors");
    let model = Mm1::new(&small(), 1, &Device::flex()).unwrap();
    let load = || format!("{:#}", weights::load(model.clone(), &file).unwrap_err());
    assert!(load().contains("cannot read") && load().contains("model.safetensors"));
    weights::save(&model, &file).unwrap();
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&file, &bytes[..bytes.len() - 100]).unwrap();
    assert!(load().contains("not a whole safetensors file"), "{}", load());
}

#[test]
fn ids_are_the_same_in_every_process() {
    let ids = || {
        let model = Mm1::new(&small(), 1, &Device::flex()).unwrap();
        burn::module::list_param_ids(&model)
    };
    let first = ids();
    assert_eq!(first, ids());
    let mut unique = first.clone();
    unique.sort();
    unique.dedup();
    assert_eq!(unique.len(), first.len());
}
