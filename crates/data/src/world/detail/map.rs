//! A map: land and water, roads, and places with a small emoji and a name beside it.

use rand::Rng as _;
use rand::seq::SliceRandom as _;

use super::drawing::{Area, Drawing};
use super::format::Proportions;
use super::letters::LetterHeight;
use super::{DetailCategory, DetailKind, DetailPicture, DetailQuestion, Edge};
use crate::world::author::Author;
use crate::world::lexicon::with_article;

/// Sides of the room of a place, and of its emoji, in heights of a capital.
const WIDE: f64 = 8.6;
const TALL: f64 = 3.6;
const EMOJI: f64 = 2.6;
/// How much of the picture is water, with the waves of its shore.
const WATER: f64 = 0.26;
const WAVE: f64 = 0.05;

const LAND: [[u8; 3]; 3] = [[222, 236, 205], [240, 232, 212], [226, 228, 214]];
const SEA: [u8; 3] = [120, 175, 225];

struct MapPlace {
    name: String,
    emoji: usize,
    /// Where its emoji begins.
    left: f64,
    top: f64,
}

pub(super) fn compose(author: &mut Author) -> DetailPicture {
    let edge = author.pick(&Edge::ALL);
    let grid = |(w, h): (f64, f64), letters: f64| {
        let land = land((w, h), edge);
        ((land.width / (WIDE * letters)).floor(), (land.height / (TALL * letters)).floor())
    };
    let fits = |sides, letters| {
        let (columns, rows) = grid(sides, letters);
        columns * rows >= 3.0 && rows >= 2.0
    };
    let Proportions { sides, scale, letters: height } = author.format(fits);
    let letters = height.share;
    let land_colour = author.pick(&LAND);
    let mut drawing = Drawing::new(sides, scale, land_colour);
    let area = land(sides, edge);
    roads(author, &mut drawing, area);
    water(author, &mut drawing, edge);
    let (columns, rows) = grid(sides, letters);
    let places = places(author, area, (columns as usize, rows as usize), letters);
    for MapPlace { name, emoji, left, top } in &places {
        drawing.emoji(*emoji, Area::new(*left, *top, EMOJI * letters, EMOJI * letters));
        let at = (left + (EMOJI + 0.5) * letters, top + (EMOJI - 1.0) / 2.0 * letters);
        drawing.word(name, at, letters, [25, 25, 30]);
    }
    let caption = caption(author, &places, edge);
    let questions = questions(author, &places, edge, height);
    DetailPicture { kind: DetailKind::Map, drawing, caption, questions }
}

/// What no wave reaches.
fn land((width, height): (f64, f64), edge: Edge) -> Area {
    let most = WATER + WAVE;
    match edge {
        Edge::Left => Area::new(most * width, 0.0, (1.0 - most) * width, height),
        Edge::Right => Area::new(0.0, 0.0, (1.0 - most) * width, height),
        Edge::Top => Area::new(0.0, most * height, width, (1.0 - most) * height),
        Edge::Bottom => Area::new(0.0, 0.0, width, (1.0 - most) * height),
    }
}

/// From one side of the land to the other, and from its top to its bottom.
fn roads(author: &mut Author, drawing: &mut Drawing, land: Area) {
    let mut along = |start: f64, length: f64| start + author.rng.random_range(0.1..0.9) * length;
    let (y1, y2, y3) =
        (along(land.top, land.height), along(land.top, land.height), along(land.top, land.height));
    let (x1, x2) = (along(land.left, land.width), along(land.left, land.width));
    let middle = land.left + land.width / 2.0;
    let (colour, width) = ([252, 250, 244], 0.012 * drawing.width.min(drawing.height).max(0.4));
    drawing.line(vec![(land.left, y1), (middle, y2), (land.right(), y3)], width, colour);
    drawing.line(vec![(x1, land.top), (x2, land.bottom())], width, colour);
}

fn water(author: &mut Author, drawing: &mut Drawing, edge: Edge) {
    let (width, height) = (drawing.width, drawing.height);
    let waves: u8 = 9;
    let depth = |author: &mut Author| WATER + author.rng.random_range(-WAVE..=WAVE);
    let shore = (0..=waves).map(|at| (f64::from(at) / f64::from(waves), depth(author)));
    let point = |(along, depth): (f64, f64)| match edge {
        Edge::Left => (depth * width, along * height),
        Edge::Right => ((1.0 - depth) * width, along * height),
        Edge::Top => (along * width, depth * height),
        Edge::Bottom => (along * width, (1.0 - depth) * height),
    };
    let outline = [(0.0, 0.0)].into_iter().chain(shore).chain([(1.0, 0.0)]);
    drawing.polygon(outline.map(point).collect(), SEA);
}

/// Three to eight in cells of a grid, from the top.
fn places(author: &mut Author, land: Area, (columns, rows): (usize, usize), letters: f64) -> Vec<MapPlace> {
    let mut cells: Vec<(usize, usize)> =
        (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column))).collect();
    cells.shuffle(&mut author.rng);
    let number = author.rng.random_range(3..=cells.len().min(8));
    cells.truncate(number);
    cells.sort_unstable();
    let names = author.detail_words(number);
    let emoji = author.detail_emoji(number);
    let (wide, tall) = (land.width / columns as f64, land.height / rows as f64);
    let mut place = |((row, column), (name, emoji)): ((usize, usize), (String, usize))| {
        let mut within = |room: f64, taken: f64| {
            let spare = (room - taken * letters) / 2.0;
            spare + author.rng.random_range(-0.8..=0.8) * spare
        };
        let left = land.left + column as f64 * wide + within(wide, WIDE - 0.6);
        MapPlace { name, emoji, left, top: land.top + row as f64 * tall + within(tall, EMOJI + 0.2) }
    };
    cells.into_iter().zip(names.into_iter().zip(emoji)).map(&mut place).collect()
}

fn caption(author: &Author, places: &[MapPlace], edge: Edge) -> String {
    let place = |place: &MapPlace| format!("{} at {}", place.name, with_article(author.name(place.emoji)));
    let places: Vec<String> = places.iter().map(place).collect();
    format!("A map with water {}: {}.", edge.phrase(), places.join(", "))
}

fn questions(
    author: &mut Author,
    places: &[MapPlace],
    edge: Edge,
    letters: LetterHeight,
) -> Vec<DetailQuestion> {
    let mut out = Vec::new();
    for _ in 0..3 {
        let place = author.one_of(places);
        let emoji = author.name(place.emoji);
        let text = author.phrased(
            &["What is the name next to the {emoji}?", "Which place has the {emoji}?"],
            &[("{emoji}", emoji)],
        );
        out.push(DetailQuestion::reading(DetailCategory::Label, text, place.name.clone(), letters));
    }
    out.push(author.side_question(edge, ["Is the water {a} or {b}?", "Where is the water, {a} or {b}?"]));
    let [a, b] = author.two(places);
    if (a.top - b.top).abs() > EMOJI * letters.share {
        let text = author.phrased(
            &["Is {a} above {b}?", "Is {a} farther up than {b}?"],
            &[("{a}", &a.name), ("{b}", &b.name)],
        );
        out.push(DetailQuestion::yes_no(text, a.top < b.top, Some(letters)));
    }
    out
}
