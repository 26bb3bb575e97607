//! [`Talk`]: what a record of a conversation says, in the layouts of LLaVA, ShareGPT, OpenAI and the
//! Cauldron. Read by hand from JSON, so that what is refused is named by its field and value.

use anyhow::{Context as _, Result, bail, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Map, Value};

use super::album::PictureCell;
use crate::chat::Role;

/// Fields of the turns of a record.
pub(super) const TURNS: [&str; 4] = ["conversations", "messages", "conversation", "texts"];
/// Fields of the pictures of a record: one, or a list.
pub(super) const PICTURES: [&str; 2] = ["image", "images"];
/// Fields of what is not read: learned without it, an answer would be made up.
const NOT_READ: [&str; 4] = ["video", "videos", "audio", "audios"];
/// Fields of the picture of a part.
const ADDRESSES: [&str; 4] = ["image", "image_url", "path", "url"];
/// Where a picture goes in a text.
pub(super) const PLACE: &str = "<image>";
/// Letters of a value that a message shows.
const SHOWN: usize = 60;

/// A record.
#[derive(Debug, Default)]
pub(super) struct Talk {
    /// Empty where it has none.
    pub(super) id: String,
    /// Those beside the turns, in the order of their places.
    pub(super) pictures: Vec<PictureCell>,
    pub(super) messages: Vec<Message>,
    /// Whether its layout needs no places, as OpenAI's and the Cauldron's: then pictures come first.
    /// LLaVA's has a place for each.
    pub(super) pictures_first: bool,
}

/// What one speaker says.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) role: Role,
    pub(super) pieces: Vec<MessagePiece>,
}

/// A piece of what is said.
#[derive(Debug)]
pub(super) enum MessagePiece {
    Text(String),
    /// The place of the next picture of the record.
    Place,
    Picture(PictureCell),
}

impl Talk {
    /// The paths and addresses of pictures that come without bytes.
    pub(super) fn paths(&self) -> impl Iterator<Item = &str> {
        let pieces = self.messages.iter().flat_map(|message| &message.pieces);
        let inside = pieces.filter_map(|piece| match piece {
            MessagePiece::Picture(cell) => Some(cell),
            MessagePiece::Text(_) | MessagePiece::Place => None,
        });
        let cells = self.pictures.iter().chain(inside).filter(|cell| cell.bytes.is_none());
        cells.filter_map(|cell| cell.path.as_deref())
    }
}

/// Reads a record: an object with turns, and maybe pictures.
///
/// # Errors
/// The field and the value that are not understood.
pub(super) fn talk(record: &Value) -> Result<Talk> {
    let fields = record.as_object();
    let fields = fields.with_context(|| format!("it is {}, not an object of fields", shown(record)))?;
    for name in NOT_READ {
        ensure!(!is_there(fields.get(name)), "`{name}` is {}: pictures only are read", shown(&fields[name]));
    }
    let there: Vec<&str> = TURNS.into_iter().filter(|name| is_there(fields.get(*name))).collect();
    let [name] = there[..] else {
        match there.as_slice() {
            [] => bail!("no turns in it: `conversations` or `messages` is a list of them"),
            several => bail!("turns in several fields: {}", several.join(", ")),
        }
    };
    let mut talk = turns(name, &fields[name])?;
    for name in PICTURES {
        talk.pictures.extend(pictures(name, fields.get(name).unwrap_or(&Value::Null))?);
    }
    talk.id = match fields.get("id") {
        Some(Value::String(id)) => id.clone(),
        Some(Value::Number(id)) => id.to_string(),
        _ => String::new(),
    };
    Ok(talk)
}

/// Reads the turns of the field `name`: a list, or JSON of one or of a whole record, kept in a text.
///
/// # Errors
/// As [`talk`].
pub(super) fn turns(name: &str, value: &Value) -> Result<Talk> {
    if let Value::String(text) = value {
        let inner: Value = serde_json::from_str(text)
            .ok()
            .filter(|inner: &Value| inner.is_array() || inner.is_object())
            .with_context(|| format!("`{name}` is {}, not a list of turns", shown(value)))?;
        return if inner.is_object() { talk(&inner) } else { turns(name, &inner) };
    }
    let list =
        value.as_array().with_context(|| format!("`{name}` is {}, not a list of turns", shown(value)))?;
    let mut talk = Talk::default();
    for (number, turn) in list.iter().enumerate() {
        let at = format!("{name}[{number}]");
        let fields = turn.as_object().with_context(|| format!("`{at}` is {}, not an object", shown(turn)))?;
        if let (Some(question), Some(answer)) = (fields.get("user"), fields.get("assistant")) {
            talk.pictures_first = true;
            for (role, field, said) in
                [(Role::User, "user", question), (Role::Assistant, "assistant", answer)]
            {
                talk.messages.push(Message { role, pieces: content(&format!("{at}.{field}"), said)? });
            }
            continue;
        }
        let (role, said) = (field(fields, ["role", "from"], &at)?, field(fields, ["content", "value"], &at)?);
        talk.pictures_first |= role.0 == "role";
        let role = speaker(&format!("{at}.{}", role.0), role.1)?;
        talk.messages.push(Message { role, pieces: content(&format!("{at}.{}", said.0), said.1)? });
    }
    Ok(talk)
}

/// Whether a value is a list of turns, or JSON of one in a text.
pub(super) fn are_turns(value: &Value) -> bool {
    match value {
        Value::String(text) if text.trim_start().starts_with(['[', '{']) => {
            serde_json::from_str(text).is_ok_and(|inner: Value| !inner.is_string() && are_turns(&inner))
        }
        Value::Array(list) => list.first().and_then(Value::as_object).is_some_and(is_turn),
        Value::Object(fields) => TURNS.iter().filter_map(|name| fields.get(*name)).any(are_turns),
        _ => false,
    }
}

fn is_turn(fields: &Map<String, Value>) -> bool {
    are_turn_fields(&|name| fields.contains_key(name))
}

/// Whether an object with these fields is a turn, or a question and its answer.
pub(super) fn are_turn_fields(has: &dyn Fn(&str) -> bool) -> bool {
    (has("from") && has("value")) || (has("role") && has("content")) || (has("user") && has("assistant"))
}

/// The pictures of the field `name`: a path, an address, a struct of `bytes` and `path`, or a list of these.
fn pictures(name: &str, value: &Value) -> Result<Vec<PictureCell>> {
    match value {
        Value::Null => Ok(Vec::new()),
        Value::Array(list) => {
            let named = |(number, value)| picture(&format!("{name}[{number}]"), value);
            list.iter().enumerate().filter(|(_, value)| !value.is_null()).map(named).collect()
        }
        one => Ok(vec![picture(name, one)?]),
    }
}

fn content(at: &str, value: &Value) -> Result<Vec<MessagePiece>> {
    match value {
        // An assistant that calls a tool says nothing.
        Value::Null => Ok(Vec::new()),
        Value::String(text) => Ok(pieces(text)),
        Value::Object(_) => part(at, value),
        Value::Array(parts) => {
            let named = |(number, value)| part(&format!("{at}[{number}]"), value);
            let parts = parts.iter().enumerate().map(named).collect::<Result<Vec<_>>>()?;
            Ok(parts.into_iter().flatten().collect())
        }
        other => bail!("`{at}` is {}, not a text or a list of parts", shown(other)),
    }
}

fn part(at: &str, value: &Value) -> Result<Vec<MessagePiece>> {
    let fields = match value {
        Value::String(text) => return Ok(pieces(text)),
        Value::Object(fields) => fields,
        other => bail!("`{at}` is {}, not a part of type text or image", shown(other)),
    };
    // Arrow gives every part the fields of all: those that are null are not there.
    let text = fields.get("text").filter(|text| !text.is_null());
    let address = ADDRESSES.into_iter().find(|name| is_there(fields.get(*name)));
    match fields.get("type").and_then(Value::as_str) {
        Some("text" | "input_text" | "output_text") => said(at, text),
        None if text.is_some() => said(at, text),
        Some("image" | "image_url" | "input_image") => Ok(vec![match address {
            Some(name) => MessagePiece::Picture(picture(&format!("{at}.{name}"), &fields[name])?),
            None => MessagePiece::Place,
        }]),
        None if let Some(name) = address => {
            Ok(vec![MessagePiece::Picture(picture(&format!("{at}.{name}"), &fields[name])?)])
        }
        _ => {
            let kind = fields.get("type").unwrap_or(&Value::Null);
            bail!("`{at}.type` is {}: parts of type text and image are read", shown(kind))
        }
    }
}

fn said(at: &str, text: Option<&Value>) -> Result<Vec<MessagePiece>> {
    match text {
        None => Ok(Vec::new()),
        Some(Value::String(text)) => Ok(pieces(text)),
        Some(other) => bail!("`{at}.text` is {}, not a text", shown(other)),
    }
}

/// A text and the places of pictures in it.
fn pieces(text: &str) -> Vec<MessagePiece> {
    let mut pieces = Vec::new();
    for (number, text) in text.split(PLACE).enumerate() {
        if number > 0 {
            pieces.push(MessagePiece::Place);
        }
        pieces.push(MessagePiece::Text(text.to_owned()));
    }
    pieces
}

fn picture(at: &str, value: &Value) -> Result<PictureCell> {
    let text = |name: &str| value.get(name).and_then(Value::as_str);
    if let Some(path) = value.as_str().or_else(|| text("url")) {
        return Ok(PictureCell { bytes: None, path: Some(path.to_owned()) });
    }
    let bytes = text("bytes").map(|text| BASE64_STANDARD.decode(text.trim()));
    let bytes = bytes.transpose().ok().with_context(|| format!("`{at}.bytes` is not Base64"))?;
    let path = text("path").map(str::to_owned);
    ensure!(
        bytes.is_some() || path.is_some(),
        "`{at}` is {}, not a path, a `data:` address or an object with `url`, `path` or `bytes`",
        shown(value)
    );
    Ok(PictureCell { bytes, path })
}

/// The value of the first of two fields that is there.
fn field<'a>(fields: &'a Map<String, Value>, names: [&'a str; 2], at: &str) -> Result<(&'a str, &'a Value)> {
    let found = names.into_iter().find_map(|name| Some((name, fields.get(name)?)));
    let has = || fields.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
    found.with_context(|| format!("`{at}` has neither `{}` nor `{}`, but: {}", names[0], names[1], has()))
}

fn speaker(at: &str, value: &Value) -> Result<Role> {
    let name = value.as_str().unwrap_or_default().to_lowercase();
    Ok(match name.as_str() {
        "human" | "user" => Role::User,
        "gpt" | "assistant" | "chatgpt" | "bing" | "bard" | "model" => Role::Assistant,
        "system" | "developer" => Role::System,
        _ => bail!("`{at}`: the speaker {} is not one of human, user, gpt, assistant, system", shown(value)),
    })
}

/// Whether a field has anything.
fn is_there(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => false,
        Some(Value::Array(list)) => !list.is_empty(),
        Some(_) => true,
    }
}

/// A value in a message: its beginning, as JSON.
pub(super) fn shown(value: &Value) -> String {
    let text = value.to_string();
    let end = text.floor_char_boundary(SHOWN);
    if end < text.len() { format!("{}…", &text[..end]) } else { text }
}
