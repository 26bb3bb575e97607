//! Packed rows shown to a person: a page with every picture as the model is given it, every token, and which
//! of them are learned.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use crate::batch::{Batch, BatchExample};
use crate::document::{Picture, Special};
use crate::image::ImageSpec;
use crate::shard;
use crate::show::{escaped, frame};
use crate::tokenizer::Tokenizer;

/// A page of packed rows.
pub struct PackedPage<'a> {
    tokenizer: &'a Tokenizer,
    image: &'a ImageSpec,
    body: String,
}

impl<'a> PackedPage<'a> {
    /// An empty page under `title`. Rows come from a loader with this tokenizer and these pictures.
    pub fn new(title: &str, tokenizer: &'a Tokenizer, image: &'a ImageSpec) -> Self {
        let body = format!(
            "<header><h1>{}</h1><p class=\"soft\">Each box is a document. Attention stays inside of it. \
             <span class=\"t learned\">Coloured tokens</span> are learned; <span class=\"t\">the \
             others</span> are only read. Pictures are shown in the model's resolution, \
             tiled ones as their views, in the order in which they are read.</p></header>\n",
            escaped(title)
        );
        Self { tokenizer, image, body }
    }

    /// Adds the row of a batch of one row, under `heading`.
    pub fn row(&mut self, heading: &str, batch: &Batch) {
        let _ = writeln!(self.body, "<h2>{}</h2>", escaped(heading));
        for example in &batch.examples {
            let shown = self.example(batch, example);
            self.body.push_str(&shown);
        }
    }

    /// Adds a line at the end.
    pub fn line(&mut self, text: &str) {
        let _ = writeln!(self.body, "<p class=\"damage\">{}</p>", escaped(text));
    }

    /// The whole page, one file without scripts.
    pub fn finish(self, title: &str) -> String {
        frame(title, &self.body)
    }

    fn example(&self, batch: &Batch, example: &BatchExample) -> String {
        let cut = if example.truncated { ", cut: longer than a row" } else { "" };
        let mut html = format!(
            "<article><h3>{}, {} {}{cut}</h3>\n",
            escaped(&example.sample),
            example.len,
            if example.len == 1 { "position" } else { "positions" }
        );
        let begin = example.row * batch.length + example.start;
        let mut pictures = example.slots.clone().zip(view_names(&example.views));
        let image = self.tokenizer.id(Special::Image);
        let mut at = begin;
        while at < begin + example.len {
            // A token is learned where the position before predicts it.
            let learned = at > begin && batch.weights[at - 1] > 0.0;
            let id = batch.ids[at];
            if id == image {
                let picture = pictures.next();
                let next = picture.as_ref().and_then(|(n, _)| batch.image_slots.get(n + 1)).copied();
                let end = next.filter(|next| *next < begin + example.len).unwrap_or(begin + example.len);
                let tokens = batch.ids[at..end].iter().take_while(|&&id| id == image).count();
                let name = picture.map_or(String::new(), |(n, name)| {
                    self.picture(&mut html, batch, n);
                    name
                });
                let unit = if tokens == 1 { "image token" } else { "image tokens" };
                let _ = write!(html, "<span class=\"token\">{name}{tokens} {unit}</span>");
                at += tokens;
            } else if let Some(name) = self.tokenizer.control_name(id) {
                let class = if learned { "token learned" } else { "token" };
                let name = name.trim_matches(['<', '|', '>']);
                let _ = write!(html, "<span class=\"{class}\">{}</span>", escaped(name));
                at += 1;
            } else {
                let length = self.character(&batch.ids[at..begin + example.len]);
                let class = if learned { "t learned" } else { "t" };
                let text = self.tokenizer.text(&batch.ids[at..at + length]);
                let _ = write!(html, "<span class=\"{class}\">{}</span>", escaped(&text));
                at += length;
            }
        }
        html + "</article>\n"
    }

    /// How many of the first tokens make whole characters together: one, or a few where a character is cut.
    fn character(&self, ids: &[u32]) -> usize {
        let mut bytes = Vec::new();
        for (i, &id) in ids.iter().take(4).enumerate() {
            bytes.extend_from_slice(self.tokenizer.bytes(id));
            if std::str::from_utf8(&bytes).is_ok() {
                return i + 1;
            }
        }
        1
    }

    /// The views of picture number `n` of the batch.
    fn picture(&self, html: &mut String, batch: &Batch, n: usize) {
        let (size, pictures) = (batch.image_size, batch.images().max(1));
        let values = size * size * 3;
        let views = batch.pixels.len() / values / pictures;
        for view in batch.pixels[n * views * values..(n + 1) * views * values].chunks(values) {
            let picture = restored(self.image, view);
            // Values of the right number always make a PNG.
            let png = shard::png(&picture).unwrap_or_default();
            let _ = write!(
                html,
                "<img src=\"data:image/png;base64,{}\" width=\"{size}\" height=\"{size}\" alt=\"picture\"/>",
                BASE64_STANDARD.encode(png)
            );
        }
    }
}

/// What each slot of pictures with so many views is called: nothing where there is one view.
fn view_names(views: &[usize]) -> impl Iterator<Item = String> {
    let of_picture = |&count: &usize| {
        (1..=count).map(move |view| match count {
            1 => String::new(),
            _ => format!("view {view} of {count}: "),
        })
    };
    views.iter().flat_map(of_picture)
}

/// The picture of normalised values `[size, size, 3]`.
fn restored(image: &ImageSpec, values: &[f32]) -> Picture {
    let (mean, std, size) = (image.config.mean, image.config.std, image.size as u32);
    let level = |(i, value): (usize, &f32)| {
        let channel = i % 3;
        ((value * std[channel] + mean[channel]) * 255.0).round().clamp(0.0, 255.0) as u8
    };
    Picture { width: size, height: size, rgb: values.iter().enumerate().map(level).collect() }
}
