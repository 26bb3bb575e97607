//! Safetensors in and out, and what is refused.

use burn::module::Param;
use burn::tensor::{Device, Tensor};
use mm1_model::dino::{Dino, DinoConfig};
use mm1_model::group::{ParameterCounts, ParameterGroup};
use mm1_model::vision::Stem;
use mm1_model::walk::{self, ParameterVisitor};
use mm1_model::weights::{self, Named};
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
    assert!(std::fs::read(&file).unwrap() == std::fs::read(again).unwrap());
    let part = weights::read_part(&file, "vision").unwrap();
    let mut vision = weights::parameters(&model.vision);
    vision.sort_by(|one, other| one.0.cmp(&other.0));
    assert!(part == vision, "a part is what the part alone has");
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
    assert!(shapes.iter().all(|(path, _)| ParameterGroup::of(path).is_some()));
}

#[test]
fn counts_are_by_group() {
    let model = Mm1::new(&small(), 1, &Device::flex()).unwrap();
    let counts = ParameterCounts::of(&model);
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

/// Every connector with every stem, the head tied and not.
fn all_shapes() -> Vec<Mm1Config> {
    let mut all = Vec::new();
    for name in case::NAMES {
        for stem in [Stem::Patch, Stem::Conv] {
            for tied in [false, true] {
                let mut config = case::read(name).config;
                (config.vision.stem, config.vision.dim, config.lm.tied) = (stem, 16, tied);
                config.vision.patch = 4;
                all.push(config);
            }
        }
    }
    all
}

#[test]
fn what_is_counted_is_what_is_drawn() {
    for config in all_shapes() {
        let model = Mm1::new(&config, 1, &Device::flex()).unwrap();
        let (counted, shapes) = (ParameterCounts::of(&model), weights::shapes(&model));
        let drawn = weights::parameters(&model);
        assert_eq!(
            counted.total(),
            drawn.iter().map(|(.., values)| values.len()).sum::<usize>(),
            "{config:?}"
        );
        let drawn: Vec<_> = drawn.into_iter().map(|(path, shape, _)| (path, shape)).collect();
        assert_eq!(shapes, drawn, "{config:?}");
    }
}

/// Paths of the parameters that have values.
#[derive(Default)]
struct Drawn(Vec<String>);

impl ParameterVisitor for Drawn {
    fn visit<const D: usize>(&mut self, path: &str, parameter: &Param<Tensor<D>>) {
        if parameter.is_initialized() {
            self.0.push(path.to_owned());
        }
    }
}

/// A header of 640 bytes begins as a pickle of protocol 2 does, 80 02.
#[test]
fn a_length_that_begins_as_a_pickle_is_a_length() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let (values, mut tried) = ([1.0f32, 2.0], 0);
    for padding in 0..2000 {
        let about = [("padding".to_owned(), "x".repeat(padding))].into();
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![2], &bytes).unwrap();
        let bytes = safetensors::serialize([("vision.w", view)], Some(about)).unwrap();
        if bytes[0] == 0x80 && (2..=5).contains(&bytes[1]) {
            std::fs::write(file.path(), bytes).unwrap();
            let read = weights::read_part(file.path(), "vision").map(|tensors| tensors[0].2.clone()).ok();
            assert_eq!(read, Some(values.to_vec()), "{padding}");
            tried += 1;
        }
    }
    assert!(tried >= 4 * 8, "{tried}");
}

#[test]
fn nothing_is_drawn_before_it_is_read() {
    for config in all_shapes() {
        let model = Mm1::new(&config, 1, &Device::flex().autodiff()).unwrap();
        let total = ParameterCounts::of(&model).total();
        let mut drawn = Drawn::default();
        walk::visit(&model, &mut drawn);
        assert_eq!(drawn.0, Vec::<String>::new(), "{total} were only counted");
        model.vision.patch_bias.val();
        walk::visit(&model, &mut drawn);
        assert_eq!(drawn.0, ["vision.patch_bias"]);
    }
}

/// 12 GB of weights, were they drawn.
#[test]
fn a_network_of_3b_is_counted_from_shapes() {
    let mut config = small();
    config.lm.vocab = Some(32_000);
    (config.lm.dim, config.lm.layers, config.lm.heads, config.lm.kv_heads) = (2560, 32, 20, 20);
    (config.lm.ffn, config.lm.tied) = (6912, true);
    let counts = ParameterCounts::of(&Mm1::new(&config, 1, &Device::flex()).unwrap());
    let block = 4 * 2560 * 2560 + 3 * 2560 * 6912 + 2 * 2560;
    assert_eq!((counts.lm, counts.embedding), (32 * block + 2560, 32_000 * 2560));
}

/// A teacher begins as its student: they share their first values, but not whether they are trained.
#[test]
fn a_teacher_does_not_thaw_with_its_student() {
    struct Trained(Vec<String>);
    impl ParameterVisitor for Trained {
        fn visit<const D: usize>(&mut self, path: &str, parameter: &Param<Tensor<D>>) {
            if parameter.val().is_require_grad() {
                self.0.push(path.to_owned());
            }
        }
    }
    let vision = Mm1::encoder(&small(), 1, &Device::flex().autodiff()).unwrap();
    let dino = Dino::new(vision, &DinoConfig::default(), 10, 1);
    let dino = weights::freeze(dino, |path| !path.starts_with("student."));
    let mut trained = Trained(Vec::new());
    walk::visit(&dino, &mut trained);
    let student =
        weights::shapes(&dino).into_iter().map(|(path, _)| path).filter(|p| p.starts_with("student."));
    assert_eq!(trained.0, student.collect::<Vec<_>>());
}
