//! Shares of the input, done in any order and killed at any moment, come to what one process gives.

use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use anyhow::Result;
use mm1_data::account::Accounts;
use mm1_data::document::Document;
use mm1_data::examine::Examination;
use mm1_data::filter::{FilterRule, FilterSpec};
use mm1_data::import::{ImportOutcome, ImportSpec, Pass, import};
use mm1_data::loader::SkippedSample;
use mm1_data::recaption::{CaptionedShare, Recaption, RecaptionSpec};
use mm1_data::shard::{Provenance, ShardManifest};
use mm1_data::source::detect::Detected;
use mm1_data::source::stored::{self, StoredSource};
use mm1_data::statistics::{Counted, CountedShare, Statistics, StoredStatistics};
use mm1_data::store::{Store, StoreSpec};
use mm1_data::task::{
    DONE, FilesRecord, ImportJoined, ImportStep, SourceRecord, Task, TaskFolder, TaskHeader, TaskSet,
    import_task, join_import,
};
use mm1_data::verify::{self, VerifiedShare};
use tempfile::TempDir;

use super::{copy, how, opened, png, samples, told, told_from};
use crate::source::{store, written};

/// Memory of a join that holds all of these sets, and one that holds next to nothing of them.
const MUCH: usize = 1 << 28;
const LITTLE: usize = 1;

/// All formats, and documents that the rules remove for what others are: a picture in twelve pages and as
/// another file, equal captions of equal pictures, ids that come twice.
fn input(folder: &Path) -> String {
    let root = samples(folder);
    for number in 0..12 {
        let common = png(&root, &format!("pages/{number}/common.png"), [40, 40], [9, 90, 200]);
        // The same picture in another file.
        if number % 3 == 0 {
            png(common.parent().unwrap(), "common.png", [36, 36], [9, 90, 200]);
        }
        png(&root, &format!("pages/{number}/own.png"), [30, 20 + number], [20 * number as u8, 7, 9]);
        let text =
            format!("<p>page {number} <img src='{number}/common.png'> and <img src='{number}/own.png'>");
        written(&root, &format!("pages/{number}.html"), &text);
    }
    for number in 0..9 {
        let green = if number % 2 == 0 { 200 } else { 25 * number as u8 };
        png(&root, &format!("pairs/{number}.png"), [32, 32], [9, green, 3]);
        let caption = ["the same", "The  same", "another"][number % 3];
        written(&root, &format!("pairs/{number}.txt"), caption);
    }
    for folder in ["x", "y", "z"] {
        written(&root, &format!("twice/{folder}/lines.jsonl"), "{\"text\": \"one\"}\n{\"text\": \"two\"}\n");
        written(&root, &format!("twice/{folder}/prose.txt"), format!("some prose of {folder}"));
    }
    // Shards keep the ids of their documents.
    let twice = root.join("twice").to_string_lossy().into_owned();
    reference(&[&twice], &spec(&root.join("old-a"), None));
    copy(&root.join("old-a"), &root.join("old-b"));
    root.to_string_lossy().into_owned()
}

fn spec(to: &Path, filter: Option<FilterSpec>) -> ImportSpec {
    ImportSpec {
        folder: to.to_owned(),
        stem: "shard".into(),
        shard_bytes: 20_000,
        filter,
        max_skipped_share: 0.5,
        licence: None,
        attribution: None,
        how: how(2),
    }
}

/// A task's share of the paths, open.
struct Share {
    detected: Detected,
    sources: Vec<StoredSource>,
    input: String,
    store: Store,
}

/// In the folder `beside` the tasks have one cache, as they have on a machine: a file is unpacked once.
fn share(paths: &[&str], task: Task, beside: &Path) -> Share {
    let store = Store::new(StoreSpec { cache: beside.join("cache"), ..StoreSpec::default() }).unwrap();
    let mut detected = told_from(&store, paths, None, &[]).unwrap();
    let input = detected.share(task).unwrap();
    let sources = stored::open_shares(&detected.sources, &store).unwrap();
    Share { detected, sources, input, store }
}

/// A folder in memory, where the system has one. Tasks wait for the disk after all that they write; that is
/// most of what hundreds of them would take.
fn in_memory() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

fn tasks(of: u32) -> impl DoubleEndedIterator<Item = Task> {
    (0..of).map(move |index| Task { index, of })
}

fn run(
    paths: &[&str],
    task: Task,
    spec: &ImportSpec,
    progress: &mut dyn FnMut(Pass, u64),
) -> Result<ImportStep> {
    let Share { detected, sources, input, .. } = share(paths, task, spec.folder.parent().unwrap());
    import_task((&detected, &sources), (task, &input), spec, &mut detected.beside.clone(), progress)
}

fn joined(to: &Path, memory: usize) -> Result<ImportJoined> {
    join_import(&TaskSet::open(to)?, memory)
}

/// Both rounds of all tasks; the last ones come first.
fn by_tasks(paths: &[&str], of: u32, spec: &ImportSpec, memory: usize) -> (ImportOutcome, Accounts) {
    for round in [ImportStep::Checked, ImportStep::Written] {
        for task in tasks(of).rev() {
            assert_eq!(run(paths, task, spec, &mut |_, _| {}).unwrap(), round);
        }
        match joined(&spec.folder, memory).unwrap() {
            ImportJoined::Settled { .. } => assert_eq!(round, ImportStep::Checked),
            ImportJoined::Whole { outcome, account, .. } => return (*outcome, account),
        }
    }
    panic!("two rounds make it whole")
}

/// Every document of a folder of shards, with its origin.
fn documents(folder: &Path) -> Vec<(Document, Provenance)> {
    ShardManifest::read(folder).unwrap().verify(folder).unwrap();
    let sources = opened(&[folder.to_str().unwrap()], Some("shards"), &[]).unwrap();
    let all = |source: &StoredSource| (0..source.documents()).map(|i| source.document(i).unwrap()).collect();
    let all: Vec<_> = sources.iter().flat_map(|source| -> Vec<_> { all(source) }).collect();
    all.into_iter().map(|read| (read.document, read.origin)).collect()
}

fn reference(paths: &[&str], spec: &ImportSpec) -> (ImportOutcome, Accounts) {
    let (detected, sources) = (told(paths, None, &[]).unwrap(), opened(paths, None, &[]).unwrap());
    let mut beside = detected.beside.clone();
    let outcome = import(&sources, spec, &mut beside, &mut |_, _| {}).unwrap();
    let account = Accounts { files: detected.files(&beside), documents: outcome.account() };
    (outcome, account)
}

fn same(one: &(ImportOutcome, Accounts), many: &(ImportOutcome, Accounts)) {
    assert_eq!(one.0.filter, many.0.filter);
    assert_eq!((one.0.skipped, &one.0.damaged), (many.0.skipped, &many.0.damaged));
    assert_eq!(one.0.left_out, many.0.left_out);
    assert_eq!(one.1, many.1);
}

#[test]
fn shares_come_to_the_documents_of_one_import() {
    let folder = in_memory();
    let root = input(folder.path());
    for filter in [None, Some(FilterSpec { max_uses: 6, ..FilterSpec::default() })] {
        let to = |name: &str| folder.path().join(format!("{name}-{}", filter.is_some()));
        let one = reference(&[&root], &spec(&to("one"), filter.clone()));
        let expected = documents(&to("one"));
        assert!(expected.len() > 40, "{}", expected.len());
        if let Some(counts) = &one.0.filter {
            assert!(counts.removed_pictures[&FilterRule::Uses] >= 12, "{counts:?}");
            assert!(counts.removed_documents[&FilterRule::Duplicate] >= 4, "{counts:?}");
        } else {
            assert!(expected.iter().any(|(document, _)| document.id.ends_with("#2")), "an id comes twice");
        }
        for (of, memory) in [(1, MUCH), (2, LITTLE), (5, MUCH), (5, LITTLE), (90, MUCH)] {
            let to = to(&format!("{of}-{memory}"));
            let many = by_tasks(&[&root], of, &spec(&to, filter.clone()), memory);
            same(&one, &many);
            assert!(documents(&to) == expected, "{of} tasks, {memory} bytes");
        }
    }
}

/// A panic is as a kill: what was written stays, and nothing is finished.
fn killed(work: impl FnOnce()) {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let result = catch_unwind(AssertUnwindSafe(work));
    std::panic::set_hook(hook);
    assert!(result.is_err(), "it was killed");
}

#[test]
fn tasks_that_are_killed_and_run_twice_give_the_same() {
    let folder = in_memory();
    let root = input(folder.path());
    let filter = Some(FilterSpec { max_uses: 6, ..FilterSpec::default() });
    let one = reference(&[&root], &spec(&folder.path().join("one"), filter.clone()));
    let spec = spec(&folder.path().join("many"), filter);
    for round in [ImportStep::Checked, ImportStep::Written] {
        for task in tasks(5) {
            for after in [1, 2, 5] {
                let mut progress = |_, done| assert!(done < after, "killed");
                killed(|| drop(run(&[&root], task, &spec, &mut progress)));
                let error = joined(&spec.folder, MUCH).err().unwrap().to_string();
                assert!(error.contains(&format!("missing: {}", task.index)), "{error}");
                assert!(!spec.folder.join("manifest.json").exists());
            }
            assert_eq!(run(&[&root], task, &spec, &mut |_, _| {}).unwrap(), round);
            // Once more: nothing is done again.
            let mut progress = |_, _| panic!("it is done already");
            assert_eq!(run(&[&root], task, &spec, &mut progress).unwrap(), round);
        }
        // What a join that was killed has left.
        fs::create_dir(spec.folder.join(".settled.part")).unwrap();
        written(&spec.folder, ".settled.part/decisions-00000.part", "half");
        joined(&spec.folder, LITTLE).unwrap();
        let _ = fs::remove_dir_all(spec.folder.join(".settled.part"));
    }
    let expected = documents(&folder.path().join("one"));
    for _ in 0..2 {
        // Again: it was killed before the manifest.
        let ImportJoined::Whole { outcome, account, .. } = joined(&spec.folder, MUCH).unwrap() else {
            panic!("it was whole")
        };
        same(&one, &(*outcome, account));
        assert!(documents(&spec.folder) == expected);
        fs::remove_file(spec.folder.join("manifest.json")).unwrap();
    }
    assert_eq!(run(&[&root], Task { index: 4, of: 5 }, &spec, &mut |_, _| {}).unwrap(), ImportStep::Written);
}

#[test]
fn tasks_of_another_kind_are_refused() {
    let folder = in_memory();
    let root = input(folder.path());
    let to = folder.path().join("to");
    let error = |result: Result<ImportStep>| format!("{:#}", result.err().unwrap());
    assert!(format!("{:#}", TaskSet::open(&to).err().unwrap()).contains("no such folder"));
    let task = |index| Task { index, of: 3 };
    run(&[&root], task(1), &spec(&to, None), &mut |_, _| {}).unwrap();
    let missing = joined(&to, MUCH).err().unwrap().to_string();
    assert!(
        missing.ends_with("2 of 3 tasks are missing: 0, 2; run mm1 data import … --task 0/3"),
        "{missing}"
    );
    let other = |edit: fn(&mut ImportSpec)| {
        let mut spec = spec(&to, None);
        edit(&mut spec);
        error(run(&[&root], task(0), &spec, &mut |_, _| {}))
    };
    for (edit, name) in [
        ((|spec| spec.filter = Some(FilterSpec::default())) as fn(&mut ImportSpec), "filter: null, now {"),
        (|spec| spec.shard_bytes = 30_000, "shard-bytes: 20000, now 30000"),
        (|spec| spec.licence = Some("MIT".into()), "licence: as the sources say, now MIT"),
    ] {
        let error = other(edit);
        assert!(error.contains(name) && error.contains("take another folder"), "{error}");
    }
    let many = run(&[&root], Task { index: 0, of: 4 }, &spec(&to, None), &mut |_, _| {});
    assert!(error(many).contains("tasks: 3, now 4"));
    // A file more is another input.
    written(Path::new(&root), "twice/more.txt", "more");
    assert!(error(run(&[&root], task(0), &spec(&to, None), &mut |_, _| {})).contains("input: "));
    let header = TaskHeader::new("stats", 3, &[("input", String::new())]);
    let stats = TaskFolder::open(&to, task(0), header.clone()).err().unwrap();
    assert!(format!("{stats:#}").contains("command: import, now stats"), "{stats:#}");
    // A marker that was brought from elsewhere.
    let elsewhere = folder.path().join("elsewhere");
    TaskFolder::open(&elsewhere, task(0), header).unwrap().finish("checked.json", &1).unwrap();
    fs::create_dir_all(to.join(".task-00000")).unwrap();
    fs::create_dir_all(to.join(".task-00002")).unwrap();
    for brought in ["0", "2"] {
        let place = to.join(format!(".task-0000{brought}/checked.json"));
        fs::copy(elsewhere.join(".task-00000/checked.json"), place).unwrap();
    }
    let error = format!("{:#}", joined(&to, MUCH).err().unwrap());
    assert!(error.contains("of tasks of another kind (command: import, now stats)"), "{error}");
    fs::create_dir(to.join(".task-00007")).unwrap();
    let error = format!("{:#}", joined(&to, MUCH).err().unwrap());
    assert!(error.contains(".task-00007 is of more than 3 tasks"), "{error}");
}

#[test]
fn a_task_is_done_by_one_process_at_a_time() {
    let folder = in_memory();
    let header = || TaskHeader::new("stats", 2, &[("input", String::new())]);
    let (first, second) = (Task { index: 0, of: 2 }, Task { index: 1, of: 2 });
    let held = TaskFolder::open(folder.path(), first, header()).unwrap();
    TaskFolder::open(folder.path(), second, header()).unwrap();
    let error = format!("{:#}", TaskFolder::open(folder.path(), first, header()).err().unwrap());
    assert!(error.contains("another mm1 is writing there"), "{error}");
    drop(held);
    TaskFolder::open(folder.path(), first, header()).unwrap();
}

#[test]
fn too_much_damage_writes_nothing() {
    let folder = in_memory();
    let root = samples(folder.path());
    let spec = ImportSpec { max_skipped_share: 0.0, ..spec(&folder.path().join("to"), None) };
    let path = root.to_str().unwrap();
    let sources = opened(&[path], None, &[]).unwrap();
    let one = import(
        &sources,
        &ImportSpec { folder: folder.path().join("one"), ..spec.clone() },
        &mut told(&[path], None, &[]).unwrap().beside,
        &mut |_, _| {},
    );
    for task in tasks(3) {
        run(&[path], task, &spec, &mut |_, _| {}).unwrap();
    }
    let many = joined(&spec.folder, MUCH).err().unwrap();
    assert_eq!(format!("{many:#}"), format!("{:#}", one.err().unwrap()));
    assert!(!spec.folder.join(".settled").exists());
}

/// What a task counts.
fn counted(paths: &[&str], task: Task, beside: &Path, how: Examination) -> CountedShare {
    let Share { detected, sources, .. } = share(paths, task, beside);
    let (mut beside, mut damaged, mut statistics) = (detected.beside.clone(), Vec::new(), Vec::new());
    for source in &sources {
        let (of_source, found) = Statistics::of(source, None, how, &mut beside, &mut |_| {}).unwrap();
        statistics.push(StoredStatistics::from(&of_source));
        damaged.extend(found);
    }
    let records = sources.iter().map(SourceRecord::of).collect();
    CountedShare { sources: records, statistics, damaged, files: FilesRecord::of(&detected, &beside) }
}

#[test]
fn shares_come_to_the_numbers_of_one_count() {
    let folder = in_memory();
    let root = input(folder.path());
    let all = |of: u32| {
        let to = folder.path().join(format!("stats-{of}"));
        for task in tasks(of) {
            let place = TaskFolder::open(&to, task, TaskHeader::new("stats", of, &[])).unwrap();
            place.finish(DONE, &counted(&[&root], task, folder.path(), how(2))).unwrap();
        }
        Counted::join(TaskSet::open(&to).unwrap().all(DONE).unwrap()).unwrap()
    };
    // Of one process, without any record.
    let (detected, sources) = (told(&[&root], None, &[]).unwrap(), opened(&[&root], None, &[]).unwrap());
    let (mut beside, mut damaged, mut expected) = (detected.beside.clone(), Vec::new(), Vec::new());
    for source in &sources {
        let (of_source, found) = Statistics::of(source, None, how(2), &mut beside, &mut |_| {}).unwrap();
        expected.push((SourceRecord::of(source), of_source));
        damaged.extend(found);
    }
    assert!(expected.len() > 5 && !damaged.is_empty());
    for of in [1, 2, 5, 90] {
        let Counted { sources, damaged: found, files, files_left } = all(of);
        assert!(sources == expected, "{of} tasks");
        assert_eq!(found, damaged);
        assert_eq!((files, files_left), (detected.files(&beside), detected.left.clone()));
    }
}

#[test]
fn shares_come_to_the_problems_of_one_look() {
    let folder = in_memory();
    let root = input(folder.path());
    // Shards, of which one is missing and one is damaged.
    let shards = Path::new(&root).join("shards");
    reference(&[&root], &ImportSpec { shard_bytes: 1000, ..spec(&shards, None) });
    fs::remove_file(shards.join("shard-000002.tar")).unwrap();
    let damaged = shards.join("shard-000003.tar");
    let mut bytes = fs::read(&damaged).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&damaged, bytes).unwrap();
    let detected = told(&[&root], None, &[]).unwrap();
    let (_cache, store) = store();
    let mut one = verify::verify(&detected, &store, how(2), &mut |_| {}).unwrap();
    let sort = |problems: &mut Vec<_>| problems.sort_by_key(|problem| format!("{problem:?}"));
    sort(&mut one.problems);
    assert!(one.problems.len() > 3, "{:?}", one.problems);
    for of in [1, 2, 5, 90] {
        let verified: Vec<VerifiedShare> = tasks(of)
            .map(|task| {
                let Share { detected, store, .. } = share(&[&root], task, folder.path());
                let share = verify::verify_share(&detected, &store, how(2), &mut |_| {}).unwrap();
                // As it is stored.
                serde_json::from_value(serde_json::to_value(share).unwrap()).unwrap()
            })
            .collect();
        let mut many = verify::join(&verified).unwrap();
        sort(&mut many.problems);
        assert_eq!(many, one, "{of} tasks");
    }
}

#[test]
fn captions_of_shares_are_joined() {
    let folder = in_memory();
    let root = folder.path().join("in");
    for number in 0..7 {
        png(&root, &format!("{number}.png"), [20, 20], [30 * number, 9, 9]);
        written(&root, &format!("{number}.txt"), format!("number {number}"));
    }
    let root = root.to_string_lossy().into_owned();
    let write = |to: &Path, sources: &[StoredSource], may_be_empty: bool| {
        let spec = RecaptionSpec {
            settings: BTreeMap::new(),
            shard_bytes: 3000,
            max_skipped_share: 0.5,
            share_setting: "--max-skipped-share",
            keep_alt_text: true,
            may_be_empty,
        };
        let mut writing = Recaption::open(to, spec).unwrap();
        for read in sources.iter().flat_map(|s| (0..s.documents()).map(|i| s.document(i).unwrap())) {
            if read.document.id.ends_with("3.png") {
                let reason = "not this one".to_owned();
                writing.skip(SkippedSample { id: read.document.id, reason }).unwrap();
            } else {
                writing.write(&read.document, Provenance::default(), "A photo of a thing.").unwrap();
            }
        }
        writing.finish().unwrap();
        CaptionedShare::of(&writing)
    };
    let to = folder.path().join("one");
    let one = write(&to, &opened(&[&root], None, &[]).unwrap(), false);
    let expected = documents(&to);
    assert_eq!((expected.len(), one.tally.captions, one.skipped.len()), (6, 6, 1));
    for of in [1, 2, 5, 20] {
        let to = folder.path().join(format!("{of}"));
        for task in tasks(of) {
            let place = TaskFolder::open(&to, task, TaskHeader::new("recaption", of, &[])).unwrap();
            let written = folder.path().join(format!("{of}-{}", task.index));
            let done = write(&written, &share(&[&root], task, folder.path()).sources, true);
            for shard in &done.shards {
                fs::rename(written.join(&shard.file), place.path().join(&shard.file)).unwrap();
            }
            place.finish(DONE, &done).unwrap();
        }
        let joined = CaptionedShare::join(&TaskSet::open(&to).unwrap()).unwrap();
        assert_eq!((joined.tally, &joined.skipped), (one.tally, &one.skipped));
        assert!(documents(&to) == expected, "{of} tasks");
    }
}
