//! What the tokenizer and the pictures of a run become for its model: for comparison with other programs.
//!
//!     prompts RUN SETTINGS < LINES
//!
//! RUN is a run folder. SETTINGS is a JSON object: `marks`, whether Idefics3's tokens stand around a picture;
//! `size` of the model's square, `tokens` of a view, and `image` as the recipe has it. Each line of
//! standard input is a JSON object: a `text`, files of `pictures` before it, and `chat`, whether it is a
//! user's turn. Printed is, for each, the `ids`, and the `pixels` of all views, channels last.

use std::io::{BufRead as _, Write as _};
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use mm1_data::chat::{self, Turn};
use mm1_data::document::{Image, Segment};
use mm1_data::image::{ImageConfig, normalise_into, prepare_views};
use mm1_data::layout::Laid;
use mm1_data::picture_tokens::PictureFormat;
use mm1_data::tokenizer::{PictureMarks, Tokenizer};
use serde::Deserialize;
use serde_json::json;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    marks: bool,
    size: usize,
    tokens: usize,
    image: ImageConfig,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    text: String,
    #[serde(default)]
    pictures: Vec<PathBuf>,
    #[serde(default)]
    chat: bool,
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let run = PathBuf::from(arguments.next().context("prompts RUN SETTINGS")?);
    let Settings { marks, size, tokens, image } =
        serde_json::from_str(&arguments.next().context("prompts RUN SETTINGS")?)?;
    let (tokenizer, spec) = (Tokenizer::of_run(&run)?, image.of_size(size));
    let tokenizer = match marks {
        true => tokenizer.with_picture_marks(PictureMarks::of(&spec.config.tiling, size))?,
        false => tokenizer,
    };
    let format = PictureFormat { image: &spec, image_tokens: tokens };
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for line in std::io::stdin().lock().lines() {
        let Line { text, pictures, chat } = serde_json::from_str(&line?)?;
        let mut segments = Vec::new();
        for picture in pictures {
            segments.push(Segment::Image(Image::from(std::fs::read(&picture)?)));
        }
        segments.push(Segment::prompt(text));
        let segments = if chat { chat::prompt(&[Turn::user(segments)]) } else { segments };
        let (mut all, mut pixels, mut number) = (Vec::new(), Vec::new(), 0);
        for laid in tokenizer.lay_out(&segments)? {
            match laid {
                Laid::Tokens { ids, .. } => all.extend(ids),
                Laid::Picture(picture) => {
                    let read = format.tokens(&tokenizer, picture, number)?;
                    let views = prepare_views(picture, &spec, read.grid)?;
                    normalise_into(&views, &spec, &mut pixels);
                    all.extend(read.ids);
                    number += 1;
                }
            }
        }
        writeln!(out, "{}", json!({"ids": all, "pixels": pixels}))?;
    }
    Ok(())
}
