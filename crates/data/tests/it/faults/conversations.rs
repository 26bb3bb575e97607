//! A conversation is one: a person begins, turns alternate, no empty answer is learned, places and pictures
//! agree. Parts of messages as OpenAI's interface has them.

use std::fs;

use serde_json::{Value, json};

use super::{case, read, told_apart};
use crate::source::written;

/// Reads one record, written for the test; its texts, or why it is refused, and what is left out.
fn one(record: &Value) -> (Result<String, String>, Vec<(String, u64)>) {
    let folder = tempfile::tempdir().unwrap();
    for i in 0..3 {
        fs::copy(case(&format!("41-place-without-picture/{i}.jpg")), folder.path().join(format!("{i}.jpg")))
            .unwrap();
    }
    let path = written(folder.path(), "talk.jsonl", record.to_string());
    let (mut read, left_out) = read(&path, &[]);
    assert_eq!(read.len(), 1);
    let picture = read.remove(0).map(|text| {
        // The number of a picture follows from its colour: here only that there is one.
        let pieces = text.split('[').map(|piece| piece.split_once(']').map_or(piece, |(_, rest)| rest));
        pieces.collect::<Vec<_>>().join("#")
    });
    (picture, left_out.iter().map(|(reason, count)| (reason.to_owned(), count)).collect())
}

fn turn(from: &str, value: impl Into<Value>) -> Value {
    json!({"from": from, "value": value.into()})
}

#[test]
fn fault_39_an_answer_to_nothing_is_left_out_and_counted() {
    let (talks, left_out) = read(&case("39-gpt-speaks-first/talks.json"), &[]);
    assert_eq!(
        talks,
        [
            Ok("<user>And the colour?<assistant>Red.<end>".to_owned()),
            Ok("<user>Hello?<assistant>Hello.<end>".to_owned())
        ]
    );
    assert_eq!(left_out.iter().collect::<Vec<_>>(), [("an answer to nothing", 1)]);
}

#[test]
fn fault_41_places_and_pictures_agree() {
    let (talks, _) = read(&case("41-place-without-picture/talks.json"), &[]);
    let (whole, reasons) = told_apart(&talks);
    assert_eq!((whole, reasons.len()), (1, 4));
    for reason in &reasons[..3] {
        assert!(reason.contains("0 pictures for 1 place <image>"), "{reason}");
    }
    assert!(reasons[3].contains("\"\" is not inside its folder"), "{}", reasons[3]);
}

#[test]
fn turns_of_one_speaker_are_joined_and_empty_ones_count() {
    for (turns, text, left_out) in [
        (
            json!([turn("human", "a"), turn("human", "b"), turn("gpt", "c"), turn("gpt", "d")]),
            "<user>a\nb<assistant>c\nd<end>",
            vec![("a turn that is joined with the one before it", 2)],
        ),
        (
            json!([turn("human", "a"), turn("gpt", " "), turn("human", "b"), turn("gpt", "c")]),
            "<user>b<assistant>c<end>",
            vec![("a question without an answer", 1)],
        ),
        (
            json!([turn("human", ""), turn("gpt", "a"), turn("human", "b"), turn("gpt", "c")]),
            "<user>b<assistant>c<end>",
            vec![("an answer to nothing", 1), ("an empty turn", 1)],
        ),
        (
            json!([turn("system", "s"), turn("gpt", "a"), turn("human", "b"), turn("gpt", "c")]),
            "<system>s<user>b<assistant>c<end>",
            vec![("an answer to nothing", 1)],
        ),
        (
            json!([turn("human", "a"), turn("gpt", Value::Null), turn("gpt", "c")]),
            "<user>a<assistant>c<end>",
            vec![("an empty turn", 1)],
        ),
    ] {
        let (read, counted) = one(&json!({"conversations": turns}));
        let counted: Vec<(&str, u64)> = counted.iter().map(|(reason, n)| (reason.as_str(), *n)).collect();
        assert_eq!((read.as_deref(), counted), (Ok(text), left_out), "{turns}");
    }
}

#[test]
fn pictures_of_a_question_without_an_answer_stay_for_the_next() {
    let turns = json!([turn("human", "<image>a"), turn("gpt", ""), turn("human", "b"), turn("gpt", "c")]);
    let (read, _) = one(&json!({"image": "0.jpg", "conversations": turns}));
    assert_eq!(read.as_deref(), Ok("<user>#b<assistant>c<end>"));
    let turns = json!([turn("human", "b"), turn("gpt", "c"), turn("human", "<image>a"), turn("gpt", "")]);
    let (read, left_out) = one(&json!({"image": "0.jpg", "conversations": turns}));
    assert_eq!(read.as_deref(), Ok("<user>b<assistant>c<end>"));
    assert!(left_out.contains(&("a picture of a question that is left out".to_owned(), 1)), "{left_out:?}");
}

#[test]
fn a_conversation_of_which_nothing_is_left_says_why() {
    let turns = json!([turn("gpt", "a"), turn("human", "b"), turn("gpt", "")]);
    let (read, _) = one(&json!({"conversations": turns}));
    let reason = read.unwrap_err();
    assert!(
        reason.contains(
            "no turn of the assistant is left (a question without an answer, 1; an answer to nothing, 1)"
        ),
        "{reason}"
    );
}

#[test]
fn fault_44_parts_of_messages_are_read_or_named() {
    let (talks, left_out) = read(&case("44-openai-parts/messages.jsonl"), &[]);
    let (whole, reasons) = told_apart(&talks);
    assert_eq!((whole, reasons.len()), (11, 1), "{reasons:?}");
    assert!(reasons[0].contains("`messages[0].content[0].type` is \"video\": parts of type text and image"));
    let with_picture = talks.iter().flatten().filter(|text| text.contains('[')).count();
    assert_eq!(with_picture, 8, "{talks:?}");
    assert_eq!(left_out.iter().collect::<Vec<_>>(), [("an empty turn", 1)]);
    assert!(talks.iter().flatten().any(|text| text.starts_with("<system>Be brief.<user>What?")));
}

#[test]
fn what_is_not_understood_is_named_by_field_and_value() {
    let parts =
        |part: Value| json!([{"role": "user", "content": [part]}, {"role": "assistant", "content": "x"}]);
    for (record, words) in [
        (
            json!({"messages": parts(json!({"type": "image_url", "image_url": 3}))}),
            "`messages[0].content[0].image_url` is 3",
        ),
        (
            json!({"messages": parts(json!({"type": "text", "text": [1]}))}),
            "`messages[0].content[0].text` is [1]",
        ),
        (
            json!({"messages": parts(json!({"type": "tool_use"}))}),
            "`messages[0].content[0].type` is \"tool_use\"",
        ),
        (json!({"messages": parts(json!({"kind": "text"}))}), "`messages[0].content[0].type` is null"),
        (json!({"messages": parts(json!(7))}), "`messages[0].content[0]` is 7"),
        (json!({"messages": [{"role": "user", "content": 7}]}), "`messages[0].content` is 7"),
        (
            json!({"messages": [{"role": "user", "content": "x"}, {"role": "tool", "content": "y"}]}),
            "`messages[1].role`: the speaker \"tool\"",
        ),
        (
            json!({"messages": [{"role": "user", "content": "x"}, {"name": "y"}]}),
            "`messages[1]` has neither `role` nor `from`, but: name",
        ),
        (json!({"messages": [{"role": "user", "content": "x"}, 3]}), "`messages[1]` is 3"),
        (
            json!({"images": [{"file": "x"}], "messages": parts(json!({"type": "image"}))}),
            "`images[0]` is {\"file\":\"x\"}",
        ),
        (
            json!({"video": "a.mp4", "conversations": [turn("human", "x"), turn("gpt", "y")]}),
            "`video` is \"a.mp4\": pictures only",
        ),
        (
            json!({"conversations": [turn("human", "x")], "messages": [{"role": "user", "content": "x"}]}),
            "turns in several fields: conversations, messages",
        ),
    ] {
        let (read, _) = one(&record);
        let reason = read.unwrap_err();
        assert!(reason.contains(words) && !reason.contains("untagged"), "{record}: {reason}");
    }
}

#[test]
fn pictures_are_paths_addresses_and_bytes() {
    let bytes = fs::read(case("41-place-without-picture/0.jpg")).unwrap();
    let base64 = {
        use base64::Engine as _;
        base64::prelude::BASE64_STANDARD.encode(bytes)
    };
    let data = format!("data:image/jpeg;base64,{base64}");
    for part in [
        json!({"type": "image", "image": {"path": "0.jpg"}}),
        json!({"type": "image", "image": {"bytes": base64, "path": null}}),
        json!({"type": "image_url", "image_url": {"url": data, "detail": "low"}}),
        json!({"type": "input_image", "image_url": data}),
        json!({"image": "0.jpg"}),
    ] {
        let talk = json!([{"role": "User", "content": [part, "What?"]}, {"role": "model", "content": "x"}]);
        let (read, _) = one(&json!({"messages": talk}));
        assert_eq!(read.as_deref(), Ok("<user>#What?<assistant>x<end>"), "{part}");
    }
    // Turns that are kept as text, and pairs of questions and answers, whose pictures come first.
    let text = json!([turn("human", "<image>a"), turn("gpt", "b")]).to_string();
    let (read, _) = one(&json!({"images": ["0.jpg"], "conversations": text}));
    assert_eq!(read.as_deref(), Ok("<user>#a<assistant>b<end>"));
    let pairs = json!([{"user": "a", "assistant": "b", "source": "x"}, {"user": "c", "assistant": "d"}]);
    let (read, _) = one(&json!({"images": ["0.jpg", "1.jpg"], "texts": pairs}));
    assert_eq!(read.as_deref(), Ok("<user>##a<assistant>b<end><user>c<assistant>d<end>"));
}
