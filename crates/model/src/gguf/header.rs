//! The parts of a header, each checked against what is left of the file before memory is asked for.

use std::fs::File;
use std::io::{BufReader, Read as _};

use anyhow::{Context as _, Result, bail, ensure};

use super::metadata::{BOOL, LIST, MetadataValue, NumberType, PackedNumbers, TEXT};

/// The longest header that is read: a vocabulary of 256,000 tokens takes a fifth of it.
const MOST_HEADER: u64 = 64 << 20;
/// The longest name.
const MOST_NAME: u64 = 65_535;

/// A header that is being read.
pub(super) struct HeaderReader {
    reader: BufReader<File>,
    /// Bytes before the next one.
    at: u64,
    /// Bytes of the file.
    len: u64,
}

impl HeaderReader {
    pub(super) fn new(file: File, len: u64) -> Self {
        Self { reader: BufReader::new(file), at: 0, len }
    }

    /// Bytes that were read.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// The next `count` bytes.
    pub(super) fn bytes(&mut self, count: u64) -> Result<Vec<u8>> {
        self.check(count)?;
        let mut bytes = vec![0; count as usize];
        self.reader.read_exact(&mut bytes).context("it can't be read to its end")?;
        self.at += count;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.check(N as u64)?;
        let mut bytes = [0; N];
        self.reader.read_exact(&mut bytes).context("it can't be read to its end")?;
        self.at += N as u64;
        Ok(bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(super) fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// A number of things that take at least so many bytes each.
    pub(super) fn count(&mut self, what: &str, least_bytes: u64) -> Result<u64> {
        let count = self.u64()?;
        ensure!(
            count <= (self.len - self.at) / least_bytes,
            "it says that there are {count} {what}, more than it has"
        );
        Ok(count)
    }

    /// A text of at most `most` bytes.
    fn text(&mut self, most: u64) -> Result<String> {
        let len = self.u64()?;
        ensure!(len <= most, "a text of {len} bytes; the limit is {most}");
        String::from_utf8(self.bytes(len)?).ok().context("a text that is not UTF-8")
    }

    /// The name of a value or of a tensor.
    pub(super) fn name(&mut self) -> Result<String> {
        self.text(MOST_NAME)
    }

    /// A value, behind its name.
    pub(super) fn value(&mut self) -> Result<MetadataValue> {
        Ok(match self.u32()? {
            BOOL => MetadataValue::Bool(self.bool()?),
            TEXT => MetadataValue::Text(self.text(MOST_HEADER)?),
            LIST => self.list()?,
            number => MetadataValue::Number(self.numbers(number, 1)?),
        })
    }

    fn list(&mut self) -> Result<MetadataValue> {
        let kind = self.u32()?;
        let least = match kind {
            TEXT => 8,
            _ => 1,
        };
        let count = self.count("values", least)?;
        Ok(match kind {
            BOOL => MetadataValue::Bools((0..count).map(|_| self.bool()).collect::<Result<_>>()?),
            TEXT => {
                let mut texts = Vec::new();
                for _ in 0..count {
                    texts.push(self.text(MOST_HEADER)?);
                }
                MetadataValue::Texts(texts)
            }
            LIST => bail!("a list of lists"),
            number => MetadataValue::Numbers(self.numbers(number, count)?),
        })
    }

    fn numbers(&mut self, number: u32, count: u64) -> Result<PackedNumbers> {
        let Some(number_type) = NumberType::of_number(number) else {
            bail!("a value of type {number}, which is not known")
        };
        let bytes = count.checked_mul(number_type.size() as u64).context("a list that is too long")?;
        Ok(PackedNumbers { number_type, bytes: self.bytes(bytes)? })
    }

    fn bool(&mut self) -> Result<bool> {
        match self.array()? {
            [0] => Ok(false),
            [1] => Ok(true),
            [other] => bail!("{other} in place of true or false"),
        }
    }

    /// Refuses to go on by more bytes than there are.
    fn check(&self, count: u64) -> Result<()> {
        let left = self.len - self.at;
        ensure!(count <= left, "it is cut short: {count} more bytes are needed, and {left} are there");
        ensure!(
            count <= MOST_HEADER - self.at.min(MOST_HEADER),
            "its header is longer than {MOST_HEADER} bytes"
        );
        Ok(())
    }
}
