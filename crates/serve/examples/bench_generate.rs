//! Our side of `bench/generate`: reads prompts and continues them greedily, once for each line on standard
//! input.
//!
//!     bench_generate DIR init        writes DIR/weights.safetensors
//!     bench_generate DIR f32|bf16    starts from it
//!
//! `DIR/config.json` is the `[model]` table of a recipe. A line is `BATCH PROMPT NEW PICTURES`: sequences,
//! tokens of each prompt, tokens of each answer, pictures spread evenly over each prompt. Token j of prompt i
//! is `(7919 i + 104729 j) % vocab`; value v of picture p of prompt i is `((7919 i + 6151 p + 31 v) % 255) /
//! 127 - 1`.

use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use burn::tensor::Tensor;
use mm1_model::compute::on_pool;
use mm1_model::device::DeviceKind;
use mm1_model::ops::Precision;
use mm1_model::{Cache, Compute, Mm1, Mm1Config, Piece, Placed, weights};
use serde_json::json;

/// As the program itself has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Result<()> {
    mm1_kernels::allocator::give_back_after(mm1_kernels::allocator::ELSEWHERE);
    let mut arguments = std::env::args().skip(1);
    let (Some(dir), Some(mode)) = (arguments.next().map(PathBuf::from), arguments.next()) else {
        bail!("usage: bench_generate DIR init|f32|bf16");
    };
    let config: Mm1Config = serde_json::from_slice(&std::fs::read(dir.join("config.json"))?)?;
    let compute = Compute::new(DeviceKind::Cpu.open()?);
    let (model, file) = (Mm1::new(&config, 0, compute.device())?, dir.join("weights.safetensors"));
    let precision = match mode.as_str() {
        "init" => return weights::save(&model, &file),
        "f32" => Precision::F32,
        "bf16" => Precision::Bf16,
        other => bail!("{other}: need init, f32 or bf16"),
    };
    let compute = compute.with_precision(precision);
    let model = weights::load(model, &file)?.read_only(&compute);
    on_pool(|| serve(&compute, &model))
}

fn serve(compute: &Compute, model: &Mm1) -> Result<()> {
    for line in std::io::stdin().lock().lines() {
        let sizes = line?.split(' ').map(str::parse).collect::<Result<Vec<usize>, _>>()?;
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
            pixels: (0..size).map(|v| value(i, p, v)).collect(),
        };
        let mut placed: Vec<Vec<Placed>> =
            (0..batch).map(|i| (0..pictures).map(|p| placed(i, p)).collect()).collect();
        let mut cache = model.cache(batch);
        let (mut answers, mut seconds) = (vec![Vec::new(); batch], Vec::new());
        for _ in 0..new {
            let started = Instant::now();
            let chosen = extend((compute, model), &unread, &placed, &mut cache)?;
            placed.iter_mut().for_each(Vec::clear);
            seconds.push(started.elapsed().as_secs_f64());
            answers.iter_mut().zip(&chosen).for_each(|(answer, &id)| answer.push(id));
            unread = chosen.into_iter().map(|id| vec![id]).collect();
        }
        let (prefill, decode) = seconds.split_first().context("NEW must be at least 1")?;
        let decode: f64 = decode.iter().sum();
        let mut out = std::io::stdout().lock();
        writeln!(out, "{}", json!({ "prefill": prefill, "decode": decode, "answers": answers }))?;
        out.flush()?;
    }
    Ok(())
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
