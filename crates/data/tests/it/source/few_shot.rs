use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;

use mm1_data::document::{DocumentKind, Segment, Special};
use mm1_data::source::{Source, SourceConfig, Split};
use serde_json::{from_value, json};

/// So many conversations of one question in a file, as a source.
fn conversations(folder: &std::path::Path, number: usize) -> Arc<dyn Source> {
    let talk = |i| {
        json!({"conversations": [{"from": "human", "value": format!("Question {i}?")},
            {"from": "gpt", "value": format!("Answer {i}.")}]})
    };
    let lines: Vec<String> = (0..number).map(|i| talk(i).to_string()).collect();
    let file = folder.join("talk.jsonl");
    fs::write(&file, lines.join("\n")).unwrap();
    let config: SourceConfig = from_value(json!({"kind": "conversations", "path": file})).unwrap();
    config.open("talk", 1, None).unwrap()
}

fn over(inner: Arc<dyn Source>, shots: usize) -> anyhow::Result<Arc<dyn Source>> {
    let config: SourceConfig = from_value(json!({"kind": "few-shot", "of": "talk", "shots": shots})).unwrap();
    config.open_over("demonstrations", 1, inner)
}

#[test]
fn documents_follow_one_another_and_every_answer_is_learned() {
    let dir = tempfile::tempdir().unwrap();
    let inner = conversations(dir.path(), 40);
    let source = over(inner.clone(), 2).unwrap();
    let there = inner.len(Split::Train).unwrap();
    assert_eq!(source.len(Split::Train), Some(there / 3));
    assert_eq!(source.len(Split::Test), inner.len(Split::Test).map(|n| n / 3));
    let mut seen = BTreeSet::new();
    for index in 0..there / 3 {
        let document = source.document(Split::Train, index).unwrap();
        let parts: Vec<_> =
            (3 * index..3 * index + 3).map(|i| inner.document(Split::Train, i).unwrap()).collect();
        assert_eq!(document.kind, DocumentKind::Conversation);
        assert_eq!(document.id, format!("{}+2", parts[0].id));
        assert_eq!(document.segments, parts.iter().flat_map(|p| p.segments.clone()).collect::<Vec<_>>());
        let ends = document
            .segments
            .iter()
            .filter(|s| matches!(s, Segment::Token { token: Special::End, learn: true }));
        assert_eq!(ends.count(), 3);
        let texts: Vec<String> = document.texts().map(str::to_owned).collect();
        assert_eq!(source.texts(Split::Train, index).unwrap(), texts);
        seen.extend(texts);
    }
    // No document is in two.
    assert_eq!(seen.len() as u64, 2 * 3 * (there / 3));
    // The next epoch goes on where this one ended.
    let next = source.document(Split::Train, there / 3).unwrap();
    assert_eq!(next.segments[..5], inner.document(Split::Train, 3 * (there / 3)).unwrap().segments[..5]);
}

#[test]
fn what_can_not_demonstrate_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let inner = conversations(dir.path(), 8);
    let there = inner.len(Split::Train).unwrap();
    for (shots, reason) in [(0, "give 1 to 1000"), (1001, "give 1 to 1000"), (8, "ask for fewer shots")] {
        let error = format!("{:#}", over(inner.clone(), shots).err().unwrap());
        assert!(error.contains("source `demonstrations`") && error.contains(reason), "{error}");
    }
    assert!(over(inner, usize::try_from(there).unwrap() - 1).is_ok());
    let config: SourceConfig = from_value(json!({"kind": "few-shot", "of": "talk"})).unwrap();
    let alone = config.open("demonstrations", 1, None).err().unwrap();
    assert!(alone.to_string().contains("is made of source `talk`"), "{alone}");
    fs::write(dir.path().join("a.txt"), "Text without turns.\n\nMore of it.").unwrap();
    let text: SourceConfig = from_value(json!({"kind": "text", "path": dir.path().join("a.txt")})).unwrap();
    let text = text.open("text", 1, None).unwrap();
    if text.len(Split::Train) > Some(1) {
        let error = over(text, 1).unwrap().document(Split::Train, 0).unwrap_err().to_string();
        assert!(error.contains("is no conversation"), "{error}");
    }
}
