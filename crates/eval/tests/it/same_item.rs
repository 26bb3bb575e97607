//! K8: the test item is never among its demonstrations, whatever its name, its format and its spelling.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use image::{DynamicImage, ImageFormat, RgbImage};
use mm1_data::document::{Document, DocumentKind, Segment};
use mm1_data::source::folder::PictureFolder;
use mm1_eval::contamination::TrainingHashes;
use mm1_eval::protocol::{Protocol, Selection};
use mm1_eval::rehearsal::rehearse;
use mm1_eval::run::{EvalPass, Outcome};
use mm1_eval::task::Task;
use mm1_eval::tasks::benchmark::Benchmark;
use mm1_eval::tasks::own;
use mm1_eval::tasks::source::SourceTask;

use crate::toy::{answer_by_prompt, evaluate, pass, protocol};

fn fault(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../testdata/faults/55-few-shot-shows-the-answer")
        .join(file)
}

fn asked(task: &dyn Task, shots: usize, selection: Selection) -> anyhow::Result<Outcome> {
    let protocol = Protocol { demonstrations: selection, ..protocol() };
    evaluate(task, &mut answer_by_prompt, &EvalPass { protocol: &protocol, shots, ..pass() })
}

/// How often a prompt shows, before the question, the answer that it asks for.
fn leaks(outcome: &Outcome) -> usize {
    outcome.items.iter().map(|item| item.prompt.matches(&item.answers[0]).count()).sum()
}

#[test]
fn fault_55_the_test_picture_is_never_shown_under_another_name_or_format() {
    let task = own::open(&fault("leak.toml")).unwrap();
    for selection in [Selection::Random, Selection::Similar] {
        // Of nine training items, two show the picture of each test item.
        for shots in 1..=7 {
            let outcome = asked(&task, shots, selection).unwrap();
            assert_eq!((outcome.items.len(), leaks(&outcome)), (3, 0), "{selection:?}, {shots} shots");
        }
        let error = asked(&task, 8, selection).unwrap_err().to_string();
        assert!(error.contains("has 7 that can be read and do not show what leak/test/t0 asks"), "{error}");
    }
    let error = asked(&task, 9, Selection::Fixed).unwrap_err().to_string();
    assert!(error.contains("shows what leak/test/t0 asks: choose another seed"), "{error}");
}

#[test]
fn fault_55_a_question_without_pictures_is_never_shown_under_another_id() {
    let task = own::open(&fault("words.toml")).unwrap();
    for shots in 1..=4 {
        let outcome = asked(&task, shots, Selection::Random).unwrap();
        assert_eq!((outcome.items.len(), leaks(&outcome)), (3, 0), "{shots} shots");
    }
    let error = asked(&task, 5, Selection::Random).unwrap_err().to_string();
    assert!(error.contains("5 demonstrations are asked for, but the training split has 4"), "{error}");
}

/// A task file in `folder` with text questions.
fn texts(folder: &Path, tests: &str, train: &str) -> Benchmark {
    let file = folder.join("mine.toml");
    std::fs::write(
        &file,
        "name = \"mine\"\nmetric = \"exact-match\"\ndata.test = \"a.jsonl\"\ndata.train = \"b.jsonl\"",
    )
    .unwrap();
    std::fs::write(folder.join("a.jsonl"), tests).unwrap();
    std::fs::write(folder.join("b.jsonl"), train).unwrap();
    own::open(&file).unwrap()
}

#[test]
fn fault_55_spelling_makes_no_other_question_and_options_do() {
    let folder = tempfile::tempdir().unwrap();
    let test = r#"{"question": "Which is a bird?", "choices": ["owl", "cat"], "answers": "owl"}"#;
    let same = r#"{"question": "which IS  a bird ", "choices": ["Cat", "owl"], "answers": "owl"}"#;
    let other = r#"{"question": "Which is a bird?", "choices": ["dog", "hen"], "answers": "hen"}"#;
    let task = texts(folder.path(), test, &format!("{same}\n{other}"));
    let outcome = asked(&task, 1, Selection::Random).unwrap();
    assert!(outcome.items[0].prompt.contains("hen") && !outcome.items[0].prompt.contains("owl"));
    let error = rehearse_with(&task, 2).unwrap_err().to_string();
    assert!(error.contains("has 1 that can be read"), "{error}");
}

fn rehearse_with(task: &dyn Task, shots: usize) -> anyhow::Result<()> {
    let mut none = |_: &[mm1_eval::prompt::Prompt]| anyhow::bail!("nobody is asked");
    rehearse(task, &crate::toy::Fun(&mut none, 1000), &EvalPass { shots, ..pass() })
}

/// Waves by which a picture is told from others.
fn waves(number: usize, side: u32) -> DynamicImage {
    let colour = |x: u32, y: u32| {
        let (x, y) = (f64::from(x) / f64::from(side), f64::from(y) / f64::from(side));
        let (a, b) = (3.0 + number as f64, 17.0 - number as f64);
        let level = |phase: f64| (128.0 + 100.0 * (a * x + phase).sin() * (b * y + phase).cos()) as u8;
        image::Rgb([level(0.0), level(0.7), level(1.9)])
    };
    RgbImage::from_fn(side, side, colour).into()
}

/// Each picture twice: as PNG, and under another name as `format`.
fn twins(folder: &Path, format: ImageFormat, side: u32) -> SourceTask {
    for number in 0..12 {
        let put = |name: String, picture: &DynamicImage, format: ImageFormat| {
            let file = folder.join(name).with_extension(format.extensions_str()[0]);
            picture.save_with_format(&file, format).unwrap();
            std::fs::write(file.with_extension("txt"), format!("wave number {number}.")).unwrap();
        };
        put(format!("a-{number}"), &waves(number, 64), ImageFormat::Png);
        put(format!("b-{number}"), &waves(number, side), format);
    }
    let source = PictureFolder::open("waves", folder, 0.3, 1).unwrap();
    SourceTask::captions("captions:waves", Arc::new(source), 16)
}

#[test]
fn fault_55_captions_of_a_source_never_show_the_twin_of_the_test_picture() {
    for (format, side) in [(ImageFormat::WebP, 64), (ImageFormat::Jpeg, 64), (ImageFormat::Png, 96)] {
        let folder = tempfile::tempdir().unwrap();
        let task = twins(folder.path(), format, side);
        let tests: BTreeSet<String> =
            (0..task.tests()).map(|i| task.test(i).unwrap().answers[0].clone()).collect();
        let shown = (0..task.demonstrations()).map(|i| task.demonstration(i).unwrap().answers[0].clone());
        assert!(shown.filter(|caption| tests.contains(caption)).count() > 0, "a twin is among them");
        let outcome = asked(&task, 8, Selection::Random).unwrap();
        assert!(outcome.items.len() > 1);
        assert_eq!(leaks(&outcome), 0, "{format:?}");
    }
}

#[test]
fn fault_55_contamination_finds_the_same_picture_and_the_same_question() {
    let folder = tempfile::tempdir().unwrap();
    let task = twins(folder.path(), ImageFormat::Jpeg, 96);
    let document = |segments| Document { id: "seen".into(), kind: DocumentKind::Captioned, segments };
    let mut seen = TrainingHashes::default();
    for index in 0..task.demonstrations() {
        let picture = task.demonstration(index).unwrap().pictures.remove(0);
        seen.add(&document(vec![Segment::Image(picture)]));
    }
    let captions: Vec<String> =
        (0..task.demonstrations()).map(|i| task.demonstration(i).unwrap().answers.remove(0)).collect();
    let twins = (0..task.tests()).filter(|&i| captions.contains(&task.test(i).unwrap().answers[0])).count();
    assert!(twins > 0);
    assert_eq!(seen.check(&task, 100).same_pictures, twins as u64);
    let mut seen = TrainingHashes::default();
    seen.add(&document(vec![Segment::text("what is the capital of LAND 1".to_owned())]));
    let words = own::open(&fault("words.toml")).unwrap();
    let found = seen.check(&words, 100);
    assert_eq!((found.texts, found.examples.keys().next().unwrap().as_str()), (1, "words/test/t1"));
}
