//! Our side of `bench/parity/lora`: adapters of a language model of Hugging Face, written for peft.
//!
//!     lora MODEL OUT ADAPTER POSITIONS
//!
//! gives the model in the folder MODEL the adapters of ADAPTER, the `adapter` table of a recipe as JSON, none
//! of whose values is 0, and writes them to the folder OUT in peft's format. `OUT/logits.safetensors` has
//! their `logits` `[1, t, v]` of the ids `i * 7 % v` of so many POSITIONS.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use burn::tensor::{Device, Tensor};
use mm1_model::adapter::AdapterConfig;
use mm1_model::import::lm;
use mm1_model::weights::Named;
use mm1_model::{Compute, Layout, Mm1, Mm1Config, Sight, adapted, peft, weights};
use safetensors::tensor::{Dtype, TensorView};
use serde_json::json;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, out, adapter, positions] = &arguments[..] else {
        bail!("usage: lora MODEL OUT ADAPTER POSITIONS")
    };
    let adapter: AdapterConfig = serde_json::from_str(adapter).context("ADAPTER")?;
    adapter.check()?;
    let network = network(Path::new(model), &adapter)?;
    peft::save(&network.lm, &adapter, model, Path::new(out))?;
    let logits = logits(&network, positions.parse().context("POSITIONS")?);
    let shape = logits.dims().to_vec();
    let bytes: Vec<u8> = logits.into_data().iter::<f32>().flat_map(f32::to_le_bytes).collect();
    let view = TensorView::new(Dtype::F32, shape, &bytes)?;
    safetensors::serialize_to_file([("logits", view)], None, &Path::new(out).join("logits.safetensors"))?;
    Ok(())
}

/// The language model of the folder with its adapters, beside a small encoder that is not asked.
fn network(folder: &Path, adapter: &AdapterConfig) -> Result<Mm1> {
    let imported = lm::open(folder)?;
    let config: Mm1Config = serde_json::from_value(json!({
        "vision": { "image_size": 4, "patch": 2, "dim": 4, "layers": 1, "heads": 1, "ffn": 4 },
        "connector": { "kind": "average-pool", "tokens": 1 },
        "lm": imported.config,
    }))?;
    let mut model = Mm1::new(&config, 0, &Device::flex())?;
    model.lm = imported.fit(model.lm, &config.lm)?;
    let model = adapted::with_adapters(model, adapter, 1);
    let of = |(path, shape, mut values): Named| {
        if path.ends_with("lora_b") {
            let numbers = (0..).map(|i: usize| ((i * 7919 + path.len()) % 2003) as f32 / 1001.5 - 1.0);
            values.iter_mut().zip(numbers).for_each(|(value, number)| *value = 0.3 * number);
        }
        (path, shape, values)
    };
    let given = weights::parameters(&model).into_iter().map(of).collect();
    weights::assign(model, given)
}

fn logits(model: &Mm1, positions: usize) -> Tensor<3> {
    let compute = Compute::new(Device::flex());
    let vocab = model.config().lm.vocab() as u32;
    let ids: Vec<u32> = (0..positions as u32).map(|i| i * 7 % vocab).collect();
    let embeds = model.lm.embed(&compute, &ids, 1, positions);
    let hidden = model.lm.forward(&compute, embeds, &Layout::full(1, positions, Sight::Causal));
    model.lm.logits(&compute, hidden)
}
