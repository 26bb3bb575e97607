//! Detailed pictures: the same composition at any size, true detail, true answers, the split, and questions
//! that can't be answered blindly.

mod blind;
mod truth;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mm1_data::document::Picture;
use mm1_data::source::Split;
use mm1_data::world::{
    Area, DetailCategory, DetailKind, DetailPicture, LetterHeight, World, WorldConfig, WorldStream,
};
use xxhash_rust::xxh3::xxh3_64;

use super::{SPLITS, pixel};

/// A world whose detailed pictures have at most `detail_size` pixels a side.
fn world(detail_size: u32) -> Arc<World> {
    World::new(&WorldConfig { detail_size, ..WorldConfig::default() }, 7).unwrap()
}

/// Pictures of every kind from both splits.
fn pictures(world: &World, number: u64) -> impl Iterator<Item = DetailPicture> {
    DetailKind::ALL
        .into_iter()
        .flat_map(move |kind| (0..number).flat_map(move |i| SPLITS.map(|split| world.detail(split, kind, i))))
}

/// Its pixels in `picture`: left, top, right, bottom.
fn pixels_of(area: Area, shown: &DetailPicture, picture: &Picture) -> [u32; 4] {
    let (width, height) = shown.sides();
    let (x, y) = (f64::from(picture.width) / width, f64::from(picture.height) / height);
    let at = |place: f64, most: u32| (place.round().max(0.0) as u32).min(most);
    [
        at(area.left * x, picture.width),
        at(area.top * y, picture.height),
        at(area.right() * x, picture.width),
        at(area.bottom() * y, picture.height),
    ]
}

/// What can be said of a composition but for its pixels.
fn told(shown: &DetailPicture) -> (String, Vec<String>, Vec<(String, String)>) {
    let words = shown.words().map(|(word, area)| format!("{word} {area:?}")).collect();
    let asked = shown.questions.iter().map(|q| (q.text.clone(), format!("{:?}", q.answers))).collect();
    (shown.caption.clone(), words, asked)
}

#[test]
fn a_composition_is_the_same_at_every_size() {
    let [small, large] = [224, 1344].map(world);
    let (mut ratios, mut sizes) = (BTreeSet::new(), BTreeSet::new());
    for (a, b) in pictures(&small, 40).zip(pictures(&large, 40)) {
        assert_eq!(told(&a), told(&b));
        for (asked, same) in a.questions.iter().zip(&b.questions) {
            let (Some(a), Some(b)) = (asked.letters, same.letters) else {
                assert_eq!(asked.letters, same.letters);
                continue;
            };
            assert_eq!((a.share, a.class()), (b.share, b.class()));
            assert!((b.pixels - 6.0 * a.pixels).abs() < 1e-9 && b.pixels >= 10.0, "{a:?} {b:?}");
        }
        let (width, height) = a.sides();
        let picture = small.detail_picture(&a);
        let longer = picture.width.max(picture.height);
        assert!([224, 168, 112].contains(&longer), "{longer}");
        assert!((f64::from(picture.width) - f64::from(longer) * width).abs() <= 0.5);
        assert!((f64::from(picture.height) - f64::from(longer) * height).abs() <= 0.5);
        ratios.insert((width / height * 100.0).round() as u32);
        sizes.insert(longer);
    }
    assert_eq!((ratios.first(), ratios.last(), sizes.len()), (Some(&25), Some(&400), 3), "{ratios:?}");
}

/// The means of blocks of `by` by `by` pixels.
fn shrunk(picture: &Picture, by: u32) -> Picture {
    let (width, height) = (picture.width / by, picture.height / by);
    let block = |x: u32, y: u32, c: usize| {
        let all = (0..by).flat_map(|i| (0..by).map(move |j| (x * by + i, y * by + j)));
        (all.map(|(x, y)| u32::from(pixel(picture, x, y)[c])).sum::<u32>() / (by * by)) as u8
    };
    let places = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
    Picture { width, height, rgb: places.flat_map(|(x, y)| [0, 1, 2].map(|c| block(x, y, c))).collect() }
}

/// The mean difference of channels over the words' areas.
fn off(shown: &DetailPicture, a: &Picture, b: &Picture) -> f64 {
    let (mut sum, mut count) = (0.0, 0.0);
    for (_, area) in shown.words() {
        let [left, top, right, bottom] = pixels_of(area, shown, a);
        for (x, y) in (top..bottom).flat_map(|y| (left..right).map(move |x| (x, y))) {
            let apart = |(a, b): (u8, u8)| f64::from(a.abs_diff(b));
            sum += pixel(a, x, y).into_iter().zip(pixel(b, x, y)).map(apart).sum::<f64>();
            count += 3.0;
        }
    }
    sum / count
}

#[test]
fn pictures_are_drawn_at_their_size_and_not_enlarged() {
    let (quarter, whole) = (world(240), world(960));
    let written = [DetailKind::Receipt, DetailKind::Table, DetailKind::Chart, DetailKind::Map];
    let (mut agree, mut enlarged) = (0f64, f64::INFINITY);
    for kind in written {
        let shown = (0..).map(|i| whole.detail(Split::Train, kind, i));
        let smallest = |shown: &DetailPicture| {
            shown.questions.iter().filter_map(|q| q.letters).all(|l| l.share < 0.011 && l.pixels > 9.0)
        };
        let shown = shown.into_iter().find(smallest).unwrap();
        let (large, small) = (whole.detail_picture(&shown), quarter.detail_picture(&shown));
        let reduced = shrunk(&large, 4);
        assert!(small.width.abs_diff(reduced.width) <= 1 && small.height.abs_diff(reduced.height) <= 1);
        if (small.width, small.height) == (reduced.width, reduced.height) {
            agree = agree.max(off(&shown, &small, &reduced));
        }
        // Each pixel of the small one four times: what enlarging gives.
        let (width, height) = (small.width * 4, small.height * 4);
        let places = (0..height).flat_map(|y| (0..width).map(move |x| (x / 4, y / 4)));
        let rgb = places.flat_map(|(x, y)| pixel(&small, x, y)).collect();
        if width <= large.width && height <= large.height {
            enlarged = enlarged.min(off(&shown, &Picture { width, height, rgb }, &large));
        }
    }
    println!("reduced and drawn small differ by {agree:.2} at most, enlarged and drawn by {enlarged:.2}");
    // Of letters that are two pixels tall in the small one.
    assert!(agree > 0.0 && agree < 10.0 && enlarged > 30.0, "{agree} {enlarged}");
}

#[test]
fn letters_and_emoji_are_inside_apart_and_stand_out() {
    let world = world(448);
    let mut seen = BTreeSet::new();
    for shown in pictures(&world, 60) {
        let (width, height) = shown.sides();
        let areas: Vec<(String, Area)> = shown
            .words()
            .map(|(word, area)| (word.to_owned(), area))
            .chain(shown.emoji().map(|(emoji, area)| (world.emoji()[emoji].name.to_owned(), area)))
            .collect();
        let picture = world.detail_picture(&shown);
        for (at, (what, area)) in areas.iter().enumerate() {
            let inside = area.left >= 0.0
                && area.top >= 0.0
                && area.right() <= width + 1e-9
                && area.bottom() <= height + 1e-9;
            assert!(inside, "{what} of {:?} is at {area:?}", shown.kind);
            let over = areas[at + 1..].iter().find(|(_, other)| other.overlaps(area));
            assert!(over.is_none(), "{:?}: {what} and {over:?}", shown.kind);
            let [left, top, right, bottom] = pixels_of(*area, &shown, &picture);
            let mut colours = BTreeMap::<[u8; 3], u32>::new();
            for (x, y) in (top..bottom).flat_map(|y| (left..right).map(move |x| (x, y))) {
                *colours.entry(pixel(&picture, x, y)).or_default() += 1;
            }
            let (ground, most) = colours.iter().max_by_key(|c| c.1).unwrap();
            let share = f64::from(*most) / f64::from((right - left) * (bottom - top));
            let best = colours.keys().map(|&c| mm1_data::world::contrast(c, *ground)).fold(1.0, f64::max);
            // A cloud on white is pale, too.
            let least = if at < shown.words().count() { 1.5 } else { 1.05 };
            assert!(share < 0.97 && best > least, "{what} of {:?}: {share} {best}", shown.kind);
        }
        seen.extend(shown.emoji().map(|(emoji, _)| emoji));
    }
    assert_eq!(seen.len(), world.emoji().len(), "every emoji is drawn");
}

#[test]
fn numbers_of_words_and_heights_of_letters_have_their_range() {
    let world = world(1344);
    let mut classes = BTreeMap::<&str, u32>::new();
    for kind in [DetailKind::Receipt, DetailKind::Table] {
        let shown: Vec<DetailPicture> = (0..400).map(|i| world.detail(Split::Train, kind, i)).collect();
        let words: Vec<usize> = shown.iter().map(|s| s.words().count()).collect();
        assert!(words.iter().all(|n| (5..=40).contains(n)), "{kind:?}: {words:?}");
        assert!(words.iter().any(|&n| n < 13) && words.iter().any(|&n| n > 30), "{kind:?}: {words:?}");
    }
    for category in DetailCategory::ALL {
        let mut reading = 0;
        for i in 0..200 {
            let (_, asked) = world.detail_asked(Split::Test, category, i);
            let item = world.detail_question_undrawn(Split::Test, category, i);
            let mut expected = vec![category.needs()];
            if let Some(letters) = asked.letters {
                reading += 1;
                assert!((10.0..70.0).contains(&letters.pixels), "{letters:?}");
                *classes.entry(letters.class()).or_default() += 1;
                expected.push(letters.class());
            }
            assert_eq!(item.further_categories, expected);
            assert_eq!((item.category.as_str(), &item.answers), (category.name(), &asked.answers));
        }
        let read = ["sign", "price", "item", "cell", "label", "value"].contains(&category.name());
        assert!(if read { reading == 200 } else { reading == 0 || category.name() == "yes-no" });
    }
    let least = LetterHeight::CLASSES.map(|class| classes.get(class).copied().unwrap_or_default());
    println!("questions by the height of letters: {classes:?}");
    assert!(least.iter().all(|&n| n > 150), "{classes:?}");
}

#[test]
fn no_word_and_no_crowd_of_the_test_is_in_training() {
    let world = world(32);
    let mut seen = SPLITS.map(|_| BTreeSet::new());
    let streams = [WorldStream::Detail, WorldStream::DetailChat];
    for (split, seen) in SPLITS.into_iter().zip(&mut seen) {
        let mut check = |shown: &DetailPicture| {
            let words =
                shown.words().map(|(word, _)| word).filter(|w| !w.starts_with(|c: char| c.is_numeric()));
            for word in words.filter(|&word| word != "total") {
                assert_eq!(world.side(word), split, "{word}");
                seen.insert(word.to_owned());
            }
            if shown.kind == DetailKind::Crowd {
                let mut counts = BTreeMap::<&str, u32>::new();
                shown.emoji().for_each(|(e, _)| *counts.entry(world.emoji()[e].name).or_default() += 1);
                let named: Vec<String> = counts.iter().map(|(name, n)| format!("{name} {n}")).collect();
                assert_eq!(world.side(&named.join(", ")), split);
                seen.insert(named.join(", "));
            }
        };
        for (stream, i) in streams.iter().flat_map(|&s| (0..1500).map(move |i| (s, i))) {
            world.details(stream, split, i).iter().for_each(&mut check);
        }
        for (category, i) in DetailCategory::ALL.iter().flat_map(|&c| (0..150).map(move |i| (c, i))) {
            check(&world.detail_asked(split, category, i).0);
        }
    }
    assert!(seen.iter().all(|seen| seen.len() > 2000), "{} {}", seen[0].len(), seen[1].len());
    assert!(seen[0].is_disjoint(&seen[1]));
}

#[test]
fn conversations_ask_two_to_five_different_questions_and_answer_shortly() {
    let world = world(32);
    for i in 0..600 {
        let source = world.source(WorldStream::DetailChat);
        let document = source.document(Split::Train, i).unwrap();
        let shown = &world.details(WorldStream::DetailChat, Split::Train, i)[0];
        let texts: Vec<&str> = document.texts().collect();
        let asked: BTreeSet<&str> = texts.iter().step_by(2).copied().collect();
        assert!((2..=5).contains(&asked.len()) && texts.len() == 2 * asked.len(), "{texts:?}");
        for pair in texts.chunks(2) {
            let own = shown.questions.iter().find(|q| q.text == pair[0]).unwrap();
            assert!(shown.questions.iter().any(|q| q.text == pair[0] && q.answers[0] == pair[1]), "{own:?}");
            assert!(pair[1].split(' ').count() <= 2, "{}", pair[1]);
        }
    }
}

/// On every machine and with any number of threads.
#[test]
fn pixels_are_the_same_everywhere() {
    let world = world(224);
    let hashes = |world: &World| {
        let of = |kind| xxh3_64(&world.detail_picture(&world.detail(Split::Train, kind, 3)).rgb);
        DetailKind::ALL.map(|kind| format!("{:016x}", of(kind)))
    };
    let expected = hashes(&world);
    let threads: Vec<_> = (0..3)
        .map(|_| {
            let world = Arc::clone(&world);
            std::thread::spawn(move || hashes(&world))
        })
        .collect();
    for thread in threads {
        assert_eq!(thread.join().unwrap(), expected);
    }
    assert_eq!(expected, PIXELS);
}

/// The pictures of the test above.
const PIXELS: [&str; 6] = [
    "588f7ac39d090512",
    "c54ca978da72f70c",
    "a22a7b7873a600fb",
    "22c5bd91ac7bac8e",
    "fa777ede97fed431",
    "58c8942dd4e205e9",
];

#[test]
fn a_size_out_of_range_is_refused_with_the_range() {
    for detail_size in [0, 31, 1345] {
        let config = WorldConfig { detail_size, ..WorldConfig::default() };
        let message = World::new(&config, 0).err().unwrap().to_string();
        assert_eq!(message, format!("world.detail_size = {detail_size}: give 32 to 1344 pixels"));
    }
}
