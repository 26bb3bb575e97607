//! The turns of a conversation: [`Turns`].

use anyhow::{Context as _, Result};

use super::check_bare;
use crate::document::{Segment, Special};

/// A turn of a conversation.
pub(super) struct TurnSegments<'a> {
    pub(super) role: &'static str,
    pub(super) segments: Vec<&'a Segment>,
    /// Whether its text is learned.
    pub(super) learn: bool,
}

/// A conversation, and the beginning of a reply where it ends in one.
pub(super) struct Turns<'a> {
    pub(super) turns: Vec<TurnSegments<'a>>,
    /// Whether the assistant's reply follows, and what it begins with.
    pub(super) reply: Option<Vec<&'a Segment>>,
}

impl<'a> Turns<'a> {
    /// # Errors
    /// What is no conversation: text before the first role, a token that is no role.
    pub(super) fn of(segments: &'a [Segment]) -> Result<Self> {
        let mut turns: Vec<TurnSegments<'a>> = Vec::new();
        let mut open = false;
        for segment in segments {
            match segment {
                Segment::Token { token: Special::End, learn } => {
                    if let Some(turn) = turns.last_mut() {
                        turn.learn |= learn;
                    }
                    open = false;
                }
                Segment::Token { token, .. } => {
                    check_bare(*token)?;
                    let role = token.role().context("a token that is no role")?;
                    turns.push(TurnSegments { role, segments: Vec::new(), learn: false });
                    open = *token == Special::Assistant;
                }
                _ => {
                    let turn = turns.last_mut().context("a conversation begins with a role")?;
                    turn.learn |= matches!(segment, Segment::Text { learn: true, .. });
                    turn.segments.push(segment);
                }
            }
        }
        let reply = if open { turns.pop().map(|turn| turn.segments) } else { None };
        Ok(Self { turns, reply })
    }
}
