//! An evaluation from end to end, with models that are functions.

use std::cell::RefCell;

use mm1_eval::baseline::{Baselines, baselines};
use mm1_eval::png::Png;
use mm1_eval::prompt::{Prompt, Style};
use mm1_eval::protocol::Protocol;
use mm1_eval::result::{AnsweredSample, TaskScore, samples, task_scores};
use mm1_eval::run::{EvalPass, Outcome};
use mm1_eval::score::bootstrap;

use crate::toy::{Toy, answer_by_prompt, evaluate, pass, pictures, protocol};

fn run(task: &Toy, shots: usize, pass: &EvalPass<'_>) -> Outcome {
    evaluate(task, &mut answer_by_prompt, &EvalPass { shots, ..*pass }).unwrap()
}

#[test]
fn scores_do_not_depend_on_the_batch_size() {
    for task in [Toy::vqa(), Toy::captions()] {
        let one = run(&task, 4, &EvalPass { protocol: &Protocol { batch: 1, ..protocol() }, ..pass() });
        for batch in [3, 7, 32] {
            assert_eq!(
                run(&task, 4, &EvalPass { protocol: &Protocol { batch, ..protocol() }, ..pass() }),
                one
            );
        }
    }
}

#[test]
fn the_score_is_the_mean_of_the_rows() {
    let outcome = run(&Toy::vqa(), 2, &pass());
    let mean = |rows: &[f64]| rows.iter().sum::<f64>() / rows.len() as f64;
    let all: Vec<f64> = outcome.items.iter().map(|r| r.score).collect();
    assert_eq!((outcome.score.value, outcome.score.n), (mean(&all), 20));
    assert!(outcome.score.value > 0.0 && outcome.score.value < 100.0);
    let what: Vec<f64> = outcome.items.iter().filter(|r| r.category == "what").map(|r| r.score).collect();
    assert_eq!(outcome.by_category["what"], bootstrap::mean(&what, 7));
    assert_eq!(outcome.items[0].output.find('\n'), None);
}

#[test]
fn a_model_that_sees_scores_full_and_blind_it_does_not() {
    let task = Toy::vqa();
    let mut sees = |prompts: &[Prompt]| {
        let answer = |p: &Prompt| {
            let index = pictures(p).last().unwrap().rgb[0];
            if index % 2 == 1 { " yes" } else { [" dog", " cat", " owl"][usize::from(index) % 3] }.to_string()
        };
        Ok(prompts.iter().map(answer).collect())
    };
    let outcome = evaluate(&task, &mut sees, &EvalPass { shots: 1, ..pass() }).unwrap();
    assert_eq!(outcome.score.value, 100.0);
    let blind = EvalPass { blind: true, ..pass() };
    let blinded = evaluate(&task, &mut sees, &EvalPass { shots: 1, ..blind }).unwrap();
    assert!(blinded.score.value < 60.0);
    assert_eq!(blinded.items[0].prompt, outcome.items[0].prompt);
    assert_ne!(blinded.items[0].hashes, outcome.items[0].hashes);
}

#[test]
fn a_blind_model_gets_grey_pictures_of_the_same_size() {
    let mut look = |prompts: &[Prompt]| {
        for picture in prompts.iter().flat_map(pictures) {
            assert_eq!((picture.width, picture.height), (3, 2));
            assert_eq!(picture.rgb, [128; 18]);
        }
        Ok(vec![String::new(); prompts.len()])
    };
    evaluate(&Toy::vqa(), &mut look, &EvalPass { shots: 3, style: Style::Chat, blind: true, ..pass() })
        .unwrap();
}

#[test]
fn damaged_items_are_left_out_and_listed() {
    let task = Toy { damaged: vec![1, 4], ..Toy::vqa() };
    let outcome = run(&task, 38, &pass());
    assert_eq!(outcome.score.n, 18);
    let ids: Vec<_> = outcome.skipped.iter().map(|s| s.id.as_str()).collect();
    assert_eq!(ids, ["toy/test/1", "toy/test/4", "toy/train/1", "toy/train/4"]);
    assert_eq!(outcome.skipped[0].reason, "toy/test/1: the picture is damaged");
    let empty = Toy { damaged: (0..100).collect(), ..Toy::vqa() };
    let error = evaluate(&empty, &mut answer_by_prompt, &EvalPass { shots: 0, style: Style::Chat, ..pass() })
        .unwrap_err();
    assert!(error.to_string().contains("no test item can be read"), "{error}");
}

#[test]
fn a_generator_that_loses_an_answer_is_refused() {
    let mut short = |_: &[Prompt]| Ok(vec![String::new()]);
    let error = evaluate(&Toy::vqa(), &mut short, &EvalPass { shots: 0, style: Style::Chat, ..pass() })
        .unwrap_err()
        .to_string();
    assert!(error.contains("the model gave 1 replies to 16"), "{error}");
}

#[test]
fn progress_counts_every_item() {
    let seen = RefCell::new(Vec::new());
    let progress = |done, all| seen.borrow_mut().push((done, all));
    run(&Toy::vqa(), 0, &EvalPass { progress: &progress, ..pass() });
    assert_eq!(*seen.borrow(), [(16, 20), (20, 20)]);
}

#[test]
fn the_constant_is_the_most_frequent_training_answer() {
    let outcome = run(&Toy::vqa(), 0, &pass());
    let Baselines { constant, constant_scores, prior, prior_scores, question_scores, skipped } =
        baselines(&Toy::vqa(), &outcome.items, 7).unwrap();
    assert_eq!(constant, "yes");
    assert_eq!(constant_scores.iter().sum::<f64>(), 1000.0);
    assert_eq!(prior["yes-no"], "yes");
    assert!(["dog", "cat", "owl"].contains(&prior["what"].as_str()));
    assert!(prior_scores.iter().sum::<f64>() > 1000.0);
    assert!(question_scores.iter().sum::<f64>() >= prior_scores.iter().sum::<f64>());
    assert!(skipped.is_empty());
}

#[test]
fn the_constant_caption_is_a_training_caption_that_scores() {
    let outcome = run(&Toy::captions(), 0, &pass());
    let floor = baselines(&Toy::captions(), &outcome.items, 7).unwrap();
    assert!(floor.constant.starts_with("A photo of a "), "{}", floor.constant);
    assert!(floor.constant_scores.iter().sum::<f64>() > 0.0);
    assert!(floor.prior.is_empty() && floor.prior_scores.is_empty() && floor.question_scores.is_empty());
    assert_eq!(floor, baselines(&Toy::captions(), &outcome.items, 7).unwrap());
}

#[test]
fn scores_have_the_form_of_the_contract() {
    let outcome = run(&Toy::vqa(), 4, &pass());
    let blind = run(&Toy::vqa(), 4, &EvalPass { blind: true, ..pass() });
    let floor = baselines(&Toy::vqa(), &outcome.items, 7).unwrap();
    let scores = task_scores("pretrain", &outcome, &floor, Some(&blind));
    let tasks: Vec<_> = scores.iter().map(|r| r.task.as_str()).collect();
    assert_eq!(tasks, ["toy", "toy/what", "toy/yes-no"]);
    assert_eq!(scores[2].baselines["constant"], 100.0);
    assert_eq!(scores[0].baselines["blind"], blind.score.value);
    let json = serde_json::to_value(&scores[0]).unwrap();
    let keys: Vec<_> = json.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, ["stage", "task", "shots", "metric", "value", "ci95", "n", "baselines"]);
    assert_eq!(json["metric"], "vqa-accuracy");
    assert_eq!(serde_json::from_value::<TaskScore>(json).unwrap(), scores[0]);
}

#[test]
fn samples_keep_the_first_pictures_and_every_hash() {
    let outcome = run(&Toy::vqa(), 4, &pass());
    let samples = samples("sft", &outcome, 3);
    assert_eq!(samples.len(), 3);
    assert_eq!(samples.iter().map(|s| s.item.pictures.len()).collect::<Vec<_>>(), [1, 1, 0]);
    assert_eq!(samples[0].item.hashes.len(), 5);
    let json = serde_json::to_string(&samples[0]).unwrap();
    assert_eq!(serde_json::from_str::<AnsweredSample>(&json).unwrap(), samples[0]);
    assert!(samples[0].item.prompt.ends_with("<image>Question: What is thing 0? Short answer:"));
}

#[test]
fn a_picture_survives_png_and_base64() {
    for side in [1, 2, 3, 7] {
        let rgb: Vec<u8> = (0..side * 5 * 3).map(|i| (i * 37) as u8).collect();
        let png =
            Png::encode(&mm1_data::document::Picture { width: side, height: 5, rgb: rgb.clone() }).unwrap();
        let decoded = image::load_from_memory(&from_base64(&png.png_base64)).unwrap();
        assert_eq!(decoded.into_rgb8().into_raw(), rgb);
    }
}

fn from_base64(text: &str) -> Vec<u8> {
    let value = |c: u8| match c {
        b'A'..=b'Z' => c - b'A',
        b'a'..=b'z' => c - b'a' + 26,
        b'0'..=b'9' => c - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => 0,
    };
    assert_eq!(text.len() % 4, 0);
    let padding = text.bytes().filter(|&c| c == b'=').count();
    let mut bytes = Vec::new();
    for four in text.as_bytes().chunks(4) {
        let word = four.iter().fold(0u32, |word, &c| word << 6 | u32::from(value(c)));
        bytes.extend(&word.to_be_bytes()[1..]);
    }
    bytes.truncate(bytes.len() - padding);
    bytes
}
