//! Captions and questions of sources.

use std::fs;
use std::sync::Arc;

use mm1_data::chat::{self, Turn};
use mm1_data::document::{Document, DocumentKind, Image, Segment};
use mm1_data::question::Question;
use mm1_data::shard::{Provenance, ShardWriter};
use mm1_data::source::folder::PictureFolder;
use mm1_data::source::{Source, SourceConfig};
use mm1_data::store::{Paths, Store, StoreSpec};
use mm1_eval::baseline::baselines;
use mm1_eval::prompt::{Prompt, Style};
use mm1_eval::result::task_scores;
use mm1_eval::run::EvalPass;
use mm1_eval::shots::Shots;
use mm1_eval::task::Task;
use mm1_eval::tasks::source::SourceTask;

use crate::toy::{Fun, answer_by_prompt, evaluate, pass, protocol};

/// Ten pictures; the damaged ones are cut short.
fn folder(damaged: &[usize]) -> (tempfile::TempDir, SourceTask) {
    let root = tempfile::tempdir().unwrap();
    for i in 0..10 {
        let file = root.path().join(format!("{i}.png"));
        image::RgbImage::from_pixel(8, 8, image::Rgb([i as u8 * 20, 0, 0])).save(&file).unwrap();
        fs::write(file.with_extension("txt"), format!("a red square of shade {i}")).unwrap();
        if damaged.contains(&i) {
            let bytes = fs::read(&file).unwrap();
            fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
        }
    }
    let folder = Arc::new(PictureFolder::open("squares", root.path(), 0.3, 1).unwrap());
    (root, SourceTask::captions("squares-captions", folder, 16))
}

#[test]
fn the_held_out_part_is_described_after_training_pictures() {
    let (_root, task) = folder(&[]);
    let (tests, train) = (task.tests(), task.demonstrations());
    assert!(tests >= 1 && train >= 5 && tests + train == 10, "{tests} and {train}");
    let outcome = evaluate(&task, &mut answer_by_prompt, &EvalPass { shots: 5, ..pass() }).unwrap();
    assert_eq!(outcome.score.n as u64, tests);
    assert_eq!(outcome.items[0].hashes.len(), 6);
    assert!(outcome.items[0].prompt.starts_with("<image>A photo of a red square of shade "));
    assert!(outcome.skipped.is_empty());
}

#[test]
fn damaged_pictures_are_listed_by_name() {
    let (_root, task) = folder(&(0..10).collect::<Vec<_>>());
    let error = evaluate(&task, &mut answer_by_prompt, &EvalPass { shots: 0, ..pass() }).unwrap_err();
    assert!(error.to_string().contains(".png"), "{error}");
    let (_root, task) = folder(&[0, 1, 2, 3]);
    let (mut none, mut readable) = (|_: &[Prompt]| Ok(vec![]), 0);
    let test = Question { pictures: Vec::new(), ..whole() };
    let protocol = protocol();
    let skipped = loop {
        let mut shots = Shots::new(&task, &protocol, Style::Pretrained, readable + 1, 1);
        if shots.draw(&mut Fun(&mut none, 0), &test).is_err() {
            break shots.skipped.list();
        }
        readable += 1;
    };
    assert_eq!(readable + skipped.len(), task.demonstrations() as usize);
    assert!(skipped.iter().all(|skipped| skipped.reason.contains(".png")), "{skipped:?}");
}

fn whole() -> Question {
    let (_root, task) = folder(&[]);
    task.test(0).unwrap()
}

/// A source of shards: documents with these segments, a picture before each.
fn shards(documents: Vec<Document>) -> (tempfile::TempDir, Arc<dyn Source>) {
    let root = tempfile::tempdir().unwrap();
    let mut writer = ShardWriter::new(root.path(), "mine", Provenance::default(), 1 << 20).unwrap();
    for document in documents {
        writer.push(&document).unwrap();
    }
    writer.finish().unwrap();
    let config = SourceConfig::Shards { path: Paths::from(root.path()), test_share: 0.5 };
    let store = StoreSpec { cache: root.path().join("cache"), ..StoreSpec::default() };
    let source = config.open_with("mine", 1, None, &Store::new(store).unwrap()).unwrap();
    (root, source)
}

fn shade(i: u8) -> Segment {
    let mut png = std::io::Cursor::new(Vec::new());
    let picture = image::RgbImage::from_pixel(8, 8, image::Rgb([i * 10, 0, 0]));
    picture.write_to(&mut png, image::ImageFormat::Png).unwrap();
    Segment::Image(Image::from(png.into_inner()))
}

fn captioned(i: u8) -> Document {
    let segments = vec![shade(i), Segment::text(format!("a red square of shade {i}"))];
    Document { id: format!("c{i}"), kind: DocumentKind::Captioned, segments }
}

fn asked(i: u8) -> Document {
    let question = if i.is_multiple_of(2) { "what shade is it?" } else { "is it red?" };
    let answer = if i.is_multiple_of(2) { format!("shade {}", i / 12) } else { "yes".to_owned() };
    let user = Turn::user(vec![shade(i), Segment::text(question)]);
    chat::document(format!("q{i}"), &[user, Turn::assistant(answer)])
}

#[test]
fn captions_of_shards_are_asked_as_those_of_a_folder() {
    let (_root, source) = shards((0..20).map(captioned).collect());
    let task = SourceTask::captions("captions:mine", source, 16);
    assert!(task.tests() + task.demonstrations() == 20 && task.tests() > 3);
    let outcome = evaluate(&task, &mut answer_by_prompt, &EvalPass { shots: 2, ..pass() }).unwrap();
    assert!(outcome.items[0].prompt.starts_with("<image>A photo of a red square of shade "));
    assert!(outcome.items[0].answers[0].starts_with("a red square of shade "));
    assert!(baselines(&task, &outcome.items, 1).unwrap().question_scores.is_empty());
}

#[test]
fn questions_of_conversations_are_asked_beside_what_guessing_is_worth() {
    let (_root, source) = shards((0..24).map(asked).collect());
    let task = SourceTask::questions("vqa:mine", source.clone(), source, 8);
    let outcome =
        evaluate(&task, &mut answer_by_prompt, &EvalPass { shots: 1, style: Style::Chat, ..pass() }).unwrap();
    let row = &outcome.items[0];
    assert!(row.prompt.contains("<user><image>") && row.prompt.ends_with("?<assistant>"), "{}", row.prompt);
    assert_eq!(outcome.by_category.keys().collect::<Vec<_>>(), ["is it", "what shade"]);
    let floor = baselines(&task, &outcome.items, 1).unwrap();
    let sum = |scores: &[f64]| scores.iter().sum::<f64>();
    assert!(sum(&floor.question_scores) > sum(&floor.constant_scores));
    for (row, score) in outcome.items.iter().zip(&floor.question_scores) {
        assert!(row.question != "is it red?" || *score == 100.0, "this question has one answer");
    }
    let scores = task_scores("sft", &outcome, &floor, None);
    assert_eq!(scores[0].baselines["question"], sum(&floor.question_scores) / outcome.items.len() as f64);
}

#[test]
fn documents_of_another_kind_are_named() {
    let (_root, source) = shards((0..8).map(asked).collect());
    let task = SourceTask::captions("captions:mine", source, 8);
    let error = format!("{:#}", task.test(0).unwrap_err());
    assert!(error.contains("a question, not a caption; its task is vqa:SOURCE"), "{error}");
    let page = |i: u8| Document { segments: vec![shade(i), shade(i), Segment::text("x")], ..captioned(i) };
    let (_root, source) = shards((0..8).map(page).collect());
    let error = format!("{:#}", SourceTask::captions("captions:mine", source, 8).test(0).unwrap_err());
    assert!(error.contains("2 pictures; an item of a benchmark is about one"), "{error}");
}
