//! [`alternate`]: what a conversation is: a person begins, turns alternate, and every answer that is learned
//! answers something.

use crate::chat::{Role, Turn};
use crate::document::Segment;
use crate::left_out::LeftOut;

/// Two turns of one speaker, one after the other.
pub(super) const JOINED: &str = "a turn that is joined with the one before it";
/// An answer before any question.
pub(super) const NO_QUESTION: &str = "an answer to nothing";
/// A question whose answer has no text.
pub(super) const NO_ANSWER: &str = "a question without an answer";
/// A turn without text and pictures.
pub(super) const EMPTY: &str = "an empty turn";
/// A picture of a question that is left out, where no question follows.
pub(super) const PICTURE: &str = "a picture of a question that is left out";

/// The conversation in `turns`; what is not in it is counted.
pub(super) fn alternate(turns: Vec<Turn>, left_out: &mut LeftOut) -> Vec<Turn> {
    let mut kept: Vec<Turn> = Vec::new();
    // Pictures of questions that are left out: later questions may be about them.
    let mut pictures: Vec<Segment> = Vec::new();
    for mut turn in joined(turns, left_out) {
        let asked = kept.iter().rposition(|turn| turn.role != Role::System);
        let asked = asked.filter(|&at| kept[at].role == Role::User);
        match (turn.role, asked) {
            (Role::System, _) if turn.segments.is_empty() => left_out.add(EMPTY, 1),
            (Role::System, _) => kept.push(turn),
            (Role::User, _) if turn.segments.is_empty() => left_out.add(EMPTY, 1),
            (Role::User, _) => {
                turn.segments.splice(..0, pictures.drain(..));
                kept.push(turn);
            }
            (Role::Assistant, None) => left_out.add(if says(&turn) { NO_QUESTION } else { EMPTY }, 1),
            (Role::Assistant, Some(_)) if says(&turn) => kept.push(turn),
            (Role::Assistant, Some(at)) => {
                left_out.add(NO_ANSWER, 1);
                pictures.extend(kept.remove(at).segments.into_iter().filter(is_picture));
            }
        }
    }
    left_out.add(PICTURE, pictures.len() as u64);
    kept
}

/// Each speaker's turns as one, where they follow each other.
fn joined(turns: Vec<Turn>, left_out: &mut LeftOut) -> Vec<Turn> {
    let mut out: Vec<Turn> = Vec::new();
    for turn in turns {
        match out.last_mut().filter(|last| last.role == turn.role) {
            Some(last) => {
                left_out.add(
                    if turn.segments.is_empty() || last.segments.is_empty() { EMPTY } else { JOINED },
                    1,
                );
                join(&mut last.segments, turn.segments);
            }
            None => out.push(turn),
        }
    }
    out
}

/// Adds segments, with a line break where text meets text.
fn join(segments: &mut Vec<Segment>, more: Vec<Segment>) {
    let mut more = more.into_iter().peekable();
    if let (Some(Segment::Text { text, .. }), Some(Segment::Text { .. })) = (segments.last_mut(), more.peek())
        && let Some(Segment::Text { text: next, .. }) = more.next()
    {
        text.push('\n');
        text.push_str(&next);
    }
    segments.extend(more);
}

fn says(turn: &Turn) -> bool {
    turn.segments.iter().any(|segment| matches!(segment, Segment::Text { .. }))
}

fn is_picture(segment: &Segment) -> bool {
    matches!(segment, Segment::Image(_))
}
