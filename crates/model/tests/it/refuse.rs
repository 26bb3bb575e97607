//! Inputs and shapes that do not agree are refused with both sides in the message.

use burn::tensor::Device;
use mm1_model::ops::{Layout, Sight, Span};
use mm1_model::vision::Stem;
use mm1_model::{Input, Mm1};

use crate::case;

#[test]
fn inputs_that_do_not_agree_are_refused() {
    let case = case::read("average-pool");
    let model = case.model(&Device::flex());
    let refuse = |input: Input<'_>, says: &str| {
        let error = format!("{:#}", model.embeds(&case::cpu(), &input).unwrap_err());
        assert!(error.contains(says), "{error}");
    };
    let input = case.input();
    refuse(Input { ids: &case.ids[1..], ..input }, "57 token ids for 2 rows of 29 positions: need 58");
    refuse(
        Input { pixels: &input.pixels[1..], ..input },
        "3599 pixel values for 3 pictures of 20x20x3: need 3600",
    );
    refuse(
        Input { image_slots: &[2, 26, 40], ..input },
        "a picture's 4 image tokens from position 26 of row 0 on leave its 29 positions",
    );
    refuse(Input { image_slots: &[2, 15, 58], ..input }, "from position 0 of row 2 on leave");
    refuse(Input { image_slots: &[2, 5, 40], ..input }, "pictures at flat positions 2 and 5 overlap");
    let spans = |spans: &[(usize, usize, usize)]| Layout {
        spans: spans.iter().map(|&(row, start, len)| Span { row, start, len }).collect(),
        sight: Sight::Causal,
    };
    let layout = spans(&[(0, 20, 10)]);
    refuse(Input { layout: &layout, ..input }, "span of 10 positions from 20 in row 0 leaves 2 rows of 29");
    let layout = spans(&[(2, 0, 1)]);
    refuse(Input { layout: &layout, ..input }, "in row 2 leaves 2 rows");
    let layout = spans(&[(1, 5, 3), (1, 0, 6)]);
    refuse(Input { layout: &layout, ..input }, "spans at 0 (length 6) and 5 of row 1 overlap");
    let layout = Layout { sight: Sight::Prefix(vec![3]), ..spans(&[(0, 0, 9), (1, 0, 9)]) };
    refuse(Input { layout: &layout, ..input }, "1 prefixes for 2 spans");
    let mut ids = case.ids.clone();
    ids[30] = 41;
    refuse(
        Input { ids: &ids, ..input },
        "token id 41 at position 30 is not below the model's vocabulary of 41",
    );

    let error = model.loss(&case::cpu(), &input, &case.targets[1..], case.weights()).unwrap_err();
    assert!(error.to_string().contains("57 targets and 58 weights for 58 positions"), "{error}");
    let mut targets = case.targets.clone();
    targets[3] = 99;
    let error = model.loss(&case::cpu(), &input, &targets, case.weights()).unwrap_err();
    assert!(error.to_string().contains("target id 99 at position 3"), "{error}");
}

#[test]
fn shapes_that_do_not_agree_are_refused() {
    let mut config = case::read("c-abstractor").config;
    config.vision.dim = 18;
    config.vision.stem = Stem::Conv;
    let error = Mm1::new(&config, 0, &Device::flex()).unwrap_err().to_string();
    assert!(error.contains("model.vision.dim = 18 must be a multiple of patch / 2 = 4"), "{error}");
}
