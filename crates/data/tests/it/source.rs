//! Sources as a recipe writes them.

use mm1_data::source::{SourceConfig, Split};
use serde_json::{from_value, json};

#[test]
fn a_recipe_names_a_source_by_its_kind() {
    let folder = crate::folder::folder(5);
    let config: SourceConfig = from_value(json!({"kind": "folder", "path": folder.path()})).unwrap();
    assert!(matches!(config, SourceConfig::Folder { test_share: 0.1, .. }));
    let source = config.open("mine", 1, None).unwrap();
    assert_eq!(source.len(Split::Train).unwrap() + source.len(Split::Test).unwrap(), 5);

    let config: SourceConfig = from_value(json!({"kind": "emoji-chat"})).unwrap();
    assert!(config.open("chat", 1, None).err().unwrap().to_string().contains("source `chat`"));
}

#[test]
fn unknown_kinds_and_fields_are_refused() {
    for wrong in [
        json!({"kind": "folders", "path": "x"}),
        json!({"kind": "folder", "path": "x", "share": 0.1}),
        json!({"kind": "emoji-text", "path": "x"}),
        json!({"kind": "folder"}),
        json!({"path": "x"}),
    ] {
        assert!(from_value::<SourceConfig>(wrong.clone()).is_err(), "{wrong}");
    }
}
