//! Questions for tuning: true, and not to be answered by their words.

use std::collections::{BTreeMap, BTreeSet};

use mm1_data::source::Split;
use mm1_data::world::{COLOURS, Scene, World, WorldStream};

use super::{SPLITS, truth, world};

/// A question of a conversation with what was said before it.
#[derive(Clone, Debug)]
struct Asked {
    kind: &'static str,
    before: Vec<String>,
    question: String,
    answer: String,
    scene: Scene,
}

/// What a question asks for, by its first words.
fn kind(question: &str) -> Option<&'static str> {
    let begins = |words: &[&str]| words.iter().any(|w| question.starts_with(w));
    let colour = question.to_lowercase().contains("colour");
    [
        ("colour", colour),
        ("count", begins(&["How many"])),
        ("where", begins(&["Where", "In which part"])),
        ("yes-no", begins(&["Is there", "Does the picture show", "Can you see"])),
        ("what", !colour && begins(&["What", "Which object"]) && !begins(&["What do you see"])),
    ]
    .into_iter()
    .find_map(|(kind, is)| is.then_some(kind))
}

/// The questions about one picture of so many conversations.
fn asked(world: &std::sync::Arc<World>, stream: WorldStream, split: Split, number: u64) -> Vec<Asked> {
    let source = world.source(stream);
    let mut all = Vec::new();
    for index in 0..number {
        let [scene] = &world.scenes(stream, split, index)[..] else { continue };
        let texts = source.texts(split, index).unwrap();
        let turns = if texts.len() % 2 == 1 { &texts[1..] } else { &texts };
        for (turn, pair) in turns.chunks(2).enumerate() {
            let [question, answer] = pair else { panic!("{texts:?}") };
            let (answer, scene) = (answer.clone(), scene.clone());
            if let Some(kind) = kind(question) {
                let (before, question) = (turns[..2 * turn].to_vec(), question.clone());
                all.push(Asked { kind, before, question, answer, scene });
            }
        }
    }
    all
}

/// Everything that words can tell: the question, with names left out and by themselves, and each thing that
/// was said before; above all whether what is asked for was named.
fn features(world: &World, asked: &Asked) -> BTreeSet<String> {
    let bare = |text: &str| {
        let named: Vec<&str> =
            world.emoji().iter().map(|e| e.name).filter(|name| text.contains(name)).collect();
        let longest = named.into_iter().max_by_key(|name| name.len());
        (longest.map_or_else(|| text.to_owned(), |name| text.replace(name, "X")), longest)
    };
    let (question, name) = bare(&asked.question);
    let said = asked.before.concat();
    let mut all: BTreeSet<String> = [question, format!("{} before", asked.before.len())].into();
    if let Some(name) = name {
        all.extend([name.to_owned(), format!("named before: {}", said.contains(name))]);
    }
    all.extend(asked.before.iter().map(|text| format!("said {}", bare(text).0)));
    all
}

/// Naive Bayes over [`features`], learned on the first three quarters of the questions of a kind: the share
/// of the others that it answers, and how many these are.
fn told_by_words(world: &World, asked: &[&Asked]) -> (f64, usize) {
    let (train, test) = asked.split_at(asked.len() * 3 / 4);
    let mut counts = BTreeMap::<&str, (f64, BTreeMap<String, f64>)>::new();
    for one in train {
        let (number, of) = counts.entry(&one.answer).or_default();
        *number += 1.0;
        features(world, one).into_iter().for_each(|feature| *of.entry(feature).or_default() += 1.0);
    }
    let right = test.iter().filter(|one| {
        let features = features(world, one);
        let score = |(number, of): &(f64, BTreeMap<String, f64>)| {
            let of_feature = |f: &String| ((of.get(f).unwrap_or(&0.0) + 0.5) / (number + 1.0)).ln();
            number.ln() + features.iter().map(of_feature).sum::<f64>()
        };
        let best = counts.iter().max_by(|a, b| score(a.1).total_cmp(&score(b.1)));
        best.is_some_and(|(answer, _)| *answer == one.answer)
    });
    (right.count() as f64 / test.len() as f64, test.len())
}

#[test]
fn no_answer_is_told_by_the_question_and_what_was_said_before_it() {
    let world = world();
    let all = asked(&world, WorldStream::Vqa, Split::Train, 24_000);
    // Sentences say the same, and every one would be an answer of its own.
    let short: Vec<&Asked> = all.iter().filter(|one| !one.answer.ends_with('.')).collect();
    // Chance: one of two, of four numbers, of five places (the centre has one picture in six), of ten colours
    // and of 120 names.
    for (kind, chance) in
        [("yes-no", 0.5), ("count", 0.25), ("where", 0.21), ("colour", 0.11), ("what", 1.0 / 120.0)]
    {
        let of_kind: Vec<&Asked> = short.iter().copied().filter(|one| one.kind == kind).collect();
        let (right, n) = told_by_words(&world, &of_kind);
        // Two standard errors, and what is learned of noise.
        let most = chance + 2.0 * (chance * (1.0 - chance) / n as f64).sqrt() + 0.01;
        assert!(n > 400 && right < most, "{kind}: {right:.3} of {n} answered by words, chance {chance:.3}");
    }
    // The same learner on the other conversations: what was named is there.
    let others = asked(&world, WorldStream::Chat, Split::Train, 12_000);
    let others: Vec<&Asked> = others.iter().filter(|one| one.kind == "yes-no").collect();
    let (right, n) = told_by_words(&world, &others);
    assert!(right > 0.6, "{right:.3} of {n}");
}

#[test]
fn every_answer_is_true_and_no_question_comes_twice() {
    let world = world();
    let names: Vec<&str> = world.emoji().iter().map(|e| e.name).collect();
    for split in SPLITS {
        let mut kinds = BTreeMap::new();
        for one in asked(&world, WorldStream::Vqa, split, 3000) {
            let Asked { kind, question, answer, scene, before } = &one;
            assert!(!before.contains(question), "{question} twice");
            *kinds.entry(*kind).or_insert(0) += 1;
            let named = truth::named(&world, question).0;
            if answer.ends_with('.') {
                let claims = truth::check(&world, answer, std::slice::from_ref(scene));
                let place = || scene.find(named[0]).is_some_and(|o| answer.contains(o.place.name()));
                assert!(if *kind == "where" { place() } else { claims > 0 }, "{question} {answer}");
                continue;
            }
            let right = match *kind {
                "yes-no" => scene.find(named[0]).is_some() == (answer == "yes"),
                "where" => scene.find(named[0]).is_some_and(|o| o.place.name() == answer),
                "colour" => COLOURS[scene.colour].0 == answer,
                "count" => ["one", "two", "three", "four"][scene.objects.len() - 1] == answer,
                _ => {
                    let is = |o: &&mm1_data::world::Object| names[o.emoji] == answer;
                    let shown = scene.objects.iter().find(is);
                    shown.is_some_and(|o| scene.objects.len() == 1 || question.contains(o.place.name()))
                }
            };
            assert!(right, "{question} {answer} {scene:?}");
        }
        assert_eq!(kinds.len(), 5);
        assert!(kinds.values().all(|n| *n > 300), "{kinds:?}");
    }
}

#[test]
fn a_prompt_that_asks_for_a_sentence_gets_one_and_every_other_question_a_short_answer() {
    let world = world();
    let source = world.source(WorldStream::Vqa);
    let (mut words, mut sentences) = (0, 0);
    for index in 0..2000 {
        let texts = source.texts(Split::Train, index).unwrap();
        let (first, answers) = (&texts[0], texts.iter().skip(1).step_by(2));
        let sentence = first.ends_with("sentence.");
        words += usize::from(!sentence && first.ends_with('.'));
        sentences += usize::from(sentence);
        for answer in answers {
            assert_eq!(answer.ends_with('.'), sentence, "{texts:?}");
        }
    }
    assert!((150..250).contains(&words) && (150..250).contains(&sentences), "{words} and {sentences}");
}

#[test]
fn descriptions_are_those_of_the_captioning_task() {
    let world = world();
    let mut begins = BTreeMap::new();
    for index in 0..500 {
        let texts = world.source(WorldStream::Descriptions).texts(Split::Train, index).unwrap();
        let [request, answer] = &texts[..] else { panic!("{texts:?}") };
        let [scene] = &world.scenes(WorldStream::Descriptions, Split::Train, index)[..] else { panic!() };
        assert!(truth::check(&world, answer, std::slice::from_ref(scene)) > scene.objects.len(), "{answer}");
        *begins.entry((request.clone(), answer.starts_with('A'))).or_insert(0) += 1;
    }
    assert_eq!(begins.len(), 6);
    assert!(begins[&("Describe the picture.".to_owned(), false)] > 100, "{begins:?}");
}

#[test]
fn a_page_of_questions_has_the_form_of_the_evaluation_and_true_answers() {
    let world = world();
    for index in 0..1000 {
        let texts = world.source(WorldStream::Quiz).texts(Split::Train, index).unwrap();
        let ([text], [scene]) = (&texts[..], &world.scenes(WorldStream::Quiz, Split::Train, index)[..])
        else {
            panic!("{texts:?}")
        };
        let mut asked = BTreeSet::new();
        for line in text.split('\n') {
            let (question, answer) =
                line.strip_prefix("Question: ").unwrap().split_once(" Short answer: ").unwrap();
            assert!(asked.insert(question), "{text}");
            let named = truth::named(&world, question).0;
            let there = named.first().map(|&emoji| scene.find(emoji).is_some());
            assert_eq!(there.unwrap_or(true), answer != "no", "{line}");
            assert!(
                kind(question) != Some("count") || answer == truth::NUMBERS[scene.objects.len()],
                "{line}"
            );
        }
        assert!(asked.len() <= 5);
    }
}
