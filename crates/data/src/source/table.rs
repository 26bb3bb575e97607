//! [`ParquetColumns`]: some columns of Parquet files, read a row group at a time; a few groups are held.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result, anyhow, ensure};
use parquet::basic::{ConvertedType, LogicalType, Type as PhysicalType};
use parquet::errors::ParquetError;
use parquet::file::reader::FileReader as _;
use parquet::file::serialized_reader::SerializedFileReader;
use parquet::record::{Field, Row};
use parquet::schema::types::Type;
use xxhash_rust::xxh3::xxh3_64;

use super::chunks::Chunks;
use super::evidence::spread;
use super::files::FileLayout;
use super::messages::are_turn_fields;
use crate::index::{IndexEntry, MAX_DOCUMENT};
use crate::isolated::isolated;
use crate::store::Blob;

/// Memory for open row groups where nothing else is said, in MiB: a row group of Hugging Face's writers takes
/// 100 to 300.
pub(super) const DEFAULT_MEMORY_MIB: u64 = 512;

/// Row groups, and rows at the beginning of each, among which [`sample`] takes its rows.
const GROUPS: usize = 8;
const FIRST_ROWS: usize = 512;

/// Columns of Parquet files, with the row groups that were read last.
pub(crate) struct ParquetColumns {
    columns: Vec<String>,
    /// Bytes that the groups held may take; a group of more is refused.
    memory: u64,
    /// The one used last at the end.
    held: Mutex<VecDeque<Arc<RowGroup>>>,
}

/// A row group, read by the first thread that needs it; others wait for it.
struct RowGroup {
    file: String,
    number: u64,
    /// `None` until the first thread that needs them has read them.
    rows: Mutex<Option<Arc<GroupRows>>>,
}

struct GroupRows {
    rows: Vec<Row>,
    /// What `rows` take in memory, roughly; at most the table's limit.
    bytes: u64,
}

impl ParquetColumns {
    pub(crate) fn new(columns: &[&str], memory_mib: u64) -> Result<Self> {
        ensure!((1..=1 << 20).contains(&memory_mib), "memory_mib = {memory_mib}: give 1 to {}", 1 << 20);
        let columns = columns.iter().map(|&name| name.to_owned()).collect();
        Ok(Self { columns, memory: memory_mib << 20, held: Mutex::default() })
    }

    /// What the index depends on.
    pub(crate) fn layout(&self) -> FileLayout {
        FileLayout::Groups("parquet".to_owned())
    }

    /// Calls `add` for each row.
    ///
    /// # Errors
    /// A file that is no Parquet, or lacks a column.
    pub(crate) fn scan(&self, file: &Blob, add: &mut dyn FnMut(IndexEntry)) -> Result<()> {
        let reader = open(file, self.memory)?;
        projection(&reader, &self.columns)?;
        let mut rows = 0_u64;
        for (number, group) in reader.metadata().row_groups().iter().enumerate() {
            let len = u64::try_from(group.num_rows()).context("a negative number of rows")?;
            // Added up without overflow: the counts come from the file.
            rows = rows.saturating_add(len);
            // A row takes a byte somewhere: more rows are a header's lie.
            ensure!(rows <= file.size, "{rows} rows in {} bytes", file.size);
            for row in 0..len {
                let key = xxh3_64(format!("{}/{number}/{row}", file.name).as_bytes());
                add(IndexEntry { key, at: row, len: 0, group: number as u64 + 1 });
            }
        }
        Ok(())
    }

    /// The columns of a row, in the order in which they were named.
    ///
    /// # Errors
    /// A damaged group, one that takes more memory than is set, a server that does not answer.
    pub(crate) fn row(&self, file: &Blob, record: &IndexEntry) -> Result<Vec<Field>> {
        let group = self.group(&file.address, record.group);
        let rows = {
            let mut rows = group.rows.lock().unwrap_or_else(PoisonError::into_inner);
            match &*rows {
                Some(rows) => Arc::clone(rows),
                None => {
                    let number = record.group.checked_sub(1).context("no row group")? as usize;
                    // The library panics on some damaged files.
                    let read = isolated(|| self.read(file, number)).flatten();
                    let read = Arc::new(read.with_context(|| format!("row group {number}"))?);
                    *rows = Some(Arc::clone(&read));
                    read
                }
            }
        };
        self.shrink();
        let row = rows.rows.get(record.at as usize).with_context(|| format!("no row {}", record.at))?;
        let field = |name: &String| {
            let field = row.get_column_iter().find(|(column, _)| *column == name);
            field.map(|(_, field)| field.clone()).with_context(|| format!("no column {name:?}"))
        };
        self.columns.iter().map(field).collect()
    }

    /// Bytes of the groups that will be held of a set of `documents` rows: those that were read tell what a
    /// row takes.
    pub(crate) fn memory(&self, documents: u64) -> u64 {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let read = held.iter().filter_map(|group| group.rows.try_lock().ok()?.clone());
        let (mut bytes, mut rows, mut largest) = (0_u64, 0_u64, 0_u64);
        for group in read {
            (bytes, rows) = (bytes + group.bytes, rows + group.rows.len() as u64);
            largest = largest.max(group.bytes);
        }
        let all = if rows == 0 { u64::MAX } else { bytes.saturating_mul(documents).div_ceil(rows) };
        // One more is there while it is read.
        if all <= self.memory { all } else { self.memory + largest }
    }

    /// The group, as the one used last.
    fn group(&self, file: &str, number: u64) -> Arc<RowGroup> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let at = held.iter().position(|group| group.number == number && group.file == file);
        let group = at
            .and_then(|at| held.remove(at))
            .unwrap_or_else(|| Arc::new(RowGroup { file: file.to_owned(), number, rows: Mutex::default() }));
        held.push_back(Arc::clone(&group));
        group
    }

    /// Lets go of the groups that were not used for the longest time.
    fn shrink(&self) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        // A group that is being read is locked, and counts when it is there.
        let size = |group: &Arc<RowGroup>| {
            group.rows.try_lock().ok().and_then(|r| Some(r.as_ref()?.bytes)).unwrap_or(0)
        };
        // The one used last stays, even alone above the limit: `read` has refused what is too
        // large.
        while held.len() > 1 && held.iter().map(size).sum::<u64>() > self.memory {
            held.pop_front();
        }
    }

    fn read(&self, file: &Blob, number: usize) -> Result<GroupRows> {
        let reader = open(file, self.memory)?;
        let info = reader.metadata().row_groups().get(number).context("it is not in the file")?;
        let wanted = info.columns().iter().filter(|column| {
            column.column_path().parts().first().is_some_and(|root| self.columns.contains(root))
        });
        // Checked before a page is unpacked; the rows are weighed again as they come, since headers may lie.
        let claimed = wanted.map(|column| column.uncompressed_size().max(0).cast_unsigned()).sum::<u64>();
        let check = |bytes: u64| {
            let limit = self.memory;
            ensure!(
                bytes <= limit,
                "its rows take {bytes} bytes, above memory_mib = {}: raise it, or write smaller row groups",
                limit >> 20
            );
            Ok(())
        };
        check(claimed)?;
        let group = reader.get_row_group(number)?;
        let (mut rows, mut bytes) = (Vec::new(), 0);
        for row in group.get_row_iter(Some(projection(&reader, &self.columns)?)).map_err(ours)? {
            let row = row.map_err(ours)?;
            let size: u64 = row.get_column_iter().map(|(_, field)| weight(field)).sum();
            ensure!(
                size <= MAX_DOCUMENT,
                "row {} takes {size} bytes; the limit is {MAX_DOCUMENT}",
                rows.len()
            );
            bytes += size;
            check(bytes)?;
            rows.push(row);
        }
        Ok(GroupRows { rows, bytes })
    }
}

/// What the cells of a column hold, as far as data sets differ in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ColumnKind {
    Text,
    Bytes,
    /// A struct of `bytes`, and maybe `path`, as `datasets` has pictures.
    Picture,
    /// A list of texts.
    Texts,
    /// A list of structs that are turns of a conversation.
    Turns,
    /// A list of bytes or of structs of `bytes` and `path`.
    Pictures,
    Other,
}

/// The columns of a file.
///
/// # Errors
/// A file that is no Parquet.
pub(crate) fn columns(file: &Blob) -> Result<Vec<(String, ColumnKind)>> {
    let reader = open(file, DEFAULT_MEMORY_MIB << 20)?;
    let root = reader.metadata().file_metadata().schema();
    Ok(root.get_fields().iter().map(|field| (field.name().to_owned(), shape(field))).collect())
}

fn shape(field: &Type) -> ColumnKind {
    let info = field.get_basic_info();
    if field.is_primitive() {
        let text = info.logical_type_ref() == Some(&LogicalType::String)
            || info.converted_type() == ConvertedType::UTF8;
        return match field.get_physical_type() {
            _ if text => ColumnKind::Text,
            PhysicalType::BYTE_ARRAY => ColumnKind::Bytes,
            _ => ColumnKind::Other,
        };
    }
    let inner = field.get_fields();
    if info.converted_type() == ConvertedType::LIST || info.logical_type_ref() == Some(&LogicalType::List) {
        // A list is a group with a repeated group with the element.
        let element = inner.first().and_then(|repeated| match &**repeated {
            Type::GroupType { fields, .. } => fields.first(),
            Type::PrimitiveType { .. } => None,
        });
        if element.is_some_and(|element| is_turn(element)) {
            return ColumnKind::Turns;
        }
        return match element.map(|element| shape(element)) {
            Some(ColumnKind::Text) => ColumnKind::Texts,
            Some(ColumnKind::Bytes | ColumnKind::Picture) => ColumnKind::Pictures,
            _ => ColumnKind::Other,
        };
    }
    let bytes = inner.iter().find(|field| field.name() == "bytes");
    let is_bytes =
        |field: &Type| field.is_primitive() && field.get_physical_type() == PhysicalType::BYTE_ARRAY;
    let known = inner.iter().all(|field| matches!(field.name(), "bytes" | "path"));
    let picture = bytes.is_some_and(|field| is_bytes(field)) && (known || inner.len() > 1);
    if picture { ColumnKind::Picture } else { ColumnKind::Other }
}

/// Whether the fields of a struct are those of a turn.
fn is_turn(element: &Type) -> bool {
    let fields = if element.is_primitive() { &[][..] } else { element.get_fields() };
    are_turn_fields(&|name| fields.iter().any(|field| field.name() == name))
}

/// At most `rows` rows of the columns, spread over at most [`GROUPS`] row groups. A group that is damaged
/// gives none: reading it tells.
pub(super) fn sample(file: &Blob, columns: &[&str], rows: usize) -> Vec<Vec<Field>> {
    let columns: Vec<String> = columns.iter().map(|&name| name.to_owned()).collect();
    let Ok(reader) = open(file, DEFAULT_MEMORY_MIB << 20) else { return Vec::new() };
    let all: Vec<usize> = (0..reader.metadata().row_groups().len()).collect();
    let groups: Vec<usize> = spread(&all, GROUPS).copied().collect();
    let each = rows.div_ceil(groups.len().max(1));
    let mut found = Vec::new();
    for number in groups {
        let read = || -> Result<Vec<Vec<Field>>> {
            let group = reader.get_row_group(number)?;
            let there = usize::try_from(group.metadata().num_rows())?.min(FIRST_ROWS);
            let step = there.div_ceil(each.max(1)).max(1);
            let projection = projection(&reader, &columns)?;
            let rows = group.get_row_iter(Some(projection))?.with_batch_size(each.max(1));
            rows.take(there).step_by(step).map(|row| Ok(cells(&row?, &columns))).collect()
        };
        // The library panics on some damaged files.
        found.extend(isolated(read).flatten().into_iter().flatten());
    }
    found
}

/// The cells of the columns, in their order.
fn cells(row: &Row, columns: &[String]) -> Vec<Field> {
    let cell = |name: &String| row.get_column_iter().find(|(column, _)| *column == name);
    columns.iter().map(|name| cell(name).map_or(Field::Null, |(_, field)| field.clone())).collect()
}

/// Bytes of the smallest file: its mark at both ends, and the length of its last part.
const FOOTER: u64 = 12;

/// Opens a file whose headers and pages may take `limit` bytes of memory.
fn open(file: &Blob, limit: u64) -> Result<SerializedFileReader<Chunks>> {
    ensure!(file.size >= FOOTER, "not a Parquet file: it has {} bytes", file.size);
    let chunks = Chunks::new(file.clone(), limit);
    let open = isolated(|| SerializedFileReader::new(chunks).map_err(ours)).flatten();
    open.context("not a Parquet file")
}

/// An error of the library in our words; where it only passes one of ours on, that one.
fn ours(error: ParquetError) -> anyhow::Error {
    if let ParquetError::External(ours) = error {
        return anyhow!("{ours}");
    }
    let message = error.to_string();
    let message = message.rsplit("Parquet error: ").next().unwrap_or_default();
    if message.contains("Utf8Error") {
        return anyhow!("a text that is not UTF-8: the page is damaged, or the column holds other bytes");
    }
    if message.contains("orrupt footer") {
        return anyhow!("its end is damaged or cut off");
    }
    anyhow!("{}", message.lines().next().unwrap_or_default().to_owned())
}

/// The schema of the columns.
fn projection(reader: &SerializedFileReader<Chunks>, columns: &[String]) -> Result<Type> {
    let root = reader.metadata().file_metadata().schema();
    let has = || root.get_fields().iter().map(|field| field.name()).collect::<Vec<_>>().join(", ");
    for name in columns {
        let found = root.get_fields().iter().any(|field| field.name() == name);
        ensure!(found, "no column {name:?}; there are: {}", has());
    }
    let wanted = root.get_fields().iter().filter(|field| columns.iter().any(|name| name == field.name()));
    Ok(Type::group_type_builder(root.name()).with_fields(wanted.cloned().collect()).build()?)
}

/// Bytes that a field takes in memory, roughly.
fn weight(field: &Field) -> u64 {
    let own = size_of::<Field>() as u64;
    own + match field {
        Field::Str(text) => text.len() as u64,
        Field::Bytes(bytes) => bytes.len() as u64,
        Field::Group(row) => {
            row.get_column_iter().map(|(name, field)| name.len() as u64 + weight(field)).sum()
        }
        Field::ListInternal(list) => list.elements().iter().map(weight).sum(),
        Field::MapInternal(map) => map.entries().iter().map(|(key, value)| weight(key) + weight(value)).sum(),
        _ => 0,
    }
}
