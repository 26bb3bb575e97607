//! Sets on disk: a small sample of each, as its authors' files look, is opened and answered by an oracle.

mod captions;
mod chat;
mod vqa;

use std::fs;
use std::path::Path;

use mm1_data::image::open;
use mm1_data::question::Question;
use mm1_eval::metric::Metric;
use mm1_eval::prompt::Prompt;
use mm1_eval::run::{EvalPass, Outcome};
use mm1_eval::task::Task;
use mm1_eval::tasks;
use mm1_eval::tasks::benchmark::Benchmark;
use mm1_eval::template::typical_answer;
use tempfile::TempDir;

use crate::toy::{evaluate, pass};

/// A folder of texts, and of pictures of one colour: red is 10 times the number.
fn data(texts: &[(&str, impl AsRef<str>)], pictures: &[(&str, u8)]) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    let place = |name: &str| {
        let path = root.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    };
    for (name, text) in texts {
        fs::write(place(name), text.as_ref()).unwrap();
    }
    for (name, shade) in pictures {
        let jpeg = name.ends_with(".jpg");
        let format = if jpeg { image::ImageFormat::Jpeg } else { image::ImageFormat::Png };
        picture(*shade).save_with_format(place(name), format).unwrap();
    }
    root
}

fn picture(shade: u8) -> image::RgbImage {
    image::RgbImage::from_pixel(8, 8, image::Rgb([shade * 10, 0, 0]))
}

/// Opens a set and asks an oracle, which gets all right, and one who is always wrong.
fn opened(name: &str, data: &Path) -> (Benchmark, Outcome) {
    let set = tasks::open(name, data).unwrap_or_else(|e| panic!("{e:#}"));
    assert_eq!(set.name(), name);
    let pass = EvalPass { shots: 1, ..pass() };
    let answer = |prompt: &Prompt| {
        let asked = all(&set).into_iter().find(|question| question.id == prompt.id).unwrap();
        format!(" {}\nQuestion", typical_answer(&asked))
    };
    let mut oracle = |prompts: &[Prompt]| Ok(prompts.iter().map(answer).collect());
    let outcome = evaluate(&set, &mut oracle, &pass).unwrap();
    assert_eq!(
        (outcome.skipped.len(), outcome.items.len() as u64),
        (0, set.tests()),
        "{:?}",
        outcome.skipped
    );
    let mut wrong = |prompts: &[Prompt]| Ok(vec!["zebra".to_owned(); prompts.len()]);
    assert_eq!(evaluate(&set, &mut wrong, &pass).unwrap().score.value, 0.0);
    match set.metric() {
        Metric::Cider => assert!(outcome.score.value > 100.0, "{}", outcome.score.value),
        _ => assert_eq!(outcome.score.value, 100.0, "{:#?}", outcome.items),
    }
    (set, outcome)
}

fn all(set: &Benchmark) -> Vec<Question> {
    (0..set.tests()).map(|i| set.test(i).unwrap()).collect()
}

/// The numbers of a question's pictures.
fn shades(question: &Question) -> Vec<u8> {
    let shade = |picture| (f32::from(open(picture).unwrap().rgb[0]) / 10.0).round() as u8;
    question.pictures.iter().map(shade).collect()
}

fn refused(name: &str, data: &Path) -> String {
    format!("{:#}", tasks::open(name, data).err().unwrap())
}

#[test]
fn a_set_that_is_not_there_is_described() {
    let root = tempfile::tempdir().unwrap();
    assert!(refused("imagenet", root.path()).contains("no benchmark \"imagenet\"; known: coco, "));
    for (name, _) in tasks::SETS {
        let error = refused(name, root.path());
        assert!(error.starts_with(&format!("{name}: ")) && !error.contains('\n'), "{error}");
        assert!(error.contains(&root.path().join(name).display().to_string()), "{error}");
        assert!(
            error.contains("has to hold: ") || error.contains("docs/guide/evaluation.md says"),
            "{error}"
        );
    }
}

#[test]
fn each_set_is_in_the_table_of_the_documentation() {
    let table = include_str!("../../../../docs/guide/evaluation.md");
    for (name, _) in tasks::SETS {
        assert!(table.contains(&format!("| `{name}` |")), "{name}");
    }
}
