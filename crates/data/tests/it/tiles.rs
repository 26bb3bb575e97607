//! Tiled pictures among tokens, in rows and batches.

use std::sync::Arc;

use anyhow::Result;
use mm1_data::augment::PictureViews;
use mm1_data::batch::{Batch, BatchContent};
use mm1_data::document::{Document, Image, Segment, Special};
use mm1_data::image::{
    DecodeBudget, ImageConfig, ImageSpec, Tiling, normalise_into, prepare_views, upright_sides,
};
use mm1_data::loader::{Cursor, Loader, LoaderConfig, RankShare, RowFill};
use mm1_data::mixture::{Mixture, MixturePart};
use mm1_data::pack::{PackedRow, Packing};
use mm1_data::packed_page::PackedPage;
use mm1_data::picture_tokens::PictureFormat;
use mm1_data::source::{Source, Split};
use mm1_data::tokenizer::{PictureMarks, Tokenizer};

use crate::preprocessor::source;
use crate::{document, end, tokenizer};

const DYNAMIC: &str = r#"{"kind": "dynamic", "min_tiles": 2, "max_tiles": 6, "indicators": "separators"}"#;

fn image(tiling: &str) -> ImageSpec {
    let tiling: Tiling = serde_json::from_str(tiling).unwrap();
    ImageConfig { tiling, ..ImageConfig::default() }.of_size(4)
}

fn packing(tiling: &str, length: usize) -> Packing {
    Packing {
        tokenizer: tokenizer(),
        image: image(tiling),
        views: PictureViews::default(),
        image_tokens: 4,
        length,
        decoding: DecodeBudget::default(),
    }
}

#[test]
fn a_tiled_picture_has_placeholders_and_pixels_for_each_view() {
    let packing = packing(r#"{"kind": "mm1"}"#, 64);
    let picture = source(9, 7);
    let segments =
        vec![Segment::prompt("Look"), Segment::Image(picture.clone()), Segment::text(" A whale"), end()];
    let example = packing.example(&document("d", segments)).unwrap();
    let (look, text) = (tokenizer().encode("Look"), tokenizer().encode(" A whale"));
    let placeholders = [tokenizer().id(Special::Image); 5 * 4];
    let ids = [&look[..], &placeholders, &text, &[tokenizer().id(Special::End)]].concat();
    assert_eq!((&example.ids, example.learn.iter().filter(|learn| **learn).count()), (&ids, text.len() + 1));
    let mut row = PackedRow::new(64);
    row.push(example).unwrap();
    let batch = Batch::of(vec![row], &packing, BatchContent::Language);
    let slots: Vec<usize> = (0..5).map(|view| look.len() + 4 * view).collect();
    assert_eq!((&batch.image_slots, batch.images(), batch.pictures()), (&slots, 5, 1));
    assert_eq!((&batch.examples[0].slots, &batch.examples[0].views), (&(0..5), &vec![5]));
    let grid = packing.image.config.tiling.grid(upright_sides(&picture).unwrap(), 4);
    let mut pixels = Vec::new();
    normalise_into(&prepare_views(&picture, &packing.image, grid).unwrap(), &packing.image, &mut pixels);
    assert_eq!(batch.pixels, pixels);
    let mut page = PackedPage::new("t", &packing.tokenizer, &packing.image);
    page.row("row", &batch);
    let page = page.finish("t");
    assert_eq!((page.matches("<img").count(), page.matches("4 image tokens").count()), (5, 5));
    assert!(page.contains(">view 2 of 5: 4 image tokens<"));
}

/// The picture's tokens as text, `*` for a view.
fn written(tiling: &str, picture: &Image, number: usize) -> String {
    written_by(&tokenizer(), tiling, picture, number)
}

/// The same by another tokenizer.
fn written_by(tokenizer: &Tokenizer, tiling: &str, picture: &Image, number: usize) -> String {
    let image = image(tiling);
    let tokens = PictureFormat { image: &image, image_tokens: 3 }.tokens(tokenizer, picture, number).unwrap();
    let named = |ids: &[u32]| -> String {
        let name = |&id: &u32| tokenizer.control_name(id).map(ToOwned::to_owned);
        ids.iter().map(|id| name(id).unwrap_or_else(|| tokenizer.decode(&[*id]))).collect()
    };
    let (mut text, mut at) = (String::new(), 0);
    for &view in &tokens.views {
        assert!(tokens.ids[view..view + 3].iter().all(|&id| id == tokenizer.id(Special::Image)));
        text += &named(&tokens.ids[at..view]);
        text.push('*');
        at = view + 3;
    }
    text + &named(&tokens.ids[at..])
}

#[test]
fn indicators_tell_the_views_apart() {
    // Two rows and three columns of 4 pixels; one that is a single view.
    let (large, small) = (source(12, 8), source(4, 3));
    let with = |indicators: &str, overview: &str| {
        format!(
            r#"{{"kind": "dynamic", "min_tiles": 6, "max_tiles": 6, "indicators": "{indicators}", "overview": "{overview}"}}"#
        )
    };
    for (indicators, overview, expected) in [
        ("none", "last", "*******"),
        ("index", "last", "(3,1,1)*(3,1,2)*(3,1,3)*(3,2,1)*(3,2,2)*(3,2,3)*(3,0,0)*"),
        ("index", "first", "(3,0,0)*(3,1,1)*(3,1,2)*(3,1,3)*(3,2,1)*(3,2,2)*(3,2,3)*"),
        ("separators", "last", "*,*,*\n*,*,*:*"),
        ("separators", "first", ":**,*,*\n*,*,*"),
    ] {
        assert_eq!(written(&with(indicators, overview), &large, 3), expected, "{indicators} {overview}");
        assert_eq!(written(&with(indicators, overview), &small, 3), "*");
    }
    // As transformers' `get_image_prompt_string` writes it.
    let around = "<fake_token_around_image>";
    let row = |r: u32| (1..=3).map(|c| format!("{around}<row_{r}_col_{c}>*")).collect::<String>();
    let whole = format!("{around}<global-img>*{around}");
    let rows_columns = with("rows-columns", "last");
    let tiled = format!("{}\n{}\n\n{whole}", row(1), row(2));
    assert_eq!(written(&rows_columns, &large, 0), tiled);
    assert_eq!(written(&rows_columns, &small, 0), whole);
    // A tokenizer that has the marks writes them whatever the indicators: each is a token.
    let marked = || Tokenizer::from_json(&saved(&tokenizer()), None).unwrap();
    let marked = marked().with_picture_marks(PictureMarks { most_tiles: 6 }).unwrap();
    let none = with("none", "last");
    assert_eq!(written_by(&marked, &none, &large, 0), tiled);
    let image = image(&none);
    let format = PictureFormat { image: &image, image_tokens: 3 };
    let ids = format.tokens(&marked, &large, 0).unwrap().ids;
    assert_eq!(ids.len(), 6 * (2 + 3) + 2 + (2 + 3) + 1, "{ids:?}");
    // Six rows of one tile.
    assert_eq!(format.most_positions(&marked), ids.len() + 4);
    assert_eq!(written_by(&marked, r#"{"kind": "whole"}"#, &large, 0), whole);
    assert_eq!(format.overview(&marked, 1).ids.len(), 2 + 3 + 1);
}

/// The text of its `tokenizer.json`.
fn saved(tokenizer: &Tokenizer) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    tokenizer.save(&path).unwrap();
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn a_picture_is_read_as_a_whole_or_not_at_all() {
    let segments = |picture: Image| {
        vec![Segment::text("Before"), Segment::Image(picture), Segment::text(" after"), end()]
    };
    let before = tokenizer().encode("Before").len();
    let needed = 5 * 4 + before;
    for length in [needed - 1, needed, needed + 1] {
        let packing = packing(r#"{"kind": "mm1"}"#, length);
        let example = packing.example(&document("d", segments(source(9, 7)))).unwrap();
        assert!(example.truncated);
        let views = if length < needed { 0 } else { 5 };
        assert_eq!(example.ids.len(), if views == 0 { before } else { length });
        assert_eq!(example.pictures.iter().map(|p| p.offsets.len()).sum::<usize>(), views);
    }
    // A row that could not hold the largest is refused before anything is loaded.
    let most = packing(DYNAMIC, 64).pictures().most_positions(&tokenizer());
    assert!(most > 7 * 4, "{most}");
    let error = |length| Loader::start(config(length, 1, RankShare::default()), Cursor::default()).err();
    assert!(format!("{:#}", error(most).unwrap()).contains(&format!("more than the {most} tokens")));
    assert!(error(most + 1).is_none());
}

/// Pictures of many shapes among text; one of nine is damaged.
struct Shapes;

impl Source for Shapes {
    fn document(&self, split: Split, index: u64) -> Result<Document> {
        let mut segments = Vec::new();
        for i in 0..index % 3 {
            let picture = source(1 + (index * 7 + i) as u32 % 13, 1 + (index * 5) as u32 % 11);
            let damaged: Image = vec![0xFF, 0xD8, 0xFF].into();
            segments.push(Segment::Image(if index % 9 == 8 { damaged } else { picture }));
            segments.push(Segment::text(format!("A cat sits {index}.")));
        }
        segments.extend([Segment::text(" End it"), end()]);
        Ok(document(&format!("shapes/{}/{index}", split.name()), segments))
    }

    fn len(&self, _: Split) -> Option<u64> {
        None
    }
}

fn config(length: usize, threads: usize, share: RankShare) -> LoaderConfig {
    let part = MixturePart { name: "shapes".into(), source: Arc::new(Shapes), weight: 1.0 };
    LoaderConfig {
        mixture: Mixture::new(vec![part]).unwrap(),
        packing: packing(DYNAMIC, length),
        rows: 3,
        fill: RowFill::Packed,
        content: BatchContent::Language,
        share,
        seed: 5,
        threads,
        max_skipped_share: 0.3,
    }
}

fn take(threads: usize, share: RankShare, cursor: Cursor, batches: usize) -> Vec<(Batch, Cursor)> {
    let mut loader = Loader::start(config(96, threads, share), cursor).unwrap();
    (0..batches).map(|_| loader.next().unwrap()).collect()
}

#[test]
fn batches_with_tiles_do_not_depend_on_threads_ranks_and_resumes() {
    let alone = RankShare::default();
    let one = take(1, alone, Cursor::default(), 12);
    let counts: Vec<usize> =
        one.iter().flat_map(|(b, _)| b.examples.iter().flat_map(|e| e.views.clone())).collect();
    assert!(counts.contains(&1) && counts.contains(&3) && counts.contains(&7), "{counts:?}");
    for threads in [2, 7] {
        assert!(take(threads, alone, Cursor::default(), 12) == one, "{threads} threads");
    }
    assert!(take(2, alone, one[4].1.clone(), 7) == one[5..]);
    for rank in 0..2 {
        let own = take(2, RankShare { rank, ranks: 2 }, Cursor::default(), 6);
        let expected = one.iter().skip(rank as usize).step_by(2).map(|(batch, _)| batch);
        assert!(own.iter().map(|(batch, _)| batch).eq(expected), "rank {rank}");
    }
    // Attention's spans hold whole pictures: each slot and its image tokens lie in their example.
    for (batch, _) in &one {
        for example in &batch.examples {
            let begin = example.row * batch.length + example.start;
            let inside = |slot: &usize| *slot >= begin && slot + 4 <= begin + example.len;
            assert!(batch.image_slots[example.slots.clone()].iter().all(inside));
            assert_eq!(example.views.iter().sum::<usize>(), example.slots.len());
        }
    }
}

#[test]
fn what_a_loader_holds_follows_the_views() {
    let tiled = config(96, 1, RankShare::default());
    let whole = LoaderConfig {
        packing: Packing { image: ImageSpec::new(4), ..tiled.packing.clone() },
        ..tiled.clone()
    };
    // As many views as batches have.
    assert!(tiled.memory(40).rows > whole.memory(12).rows);
    assert!(tiled.memory(40).examples > whole.memory(40).examples);
    assert_eq!(tiled.batch_bytes(40), whole.batch_bytes(40));
}
