//! Which positions of packed rows attend to which.

use super::Rope;

/// A run of consecutive positions of one row that belong to one example. Attention never leaves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The row.
    pub row: usize,
    /// First position in the row.
    pub start: usize,
    /// Number of positions.
    pub len: usize,
}

/// What a position sees of its span.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sight {
    /// All of it.
    All,
    /// Itself and those before it.
    Causal,
    /// Position `i` of a span sees the first `max(i + 1, prefix)` (prefix attention of AIM, El-Nouby et al.
    /// 2024, section 3.2): a prefix for each span, in their order. 0 and 1 are causal, the span's length and
    /// more are all.
    Prefix(Vec<usize>),
}

/// Which positions see which.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The examples; they do not overlap. Positions outside every span are padding.
    pub spans: Vec<Span>,
    /// What a position sees of its span.
    pub sight: Sight,
}

impl Layout {
    /// One span a row: `rows` examples of `length` positions.
    pub fn full(rows: usize, length: usize, sight: Sight) -> Self {
        Self { spans: (0..rows).map(|row| Span { row, start: 0, len: length }).collect(), sight }
    }

    /// For each span the number of its first positions that all of it see.
    ///
    /// # Panics
    /// When there is not one prefix for each span.
    pub(super) fn prefixes(&self) -> Vec<usize> {
        match &self.sight {
            Sight::All => self.spans.iter().map(|span| span.len).collect(),
            Sight::Causal => vec![0; self.spans.len()],
            Sight::Prefix(prefixes) => {
                let (given, spans) = (prefixes.len(), self.spans.len());
                assert_eq!(given, spans, "{given} prefixes for {spans} spans");
                prefixes.clone()
            }
        }
    }

    /// Cosines and sines of the positions in their spans, each `[b, t, c / 2]` for rows of the shape `[b, t]`
    /// and heads of `c`; 1 and 0 outside.
    pub(super) fn turns(&self, rope: &Rope, [b, t]: [usize; 2]) -> [Vec<f32>; 2] {
        let half = rope.width() / 2;
        let (mut cos, mut sin) = (vec![1.0; b * t * half], vec![0.0; b * t * half]);
        for span in &self.spans {
            for i in 0..span.len {
                let at = (span.row * t + span.start + i) * half;
                let (cosines, sines) = rope.at(i);
                cos[at..at + half].copy_from_slice(cosines);
                sin[at..at + half].copy_from_slice(sines);
            }
        }
        [cos, sin]
    }

    /// Positions of the longest span.
    pub fn longest(&self) -> usize {
        self.spans.iter().map(|s| s.len).max().unwrap_or(0)
    }
}
