//! Counts that were made by hand.

use mm1_data::document::DocumentKind;
use mm1_data::examine::Damaged;
use mm1_data::source::BesidePictures;
use mm1_data::statistics::{Statistics, Sums};

use super::{how, opened, samples};
use crate::source::sample;

fn count(path: &str, threads: usize) -> (Statistics, Vec<Damaged>) {
    let (mut all, mut damaged) = (Statistics::default(), Vec::new());
    let mut beside = BesidePictures::default();
    for source in &opened(&[path], None, &[]).unwrap() {
        let (statistics, found) =
            Statistics::of(source, Some(&crate::tokenizer()), how(threads), &mut beside, &mut |_| {})
                .unwrap();
        all.merge(&statistics);
        damaged.extend(found);
    }
    (all, damaged)
}

#[test]
fn samples_are_counted_as_by_hand() {
    let (pairs, damaged) = count(&sample("pairs.tar"), 2);
    let Sums { documents, images, words, bytes } = pairs.sums;
    assert_eq!((documents, images, words, pairs.skipped, damaged.len()), (6, 6, 12, 0, 0));
    // Six captions of nine bytes, and the pictures.
    assert!(bytes > 6 * 9 + 6 * 100, "{bytes}");
    assert_eq!(pairs.words_histogram.bins(), [(2, 3, 6)]);
    assert_eq!(pairs.images_histogram.bins(), [(1, 1, 6)]);
    // All are 20 x 14.
    assert_eq!(pairs.short_side_histogram.bins(), [(8, 15, 6)]);
    assert_eq!((pairs.long_side_histogram.bins(), pairs.long_side_histogram.max()), (vec![(16, 31, 6)], 20));
    assert_eq!(
        pairs.formats.iter().map(|(name, n)| (name.as_str(), *n)).collect::<Vec<_>>(),
        [("JPEG", 2), ("PNG", 2), ("WebP", 2)]
    );
    assert_eq!(pairs.kinds.keys().collect::<Vec<_>>(), [&DocumentKind::Captioned]);

    // "One. Two. Three." with two pictures, "Both here." with two; a picture is missing, a number is wrong.
    let (mmc4, damaged) = count(&sample("mmc4.jsonl"), 2);
    assert_eq!((mmc4.sums.documents, mmc4.sums.images, mmc4.sums.words, mmc4.skipped), (2, 4, 5, 2));
    assert_eq!(mmc4.reasons.values().sum::<u64>(), 2);
    assert!(damaged[0].reason.contains("missing.jpg") && damaged[0].index == Some(2), "{damaged:?}");
    assert!(damaged[0].file.ends_with("mmc4.jsonl"));

    let (llava, _) = count(&sample("llava.json"), 1);
    assert_eq!((llava.sums.documents, llava.sums.images, llava.skipped), (3, 3, 1));
    let tokens = llava.tokens.unwrap();
    assert!(tokens >= llava.sums.words, "{tokens} tokens of {} words", llava.sums.words);
    assert_eq!(llava.tokens_histogram.mean(), tokens as f64 / 3.0);
}

#[test]
fn counts_do_not_depend_on_the_threads() {
    let folder = tempfile::tempdir().unwrap();
    let root = samples(folder.path());
    let one = count(root.to_str().unwrap(), 1);
    assert_eq!((one.0.sums.documents, one.0.skipped), (69, 11));
    assert_eq!(one, count(root.to_str().unwrap(), 2));
    assert_eq!(one, count(root.to_str().unwrap(), 7));
}
