//! Items about text alone: true, with wrong options beside the right one, and about what no stream with
//! pictures says.

use std::collections::BTreeSet;

use mm1_data::question::Question;
use mm1_data::source::Split;
use mm1_data::world::{Class, ObjectPlace, TextItem, World, WorldStream};

use super::truth::{self, NUMBERS};
use super::{SPLITS, documents, world};

fn items(world: &World, split: Split, item: TextItem, number: u64) -> Vec<Question> {
    (0..number).map(|index| world.text_question(split, item, index)).collect()
}

#[test]
fn the_right_ending_is_true_and_the_others_are_not() {
    let world = world();
    for split in SPLITS {
        for item in TextItem::ALL {
            let mut first = 0;
            for question in items(&world, split, item, 400) {
                let [right] = &question.answers[..] else { panic!("{question:?}") };
                let options: BTreeSet<&String> = question.choices.iter().collect();
                assert_eq!((options.len(), question.choices.len()), (4, 4), "{question:?}");
                first += u32::from(question.choices[0] == *right);
                let true_ones: Vec<_> = question
                    .choices
                    .iter()
                    .filter(|end| is_true(&world, item, &question.text, end))
                    .collect();
                assert_eq!(true_ones, [right], "{question:?}");
            }
            assert!((70..=130).contains(&first), "{item:?}: the first is right {first} times of 400");
        }
    }
}

/// Whether an ending is true, by reading the text.
fn is_true(world: &World, item: TextItem, text: &str, end: &str) -> bool {
    match item {
        TextItem::Class => {
            let [emoji] = truth::named(world, text).0[..] else { panic!("{text}") };
            end == format!("{}.", world.emoji()[emoji].class.phrase())
        }
        TextItem::Number => {
            let number = |word: &str| NUMBERS.iter().position(|n| n.eq_ignore_ascii_case(word));
            let told: Vec<usize> = text.split([' ', '.']).filter_map(number).collect();
            // "One more" is the second number of the third form.
            let expected = if text.starts_with("After ") { told[0] + 1 } else { told.iter().sum() };
            number(end.trim_end_matches('.')) == Some(expected)
        }
        TextItem::Story => {
            let sought = text.split(" looks for the ").nth(1).unwrap();
            sought.starts_with(&format!("{} in a picture.", end.trim_end_matches('!')))
        }
        TextItem::Place | TextItem::Object => {
            let stated: Vec<_> = truth::told(world, text);
            let [emoji, ..] = truth::named(world, end).0[..] else {
                let asked = *truth::named(world, text).0.last().unwrap();
                let place = ObjectPlace::ALL.into_iter().find(|p| end == format!("{}.", p.name())).unwrap();
                return stated.contains(&(asked, place));
            };
            let asked = text.rsplit_once("What is in the ").unwrap().1;
            let place = ObjectPlace::ALL.into_iter().find(|p| asked.starts_with(p.name())).unwrap();
            stated.contains(&(emoji, place))
        }
    }
}

#[test]
fn what_is_read_is_of_the_split_and_what_is_remembered_comes_once() {
    let world = world();
    for split in SPLITS {
        for item in [TextItem::Place, TextItem::Object, TextItem::Story] {
            let mut stated = 0;
            for question in items(&world, split, item, 200) {
                assert_eq!(question.further_categories, ["reading"]);
                // A story says the place and what is there in two sentences.
                let text = question.text.replace(". There is a", " there is a");
                let (_, colours) = truth::named(&world, &text);
                for (emoji, place) in truth::told(&world, &text) {
                    stated += 1;
                    assert!(world.allows(split, emoji, colours[0], place), "{text}");
                }
            }
            assert!(stated >= 200, "{item:?} states {stated} compositions");
        }
        // Sums, numbers after others, and one more; classes of 120 emoji, said in two ways.
        for (item, number) in [(TextItem::Number, 20 + 5 + 24), (TextItem::Class, 240)] {
            let items = items(&world, split, item, number);
            assert!(items.iter().all(|question| question.further_categories == ["memory"]));
            let texts: BTreeSet<&str> = items.iter().map(|question| &question.text[..]).collect();
            assert_eq!(texts.len() as u64, number, "{item:?}");
        }
    }
}

#[test]
fn only_text_says_what_things_are_and_how_to_count() {
    let world = world();
    let says = |stream| {
        let said: String = documents(&world, stream, Split::Train, 1000)
            .iter()
            .flat_map(|document| document.texts().map(str::to_owned).collect::<Vec<_>>())
            .collect();
        let class = Class::ALL.iter().any(|class| said.contains(&format!("is {}.", class.phrase())));
        [class, said.contains(" make "), said.contains("After "), said.contains("gets one more")]
    };
    assert_eq!(says(WorldStream::Text), [true; 4]);
    for stream in [
        WorldStream::Captioned,
        WorldStream::Scenes,
        WorldStream::Interleaved,
        WorldStream::Pairs,
        WorldStream::Binding,
        WorldStream::Signs,
        WorldStream::Stickers,
        WorldStream::Descriptions,
    ] {
        assert_eq!(says(stream), [false; 4], "{stream:?}");
    }
}
