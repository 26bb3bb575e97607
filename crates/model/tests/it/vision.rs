//! The image encoder's options, rectangles and sights against PyTorch (scripts/reference/vision.py).

use std::path::PathBuf;

use burn::tensor::{Device, Tensor, TensorData};
use mm1_model::connector::{CAbstractorConfig, Connector, ConnectorConfig};
use mm1_model::init::Init;
use mm1_model::lm::LmConfig;
use mm1_model::ops::{Layout, Sight};
use mm1_model::positions::{resample, resize_positions};
use mm1_model::vision::{Vision, VisionActivation, VisionConfig};
use mm1_model::weights::{self, Named};
use mm1_model::{Compute, Mm1, Mm1Config};
use safetensors::SafeTensors;

use crate::case::{self, difference, values};

const CLOSE: f32 = 1e-5;

struct Case {
    name: &'static str,
    config: Mm1Config,
    grid: [usize; 2],
    sight: Sight,
    tensors: Vec<Named>,
}

fn read(name: &str) -> (Vec<Named>, std::collections::HashMap<String, String>) {
    let file =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("../../testdata/vision/{name}.safetensors"));
    let bytes = std::fs::read(file).unwrap();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    (weights::decode(&bytes).unwrap(), header.metadata().clone().unwrap_or_default())
}

/// A decoder of width 24, which nothing is asked of.
fn config(vision: VisionConfig, connector: ConnectorConfig) -> Mm1Config {
    let lm = r#"{"vocab": 9, "dim": 24, "layers": 1, "heads": 2, "kv_heads": 1, "ffn": 8}"#;
    Mm1Config { from: None, vision, connector, lm: serde_json::from_str::<LmConfig>(lm).unwrap() }
}

impl Case {
    fn new(name: &'static str) -> Self {
        let (tensors, about) = read(name);
        let mut parts: serde_json::Value = serde_json::from_str(&about["config"]).unwrap();
        let mut part = |name: &str| parts[name].take();
        let config = config(
            serde_json::from_value(part("vision")).unwrap(),
            serde_json::from_value(part("connector")).unwrap(),
        );
        config.check().unwrap();
        let prefixes: Option<Vec<usize>> = serde_json::from_str(&about["prefixes"]).unwrap();
        let sight = prefixes.map_or(Sight::All, Sight::Prefix);
        Self { name, config, grid: serde_json::from_str(&about["grid"]).unwrap(), sight, tensors }
    }

    /// Every case with the fused operations, and with the composed ones.
    fn all() -> impl Iterator<Item = (Compute, Self)> {
        [case::cpu(), case::composed()]
            .into_iter()
            .flat_map(|compute| ["clip", "siglip", "prefix"].map(|name| (compute.clone(), Self::new(name))))
    }

    /// Tensors under a name, without it.
    fn under(&self, part: &str) -> Vec<Named> {
        let shorten = |(path, shape, values): &Named| {
            Some((path.strip_prefix(part)?.to_owned(), shape.clone(), values.clone()))
        };
        self.tensors.iter().filter_map(shorten).collect()
    }

    fn tensor<const D: usize>(&self, name: &str, device: &Device) -> Tensor<D> {
        let (_, shape, values) = self.tensors.iter().find(|t| t.0 == name).unwrap();
        Tensor::from_data(TensorData::new(values.clone(), shape.clone()), device)
    }

    fn vision(&self, device: &Device) -> Vision {
        let vision = Vision::new(&Init::new(0, device), &self.config.vision);
        weights::assign(vision, self.under("weights/vision.")).unwrap()
    }

    fn connector(&self, device: &Device) -> Connector {
        let Mm1Config { vision, connector, lm, .. } = &self.config;
        let connector = Connector::new(&Init::new(0, device), connector, vision, lm);
        weights::assign(connector, self.under("weights/connector.")).unwrap()
    }

    fn layout(&self, tokens: &Tensor<3>) -> Layout {
        Layout::full(tokens.dims()[0], tokens.dims()[1], self.sight.clone())
    }

    #[track_caller]
    fn check<const D: usize>(&self, output: &str, got: Tensor<D>) {
        let expected: Tensor<D> = self.tensor(&format!("output/{output}"), &Device::flex());
        assert_eq!(got.dims(), expected.dims(), "{} {output}", self.name);
        let apart = difference(&values(got), &values(expected));
        assert!(apart <= CLOSE, "{} {output}: {apart:e}", self.name);
    }
}

#[test]
fn every_option_computes_what_pytorch_does() {
    for (compute, case) in Case::all() {
        let device = compute.training_device();
        let (vision, pixels) = (case.vision(&device), case.tensor("input/pixels", &device));
        assert_eq!(vision.grid(&pixels), case.grid);
        let embedded = vision.embed(&compute, pixels.clone());
        let placed = vision.place(&compute, vision.patches(&compute, pixels.clone()), case.grid);
        assert_eq!(values(placed), values(embedded.clone()), "{}", case.name);
        case.check("embed", embedded.clone());
        let tokens = vision.encode(&compute, embedded.clone(), &case.layout(&embedded));
        case.check("tokens", tokens.clone());
        case.check("pooled", vision.pooled(&tokens));
        let features = vision.forward(&compute, pixels);
        case.check("features", features.clone());
        case.check("connector", case.connector(&device).forward(&compute, features, case.grid));
    }
}

#[test]
fn every_gradient_is_pytorchs() {
    for (compute, case) in Case::all() {
        let device = compute.training_device();
        let vision = case.vision(&device);
        let embedded = vision.embed(&compute, case.tensor("input/pixels", &device));
        let layout = case.layout(&embedded);
        let probe = case.tensor("input/probe", &device);
        let found = weights::gradients(
            &vision,
            &(vision.encode(&compute, embedded, &layout) * probe).sum().backward(),
        );
        let expected = case.under("gradients/vision.");
        assert_eq!(found.len(), expected.len(), "{}", case.name);
        for (path, _, gradient) in found {
            let (_, _, expected) = expected.iter().find(|e| e.0 == path).unwrap();
            let apart = difference(&gradient, expected);
            assert!(apart <= CLOSE, "{} {path}: {apart:e}", case.name);
        }
    }
}

#[test]
fn positions_are_interpolated_as_pytorch_does() {
    let (tensors, _) = read("positions");
    let grid = |name: &str| -> [usize; 2] {
        let sides: Vec<usize> = name.split('x').map(|side| side.parse().unwrap()).collect();
        sides.try_into().unwrap()
    };
    let mut pairs = 0;
    for (name, _, table) in tensors.iter().filter(|(name, ..)| !name.contains('/')) {
        assert_eq!(&resize_positions(table, grid(name), grid(name)), table, "{name} to itself");
        for (other, _, expected) in &tensors {
            let Some(to) = other.strip_prefix(&format!("{name}/")) else { continue };
            let apart = difference(&resize_positions(table, grid(name), grid(to)), expected);
            assert!(apart <= CLOSE, "{other}: {apart:e}");
            pairs += 1;
        }
    }
    assert_eq!(pairs, 8);
}

#[test]
fn a_table_of_the_same_everywhere_stays_so() {
    let table: Tensor<2> = Tensor::ones([5 * 4, 2], &Device::flex());
    for to in [[1, 1], [9, 2], [13, 40]] {
        let resized = values(resample(table.clone(), [5, 4], to));
        assert_eq!(resized.len(), to[0] * to[1] * 2);
        assert!(resized.iter().all(|x| (x - 1.0).abs() < 1e-6), "{to:?}: {resized:?}");
    }
}

#[test]
fn the_connector_never_sees_the_class_token() {
    let case = Case::new("clip");
    let (device, compute, vision) = (Device::flex(), case::cpu(), case.vision(&Device::flex()));
    let pixels = case.tensor("input/pixels", &device);
    let embedded = vision.embed(&compute, pixels.clone());
    let tokens = vision.encode(&compute, embedded.clone(), &case.layout(&embedded));
    let [n, t, d] = tokens.dims();
    assert_eq!(t, 1 + case.grid[0] * case.grid[1]);
    let features = vision.forward(&compute, pixels);
    assert_eq!(features.dims(), [n, t - 1, d]);
    assert_eq!(values(features), values(tokens.narrow(1, 1, t - 1)));
}

#[test]
fn blocks_after_the_feature_block_are_not_there() {
    let all = Case::new("siglip").config.vision;
    let made = |feature_block| {
        let vision = VisionConfig { feature_block, ..all.clone() };
        weights::parameters(&Vision::new(&Init::new(3, &Device::flex()), &vision))
    };
    let first: Vec<Named> = made(None).into_iter().filter(|p| !p.0.starts_with("blocks.1.")).collect();
    assert!(first.len() < made(None).len());
    assert!(made(Some(1)) == first, "one block of two has the values of the first");
    assert!(made(Some(2)) == made(None), "the last of two is the default");
}

/// Whatever the grid, every parameter takes part, the tables of positions too.
#[test]
fn rectangles_train_every_parameter() {
    let connector = ConnectorConfig::CAbstractor(CAbstractorConfig { tokens: 4, dim: 20, depth: 1 });
    let config = config(Case::new("clip").config.vision, connector);
    let model = Mm1::new(&config, 5, &Device::flex().autodiff()).unwrap();
    let pixels = Case::new("clip").tensor("input/pixels", &model.device());
    let tokens = model.image_tokens(&case::cpu(), pixels);
    assert_eq!(tokens.dims(), [2, 4, 24]);
    let found = weights::gradients(&model, &tokens.square().sum().backward());
    let encoder = weights::shapes(&model).into_iter().filter(|(path, _)| !path.starts_with("lm."));
    assert_eq!(found.len(), encoder.count());
    for (path, _, gradient) in found {
        assert!(gradient.iter().any(|&g| g != 0.0), "{path}: no gradient");
    }
}

#[test]
fn what_is_not_said_changes_nothing() {
    let said = case::read("average-pool").config.vision;
    assert_eq!((said.activation, said.pre_norm, said.last_norm), (VisionActivation::Gelu, false, true));
    assert_eq!(said.blocks(), said.layers);
    let written = serde_json::to_string(&said).unwrap();
    for field in ["activation", "pre_norm", "feature_block", "last_norm"] {
        assert!(!written.contains(field), "{written}");
    }
    let written = serde_json::to_string(&Case::new("clip").config.vision).unwrap();
    assert!(written.contains(r#""activation":"quick-gelu","pre_norm":true,"feature_block":2"#), "{written}");
}

#[test]
fn a_feature_block_beyond_the_last_is_refused() {
    let mut config = Case::new("clip").config;
    config.vision.feature_block = Some(4);
    let error = config.check().unwrap_err().to_string();
    assert_eq!(error, "model.vision.feature_block = 4 must be at most layers = 3");
    config.vision.feature_block = Some(0);
    let error = config.check().unwrap_err().to_string();
    assert!(error.starts_with("model.vision.feature_block = 0 must be at least 1"), "{error}");
}

#[test]
fn an_epsilon_that_makes_no_norm_is_refused() {
    let mut config = Case::new("clip").config;
    for eps in [-1e-6, f64::NAN, f64::INFINITY] {
        config.vision.norm_eps = eps;
        let error = config.check().unwrap_err().to_string();
        assert_eq!(error, format!("model.vision.norm_eps = {eps} must not be below 0"));
    }
    config.vision.norm_eps = 0.0;
    config.check().unwrap();
}

#[test]
#[should_panic(expected = "pictures of 12x30 pixels are not whole patches of 4x4")]
fn pictures_that_are_not_whole_patches_are_refused() {
    let vision = Case::new("clip").vision(&Device::flex());
    vision.forward(&case::cpu(), Tensor::zeros([1, 12, 30, 3], &Device::flex()));
}

/// Tables at another size are the interpolated ones, which the golden file proves, and the network gives what
/// it gave when it interpolated them for each picture.
#[test]
fn a_network_for_another_size_has_interpolated_tables() {
    let connector = ConnectorConfig::CAbstractor(CAbstractorConfig { tokens: 4, dim: 20, depth: 1 });
    let model = Mm1::new(&config(Case::new("clip").config.vision, connector), 5, &Device::flex()).unwrap();
    let side = model.config().vision.grid();
    let tables = |model: &Mm1| -> Vec<Named> {
        weights::parameters(model).into_iter().filter(|(path, ..)| path.ends_with("position")).collect()
    };
    let resized = model.clone().with_image_size(32).unwrap();
    assert_eq!(resized.config().vision.image_size, 32);
    for ((path, _, before), (_, shape, after)) in tables(&model).into_iter().zip(tables(&resized)) {
        assert_eq!(shape[0], 8 * 8, "{path}");
        assert_eq!(after, resize_positions(&before, [side; 2], [8; 2]), "{path}");
    }
    assert_eq!(tables(&resized).len(), 2);
    let pixels = Tensor::<1, burn::tensor::Int>::arange(0..32 * 32 * 3, &Device::flex()).float();
    let pixels = pixels.sin().reshape([1, 32, 32, 3]);
    let tokens = |model: &Mm1| values(model.image_tokens(&case::cpu(), pixels.clone()));
    assert!(tokens(&resized) == tokens(&model));
    let back = weights::parameters(&model.clone().with_image_size(20).unwrap());
    assert!(back == weights::parameters(&model), "its own size changes nothing");
    let error = model.with_image_size(33).unwrap_err().to_string();
    assert!(error.contains("image_size = 33"), "{error}");
}
