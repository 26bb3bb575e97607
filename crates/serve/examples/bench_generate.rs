//! Our side of `bench/generate`: reads prompts and continues them greedily, once for each line on standard
//! input.
//!
//!     bench_generate DIR init          writes DIR/weights.safetensors
//!     bench_generate DIR f32|bf16      starts from it
//!     bench_generate MODEL f32|bf16|q8_0    starts from a language model in GGUF
//!
//! `DIR/config.json` is the `[model]` table of a recipe. A line is `BATCH PROMPT NEW PICTURES`: sequences,
//! tokens of each prompt, tokens of each answer, pictures spread evenly over each prompt. Token j of prompt i
//! is `(7919 i + 104729 j) % vocab`; value v of picture p of prompt i is `((7919 i + 6151 p + 31 v) % 255) /
//! 127 - 1`.
//! A line `score ID ID ..` gives the nats of each of these tokens after those before it, together.

use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use burn::tensor::Tensor;
use mm1_model::compute::on_pool;
use mm1_model::device::DeviceKind;
use mm1_model::import::lm;
use mm1_model::init::Init;
use mm1_model::lm::Lm;
use mm1_model::ops::{Precision, WeightFormat};
use mm1_model::{Cache, Compute, Mm1, Mm1Config, PictureContent, Piece, Placed, weights};
use serde_json::json;

/// As the program itself has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Result<()> {
    mm1_kernels::allocator::give_back_after(mm1_kernels::allocator::ELSEWHERE);
    let mut arguments = std::env::args().skip(1);
    let (Some(path), Some(mode)) = (arguments.next().map(PathBuf::from), arguments.next()) else {
        bail!("usage: bench_generate DIR|MODEL init|f32|bf16|q8_0");
    };
    let compute = Compute::new(DeviceKind::Cpu.open()?);
    let (precision, format) = match mode.as_str() {
        "init" => return weights::save(&new(&path, &compute)?, &path.join(WEIGHTS)),
        "f32" => (Precision::F32, WeightFormat::Precision),
        "bf16" => (Precision::Bf16, WeightFormat::Precision),
        "q8_0" => (Precision::F32, WeightFormat::Q8_0),
        other => bail!("{other}: need init, f32, bf16 or q8_0"),
    };
    let model = match path.extension() {
        Some(_) => imported(&path, &compute)?,
        None => weights::load(new(&path, &compute)?, &path.join(WEIGHTS))?,
    };
    let compute = compute.with_precision(precision).with_weight_format(format);
    let model = model.read_only(&compute);
    on_pool(|| serve(&compute, &model))
}

/// The weights beside `config.json`.
const WEIGHTS: &str = "weights.safetensors";

/// A network of the shape in `dir`, with random weights.
fn new(dir: &Path, compute: &Compute) -> Result<Mm1> {
    let config: Mm1Config = serde_json::from_slice(&std::fs::read(dir.join("config.json"))?)?;
    Mm1::new(&config, 0, compute.device())
}

/// The language model of a file, beside the smallest encoder.
fn imported(file: &Path, compute: &Compute) -> Result<Mm1> {
    let found = lm::open(file)?;
    let config: Mm1Config = serde_json::from_value(json!({
        "vision": { "image_size": 8, "patch": 8, "dim": 8, "layers": 1, "heads": 1, "ffn": 8 },
        "connector": { "kind": "average-pool", "tokens": 1 },
        "lm": &found.config,
    }))?;
    let mut model = Mm1::new(&config, 0, compute.device())?;
    model.lm = found.fit(Lm::new(&Init::new(0, compute.device()), &config.lm), &config.lm)?;
    Ok(model)
}

fn serve(compute: &Compute, model: &Mm1) -> Result<()> {
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        if let Some(ids) = line.strip_prefix("score ") {
            let ids = ids.split(' ').map(str::parse).collect::<Result<Vec<u32>, _>>()?;
            println!("{}", json!({ "nats": nats((compute, model), &ids)?, "tokens": ids.len() - 1 }));
            continue;
        }
        let sizes = line.split(' ').map(str::parse).collect::<Result<Vec<usize>, _>>()?;
        let &[batch, prompt, new, pictures] = &sizes[..] else {
            bail!("a line is BATCH PROMPT NEW PICTURES")
        };
        let vocab = model.config().lm.vocab();
        let mut unread: Vec<Vec<u32>> = (0..batch)
            .map(|i| (0..prompt).map(|j| ((7919 * i + 104_729 * j) % vocab) as u32).collect())
            .collect();
        let side = model.config().vision.image_size;
        let size = 3 * side.pow(2);
        let value =
            |i: usize, p: usize, v: usize| ((7919 * i + 6151 * p + 31 * v) % 255) as f32 / 127.0 - 1.0;
        let placed = |i: usize, p: usize| Placed {
            slot: p * prompt / pictures,
            size: [side; 2],
            content: PictureContent::Pixels((0..size).map(|v| value(i, p, v)).collect()),
        };
        let mut placed: Vec<Vec<Placed>> =
            (0..batch).map(|i| (0..pictures).map(|p| placed(i, p)).collect()).collect();
        let mut cache = model.cache(batch);
        let (mut answers, mut seconds) = (vec![Vec::new(); batch], Vec::new());
        let mut processor = vec![processor_seconds()?];
        for _ in 0..new {
            let started = Instant::now();
            let chosen = extend((compute, model), &unread, &placed, &mut cache)?;
            placed.iter_mut().for_each(Vec::clear);
            seconds.push(started.elapsed().as_secs_f64());
            processor.push(processor_seconds()?);
            answers.iter_mut().zip(&chosen).for_each(|(answer, &id)| answer.push(id));
            unread = chosen.into_iter().map(|id| vec![id]).collect();
        }
        let (prefill, decode) = seconds.split_first().context("NEW must be at least 1")?;
        let decode: f64 = decode.iter().sum();
        let processor = [processor[1] - processor[0], processor[new] - processor[1]];
        let answer =
            json!({ "prefill": prefill, "decode": decode, "processor": processor, "answers": answers });
        let mut out = std::io::stdout().lock();
        writeln!(out, "{answer}")?;
        out.flush()?;
    }
    Ok(())
}

/// `-log p` of each token but the first, together.
fn nats((compute, model): (&Compute, &Mm1), ids: &[u32]) -> Result<f64> {
    let (piece, mut cache) = (Piece { sequence: 0, ids, pictures: &[] }, model.cache(1));
    let logits = model.extend_all(compute, &[piece], &mut cache)?.into_data();
    let logits: Vec<f64> = logits.iter::<f64>().collect();
    let of_token = |(logits, &id): (&[f64], &u32)| {
        logits.iter().map(|x| (x - logits[id as usize]).exp()).sum::<f64>().ln()
    };
    Ok(logits.chunks_exact(model.config().lm.vocab()).zip(&ids[1..]).map(of_token).sum())
}

/// Seconds that the threads of this process have computed.
fn processor_seconds() -> Result<f64> {
    let mut nanoseconds = 0;
    for thread in std::fs::read_dir("/proc/self/task")? {
        let of_thread = std::fs::read_to_string(thread?.path().join("schedstat"))?;
        nanoseconds += of_thread.split(' ').next().context("schedstat is empty")?.parse::<u64>()?;
    }
    Ok(nanoseconds as f64 * 1e-9)
}

/// Each sequence reads what it has not read; gives the most likely next token of each.
fn extend(
    (compute, model): (&Compute, &Mm1),
    unread: &[Vec<u32>],
    pictures: &[Vec<Placed>],
    cache: &mut Cache,
) -> Result<Vec<u32>> {
    let piece = |(sequence, ids)| Piece { sequence, ids, pictures: &pictures[sequence] };
    let pieces: Vec<_> = unread.iter().map(Vec::as_slice).enumerate().map(piece).collect();
    let logits: Tensor<2> = model.extend(compute, &pieces, cache)?;
    Ok(logits.argmax(1).into_data().iter::<i64>().map(|id| id as u32).collect())
}
