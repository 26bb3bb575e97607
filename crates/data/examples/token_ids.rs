//! What a tokenizer makes of texts and conversations: for comparison with other programs.
//!
//!     token_ids FOLDER < LINES
//!
//! FOLDER has a `tokenizer.json`, and perhaps a chat template. Each line of standard input is a JSON
//! object: a `text`, or `messages` with `role` and `content`, and `reply` where the assistant's turn
//! follows. Printed is, for each, the `ids`, for each whether it is learned (`learn`), and their `text`;
//! or an `error`.

use std::io::{BufRead as _, Write as _};
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use mm1_data::chat::{self, Role, Turn};
use mm1_data::document::Segment;
use mm1_data::layout::Laid;
use mm1_data::tokenizer::Tokenizer;
use serde::Deserialize;
use serde_json::json;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    text: Option<String>,
    #[serde(default)]
    messages: Vec<Message>,
    #[serde(default)]
    reply: bool,
}

#[derive(Deserialize)]
struct Message {
    role: String,
    content: String,
}

fn main() -> Result<()> {
    let folder = PathBuf::from(std::env::args().nth(1).context("token_ids FOLDER")?);
    let tokenizer = Tokenizer::of_run(&folder)?;
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for line in std::io::stdin().lock().lines() {
        let line: Line = serde_json::from_str(&line?)?;
        let segments = segments(&line)?;
        let laid = match tokenizer.lay_out(&segments) {
            Ok(laid) => laid,
            Err(error) => {
                writeln!(out, "{}", json!({"error": format!("{error:#}")}))?;
                continue;
            }
        };
        let (mut all, mut learned) = (Vec::new(), Vec::new());
        for laid in laid {
            if let Laid::Tokens { ids, learn } = laid {
                learned.extend(ids.iter().map(|_| learn));
                all.extend(ids);
            }
        }
        writeln!(out, "{}", json!({"text": tokenizer.decode(&all), "ids": all, "learn": learned}))?;
    }
    Ok(())
}

fn segments(line: &Line) -> Result<Vec<Segment>> {
    if let Some(text) = &line.text {
        return Ok(vec![Segment::text(text)]);
    }
    let mut turns = Vec::new();
    for message in &line.messages {
        let role = match message.role.as_str() {
            "system" => Role::System,
            "user" => Role::User,
            "assistant" => Role::Assistant,
            other => anyhow::bail!("no role: {other}"),
        };
        turns.push(Turn { role, segments: vec![Segment::prompt(&message.content)] });
    }
    Ok(if line.reply { chat::prompt(&turns) } else { chat::document("", &turns).segments })
}
