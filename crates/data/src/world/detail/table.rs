//! A table of numbers with names for its rows and columns, of 9 to 40 words.

use rand::Rng as _;

use super::drawing::{Area, Drawing, ink_on};
use super::format::Proportions;
use super::letters::LetterHeight;
use super::{DetailCategory, DetailKind, DetailPicture, DetailQuestion};
use crate::world::author::Author;
use crate::world::lexicon::COLOURS;

/// The narrowest column and the lowest row, in heights of a capital.
const COLUMN: f64 = 6.2;
const ROW: f64 = 2.0;

struct Table {
    rows: Vec<String>,
    columns: Vec<String>,
    /// By row, then column.
    cells: Vec<Vec<u32>>,
}

pub(super) fn compose(author: &mut Author) -> DetailPicture {
    let most = |(w, h): (f64, f64), letters: f64| {
        ((w / (COLUMN * letters)).floor() - 1.0, (h / (ROW * letters)).floor() - 1.0)
    };
    let fits = |sides, letters| {
        let (columns, rows) = most(sides, letters);
        columns >= 2.0 && rows >= 2.0
    };
    let Proportions { sides, scale, letters: height } = author.format(fits);
    let letters = height.share;
    let (columns, rows) = most(sides, letters);
    let columns = author.rng.random_range(2..=(columns as usize).min(4));
    let rows = author.rng.random_range(2..=(rows as usize).min(7));
    let mut names = author.detail_words(rows + columns);
    let rows = names.split_off(columns);
    let cells = rows.iter().map(|_| (0..columns).map(|_| author.rng.random_range(10..=99)).collect());
    let table = Table { cells: cells.collect(), columns: names, rows };
    let ground = author.rng.random_range(0..COLOURS.len());
    let mut drawing = Drawing::new(sides, scale, author.shade(ground));
    draw(author, &mut drawing, letters, &table);
    let questions = questions(author, &table, height);
    DetailPicture { kind: DetailKind::Table, drawing, caption: table.caption(), questions }
}

fn draw(author: &mut Author, drawing: &mut Drawing, letters: f64, table: &Table) {
    let (columns, rows) = (table.columns.len() as f64 + 1.0, table.rows.len() as f64 + 1.0);
    let pitch = |author: &mut Author, least: f64, most: f64, room: f64| {
        author.rng.random_range(least..=most.min(room / letters).max(least)) * letters
    };
    let wide = pitch(author, COLUMN, 10.0, drawing.width / columns);
    let tall = pitch(author, ROW, 3.5, drawing.height / rows);
    let left = author.rng.random_range(0.0..=(drawing.width - columns * wide).max(0.0));
    let top = author.rng.random_range(0.0..=(drawing.height - rows * tall).max(0.0));
    let head = author.rng.random_range(0..COLOURS.len());
    let (paper, ink) = ([252, 252, 250], [20, 20, 25]);
    drawing.rectangle(Area::new(left, top, columns * wide, rows * tall), paper);
    drawing.rectangle(Area::new(left, top, columns * wide, tall), COLOURS[head].1);
    for row in 1..=table.rows.len() {
        let line = Area::new(left, top + row as f64 * tall, columns * wide, letters / 10.0);
        drawing.rectangle(line, [150, 150, 155]);
    }
    let at = |column: usize, row: usize| {
        (left + column as f64 * wide + letters, top + row as f64 * tall + (tall - letters) / 2.0)
    };
    for (column, name) in table.columns.iter().enumerate() {
        drawing.word(name, at(column + 1, 0), letters, ink_on(head));
    }
    for (row, (name, cells)) in table.rows.iter().zip(&table.cells).enumerate() {
        drawing.word(name, at(0, row + 1), letters, ink);
        for (column, cell) in cells.iter().enumerate() {
            drawing.word(&cell.to_string(), at(column + 1, row + 1), letters, ink);
        }
    }
}

impl Table {
    fn caption(&self) -> String {
        let row = |(name, cells): (&String, &Vec<u32>)| {
            let cells = self.columns.iter().zip(cells).map(|(column, cell)| format!("{column} {cell}"));
            format!("{name} has {}", cells.collect::<Vec<_>>().join(", "))
        };
        let rows: Vec<String> = self.rows.iter().zip(&self.cells).map(row).collect();
        format!("A table: {}.", rows.join("; "))
    }
}

fn questions(author: &mut Author, table: &Table, letters: LetterHeight) -> Vec<DetailQuestion> {
    let mut out = Vec::new();
    for _ in 0..3 {
        let (row, column) =
            (author.rng.random_range(0..table.rows.len()), author.rng.random_range(0..table.columns.len()));
        let text = author.phrased(
            &["What is the {column} of {row}?", "Which number is in row {row} and column {column}?"],
            &[("{row}", &table.rows[row]), ("{column}", &table.columns[column])],
        );
        let answer = table.cells[row][column].to_string();
        out.push(DetailQuestion::reading(DetailCategory::Cell, text, answer, letters));
    }
    let at = author.rng.random_range(0..table.rows.len());
    let text = author.phrased(
        &["Which name is in row {n}?", "What is row {n} of the table?"],
        &[("{n}", &(at + 1).to_string())],
    );
    out.push(DetailQuestion::reading(DetailCategory::Item, text, table.rows[at].clone(), letters));
    let rows: Vec<usize> = (0..table.rows.len()).collect();
    let [&a, &b] = author.two(&rows);
    let column = author.rng.random_range(0..table.columns.len());
    if table.cells[a][column] != table.cells[b][column] {
        let text = author.phrased(
            &["Has {a} more {column} than {b}?", "Is the {column} of {a} more than that of {b}?"],
            &[("{a}", &table.rows[a]), ("{b}", &table.rows[b]), ("{column}", &table.columns[column])],
        );
        let more = table.cells[a][column] > table.cells[b][column];
        out.push(DetailQuestion::yes_no(text, more, Some(letters)));
    }
    out
}
