//! [`DocumentBuilder`]: a document of pre-training being written.

use anyhow::{Result, ensure};

use crate::document::{Document, DocumentKind, Image, Segment, Special};

/// Segments in reading order; text beside text becomes one segment.
#[derive(Default)]
pub(crate) struct DocumentBuilder {
    /// No text follows a text, and none is empty.
    segments: Vec<Segment>,
}

impl DocumentBuilder {
    /// A picture and the text beside it.
    ///
    /// # Errors
    /// An empty text.
    pub(crate) fn captioned(id: String, picture: impl Into<Image>, text: &str) -> Result<Document> {
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

    /// Whether it has any picture.
    pub(crate) fn pictures(&self) -> bool {
        self.segments.iter().any(|segment| matches!(segment, Segment::Image(_)))
    }

    /// Closes the document.
    ///
    /// # Errors
    /// A document without content.
    pub(crate) fn end(mut self, id: String, kind: DocumentKind) -> Result<Document> {
        ensure!(!self.segments.is_empty(), "{id}: a document without text and pictures");
        self.segments.push(Segment::Token { token: Special::End, learn: true });
        Ok(Document { id, kind, segments: self.segments })
    }
}
