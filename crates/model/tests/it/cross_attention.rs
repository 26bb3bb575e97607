//! Flamingo's connector: gates, and what a sequence remembers of pictures. Its numbers are in the golden
//! file.

use burn::tensor::Device;
use mm1_model::{Cache, Mm1, PictureContent, Piece, Placed, weights};

use crate::case::{self, Case, difference, values};

fn case() -> Case {
    case::read("cross-attention")
}

/// A new network, whose gates are shut.
fn shut(case: &Case, device: &Device) -> Mm1 {
    Mm1::new(&case.config, 1, device).unwrap()
}

#[test]
fn shut_gates_leave_the_decoder_as_it_was() {
    let case = case();
    let model = shut(&case, &Device::flex());
    let input = case.input();
    let embeds = model.embeds(&case::cpu(), &input).unwrap();
    let alone = values(model.lm.forward(&case::cpu(), embeds, input.layout));
    assert!(values(model.hidden(&case::cpu(), &input).unwrap()) == alone, "not the same bits");
    let open = case.model(&Device::flex());
    assert!(difference(&values(open.hidden(&case::cpu(), &input).unwrap()), &alone) > 0.1);
}

/// The gates learn first, and then all that is behind them.
#[test]
fn shut_gates_learn() {
    let case = case();
    let model = shut(&case, &Device::flex().autodiff());
    let loss = model.loss(&case::cpu(), &case.input(), &case.targets, case.weights()).unwrap();
    let mut gates = 0;
    for (path, _, gradient) in weights::gradients(&model, &loss.backward()) {
        let learns = gradient.iter().any(|&g| g != 0.0);
        assert_eq!(learns, path.ends_with("gate") || path.starts_with("lm."), "{path}");
        gates += usize::from(path.ends_with("gate"));
    }
    assert_eq!(gates, 4, "two of each of two layers");
}

#[test]
fn rows_without_pictures_train_the_decoder() {
    let case = case();
    let model = case.model(&Device::flex().autodiff());
    let input = mm1_model::Input { pixels: &[], image_slots: &[], ..case.input() };
    let loss = model.loss(&case::cpu(), &input, &case.targets, case.weights()).unwrap();
    let found = weights::gradients(&model, &loss.backward());
    let learns =
        |end: &str| found.iter().any(|(path, _, g)| path.ends_with(end) && g.iter().any(|&g| g != 0.0));
    assert!(learns("gated.0.mlp_gate") && learns("lm.embedding") && !learns("connector.queries"));
}

/// The last example of the golden file: two pictures.
fn example(case: &Case) -> (&[u32], [Placed; 2]) {
    let span = case.layout.spans[4];
    let start = span.row * case.length + span.start;
    let (pixels, side) = (case.values("input/pixels"), case.config.vision.image_size);
    let of = pixels.len() / case.image_slots.len();
    // Their numbers in the file, in the order of the sequence.
    let placed = [3, 1].map(|picture| Placed {
        slot: case.image_slots[picture] - start,
        size: [side; 2],
        content: PictureContent::Pixels(pixels[picture * of..][..of].to_vec()),
    });
    (&case.ids[start..start + span.len], placed)
}

/// However a sequence is cut, also at its pictures.
#[test]
fn pieces_look_at_the_picture_before_them() {
    let case = case();
    let model = case.model(&Device::flex());
    let (ids, pictures) = example(&case);
    let v = case.config.lm.vocab();
    let span = case.layout.spans[4];
    let all = values(case::logits(&case::cpu(), &model, &case.input()));
    let expected = &all[(span.row * case.length + span.start) * v..][..span.len * v];
    let read = |cuts: &[usize]| -> Vec<f32> {
        let (mut cache, mut got, mut from) = (model.cache(1), Vec::new(), 0);
        for &to in cuts.iter().chain(&[ids.len()]) {
            let inside = pictures.iter().filter(|picture| (from..to).contains(&picture.slot));
            let inside: Vec<Placed> =
                inside.map(|picture| Placed { slot: picture.slot - from, ..picture.clone() }).collect();
            let piece = Piece { sequence: 0, ids: &ids[from..to], pictures: &inside };
            got.extend(values(model.extend_all(&case::cpu(), &[piece], &mut cache).unwrap()));
            from = to;
        }
        got
    };
    for cuts in [&[][..], &[3], &[4], &[1, 2, 5, 9, 10, 11], &(1..ids.len()).collect::<Vec<_>>()] {
        let apart = difference(&read(cuts), expected);
        assert!(apart <= 1e-5, "{cuts:?}: {apart:e}");
    }
}

/// The logits after one more token.
fn next(model: &Mm1, cache: &mut Cache, sequence: usize) -> Vec<f32> {
    let piece = Piece { sequence, ids: &[7], pictures: &[] };
    values(model.extend(&case::cpu(), &[piece], cache).unwrap())
}

#[test]
fn forks_and_beginnings_remember_their_pictures() {
    let case = case();
    let model = case.model(&Device::flex());
    let (ids, pictures) = example(&case);
    let piece = |sequence| Piece { sequence, ids, pictures: &pictures };
    let mut cache = model.cache(1);
    model.extend(&case::cpu(), &[piece(0)], &mut cache).unwrap();
    let fork = cache.fork(0);
    let whole = cache.beginning(0, ids.len());
    // Between both pictures: the second is forgotten.
    let half = pictures[1].slot;
    let first = cache.beginning(0, half);
    let expected = next(&model, &mut cache, 0);
    assert!(next(&model, &mut cache, fork) == expected, "a fork");
    let pushed = cache.push(&whole);
    assert!(next(&model, &mut cache, pushed) == expected, "a beginning");
    let mut other = model.cache(1);
    let begun = Piece { sequence: 0, ids: &ids[..half], pictures: &pictures[..1] };
    model.extend(&case::cpu(), &[begun], &mut other).unwrap();
    let expected = next(&model, &mut other, 0);
    let pushed = cache.push(&first);
    assert!(difference(&next(&model, &mut cache, pushed), &expected) <= 1e-6, "the first picture alone");
    cache.replace(fork, &first);
    cache.retain(|sequence| sequence == fork);
    assert!(difference(&next(&model, &mut cache, 0), &expected) <= 1e-6, "in the place of another");
}

/// Sequences beside change no bit, whatever they look at.
#[test]
fn neighbours_change_no_bit() {
    let case = case();
    let model = case.model(&Device::flex());
    let (ids, pictures) = example(&case);
    let alone = |ids: &[u32], pictures: &[Placed]| {
        let mut cache = model.cache(1);
        let piece = Piece { sequence: 0, ids, pictures };
        let read = values(model.extend(&case::cpu(), &[piece], &mut cache).unwrap());
        [read, next(&model, &mut cache, 0)].concat()
    };
    let pieces = [(ids, &pictures[..]), (&ids[..5], &pictures[..1]), (&ids[..2], &pictures[..0])];
    let mut cache = model.cache(3);
    let piece = |(sequence, (ids, pictures))| Piece { sequence, ids, pictures };
    let together: Vec<Piece<'_>> = pieces.into_iter().enumerate().map(piece).collect();
    let read = values(model.extend(&case::cpu(), &together, &mut cache).unwrap());
    let token = |sequence| Piece { sequence, ids: &[7], pictures: &[] };
    let after = values(model.extend(&case::cpu(), &[token(0), token(1), token(2)], &mut cache).unwrap());
    let v = case.config.lm.vocab();
    for (i, (ids, pictures)) in pieces.into_iter().enumerate() {
        let own = [&read[i * v..][..v], &after[i * v..][..v]].concat();
        assert!(own == alone(ids, pictures), "sequence {i}");
    }
}
