//! Conversations with demonstrations in them: several documents of another source of conversations as one, so
//! that a tuned model goes on learning from the examples of its prompt.

use std::sync::Arc;

use anyhow::{Result, ensure};

use super::config::MOST_SHOTS;
use super::interface::{Source, Split};
use crate::document::{Document, DocumentKind};
use crate::image::DecodeBudget;
use crate::question::Question;

/// The conversations of another source, a number of them after one another.
pub struct FewShotConversations {
    conversations: Arc<dyn Source>,
    shots: u64,
}

impl FewShotConversations {
    /// `shots + 1` documents of `conversations`, in their order, as one document. No document is in two, and
    /// those that are left over at the end of an epoch begin the next.
    ///
    /// # Errors
    /// No demonstration; fewer documents than one conversation takes.
    pub fn new(conversations: Arc<dyn Source>, shots: usize) -> Result<Self> {
        ensure!((1..=MOST_SHOTS).contains(&shots), "shots = {shots}: give 1 to {MOST_SHOTS} demonstrations");
        let (shots, there) = (shots as u64, conversations.len(Split::Train));
        ensure!(
            there.is_none_or(|there| there > shots),
            "shots = {shots}: the source has {} documents for training, and a conversation takes {}; ask for \
             fewer shots",
            there.unwrap_or_default(),
            shots + 1
        );
        Ok(Self { conversations, shots })
    }

    /// The documents of the other source that the document `index` is made of.
    fn parts(&self, index: u64) -> impl Iterator<Item = u64> + use<> {
        let parts = self.shots + 1;
        (0..parts).map(move |part| index.wrapping_mul(parts).wrapping_add(part))
    }
}

impl Source for FewShotConversations {
    fn document(&self, split: Split, index: u64) -> Result<Document> {
        let (mut id, mut segments) = (String::new(), Vec::new());
        for part in self.parts(index) {
            let document = self.conversations.document(split, part)?;
            ensure!(
                document.kind == DocumentKind::Conversation,
                "{} is no conversation; a source of kind \"instructions\" makes captions conversations",
                document.id
            );
            if id.is_empty() {
                id = format!("{}+{}", document.id, self.shots);
            }
            segments.extend(document.segments);
        }
        Ok(Document { id, kind: DocumentKind::Conversation, segments })
    }

    fn len(&self, split: Split) -> Option<u64> {
        Some(self.conversations.len(split)? / (self.shots + 1))
    }

    fn texts(&self, split: Split, index: u64) -> Result<Vec<String>> {
        let mut texts = Vec::new();
        for part in self.parts(index) {
            texts.append(&mut self.conversations.texts(split, part)?);
        }
        Ok(texts)
    }

    fn memory(&self) -> u64 {
        self.conversations.memory()
    }

    /// The item of the other source: an evaluation brings demonstrations of its own.
    fn question(&self, split: Split, index: u64, decoding: &DecodeBudget) -> Result<Question> {
        self.conversations.question(split, index, decoding)
    }
}
