//! Any format becomes shards of the same documents.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::Result;
use mm1_data::document::Document;
use mm1_data::filter::{FilterRule, FilterSpec};
use mm1_data::import::{ImportOutcome, ImportSpec, import};
use mm1_data::shard::ShardManifest;
use mm1_data::source::BesidePictures;
use mm1_data::source::stored::StoredSource;
use serde_json::json;

use super::{how, opened, png, samples};
use crate::source::{open, written};

fn spec(to: &Path) -> ImportSpec {
    ImportSpec {
        folder: to.to_owned(),
        stem: "shard".into(),
        shard_bytes: 20_000,
        filter: None,
        max_skipped_share: 0.5,
        licence: None,
        attribution: None,
        how: how(2),
    }
}

fn run(sources: &[StoredSource], spec: &ImportSpec) -> Result<ImportOutcome> {
    import(sources, spec, &mut BesidePictures::default(), &mut |_, _| {})
}

fn documents(sources: &[StoredSource]) -> Vec<Document> {
    let all = |source: &StoredSource| (0..source.documents()).map(|i| source.document(i)).collect::<Vec<_>>();
    sources.iter().flat_map(all).filter_map(|read| Some(read.ok()?.document)).collect()
}

/// Every file but the lock, by its name.
fn bytes(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files
        .filter(|path| !path.ends_with(".lock"))
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(path).unwrap()))
        .collect()
}

#[test]
fn documents_of_every_format_come_back_from_the_shards() {
    let folder = tempfile::tempdir().unwrap();
    let root = samples(folder.path());
    png(&root, "pairs/a.png", [20, 20], [1, 2, 3]);
    written(
        &root,
        "pairs/captions.jsonl",
        "{\"path\": \"a.png\", \"caption\": \"one\"}\n{\"path\": \"a.png\", \"caption\": \"two\"}",
    );
    written(&root, "page.html", "<p>x <img src='pictures/0.jpg'> y");
    written(&root, "prose.txt", "some prose");
    let sources = opened(&[root.to_str().unwrap()], None, &[]).unwrap();
    let to = folder.path().join("to");
    let imported = run(&sources, &ImportSpec { licence: Some("MIT".into()), ..spec(&to) }).unwrap();
    let before = documents(&sources);
    assert!(before.len() > 70, "{}", before.len());
    let whole: u64 = imported.shards.iter().map(|shard| shard.documents).sum();
    assert_eq!(whole, before.len() as u64);
    assert_eq!(imported.skipped, sources.iter().map(StoredSource::documents).sum::<u64>() - whole);
    assert!(
        imported.damaged.iter().any(|found| found.reason.contains("missing.jpg")),
        "{:?}",
        imported.damaged
    );

    let again = opened(&[to.to_str().unwrap()], None, &[]).unwrap();
    assert_eq!((again.len(), again[0].kind()), (1, "shards"));
    let after = documents(&again);
    for (before, after) in before.iter().zip(&after) {
        assert_eq!((before.kind, &before.segments), (after.kind, &after.segments), "{}", before.id);
        assert!(after.id == before.id || after.id.starts_with(&format!("{}#", before.id)), "{}", after.id);
    }
    let ids: BTreeSet<&str> = after.iter().map(|document| document.id.as_str()).collect();
    assert_eq!(ids.len(), after.len(), "ids are unique");
    assert!(ids.iter().any(|id| id.ends_with("a.png#2")), "{ids:?}");

    let manifest = ShardManifest::read(&to).unwrap();
    manifest.verify(&to).unwrap();
    assert_eq!(manifest.shards, imported.shards);
    let origins: BTreeSet<&str> = manifest.shards.iter().map(|shard| shard.origin.source.as_str()).collect();
    assert_eq!(origins, sources.iter().map(StoredSource::name).collect(), "a shard has one origin");
    assert!(manifest.shards.iter().all(|shard| shard.origin.licence == "MIT"));

    // Shards of shards keep ids and origins.
    let third = folder.path().join("third");
    run(&again, &ImportSpec { shard_bytes: 1 << 20, ..spec(&third) }).unwrap();
    let third = opened(&[third.to_str().unwrap()], None, &[]).unwrap();
    assert_eq!(documents(&third), after);
    assert_eq!(third[0].document(0).unwrap().origin, again[0].document(0).unwrap().origin);
}

#[test]
fn the_same_input_gives_the_same_bytes_whatever_the_threads() {
    let folder = tempfile::tempdir().unwrap();
    let root = samples(folder.path());
    let outputs = [1, 2, 5].map(|threads| {
        let to = folder.path().join(threads.to_string());
        let sources = opened(&[root.to_str().unwrap()], None, &[]).unwrap();
        let filter = Some(FilterSpec::default());
        run(&sources, &ImportSpec { how: how(threads), filter, ..spec(&to) }).unwrap();
        bytes(&to)
    });
    assert!(outputs[0].len() > 2, "shards and a manifest, nothing else: {:?}", outputs[0].keys());
    assert!(outputs[0].keys().all(|name| name == "manifest.json" || name.ends_with(".tar")));
    assert!(outputs[0] == outputs[1] && outputs[0] == outputs[2]);
}

/// A folder of pictures that break each rule, with captions.
fn rule_breakers(folder: &Path) -> String {
    let pairs = [
        ("good", [32, 32], "a good one"),
        ("small", [10, 32], "too small"),
        ("wide", [41, 20], "too wide"),
        ("my-logo", [32, 30], "a logo"),
        ("again/good", [32, 32], "A good  one"),
        ("twin", [32, 32], "the same picture, another text"),
    ];
    for (number, (name, sides, caption)) in pairs.into_iter().enumerate() {
        // Pictures of one colour are one picture, whatever their sides.
        let green = if sides == [32, 32] { 9 } else { 60 * number as u8 };
        png(folder, &format!("{name}.png"), sides, [9, green, 200]);
        written(folder, &format!("{name}.txt"), caption);
    }
    folder.to_string_lossy().into_owned()
}

#[test]
fn each_rule_counts_what_it_removes() {
    let folder = tempfile::tempdir().unwrap();
    let path = rule_breakers(&folder.path().join("in"));
    let sources = opened(&[&path], None, &[]).unwrap();
    let to = |name: &str| folder.path().join(name);
    let filter: FilterSpec = serde_json::from_value(json!({"names": ["logo"]})).unwrap();
    let counts =
        run(&sources, &ImportSpec { filter: Some(filter), ..spec(&to("a")) }).unwrap().filter.unwrap();
    let expected = BTreeMap::from([
        (FilterRule::Small, 1),
        (FilterRule::Aspect, 1),
        (FilterRule::Name, 1),
        (FilterRule::Duplicate, 1),
    ]);
    assert_eq!((counts.documents, counts.pictures), (2, 2));
    assert_eq!(counts.removed_documents, expected);
    let uses: FilterSpec = serde_json::from_value(json!({"max_uses": 2, "names": []})).unwrap();
    let counts = run(&sources, &ImportSpec { filter: Some(uses), ..spec(&to("b")) }).unwrap().filter.unwrap();
    assert_eq!(counts.removed_documents.get(&FilterRule::Uses), Some(&3), "{counts:?}");
    let all = run(&sources, &spec(&to("c"))).unwrap();
    assert_eq!((all.shards[0].documents, all.filter), (6, None));
}

#[test]
fn too_much_damage_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = rule_breakers(&folder.path().join("in"));
    // The header is whole, the pixels have begun.
    let whole = fs::read(Path::new(&path).join("good.png")).unwrap();
    fs::write(Path::new(&path).join("twin.png"), &whole[..45]).unwrap();
    let sources = opened(&[&path], None, &[]).unwrap();
    let to = folder.path().join("to");
    let error = run(&sources, &ImportSpec { max_skipped_share: 0.1, ..spec(&to) }).unwrap_err().to_string();
    assert!(error.starts_with("1 of 6 documents are damaged") && error.contains("twin.png"), "{error}");
    let files: Vec<_> = fs::read_dir(&to).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(files, [".lock"], "nothing but the lock");
    let imported = run(&sources, &ImportSpec { max_skipped_share: 0.17, ..spec(&to) }).unwrap();
    assert_eq!((imported.skipped, imported.shards[0].documents), (1, 5));
    assert!(imported.damaged[0].file.ends_with("twin.png") && imported.damaged[0].reason.contains("damaged"));
}

#[test]
fn an_import_that_was_interrupted_begins_anew_and_a_finished_one_stays() {
    let folder = tempfile::tempdir().unwrap();
    let path = rule_breakers(&folder.path().join("in"));
    let sources = opened(&[&path], None, &[]).unwrap();
    let (whole, to) = (folder.path().join("whole"), folder.path().join("to"));
    run(&sources, &spec(&whole)).unwrap();
    // As a kill leaves it: a part, a whole shard, and one that was moved.
    let parts = to.join(".shard.part");
    fs::create_dir_all(&parts).unwrap();
    for name in
        [parts.join("shard-000001.tar.part"), parts.join("shard-000002.tar"), to.join("shard-000000.tar")]
    {
        fs::write(name, "half").unwrap();
    }
    fs::write(to.join("shard-extra.tar"), "mine").unwrap();
    run(&sources, &spec(&to)).unwrap();
    assert_eq!(fs::read(to.join("shard-extra.tar")).unwrap(), b"mine");
    fs::remove_file(to.join("shard-extra.tar")).unwrap();
    assert!(bytes(&to) == bytes(&whole) && !parts.exists());
    let error = run(&sources, &spec(&to)).unwrap_err().to_string();
    assert!(error.contains("shard-000000.tar exists") && error.contains("--name"), "{error}");
    let more = run(&sources, &ImportSpec { stem: "more".into(), ..spec(&to) }).unwrap();
    assert_eq!(ShardManifest::read(&to).unwrap().shards.len(), more.shards.len() * 2);
    for (wrong, word) in [
        (ImportSpec { stem: "../x".into(), ..spec(&to) }, "--name"),
        (ImportSpec { max_skipped_share: 2.0, ..spec(&to) }, "max_skipped_share"),
        (ImportSpec { shard_bytes: 0, ..spec(&to) }, "0 bytes"),
    ] {
        assert!(run(&sources, &wrong).unwrap_err().to_string().contains(word));
    }
}

#[test]
fn the_split_of_a_shard_outlives_its_size() {
    let folder = tempfile::tempdir().unwrap();
    let text: String = (0..200)
        .map(|i| format!("{{\"text\": \"text {} {}\"}}\n", i, if i % 3 == 0 { "" } else { "x" }))
        .collect();
    let path = written(folder.path(), "t.jsonl", text);
    let sources = opened(&[&path], None, &[]).unwrap();
    let held_out = |name: &str, shard_bytes: u64, filter: Option<FilterSpec>| -> BTreeSet<String> {
        use mm1_data::source::{Source as _, Split};
        let to = folder.path().join(name);
        run(&sources, &ImportSpec { shard_bytes, filter, ..spec(&to) }).unwrap();
        let files = open(json!({"kind": "shards", "path": to})).unwrap();
        let id = |i| files.document(Split::Test, i).unwrap().id;
        (0..files.len(Split::Test).unwrap())
            .map(|i| id(i).split_once(".tar/").unwrap().1.to_owned())
            .collect()
    };
    let one = held_out("one", 1 << 20, None);
    assert!((5..40).contains(&one.len()), "{}", one.len());
    assert_eq!(one, held_out("many", 4000, None), "shards of another size");
}

/// Several at a time into one folder: each writes all that it says, or is refused.
#[test]
fn imports_into_one_folder_at_the_same_time_lose_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let lines = "{\"text\": \"some words of a line\"}\n".repeat(300);
    let root = written(folder.path(), "in/lines.jsonl", lines);
    for (round, together) in [2, 8, 2, 8].into_iter().enumerate() {
        let to = folder.path().join(format!("to-{round}"));
        let same = round % 2 == 0;
        let start = std::sync::Barrier::new(together);
        let done: Vec<Result<ImportOutcome>> = std::thread::scope(|scope| {
            let one = |i: usize| {
                let (root, to, start) = (&root, &to, &start);
                scope.spawn(move || {
                    let sources = opened(&[root.as_str()], None, &[]).unwrap();
                    let stem = if same { "shard".to_owned() } else { format!("part-{i}") };
                    start.wait();
                    run(&sources, &ImportSpec { stem, ..spec(to) })
                })
            };
            let threads: Vec<_> = (0..together).map(one).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let mut promised = 0;
        for outcome in &done {
            match outcome {
                Ok(outcome) => promised += outcome.shards.iter().map(|shard| shard.documents).sum::<u64>(),
                Err(error) => {
                    let error = format!("{error:#}");
                    assert!(
                        error.contains("another mm1 is writing there") || error.contains("exists"),
                        "{error}"
                    );
                }
            }
        }
        assert!(promised >= 300, "nobody has written");
        let manifest = ShardManifest::read(&to).unwrap();
        manifest.verify(&to).unwrap();
        assert_eq!(manifest.shards.iter().map(|shard| shard.documents).sum::<u64>(), promised);
        assert_eq!(
            bytes(&to).len(),
            manifest.shards.len() + 1,
            "every shard is listed, nothing else is there"
        );
    }
}
