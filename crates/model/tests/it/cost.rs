//! What a training step costs; run by hand: `cargo test --release -p mm1-model -- --ignored --nocapture step_of`.

use std::time::Instant;

use burn::tensor::Device;
use mm1_model::ops::{Layout, Span};
use mm1_model::{Input, Mm1, Mm1Config, weights};

/// The quickstart's size: a 64 px scene is 16 image tokens, 16 rows of 256 positions in spans of 32.
#[test]
#[ignore = "a measurement, not a test"]
fn step_of_the_quickstarts_size() {
    let config: Mm1Config = serde_json::from_str(
        r#"{"vision": {"image_size": 64, "patch": 16, "stem": "conv", "dim": 128, "layers": 3, "heads": 4, "ffn": 512},
            "connector": {"kind": "average-pool", "tokens": 16},
            "lm": {"vocab": 1024, "dim": 128, "layers": 3, "heads": 4, "kv_heads": 2, "ffn": 352}}"#,
    )
    .unwrap();
    let device = Device::flex().autodiff();
    for (ops, device) in [("fused", device.clone()), ("composed", device.gradient_checkpointing())] {
        steps(ops, &Mm1::new(&config, 1, &device).unwrap());
    }
}

fn steps(ops: &str, model: &Mm1) {
    let (rows, length) = (16, 256);
    let spans: Vec<Span> = (0..rows * 8).map(|i| Span { row: i / 8, start: i % 8 * 32, len: 32 }).collect();
    let image_slots: Vec<usize> = spans.iter().map(|s| s.row * length + s.start).collect();
    let input = Input {
        rows,
        length,
        ids: &(0..rows * length).map(|i| (i * 7919 % 1024) as u32).collect::<Vec<_>>(),
        layout: &Layout { spans, causal: true },
        pixels: &(0..image_slots.len() * 64 * 64 * 3)
            .map(|i| (i % 17) as f32 / 8.0 - 1.0)
            .collect::<Vec<_>>(),
        image_slots: &image_slots,
    };
    let weights_of: Vec<f32> = (0..rows * length).map(|i| if i % 32 >= 16 { 1.0 } else { 0.0 }).collect();
    let count = weights::counts(model).total();
    for step in 0..8 {
        let start = Instant::now();
        let loss = model.loss(&input, input.ids, &weights_of).unwrap();
        let forward = start.elapsed().as_secs_f64();
        let gradients = loss.backward();
        let whole = start.elapsed().as_secs_f64();
        assert_eq!(weights::gradients(model, &gradients).len(), weights::shapes(model).len());
        println!(
            "{ops} step {step}: {count} parameters, forward {forward:.3} s, forward and backward {whole:.3} s"
        );
    }
}
