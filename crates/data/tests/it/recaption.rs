//! Captioned sets written anew, stopped anywhere.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::Arc;

use mm1_data::document::{Document, DocumentKind, Image, Segment};
use mm1_data::loader::SkippedSample;
use mm1_data::recaption::{Recaption, RecaptionSpec, Refused, caption, finished, open_written};
use mm1_data::shard::{Provenance, ShardManifest};
use mm1_data::source::first::FirstDocuments;
use mm1_data::source::{Source, Split};
use serde_json::{Value, json};

use crate::source::{open, store, stored};
use crate::{document, end, testdata};

const DOCUMENTS: u64 = 23;

fn spec(edits: &[(&str, &str)]) -> RecaptionSpec {
    let settings = edits.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    RecaptionSpec {
        settings,
        shard_bytes: 6000,
        max_skipped_share: 0.4,
        share_setting: "--max-skipped-share",
        keep_alt_text: true,
        may_be_empty: false,
    }
}

fn begun(folder: &Path) -> Recaption {
    Recaption::open(folder, spec(&[("model", "a")])).unwrap()
}

/// A picture with a caption; every fifth is damaged.
fn captioned(number: u64) -> Option<Document> {
    let jpeg = fs::read(testdata("image/rgb.jpg")).unwrap();
    let picture = Segment::Image(Image::named(&format!("{number}.jpg"), jpeg));
    let text = Segment::text(format!("Number {number}"));
    (number % 5 != 3).then(|| Document {
        kind: DocumentKind::Captioned,
        ..document(&format!("set/{number}"), vec![picture, text, end()])
    })
}

/// The first documents come from elsewhere.
fn origin(number: u64) -> Provenance {
    Provenance { source: if number < 5 { "a set" } else { "another" }.into(), ..Provenance::default() }
}

/// Goes on up to document `until`.
fn go_on(writing: &mut Recaption, until: u64) {
    while writing.next() < until {
        let number = writing.next();
        match captioned(number) {
            Some(document) => {
                writing.write(&document, origin(number), &format!("A photo of thing {number}.")).unwrap();
            }
            None => writing.skip(SkippedSample { id: number.to_string(), reason: "damaged".into() }).unwrap(),
        }
    }
}

/// Every file by its name; the lock has nothing in it.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    entries.map(|e| (e.file_name().into_string().unwrap(), fs::read(e.path()).unwrap())).collect()
}

#[test]
fn captions_are_written_beside_their_originals() {
    let folder = tempfile::tempdir().unwrap();
    let mut writing = begun(folder.path());
    go_on(&mut writing, DOCUMENTS);
    writing.finish().unwrap();
    let tally = *writing.tally();
    assert_eq!((tally.captions, tally.skipped, tally.gained), (19, 4, 19));
    assert_eq!((tally.words_before, tally.words_after), (19 * 2, 19 * 7));
    assert_eq!(writing.skipped()[1], SkippedSample { id: "8".into(), reason: "damaged".into() });
    let manifest = ShardManifest::read(folder.path()).unwrap();
    manifest.verify(folder.path()).unwrap();
    assert!(manifest.shards.len() > 3, "{manifest:?}");

    let read = open(json!({"kind": "shards", "path": folder.path()})).unwrap();
    let documents: Vec<Document> = stored(&read).into_iter().map(Result::unwrap).collect();
    assert_eq!(documents.len(), 19);
    for (document, number) in documents.iter().zip((0..DOCUMENTS).filter(|n| n % 5 != 3)) {
        assert_eq!(document.kind, DocumentKind::Synthetic);
        let text = format!("Number {number}. A photo of thing {number}.");
        assert_eq!(document.texts().collect::<Vec<_>>(), [text.as_str()]);
        let original = captioned(number).unwrap();
        assert_eq!(document.pictures().next(), original.pictures().next(), "the same bytes");
    }
    let mut archive = tar::Archive::new(fs::File::open(folder.path().join("synthetic-000000.tar")).unwrap());
    let first = archive.entries().unwrap().next().unwrap().unwrap();
    let json: Value = serde_json::from_reader(first).unwrap();
    assert_eq!((&json["original"], &json["source"]), (&"Number 0".into(), &"a set".into()));
}

#[test]
fn stopped_anywhere_it_writes_the_same_bytes() {
    let whole = tempfile::tempdir().unwrap();
    let mut writing = begun(whole.path());
    go_on(&mut writing, DOCUMENTS);
    writing.finish().unwrap();
    drop(writing);
    for stop in 0..=DOCUMENTS {
        let folder = tempfile::tempdir().unwrap();
        let mut writing = begun(folder.path());
        go_on(&mut writing, stop);
        // What a killed process leaves: the open shard is never closed.
        drop(writing);
        // A shard that was closed just before the kill, and not noted.
        fs::write(folder.path().join("synthetic-000009.tar"), "cut").unwrap();
        let mut writing = begun(folder.path());
        assert!(writing.next() <= stop);
        assert!(stop < 6 || writing.next() > 0, "whole shards stay: {stop}");
        go_on(&mut writing, DOCUMENTS);
        writing.finish().unwrap();
        drop(writing);
        assert_eq!(files(folder.path()), files(whole.path()), "stopped after {stop}");
        let again = begun(folder.path());
        assert!(again.is_done());
        assert_eq!(again.tally().captions, 19);
    }
}

#[test]
fn other_settings_and_other_writers_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let refusal =
        |edits: &[(&str, &str)]| format!("{:#}", Recaption::open(folder.path(), spec(edits)).err().unwrap());
    let writing = begun(folder.path());
    assert!(refusal(&[("model", "a")]).contains("another mm1 is writing"));
    drop(writing);
    let error = refusal(&[("model", "b")]);
    assert!(error.contains("(model: a, now b)") && !error.contains('\n'), "{error}");
    assert!(refusal(&[("model", "a"), ("limit", "3")]).contains("(limit: absent, now 3)"));
    // A shard that was changed after it was noted.
    let mut writing = begun(folder.path());
    go_on(&mut writing, DOCUMENTS);
    drop(writing);
    fs::write(folder.path().join("synthetic-000001.tar"), "cut").unwrap();
    assert!(refusal(&[("model", "a")]).contains("synthetic-000001.tar"));
    fs::write(folder.path().join(".recaption.json"), "{").unwrap();
    assert!(refusal(&[("model", "a")]).contains("recaption.json: damaged"));
    // Shards of the same name that are not its own.
    let other = tempfile::tempdir().unwrap();
    fs::write(other.path().join("synthetic-000000.tar"), "mine").unwrap();
    assert!(Recaption::open(other.path(), spec(&[])).err().unwrap().to_string().contains("exists"));
    assert_eq!(fs::read(other.path().join("synthetic-000000.tar")).unwrap(), b"mine");
}

#[test]
fn every_document_is_in_a_count() {
    let folder = tempfile::tempdir().unwrap();
    let refusing = |writing: &mut Recaption, until: u64| {
        while writing.next() < until {
            let number = writing.next();
            match (captioned(number), number % 4) {
                (Some(_), 0) => writing.refuse(Refused::Short),
                (Some(_), 1) => writing.refuse(Refused::Cut),
                _ => go_on(writing, number + 1),
            }
        }
    };
    let mut writing = begun(folder.path());
    refusing(&mut writing, DOCUMENTS);
    writing.finish().unwrap();
    let tally = *writing.tally();
    // 3, 8, 13 and 18 are damaged; of the others 0, 4, 12, 16, 20 and 1, 5, 9, 17, 21 are refused.
    assert_eq!((tally.captions, tally.skipped, tally.short, tally.cut), (9, 4, 5, 5));
    assert_eq!(tally.read(), DOCUMENTS);
    drop(writing);
    assert_eq!(finished(folder.path()).unwrap(), Some(tally));
    // Interrupted anywhere, sums and files are the same.
    for stop in 0..DOCUMENTS {
        let stopped = tempfile::tempdir().unwrap();
        let mut writing = begun(stopped.path());
        refusing(&mut writing, stop);
        drop(writing);
        assert_eq!(finished(stopped.path()).unwrap(), None);
        let mut writing = begun(stopped.path());
        refusing(&mut writing, DOCUMENTS);
        writing.finish().unwrap();
        assert_eq!(*writing.tally(), tally, "{stop}");
        drop(writing);
        assert_eq!(files(stopped.path()), files(folder.path()), "{stop}");
    }
    // Nothing is left.
    let empty = tempfile::tempdir().unwrap();
    let mut writing = begun(empty.path());
    writing.refuse(Refused::Cut);
    let error = writing.finish().unwrap_err().to_string();
    assert!(
        error.contains("0 descriptions were too short (min_words), and 1 did not end (max_tokens)"),
        "{error}"
    );
}

#[test]
fn a_description_may_stand_alone() {
    let folder = tempfile::tempdir().unwrap();
    let spec = RecaptionSpec { keep_alt_text: false, ..spec(&[]) };
    let mut writing = Recaption::open(folder.path(), spec).unwrap();
    writing.write(&captioned(0).unwrap(), origin(0), "A photo of\n a thing").unwrap();
    writing.finish().unwrap();
    let read = open(json!({"kind": "shards", "path": folder.path()})).unwrap();
    let documents: Vec<Document> = stored(&read).into_iter().map(Result::unwrap).collect();
    assert_eq!(documents[0].texts().collect::<Vec<_>>(), ["A photo of a thing"]);
    assert_eq!(writing.tally().gained, 1);
}

#[test]
fn what_was_written_is_a_source() {
    let folder = tempfile::tempdir().unwrap();
    let (_cache, store) = store();
    let source = || open_written(folder.path(), "rewritten", 3, &store);
    assert!(source().unwrap().is_none());
    let mut writing = begun(folder.path());
    go_on(&mut writing, DOCUMENTS);
    assert!(source().unwrap().is_none(), "it is not finished");
    writing.finish().unwrap();
    let files = source().unwrap().unwrap();
    assert_eq!((files.len(Split::Train), files.len(Split::Test)), (Some(19), Some(0)));
    let texts: BTreeSet<String> = (0..19).flat_map(|i| files.texts(Split::Train, i).unwrap()).collect();
    assert_eq!(texts.len(), 19);
    // A shard that was cut, or is gone.
    let shard = folder.path().join("synthetic-000001.tar");
    let bytes = fs::read(&shard).unwrap();
    fs::write(&shard, &bytes[..bytes.len() / 2]).unwrap();
    let error = format!("{:#}", source().err().unwrap());
    assert!(error.contains("synthetic-000001.tar") && error.contains("bytes of"), "{error}");
    fs::remove_file(&shard).unwrap();
    assert!(format!("{:#}", source().err().unwrap()).contains("synthetic-000001.tar"));
}

#[test]
fn the_first_documents_of_a_source_come_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut writing = begun(folder.path());
    go_on(&mut writing, DOCUMENTS);
    writing.finish().unwrap();
    let (_cache, store) = store();
    let all: Arc<dyn Source> = Arc::new(open_written(folder.path(), "all", 3, &store).unwrap().unwrap());
    let first = FirstDocuments::new(all.clone(), 5).unwrap();
    assert_eq!((first.len(Split::Train), first.len(Split::Test)), (Some(5), Some(0)));
    for index in [0, 4, 5, 14] {
        let document = first.document(Split::Train, index).unwrap();
        assert_eq!(document, all.document(Split::Train, index % 5).unwrap(), "{index}");
        assert_eq!(first.texts(Split::Train, index).unwrap(), all.texts(Split::Train, index % 5).unwrap());
    }
    assert!(first.document(Split::Test, 0).is_err());
    let refused = |count| FirstDocuments::new(all.clone(), count).err().unwrap().to_string();
    assert!(refused(20).contains("has 19 for training"), "{}", refused(20));
    assert!(refused(0).contains("1 at least"));
}

#[test]
fn too_many_damaged_documents_stop_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut writing = begun(folder.path());
    let mut skip = |n: u64| writing.skip(SkippedSample { id: n.to_string(), reason: "no picture".into() });
    for n in 0..19 {
        skip(n).unwrap();
    }
    let error = skip(19).unwrap_err().to_string();
    assert!(error.contains("20 of the first 20") && error.contains("19: no picture"), "{error}");
    let empty = tempfile::tempdir().unwrap();
    assert!(begun(empty.path()).finish().unwrap_err().to_string().contains("no document"));
}

#[test]
fn only_a_picture_with_a_text_is_captioned() {
    let whole = captioned(1).unwrap();
    assert_eq!(caption(&whole).unwrap().1, "Number 1");
    let reason = |document: Document| caption(&document).unwrap_err().to_string();
    assert!(reason(Document { kind: DocumentKind::Interleaved, ..whole.clone() }).contains("Interleaved"));
    let two = [whole.segments.clone(), whole.segments.clone()].concat();
    assert!(reason(Document { segments: two, ..whole.clone() }).contains("2 pictures"));
    assert!(
        reason(Document { segments: whole.segments[1..].to_vec(), ..whole.clone() }).contains("0 pictures")
    );
    assert!(reason(Document { segments: whole.segments[..1].to_vec(), ..whole }).contains("0 words"));
}
