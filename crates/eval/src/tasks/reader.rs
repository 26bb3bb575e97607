//! [`BenchmarkFolder`]: a set's files as its authors publish them. Every error names the file, and what the
//! folder has to hold.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use csv::ByteRecord;
use mm1_data::source::cells::Cells;
use mm1_data::{regular_file, text_file};
use serde::de::DeserializeOwned;

use super::picture::PictureLocation;

/// The folder of a set.
pub(super) struct BenchmarkFolder<'a> {
    root: &'a Path,
    /// What it has to hold.
    layout: &'static str,
}

impl<'a> BenchmarkFolder<'a> {
    pub(super) fn new(root: &'a Path, layout: &'static str) -> Self {
        Self { root, layout }
    }

    /// A file or folder below it.
    ///
    /// # Errors
    /// It is not there.
    pub(super) fn path(&self, name: &str) -> Result<PathBuf> {
        let (path, root) = (self.root.join(name), self.root.display());
        ensure!(path.exists(), "{} is missing; {root} has to hold: {}", path.display(), self.layout);
        Ok(path)
    }

    /// A JSON file.
    pub(super) fn json<T: DeserializeOwned>(&self, name: &str) -> Result<T> {
        let path = self.path(name)?;
        let text = text_file::read(&path).with_context(|| path.display().to_string())?;
        serde_json::from_str(&text).with_context(|| path.display().to_string())
    }

    /// A file with a JSON object on each line.
    pub(super) fn lines<T: DeserializeOwned>(&self, name: &str) -> Result<Vec<T>> {
        let path = self.path(name)?;
        let text = text_file::read(&path).with_context(|| path.display().to_string())?;
        let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        let read = |(i, line)| {
            serde_json::from_str(line).with_context(|| format!("{}, line {}", path.display(), i + 1))
        };
        lines.map(read).collect()
    }

    /// The rows of a file of tab-separated values with a header. `each` is told where a row's cell in
    /// `column` is.
    pub(super) fn tsv<T: DeserializeOwned>(
        &self,
        name: &str,
        column: &str,
        mut each: impl FnMut(T, PictureLocation) -> Result<()>,
    ) -> Result<()> {
        let path = self.path(name)?;
        let mut read = || -> Result<()> {
            // The reader takes a byte order mark off by itself, and counts its bytes in the rows' places.
            let mut reader =
                csv::ReaderBuilder::new().delimiter(b'\t').from_reader(regular_file::open(&path)?);
            let headers = reader.byte_headers()?.clone();
            let at = headers.iter().position(|header| header == column.as_bytes());
            let at = at.with_context(|| format!("no column {column:?}"))?;
            let mut row = ByteRecord::new();
            while reader.read_byte_record(&mut row)? {
                let begin = row.position().map_or(0, csv::Position::byte);
                let location = PictureLocation::Tsv { file: path.clone(), row_start: begin, column: at };
                each(row.deserialize(Some(&headers))?, location)?;
            }
            Ok(())
        };
        read().with_context(|| path.display().to_string())
    }

    /// Parquet files in a folder below it, whose names begin with `start`, by name.
    pub(super) fn parquet(&self, folder: &str, start: &str) -> Result<Vec<PathBuf>> {
        let mut files = entries(&self.path(folder)?)?;
        files.retain(|path| name(path).starts_with(start) && name(path).ends_with(".parquet"));
        let root = self.root.display();
        ensure!(
            !files.is_empty(),
            "{root}/{folder}/{start}*.parquet: no such file; {root} has to hold: {}",
            self.layout
        );
        Ok(files)
    }

    /// The folders below it, by name.
    pub(super) fn folders(&self) -> Result<Vec<String>> {
        let mut folders = entries(&self.path("")?)?;
        folders.retain(|path| path.is_dir());
        ensure!(
            !folders.is_empty(),
            "{} has no folder; it has to hold: {}",
            self.root.display(),
            self.layout
        );
        Ok(folders.iter().map(|path| name(path)).collect())
    }
}

/// What a folder holds, by name; hidden files are left out.
pub(super) fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let all = fs::read_dir(folder).and_then(|all| all.map(|entry| Ok(entry?.path())).collect());
    let mut all: Vec<PathBuf> = all.with_context(|| folder.display().to_string())?;
    all.retain(|path| !name(path).starts_with('.'));
    all.sort();
    Ok(all)
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// All rows of opened Parquet files.
pub(super) fn rows<T: DeserializeOwned>(cells: &Cells) -> Result<Vec<T>> {
    let read = |row| serde_json::from_value(cells.json(row)?).with_context(|| cells.place(row));
    (0..cells.rows()).map(read).collect()
}

/// A list of texts as Python prints it: `['a', "b's"]`.
pub(super) fn python_list(text: &str) -> Result<Vec<String>> {
    let inner = text.trim().strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let mut rest = inner.with_context(|| format!("{text:?} is no list"))?.trim_start();
    let mut items = Vec::new();
    while let Some(quote @ ('\'' | '"')) = rest.chars().next() {
        let literal = literal(&rest[1..], quote);
        let (item, after) = literal.with_context(|| format!("{text:?}: a text does not end"))?;
        items.push(item);
        rest = after.trim_start().trim_start_matches(',').trim_start();
    }
    if !rest.is_empty() {
        bail!("{text:?}: {rest:?} is no quoted text");
    }
    Ok(items)
}

/// The text up to `quote`, and what follows.
fn literal(text: &str, quote: char) -> Option<(String, &str)> {
    let (mut item, mut rest) = (String::new(), text.chars());
    loop {
        match rest.next()? {
            c if c == quote => return Some((item, rest.as_str())),
            '\\' => match rest.next()? {
                'n' => item.push('\n'),
                't' => item.push('\t'),
                escaped @ ('\\' | '\'' | '"') => item.push(escaped),
                escaped @ ('x' | 'u') => {
                    let digits = if escaped == 'x' { 2 } else { 4 };
                    let code = rest.as_str().get(..digits).filter(|code| !code.starts_with('+'))?;
                    item.push(char::from_u32(u32::from_str_radix(code, 16).ok()?)?);
                    rest = rest.as_str()[digits..].chars();
                }
                // Any other stays as it is.
                other => item.extend(['\\', other]),
            },
            c => item.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_as_python_prints_them() {
        let read = |text| python_list(text).map_err(|e| e.to_string());
        assert_eq!(
            read(r#"['$6', "it's", '\\frac\n', '\xe9\u03c0', '\pi', 'a, b']"#).unwrap(),
            ["$6", "it's", "\\frac\n", "éπ", "\\pi", "a, b"]
        );
        assert_eq!(read("[]").unwrap(), [""; 0]);
        assert!(read("['a").unwrap_err().contains("is no list"));
        for broken in ["['a]", r"['\x+1']"] {
            assert!(read(broken).unwrap_err().contains("does not end"), "{broken}");
        }
        assert!(read("[3]").unwrap_err().contains("no quoted text"));
    }
}
