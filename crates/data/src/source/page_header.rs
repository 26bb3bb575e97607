//! What the headers of a Parquet file claim, looked at before the library takes memory for it. They are
//! structs of Thrift's compact protocol; only what is checked is read.

use anyhow::{Context as _, Result, ensure};

/// Groups inside each other in a schema, and structs inside each other in a header.
const MAX_DEPTH: usize = 64;
/// Encodings whose pages say inside how much memory they take: DELTA_LENGTH_BYTE_ARRAY and DELTA_BYTE_ARRAY.
const UNBOUNDED: [i64; 2] = [6, 7];

/// The types of the protocol that are looked for.
const LIST: u8 = 9;
const STRUCT: u8 = 12;

/// The header of a page.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct PageHeader {
    /// Its own bytes.
    pub(super) len: u64,
    /// Bytes of the page when unpacked.
    pub(super) unpacked: u64,
    /// Values in the page, missing ones too.
    pub(super) values: u64,
    /// Bytes of the page that come first and are not packed.
    pub(super) plain: u64,
    /// Whether it holds the values that other pages refer to.
    pub(super) dictionary: bool,
}

impl PageHeader {
    /// The header at the beginning of `bytes`.
    ///
    /// # Errors
    /// A damaged header, one that goes on after `bytes`, an encoding that is not read.
    pub(super) fn read(bytes: &[u8]) -> Result<Self> {
        let mut compact = Compact { rest: bytes };
        let (mut page, mut encoding) = (Self::default(), 0);
        compact
            .fields(0, &mut |compact, id, kind| {
                match (id, kind) {
                    (1, 5) => page.dictionary = compact.number()? == 2,
                    (2, 5) => page.unpacked = compact.count()?,
                    (5 | 7 | 8, STRUCT) => {
                        let encodings = if id == 8 { 4 } else { 2 };
                        compact.fields(1, &mut |compact, field, kind| {
                            match (field, kind) {
                                (1, 5) => page.values = compact.count()?,
                                (field, 5) if field == encodings => encoding = compact.number()?,
                                (5 | 6, 5) if id == 8 => page.plain += compact.count()?,
                                _ => return Some(false),
                            }
                            Some(true)
                        })?;
                    }
                    _ => return Some(false),
                }
                Some(true)
            })
            .with_context(|| {
                format!("a page header that is damaged, or of more than {} bytes", bytes.len())
            })?;
        ensure!(
            !UNBOUNDED.contains(&encoding),
            "a page in the encoding DELTA_BYTE_ARRAY or DELTA_LENGTH_BYTE_ARRAY, which is not read: \
             write it as PLAIN"
        );
        page.len = (bytes.len() - compact.rest.len()) as u64;
        Ok(page)
    }
}

/// Checks the schema in a footer.
///
/// # Errors
/// A footer that is damaged, a schema that claims more columns than it has, or is too deep.
pub(super) fn check_footer(bytes: &[u8]) -> Result<()> {
    let mut schema = None;
    let mut compact = Compact { rest: bytes };
    let read = compact.fields(0, &mut |compact, id, kind| {
        if (id, kind) != (2, LIST) {
            return Some(false);
        }
        let (kind, len) = compact.list()?;
        let children = (0..len).map(|_| if kind == STRUCT { compact.children() } else { None });
        schema = Some(children.collect::<Option<Vec<u64>>>()?);
        Some(true)
    });
    let schema = read.and(schema).context("a damaged footer")?;
    let claimed = schema.iter().fold(0_u64, |sum, &children| sum.saturating_add(children));
    ensure!(claimed <= schema.len() as u64, "{claimed} columns are claimed, {} are there", schema.len());
    let mut open: Vec<u64> = Vec::new();
    for children in schema {
        if let Some(left) = open.last_mut() {
            *left -= 1;
        }
        open.push(children);
        while open.last() == Some(&0) {
            open.pop();
        }
        ensure!(open.len() <= MAX_DEPTH, "columns are more than {MAX_DEPTH} deep in each other");
    }
    Ok(())
}

/// A reader of the protocol; `None` where the bytes end or are damaged.
struct Compact<'a> {
    /// What was not read yet.
    rest: &'a [u8],
}

impl Compact<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    fn leave(&mut self, bytes: u64) -> Option<()> {
        self.rest = self.rest.get(usize::try_from(bytes).ok()?..)?;
        Some(())
    }

    fn varint(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    fn number(&mut self) -> Option<i64> {
        let zigzag = self.varint()?;
        Some((zigzag >> 1).cast_signed() ^ -((zigzag & 1).cast_signed()))
    }

    /// A number that is not negative.
    fn count(&mut self) -> Option<u64> {
        u64::try_from(self.number()?).ok()
    }

    /// The type of a list's elements and their number.
    fn list(&mut self) -> Option<(u8, u64)> {
        let first = self.byte()?;
        let len = if first >> 4 == 15 { self.varint()? } else { u64::from(first >> 4) };
        // Each takes a byte at least.
        (len <= self.rest.len() as u64).then_some((first & 15, len))
    }

    /// Calls `each` with the id and type of each field of a struct; it reads the field, or says that it did
    /// not.
    fn fields(
        &mut self,
        depth: usize,
        each: &mut dyn FnMut(&mut Self, i64, u8) -> Option<bool>,
    ) -> Option<()> {
        let mut id = 0_i64;
        loop {
            let first = self.byte()?;
            if first == 0 {
                return Some(());
            }
            id = if first >> 4 == 0 { self.number()? } else { id.checked_add(i64::from(first >> 4))? };
            if !each(self, id, first & 15)? {
                self.skip(first & 15, depth, true)?;
            }
        }
    }

    fn skip(&mut self, kind: u8, depth: usize, field: bool) -> Option<()> {
        if depth > MAX_DEPTH {
            return None;
        }
        match kind {
            // The type of a field says which of the two it is.
            1 | 2 if field => Some(()),
            1..=3 => self.leave(1),
            4..=6 => self.varint().map(drop),
            7 => self.leave(8),
            8 => self.varint().and_then(|len| self.leave(len)),
            LIST | 10 => {
                let (kind, len) = self.list()?;
                (0..len).try_for_each(|_| self.skip(kind, depth + 1, false))
            }
            11 => {
                let len = self.varint()?;
                let kinds = if len == 0 { 0 } else { self.byte()? };
                (0..len).try_for_each(|_| {
                    self.skip(kinds >> 4, depth + 1, false)?;
                    self.skip(kinds & 15, depth + 1, false)
                })
            }
            STRUCT => self.fields(depth + 1, &mut |_, _, _| Some(false)),
            13 => self.leave(16),
            _ => None,
        }
    }

    /// The number of children of an element of a schema.
    fn children(&mut self) -> Option<u64> {
        let mut children = 0;
        self.fields(0, &mut |compact, id, kind| {
            if (id, kind) == (5, 5) {
                children = compact.count()?;
                return Some(true);
            }
            Some(false)
        })?;
        Some(children)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A data page of 1,000 values and 70,000 bytes with a field that is skipped; then a list of lists of 100
    /// structs.
    const DATA: [u8; 20] =
        [0x15, 0, 0x15, 0xE0, 0xC5, 0x08, 0x15, 10, 0x2C, 0x15, 0xD0, 0x0F, 0x15, 0, 0x18, 2, 9, 9, 0, 0];

    #[test]
    fn a_page_header_is_read_or_refused() {
        let page = PageHeader::read(&DATA).unwrap();
        let expected = PageHeader { len: 20, unpacked: 70_000, values: 1_000, ..PageHeader::default() };
        assert_eq!(page, expected);
        for len in 0..DATA.len() {
            assert!(PageHeader::read(&DATA[..len]).is_err(), "{len} bytes");
        }
        let mut delta = DATA;
        delta[13] = 14;
        assert!(PageHeader::read(&delta).unwrap_err().to_string().contains("DELTA_BYTE_ARRAY"));
        // A text that claims 2^40 bytes, structs without end.
        assert!(PageHeader::read(&[0x18, 0x80, 0x80, 0x80, 0x80, 0x80, 0x20]).is_err());
        assert!(PageHeader::read(&[0x1C; 100_000]).is_err());
    }

    #[test]
    fn a_schema_that_lies_is_refused() {
        // Elements: a field of the number of children (5), end.
        let footer = |children: &[u8]| {
            let elements = children.iter().flat_map(|&n| [0x55, 2 * n, 0]);
            [vec![0x29, 0xFC, children.len() as u8], elements.collect(), vec![0]].concat()
        };
        check_footer(&footer(&[2, 0, 1, 0])).unwrap();
        let error = |children: &[u8]| check_footer(&footer(children)).unwrap_err().to_string();
        assert!(error(&[60, 0, 0]).contains("60 columns are claimed, 3 are there"));
        assert!(error(&[1; 100]).contains("more than 64 deep"));
        assert!(check_footer(&[0]).is_err());
    }
}
