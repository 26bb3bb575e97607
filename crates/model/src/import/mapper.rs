//! The parts that encoders have in common, from foreign tensors to ours.

use anyhow::Result;

use super::tensors::ForeignTensors;
use crate::block_names::BlockNames;
use crate::vision::VisionConfig;
use crate::weights::Named;

/// Takes foreign tensors and gives ours.
pub(super) struct TensorMapper<'a> {
    foreign: &'a mut ForeignTensors,
    sizes: Sizes,
    found: Vec<Named>,
}

/// Sizes of a tower's blocks.
#[derive(Clone, Copy)]
pub(super) struct Sizes {
    pub(super) dim: usize,
    pub(super) ffn: usize,
    pub(super) layers: usize,
}

impl<'a> TensorMapper<'a> {
    pub(super) fn new(foreign: &'a mut ForeignTensors, sizes: Sizes) -> Self {
        Self { foreign, sizes, found: Vec::new() }
    }

    pub(super) fn finish(self) -> Vec<Named> {
        self.found
    }

    /// The map of patches of `patch` pixels a side `[d, 3, y, x]`, ours being `[(y, x, 3), d]`, with the bias
    /// that there is, or none.
    pub(super) fn patch(&mut self, patch: usize, weight: &str, bias: Option<&str>) -> Result<()> {
        let d = self.sizes.dim;
        let (area, inputs) = (patch * patch, patch * patch * 3);
        let given = self.foreign.take(weight, &[d, 3, patch, patch])?;
        // Index i of ours is output i % d of input i / d, and inputs run over (y, x, channel) where theirs
        // run over (channel, y, x).
        let ours = |i: usize| given[i % d * inputs + i / d % 3 * area + i / d / 3];
        self.put("patch", &[inputs, d], (0..inputs * d).map(ours).collect());
        let bias = match bias {
            Some(bias) => self.foreign.take(bias, &[d])?,
            None => vec![0.0; d],
        };
        self.put("patch_bias", &[d], bias);
        Ok(())
    }

    /// A table `[rows, d]` as it is: positions of the patches alone, or a text tower's.
    pub(super) fn table(&mut self, ours: &str, theirs: &str, rows: usize) -> Result<()> {
        let d = self.sizes.dim;
        let table = self.foreign.take(theirs, &[rows, d])?;
        self.put(ours, &[rows, d], table);
        Ok(())
    }

    /// The class token `[d]` and a table `[1 + p, d]` whose first position is its: it is added to the token.
    pub(super) fn class_positions(&mut self, token: &str, table: &str, patches: usize) -> Result<()> {
        let d = self.sizes.dim;
        let mut class = self.foreign.take(token, &[d])?;
        let table = self.foreign.take(table, &[1 + patches, d])?;
        let (first, others) = table.split_at(d);
        class.iter_mut().zip(first).for_each(|(class, position)| *class += position);
        self.put("class_token", &[1, d], class);
        self.put("position", &[patches, d], others.to_vec());
        Ok(())
    }

    /// A LayerNorm: `weight` and `bias` to `gamma` and `beta`.
    pub(super) fn norm(&mut self, ours: &str, theirs: &str) -> Result<()> {
        let d = self.sizes.dim;
        for (our, their) in [("gamma", "weight"), ("beta", "bias")] {
            let values = self.foreign.take(&format!("{theirs}.{their}"), &[d])?;
            self.put(&format!("{ours}.{our}"), &[d], values);
        }
        Ok(())
    }

    /// The norm after the last block, where the encoder ends in one.
    pub(super) fn last_norm(&mut self, config: &VisionConfig, theirs: &str) -> Result<()> {
        if config.last_norm { self.norm("norm", theirs) } else { Ok(()) }
    }

    /// All blocks.
    pub(super) fn blocks(&mut self, names: &BlockNames) -> Result<()> {
        for layer in 0..self.sizes.layers {
            self.block(names, &format!("{}.{layer}", names.blocks), &format!("blocks.{layer}"))?;
        }
        Ok(())
    }

    fn block(&mut self, names: &BlockNames, theirs: &str, ours: &str) -> Result<()> {
        let Sizes { dim: d, ffn, .. } = self.sizes;
        let [first, second] = names.norms;
        let [scale_out, scale_down] = match names.scales {
            None => [None, None],
            Some(scales) => scales.map(Some),
        };
        self.norm(&format!("{ours}.attention.norm"), &format!("{theirs}.{first}"))?;
        self.qkv(&names.qkv.map(|name| format!("{theirs}.{name}")), &format!("{ours}.attention"))?;
        let under = |name: Option<&str>| name.map(|name| format!("{theirs}.{name}"));
        let map = |name: &str| format!("{theirs}.{name}");
        self.linear(&format!("{ours}.attention.out"), &map(names.out), [d, d], under(scale_out))?;
        self.norm(&format!("{ours}.mlp.norm"), &format!("{theirs}.{second}"))?;
        self.linear(&format!("{ours}.mlp.up"), &map(names.up), [d, ffn], None)?;
        self.linear(&format!("{ours}.mlp.down"), &map(names.down), [ffn, d], under(scale_down))
    }

    /// Three maps `[d, d]` side by side.
    fn qkv(&mut self, theirs: &[String; 3], ours: &str) -> Result<()> {
        let d = self.sizes.dim;
        let (mut rows, mut bias) = (vec![Vec::with_capacity(3 * d); d], Vec::with_capacity(3 * d));
        for name in theirs {
            let weight = self.foreign.matrix(&format!("{name}.weight"), [d, d])?;
            rows.iter_mut().zip(weight.chunks_exact(d)).for_each(|(row, part)| row.extend_from_slice(part));
            bias.extend(self.foreign.take(&format!("{name}.bias"), &[d])?);
        }
        self.put(&format!("{ours}.qkv"), &[d, 3 * d], rows.concat());
        self.put(&format!("{ours}.qkv_bias"), &[3 * d], bias);
        Ok(())
    }

    /// A map `[in, out]` of these sides without a bias.
    pub(super) fn map(&mut self, ours: &str, theirs: &str, sides: [usize; 2]) -> Result<()> {
        let weight = self.foreign.matrix(theirs, sides)?;
        self.put(ours, &sides, weight);
        Ok(())
    }

    /// A learned query `[d]` and the maps of queries, keys and values side by side, as PyTorch's
    /// `MultiheadAttention` has them: the query's own map is done with here.
    pub(super) fn query(&mut self, ours: &str, query: &str, theirs: &str) -> Result<()> {
        let d = self.sizes.dim;
        let weight = self.foreign.matrix(&format!("{theirs}.in_proj_weight"), [d, 3 * d])?;
        let bias = self.foreign.take(&format!("{theirs}.in_proj_bias"), &[3 * d])?;
        let query = self.foreign.take(query, &[d])?;
        let (own, others) = bias.split_at(d);
        // In f64, so that only the last rounding differs from the original, which maps in f32.
        let mut mapped: Vec<f64> = own.iter().copied().map(f64::from).collect();
        let mut kv = Vec::with_capacity(2 * d * d);
        for (value, row) in query.iter().zip(weight.chunks_exact(3 * d)) {
            let (own, others) = row.split_at(d);
            mapped.iter_mut().zip(own).for_each(|(sum, w)| *sum += f64::from(*value) * f64::from(*w));
            kv.extend_from_slice(others);
        }
        self.put(&format!("{ours}.query"), &[1, d], mapped.into_iter().map(|sum| sum as f32).collect());
        self.put(&format!("{ours}.kv"), &[d, 2 * d], kv);
        self.put(&format!("{ours}.kv_bias"), &[2 * d], others.to_vec());
        Ok(())
    }

    /// A map with its bias; each output is multiplied with its factor of `scale`.
    pub(super) fn linear(
        &mut self,
        ours: &str,
        theirs: &str,
        sides: [usize; 2],
        scale: Option<String>,
    ) -> Result<()> {
        let [inputs, outputs] = sides;
        let mut weight = self.foreign.matrix(&format!("{theirs}.weight"), sides)?;
        let mut bias = self.foreign.take(&format!("{theirs}.bias"), &[outputs])?;
        if let Some(scale) = scale {
            let scale = self.foreign.take(&scale, &[outputs])?;
            for row in weight.chunks_exact_mut(outputs).chain([&mut bias[..]]) {
                row.iter_mut().zip(&scale).for_each(|(value, factor)| *value *= factor);
            }
        }
        self.put(ours, &[inputs, outputs], weight);
        self.put(&format!("{ours}_bias"), &[outputs], bias);
        Ok(())
    }

    fn put(&mut self, name: &str, shape: &[usize], values: Vec<f32>) {
        self.found.push((name.to_owned(), shape.to_vec(), values));
    }
}
