//! Ranks that share a run: together they see what one of them would see alone.

use std::sync::Arc;

use anyhow::{Result, ensure};
use mm1_data::augment::PictureViews;
use mm1_data::batch::{Batch, BatchContent};
use mm1_data::document::{Document, Image, Segment};
use mm1_data::image::{DecodeBudget, ImageSpec};
use mm1_data::loader::{Cursor, Loader, LoaderConfig, RankShare, RowFill, SkippedSample};
use mm1_data::mixture::{Mixture, MixturePart};
use mm1_data::pack::Packing;
use mm1_data::source::{Source, Split};

use crate::{document, end, plain, testdata, tokenizer};

/// Documents of uneven length with none to two pictures, each seventh unreadable, each `broken`-th with a
/// picture of which only decoding shows that it is damaged.
struct Uneven {
    broken: u64,
}

impl Source for Uneven {
    fn document(&self, split: Split, index: u64) -> Result<Document> {
        ensure!(index % 7 != 6, "file {index} is damaged");
        let mut segments = Vec::new();
        for _ in 0..index % 3 {
            segments.push(Segment::Image(plain(3, 5, [index as u8; 3]).into()));
            segments.push(Segment::text(format!("A cat sits {index}.")));
        }
        if index % self.broken == self.broken - 1 {
            segments.insert(0, Segment::Image(broken_png()));
        }
        segments.extend([Segment::text(" End it"), end()]);
        Ok(document(&format!("uneven/{}/{index}", split.name()), segments))
    }

    fn len(&self, _: Split) -> Option<u64> {
        None
    }
}

/// A PNG whose header and end are whole, and whose pixels are not.
fn broken_png() -> Image {
    let mut png = std::fs::read(testdata("image/rgba.png")).unwrap();
    let middle = png.len() / 2;
    png[middle - 8..middle + 8].iter_mut().for_each(|byte| *byte ^= 0x55);
    png.into()
}

const NEVER: u64 = u64::MAX;

fn config(broken: u64, fill: RowFill, share: RankShare, threads: usize) -> LoaderConfig {
    let packing = Packing {
        tokenizer: tokenizer(),
        image: ImageSpec::new(4),
        views: PictureViews::default(),
        image_tokens: 4,
        length: 48,
        decoding: DecodeBudget::default(),
    };
    let part =
        |name: &str, weight| MixturePart { name: name.into(), source: Arc::new(Uneven { broken }), weight };
    let mixture = Mixture::new(vec![part("one", 3.0), part("other", 1.0)]).unwrap();
    let content = BatchContent::Captions;
    LoaderConfig { mixture, packing, rows: 3, fill, content, share, seed: 5, threads, max_skipped_share: 0.9 }
}

/// What a rank has loaded: its micro-batches with the cursors after them, and what it has listed.
struct Loaded {
    steps: Vec<(Batch, Cursor)>,
    skipped: Vec<SkippedSample>,
}

fn load(config: LoaderConfig, cursor: &Cursor, batches: usize) -> Loaded {
    let mut loader = Loader::start(config, cursor.clone()).unwrap();
    let steps = (0..batches).map(|_| loader.next().unwrap()).collect();
    Loaded { steps, skipped: loader.skipped().to_vec() }
}

/// All ranks of `ranks`, each with other threads, for `batches` micro-batches in all.
fn all_ranks(broken: u64, fill: RowFill, ranks: u32, cursor: &Cursor, batches: usize) -> Vec<Loaded> {
    let rank = |rank| {
        let share = RankShare { rank, ranks };
        load(config(broken, fill, share, 1 + rank as usize % 3), cursor, batches / ranks as usize)
    };
    (0..ranks).map(rank).collect()
}

/// The micro-batches of all ranks in the order of the whole run, from micro-batch `first` on.
fn together(ranks: &[Loaded], first: usize) -> Vec<&Batch> {
    let steps = ranks[0].steps.len();
    let of_step = |step: usize| {
        let number = first + step * ranks.len();
        (number..number + ranks.len()).map(move |number: usize| &ranks[number % ranks.len()].steps[step].0)
    };
    (0..steps).flat_map(of_step).collect()
}

fn sorted(lists: impl Iterator<Item = SkippedSample>) -> Vec<String> {
    let mut ids: Vec<String> = lists.map(|skipped| skipped.id).collect();
    ids.sort();
    ids
}

#[test]
fn ranks_see_together_what_one_sees_row_for_row() {
    for fill in [RowFill::Packed, RowFill::Single] {
        let whole = load(config(NEVER, fill, RankShare::default(), 2), &Cursor::default(), 24);
        assert!(whole.steps.iter().any(|(batch, _)| batch.images() > 2) && !whole.skipped.is_empty());
        for count in [1, 2, 3, 4] {
            let ranks = all_ranks(NEVER, fill, count, &Cursor::default(), 24);
            let expected: Vec<&Batch> = whole.steps.iter().map(|(batch, _)| batch).collect();
            assert!(together(&ranks, 0) == expected, "{count} ranks, {fill:?}");
            for rank in &ranks {
                // The cursor is that of the whole run after the micro-batches of all ranks.
                let after = whole.steps.iter().skip(count as usize - 1).step_by(count as usize);
                assert!(rank.steps.iter().map(|(_, cursor)| cursor).eq(after.map(|(_, cursor)| cursor)));
            }
            let listed = sorted(ranks.into_iter().flat_map(|rank| rank.skipped));
            assert_eq!(
                listed,
                sorted(whole.skipped.iter().cloned()),
                "each is listed by one of {count} ranks"
            );
        }
    }
}

#[test]
fn a_run_goes_on_with_another_number_of_ranks() {
    let whole = load(config(NEVER, RowFill::Packed, RankShare::default(), 3), &Cursor::default(), 26);
    let expected = |from: usize, to: usize| whole.steps[from..to].iter().map(|(b, _)| b).collect::<Vec<_>>();
    let two = all_ranks(NEVER, RowFill::Packed, 2, &Cursor::default(), 10);
    assert!(together(&two, 0) == expected(0, 10));
    let cursor = &two[1].steps[4].1;
    assert_eq!((cursor, cursor), (&whole.steps[9].1, &two[0].steps[4].1));
    // Micro-batch 10 is not the first of a round of 3 or 4.
    for count in [1, 3, 4] {
        let ranks = all_ranks(NEVER, RowFill::Packed, count, cursor, 12);
        assert!(together(&ranks, 10) == expected(10, 22), "{count} ranks");
        assert_eq!(ranks[0].steps.last().unwrap().1, whole.steps[21].1);
    }
}

#[test]
fn what_only_decoding_shows_is_counted_by_one_rank_and_leaves_the_others_rows_as_they_are() {
    let start = Cursor::default();
    let undecodable = |cursor: &Cursor| cursor.sources.values().map(|s| s.undecodable).sum::<u64>();
    let two = all_ranks(5, RowFill::Packed, 2, &start, 24);
    let totals =
        |ranks: &[Loaded]| -> u64 { ranks.iter().map(|r| undecodable(&r.steps.last().unwrap().1)).sum() };
    let listed = |ranks: &[Loaded]| sorted(ranks.iter().flat_map(|rank| rank.skipped.clone()));
    assert!(totals(&two) > 10 && two.iter().all(|rank| undecodable(&rank.steps.last().unwrap().1) > 0));
    for count in [3, 4, 6] {
        let ranks = all_ranks(5, RowFill::Packed, count, &start, 24);
        assert!(together(&ranks, 0) == together(&two, 0), "{count} ranks");
        assert_eq!((totals(&ranks), listed(&ranks)), (totals(&two), listed(&two)), "{count} ranks");
    }
    // The rows are those of a run without such pictures, as far as lengths go; what is damaged is padding.
    let batches = together(&two, 0);
    let broken = |id: &str| id.rsplit('/').next().unwrap().parse::<u64>().unwrap() % 5 == 4;
    assert!(batches.iter().flat_map(|batch| batch.samples()).all(|sample| !broken(sample)));
    let gap = |batch: &&Batch| {
        let ends = batch.examples.windows(2).filter(|pair| pair[0].row == pair[1].row);
        ends.filter(|pair| pair[0].start + pair[0].len < pair[1].start).count()
    };
    assert!(batches.iter().map(gap).sum::<usize>() > 0, "a place in a row stays empty");
    // Alone, a rank puts the next document in the place of the damaged one.
    let alone = load(config(5, RowFill::Packed, RankShare::default(), 2), &start, 24);
    assert_eq!(undecodable(&alone.steps[23].1), 0);
    assert_eq!(alone.steps.iter().map(|(batch, _)| gap(&batch)).sum::<usize>(), 0);
    assert!(alone.skipped.iter().any(|s| broken(&s.id) && s.reason.contains("damaged picture")));
}

#[test]
fn a_rank_beyond_the_last_is_refused() {
    for (rank, ranks) in [(0, 0), (1, 1), (4, 3)] {
        let config = config(NEVER, RowFill::Packed, RankShare { rank, ranks }, 1);
        let error = Loader::start(config, Cursor::default()).err().unwrap().to_string();
        assert!(error.starts_with(&format!("rank {rank} of {ranks}")), "{error}");
    }
}
