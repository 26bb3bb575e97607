//! How the numbers of a tensor lie in a file.

use anyhow::{Result, bail};

/// How the numbers of a tensor lie in a file: one by one, or in blocks that share a scale. The layouts are
/// those of ggml-common.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TensorType {
    /// Floats of 32 bits.
    F32,
    /// Floats of 16 bits with 5 for the exponent.
    F16,
    /// Floats of 16 bits with 8 for the exponent.
    BF16,
    /// 32 numbers of 4 bits around 8, and a scale.
    Q4_0,
    /// 32 numbers of 4 bits, a scale and a smallest value.
    Q4_1,
    /// 32 numbers of 5 bits around 16, and a scale.
    Q5_0,
    /// 32 numbers of 5 bits, a scale and a smallest value.
    Q5_1,
    /// 32 numbers of 8 bits, and a scale.
    Q8_0,
    /// 256 numbers of 2 bits; each 16 have a scale and a smallest value of 4 bits.
    Q2K,
    /// 256 numbers of 3 bits around 4; each 16 have a scale of 6 bits.
    Q3K,
    /// 256 numbers of 4 bits; each 32 have a scale and a smallest value of 6 bits.
    Q4K,
    /// 256 numbers of 5 bits; each 32 have a scale and a smallest value of 6 bits.
    Q5K,
    /// 256 numbers of 6 bits around 32; each 16 have a scale of 8 bits.
    Q6K,
    /// 256 numbers of 8 bits, a scale as f32, and the sum of each 16.
    Q8K,
}

/// Number in a file, name, numbers of a block, and its bytes.
struct BlockLayout(u32, &'static str, usize, usize);

impl TensorType {
    /// The number by which llama.cpp says what most tensors of a file are.
    pub(super) fn file_type(self) -> usize {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Q8_0 => 7,
            _ => 32,
        }
    }

    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::F32,
        Self::F16,
        Self::BF16,
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q8_0,
        Self::Q2K,
        Self::Q3K,
        Self::Q4K,
        Self::Q5K,
        Self::Q6K,
        Self::Q8K,
    ];

    fn layout(self) -> BlockLayout {
        match self {
            Self::F32 => BlockLayout(0, "F32", 1, 4),
            Self::F16 => BlockLayout(1, "F16", 1, 2),
            Self::BF16 => BlockLayout(30, "BF16", 1, 2),
            Self::Q4_0 => BlockLayout(2, "Q4_0", 32, 18),
            Self::Q4_1 => BlockLayout(3, "Q4_1", 32, 20),
            Self::Q5_0 => BlockLayout(6, "Q5_0", 32, 22),
            Self::Q5_1 => BlockLayout(7, "Q5_1", 32, 24),
            Self::Q8_0 => BlockLayout(8, "Q8_0", 32, 34),
            Self::Q2K => BlockLayout(10, "Q2_K", 256, 84),
            Self::Q3K => BlockLayout(11, "Q3_K", 256, 110),
            Self::Q4K => BlockLayout(12, "Q4_K", 256, 144),
            Self::Q5K => BlockLayout(13, "Q5_K", 256, 176),
            Self::Q6K => BlockLayout(14, "Q6_K", 256, 210),
            Self::Q8K => BlockLayout(15, "Q8_K", 256, 292),
        }
    }

    /// The one of this number in a file.
    ///
    /// # Errors
    /// One line with the types that can be read.
    pub fn of_number(number: u32) -> Result<Self> {
        let Some(found) = Self::ALL.into_iter().find(|known| known.number() == number) else {
            let known = Self::ALL.map(Self::name).join(", ");
            bail!("its type is number {number}{}; only {known} can be read", other(number))
        };
        Ok(found)
    }

    /// Its number in a file.
    pub fn number(self) -> u32 {
        self.layout().0
    }

    /// As llama.cpp calls it.
    pub fn name(self) -> &'static str {
        self.layout().1
    }

    /// Numbers of a block.
    pub fn block(self) -> usize {
        self.layout().2
    }

    /// Bytes of a block.
    pub fn block_bytes(self) -> usize {
        self.layout().3
    }
}

/// The name of a type that is known and not read, for a message.
fn other(number: u32) -> &'static str {
    match number {
        9 => " (Q8_1)",
        16..=23 | 29 => " (one of the IQ quantisations)",
        24..=28 => " (integers or f64)",
        34 | 35 => " (a ternary quantisation)",
        39 | 40 => " (FP4)",
        _ => "",
    }
}
