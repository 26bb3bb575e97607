//! Signs: their words, that large letters can be read and small ones can't once the picture is made small.

use std::collections::{BTreeMap, BTreeSet};

use mm1_data::document::Picture;
use mm1_data::source::Split;
use mm1_data::world::{LEGIBLE, Lettering, Sign, World, WorldConfig, contrast};

use super::{SPLITS, pixel};

fn world(picture_size: u32) -> std::sync::Arc<World> {
    World::new(&WorldConfig { picture_size, ..WorldConfig::default() }, 7).unwrap()
}

#[test]
fn items_are_pure_functions_of_their_index_and_ask_for_the_word() {
    let (world, again) = (world(64), world(64));
    for lettering in Lettering::ALL {
        let question = world.sign_question(Split::Test, lettering, 5);
        assert_eq!(question, again.sign_question(Split::Test, lettering, 5));
        assert_ne!(question, world.sign_question(Split::Test, lettering, 6));
        assert_eq!(question.category, lettering.name());
        let sign = world.sign(Split::Test, lettering, 5);
        assert_eq!(question.pictures, [world.sign_picture(&sign).into()]);
        assert_eq!(question.answers, [sign.word]);
    }
}

#[test]
fn words_are_short_many_and_on_one_side_of_the_split() {
    let world = world(16);
    let [train, test] = SPLITS.map(|split| {
        let mut counts = BTreeMap::<String, u32>::new();
        for i in 0..4000 {
            *counts.entry(world.sign(split, Lettering::ALL[i as usize % 3], i).word).or_default() += 1;
        }
        let most = *counts.values().max().unwrap();
        assert!(most < 80, "always the same word is right in {most} of 4000");
        counts.into_keys().collect::<BTreeSet<_>>()
    });
    assert!(train.is_disjoint(&test));
    assert!(train.len() > 2000 && test.len() > 1000, "{} and {} words", train.len(), test.len());
    for word in train.union(&test) {
        assert!((3..=5).contains(&word.len()) && word.chars().all(|c| c.is_ascii_lowercase()), "{word}");
    }
}

#[test]
fn signs_are_inside_the_picture_and_letters_stand_out() {
    for size in [16, 49, 64, 224] {
        let world = world(size);
        for (i, lettering) in (0..150).flat_map(|i| Lettering::ALL.map(|l| (i, l))) {
            let sign = world.sign(Split::Train, lettering, i);
            let picture = world.sign_picture(&sign);
            let Sign { left, top, width, height, margin, .. } = sign;
            assert!(contrast(sign.board, sign.ink) >= LEGIBLE);
            let (mut board, mut ink) = (0, 0);
            for (x, y) in (0..size).flat_map(|y| (0..size).map(move |x| (x, y))) {
                let inside = x + margin >= left && x < left + width + margin && y >= top && y < top + height;
                let pixel = pixel(&picture, x, y);
                assert!(inside || pixel == sign.shade, "{sign:?} at {x}, {y}");
                board += usize::from(inside && pixel == sign.board);
                // Half of the contrast is left.
                ink += usize::from(
                    inside && contrast(sign.board, pixel) * 2.0 >= contrast(sign.board, sign.ink),
                );
            }
            let area = (width * height) as usize;
            assert!(
                size < 64 || (ink * 20 > area && board * 4 > area),
                "{sign:?}: {ink}, {board} of {area} pixels"
            );
        }
    }
}

#[test]
fn contrast_is_that_of_wcag() {
    assert_eq!(contrast([0; 3], [255; 3]), 21.0);
    assert_eq!(contrast([9, 90, 200], [9, 90, 200]), 1.0);
    // #767676 is the lightest grey that passes on white.
    assert!(contrast([0x76; 3], [255; 3]) >= LEGIBLE && contrast([0x77; 3], [255; 3]) < LEGIBLE);
}

/// The same sign with another word.
fn other(sign: &Sign, word: &str) -> Sign {
    Sign { word: word.to_owned(), board: [255; 3], ink: [0; 3], shade: [255; 3], ..sign.clone() }
}

/// The mean of each block of `by` by `by` pixels, first channel.
fn shrunk(picture: &Picture, by: u32) -> Vec<f64> {
    let side = picture.width / by;
    let block = |x: u32, y: u32| {
        let pixels = (0..by).flat_map(|i| (0..by).map(move |j| (x * by + i, y * by + j)));
        pixels.map(|(x, y)| f64::from(pixel(picture, x, y)[0])).sum::<f64>() / f64::from(by * by)
    };
    (0..side).flat_map(|y| (0..side).map(move |x| (x, y))).map(|(x, y)| block(x, y)).collect()
}

#[test]
fn similar_words_differ_less_the_smaller_letters_and_pictures_are() {
    let world = world(64);
    let mut left = Vec::new();
    for (lettering, by) in
        [(Lettering::Large, 1), (Lettering::Large, 2), (Lettering::Small, 1), (Lettering::Small, 2)]
    {
        let sign = (0..).map(|i| world.sign(Split::Train, lettering, i)).find(|s| s.word.len() == 4).unwrap();
        // Letters that differ in a few strokes.
        let seen =
            ["bead", "dead", "beod", "boad"].map(|w| shrunk(&world.sign_picture(&other(&sign, w)), by));
        let differ = |a: &[f64], b: &[f64]| a.iter().zip(b).filter(|(a, b)| (*a - *b).abs() > 64.0).count();
        left.push(seen[1..].iter().map(|s| differ(&seen[0], s)).min().unwrap());
    }
    println!("pixels that tell similar words apart: {left:?}");
    assert!(left[0] >= 12 && left[0] > left[1] && left[1] > left[3] && left[2] > left[3], "{left:?}");
    assert!(left[3] <= 2, "{left:?}");
}
