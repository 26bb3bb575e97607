//! Captions as instruction data: each picture of another source with a request to describe it, and its
//! caption as the answer. So a model is tuned on one's own pictures, of which only captions are there.

use std::sync::Arc;

use anyhow::{Result, ensure};
use xxhash_rust::xxh3::xxh3_64;

use super::interface::{Source, Split};
use crate::chat::{Turn, document};
use crate::document::{Document, DocumentKind, Segment};
use crate::image::DecodeBudget;
use crate::question::Question;

/// The captioned pictures of another source as conversations of one turn each.
pub struct CaptionInstructions {
    captions: Arc<dyn Source>,
    /// At least one.
    requests: Vec<String>,
    seed: u64,
}

impl CaptionInstructions {
    /// The documents of `captions`, each under one of `requests`, drawn anew whenever it comes.
    ///
    /// # Errors
    /// No request, or an empty one.
    pub fn new(captions: Arc<dyn Source>, requests: &[String], seed: u64) -> Result<Self> {
        ensure!(!requests.is_empty(), "requests: give at least one");
        ensure!(requests.iter().all(|request| !request.trim().is_empty()), "requests: one is empty");
        Ok(Self { captions, requests: requests.to_vec(), seed })
    }

    fn request(&self, split: Split, index: u64) -> &str {
        let drawn = xxh3_64(format!("{}/request/{}/{index}", self.seed, split.name()).as_bytes());
        &self.requests[(drawn % self.requests.len() as u64) as usize]
    }
}

impl Source for CaptionInstructions {
    fn document(&self, split: Split, index: u64) -> Result<Document> {
        let Document { id, kind, segments } = self.captions.document(split, index)?;
        ensure!(
            matches!(kind, DocumentKind::Captioned | DocumentKind::Synthetic),
            "{id} is no picture with a caption, and can't be made an instruction"
        );
        let (mut asked, mut answer) = (Vec::new(), String::new());
        for segment in segments {
            match segment {
                picture @ Segment::Image(_) => asked.push(picture),
                Segment::Text { text, .. } => answer.push_str(&text),
                Segment::Token { .. } => {}
            }
        }
        asked.push(Segment::prompt(self.request(split, index)));
        Ok(document(id, &[Turn::user(asked), Turn::assistant(answer.trim())]))
    }

    fn len(&self, split: Split) -> Option<u64> {
        self.captions.len(split)
    }

    fn texts(&self, split: Split, index: u64) -> Result<Vec<String>> {
        let mut texts = vec![self.request(split, index).to_owned()];
        texts.append(&mut self.captions.texts(split, index)?);
        Ok(texts)
    }

    fn memory(&self) -> u64 {
        self.captions.memory()
    }

    /// The captioning item of the other source: the request is the evaluation's own.
    fn question(&self, split: Split, index: u64, decoding: &DecodeBudget) -> Result<Question> {
        self.captions.question(split, index, decoding)
    }
}
