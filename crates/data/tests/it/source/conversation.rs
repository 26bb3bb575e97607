//! Conversations in the three layouts.

use mm1_data::chat::{Turn, document};
use mm1_data::document::Segment;
use mm1_data::source::SourceConfig;
use serde_json::{from_value, json};

use super::{open, refusal, sample, sketches, written};

#[test]
fn llava_and_sharegpt_records_become_turns() {
    let config =
        json!({"kind": "conversations", "path": sample("llava.json"), "pictures": sample("pictures")});
    let sketches = sketches(config.clone());
    assert_eq!(
        sketches[..3],
        [
            "<user>[0]What [is] this, {x}?<assistant>A \"picture\".<end><user>Sure?<assistant>Yes.<end>",
            "<system>Be brief.<user>Is <img> a tag?<assistant>No.<end>",
            "<user>[0]and[1]<assistant>Two.<end>",
        ]
    );
    assert!(sketches[3].contains("short: 1 picture for 0 places <image>"), "{}", sketches[3]);
    let read = open(config).unwrap().stored(1).unwrap();
    assert_eq!(read.id, "mine/llava.json/7");
    let turn = |text: &str| Turn::user(vec![Segment::text(text)]);
    let turns = [turn("Is <img> a tag?"), Turn::assistant("No.")];
    assert_eq!(
        read.segments[2..],
        document("", &turns).segments,
        "the chat template decides what is learned"
    );
}

#[test]
fn openai_messages_take_pictures_of_the_folder_and_of_data_addresses() {
    let config =
        json!({"kind": "conversations", "path": sample("messages.jsonl"), "pictures": sample("pictures")});
    let sketches = sketches(config);
    assert_eq!(
        sketches[..2],
        ["<system>Be kind.<user>What?[4][2]<assistant>That.<end>", "<user>[1]Who?<assistant>Me.<end>"]
    );
    for (sketch, reason) in sketches[2..].iter().zip([
        "https://example.org/a.jpg: pictures are read from a folder or `data:`",
        "no turn of the assistant",
        "the speaker \"robot\"",
    ]) {
        assert!(sketch.contains(reason) && sketch.contains("messages.jsonl"), "{sketch}");
    }
}

#[test]
fn pictures_outside_the_folder_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("inside")).unwrap();
    written(folder.path(), "secret.png", "x");
    #[cfg(unix)]
    std::os::unix::fs::symlink(folder.path().join("secret.png"), folder.path().join("inside/link.png"))
        .unwrap();
    let absolute = folder.path().join("secret.png");
    for (name, reason) in [
        ("../secret.png", "not inside its folder"),
        (absolute.to_str().unwrap(), "not inside its folder"),
        ("link.png", "leaves the folder"),
        ("none.png", "none.png"),
        ("", "not inside its folder"),
        (".", "a folder, not a regular file"),
        ("data:text/html;base64,eA==", "no picture in Base64"),
        ("data:image/png;base64,?", "damaged `data:` picture"),
    ] {
        let record = json!([{"image": name, "conversations": [
            {"from": "human", "value": "<image>"}, {"from": "gpt", "value": "x"}]}]);
        let path = written(folder.path(), "talk.json", record.to_string());
        let config = json!({"kind": "conversations", "path": path, "pictures": folder.path().join("inside")});
        let sketches = sketches(config);
        assert!(sketches[0].contains(reason) && !sketches[0].contains('\n'), "{name}: {}", sketches[0]);
    }
}

#[test]
fn records_of_another_shape_are_refused_one_by_one() {
    let folder = tempfile::tempdir().unwrap();
    let text = "{\"conversations\": 3}\n{}\n[\n{\"conversations\": []}\n";
    let path = written(folder.path(), "talk.jsonl", text);
    for sketch in sketches(json!({"kind": "conversations", "path": path})) {
        assert!(sketch.contains("talk.jsonl") && !sketch.contains('\n'), "{sketch}");
    }
    let missing = json!({"kind": "conversations", "path": folder.path().join("no.json")});
    assert!(refusal(missing).contains("no.json"));
    let config: SourceConfig = from_value(json!({"kind": "conversations", "path": "x"})).unwrap();
    assert!(!config.is_built_in());
}
