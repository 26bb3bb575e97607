//! [`Gallery`]: captioned pictures on their way into the shards. Drawings are rendered on all cores.

use anyhow::Result;
use mm1_data::document::{Document, DocumentKind, Image, Segment, Special};
use mm1_data::error_line::error_line;
use rayon::prelude::*;

use crate::caption::PictureFacts;
use crate::render::render;
use crate::settings::CorpusSettings;
use crate::sink::Sink;
use crate::stream::ShardFolder;

/// Drawings that are rendered at a time.
const CHUNK: usize = 256;

/// A picture on its way into the shards.
pub(super) struct CaptionedPicture {
    /// Its name in the corpus.
    pub(super) id: String,
    /// Pictures of one group are held out together.
    pub(super) group: String,
    pub(super) about: PictureFacts,
    pub(super) picture: PictureData,
}

/// A picture file, or a drawing that becomes one.
pub(super) enum PictureData {
    File(Vec<u8>),
    Svg(String),
}

/// Captioned pictures that are rendered together, on all cores, and written in order.
pub(super) struct Gallery<'a> {
    sink: &'a mut Sink,
    size: u32,
    /// Fewer than [`CHUNK`].
    waiting: Vec<CaptionedPicture>,
}

impl<'a> Gallery<'a> {
    pub(super) fn new(sink: &'a mut Sink, settings: CorpusSettings) -> Self {
        Self { sink, size: settings.size, waiting: Vec::new() }
    }

    pub(super) fn push(&mut self, picture: CaptionedPicture) -> Result<()> {
        self.waiting.push(picture);
        if self.waiting.len() >= CHUNK { self.flush() } else { Ok(()) }
    }

    pub(super) fn skip(&mut self, id: &str, reason: &str) {
        self.sink.skip(id, reason);
    }

    /// Renders and writes what waits. To be called at the end.
    pub(super) fn flush(&mut self) -> Result<()> {
        let size = self.size;
        let draw = |picture: &mut CaptionedPicture| match &mut picture.picture {
            PictureData::File(bytes) => Ok(std::mem::take(bytes)),
            PictureData::Svg(svg) => render(svg, size),
        };
        let mut pictures = std::mem::take(&mut self.waiting);
        // Drawn on all cores, written in order: the shards are the same on any machine.
        let drawn: Vec<Result<Vec<u8>>> = pictures.par_iter_mut().map(draw).collect();
        for (CaptionedPicture { id, group, about, .. }, drawn) in pictures.into_iter().zip(drawn) {
            let bytes = match drawn {
                Ok(bytes) => bytes,
                Err(error) => {
                    self.sink.skip(id, error_line(&error));
                    continue;
                }
            };
            let image = Image::named(&id, bytes);
            let described = about.describe(&id);
            let full = format!("{group}#{id}");
            let alt = captioned(&full, DocumentKind::Captioned, image.clone(), about.alt(&id));
            self.sink.push(ShardFolder::Captioned, &alt)?;
            if let Some(text) = described {
                let document = captioned(&full, DocumentKind::Synthetic, image, text);
                self.sink.push(ShardFolder::Synthetic, &document)?;
            }
        }
        Ok(())
    }
}

fn captioned(id: &str, kind: DocumentKind, image: Image, text: String) -> Document {
    let end = Segment::Token { token: Special::End, learn: true };
    Document { id: id.to_owned(), kind, segments: vec![Segment::Image(image), Segment::text(text), end] }
}
