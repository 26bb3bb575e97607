//! Adapters in the format of Hugging Face's peft: `adapter_model.safetensors` and `adapter_config.json`, of a
//! decoder alone (Llama, Mistral, Qwen2, Qwen3) or of a whole exported model.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};

use crate::adapter::{Adapter, AdapterConfig, AdapterTarget};
use crate::export::ExportForm;
use crate::import::lm_names::{HUGGING_FACE, LmNames};
use crate::lm::Lm;
use crate::mlp::Block;
use crate::mm1::Mm1;
use crate::weights;

/// The names of peft's files.
const WEIGHTS: &str = "adapter_model.safetensors";
const CONFIG: &str = "adapter_config.json";

/// Writes the adapters of `lm`, which have the settings `config`, into the folder `folder`. `base` is the
/// Hugging Face folder or repository of the model that they stand beside; peft looks for it there.
///
/// # Errors
/// If `lm` has no adapters; if a file can't be written.
pub fn save(lm: &Lm, config: &AdapterConfig, base: &str, folder: &Path) -> Result<()> {
    let adapters = of_decoder(lm, &HUGGING_FACE);
    // peft finds these names at the ends of others.
    let short = |target: &AdapterTarget| {
        let path = map_of_decoder(&HUGGING_FACE, *target);
        path.rsplit('.').next().unwrap_or(path)
    };
    let targets = config.targets.iter().map(short).collect::<Vec<_>>();
    write(&adapters, &settings(config, base, json!(targets)), folder)
}

/// The same of the adapters of a whole `model` beside an export in `form`; `folder` is read again then.
///
/// # Errors
/// As [`save`]; if the files say something else than the adapters.
pub fn save_whole(
    model: &Mm1,
    config: &AdapterConfig,
    form: ExportForm,
    base: &str,
    folder: &Path,
) -> Result<()> {
    let names = form.names(&model.config().vision)?;
    let mut adapters = of_decoder(&model.lm, names.lm.names);
    let block = names.vision.block;
    for (layer, (target, adapter)) in of_blocks(&model.vision.blocks) {
        let map = match target {
            AdapterTarget::Q => block.qkv[0],
            AdapterTarget::K => block.qkv[1],
            AdapterTarget::V => block.qkv[2],
            AdapterTarget::Out => block.out,
            AdapterTarget::Gate | AdapterTarget::Up => block.up,
            AdapterTarget::Down => block.down,
        };
        adapters.push(PlacedAdapter {
            module: format!("{}{}.{layer}.{map}", names.vision.prefix, block.blocks),
            adapter,
        });
    }
    // A pattern: the same map may have another name in each part, or no adapter in one of them.
    let mut modules: Vec<String> = adapters.iter().map(|placed| pattern(&placed.module)).collect();
    modules.sort_unstable();
    modules.dedup();
    write(&adapters, &settings(config, base, json!(modules.join("|"))), folder)?;
    check(&adapters, folder)
}

/// The names of a module in all layers, as a regular expression.
fn pattern(module: &str) -> String {
    let is_number = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let parts = module.split('.').map(|part| if is_number(part) { r"\d+" } else { part });
    parts.collect::<Vec<_>>().join(r"\.")
}

fn write(adapters: &[PlacedAdapter<'_>], settings: &Value, folder: &Path) -> Result<()> {
    ensure!(!adapters.is_empty(), "the model has no adapters");
    let factors: Vec<Factor> = adapters.iter().flat_map(PlacedAdapter::factors).collect();
    let bytes = |factor: &Factor| factor.values.iter().copied().flat_map(f32::to_le_bytes).collect();
    let stored: Vec<Vec<u8>> = factors.iter().map(bytes).collect();
    let mut views = Vec::new();
    for (Factor { name, shape, .. }, bytes) in factors.iter().zip(&stored) {
        views.push((name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes)?));
    }
    fs::create_dir_all(folder).with_context(|| format!("can't make {}", folder.display()))?;
    let file = folder.join(WEIGHTS);
    // Hugging Face's readers ask the header which program's layout it is.
    let about = [("format".to_owned(), "pt".to_owned())].into();
    safetensors::serialize_to_file(views, Some(about), &file)
        .with_context(|| format!("can't write {}", file.display()))?;
    let file = folder.join(CONFIG);
    fs::write(&file, serde_json::to_vec_pretty(settings)?)
        .with_context(|| format!("can't write {}", file.display()))
}

/// Reads the file in `folder` again and compares it, bit for bit.
fn check(adapters: &[PlacedAdapter<'_>], folder: &Path) -> Result<()> {
    let file = folder.join(WEIGHTS);
    let read = fs::read(&file).with_context(|| file.display().to_string())?;
    let mut read = weights::decode(&read).with_context(|| file.display().to_string())?;
    let mut written: Vec<Factor> = adapters.iter().flat_map(PlacedAdapter::factors).collect();
    read.sort_by(|a, b| a.0.cmp(&b.0));
    written.sort_by(|a, b| a.name.cmp(&b.name));
    let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    let same = |((name, shape, values), factor): (&weights::Named, &Factor)| {
        (name, shape, bits(values)) == (&factor.name, &factor.shape, bits(&factor.values))
    };
    ensure!(
        read.len() == written.len() && read.iter().zip(&written).all(same),
        "{}: it has other adapters than the model",
        file.display()
    );
    Ok(())
}

/// `adapter_config.json`.
fn settings(config: &AdapterConfig, base: &str, targets: Value) -> Value {
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

/// An adapter and the module of transformers that it stands beside.
struct PlacedAdapter<'a> {
    module: String,
    adapter: &'a Adapter,
}

/// The adapters of a decoder.
fn of_decoder<'a>(lm: &'a Lm, names: &LmNames) -> Vec<PlacedAdapter<'a>> {
    let placed = |(layer, (target, adapter))| {
        let module = names.module(layer, map_of_decoder(names, target));
        PlacedAdapter { module, adapter }
    };
    of_blocks(&lm.blocks).map(placed).collect()
}

/// What a decoder's block calls this map.
fn map_of_decoder(names: &LmNames, target: AdapterTarget) -> &'static str {
    match target {
        AdapterTarget::Q => names.qkv[0],
        AdapterTarget::K => names.qkv[1],
        AdapterTarget::V => names.qkv[2],
        AdapterTarget::Out => names.out,
        AdapterTarget::Gate => names.gate_up[0],
        AdapterTarget::Up => names.gate_up[1],
        AdapterTarget::Down => names.down,
    }
}

/// The adapters of all blocks, with the block's number.
fn of_blocks(blocks: &[Block]) -> impl Iterator<Item = (usize, (AdapterTarget, &Adapter))> {
    blocks.iter().enumerate().flat_map(|(layer, block)| {
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
        adapters.into_iter().filter_map(move |(target, adapter)| Some((layer, (target, adapter.as_ref()?))))
    })
}

/// One matrix of an adapter as peft has it.
struct Factor {
    name: String,
    /// Outputs and inputs.
    shape: Vec<usize>,
    values: Vec<f32>,
}

impl PlacedAdapter<'_> {
    fn factors(&self) -> [Factor; 2] {
        let Self { module, adapter } = self;
        [("lora_A", &adapter.lora_a), ("lora_B", &adapter.lora_b)].map(|(factor, parameter)| {
            // Ours are [in, out], those of PyTorch's linear maps [out, in].
            let turned = parameter.val().transpose();
            Factor {
                name: format!("base_model.model.{module}.{factor}.weight"),
                shape: turned.dims().to_vec(),
                values: turned.to_data().iter::<f32>().collect(),
            }
        })
    }
}
