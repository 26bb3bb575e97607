//! [`CorpusSettings`]: how the documents of all corpora are made.

use serde::{Deserialize, Serialize};

/// How documents are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CorpusSettings {
    /// The longer side of a rendered drawing, in pixels.
    pub size: u32,
    /// The most words of a passage of text; 0 leaves documents whole.
    pub words: usize,
}
