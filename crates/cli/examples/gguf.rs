//! What is made of a GGUF file: for comparison with other programs (bench/parity/gguf).
//!
//!     gguf tokenizer FILE FOLDER     writes its tokenizer.json and tokenizer_config.json
//!     gguf ids FILE                  reads a JSON text from each line, prints its ids
//!     gguf export FILE OUT TYPE      imports the model and writes it again, as F32, F16, BF16 or Q8_0
//!     gguf values FILE               prints the bytes of all values as f32, tensor after tensor
//!     gguf load FILE                 imports the model, and prints the seconds
//!     gguf greedy FILE COUNT         reads a JSON list of ids from each line, prints the COUNT that follow

use std::io::{BufRead as _, Write as _};
use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use mm1_data::tokenizer::Tokenizer;
use mm1_model::compute::on_pool;
use mm1_model::device::DeviceKind;
use mm1_model::gguf::{GgufFile, GgufLanguageModel, TensorType, write_language_model};
use mm1_model::import::lm;
use mm1_model::init::Init;
use mm1_model::lm::{Lm, LmConfig};
use mm1_model::{Compute, Layout, Sight, Span};

#[path = "../src/stored_tokenizer.rs"]
mod stored_tokenizer;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match *arguments {
        ["tokenizer", file, folder] => {
            let stored = stored_tokenizer::of_file(Path::new(file))?;
            let write = |name: &str, text: String| std::fs::write(Path::new(folder).join(name), text);
            write("tokenizer.json", stored.to_json()?)?;
            Ok(write("tokenizer_config.json", stored.to_config_json())?)
        }
        ["ids", file] => ids(file),
        ["export", file, out, kind] => export(file, Path::new(out), kind),
        ["values", file] => {
            let mut out = std::io::stdout().lock();
            for tensor in GgufFile::open(Path::new(file))?.tensors.values() {
                let bytes: Vec<u8> = tensor.read()?.into_iter().flat_map(f32::to_le_bytes).collect();
                out.write_all(&bytes)?;
            }
            Ok(())
        }
        ["load", file] => {
            let begin = Instant::now();
            let lm = on_pool(|| model(file, &compute()?))?.0;
            println!("{:.3}", begin.elapsed().as_secs_f64());
            drop(lm);
            Ok(())
        }
        ["greedy", file, count] => greedy(file, count.parse()?),
        _ => bail!("gguf tokenizer FILE FOLDER | export FILE OUT TYPE | load FILE | greedy FILE COUNT"),
    }
}

fn compute() -> Result<Compute> {
    Ok(Compute::new(DeviceKind::default().open()?))
}

fn model(file: &str, compute: &Compute) -> Result<(Lm, LmConfig)> {
    let imported = lm::open(Path::new(file))?;
    let config = imported.config.clone();
    Ok((imported.fit(Lm::new(&Init::new(0, compute.device()), &config), &config)?, config))
}

fn ids(file: &str) -> Result<()> {
    let stored = stored_tokenizer::of_file(Path::new(file))?;
    let tokenizer = Tokenizer::from_json(&stored.to_json()?, None)?;
    for line in std::io::stdin().lock().lines() {
        let text: String = serde_json::from_str(&line?)?;
        println!("{}", serde_json::to_string(&tokenizer.encode(&text))?);
    }
    Ok(())
}

fn export(file: &str, out: &Path, kind: &str) -> Result<()> {
    let matrices = TensorType::ALL.into_iter().find(|known| known.name() == kind).context("no such type")?;
    let tokenizer = stored_tokenizer::for_file(stored_tokenizer::of_file(Path::new(file))?);
    let (lm, config) = on_pool(|| model(file, &compute()?))?;
    let model = GgufLanguageModel {
        lm: &lm,
        config: &config,
        tokenizer: &tokenizer,
        name: "export",
        context: 2048,
        matrices,
    };
    on_pool(|| write_language_model(out, &model))
}

fn greedy(file: &str, count: usize) -> Result<()> {
    let compute = compute()?;
    let (lm, _) = on_pool(|| model(file, &compute))?;
    for line in std::io::stdin().lock().lines() {
        let mut ids: Vec<u32> = serde_json::from_str(&line?)?;
        let given = ids.len();
        for _ in 0..count {
            ids.push(on_pool(|| next(&compute, &lm, &ids))?);
        }
        println!("{}", serde_json::to_string(&ids[given..])?);
    }
    Ok(())
}

/// The likeliest token after these.
fn next(compute: &Compute, lm: &Lm, ids: &[u32]) -> Result<u32> {
    let len = ids.len();
    let layout = Layout { spans: vec![Span { row: 0, start: 0, len }], sight: Sight::Causal };
    let hidden = lm.forward(compute, lm.embed(compute, ids, 1, len), &layout);
    let logits = lm.logits(compute, hidden.narrow(1, len - 1, 1)).into_data();
    let logits: Vec<f32> = logits.iter::<f32>().collect();
    let best = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).context("no logits")?;
    Ok(best.0 as u32)
}
