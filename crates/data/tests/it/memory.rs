//! What a loader says that it will hold, and texts without pictures.

use std::sync::Arc;

use mm1_data::augment::PictureViews;
use mm1_data::batch::BatchContent;
use mm1_data::image::{DecodeBudget, ImageSpec};
use mm1_data::loader::{LoaderConfig, RankShare, RowFill};
use mm1_data::mixture::{Mixture, MixturePart};
use mm1_data::pack::Packing;
use mm1_data::source::{Source, SourceConfig, Split};
use serde_json::{Value, from_value, json};

use crate::source::{sample, store};
use crate::tokenizer;

fn source(config: Value) -> Arc<dyn Source> {
    let (_cache, store) = store();
    from_value::<SourceConfig>(config).unwrap().open_with("mine", 7, None, &store).unwrap()
}

fn config(source: Arc<dyn Source>, size: usize) -> LoaderConfig {
    let part = MixturePart { name: "mine".into(), source, weight: 1.0 };
    LoaderConfig {
        mixture: Mixture::new(vec![part]).unwrap(),
        packing: Packing {
            tokenizer: tokenizer(),
            image: ImageSpec::new(size),
            views: PictureViews::default(),
            image_tokens: 16,
            length: 128,
            decoding: DecodeBudget::default(),
        },
        rows: 4,
        fill: RowFill::Packed,
        content: BatchContent::Language,
        share: RankShare::default(),
        seed: 1,
        threads: 2,
        max_skipped_share: 0.1,
    }
}

#[test]
fn pictures_are_counted_in_their_prepared_size() {
    let pairs = || source(json!({"kind": "webdataset", "path": sample("pairs.tar")}));
    let (small, large) = (config(pairs(), 100).memory(20), config(pairs(), 200).memory(20));
    let picture = |size: u64| size * size * 3;
    // 20 pictures in bytes in the rows of each of three batches, and in f32 in the one that is handed over.
    assert_eq!(large.rows - small.rows, 20 * 3 * (picture(200) - picture(100)));
    let [small_batch, large_batch] = [100, 200].map(|size| config(pairs(), size).batch_bytes(20));
    assert_eq!(large_batch - small_batch, 20 * 4 * (picture(200) - picture(100)));
    // Two rows of 128 positions have room for 8 pictures of 16 tokens and their captions, not for 17.
    let more = large.examples - small.examples;
    assert!((8..17).contains(&(more / (picture(200) - picture(100)))), "{small:?} {large:?}");
    assert_eq!(small.total(), small.examples + small.rows + small.sources);
    assert!((1..4096).contains(&small.sources), "the index of a few documents: {small:?}");
}

#[test]
fn text_holds_no_pictures() {
    let text = || source(json!({"kind": "json-text", "path": sample("text.jsonl")}));
    assert_eq!(config(text(), 100).memory(0), config(text(), 1000).memory(0));
}

#[test]
fn row_groups_count_as_their_rows_show_and_to_the_set_bound() {
    let config = json!({"kind": "parquet-captioned", "path": sample("captioned.parquet"), "test_share": 0.0});
    let files = source(config);
    assert!(files.memory() >= 512 << 20, "nothing is read yet: {}", files.memory());
    let pictures: usize = (0..10).map(|i| stored(files.as_ref(), i)).sum();
    let read = files.memory();
    // All of it fits. A row takes its values beside the bytes of its picture.
    let room = pictures as u64..2 * pictures as u64 + 10_000;
    assert!(room.contains(&read), "{read} of pictures of {pictures} bytes");
}

/// Bytes of the pictures' files of a document.
fn stored(source: &dyn Source, index: u64) -> usize {
    use mm1_data::document::Image;
    let document = source.document(Split::Train, index).unwrap();
    let bytes = |image: &Image| match image {
        Image::File { bytes, .. } => bytes.len(),
        Image::Pixels(picture) => picture.rgb.len(),
    };
    document.pictures().map(bytes).sum()
}

#[test]
fn texts_are_those_of_the_documents() {
    let folder = crate::folder::folder(9);
    let same = |source: Arc<dyn Source>, count: u64| {
        for index in 0..count {
            let document = source.document(Split::Train, index).unwrap();
            let texts = source.texts(Split::Train, index).unwrap();
            assert_eq!(texts, document.texts().collect::<Vec<_>>(), "{}", document.id);
        }
    };
    same(source(json!({"kind": "folder", "path": folder.path()})), 20);
    same(source(json!({"kind": "webdataset", "path": sample("pairs.tar")})), 5);
    #[cfg(feature = "emoji")]
    {
        use mm1_data::world::{World, WorldConfig, WorldStream};
        let world =
            World::new(&WorldConfig { picture_size: 16, detail_size: 32, ..WorldConfig::default() }, 3);
        let world = world.unwrap();
        WorldStream::ALL.into_iter().for_each(|stream| same(world.source(stream), 200));
    }
}
