//! Answers in two steps and conversations with a chain of thought: true, balanced, and learned where the
//! request names their form.

use std::collections::BTreeMap;

use mm1_data::document::{Segment, Special};
use mm1_data::source::Split;
use mm1_data::world::{BOUND, Comparison, CountedScenes, SecondStep, WorldStream};

use super::truth::{self, NUMBERS};
use super::{SPLITS, documents, world};

#[test]
fn the_answer_follows_from_the_numbers_and_each_is_as_frequent_as_another() {
    let world = world();
    for (step, answers) in [(SecondStep::More, 2), (SecondStep::Together, 7), (SecondStep::Difference, 3)] {
        for split in SPLITS {
            let mut counts = BTreeMap::<_, u32>::new();
            for index in 0..2800 {
                let CountedScenes { scenes, text, answers, reasoning } = world.counted(split, step, index);
                assert!(scenes.iter().all(|scene| scene.belongs(&world, split)));
                let [a, b] = scenes.each_ref().map(|scene| scene.objects.len());
                let expected = match step {
                    SecondStep::More if (a > b) == text.contains("more") => "the first",
                    SecondStep::More => "the second",
                    SecondStep::Together => NUMBERS[a + b],
                    SecondStep::Difference => NUMBERS[a.abs_diff(b)],
                };
                assert_eq!(answers[0], expected, "{text} {a} {b}");
                let said: Vec<usize> = reasoning
                    .split(['.', ' '])
                    .filter_map(|w| NUMBERS.iter().position(|n| *n == w))
                    .collect();
                assert_eq!(said[..2], [a, b], "{reasoning}");
                let last = said.last().unwrap();
                assert!(step == SecondStep::More || NUMBERS[*last] == expected, "{reasoning}");
                *counts.entry(answers[0].clone()).or_default() += 1;
            }
            let even = 2800 / answers;
            assert_eq!(counts.len(), answers as usize);
            assert!(counts.values().all(|n| n.abs_diff(even) < even / 5), "{step:?}: {counts:?}");
        }
    }
}

#[test]
fn items_about_several_pictures_have_a_chain_of_thought_that_ends_in_nothing_but_the_answer() {
    let world = world();
    let mut items = Vec::new();
    for index in 0..200 {
        items.extend(SecondStep::ALL.map(|step| world.steps_question(Split::Test, step, index)));
        items.extend(Comparison::ALL.map(|kind| world.comparison_question(Split::Test, kind, index)));
        items.extend(BOUND.map(|words| world.binding_question(Split::Test, words, index)));
    }
    for item in items {
        assert!(item.reasoning.ends_with('.') && !item.reasoning.contains("answer"), "{item:?}");
        assert!(item.reasoning.len() > 30, "{}", item.reasoning);
    }
    let pair = world.compared(Split::Test, Comparison::Changed, 3);
    let said = world.comparison_question(Split::Test, Comparison::Changed, 3).reasoning;
    for (sentence, scene) in said.split_inclusive('.').zip(&pair.scenes) {
        let (emoji, colours) = truth::named(&world, sentence);
        assert_eq!(emoji, scene.objects.iter().map(|o| o.emoji).collect::<Vec<_>>(), "{sentence}");
        assert_eq!(colours, [scene.colour]);
    }
}

#[test]
fn a_conversation_keeps_to_its_form_and_learns_it_only_where_it_is_told() {
    let world = world();
    let (mut reasoned, mut unlearned) = (0, 0);
    for document in documents(&world, WorldStream::Reasoning, Split::Train, 2000) {
        let said = |learned| {
            let text = |s: &Segment| match s {
                Segment::Text { text, learn } if *learn == learned => Some(text.clone()),
                _ => None,
            };
            document.segments.iter().filter_map(text).collect::<Vec<_>>()
        };
        let (learned, read) = (said(true), said(false));
        let with = learned.iter().filter(|answer| answer.contains(" The answer is ")).count();
        assert!(with == 0 || with == learned.len(), "{learned:?}");
        let shown_first = read.iter().filter(|text| text.contains(" The answer is ")).count();
        let prompted = ["Think step by step.", "Explain your answer.", "Say how you find the answer."]
            .iter()
            .any(|prompt| read[0].ends_with(prompt) || read.iter().any(|text| text.ends_with(prompt)));
        assert_eq!(shown_first, usize::from(with > 0 && !prompted), "{read:?} {learned:?}");
        assert!(!prompted || with > 0, "{read:?}");
        let ends = document
            .segments
            .iter()
            .filter(|s| matches!(s, Segment::Token { token: Special::End, learn: true }));
        assert_eq!(ends.count(), learned.len());
        assert!((2..=10).contains(&document.pictures().count()));
        reasoned += usize::from(with > 0);
        unlearned += shown_first;
    }
    assert!((900..1100).contains(&reasoned) && unlearned > 200, "{reasoned}, {unlearned}");
}
