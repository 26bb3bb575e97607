//! What training has seen is found again.

use std::sync::Arc;

use mm1_data::document::{Document, DocumentKind, Image, Picture, Segment};
use mm1_data::question::Question;
use mm1_eval::contamination::TrainingHashes;
use mm1_eval::metric::Metric;
use mm1_eval::task::Task;

/// Items given one by one.
struct Items(Vec<Question>);

impl Task for Items {
    fn name(&self) -> &str {
        "items"
    }
    fn metric(&self) -> Metric {
        Metric::VqaAccuracy
    }
    fn tests(&self) -> u64 {
        self.0.len() as u64
    }
    fn demonstrations(&self) -> u64 {
        0
    }
    fn test(&self, index: u64) -> anyhow::Result<Question> {
        Ok(self.0[index as usize].clone())
    }
    fn demonstration(&self, _: u64) -> anyhow::Result<Question> {
        anyhow::bail!("none")
    }
    fn max_tokens(&self) -> usize {
        4
    }
}

/// Waves that `seed` determines, of a given size and brightness.
fn waves(seed: u32, side: u32, more: u8) -> Image {
    let level = |i: u32| {
        let (x, y) = (f64::from(i % side) / f64::from(side), f64::from(i / side) / f64::from(side));
        let wave =
            (x * f64::from(3 + seed * 2) + y * f64::from(seed)).sin() * (y * f64::from(5 + seed)).cos();
        (128.0 + 90.0 * wave) as u8 + more
    };
    let rgb = (0..side * side).flat_map(|i| [level(i); 3]).collect();
    Arc::new(Picture { width: side, height: side, rgb }).into()
}

#[test]
fn pictures_and_texts_that_training_has_seen_are_found() {
    let mut seen = TrainingHashes::default();
    let long = "It was the best of times, it was the worst of times, it was the age of wisdom";
    for seed in 1..6 {
        let segments = vec![Segment::Image(waves(seed, 64, 0)), Segment::text(format!("{seed}: {long}"))];
        seen.add(&Document { id: seed.to_string(), kind: DocumentKind::Captioned, segments });
    }
    let item = |id: &str, picture: Image, text: &str| Question {
        id: id.into(),
        pictures: vec![picture],
        text: text.into(),
        answers: vec!["yes".into()],
        ..Question::default()
    };
    let task = Items(vec![
        item("same", waves(2, 64, 0), "is it?"),
        item("scaled", waves(3, 48, 0), "is it?"),
        item("brighter", waves(4, 64, 9), "is it?"),
        item("new", waves(11, 64, 0), "is it?"),
        item(
            "quoted",
            waves(12, 64, 0),
            "Who wrote: the best of times it was the worst of times; it was the age?",
        ),
        item("short", waves(13, 64, 0), "the best of times"),
    ]);
    let found = seen.check(&task, 100);
    assert_eq!((found.documents, found.items), (5, 6));
    assert_eq!((found.same_pictures, found.near_pictures, found.texts), (2, 3, 1), "{found:?}");
    let named: Vec<_> = found.examples.iter().map(|(id, what)| (id.as_str(), what.as_str())).collect();
    let (same, similar) = ("same picture", "similar picture");
    assert_eq!(named, [("brighter", similar), ("quoted", "text"), ("same", same), ("scaled", same)]);
    assert_eq!(seen.check(&task, 1).items, 1);
}
