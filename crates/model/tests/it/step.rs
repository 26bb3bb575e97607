//! What a training step over packed pictures costs; run by hand:
//! `cargo test --release -p mm1-model -- --ignored --nocapture packed_pictures`. `MM1_BENCH=bf16` computes products in
//! bfloat16, `MM1_BENCH=composed` the engine's operations (with its checkpointing, which is how they are reached).

use std::time::Instant;

use burn::tensor::Device;
use mm1_model::ops::{Layout, Precision, Span, with_precision};
use mm1_model::{Input, Mm1, Mm1Config};

const ROWS: usize = 32;
const LENGTH: usize = 256;

/// Rows of examples of 25 to 60 positions, a picture in most and two in some; the text behind them is learned.
fn examples() -> (Vec<Span>, Vec<usize>, Vec<f32>) {
    let (mut spans, mut slots, mut weights) = (Vec::new(), Vec::new(), vec![0.0; ROWS * LENGTH]);
    for row in 0..ROWS {
        let (mut start, mut number) = (0, row);
        loop {
            let len = 25 + number * 13 % 36;
            if start + len > LENGTH {
                break;
            }
            let pictures = if len > 40 { 2 } else { 1 };
            slots.extend((0..pictures).map(|picture| row * LENGTH + start + 1 + picture * 16));
            weights[row * LENGTH + start + pictures * 16 + 1..row * LENGTH + start + len].fill(1.0);
            spans.push(Span { row, start, len });
            (start, number) = (start + len, number + 1);
        }
    }
    (spans, slots, weights)
}

#[test]
#[ignore = "a measurement, not a test"]
fn packed_pictures() {
    let config: Mm1Config = serde_json::from_str(
        r#"{"vision": {"image_size": 64, "patch": 16, "stem": "conv", "dim": 128, "layers": 3, "heads": 4, "ffn": 512},
            "connector": {"kind": "c-abstractor", "tokens": 16, "dim": 128, "depth": 1},
            "lm": {"vocab": 1024, "dim": 128, "layers": 3, "heads": 4, "kv_heads": 2, "ffn": 352}}"#,
    )
    .unwrap();
    let mode = std::env::var("MM1_BENCH").unwrap_or_default();
    let precision = if mode == "bf16" { Precision::Bf16 } else { Precision::F32 };
    let device = Device::flex().autodiff();
    let device = if mode == "composed" { device.gradient_checkpointing() } else { device };
    let model = Mm1::new(&config, 1, &device).unwrap();
    let (spans, slots, weights) = examples();
    println!("{} examples, {} pictures", spans.len(), slots.len());
    let input = Input {
        rows: ROWS,
        length: LENGTH,
        ids: &(0..ROWS * LENGTH).map(|i| (i * 7919 % 1024) as u32).collect::<Vec<_>>(),
        layout: &Layout { spans, causal: true },
        pixels: &(0..slots.len() * 64 * 64 * 3).map(|i| (i % 17) as f32 / 8.0 - 1.0).collect::<Vec<_>>(),
        image_slots: &slots,
    };
    let mut best = f64::INFINITY;
    for step in 0..std::env::var("MM1_STEPS").map_or(8, |steps| steps.parse().unwrap()) {
        let start = Instant::now();
        let loss = with_precision(precision, || model.loss(&input, input.ids, &weights)).unwrap();
        let forward = start.elapsed().as_secs_f64();
        drop(loss.backward());
        let whole = start.elapsed().as_secs_f64();
        best = best.min(whole);
        println!("step {step}: forward {forward:.3} s, forward and backward {whole:.3} s, best {best:.3} s");
    }
}
