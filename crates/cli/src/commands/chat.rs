//! `mm1 chat`: questions to a run's model, about pictures or without.

use std::io::{BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use clap::Args;
use mm1_data::document::{Image, Segment};
use mm1_data::image::open;
use mm1_data::regular_file;
use mm1_serve::generate::GenerateOptions;
use mm1_serve::sampler::Sampling;
use mm1_serve::session::Session;
use serde_json::json;

use crate::arguments::{DeviceArgs, ThreadsArgs};
use crate::error::{InputError, input};
use crate::trained::Trained;

/// The largest picture file that is read.
const MAX_FILE: u64 = 256 << 20;

#[derive(Debug, Args)]
pub(crate) struct ChatArgs {
    /// Run folder of the model: its last stage that has a checkpoint answers.
    #[arg(long, value_name = "DIR")]
    run: PathBuf,
    /// Image (JPEG, PNG, WebP or GIF) that the first message is about. May be repeated.
    #[arg(long = "image", value_name = "FILE")]
    images: Vec<PathBuf>,
    /// Longest answer, in tokens.
    #[arg(long, value_name = "N", default_value_t = 64)]
    max_tokens: usize,
    /// Sampling temperature; 0 is greedy.
    #[arg(long, value_name = "T", default_value_t = 0.0)]
    temperature: f64,
    /// Seed of the sampling.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    device: DeviceArgs,
    #[command(flatten)]
    threads: ThreadsArgs,
    /// Print one JSON document as the last line of standard output.
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
    ensure_temperature(args.temperature)?;
    let pictures = args.images.iter().map(|p| picture(p)).collect::<Result<Vec<_>>>()?;
    args.threads.start_pool()?;
    let model = Trained::load(&args.run, args.device)?;
    if !model.tuned {
        eprintln!("mm1: warning: not tuned yet; this is the model of stage {}", model.stage);
    }
    let mut conversation = Conversation { session: Session::new(&model.generator), args };
    match &args.prompt {
        Some(prompt) => {
            let answer = conversation.say(pictures, prompt)?;
            if args.json {
                println!("{}", json!({ "prompt": prompt, "images": args.images, "answer": answer }));
            }
            Ok(())
        }
        None => conversation.converse(pictures),
    }
}

fn ensure_temperature(temperature: f64) -> Result<()> {
    input((|| {
        ensure!(
            temperature.is_finite() && temperature >= 0.0,
            "--temperature {temperature} must be a finite number of at least 0"
        );
        Ok(())
    })())
}

struct Conversation<'a> {
    session: Session<'a>,
    args: &'a ChatArgs,
}

impl Conversation<'_> {
    /// One turn: the answer appears as it is made.
    fn say(&mut self, pictures: Vec<Image>, text: &str) -> Result<String> {
        let mut segments: Vec<Segment> = pictures.into_iter().map(Segment::Image).collect();
        segments.push(Segment::prompt(text));
        let sampling = match self.args.temperature {
            0.0 => Sampling::Greedy,
            temperature => Sampling::Random { temperature, top_k: None, top_p: 1.0, seed: self.args.seed },
        };
        let options =
            GenerateOptions { max_tokens: self.args.max_tokens, stop: Vec::new(), sampling, batch: 1 };
        let mut out = std::io::stdout();
        let quiet = self.args.json;
        let answer = input(self.session.say(&segments, &options, &mut |piece| {
            if !quiet {
                // A closed pipe ends the reader's interest, not the answer.
                let _ = write!(out, "{piece}").and_then(|()| out.flush());
            }
        }))?;
        if !quiet {
            println!();
        }
        Ok(answer)
    }

    /// Reads messages line by line; `/image FILE` adds a picture to the next one.
    fn converse(&mut self, mut pictures: Vec<Image>) -> Result<()> {
        let terminal = std::io::stdin().is_terminal();
        if terminal {
            eprintln!("Ask about the pictures. /image FILE adds one to the next message, /quit ends.");
        }
        let mut line = String::new();
        loop {
            if terminal {
                eprint!("> ");
            }
            line.clear();
            if std::io::stdin().lock().read_line(&mut line)? == 0 {
                return Ok(());
            }
            let text = line.trim();
            if let Some(file) = text.strip_prefix("/image ") {
                match picture(Path::new(file.trim())) {
                    Ok(p) => pictures.push(p),
                    Err(e) if terminal => eprintln!("mm1: {e:#}"),
                    Err(e) => return Err(e),
                }
            } else if text == "/quit" {
                return Ok(());
            } else if !text.is_empty() {
                self.say(std::mem::take(&mut pictures), text)?;
            }
        }
    }
}

fn picture(path: &Path) -> Result<Image> {
    let read = regular_file::read(path, MAX_FILE);
    let bytes = read.map_err(|e| InputError::new(format!("--image {}: {e:#}", path.display())))?;
    let image = Image::from(bytes);
    open(&image).map_err(|e| InputError::new(format!("--image {}: {e:#}", path.display())))?;
    Ok(image)
}
