//! New words: bound in the prompt alone, unknown to training, and not to be guessed from a position, colour
//! or size.

use std::collections::BTreeSet;

use mm1_data::source::Split;
use mm1_data::world::{BOUND, Binding, WorldStream};

use super::{SPLITS, documents, whole_text, world};

#[test]
fn items_are_pure_functions_of_their_index_and_place_their_pictures() {
    let (world, again) = (world(), world());
    for words in BOUND {
        let question = world.binding_question(Split::Test, words, 5);
        assert_eq!(question, again.binding_question(Split::Test, words, 5));
        assert_ne!(question, world.binding_question(Split::Test, words, 6));
        let binding = world.binding(Split::Test, words, 5);
        assert_eq!(question.pictures.len(), words + 1);
        assert_eq!(question.pictures[words], world.picture(&binding.scenes[words]).into());
        assert_eq!(question.text.matches("<image>").count(), words + 1, "{}", question.text);
        assert!(question.text.ends_with(". <image>Which is this?"));
        for (word, before) in binding.words.iter().zip(question.text.split("<image>").skip(1)) {
            assert_eq!(before, format!("This is a {word}. "));
        }
        assert_eq!(question.answers, [binding.words[binding.queried].clone()]);
    }
}

#[test]
fn only_the_object_tells_the_word() {
    let world = world();
    for (split, words) in SPLITS.into_iter().flat_map(|s| BOUND.map(|w| (s, w))) {
        let mut positions = vec![0; words];
        for i in 0..3000 {
            let Binding { words, scenes, queried } = world.binding(split, words, i);
            positions[queried] += 1;
            let (bound, query) = (&scenes[..words.len()], &scenes[words.len()]);
            let emoji = |k: usize| scenes[k].objects[0].emoji;
            let alike: Vec<usize> =
                (0..bound.len()).filter(|&k| emoji(k) == query.objects[0].emoji).collect();
            assert_eq!(alike, [queried], "{words:?}");
            let different = |all: BTreeSet<usize>| all.len();
            assert_eq!(different(scenes.iter().map(|s| s.colour).collect()), scenes.len());
            assert_eq!(words.iter().collect::<BTreeSet<_>>().len(), bound.len());
            assert!(scenes.iter().all(|s| s.objects.len() == 1 && s.belongs(&world, split)));
            assert!(bound.iter().all(|s| s.objects[0].side != query.objects[0].side));
        }
        let chance = 1.0 / words as f64;
        for (at, n) in positions.iter().enumerate() {
            let share = f64::from(*n) / 3000.0;
            assert!((share - chance).abs() < 0.03, "word {at} of {words} is right in {share}");
        }
    }
}

#[test]
fn no_word_of_the_test_is_in_any_training_text() {
    let world = world();
    let mut test = BTreeSet::new();
    for (words, i) in BOUND.into_iter().flat_map(|w| (0..1000).map(move |i| (w, i))) {
        test.extend(world.binding(Split::Test, words, i).words);
    }
    assert!(test.len() > 4000, "only {} words", test.len());
    let names: BTreeSet<_> = world.emoji().iter().flat_map(|e| e.name.split(' ')).collect();
    assert!(test.iter().all(|w| !names.contains(w.as_str())));
    for stream in WorldStream::ALL {
        for document in documents(&world, stream, Split::Train, 2000) {
            let text = whole_text(&document).to_lowercase();
            for word in text.split(|c: char| !c.is_alphabetic()) {
                assert!(!test.contains(word), "{word} in {}: {text}", document.id);
            }
        }
    }
}
