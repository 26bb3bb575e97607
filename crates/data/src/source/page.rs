//! [`DocumentBuilder`]: a document of pre-training being written.

use anyhow::{Result, ensure};

use super::files::ReadDocument;
use crate::document::{Document, DocumentKind, Image, Segment, Special};
use crate::left_out::LeftOut;
use crate::shard::Provenance;

/// Segments in reading order; text beside text becomes one segment.
#[derive(Default)]
pub(crate) struct DocumentBuilder {
    /// No text follows a text, and none is empty.
    segments: Vec<Segment>,
    left_out: LeftOut,
}

/// Why a picture that a document names is not in it.
pub(crate) const MISSING: &str = "a picture that is missing";

impl DocumentBuilder {
    /// A picture and the text beside it.
    ///
    /// # Errors
    /// An empty text.
    pub(crate) fn captioned(id: String, picture: impl Into<Image>, text: &str) -> Result<ReadDocument> {
        let mut page = Self::default();
        page.picture(picture);
        ensure!(!text.trim().is_empty(), "{id}: the caption is empty");
        page.text(text.trim());
        page.end(id, DocumentKind::Captioned)
    }

    /// Adds text to the text before it.
    pub(crate) fn text(&mut self, more: &str) {
        match self.segments.last_mut() {
            Some(Segment::Text { text, .. }) => text.push_str(more),
            _ if more.is_empty() => {}
            _ => self.segments.push(Segment::text(more)),
        }
    }

    /// Adds text, with `between` after a text before it.
    pub(crate) fn joined(&mut self, between: &str, more: &str) {
        if matches!(self.segments.last(), Some(Segment::Text { .. })) && !more.is_empty() {
            self.text(between);
        }
        self.text(more);
    }

    /// Adds a picture.
    pub(crate) fn picture(&mut self, picture: impl Into<Image>) {
        self.segments.push(Segment::Image(picture.into()));
    }

    /// Adds a picture that was looked for, or counts that it is missing.
    pub(crate) fn found(&mut self, picture: Option<Image>) {
        match picture {
            Some(picture) => self.picture(picture),
            None => self.left_out.add(MISSING, 1),
        }
    }

    /// Counts something that is not in the document.
    pub(crate) fn leave_out(&mut self, reason: &str) {
        self.left_out.add(reason, 1);
    }

    /// Whether it has any picture.
    pub(crate) fn pictures(&self) -> bool {
        self.segments.iter().any(|segment| matches!(segment, Segment::Image(_)))
    }

    /// Closes the document.
    ///
    /// # Errors
    /// A document without content.
    pub(crate) fn end(mut self, id: String, kind: DocumentKind) -> Result<ReadDocument> {
        let name = if id.is_empty() { String::new() } else { format!("{id}: ") };
        ensure!(!self.segments.is_empty(), "{name}a document without text and pictures");
        self.segments.push(Segment::Token { token: Special::End, learn: true });
        let document = Document { id, kind, segments: self.segments };
        Ok(ReadDocument { document, origin: Provenance::default(), left_out: self.left_out })
    }
}
