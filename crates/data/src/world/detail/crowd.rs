//! A crowd: many small emoji of a few kinds, more of them on one side.

use rand::Rng as _;
use rand::seq::SliceRandom as _;

use super::drawing::{Area, Drawing};
use super::format::Proportions;
use super::{DetailCategory, DetailKind, DetailPicture, DetailQuestion, Edge};
use crate::world::author::Author;
use crate::world::lexicon::{number, with_article};

/// Cells that a half of the picture has at least: as many as may be in it.
const CELLS: f64 = 40.0;
/// Side of an emoji in heights of a capital, of which there is none here.
const EMOJI: f64 = 2.0;
/// Side of a cell, in sides of an emoji.
const CELL: f64 = 1.25;
/// Unlike Twemoji's colours, so that none is lost on it.
const GROUNDS: [[u8; 3]; 3] = [[248, 248, 250], [44, 48, 66], [206, 214, 222]];
/// Of one kind at most.
const MOST: usize = 9;

/// An emoji and how often it is there.
type CountedEmoji = (usize, usize);

pub(super) fn compose(author: &mut Author) -> DetailPicture {
    let grid = |(w, h): (f64, f64), letters: f64| {
        let cell = CELL * EMOJI * letters;
        ((w / cell).floor(), (h / cell).floor())
    };
    let fits = |sides, letters| {
        let (columns, rows) = grid(sides, letters);
        (columns / 2.0).floor() * rows >= CELLS && columns * (rows / 2.0).floor() >= CELLS
    };
    let Proportions { sides, letters, scale } = author.format(fits);
    let mut drawing = Drawing::new(sides, scale, author.pick(&GROUNDS));
    let kinds = author.kinds();
    let edge = author.pick(&Edge::ALL);
    let (columns, rows) = grid(sides, letters.share);
    let cells = cells(author, &kinds, (columns as usize, rows as usize), edge);
    let (wide, tall, side) = (sides.0 / columns, sides.1 / rows, EMOJI * letters.share);
    for (emoji, (column, row)) in cells {
        let left = column as f64 * wide + author.rng.random_range(0.1..=0.9) * (wide - side);
        let top = row as f64 * tall + author.rng.random_range(0.1..=0.9) * (tall - side);
        drawing.emoji(emoji, Area::new(left, top, side, side));
    }
    let caption = caption(author, &kinds, edge);
    let questions = questions(author, &kinds, edge);
    DetailPicture { kind: DetailKind::Crowd, drawing, caption, questions }
}

impl Author<'_> {
    /// Three to five kinds, one to nine of each. Which of them come together, and how many, belongs to one
    /// split.
    fn kinds(&mut self) -> Vec<CountedEmoji> {
        loop {
            let number = self.rng.random_range(3..=5);
            let kinds = self.detail_emoji(number).into_iter();
            let kinds: Vec<CountedEmoji> =
                kinds.map(|emoji| (emoji, self.rng.random_range(1..=MOST))).collect();
            let mut named: Vec<String> =
                kinds.iter().map(|&(emoji, count)| format!("{} {count}", self.name(emoji))).collect();
            named.sort();
            if self.world.side(&named.join(", ")) == self.split {
                return kinds;
            }
        }
    }
}

/// A cell for each emoji; two thirds of them or more are in the half at `edge`.
fn cells(
    author: &mut Author,
    kinds: &[CountedEmoji],
    (columns, rows): (usize, usize),
    edge: Edge,
) -> Vec<(usize, (usize, usize))> {
    let in_half = |(column, row): (usize, usize), edge: Edge| match edge {
        Edge::Left => column < columns / 2,
        Edge::Right => column >= columns - columns / 2,
        Edge::Top => row < rows / 2,
        Edge::Bottom => row >= rows - rows / 2,
    };
    let mut half = |edge: Edge| {
        let all = (0..columns).flat_map(|column| (0..rows).map(move |row| (column, row)));
        let mut cells: Vec<(usize, usize)> = all.filter(|&cell| in_half(cell, edge)).collect();
        cells.shuffle(&mut author.rng);
        cells
    };
    let (fuller, other) = (half(edge), half(edge.opposite()));
    let mut emoji: Vec<usize> =
        kinds.iter().flat_map(|&(emoji, count)| std::iter::repeat_n(emoji, count)).collect();
    emoji.shuffle(&mut author.rng);
    let share = author.rng.random_range(0.67..0.85);
    let most = (emoji.len() as f64 * share).ceil() as usize;
    let places = fuller.into_iter().take(most).chain(other);
    emoji.into_iter().zip(places).collect()
}

fn caption(author: &Author, kinds: &[CountedEmoji], edge: Edge) -> String {
    let kind = |&(emoji, count): &CountedEmoji| {
        let times = if count == 1 { "once".to_owned() } else { format!("{} times", number(count)) };
        format!("{} {times}", with_article(author.name(emoji)))
    };
    let kinds: Vec<String> = kinds.iter().map(kind).collect();
    format!("A crowd of small things, most of them {}: {}.", edge.phrase(), kinds.join(", "))
}

fn questions(author: &mut Author, kinds: &[CountedEmoji], edge: Edge) -> Vec<DetailQuestion> {
    let mut out = Vec::new();
    for _ in 0..3 {
        let &(emoji, count) = author.one_of(kinds);
        let text = author.phrased(
            &["How many times is there {a}?", "How often do you see {a}?"],
            &[("{a}", &with_article(author.name(emoji)))],
        );
        out.push(DetailQuestion::seen(DetailCategory::Count, text, &[number(count), &count.to_string()]));
    }
    let there = author.chance(0.5);
    let absent = loop {
        let emoji = author.rng.random_range(0..author.world.emoji.len());
        if kinds.iter().all(|kind| kind.0 != emoji) {
            break emoji;
        }
    };
    let emoji = if there { author.one_of(kinds).0 } else { absent };
    let text = author.phrased(
        &["Is there {a}?", "Do you see {a} anywhere?"],
        &[("{a}", &with_article(author.name(emoji)))],
    );
    out.push(DetailQuestion::yes_no(text, there, None));
    out.push(author.side_question(edge, ["Are most things {a} or {b}?", "Is it fuller {a} or {b}?"]));
    out
}
