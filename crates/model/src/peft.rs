//! A decoder's adapters in the format of Hugging Face's peft: `adapter_model.safetensors` and
//! `adapter_config.json`, for Llama, Mistral, Qwen2 and Qwen3.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use safetensors::tensor::{Dtype, TensorView};
use serde_json::json;

use crate::adapter::{Adapter, AdapterConfig, AdapterTarget};
use crate::lm::Lm;
use crate::mlp::Block;

/// The names of peft's files.
const WEIGHTS: &str = "adapter_model.safetensors";
const CONFIG: &str = "adapter_config.json";

/// Writes the adapters of `lm`, which have the settings `config`, into the folder `folder`. `base` is the
/// Hugging Face folder or repository of the model that they stand beside; peft looks for it there.
///
/// # Errors
/// If `lm` has no adapters; if a file can't be written.
pub fn save(lm: &Lm, config: &AdapterConfig, base: &str, folder: &Path) -> Result<()> {
    let blocks = lm.blocks.iter().enumerate();
    let tensors: Vec<Factor> = blocks.flat_map(|(layer, block)| of_block(block, layer)).collect();
    ensure!(!tensors.is_empty(), "the language model has no adapters");
    let mut views = Vec::new();
    for Factor { name, shape, bytes } in &tensors {
        views.push((name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes)?));
    }
    fs::create_dir_all(folder).with_context(|| format!("can't make {}", folder.display()))?;
    let file = folder.join(WEIGHTS);
    // Hugging Face's readers ask the header which program's layout it is.
    let about = [("format".to_owned(), "pt".to_owned())].into();
    safetensors::serialize_to_file(views, Some(about), &file)
        .with_context(|| format!("can't write {}", file.display()))?;
    let file = folder.join(CONFIG);
    let text = serde_json::to_vec_pretty(&settings(config, base))?;
    fs::write(&file, text).with_context(|| format!("can't write {}", file.display()))
}

/// `adapter_config.json`.
fn settings(config: &AdapterConfig, base: &str) -> serde_json::Value {
    let targets: Vec<&str> = config.targets.iter().map(|&target| module(target).1).collect();
    json!({
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": config.rank,
        "lora_alpha": config.alpha,
        "lora_dropout": config.dropout,
        "target_modules": targets,
        "bias": "none",
        "fan_in_fan_out": false,
        "inference_mode": true,
    })
}

/// The part of a Llama's block with this map, and the map's name there.
fn module(target: AdapterTarget) -> (&'static str, &'static str) {
    match target {
        AdapterTarget::Q => ("self_attn", "q_proj"),
        AdapterTarget::K => ("self_attn", "k_proj"),
        AdapterTarget::V => ("self_attn", "v_proj"),
        AdapterTarget::Out => ("self_attn", "o_proj"),
        AdapterTarget::Gate => ("mlp", "gate_proj"),
        AdapterTarget::Up => ("mlp", "up_proj"),
        AdapterTarget::Down => ("mlp", "down_proj"),
    }
}

/// One matrix of an adapter as peft has it.
struct Factor {
    name: String,
    /// Outputs and inputs.
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

/// The adapters of the block number `layer`.
fn of_block(block: &Block, layer: usize) -> Vec<Factor> {
    let (attention, mlp) = (&block.attention.adapter, &block.mlp.adapter);
    let adapters = [
        (AdapterTarget::Q, &attention.q),
        (AdapterTarget::K, &attention.k),
        (AdapterTarget::V, &attention.v),
        (AdapterTarget::Out, &attention.out),
        (AdapterTarget::Gate, &mlp.gate),
        (AdapterTarget::Up, &mlp.up),
        (AdapterTarget::Down, &mlp.down),
    ];
    let there = adapters.into_iter().filter_map(|(target, adapter)| Some((target, adapter.as_ref()?)));
    there.flat_map(|(target, adapter)| of_adapter(adapter, target, layer)).collect()
}

fn of_adapter(adapter: &Adapter, target: AdapterTarget, layer: usize) -> [Factor; 2] {
    let (part, map) = module(target);
    [("lora_A", &adapter.lora_a), ("lora_B", &adapter.lora_b)].map(|(factor, parameter)| {
        // Ours are [in, out], those of PyTorch's linear maps [out, in].
        let turned = parameter.val().transpose();
        let values = turned.to_data();
        Factor {
            name: format!("base_model.model.model.layers.{layer}.{part}.{map}.{factor}.weight"),
            shape: turned.dims().to_vec(),
            bytes: values.iter::<f32>().flat_map(f32::to_le_bytes).collect(),
        }
    })
}
