//! Tiled pictures in prompts.

use std::sync::Arc;

use mm1_data::augment::PictureViews;
use mm1_data::document::{Document, DocumentKind, Picture, Segment};
use mm1_data::image::{DecodeBudget, ImageConfig, Tiling, normalise_into};
use mm1_data::pack::{HeldPicture, Packing};
use mm1_serve::generate::{AnswerOptions, GenerateOptions, PromptPart};

use crate::case::Case;

/// A picture with a slope, so that no two tiles are alike.
fn slope(width: u32, height: u32) -> Segment {
    let pixel = |x: u32, y: u32| [(x * 255 / width) as u8, (y * 255 / height) as u8, (x * y % 256) as u8];
    let rgb = (0..height).flat_map(|y| (0..width).flat_map(move |x| pixel(x, y))).collect();
    Segment::Image(Arc::new(Picture { width, height, rgb }).into())
}

fn case() -> Case {
    let mut case = Case::new(3);
    let tiling: Tiling = serde_json::from_str(r#"{"kind": "dynamic", "indicators": "index"}"#).unwrap();
    case.image = ImageConfig { tiling, ..ImageConfig::default() }.of_size(16);
    case
}

fn prompts() -> Vec<Vec<Segment>> {
    let prompt = |picture: Segment, text: &str| vec![picture, Segment::prompt(text)];
    vec![
        prompt(slope(40, 30), "the owl is on the"),
        prompt(slope(16, 16), "the green apple"),
        vec![Segment::prompt("the red apple and")],
        prompt(slope(20, 90), "the cat is on"),
        [prompt(slope(33, 31), "the owl"), prompt(slope(10, 60), " and the")].concat(),
    ]
}

fn greedy(batch: usize) -> GenerateOptions {
    GenerateOptions { answer: AnswerOptions::greedy(8), batch }
}

/// Training and answering read a tiled picture alike: the answer to a prompt is what the network gives to the
/// example that training would make of it.
#[test]
fn a_prompt_is_read_as_training_packs_it() {
    let case = case();
    let generator = case.generator();
    let packing = Packing {
        tokenizer: case.tokenizer.clone(),
        image: case.image.clone(),
        views: PictureViews::default(),
        image_tokens: 4,
        length: 400,
        decoding: DecodeBudget::default(),
    };
    let mut most = 0;
    for prompt in prompts() {
        let kind = DocumentKind::Interleaved;
        let document = Document { id: String::new(), kind, segments: prompt.clone() };
        let example = packing.example(&document).unwrap();
        let (mut pixels, mut slots) = (Vec::new(), Vec::new());
        for picture in &example.pictures {
            let HeldPicture::Drawn(views) = &picture.content else { panic!("not drawn") };
            normalise_into(&views.global, &case.image, &mut pixels);
            slots.extend(&picture.offsets);
        }
        most = most.max(slots.len());
        let encoded = generator.encode(&[(&prompt).into()]).unwrap();
        assert_eq!(encoded.positions(), example.ids.len());
        let expected = case.tokenizer.decode(&case.reference(&example.ids, &pixels, &slots, 8));
        assert_eq!(generator.generate(&[prompt], &greedy(1), None).unwrap(), [expected]);
    }
    assert!(most >= 9, "{most} views");
}

#[test]
fn answers_about_tiles_do_not_depend_on_the_batch() {
    let case = case();
    let generator = case.generator();
    let alone: Vec<String> = prompts()
        .into_iter()
        .map(|prompt| generator.generate(&[prompt], &greedy(1), None).unwrap().remove(0))
        .collect();
    for batch in [2, 5] {
        assert_eq!(generator.generate(&prompts(), &greedy(batch), None).unwrap(), alone, "batch {batch}");
    }
}

#[test]
fn demonstrations_may_be_shown_by_their_overviews_alone() {
    let case = case();
    let generator = case.generator();
    let (shown, question) = (vec![slope(40, 30), Segment::prompt("the owl")], prompts().remove(0));
    let positions = |overviews: bool, side: Option<usize>| {
        let shown = PromptPart { segments: &shown, side, overviews };
        generator.encode(&[shown, (&question).into()]).unwrap().positions()
    };
    let (full, overview) = (positions(false, None), positions(true, None));
    // Six tiles of two rows and three columns, and their indicators, are not there; the question's are.
    assert!(full >= overview + 6 * 4, "{full} and {overview}");
    assert!(overview > 7 * 4 + 4, "{overview}");
    // Tiles at a smaller size are the same tiles.
    assert_eq!(positions(false, Some(8)), full);
    let small = PromptPart { segments: &shown, side: Some(8), overviews: false };
    let encoded = generator.encode(&[small, (&question).into()]).unwrap();
    let begin = generator.encode(&[]).unwrap();
    assert_eq!(generator.generate_after(&begin, &[&encoded], &greedy(1), None).unwrap().len(), 1);
}
