//! `mm1 chat`: questions to a run's model, about pictures or without.

mod lines;
mod slash;

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use mm1_data::document::{Image, Segment};
use mm1_data::error_line::error_line;
use mm1_data::image::open;
use mm1_data::printable::printable_lines;
use mm1_data::regular_file;
use mm1_serve::generate::AnswerOptions;
use mm1_serve::sampler::Sampling;
use mm1_serve::session::Session;
use serde_json::json;

use self::lines::{LONGEST, Lines, ReadLine};
use self::slash::{HELP, SlashCommand};
use crate::arguments::ThreadsArgs;
use crate::error::{InputError, input};
use crate::model_args::ModelArgs;
use crate::output::{print_json, tell};
use crate::trained::Trained;

/// The largest picture file that is read.
const MAX_FILE: u64 = 256 << 20;

#[derive(Debug, Args)]
pub(crate) struct ChatArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Image (JPEG, PNG, WebP, GIF, BMP or TIFF) that the first message is about. May be repeated.
    #[arg(long = "image", value_name = "FILE")]
    images: Vec<PathBuf>,
    /// Longest answer, in tokens.
    #[arg(long, value_name = "N", default_value_t = 64)]
    max_tokens: usize,
    /// Sampling temperature; 0 is greedy.
    #[arg(long, value_name = "T", default_value_t = 0.0)]
    temperature: f64,
    /// Sample from the fewest tokens that have this probability together; needs a temperature above 0.
    #[arg(long, value_name = "P", default_value_t = 1.0)]
    top_p: f64,
    /// Seed of the sampling.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    threads: ThreadsArgs,
    /// Print one JSON document for each answer, in place of its text.
    #[arg(long)]
    json: bool,
    /// Message to answer; without it a conversation begins.
    prompt: Option<String>,
}

/// Answers one prompt, or talks until the input ends.
///
/// # Errors
/// A folder without a trained model, a picture that can't be read, or a context that is full.
pub(crate) fn chat(args: &ChatArgs) -> Result<()> {
    let sampling = input(args.sampling())?;
    let pictures = args.images.iter().map(|file| picture("--image", file)).collect::<Result<Vec<_>>>()?;
    args.threads.start_pool()?;
    let model = args.model.load()?;
    if !model.sees && !pictures.is_empty() {
        let model = model.id.as_str();
        let refusal = format!("--image: {model} is a language model alone, which sees nothing");
        return Err(InputError::new(refusal).into());
    }
    let options = AnswerOptions { sampling, ..AnswerOptions::greedy(args.max_tokens) };
    let mut conversation = Talk {
        model: &model,
        session: Session::new(&model.generator),
        options,
        json: args.json,
        next: pictures,
    };
    match &args.prompt {
        Some(prompt) => conversation.say(prompt),
        None => conversation.converse(),
    }
}

impl ChatArgs {
    fn sampling(&self) -> Result<Sampling> {
        let Self { temperature, top_p, seed, .. } = *self;
        ensure!(
            temperature.is_finite() && temperature >= 0.0,
            "--temperature {temperature} must be a finite number of at least 0"
        );
        ensure!(top_p > 0.0 && top_p <= 1.0, "--top-p {top_p} must be above 0, and 1 at most");
        ensure!(
            top_p == 1.0 || temperature > 0.0,
            "--top-p {top_p} needs a --temperature above 0: at 0 the most likely token is always taken"
        );
        Ok(match temperature {
            0.0 => Sampling::Greedy,
            temperature => Sampling::Random { temperature, top_k: None, top_p, min_p: 0.0, seed },
        })
    }
}

/// A picture for a message, and its file.
struct ChatPicture {
    file: PathBuf,
    image: Image,
    /// Pixels from left to right, and from top to bottom.
    sides: [u32; 2],
}

struct Talk<'a> {
    model: &'a Trained,
    session: Session<'a>,
    options: AnswerOptions,
    json: bool,
    /// Pictures of the next message.
    next: Vec<ChatPicture>,
}

impl Talk<'_> {
    /// One turn: the answer appears as it is made.
    fn say(&mut self, text: &str) -> Result<()> {
        let mut segments: Vec<Segment> =
            self.next.iter().map(|picture| Segment::Image(picture.image.clone())).collect();
        segments.push(Segment::prompt(text));
        let mut out = std::io::stdout();
        let quiet = self.json;
        let answer = input(self.session.say(&segments, &self.options, &mut |piece| {
            if !quiet {
                // A closed pipe ends the reader's interest, not the answer.
                let _ = write!(out, "{}", printable_lines(piece)).and_then(|()| out.flush());
            }
        }))?;
        let files: Vec<PathBuf> = self.next.drain(..).map(|picture| picture.file).collect();
        if quiet {
            return print_json(&json!({ "prompt": text, "images": files, "answer": answer }));
        }
        let _ = writeln!(out).and_then(|()| out.flush());
        Ok(())
    }

    /// Reads messages line by line.
    fn converse(&mut self) -> Result<()> {
        let mut lines = Lines::open();
        let edited = matches!(lines, Lines::Edited(_));
        if edited {
            let about = if self.next.is_empty() { "" } else { " The first message is about the images." };
            tell(format_args!(
                "The model of stage {}.{about} /help shows what can be typed.",
                self.model.stage
            ));
        }
        loop {
            let done = match lines.next().context("reading the next message")? {
                ReadLine::End => return Ok(()),
                ReadLine::Text(text) => self.take(text.trim()),
                ReadLine::Damaged(text) if text.is_empty() => {
                    tell("mm1: that line was not UTF-8, and is not read: type it again");
                    Ok(Next::Line)
                }
                ReadLine::Damaged(text) => {
                    tell("mm1: bytes of that line are not UTF-8: the model is given \u{fffd} for them");
                    self.take(text.trim())
                }
                ReadLine::TooLong(kib) => Err(InputError::new(format!(
                    "a message of more than {kib} KiB: shorten it, or give it by a pipe (at most {LONGEST} \
                     KiB)"
                ))
                .into()),
                ReadLine::Interrupted => {
                    tell("/quit or Ctrl-D ends the talk");
                    Ok(Next::Line)
                }
            };
            match done {
                Ok(Next::Line) => {}
                Ok(Next::End) => return Ok(()),
                // A person can do better; who wrote a file is not there.
                Err(e) if edited => tell(format_args!("mm1: {}", error_line(&e))),
                Err(e) => return Err(e),
            }
        }
    }

    /// A message, or a command.
    fn take(&mut self, text: &str) -> Result<Next> {
        match SlashCommand::parse(text) {
            None if text.is_empty() => {}
            None => self.say(text)?,
            Some(SlashCommand::Quit) => return Ok(Next::End),
            Some(SlashCommand::Help) => tell(HELP),
            Some(SlashCommand::Reset) => {
                self.session = Session::new(&self.model.generator);
                self.next.clear();
                tell("a new talk: what was said and shown before is forgotten");
            }
            Some(SlashCommand::Image(file)) => {
                if !self.model.sees {
                    return Err(InputError::new(
                        "/image: this is a language model alone, which sees nothing",
                    )
                    .into());
                }
                let picture = picture("/image", &file)?;
                let [width, height] = picture.sides;
                self.next.push(picture);
                let count = self.next.len();
                let with = if count == 1 { String::new() } else { format!(", {count} images by now") };
                let file = file.display();
                tell(format_args!("{file}: {width} x {height} pixels, for the next message{with}"));
            }
            Some(SlashCommand::NoFile) => return Err(InputError::new("/image FILE: which file?").into()),
            Some(SlashCommand::Unknown(word)) => {
                let known = "/image FILE, /reset, /help, /quit";
                return Err(InputError::new(format!("{word} is no command: there are {known}")).into());
            }
        }
        Ok(Next::Line)
    }
}

/// What comes after a line.
enum Next {
    Line,
    End,
}

/// Reads the picture that the option or command `by` names.
fn picture(by: &str, file: &Path) -> Result<ChatPicture> {
    let named = |e: &anyhow::Error| InputError::new(format!("{by} {}: {e:#}", file.display()));
    let image = Image::from(regular_file::read(file, MAX_FILE).map_err(|e| named(&e))?);
    let opened = open(&image).map_err(|e| named(&e))?;
    Ok(ChatPicture { file: file.to_owned(), image, sides: [opened.width, opened.height] })
}
