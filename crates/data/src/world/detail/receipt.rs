//! A receipt: items and prices, four to eighteen of them.

use rand::Rng as _;

use super::drawing::{Area, Drawing};
use super::format::Proportions;
use super::letters::LetterHeight;
use super::{DetailCategory, DetailKind, DetailPicture, DetailQuestion};
use crate::world::author::Author;
use crate::world::lexicon::COLOURS;

/// Rows beside those of items: the shop's, the total's, and room around the lines.
const FURTHER: f64 = 4.0;
/// The narrowest paper and the lowest row, in heights of a capital.
const PAPER: f64 = 16.0;
const ROW: f64 = 1.9;

/// What is bought, with its price in hundredths.
type PricedItem = (String, u32);

pub(super) fn compose(author: &mut Author) -> DetailPicture {
    let rows = |height: f64, letters: f64| (height / (ROW * letters) - FURTHER).floor();
    let fits = |(w, h): (f64, f64), letters| PAPER * letters <= w && rows(h, letters) >= 3.0;
    let Proportions { sides, scale, letters: height } = author.format(fits);
    let letters = height.share;
    let number = author.rng.random_range(3..=(rows(sides.1, letters) as usize).min(18));
    let mut names = author.detail_words(number + 1);
    let shop = names.remove(0);
    let items: Vec<PricedItem> = names.into_iter().map(|name| (name, author.price())).collect();
    let ground = author.rng.random_range(0..COLOURS.len());
    let mut drawing = Drawing::new(sides, scale, author.shade(ground));
    draw(author, &mut drawing, letters, (&shop, &items));
    let caption = caption(&shop, &items);
    let questions = questions(author, &items, height);
    DetailPicture { kind: DetailKind::Receipt, drawing, caption, questions }
}

/// "3.40"
fn money(hundredths: u32) -> String {
    format!("{}.{:02}", hundredths / 100, hundredths % 100)
}

fn total(items: &[PricedItem]) -> u32 {
    items.iter().map(|item| item.1).sum()
}

fn draw(author: &mut Author, drawing: &mut Drawing, letters: f64, (shop, items): (&str, &[PricedItem])) {
    let rows = items.len() as f64 + FURTHER;
    let most = (drawing.height / (rows * letters)).clamp(ROW, 3.0);
    let pitch = author.rng.random_range(ROW..=most) * letters;
    let width = author.rng.random_range(PAPER * letters..=drawing.width.min(30.0 * letters));
    let left = author.rng.random_range(0.0..=drawing.width - width);
    let top = author.rng.random_range(0.0..=(drawing.height - rows * pitch).max(0.0));
    let paper = Area::new(left, top, width, rows * pitch);
    let ink = author.pick(&[[20, 20, 25], [25, 35, 90], [90, 25, 30]]);
    drawing.rectangle(paper, author.pick(&[[252, 251, 247], [244, 240, 225], [235, 240, 245]]));
    let row = |at: f64| top + (at + 0.5) * pitch;
    let (start, end) = (left + 1.5 * letters, paper.right() - 1.5 * letters);
    let rule = |drawing: &mut Drawing, at: f64| {
        drawing.rectangle(Area::new(start, row(at) + letters / 2.0, end - start, letters / 8.0), ink);
    };
    drawing.centred(shop, (left + width / 2.0, row(0.0)), letters, ink);
    rule(drawing, 0.9);
    for (at, (name, price)) in items.iter().enumerate() {
        let y = row(at as f64 + 1.6);
        drawing.word(name, (start, y), letters, ink);
        drawing.flush(&money(*price), (end, y), letters, ink);
    }
    rule(drawing, items.len() as f64 + 1.5);
    let y = row(items.len() as f64 + 2.3);
    drawing.word("total", (start, y), letters, ink);
    drawing.flush(&money(total(items)), (end, y), letters, ink);
}

fn caption(shop: &str, items: &[PricedItem]) -> String {
    let items: Vec<String> = items.iter().map(|(name, price)| format!("{name} {}", money(*price))).collect();
    format!("A receipt of {shop}: {}.", items.join(", "))
}

fn questions(author: &mut Author, items: &[PricedItem], letters: LetterHeight) -> Vec<DetailQuestion> {
    let mut out = Vec::new();
    for _ in 0..3 {
        let (name, price) = author.one_of(items);
        let text = author.phrased(
            &["What is the price of {name}?", "How much is {name}?", "What does {name} cost?"],
            &[("{name}", name)],
        );
        out.push(DetailQuestion::reading(DetailCategory::Price, text, money(*price), letters));
    }
    for _ in 0..2 {
        let at = author.rng.random_range(0..items.len());
        let text = author.phrased(
            &["Which item is in row {n}?", "What is item {n} of the receipt?"],
            &[("{n}", &(at + 1).to_string())],
        );
        out.push(DetailQuestion::reading(DetailCategory::Item, text, items[at].0.clone(), letters));
    }
    let [a, b] = author.two(items);
    if a.1 != b.1 {
        let text = author.phrased(
            &["Is {a} cheaper than {b}?", "Does {a} cost less than {b}?"],
            &[("{a}", &a.0), ("{b}", &b.0)],
        );
        out.push(DetailQuestion::yes_no(text, a.1 < b.1, Some(letters)));
    }
    out
}

impl Author<'_> {
    /// From 0.50 to 99.95, in hundredths.
    fn price(&mut self) -> u32 {
        self.rng.random_range(10..=1999) * 5
    }
}
