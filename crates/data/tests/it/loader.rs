//! The loader: the exact order, resuming, damaged documents.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::time::Duration;

use anyhow::{Result, ensure};
use mm1_data::augment::PictureViews;
use mm1_data::batch::{Batch, BatchContent, BatchExample};
use mm1_data::document::{Document, DocumentKind, Segment};
use mm1_data::image::{DecodeBudget, ImageSpec};
use mm1_data::loader::{Cursor, Loader, LoaderConfig, RankShare, RowFill};
use mm1_data::mixture::{Mixture, MixturePart};
use mm1_data::pack::Packing;
use mm1_data::source::{Source, Split};

use crate::{document, end, plain, tokenizer};

const LENGTH: usize = 48;

/// Documents of uneven length, some with pictures, some longer than a row, some damaged; slow in an uneven
/// way.
struct Stub {
    name: &'static str,
    pictures: bool,
    /// Every so many documents one is damaged; 0 means none.
    damaged: u64,
    calls: AtomicU64,
}

fn stub(name: &'static str, pictures: bool, damaged: u64) -> Arc<Stub> {
    Arc::new(Stub { name, pictures, damaged, calls: AtomicU64::new(0) })
}

impl Source for Stub {
    fn document(&self, split: Split, index: u64) -> Result<Document> {
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        std::thread::sleep(Duration::from_micros(call * 37 % 300));
        ensure!(self.damaged == 0 || index % self.damaged != self.damaged - 1, "file {index} is damaged");
        let mut segments = Vec::new();
        for _ in 0..index % 3 {
            if self.pictures {
                segments.push(Segment::Image(plain(3, 5, [index as u8; 3]).into()));
            }
            segments.push(Segment::text(format!("A cat sits {index}.")));
        }
        if index % 11 == 10 {
            segments.push(Segment::text(" and a dog sits".repeat(40)));
        }
        segments.extend([Segment::text(" End it"), end()]);
        Ok(document(&format!("{}/{}/{index}", self.name, split.name()), segments))
    }

    fn len(&self, _: Split) -> Option<u64> {
        None
    }
}

fn part(name: &str, source: Arc<dyn Source>, weight: f64) -> MixturePart {
    MixturePart { name: name.to_owned(), source, weight }
}

fn mixed() -> Vec<MixturePart> {
    vec![
        part("captioned", stub("captioned", true, 7), 45.0),
        part("interleaved", stub("interleaved", true, 0), 45.0),
        part("text", stub("text", false, 0), 10.0),
    ]
}

fn config(parts: Vec<MixturePart>, threads: usize) -> LoaderConfig {
    let packing = Packing {
        tokenizer: tokenizer(),
        image: ImageSpec::new(4),
        views: PictureViews::default(),
        image_tokens: 4,
        length: LENGTH,
        decoding: DecodeBudget::default(),
    };
    let mixture = Mixture::new(parts).unwrap();
    LoaderConfig {
        mixture,
        packing,
        rows: 4,
        fill: RowFill::Packed,
        content: BatchContent::Language,
        share: RankShare::default(),
        seed: 5,
        threads,
        max_skipped_share: 0.3,
    }
}

fn take(config: LoaderConfig, cursor: Cursor, batches: usize) -> Vec<(Batch, Cursor)> {
    let mut loader = Loader::start(config, cursor).unwrap();
    (0..batches).map(|_| loader.next().unwrap()).collect()
}

/// The name of the source that each row is taken from; one only.
fn sources(batch: &Batch) -> Vec<String> {
    let mut names = vec![String::new(); batch.rows];
    for BatchExample { row, sample, .. } in &batch.examples {
        let name = sample.split('/').next().unwrap();
        assert!(names[*row].is_empty() || names[*row] == name);
        names[*row] = name.to_owned();
    }
    names
}

#[test]
fn the_batches_are_the_same_with_1_2_and_7_threads() {
    let one = take(config(mixed(), 1), Cursor::default(), 30);
    assert_eq!(one, take(config(mixed(), 2), Cursor::default(), 30));
    assert_eq!(one, take(config(mixed(), 7), Cursor::default(), 30));
    assert!(one.iter().any(|(batch, _)| batch.images() > 0));
    assert_ne!(one[0], one[1]);
    let other_seed = LoaderConfig { seed: 6, ..config(mixed(), 2) };
    assert_ne!(one, take(other_seed, Cursor::default(), 30));
}

#[test]
fn resuming_from_every_cursor_is_the_unbroken_run() {
    let whole = take(config(mixed(), 2), Cursor::default(), 20);
    for (i, (_, cursor)) in whole.iter().enumerate().take(19) {
        let stored = serde_json::to_string(cursor).unwrap();
        let rest = take(config(mixed(), 1 + i % 3), serde_json::from_str(&stored).unwrap(), (19 - i).min(4));
        assert_eq!(rest, whole[i + 1..i + 1 + rest.len()]);
    }
}

#[test]
fn every_document_is_taken_once_in_order_and_every_row_is_filled_greedily() {
    let steps = take(config(mixed(), 3), Cursor::default(), 40);
    let cursor = &steps.last().unwrap().1;
    for part in mixed() {
        let taken: Vec<u64> = steps
            .iter()
            .flat_map(|(batch, _)| batch.samples())
            .filter_map(|s| s.strip_prefix(&format!("{}/train/", part.name)).map(|i| i.parse().unwrap()))
            .collect();
        let damaged = |i: &u64| part.name == "captioned" && i % 7 == 6;
        let next = cursor.sources[&part.name].next;
        assert_eq!(taken, (0..next).filter(|i| !damaged(i)).collect::<Vec<_>>(), "{}", part.name);
        assert_eq!(cursor.sources[&part.name].skipped, (0..next).filter(damaged).count() as u64);
        assert_eq!(
            cursor.sources[&part.name].truncated,
            (0..next).filter(|i| i % 11 == 10 && !damaged(i)).count() as u64
        );
    }
    assert!(cursor.skipped() > 0 && cursor.truncated() > 0);
    assert_eq!(cursor.row, 160);

    // Greedy: the first example of a source's next row would not have fitted into its row before.
    let mut free = std::collections::BTreeMap::<String, usize>::new();
    for (batch, _) in &steps {
        for (row, name) in sources(batch).into_iter().enumerate() {
            let spans: Vec<_> = batch.examples.iter().filter(|e| e.row == row).collect();
            if let Some(&free) = free.get(&name) {
                assert!(spans[0].len > free, "{name}: {} would fit into {free}", spans[0].len);
            }
            assert!(spans.windows(2).all(|w| w[0].start + w[0].len == w[1].start) && spans[0].start == 0);
            free.insert(name, LENGTH - spans.iter().map(|s| s.len).sum::<usize>());
        }
    }
}

#[test]
fn skipped_documents_are_listed_the_same_with_any_threads() {
    let run = |threads| {
        let mut loader = Loader::start(config(mixed(), threads), Cursor::default()).unwrap();
        let cursor = (0..10).map(|_| loader.next().unwrap().1).last().unwrap();
        assert_eq!(loader.skipped().len() as u64, cursor.skipped());
        loader.skipped().to_vec()
    };
    let listed = run(1);
    assert_eq!(
        (listed[0].id.as_str(), listed[0].reason.as_str()),
        ("captioned/train/6", "file 6 is damaged")
    );
    assert_eq!(listed, run(5));
}

#[test]
fn rows_follow_the_weights() {
    let mixture = Mixture::new(mixed()).unwrap();
    let mut counts = [0.0; 3];
    (0..20_000).for_each(|row| counts[mixture.draw(1, row)] += 1.0 / 20_000.0);
    assert!((counts[0] - 0.45_f64).abs() < 0.02 && (counts[2] - 0.1_f64).abs() < 0.01, "{counts:?}");
    let off =
        Mixture::new(vec![part("a", stub("a", false, 0), 1.0), part("b", stub("b", false, 0), 0.0)]).unwrap();
    assert!((0..1000).all(|row| off.draw(1, row) == 0));
}

#[test]
fn changing_a_weight_keeps_the_cursors_of_the_others() {
    let before = take(config(mixed(), 2), Cursor::default(), 10).pop().unwrap().1;
    let mut parts = mixed();
    parts.remove(0);
    parts[0].weight = 5.0;
    parts.push(part("new", stub("new", false, 0), 30.0));
    let steps = take(config(parts, 2), before.clone(), 10);
    let after = &steps.last().unwrap().1;
    assert_eq!(after.sources["captioned"], before.sources["captioned"]);
    let first = |name: &str| {
        let mut samples = steps.iter().flat_map(|(batch, _)| batch.samples());
        samples.find(|s| s.starts_with(name)).unwrap().to_owned()
    };
    assert_eq!(first("text"), format!("text/train/{}", before.sources["text"].next));
    assert_eq!(first("new"), "new/train/0");
}

#[test]
fn a_source_in_which_everything_is_damaged_stops_the_run() {
    for share in [0.0, 0.3, 0.999] {
        let parts = vec![part("good", stub("good", false, 0), 1.0), part("bad", stub("bad", false, 1), 1.0)];
        let mut loader =
            Loader::start(LoaderConfig { max_skipped_share: share, ..config(parts, 3) }, Cursor::default())
                .unwrap();
        let error = (0..50).find_map(|_| loader.next().err()).unwrap().to_string();
        assert!(error.starts_with("20 of the first 20 documents are damaged"), "{error}");
        assert!(error.ends_with("bad/train/19: file 19 is damaged") && !error.contains('\n'), "{error}");
        assert!(loader.next().unwrap_err().to_string().contains("stopped"));
    }
}

#[test]
fn a_share_of_damaged_documents_below_the_limit_goes_on() {
    let parts = || vec![part("some", stub("some", false, 4), 1.0)];
    let allowed = LoaderConfig { max_skipped_share: 0.26, ..config(parts(), 2) };
    assert!(take(allowed, Cursor::default(), 20).last().unwrap().1.skipped() > 20);
    let refused = LoaderConfig { max_skipped_share: 0.24, ..config(parts(), 2) };
    let mut loader = Loader::start(refused, Cursor::default()).unwrap();
    assert!((0..20).any(|_| loader.next().is_err()));
}

/// Gives nothing until it is opened.
struct Gate {
    open: Mutex<bool>,
    opened: Condvar,
    waiting: AtomicU64,
}

impl Source for Gate {
    fn document(&self, split: Split, index: u64) -> Result<Document> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        drop(self.opened.wait_while(self.open.lock().unwrap(), |open| !*open).unwrap());
        let segments = vec![Segment::text("A dog sits"), end()];
        Ok(document(&format!("slow/{}/{index}", split.name()), segments))
    }

    fn len(&self, _: Split) -> Option<u64> {
        None
    }
}

#[test]
fn a_source_that_answers_nothing_does_not_delay_the_rows_of_another() {
    let gate =
        |open| Arc::new(Gate { open: Mutex::new(open), opened: Condvar::new(), waiting: AtomicU64::new(0) });
    let parts =
        |gate: &Arc<Gate>| vec![part("fast", stub("fast", true, 5), 9.0), part("slow", gate.clone(), 1.0)];
    // A seed whose first five batches have no row of the slow source, and whose next five have.
    let config = |gate: &Arc<Gate>, threads| {
        let mut config = config(parts(gate), threads);
        let slow = |seed: &u64, rows: std::ops::Range<u64>| {
            rows.into_iter().any(|row| config.mixture.draw(*seed, row) == 1)
        };
        config.seed = (0..).find(|seed| !slow(seed, 0..20) && slow(seed, 20..40)).unwrap();
        config
    };
    let expected = take(config(&gate(true), 2), Cursor::default(), 10);
    for threads in [1, 2, 3, 7] {
        let gate = gate(false);
        let mut loader = Loader::start(config(&gate, threads), Cursor::default()).unwrap();
        let (send, batches) = mpsc::channel();
        let taking = std::thread::spawn(move || {
            (0..10).for_each(|_| send.send(loader.next().unwrap()).unwrap());
        });
        let next = || batches.recv_timeout(Duration::from_secs(60)).expect("the rows flow");
        let before: Vec<_> = (0..5).map(|_| next()).collect();
        assert_eq!(before, expected[..5], "{threads} threads");
        assert!(gate.waiting.load(Ordering::Relaxed) > 0, "a thread is held up");
        *gate.open.lock().unwrap() = true;
        gate.opened.notify_all();
        let after: Vec<_> = (0..5).map(|_| next()).collect();
        assert_eq!(after, expected[5..], "{threads} threads");
        taking.join().unwrap();
    }
}

#[test]
fn a_text_longer_than_a_row_goes_on_in_the_next_and_every_token_is_learned_once() {
    fn text(index: u64) -> String {
        format!("Text {index}.{}", " A cat sits and a dog sits.".repeat(index as usize * 20))
    }
    let parts = || {
        let source = Made(|index| Document {
            kind: DocumentKind::TextOnly,
            ..document(&format!("long/{index}"), vec![Segment::text(text(index)), end()])
        });
        vec![part("long", Arc::new(source), 1.0)]
    };
    let steps = take(config(parts(), 3), Cursor::default(), 12);
    let mut learned = Vec::new();
    for (batch, cursor) in &steps {
        assert_eq!((cursor.truncated(), cursor.skipped()), (0, 0));
        for BatchExample { sample, row, start, len, .. } in &batch.examples {
            let at = row * batch.length + start;
            let first = !sample.contains('#') || sample.ends_with("#0");
            learned.extend(batch.ids[at..at + 1].iter().filter(|_| first));
            learned.extend_from_slice(&batch.targets[at..at + len - 1]);
            assert!(batch.weights[at..at + len - 1].iter().all(|&weight| weight == 1.0));
        }
    }
    let end = tokenizer().id(mm1_data::document::Special::End);
    let whole: Vec<u32> = (0..9).flat_map(|i| [tokenizer().encode(&text(i)), vec![end]].concat()).collect();
    assert!(learned.len() > 12 * 3 * (LENGTH - 1), "rows are full: {}", learned.len());
    assert_eq!(learned, whole[..learned.len()]);
    assert!(steps.iter().any(|(_, cursor)| cursor.sources["long"].pieces > 0));
    for i in 0..11 {
        assert_eq!(take(config(parts(), 1 + i % 3), steps[i].1.clone(), 1), steps[i + 1..i + 2]);
    }
}

/// Yields what the function gives.
struct Made(fn(u64) -> Document);

impl Source for Made {
    fn document(&self, _: Split, index: u64) -> Result<Document> {
        Ok(self.0(index))
    }

    fn len(&self, _: Split) -> Option<u64> {
        Some(3)
    }
}

#[test]
fn a_panic_is_an_error_and_not_a_hang() {
    let source = Made(|index| {
        assert!(index < 9, "document {index} is a bug");
        document("ok", vec![Segment::text("A cat sits."), end()])
    });
    let mut loader =
        Loader::start(config(vec![part("buggy", Arc::new(source), 1.0)], 2), Cursor::default()).unwrap();
    let error = (0..50).find_map(|_| loader.next().err()).unwrap().to_string();
    assert!(error.contains("`buggy` panicked at document 9: document 9 is a bug"), "{error}");
}

#[test]
fn documents_without_anything_to_learn_are_skipped() {
    let source = Made(|index| match index % 4 {
        0 => document("empty", vec![]),
        _ => document("ok", vec![Segment::text("A cat sits."), end()]),
    });
    let mut loader =
        Loader::start(config(vec![part("s", Arc::new(source), 1.0)], 2), Cursor::default()).unwrap();
    let (batch, cursor) = loader.next().unwrap();
    assert!(cursor.skipped() > 0 && batch.samples().all(|s| s == "ok"));
    assert!(loader.skipped()[0].reason.contains("nothing to learn"));
}

#[test]
fn the_threads_stop_ahead_of_the_use_and_end_with_the_loader() {
    let source = stub("s", true, 0);
    let mut loader =
        Loader::start(config(vec![part("s", source.clone(), 1.0)], 3), Cursor::default()).unwrap();
    loader.next().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let ahead = source.calls.load(Ordering::Relaxed);
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(source.calls.load(Ordering::Relaxed), ahead, "the threads sleep when all is full");
    assert!(ahead < 300, "{ahead} documents were prepared for one batch");
    drop(loader);
    assert_eq!(Arc::strong_count(&source), 1, "no thread is left");
}

#[test]
fn settings_out_of_range_are_refused() {
    let good = || config(mixed(), 1);
    let mut short = good();
    short.packing.length = 4;
    for (wrong, field) in [
        (LoaderConfig { rows: 0, ..good() }, "rows"),
        (LoaderConfig { threads: 0, ..good() }, "threads"),
        (LoaderConfig { max_skipped_share: 1.0, ..good() }, "max_skipped_share"),
        (short, "length"),
    ] {
        assert!(Loader::start(wrong, Cursor::default()).err().unwrap().to_string().contains(field));
    }
    let weights = |weights: [f64; 2]| {
        Mixture::new(weights.map(|w| part(&w.to_string(), stub("s", false, 0), w)).to_vec())
    };
    assert!(weights([1.0, 0.0]).is_ok());
    for wrong in [[0.0, -1.0], [f64::NAN, 1.0], [f64::INFINITY, 1.0], [1.0, 1.0], [0.0, -0.0]] {
        assert!(weights(wrong).is_err(), "{wrong:?}");
    }
}

#[cfg(feature = "emoji")]
#[test]
fn the_built_in_world_gives_the_same_batches_with_any_threads() {
    use mm1_data::world::{World, WorldConfig, WorldStream};

    let world = World::new(&WorldConfig::default(), 3).unwrap();
    let parts = || {
        let streams = WorldStream::ALL.iter().zip([20.0, 25.0, 35.0, 10.0, 10.0]);
        streams.map(|(stream, weight)| part(stream.name(), world.source(*stream), weight)).collect()
    };
    let run = |threads, cursor, batches| {
        let mut config = config(parts(), threads);
        (config.packing.length, config.packing.image) = (128, ImageSpec::new(32));
        take(config, cursor, batches)
    };
    let one = run(1, Cursor::default(), 30);
    assert_eq!(one, run(2, Cursor::default(), 30));
    assert_eq!(one, run(7, Cursor::default(), 30));
    assert_eq!(one[12..], run(3, one[11].1.clone(), 18));
    let cursor = &one[29].1;
    assert_eq!((cursor.sources.len(), cursor.skipped()), (5, 0));
}
