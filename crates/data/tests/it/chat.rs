//! The chat template: what is learned, and that a prompt is the beginning of the document it leads to.

use std::sync::Arc;

use mm1_data::chat::{Role, Turn, document, prompt};
use mm1_data::document::{Picture, Segment, Special};

fn turns() -> Vec<Turn> {
    let picture = Arc::new(Picture { width: 1, height: 1, rgb: vec![1, 2, 3] });
    vec![
        Turn { role: Role::System, segments: vec![Segment::text("Be brief.")] },
        // `learn` of a user's text must not count: the role decides.
        Turn::user(vec![Segment::Image(picture.into()), Segment::text("What is this?")]),
        Turn::assistant("dog face"),
        Turn::user(vec![Segment::prompt("Where is it?")]),
        Turn { role: Role::Assistant, segments: vec![Segment::prompt("top left")] },
    ]
}

fn token(token: Special, learn: bool) -> Segment {
    Segment::Token { token, learn }
}

#[test]
fn the_template_learns_answers_and_their_ends_only() {
    let segments = document("x", &turns()).segments;
    let picture = segments[3].clone();
    assert!(matches!(picture, Segment::Image(_)));
    assert_eq!(
        segments,
        vec![
            token(Special::System, false),
            Segment::prompt("Be brief."),
            token(Special::User, false),
            picture,
            Segment::prompt("What is this?"),
            token(Special::Assistant, false),
            Segment::text("dog face"),
            token(Special::End, true),
            token(Special::User, false),
            Segment::prompt("Where is it?"),
            token(Special::Assistant, false),
            Segment::text("top left"),
            token(Special::End, true),
        ]
    );
}

#[test]
fn a_document_is_its_prompt_the_answer_and_the_end() {
    let turns = turns();
    for answered in [2, 4] {
        let mut expected = prompt(&turns[..answered]);
        let Segment::Text { text, .. } = &turns[answered].segments[0] else { panic!("an answer is text") };
        expected.extend([Segment::text(text), token(Special::End, true)]);
        assert_eq!(document("x", &turns[..=answered]).segments, expected);
    }
}
