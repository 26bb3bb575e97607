//! Conversations in JSON: LLaVA's and ShareGPT's `conversations` of `from` and `value`, and OpenAI's
//! `messages` of `role` and `content`. Pictures are files of a folder, or `data:` addresses.

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;
use serde_json::Value;

use super::album::Album;
use super::files::{FileLayout, Format};
use super::json;
use crate::chat::{Role, Turn, document};
use crate::document::{Document, Segment};
use crate::index::IndexEntry;
use crate::store::Blob;

/// Where a picture goes in a text, in records that name their pictures beside it.
const PLACEHOLDER: &str = "<image>";

/// JSON lines or an array of conversations.
pub struct Conversations {
    pub(crate) album: Album,
}

/// A record of any of the three layouts; other fields are not read.
#[derive(Deserialize)]
struct StoredConversation {
    #[serde(default)]
    id: Value,
    /// LLaVA: one name; others: a list.
    #[serde(default, alias = "images")]
    image: Names,
    #[serde(alias = "messages")]
    conversations: Vec<ChatMessage>,
}

#[derive(Default, Deserialize)]
#[serde(untagged)]
enum Names {
    One(String),
    Many(Vec<String>),
    #[default]
    None,
}

#[derive(Deserialize)]
struct ChatMessage {
    #[serde(alias = "from")]
    role: String,
    #[serde(alias = "value")]
    content: Content,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Content {
    Text(String),
    Parts(Vec<ContentPart>),
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum ContentPart {
    Text { text: String },
    Image { image: String },
    ImageUrl { image_url: Address },
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Address {
    Plain(String),
    Object { url: String },
}

impl Format for Conversations {
    fn endings(&self) -> &'static [&'static str] {
        json::ENDINGS
    }

    fn layout(&self) -> FileLayout {
        FileLayout::Records("json".to_owned())
    }

    fn scan(&self, file: &Blob, add: &mut dyn FnMut(IndexEntry)) -> Result<()> {
        json::scan(file, add)
    }

    fn read(&self, file: &Blob, record: &IndexEntry) -> Result<Document> {
        let talk: StoredConversation = json::read(file, record)?;
        let id = match &talk.id {
            Value::String(id) => id.clone(),
            Value::Number(id) => id.to_string(),
            _ => record.at.to_string(),
        };
        let turns = self.turns(talk).with_context(|| id.clone())?;
        Ok(document(id, &turns))
    }
}

impl Conversations {
    fn turns(&self, talk: StoredConversation) -> Result<Vec<Turn>> {
        let names = match talk.image {
            Names::One(name) => vec![name],
            Names::Many(names) => names,
            Names::None => Vec::new(),
        };
        let (given, mut left) = (names.len(), names.iter());
        let mut places = 0;
        let mut turns = Vec::new();
        for ChatMessage { role, content } in talk.conversations {
            let mut segments = Vec::new();
            match content {
                // A text may speak of `<image>` where no pictures are: then it is text.
                Content::Text(text) if given == 0 => push(&mut segments, &text),
                Content::Text(text) => {
                    for (i, piece) in text.split(PLACEHOLDER).enumerate() {
                        if i > 0 {
                            places += 1;
                            segments.extend(left.next().map(|name| self.picture(name)).transpose()?);
                        }
                        push(&mut segments, piece);
                    }
                }
                Content::Parts(parts) => {
                    for part in parts {
                        match part {
                            ContentPart::Text { text } => push(&mut segments, &text),
                            ContentPart::Image { image: url }
                            | ContentPart::ImageUrl {
                                image_url: Address::Plain(url) | Address::Object { url },
                            } => {
                                segments.push(self.picture(&url)?);
                            }
                        }
                    }
                }
            }
            turns.push(Turn { role: speaker(&role)?, segments });
        }
        ensure!(places == given, "{given} pictures for {places} places {PLACEHOLDER} in the text");
        let answered = turns.iter().any(|turn| turn.role == Role::Assistant && !turn.segments.is_empty());
        ensure!(answered, "no turn of the assistant");
        Ok(turns)
    }

    fn picture(&self, address: &str) -> Result<Segment> {
        let picture = self.album.address(address)?;
        Ok(Segment::Image(picture.with_context(|| format!("no picture {address}"))?))
    }
}

/// Adds text without the white space at its ends, which the places of pictures leave.
fn push(segments: &mut Vec<Segment>, text: &str) {
    if !text.trim().is_empty() {
        segments.push(Segment::text(text.trim()));
    }
}

fn speaker(name: &str) -> Result<Role> {
    Ok(match name {
        "human" | "user" => Role::User,
        "gpt" | "assistant" | "chatgpt" => Role::Assistant,
        "system" => Role::System,
        other => bail!("the speaker {other:?} is not one of human, user, gpt, assistant, chatgpt, system"),
    })
}
