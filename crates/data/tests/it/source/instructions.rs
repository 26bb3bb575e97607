use std::fs;

use mm1_data::document::{DocumentKind, Segment, Special};
use mm1_data::image::DecodeBudget;
use mm1_data::source::{SourceConfig, Split};
use serde_json::{from_value, json};

/// Six pictures of one pixel with captions, as a source.
fn pictures(folder: &std::path::Path) -> std::sync::Arc<dyn mm1_data::source::Source> {
    for number in 0..6 {
        let picture = image::RgbImage::from_pixel(1, 1, image::Rgb([number * 40, 0, 0]));
        picture.save(folder.join(format!("{number}.png"))).unwrap();
        fs::write(folder.join(format!("{number}.txt")), format!("Picture {number}.")).unwrap();
    }
    let config: SourceConfig = from_value(json!({"kind": "folder", "path": folder})).unwrap();
    config.open("pictures", 1, None).unwrap()
}

#[test]
fn captions_become_answers_and_only_they_are_learned() {
    let dir = tempfile::tempdir().unwrap();
    let inner = pictures(dir.path());
    let config: SourceConfig =
        from_value(json!({"kind": "instructions", "of": "pictures", "requests": ["One?", "Two?"]})).unwrap();
    let source = config.open_over("instructions", 1, inner.clone()).unwrap();
    assert_eq!(source.len(Split::Train), inner.len(Split::Train));
    assert_eq!(source.len(Split::Test), inner.len(Split::Test));
    let mut requests = std::collections::BTreeSet::new();
    for index in 0..20 {
        let (document, captioned) =
            (source.document(Split::Train, index).unwrap(), inner.document(Split::Train, index).unwrap());
        assert_eq!((document.kind, &document.id), (DocumentKind::Conversation, &captioned.id));
        let caption = captioned.texts().collect::<String>();
        let Segment::Text { text: request, .. } = &document.segments[2] else { panic!("{document:?}") };
        let token = |token, learn| Segment::Token { token, learn };
        assert_eq!(
            document.segments,
            [
                token(Special::User, false),
                captioned.segments[0].clone(),
                Segment::prompt(request.clone()),
                token(Special::Assistant, false),
                Segment::text(caption.clone()),
                token(Special::End, true),
            ]
        );
        assert_eq!(source.texts(Split::Train, index).unwrap(), [request.clone(), caption]);
        requests.insert(request.clone());
    }
    assert_eq!(requests.into_iter().collect::<Vec<_>>(), ["One?", "Two?"]);
    // What is asked in tests is the other source's.
    let (item, same) = (
        source.question(Split::Test, 0, &DecodeBudget::default()).unwrap(),
        inner.question(Split::Test, 0, &DecodeBudget::default()).unwrap(),
    );
    assert_eq!(item, same);
}

#[test]
fn what_can_not_be_made_instructions_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let inner = pictures(dir.path());
    let config = |requests: serde_json::Value| -> SourceConfig {
        from_value(json!({"kind": "instructions", "of": "pictures", "requests": requests})).unwrap()
    };
    for (requests, reason) in [(json!([]), "give at least one"), (json!([" "]), "one is empty")] {
        let error = config(requests).open_over("i", 1, inner.clone()).err().unwrap();
        assert!(format!("{error:#}").contains(reason), "{error:#}");
    }
    let alone = config(json!(["Say."])).open("i", 1, None).err().unwrap();
    assert!(alone.to_string().contains("is made of source `pictures`"), "{alone}");
    let over = config(json!(["Say."])).open_over("i", 1, inner).unwrap();
    let twice = config(json!(["Say."])).open_over("j", 1, over).unwrap();
    let error = twice.document(Split::Train, 0).unwrap_err().to_string();
    assert!(error.contains("no picture with a caption"), "{error}");
}
