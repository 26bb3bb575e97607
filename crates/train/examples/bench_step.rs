//! Our side of `bench/train`: takes one step for each line on standard input and answers it with one line of
//! JSON.
//!
//!     bench_step DIR init               writes DIR/weights.safetensors
//!     bench_step DIR f32|bf16 [ROWS]    starts from it; `f32-recompute`: with activation checkpointing,
//!                                       `f32-8bit`: with moments in 8 bits, `f32-recompute-8bit`: with
//!                                       both, and the same of bf16; with `-cuda` behind all that: on a
//!                                       GPU, or another device by its name; ROWS: rows in a micro-batch,
//!                                       of which a step has as many as its batch needs
//!
//! `DIR/config.json` is the `[model]` table of a recipe; step i is on the batch in `DIR/i.safetensors`.

use std::io::{BufRead, Write};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use mm1_data::batch::{Batch, BatchExample};
use mm1_kernels::allocator::{ELSEWHERE, TrainingMemory, give_back_after};
use mm1_model::compute::on_pool;
use mm1_model::device::DeviceName;
use mm1_model::ops::Precision;
use mm1_model::{Compute, Mm1, Mm1Config, weights};
use mm1_train::{MomentFormat, OptimizerConfig, Trainer};
use safetensors::SafeTensors;
use serde_json::json;

/// As the program itself has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The learning rate of both sides.
const LR: f64 = 1e-3;

fn main() -> Result<()> {
    give_back_after(ELSEWHERE);
    let mut arguments = std::env::args().skip(1);
    let (Some(dir), Some(mode)) = (arguments.next().map(PathBuf::from), arguments.next()) else {
        bail!("usage: bench_step DIR init|f32|bf16[-recompute][-8bit][-DEVICE] [ROWS]");
    };
    let config: Mm1Config = serde_json::from_slice(&std::fs::read(dir.join("config.json"))?)?;
    let named = mode.rsplit_once('-').and_then(|(mode, device)| Some((mode, device.parse().ok()?)));
    let (mode, device): (&str, DeviceName) = named.unwrap_or((&mode, DeviceName::default()));
    let compute = Compute::new(device.open()?);
    let (model, file) = (Mm1::new(&config, 0, &compute.training_device())?, dir.join("weights.safetensors"));
    let (mode, moments) = match mode.strip_suffix("-8bit") {
        Some(mode) => (mode, MomentFormat::EightBit),
        None => (mode, MomentFormat::F32),
    };
    let (mode, recompute) = match mode.strip_suffix("-recompute") {
        Some(mode) => (mode, true),
        None => (mode, false),
    };
    let precision = match mode {
        "init" => return weights::save(&model, &file),
        "f32" => Precision::F32,
        "bf16" => Precision::Bf16,
        other => bail!("{other}: need init, f32 or bf16"),
    };
    let model = weights::load(model, &file)?;
    let rows = arguments.next().map_or(Ok(NonZeroUsize::MAX), |rows| rows.parse()).context("ROWS")?.get();
    let optimizer = OptimizerConfig { moments, ..OptimizerConfig::default() };
    let compute = compute.with_precision(precision).with_checkpointing(recompute);
    let _memory = TrainingMemory::new();
    on_pool(|| serve(&dir, Trainer::new(&compute, model, optimizer)?, rows))
}

fn serve(dir: &Path, mut trainer: Trainer<Mm1>, rows: usize) -> Result<()> {
    let image_size = trainer.model().config().vision.image_size;
    for _ in std::io::stdin().lock().lines() {
        let batch = read(&dir.join(format!("{}.safetensors", trainer.steps_done())), image_size)?;
        let batches: Vec<_> =
            (0..batch.rows).step_by(rows.min(batch.rows)).map(|first| part(&batch, first, rows)).collect();
        drop(batch);
        let started = Instant::now();
        let report = trainer.step(&batches, LR)?;
        trainer.model().device().sync()?;
        let seconds = started.elapsed().as_secs_f64();
        let mut out = std::io::stdout().lock();
        writeln!(
            out,
            "{}",
            json!({ "loss": report.loss, "grad_norm": report.grad_norm, "seconds": seconds })
        )?;
        out.flush()?;
    }
    Ok(())
}

/// Rows of a batch from `first` on, at most `rows`, with their pictures.
fn part(batch: &Batch, first: usize, rows: usize) -> Batch {
    let (length, end) = (batch.length, first.saturating_add(rows).min(batch.rows));
    let positions = first * length..end * length;
    let images: Vec<_> =
        (0..batch.image_slots.len()).filter(|&i| positions.contains(&batch.image_slots[i])).collect();
    let picture = batch.pixels.len() / batch.image_slots.len().max(1);
    let of_rows = |example: &&BatchExample| (first..end).contains(&example.row);
    Batch {
        rows: end - first,
        length,
        ids: batch.ids[positions.clone()].to_vec(),
        targets: batch.targets[positions.clone()].to_vec(),
        weights: batch.weights[positions.clone()].to_vec(),
        examples: batch
            .examples
            .iter()
            .filter(of_rows)
            .map(|example| BatchExample { row: example.row - first, ..example.clone() })
            .collect(),
        pixels: images.iter().flat_map(|&i| &batch.pixels[i * picture..][..picture]).copied().collect(),
        image_size: batch.image_size,
        image_slots: images.iter().map(|&i| batch.image_slots[i] - positions.start).collect(),
        ..Batch::default()
    }
}

fn read(path: &Path, image_size: usize) -> Result<Batch> {
    let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
    let file = SafeTensors::deserialize(&bytes)?;
    let integers = |name: &str| -> Result<Vec<usize>> {
        let values = file.tensor(name)?.data().as_chunks().0.iter().map(|&b| i64::from_le_bytes(b) as usize);
        Ok(values.collect())
    };
    let ids =
        |name: &str| -> Result<Vec<u32>> { Ok(integers(name)?.into_iter().map(|i| i as u32).collect()) };
    let floats = |name: &str| -> Result<Vec<f32>> {
        Ok(file.tensor(name)?.data().as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect())
    };
    let spans = integers("spans")?;
    Ok(Batch {
        rows: file.tensor("ids")?.shape()[0],
        length: file.tensor("ids")?.shape()[1],
        ids: ids("ids")?,
        targets: ids("targets")?,
        weights: floats("weights")?,
        examples: spans
            .as_chunks()
            .0
            .iter()
            .map(|&[row, start, len]| BatchExample { row, start, len, ..BatchExample::default() })
            .collect(),
        pixels: floats("pixels")?,
        image_size,
        image_slots: integers("image_slots")?,
        ..Batch::default()
    })
}
