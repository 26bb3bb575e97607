//! Captions of an alt-text and a description.

use mm1_data::fusion::{FusedCaption, fuse};

fn fused(alt_text: &str, description: &str) -> (String, bool) {
    let FusedCaption { text, gained } = fuse(alt_text, description);
    (text, gained)
}

#[test]
fn the_alt_text_comes_first_and_news_follow() {
    let (text, gained) =
        fused("Aunt Mary in Oslo, 1974", "A photo of a woman on a bridge. She holds a red umbrella.");
    assert_eq!(text, "Aunt Mary in Oslo, 1974. A photo of a woman on a bridge. She holds a red umbrella.");
    assert!(gained);
    // A mark of its own stays.
    assert_eq!(fused("Who is this?", "A dog.").0, "Who is this? A dog.");
    assert_eq!(fused("\"Stop!\"", "A dog.").0, "\"Stop!\" A dog.");
}

#[test]
fn sentences_without_news_are_left_out() {
    assert_eq!(
        fused("Two cats on a mat", "This is a picture of a cat. It is on the mat."),
        ("Two cats on a mat".into(), false)
    );
    assert_eq!(
        fused("Rex", "A photo of a dog. A photo of a dog. The dog is brown. A photo of a dog."),
        ("Rex. A photo of a dog. The dog is brown.".into(), true)
    );
    assert_eq!(fused("Rex.", ""), ("Rex.".into(), false));
    assert_eq!(fused("Rex", "   \n "), ("Rex".into(), false));
}

#[test]
fn a_sentence_that_was_cut_short_is_left_out() {
    assert_eq!(fused("Rex", "A dog runs. On the left there is a").0, "Rex. A dog runs.");
    // Many captions have no mark at all.
    assert_eq!(fused("Rex", "a brown dog").0, "Rex. a brown dog");
}

#[test]
fn a_description_with_the_alt_text_in_it_stands_alone() {
    assert_eq!(
        fused("A red fox.", "This is a red fox\non a white background."),
        ("This is a red fox on a white background.".into(), true)
    );
    assert_eq!(fused("a fox", "A fox."), ("A fox.".into(), false));
    // Other capitals are other words: a name is not lost.
    assert_eq!(fused("my Fox", "On my fox."), ("my Fox".into(), false));
    // The words must follow one another, and each sentence must have come through.
    assert_eq!(fused("red fox", "A red, small fox.").0, "red fox. A red, small fox.");
    assert_eq!(fused("the left fox", "A dog. On the left fox").0, "the left fox. A dog.");
}

#[test]
fn other_scripts_are_words_too() {
    assert_eq!(
        fused("Straße in Köln", "Ein Café. Straße, Köln."),
        ("Straße in Köln. Ein Café.".into(), true)
    );
    assert_eq!(fused("猫", "一只猫。").0, "猫. 一只猫。");
}

/// Whatever the texts are, the words of the alt-text are in the caption in their order, and what follows says
/// something.
#[test]
fn no_word_of_the_alt_text_is_ever_lost() {
    let pieces =
        ["A", "cat", "Oslo", "of", "the", "red", "cats.", "1974", "C++", "dog!", "\"on\"", "mat", "?", "..."];
    let mut state = 7_u64;
    let mut pick = |n: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % n
    };
    let words = |text: &str| -> Vec<String> {
        text.split_whitespace()
            .map(|word| word.trim_matches(['.', '!', '?', '"']).to_lowercase())
            .filter(|word| !word.is_empty())
            .collect()
    };
    for _ in 0..20_000 {
        let mut text = |n: usize| (0..n).map(|_| pieces[pick(pieces.len())]).collect::<Vec<_>>().join(" ");
        let (alt_text, description) = (text(5), text(9));
        let (caption, gained) = fused(&alt_text, &description);
        let (all, part) = (words(&caption), words(&alt_text));
        let held = part.is_empty() || all.windows(part.len()).any(|window| window == part);
        assert!(held, "{alt_text:?} + {description:?} = {caption:?}");
        assert!(!gained || all.len() > part.len(), "{alt_text:?} + {description:?} = {caption:?}");
    }
}
