//! Answers are found again in what is drawn: from the words, the emoji and the pixels.

use mm1_data::document::Picture;
use mm1_data::source::Split;
use mm1_data::world::{Area, COLOURS, DetailCategory, DetailKind, DetailPicture, DetailQuestion, World};

use super::{pixel, pixels_of, world};

/// What is read of one picture.
struct Reader<'a> {
    world: &'a World,
    shown: &'a DetailPicture,
    picture: &'a Picture,
    /// Words by line, from the top, and from left to right.
    lines: Vec<Vec<(String, Area)>>,
}

impl<'a> Reader<'a> {
    fn new(world: &'a World, shown: &'a DetailPicture, picture: &'a Picture) -> Self {
        let mut words: Vec<(String, Area)> =
            shown.words().map(|(word, area)| (word.to_owned(), area)).collect();
        words.sort_by(|a, b| (a.1.top, a.1.left).partial_cmp(&(b.1.top, b.1.left)).unwrap());
        let mut lines: Vec<Vec<(String, Area)>> = Vec::new();
        for word in words {
            match lines.last_mut() {
                Some(line) if word.1.top - line[0].1.top < 1e-9 => line.push(word),
                _ => lines.push(vec![word]),
            }
        }
        Self { world, shown, picture, lines }
    }

    /// The line that has the word.
    fn line(&self, word: &str) -> &[(String, Area)] {
        self.lines.iter().find(|line| line.iter().any(|(w, _)| w == word)).unwrap_or_else(|| {
            panic!("{word} is not in {:?}", self.lines);
        })
    }

    fn place(&self, word: &str) -> Area {
        self.line(word).iter().find(|(w, _)| w == word).unwrap().1
    }

    /// The words of the picture that are in the question, in its order.
    fn named(&self, question: &DetailQuestion) -> Vec<String> {
        let words = question.text.trim_end_matches('?').split(' ');
        let shown = |word: &&str| self.shown.words().any(|(w, _)| w == *word);
        words.filter(shown).map(str::to_owned).collect()
    }

    /// The nearest colour's name.
    fn colour(&self, x: f64, y: f64) -> &'static str {
        let at = Area { left: x, top: y, width: 0.0, height: 0.0 };
        let [x, y, ..] = pixels_of(at, self.shown, self.picture);
        let seen = pixel(self.picture, x.min(self.picture.width - 1), y.min(self.picture.height - 1));
        let apart = |c: &[u8; 3]| c.iter().zip(seen).map(|(&a, b)| u32::from(a.abs_diff(b))).sum::<u32>();
        COLOURS.iter().min_by_key(|(_, c)| apart(c)).unwrap().0
    }

    /// Bars by name with their colour and height in heights of the axis, of 1.
    fn bars(&self) -> Vec<(String, &'static str, f64)> {
        let (names, numbers) = self.lines.split_last().unwrap();
        let middle = |area: &Area| area.top + area.height / 2.0;
        // Half a line of letters is between the middle of an area and that of its capitals.
        let shift = middle(&numbers[5][0].1) - middle(&numbers[0][0].1);
        let zero = numbers[5][0].1;
        let bar = |(name, area): &(String, Area)| {
            let x = area.left + area.width / 2.0;
            let bottom = zero.top + zero.height / 2.0 - zero.height * 0.1;
            let colour = self.colour(x, bottom - shift * 0.05);
            // From a twentieth of the axis up, where every bar is.
            let steps = (10..=200).take_while(|&k| {
                self.colour(x, bottom - shift * (f64::from(k) / 200.0) + shift * 0.004) == colour
            });
            (name.clone(), colour, f64::from(steps.last().unwrap_or_default()) / 200.0)
        };
        names.iter().map(bar).collect()
    }

    /// The number at the top of the axis.
    fn scale(&self) -> f64 {
        self.lines[0][0].0.parse().unwrap()
    }

    fn count(&self, name: &str) -> usize {
        self.shown.emoji().filter(|&(e, _)| self.world.emoji()[e].name == name).count()
    }

    /// The emoji whose name ends the question.
    fn emoji_of(&self, question: &DetailQuestion) -> &'static str {
        let text = question.text.trim_end_matches('?').trim_end_matches(" anywhere");
        let names = self.world.emoji().iter().map(|e| e.name);
        names.filter(|name| text.ends_with(&format!(" {name}"))).max_by_key(|name| name.len()).unwrap()
    }

    fn comparison(&self, question: &DetailQuestion) -> bool {
        let named = self.named(question);
        let number = |word: &str, column: usize| self.line(word)[column].0.parse::<f64>().unwrap();
        match self.shown.kind {
            DetailKind::Receipt => number(&named[0], 1) < number(&named[1], 1),
            DetailKind::Map => self.place(&named[0]).top < self.place(&named[1]).top,
            DetailKind::Chart => {
                let bars = self.bars();
                let tall = |name: &str| bars.iter().find(|bar| bar.0 == name).unwrap().2;
                tall(&named[0]) > tall(&named[1])
            }
            DetailKind::Table => {
                let head = |word: &String| self.lines[0].iter().position(|(w, _)| w == word);
                let column = named.iter().find_map(head).unwrap() + 1;
                let rows: Vec<&String> = named.iter().filter(|word| head(word).is_none()).collect();
                number(rows[0], column) > number(rows[1], column)
            }
            DetailKind::Street => !named.is_empty(),
            DetailKind::Crowd => self.count(self.emoji_of(question)) > 0,
        }
    }

    fn answer(&self, question: &DetailQuestion) -> String {
        let named = self.named(question);
        let ordinal = || -> usize {
            let digits = question.text.split(|c: char| !c.is_ascii_digit());
            digits.filter_map(|word| word.parse().ok()).next().unwrap()
        };
        match question.category {
            DetailCategory::Price => self.line(&named[0])[1].0.clone(),
            DetailCategory::Item => self.lines[ordinal()][0].0.clone(),
            DetailCategory::Cell => {
                let head = |word: &String| self.lines[0].iter().position(|(w, _)| w == word);
                let column = named.iter().find_map(head).unwrap() + 1;
                let row = named.iter().find(|word| head(word).is_none()).unwrap();
                self.line(row)[column].0.clone()
            }
            DetailCategory::Sign => {
                let at = |area: &Area| self.colour(area.left - area.height * 0.15, area.top);
                let says = |(word, area): (&str, Area)| {
                    question.text.contains(&format!(" {} ", at(&area))).then(|| word.to_owned())
                };
                self.shown.words().find_map(says).unwrap()
            }
            DetailCategory::Label if self.shown.kind == DetailKind::Map => {
                let emoji = self.emoji_of(question);
                let (_, of) = self.shown.emoji().find(|&(e, _)| self.world.emoji()[e].name == emoji).unwrap();
                let beside = |area: &Area| (area.left - of.right()).abs() + (area.top - of.top).abs();
                let near = self.shown.words().min_by(|a, b| beside(&a.1).total_cmp(&beside(&b.1)));
                near.unwrap().0.to_owned()
            }
            DetailCategory::Label => {
                let bars = self.bars();
                bars.into_iter().find(|bar| question.text.contains(&format!(" {} ", bar.1))).unwrap().0
            }
            DetailCategory::Value => {
                let bars = self.bars();
                let tall = bars.iter().find(|bar| bar.0 == named[0]).unwrap().2;
                format!("{}", ((tall * 10.0).round() * self.scale() / 10.0).round())
            }
            DetailCategory::Tallest => {
                let mut bars = self.bars();
                bars.sort_by(|a, b| a.2.total_cmp(&b.2));
                if question.text.contains("shortest") { bars[0].1 } else { bars[bars.len() - 1].1 }.to_owned()
            }
            DetailCategory::Count => {
                let numbers = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine"];
                numbers[self.count(self.emoji_of(question)) - 1].to_owned()
            }
            DetailCategory::YesNo => if self.comparison(question) { "yes" } else { "no" }.to_owned(),
            DetailCategory::Kind => self.shown.kind.name().to_owned(),
            DetailCategory::Side => self.side(question),
        }
    }

    /// Where most emoji of a crowd are; of a map, where fewer are: beside the water.
    fn side(&self, question: &DetailQuestion) -> String {
        let (width, height) = self.shown.sides();
        let across = question.text.contains("left");
        let edges = if across { ["left", "right"] } else { ["top", "bottom"] };
        if self.shown.kind == DetailKind::Map {
            let sea = |x: f64, y: f64| {
                let at = Area { left: x * width, top: y * height, width: 0.0, height: 0.0 };
                let [x, y, ..] = pixels_of(at, self.shown, self.picture);
                pixel(self.picture, x, y) == [120, 175, 225]
            };
            let first = if across { sea(0.02, 0.5) } else { sea(0.5, 0.02) };
            return edges[usize::from(!first)].to_owned();
        }
        let (mut first, mut all) = (0, 0);
        for (_, area) in self.shown.emoji() {
            let middle = if across {
                (area.left + area.width / 2.0) / width
            } else {
                (area.top + area.height / 2.0) / height
            };
            first += usize::from(middle < 0.5);
            all += 1;
        }
        edges[usize::from(2 * first < all)].to_owned()
    }
}

#[test]
fn every_answer_is_what_the_picture_shows() {
    let world = world(640);
    for (kind, split) in
        DetailKind::ALL.into_iter().flat_map(|k| [Split::Train, Split::Test].map(|split| (k, split)))
    {
        for i in 0..40 {
            let shown = world.detail(split, kind, i);
            let picture = world.detail_picture(&shown);
            let reader = Reader::new(&world, &shown, &picture);
            for question in &shown.questions {
                assert_eq!(reader.answer(question), question.answers[0], "{kind:?} {i}: {}", question.text);
            }
        }
    }
}
