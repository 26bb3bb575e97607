use mm1_model::Mm1;
use mm1_model::clip::Clip;
use mm1_train::{OptimizerConfig, Trainer};

use crate::toy::{batch, config, device, text_only};

fn trainer() -> Trainer<Clip> {
    let vision = Mm1::new(&config(), 7, &device()).unwrap().vision;
    Trainer::new(Clip::new(vision, &config().lm, 7).unwrap(), OptimizerConfig::default()).unwrap()
}

/// Pictures with their captions, without the examples of text.
fn pairs(rows: std::ops::Range<usize>) -> mm1_data::batch::Batch {
    let mut batch = batch(1, rows);
    batch.spans.retain(|s| s.start == 0);
    batch.samples.retain(|s| s.starts_with("picture"));
    batch
}

#[test]
fn pictures_find_their_captions() {
    let mut trainer = trainer();
    let batches = [pairs(0..6)];
    let reports: Vec<_> = (0..60).map(|_| trainer.step(&batches, 3e-3).unwrap()).collect();
    assert_eq!((reports[0].weight, reports[0].images), (6.0, 6));
    assert!((reports[0].loss - 6f64.ln()).abs() < 1.0, "the first loss is {}", reports[0].loss);
    assert!(reports[59].loss < 0.3, "after 60 steps on six pairs the loss is {}", reports[59].loss);
}

#[test]
fn an_example_that_is_no_pair_is_refused() {
    let mut trainer = trainer();
    let error = format!("{:#}", trainer.step(&[text_only(batch(1, 0..2))], 1e-3).unwrap_err());
    assert_eq!(error, "step 0: text/1/0 has 0 pictures; contrast needs one with a caption");
    let mut blank = pairs(0..2);
    blank.weights.fill(0.0);
    let error = format!("{:#}", trainer.step(&[blank], 1e-3).unwrap_err());
    assert_eq!(error, "step 0: picture/1/0 has no caption that is learned; contrast needs one");
}
