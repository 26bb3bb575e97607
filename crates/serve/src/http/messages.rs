//! `messages` of a chat: to turns of a conversation.

use std::collections::BTreeMap;

use mm1_data::chat::{Role, Turn};
use mm1_data::document::{Image, Segment};
use mm1_data::error_line::error_line;
use serde::Deserialize;
use serde_json::Value;

use super::api_error::ApiError;
use super::app::App;
use super::fields::Fields;
use super::pictures;

/// The most messages of a conversation.
const MOST: usize = 2048;

/// A message of a conversation.
#[derive(Debug)]
pub(super) struct Message {
    role: String,
    parts: Vec<Part>,
}

/// A message as OpenAI writes it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenMessage {
    role: String,
    #[serde(default)]
    content: Option<Value>,
    /// Who speaks, among several of one role. No template has a place for it.
    #[serde(default)]
    name: Option<String>,
}

/// Takes the field `messages`; `None` if it is missing.
///
/// # Errors
/// What is no message, by its number.
pub(super) fn take(fields: &mut Fields) -> Result<Option<Vec<Message>>, ApiError> {
    let Some(written): Option<Vec<Value>> = fields.take("messages")? else { return Ok(None) };
    let message = |(i, written)| {
        read(written).map_err(|why| {
            let at = format!("messages[{i}]");
            ApiError::in_field(at.clone(), format!("{at}: {why}"))
        })
    };
    written.into_iter().enumerate().map(message).collect::<Result<_, _>>().map(Some)
}

fn read(mut written: Value) -> Result<Message, String> {
    // An answer of OpenAI has fields beside its content that are null: it comes back as it went.
    if let Some(fields) = written.as_object_mut() {
        fields.retain(|_, value| !value.is_null());
    }
    let line = |e: serde_json::Error| error_line(&e.into());
    let WrittenMessage { role, content, name } = serde_json::from_value(written).map_err(line)?;
    if name.is_some() {
        return Err("name has no place in a prompt: leave it out".to_owned());
    }
    let part = |(i, part)| serde_json::from_value(part).map_err(|e| format!("content[{i}]: {}", line(e)));
    let parts = match content {
        None => return Err("it has no content".to_owned()),
        Some(Value::String(text)) => vec![Part::Text { text }],
        Some(Value::Array(parts)) => parts.into_iter().enumerate().map(part).collect::<Result<_, _>>()?,
        Some(_) => return Err("content has to be a text, or a list of parts".to_owned()),
    };
    Ok(Message { role, parts })
}

#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
enum Part {
    Text { text: String },
    ImageUrl { image_url: PictureAddress },
}

#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "image_url has to be {\"url\": \"data:image/png;base64,…\"}")]
enum PictureAddress {
    Plain(String),
    Object {
        url: String,
        /// How finely it is to be seen: here that follows from the model's tiling.
        #[serde(default, rename = "detail")]
        _detail: Option<String>,
    },
}

impl PictureAddress {
    fn get(&self) -> &str {
        let (Self::Plain(address) | Self::Object { url: address, .. }) = self;
        address
    }
}

/// The first `most` addresses of pictures.
fn addresses(messages: &[Message], most: usize) -> Vec<String> {
    let address = |part: &Part| match part {
        Part::ImageUrl { image_url } => Some(image_url.get().to_owned()),
        Part::Text { .. } => None,
    };
    messages.iter().flat_map(|message| &message.parts).filter_map(address).take(most).collect()
}

/// The pictures of `messages` that are elsewhere, by address.
///
/// # Errors
/// An address that is not asked, or gives no file.
pub(super) async fn fetched(messages: &[Message], app: &App) -> Result<Fetched, ApiError> {
    let read = app.fetcher.read(addresses(messages, app.server.limits.pictures)).await;
    read.map_err(|why| ApiError::invalid("messages", format!("messages: {why}")))
}

/// Pictures that were read from elsewhere, by address.
pub(super) type Fetched = BTreeMap<String, Image>;

/// The turns of a conversation.
///
/// # Errors
/// What can't be part of one, with the message's number.
pub(super) fn turns(messages: Vec<Message>, fetched: &Fetched, app: &App) -> Result<Vec<Turn>, ApiError> {
    if messages.is_empty() || messages.len() > MOST {
        let message = format!("messages: give 1 to {MOST} of them, not {}", messages.len());
        return Err(ApiError::invalid("messages", message));
    }
    let mut pictures = app.server.limits.pictures;
    let turn = |(i, message): (usize, Message)| {
        let at = format!("messages[{i}]");
        turn(message, (app, fetched), &mut pictures)
            .map_err(|why| ApiError::in_field(at.clone(), format!("{at}: {why}")))
    };
    messages.into_iter().enumerate().map(turn).collect()
}

fn turn(message: Message, (app, fetched): (&App, &Fetched), pictures: &mut usize) -> Result<Turn, String> {
    let role = match message.role.as_str() {
        "system" | "developer" => Role::System,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        other => {
            let other: String = other.chars().take(40).collect();
            return Err(format!("the role \"{other}\" is not known: system, user or assistant"));
        }
    };
    let mut segments = Vec::with_capacity(message.parts.len());
    for part in message.parts {
        segments.push(match part {
            Part::Text { text } => Segment::prompt(text),
            Part::ImageUrl { image_url } => {
                if role != Role::User {
                    return Err("pictures are shown by the user alone".to_owned());
                }
                if !app.server.model.sees {
                    return Err("this is a language model alone, which sees no pictures".to_owned());
                }
                *pictures = pictures.checked_sub(1).ok_or_else(|| {
                    format!("more than {} pictures in one request", app.server.limits.pictures)
                })?;
                Segment::Image(match fetched.get(image_url.get()) {
                    Some(image) => pictures::checked(image.clone(), &app.server.limits)?,
                    None => pictures::of_address(image_url.get(), &app.server.limits)?,
                })
            }
        });
    }
    Ok(Turn { role, segments })
}
