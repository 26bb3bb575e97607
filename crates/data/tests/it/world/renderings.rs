//! Renderings of single emoji.

use std::collections::BTreeSet;

use mm1_data::source::Split;
use mm1_data::world::{Pattern, World, WorldConfig, WorldStream};

use super::{SPLITS, documents, whole_text, world};

#[test]
fn a_renderings_text_is_the_name_of_what_it_shows() {
    let world = world();
    let source = world.source(WorldStream::Renderings);
    let classes = source.classes().unwrap();
    assert_eq!(classes.len(), world.emoji().len());
    assert!(world.source(WorldStream::Captioned).classes().is_none());
    let mut shown = BTreeSet::new();
    for (i, document) in (0..).zip(documents(&world, WorldStream::Renderings, Split::Train, 2000)) {
        let emoji = world.rendering(Split::Train, i).emoji;
        assert_eq!(whole_text(&document), classes[emoji]);
        shown.insert(emoji);
    }
    assert_eq!(shown.len(), classes.len(), "every class comes");
}

#[test]
fn a_sticker_is_on_white_and_has_its_name() {
    let world = world();
    let classes = world.source(WorldStream::Stickers).classes().unwrap();
    let mut shown = BTreeSet::new();
    for document in documents(&world, WorldStream::Stickers, Split::Test, 600) {
        let picture = mm1_data::image::open(document.pictures().next().unwrap()).unwrap();
        let pixels = picture.rgb.as_chunks::<3>().0;
        let white = pixels.iter().filter(|&&pixel| pixel == [255; 3]).count();
        // A sticker's side is 35 to 95 in 100 of the picture's.
        assert!((pixels.len() / 20..pixels.len() * 19 / 20).contains(&white), "{}: {white}", document.id);
        shown.insert(classes.iter().position(|name| *name == whole_text(&document)).unwrap());
    }
    assert!(shown.len() > classes.len() * 9 / 10, "{} of {} classes came", shown.len(), classes.len());
}

#[test]
fn held_out_backgrounds_have_hues_of_their_own() {
    let world = world();
    // The sixth of the circle of hues; a grey has none.
    let sixth = |[r, g, b]: [u8; 3]| {
        let [r, g, b] = [r, g, b].map(f64::from);
        let (most, least) = (r.max(g).max(b), r.min(g).min(b));
        let hue = match most {
            _ if most == r => ((g - b) / (most - least)).rem_euclid(6.0),
            _ if most == g => (b - r) / (most - least) + 2.0,
            _ => (r - g) / (most - least) + 4.0,
        };
        // Rounding to bytes moves a hue a little.
        (most - least > 40.0 && (hue.fract() - 0.5).abs() < 0.4).then_some(hue as usize)
    };
    let hues = SPLITS.map(|split| {
        let colours = (0..3000).flat_map(|i| world.rendering(split, i).colours);
        colours.filter_map(sixth).collect::<BTreeSet<_>>()
    });
    assert_eq!(hues, [BTreeSet::from([0, 2, 3, 5]), BTreeSet::from([1, 4])]);
}

#[test]
fn the_emoji_is_in_the_picture_in_every_pose() {
    let world = World::new(&WorldConfig { picture_size: 48, ..WorldConfig::default() }, 7).unwrap();
    let mut patterns = [0; 5];
    for i in 0..500 {
        let rendering = world.rendering(Split::Test, i);
        let pose = rendering.pose;
        let side = f64::from(pose.side);
        assert!((16.0..=46.0).contains(&side) && pose.angle.abs() <= 0.53, "{pose:?}");
        for at in [pose.x, pose.y] {
            assert!(at - 0.41 * side >= -0.5 && at + 0.41 * side <= 48.5, "{pose:?}");
        }
        patterns[Pattern::ALL.iter().position(|&p| p == rendering.pattern).unwrap()] += 1;
        // Much of the square in its middle is not of the background's colours, if that is plain.
        if rendering.pattern == Pattern::Plain && rendering.clutter.is_none() {
            let document = world.source(WorldStream::Renderings).document(Split::Test, i).unwrap();
            let picture = mm1_data::image::open(document.pictures().next().unwrap()).unwrap();
            let other =
                picture.rgb.as_chunks().0.iter().filter(|&&pixel| pixel != rendering.colours[0]).count();
            let share = other as f64 / (side * side);
            assert!((0.1..1.1).contains(&share), "{i}: {share} of the emoji's square shows");
        }
    }
    assert!(patterns.iter().all(|&n| n > 60), "{patterns:?}");
}
