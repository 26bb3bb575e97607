//! A bar chart with names under its bars and numbers on its axis.

use rand::Rng as _;

use super::drawing::{Area, Drawing};
use super::format::Proportions;
use super::letters::LetterHeight;
use super::{DetailCategory, DetailKind, DetailPicture, DetailQuestion};
use crate::world::author::Author;
use crate::world::lexicon::COLOURS;

/// Room for a bar and its name, and around the bars, in heights of a capital.
const SLOT: f64 = 5.0;
const LEFT: f64 = 4.8;
const RIGHT: f64 = 1.0;
const TOP: f64 = 1.6;
const BOTTOM: f64 = 2.6;
/// Between two numbers of the axis.
const STEP: f64 = 1.8;
/// The axis has a number for every second unit.
const STEPS: u32 = 5;

struct Bar {
    name: String,
    /// A place in [`COLOURS`].
    colour: usize,
    /// In units of the axis, of 1 to 10; no two bars are as tall.
    units: u32,
}

pub(super) fn compose(author: &mut Author) -> DetailPicture {
    let slots = |width: f64, letters: f64| ((width / letters - LEFT - RIGHT) / SLOT).floor();
    let tall = TOP + BOTTOM + f64::from(STEPS) * STEP;
    let fits = |(w, h): (f64, f64), letters: f64| slots(w, letters) >= 3.0 && h >= tall * letters;
    let Proportions { sides, scale, letters: height } = author.format(fits);
    let letters = height.share;
    let number = author.rng.random_range(3..=(slots(sides.0, letters) as usize).min(8));
    // Without white, which is the paper's.
    let colours = author.shuffled(0..COLOURS.len() - 1);
    let heights = author.shuffled(1..=2 * STEPS);
    let names = author.detail_words(number).into_iter();
    let bars = names.zip(colours).zip(heights);
    let bars: Vec<Bar> = bars.map(|((name, colour), units)| Bar { name, colour, units }).collect();
    let unit = author.pick(&[1, 2, 5, 10, 20, 50]);
    let mut drawing = Drawing::new(sides, scale, [250, 250, 252]);
    draw(author, &mut drawing, letters, (&bars, unit));
    let caption = caption(&bars, unit);
    let questions = questions(author, (&bars, unit), height);
    DetailPicture { kind: DetailKind::Chart, drawing, caption, questions }
}

fn draw(author: &mut Author, drawing: &mut Drawing, letters: f64, (bars, unit): (&[Bar], u32)) {
    let ink = [30, 30, 35];
    let plot = Area::new(
        LEFT * letters,
        TOP * letters,
        drawing.width - (LEFT + RIGHT) * letters,
        drawing.height - (TOP + BOTTOM) * letters,
    );
    let y = |units: u32| plot.bottom() - plot.height * f64::from(units) / f64::from(2 * STEPS);
    let thin = letters / 8.0;
    for step in 0..=STEPS {
        let at = y(2 * step);
        drawing.rectangle(Area::new(plot.left, at - thin / 2.0, plot.width, thin), [205, 205, 212]);
        let number = (2 * step * unit).to_string();
        drawing.flush(&number, (plot.left - letters / 2.0, at - letters / 2.0), letters, ink);
    }
    let slot = plot.width / bars.len() as f64;
    let wide = slot * author.rng.random_range(0.4..0.8);
    for (at, bar) in bars.iter().enumerate() {
        let middle = plot.left + (at as f64 + 0.5) * slot;
        let top = y(bar.units);
        let area = Area::new(middle - wide / 2.0, top, wide, plot.bottom() - top);
        drawing.rectangle(area, COLOURS[bar.colour].1);
        drawing.centred(&bar.name, (middle, plot.bottom() + 0.8 * letters), letters, ink);
    }
    drawing.rectangle(Area::new(plot.left, plot.bottom() - thin, plot.width, 2.0 * thin), ink);
    drawing.rectangle(Area::new(plot.left - thin, plot.top, 2.0 * thin, plot.height), ink);
}

fn caption(bars: &[Bar], unit: u32) -> String {
    let named: Vec<String> = bars.iter().map(|bar| format!("{} {}", bar.name, bar.units * unit)).collect();
    let tallest = bars.iter().max_by_key(|bar| bar.units).map_or("", |bar| COLOURS[bar.colour].0);
    format!("A bar chart: {}. The tallest bar is {tallest}.", named.join(", "))
}

fn questions(author: &mut Author, (bars, unit): (&[Bar], u32), letters: LetterHeight) -> Vec<DetailQuestion> {
    let mut out = Vec::new();
    for _ in 0..2 {
        let bar = author.one_of(bars);
        let text = author.phrased(
            &["What is the value of {name}?", "How much has {name}?", "Which number does {name} reach?"],
            &[("{name}", &bar.name)],
        );
        let answer = (bar.units * unit).to_string();
        out.push(DetailQuestion::reading(DetailCategory::Value, text, answer, letters));
    }
    let bar = author.one_of(bars);
    let text = author.phrased(
        &["What is the name of the {colour} bar?", "What is written below the {colour} bar?"],
        &[("{colour}", COLOURS[bar.colour].0)],
    );
    out.push(DetailQuestion::reading(DetailCategory::Label, text, bar.name.clone(), letters));
    let (word, bar) = if author.chance(0.5) {
        ("tallest", bars.iter().max_by_key(|bar| bar.units))
    } else {
        ("shortest", bars.iter().min_by_key(|bar| bar.units))
    };
    let text = author.phrased(
        &["What colour is the {word} bar?", "Which colour has the {word} bar?"],
        &[("{word}", word)],
    );
    let answer = bar.map_or("", |bar| COLOURS[bar.colour].0);
    out.push(DetailQuestion::seen(DetailCategory::Tallest, text, &[answer]));
    let [a, b] = author.two(bars);
    let text = author.phrased(
        &["Is {a} taller than {b}?", "Is the bar of {a} taller than the one of {b}?"],
        &[("{a}", &a.name), ("{b}", &b.name)],
    );
    out.push(DetailQuestion::yes_no(text, a.units > b.units, Some(letters)));
    out
}
