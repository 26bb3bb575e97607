//! A street: small signs, each in a colour of its own, among large things.

use rand::Rng as _;

use super::drawing::{Area, Drawing, ink_on, word_width};
use super::format::Proportions;
use super::letters::LetterHeight;
use super::{DetailCategory, DetailKind, DetailPicture, DetailQuestion};
use crate::world::author::Author;
use crate::world::lexicon::{COLOURS, enumerate, with_article};

/// Height of a board and of its post, and the board's rim, in heights of a capital.
const BOARD: f64 = 2.3;
const POST: f64 = 1.6;
const RIM: f64 = 0.2;
/// The widest board.
const WIDE: f64 = 6.0;

/// Places that are tried for one thing.
const TRIES: usize = 60;

struct Board {
    word: String,
    /// A place in [`COLOURS`].
    colour: usize,
    /// The board, the post and some room around them.
    area: Area,
}

pub(super) fn compose(author: &mut Author) -> DetailPicture {
    let fits = |(w, h): (f64, f64), letters: f64| {
        // Room for four signs, and much beside them.
        let (wide, tall) = (WIDE * letters, (BOARD + POST + 0.6) * letters);
        w >= 1.2 * wide && h >= 1.2 * tall && w * h >= 10.0 * wide * tall
    };
    let Proportions { sides, scale, letters: height } = author.format(fits);
    let letters = height.share;
    let sky = author.pick(&[[190, 220, 245], [245, 225, 200], [215, 215, 225], [70, 80, 120]]);
    let mut drawing = Drawing::new(sides, scale, sky);
    let horizon = author.rng.random_range(0.4..0.7) * drawing.height;
    let ground = author.pick(&[[150, 165, 120], [165, 160, 155], [200, 180, 140]]);
    drawing.rectangle(Area::new(0.0, horizon, drawing.width, drawing.height - horizon), ground);
    let boards = boards(author, drawing.area(), letters);
    let things = things(author, drawing.area(), &boards);
    for (emoji, area) in &things {
        drawing.emoji(*emoji, *area);
    }
    boards.iter().for_each(|board| draw(&mut drawing, board, letters));
    let caption = caption(author, &boards, &things);
    let questions = questions(author, &boards, height);
    DetailPicture { kind: DetailKind::Street, drawing, caption, questions }
}

/// Two to four signs beside one another's.
fn boards(author: &mut Author, picture: Area, letters: f64) -> Vec<Board> {
    let number = author.rng.random_range(2..=4);
    let colours = author.shuffled(0..COLOURS.len());
    let mut out: Vec<Board> = Vec::new();
    for (word, colour) in author.detail_words(number).into_iter().zip(colours) {
        let width = word_width(&word, letters) + (1.0 + 2.0 * RIM + 0.4) * letters;
        let taken: Vec<Area> = out.iter().map(|board| board.area).collect();
        let size = (width, (BOARD + POST + 2.0 * RIM + 0.2) * letters);
        // The first always finds room.
        if let Some(area) = author.free(picture, size, &taken) {
            out.push(Board { word, colour, area });
        }
    }
    out
}

/// Up to four large emoji, as large as the signs leave room for.
fn things(author: &mut Author, picture: Area, boards: &[Board]) -> Vec<(usize, Area)> {
    let number = author.rng.random_range(2..=4);
    let mut taken: Vec<Area> = boards.iter().map(|board| board.area).collect();
    let mut out = Vec::new();
    for emoji in author.detail_emoji(number) {
        let shorter = picture.width.min(picture.height);
        for share in [0.75, 0.6, 0.5, 0.4, 0.3] {
            let side = share * shorter;
            if let Some(area) = author.free(picture, (side, side), &taken) {
                taken.push(area);
                out.push((emoji, area));
                break;
            }
        }
    }
    out
}

fn draw(drawing: &mut Drawing, Board { word, colour, area }: &Board, letters: f64) {
    let board = Area { height: (BOARD + 2.0 * RIM) * letters, ..*area };
    let ink = ink_on(*colour);
    let rim = if ink == [255; 3] { [235, 235, 235] } else { [40, 40, 45] };
    let middle = area.left + area.width / 2.0;
    let post = Area::new(middle - 0.15 * letters, board.bottom(), 0.3 * letters, POST * letters);
    drawing.rectangle(post, [90, 85, 80]);
    drawing.rectangle(board, rim);
    drawing.rectangle(board.grown(-RIM * letters), COLOURS[*colour].1);
    drawing.centred(word, (middle, board.top + (board.height - letters) / 2.0), letters, ink);
}

fn caption(author: &Author, boards: &[Board], things: &[(usize, Area)]) -> String {
    let mut seen: Vec<String> =
        things.iter().map(|(emoji, _)| with_article(&format!("large {}", author.name(*emoji)))).collect();
    let sign = |board: &Board| format!("{} sign {}", with_article(COLOURS[board.colour].0), board.word);
    seen.extend(boards.iter().map(sign));
    format!("A street with {}.", enumerate(&seen))
}

fn questions(author: &mut Author, boards: &[Board], letters: LetterHeight) -> Vec<DetailQuestion> {
    let mut out = Vec::new();
    for board in boards {
        let text = author.phrased(
            &["What does the {colour} sign say?", "What is written on the {colour} sign?"],
            &[("{colour}", COLOURS[board.colour].0)],
        );
        out.push(DetailQuestion::reading(DetailCategory::Sign, text, board.word.clone(), letters));
    }
    let mut out = author.shuffled(out);
    let there = author.chance(0.5);
    let absent = author.detail_word_beside(|word| boards.iter().any(|board| board.word == word));
    let word = if there { author.one_of(boards).word.clone() } else { absent };
    let text =
        author.phrased(&["Does a sign say {word}?", "Is there a sign with {word}?"], &[("{word}", &word)]);
    out.push(DetailQuestion::yes_no(text, there, Some(letters)));
    out
}

impl Author<'_> {
    /// A place of that size in the picture that touches nothing taken, if one is found.
    fn free(&mut self, picture: Area, (width, height): (f64, f64), taken: &[Area]) -> Option<Area> {
        if width > picture.width || height > picture.height {
            return None;
        }
        (0..TRIES).find_map(|_| {
            let left = self.rng.random_range(0.0..=picture.width - width);
            let top = self.rng.random_range(0.0..=picture.height - height);
            let area = Area::new(left, top, width, height);
            (!taken.iter().any(|other| other.overlaps(&area))).then_some(area)
        })
    }
}
