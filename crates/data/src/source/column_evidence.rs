//! What the columns of a Parquet file show: by their names, their types and a spread of their values.

use anyhow::{Result, bail};
use parquet::record::Field;
use serde_json::Value;

use super::caption_list::{CAPTIONS, PATHS};
use super::caption_text::{are_prose, is_picture_name, not_captions};
use super::evidence::{Evidence, SourceFields, is_path, with_album};
use super::messages::{self, are_turns};
use super::parquet::picture;
use super::table::{self, ColumnKind};
use crate::store::Blob;

/// Rows of texts that are looked at.
const LOOKED_AT: usize = 64;
/// Rows of pictures that are looked at, which take more memory.
const PICTURES: usize = 16;
/// Names of columns of one picture, and of several.
const IMAGE: [&str; 6] = ["image", "img", "picture", "jpg", "png", "image_bytes"];
const IMAGES: [&str; 4] = ["images", "image", "pictures", "imgs"];
/// Names of columns of text without pictures.
const TEXT: [&str; 2] = ["text", "content"];
/// Names of columns of lists of texts.
const TEXTS: [&str; 4] = ["texts", "captions", "sentences", "text"];

/// A column of a file.
struct Column {
    name: String,
    kind: ColumnKind,
    /// Of the rows that were looked at; of pictures none.
    cells: Vec<Field>,
}

struct Columns<'a> {
    file: &'a Blob,
    given: &'a SourceFields,
    all: Vec<Column>,
}

/// Of the columns of a Parquet file.
///
/// # Errors
/// A file that is no Parquet; columns of which none or several would do.
pub(crate) fn columns(file: &Blob, given: &SourceFields) -> Result<Evidence> {
    let columns = Columns::open(file, given)?;
    let found = columns.conversations()?;
    let found = found.map_or_else(|| columns.interleaved(), |found| Ok(Some(found)))?;
    let found = found.map_or_else(|| columns.captioned(), |found| Ok(Some(found)))?;
    let found = found.map_or_else(|| columns.listed(), |found| Ok(Some(found)))?;
    found.map_or_else(|| columns.text(), Ok)
}

impl<'a> Columns<'a> {
    fn open(file: &'a Blob, given: &'a SourceFields) -> Result<Self> {
        let all = table::columns(file)?;
        let mut all: Vec<Column> =
            all.into_iter().map(|(name, kind)| Column { name, kind, cells: Vec::new() }).collect();
        for (kinds, rows) in [
            (&[ColumnKind::Text, ColumnKind::Texts][..], LOOKED_AT),
            (&[ColumnKind::Bytes, ColumnKind::Pictures], PICTURES),
        ] {
            let wanted: Vec<usize> = (0..all.len()).filter(|&i| kinds.contains(&all[i].kind)).collect();
            let names: Vec<String> = wanted.iter().map(|&i| all[i].name.clone()).collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let rows = if names.is_empty() { Vec::new() } else { table::sample(file, &names, rows) };
            for row in rows {
                wanted.iter().zip(row).for_each(|(&column, cell)| all[column].cells.push(cell));
            }
        }
        Ok(Self { file, given, all })
    }

    fn of(&self, is: impl Fn(&Column) -> bool) -> Vec<&Column> {
        self.all.iter().filter(|column| is(column)).collect()
    }

    /// Columns of one picture a row, and of several.
    fn pictures(&self, several: bool) -> Vec<&Column> {
        self.of(|column| match column.kind {
            ColumnKind::Pictures => several,
            ColumnKind::Picture => !several,
            ColumnKind::Bytes => !several && column.has_pictures(),
            _ => false,
        })
    }

    /// Turns: a list of structs, or JSON of one in a text.
    fn conversations(&self) -> Result<Option<Evidence>> {
        let turns = self.of(Column::has_turns);
        if turns.is_empty() || self.given.contains_key("text") {
            return Ok(None);
        }
        let column = self.pick("turns", &turns, &messages::TURNS)?;
        let found = Evidence::of("parquet-conversations").with("turns", column);
        let named = self.of(|column| column.names_pictures() && IMAGES.contains(&column.lower().as_str()));
        let pictures = [self.pictures(true), self.pictures(false), named].concat();
        if pictures.is_empty() && !self.given.contains_key("images") {
            return Ok(Some(found));
        }
        let images = self.pick("images", &pictures, &IMAGES)?;
        let names = self.paths(&images);
        with_album(found.with("images", images), &self.file.address, &names, self.given).map(Some)
    }

    /// Lists of texts and of pictures, place by place.
    fn interleaved(&self) -> Result<Option<Evidence>> {
        let lists = self.of(|column| column.kind == ColumnKind::Texts);
        let mut pictures = self.pictures(true);
        if pictures.is_empty() {
            // Pictures that are named by a path are texts too.
            pictures = self.of(|column| column.kind == ColumnKind::Texts && column.lower() == "images");
        }
        if lists.is_empty() || pictures.is_empty() {
            return Ok(None);
        }
        let images = self.pick("images", &pictures, &IMAGES)?;
        let others: Vec<&Column> = lists.into_iter().filter(|column| column.name != images).collect();
        if others.is_empty() || self.captions_of_one(&images, &others) {
            return Ok(None);
        }
        let texts = self.pick("texts", &others, &TEXTS)?;
        let found = Evidence::of("obelics").with("images", images.clone()).with("texts", texts);
        with_album(found, &self.file.address, &self.paths(&images), self.given).map(Some)
    }

    /// Whether each row has one picture, beside lists of another length: then the texts are its captions.
    fn captions_of_one(&self, images: &str, texts: &[&Column]) -> bool {
        let lengths = |column: &Column| column.cells.iter().map(length).collect::<Vec<_>>();
        let pictures = self.all.iter().find(|column| column.name == images).map(lengths).unwrap_or_default();
        let one = !pictures.is_empty() && pictures.iter().all(|&length| length == 1);
        one && texts.iter().all(|column| lengths(column).iter().any(|&length| length > 1))
    }

    /// One picture or several, and their caption or a list of captions.
    fn captioned(&self) -> Result<Option<Evidence>> {
        let (single, several) = (self.pictures(false), self.pictures(true));
        let (pictures, known) = if single.is_empty() { (several, &IMAGES[..]) } else { (single, &IMAGE[..]) };
        if pictures.is_empty() {
            return Ok(None);
        }
        let image = self.pick("image", &pictures, known)?;
        let text = self.caption("text")?;
        Ok(Some(Evidence::of("parquet-captioned").with("image", image).with("text", text)))
    }

    /// Paths of pictures with captions: the file is a list of its folder.
    fn listed(&self) -> Result<Option<Evidence>> {
        let is_list = |column: &Column| column.names_pictures() && PATHS.contains(&column.lower().as_str());
        if self.of(is_list).is_empty() || self.given.contains_key("text") {
            return Ok(None);
        }
        self.caption("text")?;
        Ok(Some(Evidence::of("folder")))
    }

    fn text(&self) -> Result<Evidence> {
        let text = self.texts("text", &TEXT, false)?;
        Ok(Evidence::of("parquet-text").with("text", text))
    }

    fn caption(&self, field: &str) -> Result<String> {
        self.texts(field, &CAPTIONS, true)
    }

    /// The column whose name or else whose values say that it has texts of the wanted kind.
    fn texts(&self, field: &str, known: &[&str], lists: bool) -> Result<String> {
        if let Some(name) = self.given.get(field).and_then(Value::as_str) {
            return Ok(name.to_owned());
        }
        let kinds = if lists { &[ColumnKind::Text, ColumnKind::Texts][..] } else { &[ColumnKind::Text] };
        let texts = self.of(|column| kinds.contains(&column.kind));
        // Values that can't be read say nothing against a name: each is then counted as damaged.
        let may_be = |column: &&Column| {
            let texts = column.texts();
            texts.is_empty() || not_captions(&texts).is_none()
        };
        let by_name: Vec<&Column> =
            texts.iter().copied().filter(|c| known.contains(&c.lower().as_str())).filter(may_be).collect();
        let by_value = || texts.iter().copied().filter(|column| are_prose(&column.texts())).collect();
        let found: Vec<&Column> = if by_name.is_empty() { by_value() } else { by_name };
        match found[..] {
            [only] => Ok(only.name.clone()),
            [] => bail!(
                "no column fits `{field}`: add --set {field}=COLUMN, or say --kind (parquet-captioned, \
                 parquet-conversations, parquet-text, obelics). The columns: {}",
                self.all.iter().map(Column::told).collect::<Vec<_>>().join(", ")
            ),
            _ => bail!("{}", several(field, &found)),
        }
    }

    /// The column for a field: the one that was said, the only one with a known name, or the only one.
    fn pick(&self, field: &str, fitting: &[&Column], known: &[&str]) -> Result<String> {
        if let Some(name) = self.given.get(field).and_then(Value::as_str) {
            return Ok(name.to_owned());
        }
        let named: Vec<&Column> =
            fitting.iter().copied().filter(|c| known.contains(&c.lower().as_str())).collect();
        match (&named[..], fitting) {
            ([only], _) | ([], [only]) => Ok(only.name.clone()),
            ([], _) => bail!("{}", several(field, fitting)),
            (named, _) => bail!("{}", several(field, named)),
        }
    }

    /// The paths of pictures in a column, of those without bytes.
    fn paths(&self, column: &str) -> Vec<String> {
        let cells = self.all.iter().filter(|found| found.name == column).flat_map(|found| &found.cells);
        let mut names = Vec::new();
        let mut add = |cell: &Field| {
            if let Ok(cell) = picture(cell) {
                names.extend(cell.path.filter(|path| cell.bytes.is_none() && is_path(path)));
            }
        };
        for cell in cells {
            match cell {
                Field::ListInternal(list) => list.elements().iter().for_each(&mut add),
                one => add(one),
            }
        }
        names
    }
}

fn several(field: &str, columns: &[&Column]) -> String {
    let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
    format!("{} columns fit `{field}` ({}): add --set {field}=COLUMN", names.len(), names.join(", "))
}

fn length(cell: &Field) -> usize {
    match cell {
        Field::ListInternal(list) => list.elements().len(),
        _ => 0,
    }
}

impl Column {
    fn lower(&self) -> String {
        self.name.to_lowercase()
    }

    /// The texts of the cells that were looked at, of lists each text.
    fn texts(&self) -> Vec<&str> {
        let mut texts = Vec::new();
        for cell in &self.cells {
            match cell {
                Field::Str(text) => texts.push(text.as_str()),
                Field::ListInternal(list) => {
                    texts.extend(list.elements().iter().filter_map(|text| match text {
                        Field::Str(text) => Some(text.as_str()),
                        _ => None,
                    }))
                }
                _ => {}
            }
        }
        texts
    }

    fn has_turns(&self) -> bool {
        let texts = self.texts();
        let turns = texts.iter().filter(|text| are_turns(&Value::String((**text).to_owned()))).count();
        self.kind == ColumnKind::Turns || (self.kind == ColumnKind::Text && 2 * turns > texts.len())
    }

    /// Whether a column of bytes has pictures: by its values, or by its name where it has none.
    fn has_pictures(&self) -> bool {
        let bytes = self.cells.iter().filter_map(|cell| match cell {
            Field::Bytes(bytes) => Some(bytes.data()),
            _ => None,
        });
        let bytes: Vec<&[u8]> = bytes.collect();
        if bytes.is_empty() {
            return IMAGE.contains(&self.lower().as_str());
        }
        2 * bytes.iter().filter(|bytes| image::guess_format(bytes).is_ok()).count() > bytes.len()
    }

    fn names_pictures(&self) -> bool {
        let texts = self.texts();
        let names = texts.iter().filter(|text| is_picture_name(text)).count();
        matches!(self.kind, ColumnKind::Text | ColumnKind::Texts) && 2 * names > texts.len()
    }

    /// The column with what it holds, for messages.
    fn told(&self) -> String {
        let is = match self.kind {
            ColumnKind::Text | ColumnKind::Texts => not_captions(&self.texts()).unwrap_or("texts"),
            ColumnKind::Bytes => "bytes",
            ColumnKind::Picture | ColumnKind::Pictures => "pictures",
            ColumnKind::Turns => "turns",
            ColumnKind::Other => "other values",
        };
        format!("{} ({is})", self.name)
    }
}
