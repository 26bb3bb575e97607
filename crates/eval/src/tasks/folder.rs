//! Captions of a folder of your own: its held-out part is described, demonstrations come from its training part.

use std::sync::Arc;

use anyhow::Result;
use mm1_data::question::Question;
use mm1_data::source::folder::Folder;
use mm1_data::source::{Source, Split};

use crate::task::{Metric, Task};

/// CIDEr of the captions of held-out pictures. Where the folder's captions begin with `A photo of`, these words are part of
/// the prediction; else only what follows them.
pub struct FolderCaptions {
    /// The name in `eval.json`, such as `holiday-captions`.
    pub name: String,
    /// The pictures.
    pub folder: Arc<Folder>,
    /// The longest caption in tokens.
    pub max_tokens: usize,
}

impl Task for FolderCaptions {
    fn name(&self) -> &str {
        &self.name
    }

    fn metric(&self) -> Metric {
        Metric::Cider
    }

    fn tests(&self) -> u64 {
        self.folder.len(Split::Test).unwrap_or(0)
    }

    fn demonstrations(&self) -> u64 {
        self.folder.len(Split::Train).unwrap_or(0)
    }

    fn test(&self, index: u64) -> Result<Question> {
        self.folder.question(Split::Test, index)
    }

    fn demonstration(&self, index: u64) -> Result<Question> {
        self.folder.question(Split::Train, index)
    }

    fn max_tokens(&self) -> usize {
        self.max_tokens
    }
}
