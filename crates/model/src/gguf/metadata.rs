//! What a file says of itself.

use anyhow::{Context as _, Result, bail, ensure};

/// One value of the metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetadataValue {
    /// A number.
    Number(PackedNumbers),
    /// A list of numbers.
    Numbers(PackedNumbers),
    /// Yes or no.
    Bool(bool),
    /// A list of them.
    Bools(Vec<bool>),
    /// A text.
    Text(String),
    /// A list of texts.
    Texts(Vec<String>),
}

/// Numbers of one type, little-endian, one after another.
// Rejected: a list of values. A byte of a file would take 32 of memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackedNumbers {
    /// Of what type they are.
    pub number_type: NumberType,
    /// All bytes of them.
    pub bytes: Vec<u8>,
}

/// A type of numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "they are Rust's")]
pub enum NumberType {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    U64,
    I64,
    F64,
}

/// The type numbers of what is no number.
pub(super) const BOOL: u32 = 7;
pub(super) const TEXT: u32 = 8;
pub(super) const LIST: u32 = 9;

impl NumberType {
    const ALL: [Self; 10] = [
        Self::U8,
        Self::I8,
        Self::U16,
        Self::I16,
        Self::U32,
        Self::I32,
        Self::F32,
        Self::U64,
        Self::I64,
        Self::F64,
    ];

    /// The one of this number in a file.
    pub(super) fn of_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.number() == number)
    }

    /// Its number in a file.
    pub(super) fn number(self) -> u32 {
        match self {
            Self::U8 => 0,
            Self::I8 => 1,
            Self::U16 => 2,
            Self::I16 => 3,
            Self::U32 => 4,
            Self::I32 => 5,
            Self::F32 => 6,
            Self::U64 => 10,
            Self::I64 => 11,
            Self::F64 => 12,
        }
    }

    /// Bytes of one.
    pub(super) fn size(self) -> usize {
        match self {
            Self::U8 | Self::I8 => 1,
            Self::U16 | Self::I16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 => 8,
        }
    }

    fn is_float(self) -> bool {
        matches!(self, Self::F32 | Self::F64)
    }
}

impl PackedNumbers {
    /// As whole numbers; what is not one, or too large, is `None`.
    pub fn integers(&self) -> impl Iterator<Item = Option<i64>> {
        let kind = self.number_type;
        self.words().map(move |word| match kind {
            NumberType::U8 | NumberType::U16 | NumberType::U32 => Some(word.cast_signed()),
            NumberType::U64 => i64::try_from(word).ok(),
            NumberType::I8 => Some(i64::from((word as u8).cast_signed())),
            NumberType::I16 => Some(i64::from((word as u16).cast_signed())),
            NumberType::I32 => Some(i64::from((word as u32).cast_signed())),
            NumberType::I64 => Some(word.cast_signed()),
            NumberType::F32 | NumberType::F64 => None,
        })
    }

    /// As floats. One of 32 bits is what its shortest decimal says: 1e-5, not 9.999999747e-6, as the config
    /// that it was made of has it.
    pub fn floats(&self) -> impl Iterator<Item = f64> {
        let kind = self.number_type;
        self.words().zip(self.integers()).map(move |(word, integer)| match kind {
            NumberType::F64 => f64::from_bits(word),
            NumberType::F32 => {
                let float = f32::from_bits(word as u32);
                float.to_string().parse().unwrap_or(f64::from(float))
            }
            _ => integer.map_or(word as f64, |integer| integer as f64),
        })
    }

    /// Each number's bytes, with zeros above.
    fn words(&self) -> impl Iterator<Item = u64> {
        self.bytes.chunks_exact(self.number_type.size()).map(|bytes| {
            let mut word = [0; 8];
            word[..bytes.len()].copy_from_slice(bytes);
            u64::from_le_bytes(word)
        })
    }
}

impl MetadataValue {
    /// A number of 32 bits.
    pub fn u32(value: u32) -> Self {
        Self::Number(PackedNumbers { number_type: NumberType::U32, bytes: value.to_le_bytes().into() })
    }

    /// A float of 32 bits.
    pub fn f32(value: f32) -> Self {
        Self::Number(PackedNumbers { number_type: NumberType::F32, bytes: value.to_le_bytes().into() })
    }

    /// Numbers of 32 bits with a sign.
    pub fn i32s(values: impl IntoIterator<Item = i32>) -> Self {
        let bytes = values.into_iter().flat_map(i32::to_le_bytes).collect();
        Self::Numbers(PackedNumbers { number_type: NumberType::I32, bytes })
    }

    /// Floats of 32 bits.
    pub(crate) fn f32s(values: impl IntoIterator<Item = f32>) -> Self {
        let bytes = values.into_iter().flat_map(f32::to_le_bytes).collect();
        Self::Numbers(PackedNumbers { number_type: NumberType::F32, bytes })
    }

    /// Its text.
    ///
    /// # Errors
    /// What is none.
    pub fn text(&self) -> Result<&str> {
        if let Self::Text(text) = self { Ok(text) } else { bail!("it is {}, not a text", self.shown()) }
    }

    /// Whether it is true.
    ///
    /// # Errors
    /// What is neither true nor false.
    pub fn bool(&self) -> Result<bool> {
        if let Self::Bool(value) = self {
            Ok(*value)
        } else {
            bail!("it is {}, not true or false", self.shown())
        }
    }

    /// Its whole number.
    ///
    /// # Errors
    /// What is none, or negative.
    pub fn size(&self) -> Result<usize> {
        let integer = match self {
            Self::Number(number) => number.integers().next().flatten(),
            _ => None,
        };
        let size = integer.and_then(|integer| usize::try_from(integer).ok());
        size.with_context(|| format!("it is {}, not a whole number from 0 on", self.shown()))
    }

    /// Its number.
    ///
    /// # Errors
    /// What is none.
    pub fn float(&self) -> Result<f64> {
        let Self::Number(number) = self else { bail!("it is {}, not a number", self.shown()) };
        number.floats().next().context("it is no number")
    }

    /// Its list of texts.
    ///
    /// # Errors
    /// What is none.
    pub fn texts(&self) -> Result<&[String]> {
        if let Self::Texts(texts) = self {
            Ok(texts)
        } else {
            bail!("it is {}, not a list of texts", self.shown())
        }
    }

    /// Its list of whole numbers.
    ///
    /// # Errors
    /// What is none.
    pub fn integers(&self) -> Result<Vec<i64>> {
        let Self::Numbers(numbers) = self else {
            bail!("it is {}, not a list of whole numbers", self.shown())
        };
        ensure!(!numbers.number_type.is_float(), "it is {}, not a list of whole numbers", self.shown());
        numbers.integers().collect::<Option<_>>().context("it has a number beyond 63 bits")
    }

    /// Its list of numbers.
    ///
    /// # Errors
    /// What is none.
    pub fn floats(&self) -> Result<Vec<f64>> {
        if let Self::Numbers(numbers) = self {
            Ok(numbers.floats().collect())
        } else {
            bail!("it is {}, not a list of numbers", self.shown())
        }
    }

    /// As a message has it.
    pub fn shown(&self) -> String {
        match self {
            Self::Number(number) => match (number.integers().next().flatten(), number.floats().next()) {
                (Some(integer), _) => integer.to_string(),
                (None, float) => float.unwrap_or_default().to_string(),
            },
            Self::Numbers(numbers) => {
                format!("a list of {} numbers", numbers.bytes.len() / numbers.number_type.size())
            }
            Self::Bool(value) => value.to_string(),
            Self::Bools(values) => format!("a list of {} of true and false", values.len()),
            Self::Text(text) => format!("{:?}", text.chars().take(60).collect::<String>()),
            Self::Texts(texts) => format!("a list of {} texts", texts.len()),
        }
    }

    /// The number of its type in a file; of a list, that of what is in it as well.
    pub(super) fn type_numbers(&self) -> Vec<u32> {
        match self {
            Self::Number(number) => vec![number.number_type.number()],
            Self::Numbers(numbers) => vec![LIST, numbers.number_type.number()],
            Self::Bool(_) => vec![BOOL],
            Self::Bools(_) => vec![LIST, BOOL],
            Self::Text(_) => vec![TEXT],
            Self::Texts(_) => vec![LIST, TEXT],
        }
    }
}
