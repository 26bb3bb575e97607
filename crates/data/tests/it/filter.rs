//! The rules that clean a set.

use std::collections::BTreeMap;
use std::sync::Arc;

use mm1_data::document::{Document, DocumentKind, Image, Picture, Segment};
use mm1_data::filter::{DocumentFilter, FilterCounts, FilterRule, FilterSpec};
use mm1_data::image::PictureKey;
use serde_json::{from_value, json};

use crate::end;

fn filter(settings: serde_json::Value) -> DocumentFilter {
    DocumentFilter::new(from_value::<FilterSpec>(settings).unwrap()).unwrap()
}

/// A picture of 4 x 4 fields, others for other sides.
fn picture(width: u32, height: u32) -> Segment {
    let field = |x: u32, y: u32| {
        let seed = (x * 4 / width) * 7 + (y * 4 / height) * 31 + width * 101 + height * 57;
        [seed.wrapping_mul(2_654_435_761) >> 24, seed * 37 % 256, 1].map(|level| level as u8)
    };
    let rgb = (0..height).flat_map(|y| (0..width).flat_map(move |x| field(x, y))).collect();
    Segment::Image(Arc::new(Picture { width, height, rgb }).into())
}

fn page(kind: DocumentKind, segments: Vec<Segment>) -> Document {
    Document { id: String::new(), kind, segments: [segments, vec![end()]].concat() }
}

/// Both passes; the documents that stay and the counts.
fn clean(mut filter: DocumentFilter, documents: Vec<Document>) -> (Vec<Document>, FilterCounts) {
    let keys =
        |document: &Document| document.pictures().map(|picture| PictureKey::of(picture).ok()).collect();
    documents.iter().for_each(|document| filter.observe(document, keys(document)));
    let left = documents.into_iter().filter_map(|document| filter.apply(document)).collect();
    (left, filter.counts().clone())
}

#[test]
fn pictures_are_judged_by_side_aspect_name_and_bytes() {
    let file = |name: &str, bytes: Vec<u8>| Segment::Image(Image::named(name, bytes));
    let jpeg = || std::fs::read(crate::testdata("image/rgb.jpg")).unwrap();
    let cases = [
        (picture(10, 12), Some(FilterRule::Small)),
        (picture(11, 11), None),
        (picture(20, 41), Some(FilterRule::Aspect)),
        (picture(41, 20), Some(FilterRule::Aspect)),
        (picture(20, 40), None),
        (file("https://x.org/a/LOGO.png", jpeg()), Some(FilterRule::Name)),
        (file("my-photo.jpg", jpeg()), None),
        (file("", b"no picture".to_vec()), Some(FilterRule::Damaged)),
        (file("", crate::image::bomb(10_000, 10_000)), Some(FilterRule::Large)),
    ];
    for (picture, rule) in cases {
        let document =
            page(DocumentKind::Interleaved, vec![Segment::text("a"), picture.clone(), Segment::text("b")]);
        let (left, counts) = clean(filter(json!({})), vec![document]);
        assert_eq!(counts.removed_pictures, rule.into_iter().map(|rule| (rule, 1)).collect(), "{picture:?}");
        assert_eq!((left.len(), left[0].pictures().count()), (1, usize::from(rule.is_none())));
        assert_eq!(counts.pictures, u64::from(rule.is_none()));
        let (left, counts) =
            clean(filter(json!({})), vec![page(DocumentKind::Captioned, vec![picture, Segment::text("a")])]);
        assert_eq!(left.len(), usize::from(rule.is_none()), "a caption falls with its picture");
        assert_eq!(counts.removed_documents, rule.into_iter().map(|rule| (rule, 1)).collect());
    }
}

#[test]
fn a_picture_that_is_everywhere_is_removed_everywhere() {
    let documents = |uses: u32| -> Vec<Document> {
        let text = |i: u32| Segment::text(format!("page {i}"));
        (0..uses)
            .map(|i| page(DocumentKind::Interleaved, vec![text(i), picture(16, 16), picture(20 + i, 20)]))
            .collect()
    };
    for (uses, removed) in [(10, 0), (11, 11)] {
        let (left, counts) = clean(filter(json!({})), documents(uses));
        assert_eq!(left.len(), uses as usize);
        assert_eq!(counts.removed_pictures.get(&FilterRule::Uses).copied().unwrap_or(0), removed);
        assert_eq!((counts.documents, counts.pictures), (u64::from(uses), u64::from(2 * uses) - removed));
    }
}

#[test]
fn documents_are_judged_by_what_is_left_of_them() {
    let text = |text: &str| page(DocumentKind::TextOnly, vec![Segment::text(text)]);
    let rules = |settings, documents| clean(filter(settings), documents).1.removed_documents;
    let one = |rule| BTreeMap::from([(rule, 1)]);
    assert_eq!(
        rules(json!({}), vec![text("The  same."), text("the same. "), text("other")]),
        one(FilterRule::Duplicate)
    );
    assert_eq!(rules(json!({"unique_text": false}), vec![text("same"), text("same")]), BTreeMap::new());
    let pair = |side| page(DocumentKind::Captioned, vec![picture(side, side), Segment::text("same")]);
    assert_eq!(rules(json!({}), vec![pair(20), pair(21), pair(20)]), one(FilterRule::Duplicate));
    assert_eq!(rules(json!({}), vec![text(" \n")]), one(FilterRule::NoPicture));
    assert_eq!(
        rules(json!({}), vec![page(DocumentKind::Interleaved, vec![picture(20, 20)])]),
        one(FilterRule::NoText)
    );
    assert_eq!(
        rules(json!({"require_text": false}), vec![page(DocumentKind::Interleaved, vec![picture(20, 20)])]),
        BTreeMap::new()
    );
    let small = page(DocumentKind::Interleaved, vec![picture(3, 3), Segment::text("x")]);
    assert_eq!(
        rules(json!({"require_picture": true}), vec![small, text("y")]),
        BTreeMap::from([(FilterRule::NoPicture, 2)])
    );
}

#[test]
fn a_language_is_told_from_enough_text() {
    let text = |text: &str| page(DocumentKind::TextOnly, vec![Segment::text(text)]);
    let documents = vec![
        text(
            "The quick brown fox jumps over the lazy dog, and nobody in the whole village knows why it does \
             so.",
        ),
        text(
            "Der schnelle braune Fuchs springt über den faulen Hund, und niemand im ganzen Dorf weiß, warum \
             er das tut.",
        ),
        text("ok"),
        text(&"ü".repeat(5000)),
    ];
    let (left, counts) = clean(filter(json!({"languages": ["eng"]})), documents.clone());
    assert_eq!(counts.removed_documents.get(&FilterRule::Language), Some(&1), "{counts:?}");
    assert!(left[0].texts().next().unwrap().starts_with("The quick") && left.len() == 3);
    assert_eq!(clean(filter(json!({})), documents).0.len(), 4);
}

#[test]
fn wrong_settings_are_named() {
    for (settings, field) in [
        (json!({"min_side": 20, "max_side": 10}), "filter.min_side"),
        (json!({"max_aspect": 0.5}), "filter.max_aspect"),
        (json!({"languages": ["english"]}), "filter.languages"),
        (
            json!({"names": ["logo", "Icon"]}),
            "filter.names: \"Icon\" is in no name in lower case: write \"icon\"",
        ),
        (json!({"names": [""]}), "filter.names: an empty word"),
    ] {
        let error = DocumentFilter::new(from_value(settings).unwrap()).err().unwrap().to_string();
        assert!(error.contains(field), "{error}");
    }
    assert!(from_value::<FilterSpec>(json!({"min_sides": 1})).is_err());
}
