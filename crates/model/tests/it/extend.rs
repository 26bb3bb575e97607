//! Reading piece by piece with a cache computes what a whole forward pass does.

use burn::tensor::Device;
use mm1_model::ops::{Layout, Precision, Sight, WeightFormat};
use mm1_model::{Input, Mm1, PictureContent, Piece, Placed, weights};

use crate::case::{self, Case, difference, values};

/// The first example, which has a picture, as a sequence.
fn prompt(case: &Case) -> (&[u32], Placed) {
    let (pixels, side) = (case.values("input/pixels"), case.config.vision.image_size);
    let pixels = pixels[..pixels.len() / case.image_slots.len()].to_vec();
    (&case.ids[..13], placed(case.image_slots[0], [side; 2], pixels))
}

fn placed(slot: usize, size: [usize; 2], pixels: Vec<f32>) -> Placed {
    Placed { slot, size, content: PictureContent::Pixels(pixels) }
}

fn pixels(picture: &Placed) -> &[f32] {
    let PictureContent::Pixels(pixels) = &picture.content else { panic!("no pixels") };
    pixels
}

/// Logits of every position of the first example by a whole forward pass.
fn whole(model: &Mm1, case: &Case) -> Vec<f32> {
    let (ids, picture) = prompt(case);
    let (slot, pixels) = (picture.slot, pixels(&picture));
    let layout = Layout::full(1, ids.len(), Sight::Causal);
    let input = Input { rows: 1, length: ids.len(), ids, layout: &layout, pixels, image_slots: &[slot] };
    values(case::logits(&case::cpu(), model, &input))
}

#[test]
fn pieces_compute_what_the_whole_does() {
    let device = Device::flex();
    for name in case::NAMES {
        let case = case::read(name);
        let model = case.model(&device);
        let (ids, picture) = prompt(&case);
        let pictures = &[picture][..];
        let v = case.config.lm.vocab();
        let expected = whole(&model, &case);
        let mut cache = model.cache(1);
        // Up to behind the picture at once, then one token after the other.
        let first = pictures[0].slot + case.config.image_tokens();
        let piece = Piece { sequence: 0, ids: &ids[..first], pictures };
        let mut got = values(model.extend(&case::cpu(), &[piece], &mut cache).unwrap());
        for at in first..ids.len() {
            assert_eq!(cache.len(0), at);
            let piece = Piece { sequence: 0, ids: &ids[at..=at], pictures: &[] };
            got.extend(values(model.extend(&case::cpu(), &[piece], &mut cache).unwrap()));
        }
        let apart = difference(&got, &expected[(first - 1) * v..]);
        assert!(apart <= 1e-5, "{name}: {apart:e}");
        // All at once.
        let piece = Piece { sequence: 0, ids, pictures };
        let got = values(model.extend(&case::cpu(), &[piece], &mut model.cache(1)).unwrap());
        let apart = difference(&got, &expected[(ids.len() - 1) * v..]);
        assert!(apart <= 1e-5, "{name}: {apart:e}");
    }
}

#[test]
fn sequences_side_by_side_and_forked_compute_what_each_does_alone() {
    let device = Device::flex();
    let case = case::read("c-abstractor");
    let model = case.model(&device);
    let (ids, picture) = prompt(&case);
    let v = case.config.lm.vocab();
    let tokens = |sequence, ids| Piece { sequence, ids, pictures: &[] };
    let mut cache = model.cache(2);
    let picture = Piece { sequence: 1, ids, pictures: &[picture] };
    let both = values(model.extend(&case::cpu(), &[tokens(0, &[3, 1, 4]), picture], &mut cache).unwrap());
    let expected = whole(&model, &case);
    assert!(difference(&both[v..], &expected[12 * v..]) <= 1e-5);
    assert_eq!((cache.len(0), cache.len(1)), (3, 13));

    // The picture's sequence goes on in two ways, the other is removed.
    let fork = cache.fork(1);
    cache.retain(|sequence| sequence != 0);
    assert_eq!((fork, cache.sequences()), (2, 2));
    let two = values(model.extend(&case::cpu(), &[tokens(0, &[5]), tokens(1, &[9, 2])], &mut cache).unwrap());
    for (answer, got) in [(&[5][..], &two[..v]), (&[9, 2][..], &two[v..])] {
        let mut alone = model.cache(1);
        model.extend(&case::cpu(), &[Piece { sequence: 0, ..picture }], &mut alone).unwrap();
        let expected = values(model.extend(&case::cpu(), &[tokens(0, answer)], &mut alone).unwrap());
        assert!(got == expected, "{answer:?}: other sequences in the call change the last bits");
    }
    assert_eq!((cache.len(0), cache.len(1)), (14, 15));
}

/// Those before a picture of another resolution do not change by a bit, nor does the same picture beside it.
#[test]
fn pictures_of_several_resolutions_stand_in_one_call() {
    let device = Device::flex();
    for name in case::NAMES {
        let case = case::read(name);
        let model = case.model(&device);
        let (ids, large) = prompt(&case);
        let (patch, side) = (case.config.vision.patch, large.size[0]);
        let (h, w) = (patch, side - patch);
        let rows = pixels(&large).chunks(3 * side).take(h);
        let small = placed(large.slot, [h, w], rows.flat_map(|row| &row[..3 * w]).copied().collect());
        let logits = |pictures: &[&Placed]| {
            let placed: Vec<[Placed; 1]> = pictures.iter().map(|&picture| [picture.clone()]).collect();
            let piece = |(sequence, pictures)| Piece { sequence, ids, pictures };
            let pieces: Vec<_> = placed.iter().map(<[_; 1]>::as_slice).enumerate().map(piece).collect();
            let mut cache = model.cache(pieces.len());
            values(model.extend(&case::cpu(), &pieces, &mut cache).unwrap())
        };
        let (a, b) = (logits(&[&large]), logits(&[&small]));
        assert!(difference(&a, &b) > 1e-3, "{name}: the resolution matters");
        let together = [b.clone(), a, b].concat();
        assert!(logits(&[&small, &large, &small]) == together, "{name}");
        // What was made of them before, beside one of which nothing is known.
        let seen = model.see(&case::cpu(), &[&large, &small]).unwrap();
        let [large, other] = [(&large, &seen[0]), (&small, &seen[1])].map(|(picture, tokens)| Placed {
            content: PictureContent::Tokens(tokens.clone()),
            ..picture.clone()
        });
        assert!(logits(&[&other, &large, &small]) == together, "{name}: from image tokens");
    }
}

/// LLaVA's connector makes a token of each patch: the room that a picture needs follows its size.
#[test]
fn image_tokens_that_are_patches_follow_the_size_of_each_picture() {
    let case = case::read("mlp");
    let (model, (ids, picture)) = (case.model(&Device::flex()), prompt(&case));
    assert_eq!(case.config.image_tokens(), 4);
    assert_eq!(case.config.image_tokens_of([12, 8]), 6);
    let placed = |slot, size: [usize; 2]| {
        let values = pixels(&picture).iter().cycle().take(size[0] * size[1] * 3).copied().collect();
        self::placed(slot, size, values)
    };
    let read = |pictures: &[Placed]| {
        let piece = Piece { sequence: 0, ids, pictures };
        model.extend(&case::cpu(), &[piece], &mut model.cache(1)).map(drop).map_err(|e| e.to_string())
    };
    assert_eq!(read(&[placed(0, [12, 8]), placed(6, [8, 8]), placed(10, [4, 4])]), Ok(()));
    let overlap = read(&[placed(5, [8, 8]), placed(0, [12, 8])]).unwrap_err();
    assert!(overlap.contains("0 and 5 overlap: the first takes 6 image tokens"), "{overlap}");
    let leaves = read(&[placed(8, [12, 8])]).unwrap_err();
    assert!(leaves.contains("6 image tokens from position 8"), "{leaves}");
    // Another size for good is the same function.
    let resized = model.clone().with_image_size(12).unwrap();
    assert_eq!(resized.config().image_tokens(), 9);
}

#[test]
fn packed_weights_give_the_same_bits() {
    let case = case::read("c-abstractor");
    let (ids, picture) = prompt(&case);
    let pictures = &[picture][..];
    for (tied, precision) in
        [(false, Precision::F32), (true, Precision::F32), (false, Precision::Bf16), (true, Precision::Bf16)]
    {
        let mut config = case.config.clone();
        config.lm.tied = tied;
        let model = Mm1::new(&config, 3, &Device::flex()).unwrap();
        let compute = case::cpu().with_precision(precision);
        let logits = |model: &Mm1| {
            let mut cache = model.cache(1);
            let read =
                [Piece { sequence: 0, ids, pictures }, Piece { sequence: 0, ids: &[5], pictures: &[] }];
            read.map(|piece| values(model.extend(&compute, &[piece], &mut cache).unwrap())).concat()
        };
        let packed = model.clone().read_only(&compute);
        let error = packed.loss(&compute, &case.input(), &case.targets, case.weights()).unwrap_err();
        assert_eq!(error.to_string(), "a network for reading has no loss");
        let left = weights::shapes(&packed);
        assert!(left.iter().all(|(path, _)| !path.ends_with("qkv") && path != "lm.head"), "{left:?}");
        assert!(logits(&packed) == logits(&model), "{precision:?}, tied: {tied}");
    }
}

/// With weights in 8 bits a sequence's logits are close, and the same in any company, on any threads.
#[test]
fn weights_in_8_bits_give_nearly_the_same() {
    let case = case::read("c-abstractor");
    let (model, v) = (case.model(&Device::flex()), case.config.lm.vocab());
    let compute = case::cpu().with_weight_format(WeightFormat::Q8_0);
    let packed = model.clone().read_only(&compute);
    let pieces = [&[3, 9, 4, 4][..], &[5], &[7, 2]];
    let pieces: Vec<Piece<'_>> =
        (0..).zip(pieces).map(|(sequence, ids)| Piece { sequence, ids, pictures: &[] }).collect();
    let exact = values(model.extend(&compute, &pieces, &mut model.cache(3)).unwrap());
    let close = values(packed.extend(&compute, &pieces, &mut packed.cache(3)).unwrap());
    let largest = exact.iter().fold(0.0f32, |most, x| most.max(x.abs()));
    let error = exact.iter().zip(&close).fold(0.0f32, |most, (a, b)| most.max((a - b).abs()));
    assert!(error > 0.0 && error < 0.03 * largest, "{error} of {largest}");
    for threads in [1, 2] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let again = pool.install(|| packed.extend(&compute, &pieces, &mut packed.cache(3)).unwrap());
        assert!(values(again) == close, "{threads} threads");
    }
    for (piece, together) in pieces.iter().zip(close.chunks(v)) {
        let alone = Piece { sequence: 0, ..*piece };
        assert!(values(packed.extend(&compute, &[alone], &mut packed.cache(1)).unwrap()) == together);
    }
}

/// What follows the last block's attention does not change where it is left out.
#[test]
fn the_last_of_every_piece_is_the_same_alone() {
    let case = case::read("c-abstractor");
    let model = case.model(&Device::flex());
    let ((ids, picture), v) = (prompt(&case), case.config.lm.vocab());
    let pieces = [
        Piece { sequence: 1, ids, pictures: &[picture] },
        Piece { sequence: 0, ids: &[3], pictures: &[] },
        Piece { sequence: 2, ids: &[5, 9, 2], pictures: &[] },
    ];
    let cache = || model.cache(3);
    let all = values(model.extend_all(&case::cpu(), &pieces, &mut cache()).unwrap());
    let ends: Vec<f32> = [13, 14, 17].iter().flat_map(|end| &all[(end - 1) * v..end * v]).copied().collect();
    assert!(values(model.extend(&case::cpu(), &pieces, &mut cache()).unwrap()) == ends);
}

#[test]
fn a_refused_call_leaves_the_cache_alone() {
    let case = case::read("average-pool");
    let model = case.model(&Device::flex());
    let mut cache = model.cache(2);
    let piece = |sequence, ids| Piece { sequence, ids, pictures: &[] };
    let mut refuse = |pieces: &[Piece<'_>], says: &str| {
        let error = format!("{:#}", model.extend(&case::cpu(), pieces, &mut cache).unwrap_err());
        assert!(error.contains(says), "{error}");
        assert_eq!((cache.len(0), cache.len(1)), (0, 0));
    };
    refuse(&[], "no pieces");
    refuse(&[piece(0, &[])], "sequence 0 has nothing to read");
    refuse(&[piece(0, &[1]), piece(2, &[1])], "sequence 2 is not in the cache, which has 2");
    refuse(&[piece(1, &[1]), piece(1, &[1])], "sequence 1 comes twice");
    refuse(&[piece(0, &[41])], "token id 41 at position 0 is not below the model's vocabulary of 41");
    let mut refuse_picture = |size: [usize; 2], values: usize, says: &str| {
        let picture = placed(0, size, vec![0.0; values]);
        refuse(&[Piece { pictures: &[picture], ..piece(0, &[1; 9]) }], says);
    };
    refuse_picture([20; 2], 0, "0 pixel values for 1 pictures of 20x20x3: need 1200");
    refuse_picture([20, 7], 420, "pictures of 20x7 pixels are not whole patches");
    let content = PictureContent::Tokens(vec![0.0; 7].into());
    let seen = Placed { content, ..placed(0, [8; 2], Vec::new()) };
    refuse(&[Piece { pictures: &[seen], ..piece(0, &[1; 9]) }], "7 values for");
}
