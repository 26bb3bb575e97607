//! Examples packed into one row do not see one another.

use burn::tensor::Device;
use mm1_model::ops::{Layout, Sight, Span};
use mm1_model::{Input, Mm1};

use crate::case::{self, Case, values};

/// Logits of the positions of `span`.
fn logits(model: &Mm1, case: &Case, input: &Input<'_>, span: Span) -> Vec<f32> {
    let all = values(case::logits(&case::cpu(), model, input));
    let v = case.config.lm.vocab();
    all[(span.row * case.length + span.start) * v..][..span.len * v].to_vec()
}

#[test]
fn a_changed_example_leaves_its_neighbours_bit_equal() {
    let device = Device::flex();
    for name in case::NAMES {
        let case = case::read(name);
        let model = case.model(&device);
        let changed = case.layout.spans[0];
        // Every token of the first example, and its picture.
        let mut ids = case.ids.clone();
        ids[..changed.len].iter_mut().for_each(|id| *id = (*id + 7) % case.config.lm.vocab() as u32);
        let mut pixels = case.values("input/pixels").to_vec();
        let picture = pixels.len() / case.image_slots.len();
        pixels[..picture].iter_mut().for_each(|p| *p = -*p);
        let other = Input { ids: &ids, pixels: &pixels, ..case.input() };
        for &span in &case.layout.spans[1..] {
            let before = logits(&model, &case, &case.input(), span);
            assert!(before == logits(&model, &case, &other, span), "{name}: {span:?} changed");
        }
        assert_ne!(logits(&model, &case, &case.input(), changed), logits(&model, &case, &other, changed));
    }
}

/// Packing is only a way to lay examples out: alone in a row, each has the logits that it has among others.
#[test]
fn an_example_alone_computes_the_same() {
    let device = Device::flex();
    let case = case::read("average-pool");
    let model = case.model(&device);
    let span = case.layout.spans[4];
    let start = span.row * case.length + span.start;
    let picture = case.values("input/pixels").len() / 3;
    let layout = Layout::full(1, span.len, Sight::Causal);
    let alone = Input {
        rows: 1,
        length: span.len,
        ids: &case.ids[start..start + span.len],
        layout: &layout,
        pixels: &case.values("input/pixels")[2 * picture..],
        image_slots: &[case.image_slots[2] - start],
    };
    let expected = logits(&model, &case, &case.input(), span);
    let got = values(case::logits(&case::cpu(), &model, &alone));
    assert!(case::difference(&got, &expected) <= 1e-5);
}

/// Causality: a later token changes nothing before it.
#[test]
fn a_later_token_changes_nothing_before_it() {
    let device = Device::flex();
    let case = case::read("c-abstractor");
    let model = case.model(&device);
    let span = case.layout.spans[4];
    let last = span.row * case.length + span.start + span.len - 1;
    let mut ids = case.ids.clone();
    ids[last] = (ids[last] + 1) % case.config.lm.vocab() as u32;
    let other = Input { ids: &ids, ..case.input() };
    let (a, b) = (logits(&model, &case, &case.input(), span), logits(&model, &case, &other, span));
    let before = (span.len - 1) * case.config.lm.vocab();
    assert_eq!(a[..before], b[..before]);
    assert_ne!(a[before..], b[before..]);
}
