//! Conversations: records of JSON, and rows of Parquet with a column of turns. Pictures are files of a
//! folder, `data:` addresses, or bytes beside the turns.

use anyhow::{Context as _, Result, bail, ensure};
use parquet::record::Field;
use serde_json::Value;

use super::album::{Album, PictureCell};
use super::alternate::alternate;
use super::files::ReadDocument;
use super::json::JsonFormat;
use super::messages::{self, Message, MessagePiece, PLACE, Talk};
use super::parquet::{RowFormat, json as as_json, picture};
use crate::chat::{Role, Turn, document};
use crate::document::Segment;
use crate::left_out::LeftOut;
use crate::shard::Provenance;

/// JSON lines or an array of conversations.
pub struct Conversations {
    pub(crate) album: Album,
}

/// Rows of Parquet: a column of turns, and maybe one of pictures.
pub(crate) struct ParquetConversations {
    /// The column of the turns, for messages.
    pub(crate) turns: String,
    pub(crate) talks: Conversations,
}

impl JsonFormat for Conversations {
    fn document(&self, value: &Value, id: String) -> Result<ReadDocument> {
        let mut talk = messages::talk(value).with_context(|| format!("the value at byte {id}"))?;
        if talk.id.is_empty() {
            talk.id = id;
        }
        self.talk(talk)
    }
}

impl RowFormat for ParquetConversations {
    fn document(&self, row: &[Field], id: String, _: u64) -> Result<ReadDocument> {
        let [turns, beside @ ..] = row else { bail!("{id}: no column of turns was asked for") };
        let read = || {
            let mut talk = messages::turns(&self.turns, &as_json(turns)?)?;
            for field in beside {
                talk.pictures.extend(pictures(field)?);
            }
            anyhow::Ok(talk)
        };
        let talk = read().with_context(|| id.clone())?;
        self.talks.talk(Talk { id, ..talk })
    }
}

/// The pictures of a cell: one, a list of them, or none.
fn pictures(field: &Field) -> Result<Vec<PictureCell>> {
    match field {
        Field::Null => Ok(Vec::new()),
        Field::ListInternal(list) => {
            let there = list.elements().iter().filter(|cell| !matches!(cell, Field::Null));
            there.map(picture).collect()
        }
        one => Ok(vec![picture(one)?]),
    }
}

impl Conversations {
    fn talk(&self, talk: Talk) -> Result<ReadDocument> {
        let (id, mut left_out) = (talk.id.clone(), LeftOut::default());
        let turns = self.turns(talk).with_context(|| id.clone())?;
        let turns = alternate(turns, &mut left_out);
        if !turns.iter().any(|turn| turn.role == Role::Assistant) {
            let why: Vec<String> = left_out.iter().map(|(reason, n)| format!("{reason}, {n}")).collect();
            let why = if why.is_empty() { String::new() } else { format!(" is left ({})", why.join("; ")) };
            bail!("{id}: no turn of the assistant{why}");
        }
        Ok(ReadDocument { document: document(id, &turns), origin: Provenance::default(), left_out })
    }

    fn turns(&self, talk: Talk) -> Result<Vec<Turn>> {
        let (given, mut left) = (talk.pictures.len(), talk.pictures.iter());
        let mut places = 0;
        let mut turns = Vec::new();
        for Message { role, pieces } in talk.messages {
            let mut segments = Vec::new();
            for piece in pieces {
                match piece {
                    MessagePiece::Text(text) => push(&mut segments, &text),
                    MessagePiece::Picture(cell) => segments.push(self.picture(&cell)?),
                    MessagePiece::Place => {
                        places += 1;
                        segments.extend(left.next().map(|cell| self.picture(cell)).transpose()?);
                    }
                }
            }
            turns.push(Turn { role, segments });
        }
        let first = turns.iter_mut().find(|turn| turn.role == Role::User);
        if let Some(first) = first.filter(|_| talk.pictures_first && places == 0) {
            let pictures = left.map(|cell| self.picture(cell)).collect::<Result<Vec<_>>>()?;
            first.segments.splice(..0, pictures);
        } else {
            let s = |count: usize| if count == 1 { "" } else { "s" };
            ensure!(
                places == given,
                "{given} picture{} for {places} place{} {PLACE} in the text",
                s(given),
                s(places)
            );
        }
        Ok(turns)
    }

    fn picture(&self, cell: &PictureCell) -> Result<Segment> {
        let name = cell.path.as_deref().unwrap_or_default();
        Ok(Segment::Image(self.album.cell(cell)?.with_context(|| format!("no picture {name}"))?))
    }
}

/// Adds text without the white space at its ends, which the places of pictures leave.
fn push(segments: &mut Vec<Segment>, text: &str) {
    if !text.trim().is_empty() {
        segments.push(Segment::text(text.trim()));
    }
}
