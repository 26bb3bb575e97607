//! Reads the world's sentences back, without its templates, and compares what they claim with the scenes.

use mm1_data::document::{Document, Segment};
use mm1_data::world::{COLOURS, Category, Class, ObjectPlace, ObjectSize, Scene, World, WorldStream};

use super::{SPLITS, documents, world};

#[derive(Clone, Debug, PartialEq)]
enum Word {
    Emoji(usize),
    ObjectPlace(ObjectPlace),
    Colour(usize),
    ObjectSize(ObjectSize),
    Number(usize),
    Other(String),
}

pub(super) const NUMBERS: [&str; 13] = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
];

fn read(world: &World, text: &str) -> Vec<Word> {
    let words: Vec<String> = text
        .split_whitespace()
        .map(|w| w.trim_matches(|c: char| !c.is_alphanumeric()).to_lowercase())
        .filter(|w| !w.is_empty())
        .collect();
    let known = |name: &str| {
        let emoji = world.emoji().iter().position(|e| e.name == name).map(Word::Emoji);
        let place = || ObjectPlace::ALL.into_iter().find(|p| p.name() == name).map(Word::ObjectPlace);
        let colour = || COLOURS.iter().position(|c| c.0 == name).map(Word::Colour);
        let size = || {
            [ObjectSize::Small, ObjectSize::Large]
                .into_iter()
                .find(|s| s.name() == name)
                .map(Word::ObjectSize)
        };
        let number = || NUMBERS.iter().position(|n| *n == name).map(Word::Number);
        emoji.or_else(place).or_else(colour).or_else(size).or_else(number)
    };
    let mut out = Vec::new();
    let mut at = 0;
    while at < words.len() {
        let pair = words.get(at + 1).and_then(|next| known(&format!("{} {next}", words[at])));
        at += if pair.is_some() { 2 } else { 1 };
        out.push(
            pair.or_else(|| known(&words[at - 1])).unwrap_or_else(|| Word::Other(words[at - 1].clone())),
        );
    }
    out
}

/// The emoji and the colours that a text names.
pub(super) fn named(world: &World, text: &str) -> (Vec<usize>, Vec<usize>) {
    let (mut emoji, mut colours) = (Vec::new(), Vec::new());
    for word in read(world, text) {
        match word {
            Word::Emoji(e) => emoji.push(e),
            Word::Colour(c) => colours.push(c),
            _ => {}
        }
    }
    (emoji, colours)
}

/// What a line states of where emoji stand on its one colour: (emoji, colour, place).
pub(super) fn composed(world: &World, line: &str) -> Vec<(usize, usize, ObjectPlace)> {
    let (_, colours) = named(world, line);
    let [colour] = colours[..] else { return Vec::new() };
    let mut out = Vec::new();
    for sentence in line.split(['.', '?', '!']) {
        let words = read(world, sentence);
        for pair in content(&words).windows(2) {
            if let [Word::Emoji(e), Word::ObjectPlace(p)] = pair {
                out.push((*e, colour, *p));
            }
        }
    }
    out
}

/// Where a text says that things are: "The dog face is in the top left.", or "In the top left there is a dog
/// face."
pub(super) fn told(world: &World, text: &str) -> Vec<(usize, ObjectPlace)> {
    let mut out = Vec::new();
    for sentence in text.split_inclusive(['.', '?', '!']).filter(|sentence| sentence.ends_with('.')) {
        let words = read(world, sentence);
        let emoji = words.iter().find_map(|w| if let Word::Emoji(e) = w { Some(*e) } else { None });
        let place = words.iter().find_map(|w| if let Word::ObjectPlace(p) = w { Some(*p) } else { None });
        out.extend(emoji.zip(place));
    }
    out
}

/// The words that say something of a place.
fn content(words: &[Word]) -> Vec<&Word> {
    let filler = |w: &Word| matches!(w, Word::Other(o) if ["is", "in", "the"].contains(&o.as_str()));
    words.iter().filter(|w| !filler(w)).collect()
}

fn has(words: &[Word], other: &str) -> bool {
    words.iter().any(|w| matches!(w, Word::Other(o) if o == other))
}

/// Compares every claim of `text` with the scenes it is about; returns the number of claims.
pub(super) fn check(world: &World, text: &str, scenes: &[Scene]) -> usize {
    let mut claims = order(&read(world, text), text, scenes);
    for sentence in text.split_inclusive(['.', '!']) {
        let words = read(world, sentence);
        claims += presence(&words, sentence, scenes) + places(&words, sentence, scenes);
        claims += counts(&words, sentence, scenes);
        if let [first, second] = scenes {
            claims += comparison(&words, sentence, [first, second]);
        }
        for word in &words {
            if let Word::Colour(c) = word {
                assert!(scenes.iter().any(|s| s.colour == *c), "colour in {sentence:?}: {scenes:?}");
                claims += 1;
            }
        }
    }
    claims
}

/// Named emoji are there, or are not where the sentence says "no"; sizes are theirs.
fn presence(words: &[Word], sentence: &str, scenes: &[Scene]) -> usize {
    let mut claims = 0;
    for (at, word) in words.iter().enumerate() {
        let Word::Emoji(e) = word else { continue };
        let object = scenes.iter().find_map(|s| s.find(*e));
        assert_eq!(object.is_some(), !has(words, "no"), "presence in {sentence:?}: {scenes:?}");
        if let (Some(Word::ObjectSize(size)), Some(object)) = (at.checked_sub(1).map(|i| &words[i]), object) {
            assert_eq!(object.size, *size, "size in {sentence:?}");
            claims += 1;
        }
        claims += 1;
    }
    claims
}

/// "X [is] in the PLACE"; the one emoji of a sentence is in its one place; and so is the one object of a
/// scene.
fn places(words: &[Word], sentence: &str, scenes: &[Scene]) -> usize {
    let at = |emoji: usize, place: ObjectPlace| {
        let object = scenes.iter().find_map(|s| s.find(emoji));
        assert_eq!(object.map(|o| o.place), Some(place), "place in {sentence:?}: {scenes:?}");
        1
    };
    let mut claims = 0;
    for pair in content(words).windows(2) {
        if let [Word::Emoji(e), Word::ObjectPlace(p)] = pair {
            claims += at(*e, *p);
        }
    }
    let emoji: Vec<_> = words.iter().filter(|w| matches!(w, Word::Emoji(_))).collect();
    let places: Vec<_> = words.iter().filter(|w| matches!(w, Word::ObjectPlace(_))).collect();
    match (&emoji[..], &places[..], scenes) {
        ([Word::Emoji(e)], [Word::ObjectPlace(p)], _) => claims + at(*e, *p),
        ([], [Word::ObjectPlace(p)], [scene]) if scene.objects.len() == 1 => {
            assert_eq!(scene.objects[0].place, *p, "{sentence:?}");
            claims + 1
        }
        _ => claims,
    }
}

/// "... looks in the PLACE. There is a X": across sentences. Left, right, above and below.
fn order(words: &[Word], text: &str, scenes: &[Scene]) -> usize {
    let mut claims = 0;
    let find = |e: usize| scenes.iter().find_map(|s| s.find(e)).map(|o| o.place).unwrap();
    for window in words.windows(5) {
        let other = |i: usize, text: &str| matches!(&window[i], Word::Other(o) if o == text);
        if let (Word::ObjectPlace(p), Word::Emoji(e)) = (&window[0], &window[4])
            && other(2, "is")
            && (other(1, "there") || other(1, "it"))
            && !other(3, "no")
        {
            assert_eq!(find(*e), *p, "{text}");
            claims += 1;
        }
        if let (Word::Emoji(a), Word::Emoji(b)) = (&window[0], &window[4])
            && other(1, "is")
        {
            let above = |a, b| {
                matches!(
                    (find(a), find(b)),
                    (ObjectPlace::TopLeft, ObjectPlace::BottomLeft)
                        | (ObjectPlace::TopRight, ObjectPlace::BottomRight)
                )
            };
            assert!(!other(2, "above") || above(*a, *b), "{text}");
            assert!(!other(2, "below") || above(*b, *a), "{text}");
        }
        if let (Word::Emoji(a), Word::Emoji(b)) = (&window[0], &window[3])
            && (other(2, "above") || other(2, "below"))
        {
            panic!("{text}: {a} {b} without an article");
        }
    }
    for window in words.windows(8) {
        let other = |i: usize, text: &str| matches!(&window[i], Word::Other(o) if o == text);
        if let (Word::Emoji(a), Word::Emoji(b)) = (&window[0], &window[7])
            && other(2, "to")
        {
            let (left, right) = if other(4, "left") { (*a, *b) } else { (*b, *a) };
            let pair = (find(left), find(right));
            assert!(
                matches!(
                    pair,
                    (ObjectPlace::TopLeft, ObjectPlace::TopRight)
                        | (ObjectPlace::BottomLeft, ObjectPlace::BottomRight)
                ),
                "{text}"
            );
            claims += 1;
        }
    }
    claims
}

/// "N objects", "How many ...? N", "There are N.", or N alone.
fn counts(words: &[Word], sentence: &str, scenes: &[Scene]) -> usize {
    let mut claims = 0;
    for (at, word) in words.iter().enumerate() {
        let Word::Number(n) = word else { continue };
        let objects = matches!(words.get(at + 1), Some(Word::Other(o)) if o.starts_with("object"));
        if objects || has(words, "many") || has(words, "are") || has(words, "is") || words.len() == 1 {
            assert!(scenes.iter().any(|s| s.objects.len() == *n), "count in {sentence:?}: {scenes:?}");
            claims += 1;
        }
    }
    claims
}

/// Which of two pictures a sentence speaks of.
fn comparison(words: &[Word], sentence: &str, scenes: [&Scene; 2]) -> usize {
    let colours: Vec<usize> =
        words.iter().filter_map(|w| if let Word::Colour(c) = w { Some(*c) } else { None }).collect();
    let numbers: Vec<usize> =
        words.iter().filter_map(|w| if let Word::Number(n) = w { Some(*n) } else { None }).collect();
    let emoji: Vec<usize> =
        words.iter().filter_map(|w| if let Word::Emoji(e) = w { Some(*e) } else { None }).collect();
    let counts = scenes.map(|s| s.objects.len());
    let both = has(words, "both");
    let at = usize::from(has(words, "second"));
    let ordinal = has(words, "first") != has(words, "second");
    if both && !colours.is_empty() {
        assert!(scenes.iter().all(|s| s.colour == colours[0]), "{sentence}");
    }
    if both && !numbers.is_empty() {
        assert_eq!(counts, [numbers[0]; 2], "{sentence}");
    }
    if colours.len() == 2 {
        assert_eq!(scenes.map(|s| s.colour).to_vec(), colours, "{sentence}");
    }
    if numbers.len() == 2 {
        assert_eq!(counts.to_vec(), numbers, "{sentence}");
    }
    if emoji.len() == 2 {
        assert!((0..2).all(|i| scenes[i].find(emoji[i]).is_some()), "{sentence}");
    }
    if ordinal && emoji.len() == 1 {
        assert!(scenes[at].find(emoji[0]).is_some() && scenes[1 - at].find(emoji[0]).is_none(), "{sentence}");
    }
    if ordinal && colours.len() == 1 {
        assert!(scenes[at].colour == colours[0] && scenes[1 - at].colour != colours[0], "{sentence}");
    }
    if has(words, "more") {
        assert!(counts[at] > counts[1 - at], "{sentence}: {counts:?}");
    }
    if has(words, "fewer") {
        assert!(counts[at] < counts[1 - at], "{sentence}: {counts:?}");
    }
    usize::from(both || ordinal || colours.len() + numbers.len() + emoji.len() > 1)
}

/// Each text of a page with the scenes of the pictures before it.
fn items(document: &Document, scenes: &[Scene]) -> Vec<(String, Vec<Scene>)> {
    let mut left = scenes.iter();
    let (mut out, mut shown) = (Vec::new(), Vec::new());
    for segment in &document.segments {
        match segment {
            Segment::Image(_) => shown.push(left.next().unwrap().clone()),
            Segment::Text { text, .. } => out.push((text.clone(), std::mem::take(&mut shown))),
            Segment::Token { .. } => {}
        }
    }
    assert!(left.next().is_none() && shown.is_empty());
    out
}

#[test]
fn captions_are_true_and_full() {
    let world = world();
    for (stream, split) in
        [WorldStream::Captioned, WorldStream::Scenes].into_iter().flat_map(|s| SPLITS.map(|p| (s, p)))
    {
        for (i, document) in documents(&world, stream, split, 2000).iter().enumerate() {
            let scenes = world.scenes(stream, split, i as u64);
            let (text, shown) = items(document, &scenes).remove(0);
            let claims = check(&world, &text, &shown);
            assert_eq!(named(&world, &text).0.len(), shown[0].objects.len(), "{text}");
            // Each object and its place, and the background.
            let least = if stream == WorldStream::Captioned { 1 } else { 2 * shown[0].objects.len() + 1 };
            assert!(claims >= least, "{text}: {claims} claims");
        }
    }
}

#[test]
fn pages_are_true() {
    let world = world();
    let mut claims = 0;
    for split in SPLITS {
        for (i, document) in documents(&world, WorldStream::Interleaved, split, 3000).iter().enumerate() {
            let scenes = world.scenes(WorldStream::Interleaved, split, i as u64);
            let mut bound: Vec<(String, usize)> = Vec::new();
            for (at, (text, shown)) in items(document, &scenes).into_iter().enumerate() {
                if shown.is_empty() {
                    assert_eq!(at, 0, "{text}");
                    introduction(&world, &text, &scenes, &mut bound);
                } else {
                    claims += check(&world, &text, &shown) + binding(&text, &shown[0], &mut bound);
                }
            }
            assert!([0, 2].contains(&bound.len()), "{}: both new words come up: {bound:?}", document.id);
        }
    }
    assert!(claims > 40_000, "only {claims} claims");
}

/// Text before the first picture: meanings of new words, or a number of pictures.
fn introduction(world: &World, text: &str, scenes: &[Scene], bound: &mut Vec<(String, usize)>) {
    for sentence in text.split_inclusive('.') {
        let words = read(world, sentence);
        match &words[..] {
            [Word::Other(_), Word::Other(new), .., Word::Emoji(e)] => bound.push((new.clone(), *e)),
            [.., Word::Number(n), Word::Other(pictures)] if pictures == "pictures" => {
                assert_eq!(*n, scenes.len())
            }
            [.., Word::Number(n), Word::Other(_), Word::Other(_)] => assert_eq!(*n, scenes.len()),
            _ => assert!(!words.iter().any(|w| !matches!(w, Word::Other(_))), "{sentence}"),
        }
    }
}

/// A new word always means the emoji that it meant first. New words are the ones that no other text has.
fn binding(text: &str, scene: &Scene, bound: &mut Vec<(String, usize)>) -> usize {
    let heads = ["bli", "da", "zo", "wu", "ke", "mo", "fi", "nu", "ta", "gri"];
    let tails = ["cket", "x", "p", "nk", "zen", "ba", "lt", "ffo"];
    let made = |w: &str| heads.iter().any(|h| tails.iter().any(|t| w == format!("{h}{t}")));
    let words = text.split_whitespace().map(|w| w.trim_matches(|c: char| !c.is_alphabetic()).to_lowercase());
    let Some(word) = words.into_iter().find(|w| made(w)) else { return 0 };
    let meant = bound.iter().find(|b| b.0 == word).map(|b| b.1);
    let Some(meant) = meant else {
        bound.push((word, scene.objects[0].emoji));
        return 0;
    };
    match ObjectPlace::ALL.into_iter().find(|p| text.contains(p.name())) {
        Some(place) => assert_eq!(scene.find(meant).unwrap().place, place, "{text}"),
        None => assert_eq!(scene.find(meant).is_some(), !text.contains("No,"), "{text}: {bound:?}"),
    }
    1
}

#[test]
fn prose_is_true() {
    let world = world();
    let mut claims = 0;
    for split in SPLITS {
        for (i, document) in documents(&world, WorldStream::Text, split, 2000).iter().enumerate() {
            let scenes = world.scenes(WorldStream::Text, split, i as u64);
            let text: String = document.texts().collect();
            for (at, paragraph) in text.split('\n').enumerate() {
                claims += match scenes.get(at) {
                    Some(scene) => {
                        let (emoji, colours) = named(&world, paragraph);
                        assert!(scene.objects.iter().all(|o| emoji.contains(&o.emoji)), "{paragraph}");
                        assert_eq!(colours, [scene.colour], "{paragraph}");
                        check(&world, paragraph, std::slice::from_ref(scene))
                    }
                    None => lesson(&world, paragraph),
                };
            }
        }
    }
    assert!(claims > 20_000, "only {claims} claims");
}

/// Sums, successors and classes.
fn lesson(world: &World, paragraph: &str) -> usize {
    let mut claims = 0;
    let mut subject = None;
    for sentence in paragraph.split_inclusive('.') {
        let words = read(world, sentence);
        let numbers: Vec<usize> =
            words.iter().filter_map(|w| if let Word::Number(n) = w { Some(*n) } else { None }).collect();
        match numbers[..] {
            [a, b, sum] if has(&words, "make") => assert_eq!(a + b, sum, "{sentence}"),
            [a, 1] if has(&words, "gets") => subject = Some(a + 1),
            [a, b] if has(&words, "after") => assert_eq!(a + 1, b, "{sentence}"),
            [total] => assert_eq!(Some(total), subject, "{sentence}"),
            _ => {
                subject = words
                    .iter()
                    .find_map(|w| if let Word::Emoji(e) = w { Some(*e) } else { None })
                    .or(subject);
                let class = world.emoji()[subject.unwrap()].class;
                let said = Class::ALL.into_iter().find(|c| sentence.contains(c.phrase())).unwrap();
                assert_eq!(said == class, !has(&words, "not"), "{sentence}");
            }
        }
        claims += 1;
    }
    claims
}

#[test]
fn conversations_are_true() {
    let world = world();
    let mut claims = 0;
    for split in SPLITS {
        for (i, document) in documents(&world, WorldStream::Chat, split, 2000).iter().enumerate() {
            let scenes = world.scenes(WorldStream::Chat, split, i as u64);
            assert_eq!(document.pictures().count(), scenes.len());
            let mut texts = document.texts().peekable();
            if texts.peek() == Some(&"Answer with a few words.") {
                texts.next();
            }
            while let (Some(question), Some(answer)) = (texts.next(), texts.next()) {
                let exchange = format!("{question} {answer}");
                claims += if scenes.is_empty() {
                    knowledge(&world, question, answer)
                } else {
                    let found = check(&world, &exchange, &scenes);
                    assert!(found > 0, "{exchange}");
                    found
                };
            }
        }
    }
    assert!(claims > 15_000, "only {claims} claims");
}

/// An exchange without a picture.
fn knowledge(world: &World, question: &str, answer: &str) -> usize {
    let numbers: Vec<usize> = read(world, &format!("{question} {answer}"))
        .into_iter()
        .filter_map(|w| if let Word::Number(n) = w { Some(n) } else { None })
        .collect();
    match (named(world, question).0.first(), &numbers[..]) {
        (Some(&e), _) => {
            let class = Class::ALL.into_iter().find(|c| question.contains(c.phrase())).unwrap();
            assert_eq!(answer == "yes", world.emoji()[e].class == class, "{question} {answer}");
        }
        (None, [a, b, sum]) => assert_eq!(a + b, *sum, "{question}"),
        (None, [a, next]) => assert_eq!(a + 1, *next, "{question}"),
        _ => assert_eq!(answer, "Hello! Show me a picture.", "{question}"),
    }
    1
}

#[test]
fn answers_are_recomputed_from_the_scene() {
    let world = world();
    for (category, split) in Category::ALL.into_iter().flat_map(|c| SPLITS.map(|s| (c, s))) {
        for i in 0..1500 {
            let (scene, asked) = world.posed(split, category, i);
            assert_eq!(world.question(split, category, i).answers, asked.answers);
            let (emoji, _) = named(&world, &asked.text);
            let place = ObjectPlace::ALL.into_iter().find(|p| asked.text.contains(p.name()));
            let expected = match category {
                Category::What => {
                    assert!(place.is_some() || scene.objects.len() == 1, "{}", asked.text);
                    let object = scene.objects.iter().find(|o| place.is_none_or(|p| o.place == p)).unwrap();
                    world.emoji()[object.emoji].name
                }
                Category::Colour => COLOURS[scene.colour].0,
                Category::Count => NUMBERS[scene.objects.len()],
                Category::Where => scene.find(emoji[0]).unwrap().place.name(),
                Category::YesNo => ["no", "yes"][usize::from(scene.find(emoji[0]).is_some())],
            };
            assert_eq!(asked.answers[0], expected, "{} {scene:?}", asked.text);
            let sentence = format!("{} {}", asked.text, asked.sentence);
            assert!(check(&world, &sentence, std::slice::from_ref(&scene)) > 0, "{sentence}");
        }
    }
}
