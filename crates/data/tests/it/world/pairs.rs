//! Questions about two pictures: true, with one answer, balanced, and one single change where a change is
//! asked for.

use std::collections::BTreeMap;

use mm1_data::document::Picture;
use mm1_data::image::open;
use mm1_data::source::Split;
use mm1_data::world::{COLOURS, ComparedScenes, Comparison, Object, ObjectPlace, Scene, World, WorldConfig};

use super::{SPLITS, truth, world};

fn all(world: &World, kind: Comparison, number: u64) -> impl Iterator<Item = (Split, ComparedScenes)> {
    SPLITS
        .into_iter()
        .flat_map(move |split| (0..number).map(move |i| (split, world.compared(split, kind, i))))
}

#[test]
fn items_are_pure_functions_of_their_index_and_stay_on_their_side_of_the_split() {
    let (world, again) = (world(), world());
    for kind in Comparison::ALL {
        for (split, compared) in all(&world, kind, 500) {
            assert!(compared.scenes.iter().all(|s| s.belongs(&world, split)), "{compared:?}");
            assert_ne!(compared.scenes[0], compared.scenes[1]);
        }
        let question = world.comparison_question(Split::Test, kind, 5);
        assert_eq!(question, again.comparison_question(Split::Test, kind, 5));
        assert_ne!(question, world.comparison_question(Split::Test, kind, 6));
        assert_eq!(question.id, format!("pairs-{}/test/5", kind.name()));
        let shown = world.compared(Split::Test, kind, 5).scenes.map(|s| world.picture(&s).into());
        assert_eq!(question.pictures, shown);
    }
}

#[test]
fn the_picture_that_is_named_is_the_one() {
    let world = world();
    for kind in [Comparison::Which, Comparison::More] {
        for (_, ComparedScenes { scenes, text, answers }) in all(&world, kind, 500) {
            let said = usize::from(answers[0] == "the second");
            assert!(said == 1 || answers[0] == "the first", "{answers:?}");
            let right = scenes.clone().map(|s| match truth::named(&world, &text).0[..] {
                [emoji] => s.find(emoji).is_some(),
                _ => {
                    (s.objects.len() == scenes.iter().map(|s| s.objects.len()).max().unwrap())
                        == text.contains("more")
                }
            });
            assert_eq!(right, [said == 0, said == 1], "{text} {answers:?} {scenes:?}");
        }
    }
}

#[test]
fn no_answer_is_much_more_frequent_than_another() {
    let world = world();
    for (kind, limit) in [(Comparison::Which, 0.53), (Comparison::More, 0.53), (Comparison::Changed, 0.05)] {
        for split in SPLITS {
            // Also for the same question.
            let mut counts = BTreeMap::<_, BTreeMap<_, u32>>::new();
            for i in 0..4000 {
                let ComparedScenes { text, answers, .. } = world.compared(split, kind, i);
                let asked = if kind == Comparison::Which { String::new() } else { text };
                *counts.entry(asked).or_default().entry(answers[0].clone()).or_default() += 1;
            }
            for (text, answers) in counts {
                let share =
                    f64::from(*answers.values().max().unwrap()) / f64::from(answers.values().sum::<u32>());
                assert!(share < limit, "{kind:?} {text}: {share} in {}", split.name());
            }
        }
    }
}

/// The one thing in which two scenes differ: how, and its names.
fn difference(world: &World, [a, b]: &[Scene; 2]) -> (&'static str, Vec<String>) {
    let only = |a: &Scene, b: &Scene| -> Vec<Object> {
        a.objects.iter().filter(|o| !b.objects.contains(o)).cloned().collect()
    };
    let name = |o: &Object| vec![world.emoji()[o.emoji].name.to_owned()];
    match (&only(a, b)[..], &only(b, a)[..]) {
        ([], []) => {
            assert_ne!(a.colour, b.colour);
            (
                "recoloured",
                ["background", ""].map(|w| format!("{} {w}", COLOURS[b.colour].0).trim().to_owned()).into(),
            )
        }
        (_, _) if a.shade != b.shade => panic!("the background differs as well: {a:?} {b:?}"),
        ([gone], []) => ("counted", name(gone)),
        ([], [new]) => ("counted", name(new)),
        ([old], [new]) if old.emoji == new.emoji => {
            assert!(old.place != new.place && old.size == new.size && old.side == new.side);
            assert!([old, new].iter().all(|o| o.place != ObjectPlace::Centre));
            ("moved", name(new))
        }
        ([old], [new]) => {
            assert_eq!(Object { emoji: new.emoji, ..old.clone() }, *new);
            ("replaced", name(new))
        }
        _ => panic!("{a:?} and {b:?} differ in more than one thing"),
    }
}

/// Pixels at which two pictures differ and that no object of either scene covers.
fn elsewhere(scenes: &[Scene; 2], [a, b]: [&Picture; 2]) -> usize {
    let changed = |o: &&Object| scenes.iter().any(|s| !s.objects.contains(o));
    let changed: Vec<&Object> = scenes.iter().flat_map(|s| &s.objects).filter(changed).collect();
    let inside = |at: u32, start: u32, side: u32| (start..start + side).contains(&at);
    let differs = |&(x, y): &(u32, u32)| super::pixel(a, x, y) != super::pixel(b, x, y);
    let free =
        |&(x, y): &(u32, u32)| !changed.iter().any(|o| inside(x, o.left, o.side) && inside(y, o.top, o.side));
    let side = a.width;
    (0..side).flat_map(|y| (0..side).map(move |x| (x, y))).filter(differs).filter(free).count()
}

#[test]
fn what_changed_is_one_thing_and_nothing_else_differs() {
    let world = World::new(&WorldConfig::default(), 7).unwrap();
    for split in SPLITS {
        let mut kinds = BTreeMap::new();
        for i in 0..1000 {
            let ComparedScenes { scenes, text, answers } = world.compared(split, Comparison::Changed, i);
            let (kind, expected) = difference(&world, &scenes);
            assert_eq!(answers[0], expected[0], "{text}");
            *kinds.entry(kind).or_insert(0) += 1;
            let question = world.comparison_question(split, Comparison::Changed, i);
            let pictures = [0, 1].map(|k| open(&question.pictures[k]).unwrap());
            assert_ne!(pictures[0], pictures[1], "{kind}: {answers:?}");
            if kind != "recoloured" {
                assert_eq!(elsewhere(&scenes, [&pictures[0], &pictures[1]]), 0, "{kind}: {answers:?}");
            }
        }
        assert_eq!(kinds.len(), 4);
        assert!(kinds.values().all(|n| (200..300).contains(n)), "{kinds:?}");
    }
}

#[test]
fn a_test_side_without_two_colours_for_an_object_replaces_it_instead() {
    // A tenth of ten colours: each emoji has one in each place.
    let config = WorldConfig { picture_size: 16, test_share: 0.1, ..WorldConfig::default() };
    let world = World::new(&config, 7).unwrap();
    let changes = (0..400).map(|i| world.compared(Split::Test, Comparison::Changed, i));
    let kinds: Vec<_> = changes.map(|c| difference(&world, &c.scenes).0).collect();
    let share = |kind| kinds.iter().filter(|k| **k == kind).count() as f64 / 400.0;
    assert_eq!(share("recoloured"), 0.0);
    assert!((share("replaced") - 0.5).abs() < 0.1, "{}", share("replaced"));
}
