//! The numbers that products read.

use cubecl::client::Client;
use cubecl::features::TypeUsage;
use cubecl::ir::{ElemType, FloatKind};

/// Numbers that a product reads; its sums are f32 with all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Number {
    /// 32 bits.
    F32,
    /// 16 bits, of which 5 are the exponent's.
    F16,
    /// 16 bits, of which 8 are the exponent's, as many as of f32.
    Bf16,
}

impl Number {
    /// Whether the device at hand has them: in buffers, and from f32.
    pub fn is_known_to(self, client: &Client) -> bool {
        let usage = client.properties().type_usage(self.elem());
        usage.contains(TypeUsage::Buffer) && usage.contains(TypeUsage::Conversion)
    }

    pub(crate) fn elem(self) -> ElemType {
        ElemType::Float(match self {
            Self::F32 => FloatKind::F32,
            Self::F16 => FloatKind::F16,
            Self::Bf16 => FloatKind::BF16,
        })
    }
}
