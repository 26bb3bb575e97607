//! Documents to examples, examples to rows, rows to a batch.

use std::ops::Range;

use mm1_data::augment::{DrawnViews, PictureViews};
use mm1_data::batch::{Batch, BatchContent, BatchExample};
use mm1_data::document::{Segment, Special};
use mm1_data::image::{DecodeBudget, ImageSpec};
use mm1_data::pack::{Example, ExamplePicture, HeldPicture, PackedRow, Packing};

use crate::{document, end, plain, tokenizer};

fn packing(length: usize) -> Packing {
    let (image, views) = (ImageSpec::new(2), PictureViews::default());
    Packing {
        tokenizer: tokenizer(),
        image,
        views,
        image_tokens: 4,
        length,
        decoding: DecodeBudget::default(),
    }
}

fn example(len: usize, first: u32) -> Example {
    let ids = (first..).take(len).collect();
    Example { id: first.to_string(), ids, learn: vec![true; len], ..Example::default() }
}

fn drawn(offset: usize, global: Vec<u8>) -> ExamplePicture {
    let views = DrawnViews { global, local: Vec::new() };
    ExamplePicture { offsets: vec![offset], grid: None, content: HeldPicture::Drawn(views) }
}

#[test]
fn a_damaged_picture_is_named_by_its_document() {
    let image = Segment::Image(vec![0xFF, 0xD8, 0xFF, 0xE0].into());
    let error = packing(100).example(&document("shard/7", vec![image])).unwrap_err();
    assert!(format!("{error:#}").starts_with("shard/7: "), "{error:#}");
}

#[test]
fn a_document_becomes_ids_with_its_pictures_in_place() {
    let segments = vec![
        Segment::Token { token: Special::User, learn: false },
        Segment::prompt("What is it?"),
        Segment::Image(plain(2, 2, [1, 2, 3]).into()),
        Segment::Image(plain(5, 5, [4, 5, 6]).into()),
        Segment::text(" A whale"),
        end(),
    ];
    let example = packing(64).example(&document("d", segments)).unwrap();
    let (question, answer) = (tokenizer().encode("What is it?"), tokenizer().encode(" A whale"));
    let (user, image) = (tokenizer().id(Special::User), tokenizer().id(Special::Image));
    let ids = [&[user], &question[..], &[image; 8], &answer, &[tokenizer().id(Special::End)]].concat();
    assert_eq!(example.ids, ids);
    let read = 1 + question.len() + 8;
    assert_eq!(example.learn, [vec![false; read], vec![true; answer.len() + 1]].concat());
    let first = 1 + question.len();
    assert_eq!(example.pictures, [drawn(first, [1, 2, 3].repeat(4)), drawn(first + 4, [4, 5, 6].repeat(4))]);
    assert!(!example.truncated && example.teaches());
}

#[test]
fn a_long_document_is_cut_but_never_inside_a_picture() {
    let picture = || Segment::Image(plain(2, 2, [0; 3]).into());
    let text = || Segment::text("A cat sits.");
    let len = tokenizer().encode("A cat sits.").len();
    let segments = vec![text(), picture(), text(), end()];
    for length in 2..2 * len + 8 {
        let example = packing(length).example(&document("d", segments.clone())).unwrap();
        let whole = 2 * len + 5;
        assert_eq!(example.truncated, length < whole, "length {length}");
        let expected = if (len..len + 4).contains(&length) { len } else { length.min(whole) };
        assert_eq!(example.ids.len(), expected, "length {length}");
        assert_eq!(example.pictures.len(), usize::from(length >= len + 4));
        assert_eq!(example.learn.len(), example.ids.len());
    }
}

#[test]
fn a_bare_image_or_padding_token_is_refused() {
    for token in [Special::Image, Special::Pad] {
        let bare = document("d7", vec![Segment::text("A cat"), Segment::Token { token, learn: false }]);
        assert!(packing(64).example(&bare).unwrap_err().to_string().starts_with("d7: "));
    }
}

#[test]
fn a_row_takes_examples_until_one_does_not_fit() {
    let mut row = PackedRow::new(10);
    assert!(row.push(example(4, 10)).is_ok());
    assert_eq!(row.push(example(7, 20)).unwrap_err(), example(7, 20));
    assert!(!row.is_full());
    assert!(row.push(example(6, 30)).is_ok());
    assert!(row.is_full());
    assert_eq!(row.examples(), [example(4, 10), example(6, 30)]);
}

#[test]
fn nothing_is_predicted_across_examples() {
    let mut with_picture = example(5, 100);
    with_picture.learn = vec![false, false, false, true, false];
    with_picture.pictures = vec![drawn(1, vec![255; 12])];
    let mut rows = [PackedRow::new(8), PackedRow::new(8)];
    rows[0].push(example(3, 50)).unwrap();
    rows[0].push(with_picture).unwrap();
    rows[1].push(example(4, 70)).unwrap();
    let batch = Batch::of(rows.clone().into(), &packing(8), BatchContent::Language);

    let pad = tokenizer().id(Special::Pad);
    assert_eq!(batch.ids, [50, 51, 52, 100, 101, 102, 103, 104, 70, 71, 72, 73, pad, pad, pad, pad]);
    assert_eq!(batch.targets, [51, 52, 0, 0, 0, 103, 0, 0, 71, 72, 73, 0, 0, 0, 0, 0]);
    let weights: Vec<f32> = batch.targets.iter().map(|&t| f32::from(u8::from(t > 0))).collect();
    assert_eq!(batch.weights, weights);
    let expected = |sample: &str, [row, start, len]: [usize; 3], slots: Range<usize>| {
        let (sample, caption, truncated) = (sample.to_owned(), Vec::new(), false);
        let views = slots.clone().map(|_| 1).collect();
        BatchExample { sample, row, start, len, slots, views, caption, truncated }
    };
    let examples =
        [expected("50", [0, 0, 3], 0..0), expected("100", [0, 3, 5], 0..1), expected("70", [1, 0, 4], 1..1)];
    assert_eq!(batch.examples, examples);
    assert_eq!((&batch.image_slots, &batch.pixels), (&vec![4], &vec![1.0; 12]));
    assert!(batch.samples().eq(["50", "100", "70"]));
    assert_eq!((batch.rows, batch.length, batch.image_size), (2, 8, 2));

    // For an image encoder the learned tokens are there as captions; the first token of an example is never
    // learned.
    let encoder = Batch::of(rows.into(), &packing(8), BatchContent::Captions);
    let captions: Vec<&[u32]> = encoder.examples.iter().map(|e| e.caption.as_slice()).collect();
    assert_eq!(captions, [&[51, 52][..], &[103], &[71, 72, 73]]);
    let without = |batch: Batch| batch.examples.into_iter().map(|e| BatchExample { caption: vec![], ..e });
    assert!(without(encoder).eq(batch.examples));
}
