//! The built-in world: the split, purity, drawing, questions and surface forms. What its texts claim is in
//! `truth`.

mod binding;
mod detail;
mod pairs;
mod renderings;
mod signs;
mod steps;
mod text_items;
mod truth;
mod vqa;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mm1_data::document::{Document, Picture, Segment, Special};
use mm1_data::source::Split;
use mm1_data::world::{
    COLOURS, Category, ObjectPlace, ObjectSize, Scene, World, WorldConfig, WorldStream, available,
};

const SPLITS: [Split; 2] = [Split::Train, Split::Test];

/// A world whose pictures are small, so that its texts come fast.
fn world() -> Arc<World> {
    World::new(&WorldConfig { picture_size: 16, detail_size: 32, ..WorldConfig::default() }, 7).unwrap()
}

fn documents(world: &Arc<World>, stream: WorldStream, split: Split, number: u64) -> Vec<Document> {
    let source = world.source(stream);
    (0..number).map(|i| source.document(split, i).unwrap()).collect()
}

fn whole_text(document: &Document) -> String {
    document.texts().collect()
}

#[test]
fn names_are_short_distinct_and_plain() {
    let most = available();
    let world = World::new(&WorldConfig { emoji: most, ..WorldConfig::default() }, 0).unwrap();
    let names: BTreeSet<&str> = world.emoji().iter().map(|e| e.name).collect();
    assert_eq!((most, names.len()), (180, 180));
    for name in names {
        assert!(name.split(' ').count() <= 2, "{name}");
        assert!(name.chars().all(|c| c == ' ' || c.is_ascii_lowercase()), "{name}");
    }
}

#[test]
fn every_composition_belongs_to_one_split_and_both_splits_have_all_colours_and_emoji_in_each_place() {
    for (emoji, test_share) in
        [(10, 0.2), (10, 0.9), (11, 0.1), (41, 0.1), (120, 0.2), (180, 0.1), (180, 0.9)]
    {
        for (seed, place) in (0..3).flat_map(|seed| ObjectPlace::ALL.map(|place| (seed, place))) {
            let config = WorldConfig { emoji, test_share, ..WorldConfig::default() };
            let world = World::new(&config, seed).unwrap();
            let test = |e, c| world.allows(Split::Test, e, c, place);
            let train = |e, c| world.allows(Split::Train, e, c, place);
            let all = || (0..emoji).flat_map(|e| (0..COLOURS.len()).map(move |c| (e, c)));
            assert!(all().all(|(e, c)| test(e, c) != train(e, c)));
            for (c, (name, _)) in COLOURS.iter().enumerate() {
                let tests = (0..emoji).filter(|&e| test(e, c)).count();
                assert!((5..=emoji - 5).contains(&tests), "{config:?}: {name} has {tests}");
            }
            for e in 0..emoji {
                let tests = (0..COLOURS.len()).filter(|&c| test(e, c)).count();
                assert!((1..COLOURS.len()).contains(&tests), "{config:?}: emoji {e} has {tests}");
            }
            if (emoji, test_share) == (120, 0.2) {
                assert_eq!(all().filter(|&(e, c)| test(e, c)).count(), 240);
            }
        }
    }
}

#[test]
fn no_scene_and_no_text_states_a_composition_of_the_other_split() {
    let world = world();
    let mut seen = SPLITS.map(|_| BTreeSet::new());
    let sceneless = [
        WorldStream::Signs,
        WorldStream::Renderings,
        WorldStream::Stickers,
        // Of these the words are split: `detail::no_word_and_no_crowd_of_the_test_is_in_training`.
        WorldStream::Detail,
        WorldStream::DetailChat,
    ];
    for stream in WorldStream::ALL {
        for (split, seen) in SPLITS.into_iter().zip(&mut seen) {
            let (mut scenes, mut stated) = (0, 0);
            for (i, document) in documents(&world, stream, split, 2000).iter().enumerate() {
                for scene in world.scenes(stream, split, i as u64) {
                    scenes += 1;
                    assert!(scene.belongs(&world, split), "{}: {scene:?}", document.id);
                    seen.insert((
                        scene.colour,
                        scene.objects.iter().map(|o| (o.emoji, o.place)).collect::<Vec<_>>(),
                    ));
                }
                for line in document.texts().flat_map(|t| t.split('\n')) {
                    for (e, c, place) in truth::composed(&world, line) {
                        stated += 1;
                        assert!(world.allows(split, e, c, place), "{}: {line}", document.id);
                    }
                }
            }
            assert!(scenes > 1000 || sceneless.contains(&stream), "{stream:?} has {scenes} scenes");
            let places =
                [WorldStream::Scenes, WorldStream::Interleaved, WorldStream::Text, WorldStream::Chat]
                    .contains(&stream);
            assert!(stated > 100 || !places, "{stream:?} states {stated} compositions");
        }
    }
    assert!(seen[0].is_disjoint(&seen[1]));
    for split in SPLITS {
        for i in 0..1000 {
            assert!(world.caption_scene(split, i).belongs(&world, split));
            for category in Category::ALL {
                let (scene, asked) = world.posed(split, category, i);
                assert!(scene.belongs(&world, split));
                // What is not there could be: "no" can't be told from the split.
                let (emoji, _) = truth::named(&world, &asked.text);
                let could =
                    |e| ObjectPlace::ALL.iter().any(|&place| world.allows(split, e, scene.colour, place));
                assert!(emoji.iter().all(|&e| could(e)), "{}", asked.text);
            }
        }
    }
}

#[test]
fn a_sample_is_a_pure_function_of_seed_split_and_index() {
    let (world, again, other) = (
        world(),
        world(),
        World::new(&WorldConfig { picture_size: 16, detail_size: 32, ..WorldConfig::default() }, 8).unwrap(),
    );
    for stream in WorldStream::ALL {
        let expected = documents(&world, stream, Split::Train, 60);
        let threads: Vec<_> = (0..3)
            .map(|_| {
                let world = Arc::clone(&again);
                std::thread::spawn(move || {
                    let source = world.source(stream);
                    let mut all: Vec<_> =
                        (0..60).rev().map(|i| source.document(Split::Train, i).unwrap()).collect();
                    all.reverse();
                    all
                })
            })
            .collect();
        for thread in threads {
            assert_eq!(thread.join().unwrap(), expected);
        }
        assert_eq!(expected[5].id, format!("{}/train/5", stream.name()));
        assert!(expected.iter().all(|d| d.kind == stream.kind()));
        assert_ne!(expected[0].segments, expected[1].segments);
        assert_ne!(expected[0].segments, documents(&world, stream, Split::Test, 1)[0].segments);
        assert_ne!(expected[0].segments, documents(&other, stream, Split::Train, 1)[0].segments);
        // The last index is as good as the first.
        assert!(world.source(stream).document(Split::Test, u64::MAX).is_ok());
        assert_eq!(world.source(stream).len(Split::Test), None);
    }
    assert_eq!(
        world.question(Split::Test, Category::What, 3),
        again.question(Split::Test, Category::What, 3)
    );
    assert_eq!(world.caption_question(Split::Test, 3), again.caption_question(Split::Test, 3));
}

fn pixel(picture: &Picture, x: u32, y: u32) -> [u8; 3] {
    let at = ((y * picture.width + x) * 3) as usize;
    picture.rgb[at..at + 3].try_into().unwrap()
}

#[test]
fn pictures_show_the_shade_around_the_objects_and_the_objects_in_their_places() {
    for picture_size in [16, 49, 64, 224] {
        let world = World::new(&WorldConfig { picture_size, ..WorldConfig::default() }, 1).unwrap();
        for i in 0..200 {
            let scene = &world.scenes(WorldStream::Scenes, Split::Train, i)[0];
            let picture = world.picture(scene);
            assert_eq!((picture.width, picture.height), (picture_size, picture_size));
            assert_eq!(picture.rgb.len(), (picture_size * picture_size * 3) as usize);
            let mut differs = vec![0; scene.objects.len()];
            for (x, y) in (0..picture_size).flat_map(|y| (0..picture_size).map(move |x| (x, y))) {
                let over = scene.objects.iter().position(|o| {
                    (o.left..o.left + o.side).contains(&x) && (o.top..o.top + o.side).contains(&y)
                });
                let equal = pixel(&picture, x, y) == scene.shade;
                match over {
                    None => assert!(equal, "scene {i} at {x}, {y}"),
                    Some(object) => differs[object] += usize::from(!equal),
                }
            }
            for (object, differs) in scene.objects.iter().zip(differs) {
                let area = (object.side * object.side) as usize;
                assert!(differs * 8 > area, "{object:?}: {differs} of {area} pixels differ");
                assert_eq!(object.place, place_of(object.left, object.top, object.side, picture_size));
            }
        }
    }
}

/// The place by the middle of the object: a quarter's objects stay inside the quarter.
fn place_of(left: u32, top: u32, side: u32, picture: u32) -> ObjectPlace {
    let half = picture / 2;
    let upper = |start: u32| start + side <= half;
    let lower = |start: u32| start >= picture - half;
    match (upper(left), lower(left), upper(top), lower(top)) {
        (true, _, true, _) => ObjectPlace::TopLeft,
        (_, true, true, _) => ObjectPlace::TopRight,
        (true, _, _, true) => ObjectPlace::BottomLeft,
        (_, true, _, true) => ObjectPlace::BottomRight,
        _ => ObjectPlace::Centre,
    }
}

/// The same composition by the `image` crate's filter and 64-bit blending.
fn drawn_otherwise(world: &World, scene: &Scene, side: u32) -> Vec<f64> {
    let mut out: Vec<f64> =
        scene.shade.repeat((side * side) as usize).iter().map(|&c| f64::from(c)).collect();
    for object in &scene.objects {
        let name = world.emoji()[object.emoji].name;
        let symbol = emojis::iter().find(|e| e.name() == name).unwrap().as_str();
        let asset = twemoji_assets::png::PngTwemojiAsset::from_emoji(symbol).or_else(|| {
            twemoji_assets::png::PngTwemojiAsset::from_emoji(symbol.trim_end_matches('\u{fe0f}'))
        });
        let mut sprite = image::load_from_memory(asset.unwrap()).unwrap().to_rgba32f();
        for p in sprite.pixels_mut() {
            (0..3).for_each(|c| p.0[c] *= p.0[3]);
        }
        let filter = image::imageops::FilterType::CatmullRom;
        let sprite = image::imageops::resize(&sprite, object.side, object.side, filter);
        for (x, y, p) in sprite.enumerate_pixels() {
            let at = (((object.top + y) * side + object.left + x) * 3) as usize;
            for c in 0..3 {
                let below = out[at + c] * (1.0 - f64::from(p.0[3].clamp(0.0, 1.0)));
                out[at + c] = (f64::from(p.0[c].max(0.0)) * 255.0 + below).min(255.0);
            }
        }
    }
    out
}

#[test]
fn drawing_agrees_with_another_resampler() {
    let world = World::new(&WorldConfig::default(), 7).unwrap();
    let (mut worst, mut sum, mut count) = (0.0f64, 0.0, 0.0);
    for i in 0..100 {
        let scene = &world.scenes(WorldStream::Scenes, Split::Test, i)[0];
        let expected = drawn_otherwise(&world, scene, 64);
        for (&a, b) in world.picture(scene).rgb.iter().zip(&expected) {
            let off = (f64::from(a) - b).abs();
            worst = worst.max(off);
            (sum, count) = (sum + off, count + 1.0);
        }
    }
    println!("channels are off by {} at most, {} on average", worst, sum / count);
    // Eight bits between the two passes cut off what a sharp edge throws over; elsewhere it is rounding.
    assert!(worst < 16.0 && sum / count < 0.15, "{worst} {}", sum / count);
}

#[test]
fn sizes_places_and_numbers_have_their_shares() {
    let world = World::new(&WorldConfig::default(), 7).unwrap();
    let scenes: Vec<Scene> =
        (0..4000).flat_map(|i| world.scenes(WorldStream::Scenes, Split::Train, i)).collect();
    for (number, share) in [(1, 0.4), (2, 0.3), (3, 0.2), (4, 0.1)] {
        let found = scenes.iter().filter(|s| s.objects.len() == number).count() as f64 / 4000.0;
        assert!((found - share).abs() < 0.03, "{found} of the scenes have {number} objects");
    }
    for object in scenes.iter().flat_map(|s| &s.objects) {
        let expected = match (object.place, object.size) {
            (ObjectPlace::Centre, ObjectSize::Large) => 48,
            (ObjectPlace::Centre, ObjectSize::Small) => 32,
            (_, ObjectSize::Large) => 31,
            (_, ObjectSize::Small) => 22,
        };
        assert_eq!(object.side, expected);
    }
    let mut by_emoji = vec![0; 120];
    scenes.iter().flat_map(|s| &s.objects).for_each(|o| by_emoji[o.emoji] += 1);
    let (least, most) = (by_emoji.iter().min().unwrap(), by_emoji.iter().max().unwrap());
    assert!(*least > 30 && *most < 120, "of 8000 objects the rarest emoji has {least}, the commonest {most}");
}

#[test]
fn constant_answers_are_rarely_right() {
    let world = world();
    for (category, limit) in Category::ALL.into_iter().zip([0.03, 0.16, 0.29, 0.3, 0.53]) {
        for split in SPLITS {
            let mut answers = BTreeMap::new();
            for i in 0..3000 {
                let question = world.question(split, category, i);
                assert_eq!(question.category, category.name());
                assert_eq!(question.id, format!("vqa-{}/{}/{i}", category.name(), split.name()));
                assert!(question.text.ends_with('?') && question.pictures.len() == 1);
                let answer = question.answers[0].clone();
                assert!(!answer.ends_with('.') && answer == answer.to_lowercase(), "{answer}");
                *answers.entry(answer).or_insert(0) += 1;
            }
            let (answer, most) = answers.iter().max_by_key(|a| a.1).unwrap();
            let share = f64::from(*most) / 3000.0;
            println!(
                "{} {}: {} answers, always {answer:?} is right in {:.1}%",
                category.name(),
                split.name(),
                answers.len(),
                share * 100.0
            );
            assert!(share < limit, "{category:?}: {answer} is right in {share}");
        }
    }
}

#[test]
fn captions_of_a_question_differ_and_describe_its_picture() {
    let world = world();
    for i in 0..500 {
        let question = world.caption_question(Split::Test, i);
        let scene = world.caption_scene(Split::Test, i);
        assert_eq!(question.pictures[0], world.picture(&scene).into());
        assert_eq!((question.text.as_str(), question.category.as_str()), ("", "caption"));
        let expected = if scene.objects.len() == 1 { 3 } else { 5 };
        assert_eq!(
            question.answers.iter().collect::<BTreeSet<_>>().len(),
            expected,
            "{:?}",
            question.answers
        );
        for answer in &question.answers {
            assert!(
                truth::check(&world, answer, std::slice::from_ref(&scene)) > scene.objects.len(),
                "{answer}"
            );
            assert_eq!(truth::named(&world, answer).0.len(), scene.objects.len());
            assert!(answer.split(' ').count() <= 37);
        }
    }
}

#[test]
fn texts_have_the_surface_forms_of_the_evaluation() {
    let world = world();
    let share = |stream, test: &dyn Fn(&Document) -> bool| {
        let all = documents(&world, stream, Split::Train, 3000);
        all.iter().filter(|d| test(d)).count() as f64 / 3000.0
    };
    let photo = |d: &Document| whole_text(d).starts_with("A photo of a");
    assert!(share(WorldStream::Captioned, &photo) > 0.55);
    assert!(share(WorldStream::Scenes, &photo) > 0.55);
    let evaluation = |d: &Document| {
        let items = d.texts().flat_map(|t| t.split('\n')).filter(|t| !t.is_empty());
        let mut items = items.map(|t| t.starts_with("A photo of a") || t.contains("? Short answer: "));
        items.all(|yes| yes)
    };
    let found = share(WorldStream::Interleaved, &evaluation);
    assert!((found - 0.35).abs() < 0.04, "{found} of the pages have the evaluation's form");
    for document in documents(&world, WorldStream::Interleaved, Split::Train, 2000) {
        assert!((2..=9).contains(&document.pictures().count()), "{}", document.id);
        let text = whole_text(&document);
        if evaluation(&document) {
            assert_eq!(text.split('\n').count(), document.pictures().count(), "{text}");
        }
    }
}

#[test]
fn documents_end_with_a_learned_end_and_texts_begin_without_space() {
    let world = world();
    for stream in WorldStream::ALL {
        for document in documents(&world, stream, Split::Train, 1000) {
            assert_eq!(
                document.segments.last(),
                Some(&Segment::Token { token: Special::End, learn: true }),
                "{}",
                document.id
            );
            for text in document.texts() {
                assert!(!text.is_empty() && !text.starts_with(' ') && !text.contains("  "), "{text:?}");
                assert!(!text.contains(['{', '}']), "{text:?}");
            }
            let segments = document.segments.windows(2);
            let mut texts = segments.map(|w| w.iter().all(|s| matches!(s, Segment::Text { .. })));
            assert!(texts.all(|both| !both), "{}: two texts without anything between", document.id);
        }
    }
    for document in documents(&world, WorldStream::Text, Split::Train, 2000) {
        let words = whole_text(&document).split_whitespace().count();
        assert!((40..=120).contains(&words), "{}: {words} words", document.id);
    }
    for document in documents(&world, WorldStream::Scenes, Split::Train, 1000) {
        assert!(whole_text(&document).split_whitespace().count() <= 40, "{}", whole_text(&document));
    }
}

#[test]
fn the_vocabulary_is_small() {
    let world = world();
    let mut words = BTreeSet::new();
    let made_up = [
        WorldStream::Binding,
        WorldStream::Signs,
        WorldStream::Detail,
        WorldStream::DetailChat,
        WorldStream::Reasoning,
    ];
    for stream in WorldStream::ALL.into_iter().filter(|s| !made_up.contains(s)) {
        for document in documents(&world, stream, Split::Train, 3000) {
            for word in document.texts().flat_map(str::split_whitespace) {
                words.insert(word.trim_matches(|c: char| !c.is_alphanumeric()).to_lowercase());
            }
        }
    }
    println!("{} words", words.len());
    assert!(words.len() < 450, "{} words", words.len());
}

#[test]
fn conversations_ask_for_names_most_and_never_twice_the_same() {
    let world = world();
    let (mut what, mut all) = (0, 0);
    for document in documents(&world, WorldStream::Chat, Split::Train, 4000) {
        let asked: Vec<&str> = document
            .segments
            .iter()
            .filter_map(|s| match s {
                Segment::Text { text, learn: false } if text.ends_with('?') => Some(text.as_str()),
                _ => None,
            })
            .collect();
        if document.pictures().count() == 1 {
            all += asked.len();
            what += asked
                .iter()
                .filter(|q| {
                    ["What is in", "What is this", "What does", "What can", "Which object"]
                        .iter()
                        .any(|w| q.starts_with(w))
                })
                .count();
            assert_eq!(asked.iter().collect::<BTreeSet<_>>().len(), asked.len(), "{asked:?}");
        }
    }
    let share = f64::from(what as u32) / f64::from(all as u32);
    assert!((0.33..0.43).contains(&share), "{share} of the questions ask for a name");
}

#[test]
fn numbers_out_of_range_are_refused_with_the_range() {
    let message = |config: WorldConfig| World::new(&config, 0).err().unwrap().to_string();
    let base = WorldConfig::default;
    for emoji in [0, 9, 181] {
        let text = message(WorldConfig { emoji, ..base() });
        assert_eq!(text, format!("world.emoji = {emoji}: there are 180 built-in emoji, give 10 to 180"));
    }
    for test_share in [0.0, 0.05, 1.0, f64::NAN] {
        assert!(message(WorldConfig { test_share, ..base() }).contains("give 0.1 to 0.9"));
    }
    for picture_size in [0, 15, 2000] {
        assert!(message(WorldConfig { picture_size, ..base() }).contains("give 16 to 1024"));
    }
    let unknown = serde_json::from_str::<WorldConfig>(r#"{"emojis": 8}"#).unwrap_err();
    assert!(unknown.to_string().contains("unknown field `emojis`"), "{unknown}");
    assert_eq!(serde_json::from_str::<WorldConfig>("{}").unwrap(), base());
}

#[test]
fn the_smallest_world_has_all_streams() {
    for test_share in [0.1, 0.9] {
        let world =
            World::new(&WorldConfig { emoji: 10, picture_size: 16, test_share, detail_size: 32 }, 3).unwrap();
        for (stream, split) in WorldStream::ALL.into_iter().flat_map(|s| SPLITS.map(|split| (s, split))) {
            for i in 0..300 {
                assert!(world.scenes(stream, split, i).iter().all(|s| s.belongs(&world, split)));
            }
        }
    }
}
