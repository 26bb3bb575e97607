//! Our own shards: what is written is what is read, the same bytes each time.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use mm1_data::document::{Document, DocumentKind, Image, Picture, Segment, Special};
use mm1_data::image::{ImageSpec, prepare};
use mm1_data::shard::{Provenance, ShardManifest, ShardWriter};
use serde_json::json;

use super::{open, refusal, stored, written};
use crate::{end, plain, testdata};

fn origin() -> Provenance {
    Provenance { source: "a test".into(), licence: "MIT".into(), attribution: "nobody".into() }
}

/// Documents of every kind, with every segment.
fn documents() -> Vec<Document> {
    let jpeg =
        || Segment::Image(Image::named("https://x.org/a.jpg", fs::read(testdata("image/rgb.jpg")).unwrap()));
    let odd = || Segment::Image(Image::from(b"no picture".to_vec()));
    let document = |id: &str, kind, segments| Document { id: id.to_owned(), kind, segments };
    let token = |token| Segment::Token { token, learn: false };
    vec![
        document("a/b.c", DocumentKind::Captioned, vec![jpeg(), Segment::text("two words"), end()]),
        document(
            "ü",
            DocumentKind::Interleaved,
            vec![Segment::text("x\n"), jpeg(), jpeg(), Segment::text(" <image>"), end()],
        ),
        document("", DocumentKind::TextOnly, vec![Segment::text("three little words"), end()]),
        document(
            "chat",
            DocumentKind::Conversation,
            vec![token(Special::User), Segment::prompt("?"), Segment::text("!"), end()],
        ),
        document("odd", DocumentKind::Synthetic, vec![odd(), Segment::text("x")]),
    ]
}

fn write(folder: &Path, bytes: u64) -> ShardManifest {
    let mut writer = ShardWriter::new(folder, "mixed", origin(), bytes).unwrap();
    for document in documents() {
        writer.push(&document).unwrap();
    }
    writer.finish().unwrap()
}

#[test]
fn documents_of_every_kind_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let manifest = write(folder.path(), 3000);
    assert_eq!(manifest.shards.len(), 3, "closed at 3000 bytes: {manifest:?}");
    let sums = manifest.shards.iter().fold([0; 3], |[documents, images, words], shard| {
        [documents + shard.documents, images + shard.images, words + shard.words]
    });
    assert_eq!(sums, [5, 4, 2 + 2 + 3 + 2 + 1]);
    assert_eq!(manifest.shards[0].origin, origin());
    let files = open(json!({"kind": "shards", "path": folder.path()})).unwrap();
    for (read, wrote) in stored(&files).into_iter().map(Result::unwrap).zip(documents()) {
        assert_eq!((read.kind, &read.segments), (wrote.kind, &wrote.segments));
        assert!(read.id.starts_with("mine/mixed-00000") && read.id.ends_with(&wrote.id), "{}", read.id);
    }
}

#[test]
fn the_same_documents_give_the_same_bytes_and_a_manifest_that_finds_damage() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let manifests = folders.each_ref().map(|folder| write(folder.path(), 1 << 20));
    assert_eq!(manifests[0], manifests[1]);
    let shard = folders[0].path().join(&manifests[0].shards[0].file);
    assert_eq!(fs::read(&shard).unwrap(), fs::read(folders[1].path().join("mixed-000000.tar")).unwrap());
    let manifest = ShardManifest::read(folders[0].path()).unwrap();
    manifest.verify(folders[0].path()).unwrap();
    let mut bytes = fs::read(&shard).unwrap();
    bytes[600] ^= 1;
    fs::write(&shard, bytes).unwrap();
    assert!(manifest.verify(folders[0].path()).unwrap_err().to_string().contains("mixed-000000.tar"));
    let again = ShardWriter::new(folders[0].path(), "mixed", origin(), 1).err().unwrap().to_string();
    assert!(again.contains("exists"), "{again}");
    assert!(ShardWriter::new(folders[0].path(), "../out", origin(), 1).is_err());
}

#[test]
fn drawn_pictures_keep_their_pixels() {
    let folder = tempfile::tempdir().unwrap();
    let picture: Arc<Picture> = plain(8, 8, [1, 2, 250]);
    let segments = vec![Segment::Image(picture.clone().into()), Segment::text("x")];
    let mut writer = ShardWriter::new(folder.path(), "drawn", origin(), 1).unwrap();
    writer.push(&Document { id: "d".into(), kind: DocumentKind::Captioned, segments }).unwrap();
    writer.finish().unwrap();
    let read = open(json!({"kind": "shards", "path": folder.path()})).unwrap().stored(0).unwrap();
    assert_eq!(prepare(read.pictures().next().unwrap(), &ImageSpec::new(8)).unwrap(), picture.rgb);
}

#[test]
fn a_shard_that_is_not_ours_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let reason = |json: &str| {
        let mut archive = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_ustar();
        header.set_size(json.len() as u64);
        archive.append_data(&mut header, "0.json", json.as_bytes()).unwrap();
        let path = written(folder.path(), "x.tar", archive.into_inner().unwrap());
        format!("{:#}", open(json!({"kind": "shards", "path": path})).unwrap().stored(0).unwrap_err())
    };
    assert!(reason("{}").contains("0.json"));
    let with = |segment: &str| format!(r#"{{"id": "x", "kind": "captioned", "segments": [{segment}]}}"#);
    assert!(reason(&with("")).contains("without segments"));
    assert!(reason(&with(r#"{"image": "0.1.jpg"}"#)).contains("no picture \"0.1.jpg\""));
    assert!(reason(&with(r#"{"image": "../0.1.jpg"}"#)).contains("no picture"));
    assert!(reason(&with(r#"{"token": "nothing"}"#)).contains("0.json"));
    let pairs = super::sample("pairs.tar");
    let error =
        format!("{:#}", open(json!({"kind": "shards", "path": pairs})).unwrap().stored(0).unwrap_err());
    assert!(error.contains("part/00000.json"), "{error}");
    assert!(
        refusal(json!({"kind": "shards", "path": folder.path().join("none-*.tar")}))
            .contains("no file found")
    );
}
