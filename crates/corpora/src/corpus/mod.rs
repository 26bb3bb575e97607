//! The corpora: one file each says what it is made of and how its packages become documents.

mod easy_vqa;
mod fluent3d;
mod iconify;
mod manual;
mod openclipart;
mod stdlib;
mod sweethome3d;
mod tuxpaint;
#[cfg(feature = "emoji")]
mod twemoji;
mod wordnet;

use std::path::PathBuf;

use anyhow::Result;
use mm1_data::document::{Document, Image, Kind, Segment, Special};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::caption::About;
use crate::package::Package;
use crate::render::render;
use crate::sink::{Sink, Stream};

/// Drawings that are rendered at a time.
const CHUNK: usize = 256;

/// How documents are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// The longer side of a rendered drawing, in pixels.
    pub size: u32,
    /// The most words of a passage of text; 0 leaves documents whole.
    pub words: usize,
}

/// Makes the documents of a corpus from the files of its packages, which are in the same order.
type Make = fn(&[PathBuf], Settings, &mut Sink) -> Result<()>;

/// A corpus.
pub struct Corpus {
    /// By which `--only` and the shards know it.
    pub name: &'static str,
    /// What it is.
    pub title: &'static str,
    /// What it is made of.
    pub packages: &'static [Package],
    /// Under which terms it may be used.
    pub licence: &'static str,
    /// Whom to name.
    pub attribution: &'static str,
    pub(crate) make: Make,
}

impl Corpus {
    /// The same corpus, made of other packages.
    pub fn of(&self, packages: &'static [Package]) -> Self {
        let Self { name, title, licence, attribution, make, .. } = *self;
        Self { name, title, packages, licence, attribution, make }
    }
}

/// The corpora of `desk`.
pub const DESK: &[Corpus] = &[
    #[cfg(feature = "emoji")]
    twemoji::TWEMOJI,
    iconify::NOTO,
    iconify::FLUENT_FLAT,
    fluent3d::FLUENT_3D,
    openclipart::OPENCLIPART,
    tuxpaint::TUXPAINT,
    sweethome3d::SWEETHOME3D,
    manual::GIMP,
    manual::SKLEARN,
    manual::SKIMAGE,
    manual::SCIPY,
    manual::GRASS,
    stdlib::UNION,
    stdlib::MOBY_DICK,
    wordnet::WORDNET,
    easy_vqa::EASY_VQA,
];

/// A picture on its way into the shards.
struct Captioned {
    /// Its name in the corpus.
    id: String,
    /// Pictures of one group are held out together.
    group: String,
    about: About,
    picture: Drawn,
}

/// A picture file, or a drawing that becomes one.
enum Drawn {
    File(Vec<u8>),
    Svg(String),
}

/// Captioned pictures that are rendered together, on all cores, and written in order.
struct Gallery<'a> {
    sink: &'a mut Sink,
    size: u32,
    waiting: Vec<Captioned>,
}

impl<'a> Gallery<'a> {
    fn new(sink: &'a mut Sink, settings: Settings) -> Self {
        Self { sink, size: settings.size, waiting: Vec::new() }
    }

    fn push(&mut self, picture: Captioned) -> Result<()> {
        self.waiting.push(picture);
        if self.waiting.len() >= CHUNK { self.flush() } else { Ok(()) }
    }

    fn skip(&mut self, id: &str, reason: &str) {
        self.sink.skip(id, reason);
    }

    /// Renders and writes what waits. To be called at the end.
    fn flush(&mut self) -> Result<()> {
        let size = self.size;
        let draw = |picture: &mut Captioned| match &mut picture.picture {
            Drawn::File(bytes) => Ok(std::mem::take(bytes)),
            Drawn::Svg(svg) => render(svg, size),
        };
        let mut pictures = std::mem::take(&mut self.waiting);
        let drawn: Vec<Result<Vec<u8>>> = pictures.par_iter_mut().map(draw).collect();
        for (Captioned { id, group, about, .. }, drawn) in pictures.into_iter().zip(drawn) {
            let bytes = match drawn {
                Ok(bytes) => bytes,
                Err(error) => {
                    self.sink.skip(id, format!("{error:#}"));
                    continue;
                }
            };
            let image = Image::named(&id, bytes);
            let described = about.describe(&id);
            let full = format!("{group}#{id}");
            let alt = captioned(&full, Kind::Captioned, image.clone(), about.alt(&id));
            self.sink.push(Stream::Captioned, &alt)?;
            if let Some(text) = described {
                let document = captioned(&full, Kind::Synthetic, image, text);
                self.sink.push(Stream::Synthetic, &document)?;
            }
        }
        Ok(())
    }
}

fn captioned(id: &str, kind: Kind, image: Image, text: String) -> Document {
    let end = Segment::Token { token: Special::End, learn: true };
    Document { id: id.to_owned(), kind, segments: vec![Segment::Image(image), Segment::text(text), end] }
}

fn text(id: String, text: String) -> Document {
    let end = Segment::Token { token: Special::End, learn: true };
    Document { id, kind: Kind::TextOnly, segments: vec![Segment::text(text), end] }
}
