//! The form of prompts.

use std::collections::BTreeSet;

use mm1_data::document::{Segment, Special};
use mm1_data::question::Question;
use mm1_eval::log::Log;
use mm1_eval::prompt::{Prompt, PromptWriter, Style, prediction};
use mm1_eval::protocol::{Protocol, Selection};
use mm1_eval::run::{EvalPass, evaluate};
use mm1_eval::shots::Shots;
use mm1_eval::task::Task;
use mm1_eval::template::typical_answer;

use crate::toy::{Fun, Toy, pass, pictures, protocol};

fn draw(task: &dyn Task, shots: usize, seed: u64, test: &Question) -> Vec<Question> {
    try_draw(task, (shots, seed), Selection::Random, test).unwrap()
}

fn try_draw(
    task: &dyn Task,
    (shots, seed): (usize, u64),
    demonstrations: Selection,
    test: &Question,
) -> anyhow::Result<Vec<Question>> {
    let protocol = Protocol { demonstrations, pool: 40, ..protocol() };
    let (mut shots, mut none) =
        (Shots::new(task, &protocol, Style::Pretrained, shots, seed), |_: &[Prompt]| Ok(vec![]));
    let mut model = Fun(&mut none, 0);
    shots.embed_pool(&mut model)?;
    shots.draw(&mut model, test)
}

fn prompt(task: &Toy, style: Style, shots: usize) -> Prompt {
    let test = task.test(0).unwrap();
    let writer = PromptWriter { style, template: &task.template(), chain_of_thought: false };
    writer.write(&draw(task, shots, 7, &test), &test, None).unwrap()
}

fn texts(prompt: &Prompt) -> Vec<&str> {
    prompt
        .segments
        .iter()
        .filter_map(|s| match s {
            Segment::Text { text, .. } => Some(text.as_str()),
            _ => None,
        })
        .collect()
}

#[test]
fn every_demonstration_brings_its_pictures() {
    for style in [Style::Pretrained, Style::Chat] {
        for shots in [0, 1, 4, 8] {
            for count in [1, 3] {
                let task = Toy { pictures: count, ..Toy::vqa() };
                assert_eq!(pictures(&prompt(&task, style, shots)).len(), (shots + 1) * count);
            }
        }
    }
}

#[test]
fn nothing_of_a_prompt_is_learned() {
    for style in [Style::Pretrained, Style::Chat] {
        for segment in prompt(&Toy::vqa(), style, 4).segments {
            match segment {
                Segment::Text { learn, .. } | Segment::Token { learn, .. } => assert!(!learn, "{style:?}"),
                Segment::Image(_) => {}
            }
        }
    }
}

#[test]
fn pretrained_vqa_is_the_papers_form() {
    let prompt = prompt(&Toy::vqa(), Style::Pretrained, 1);
    let texts = texts(&prompt);
    let demonstration = texts[0];
    assert!(demonstration.starts_with("Question: What is thing "), "{demonstration:?}");
    let answer = demonstration.split(" Short answer: ").nth(1).unwrap();
    assert!(["dog\n", "cat\n", "owl\n", "yes\n"].contains(&answer), "{answer:?}");
    assert_eq!(texts[1], "Question: What is thing 0? Short answer:");
    assert!(matches!(prompt.segments[..], [Segment::Image(_), _, Segment::Image(_), _]));
}

#[test]
fn pretrained_captions_are_the_papers_form() {
    let prompt = prompt(&Toy::captions(), Style::Pretrained, 1);
    let texts = texts(&prompt);
    assert!(texts[0].starts_with("A photo of a ") && texts[0].ends_with(".\n"), "{:?}", texts[0]);
    assert_eq!(texts[1], "A photo of");
}

#[test]
fn a_caption_of_another_form_gets_the_words_before_it_and_one_line() {
    let mut shown = Toy::captions().demonstration(0).unwrap();
    let test = Question { answers: vec!["Two cats".into()], ..Toy::captions().test(0).unwrap() };
    shown.answers = vec!["Two cats\nand a dog".into()];
    let template = Toy::captions().template();
    let writer = PromptWriter { style: Style::Pretrained, template: &template, chain_of_thought: false };
    let prompt = writer.write(&[shown], &test, None).unwrap();
    assert_eq!(texts(&prompt), ["A photo of Two cats and a dog\n", "A photo of"]);
    assert_eq!(prediction(&test, " two cats"), "two cats");
    assert_eq!(prediction(&test, "A photo of two cats"), "two cats");
}

#[test]
fn the_words_that_the_prompt_gave_are_put_back_before_scoring() {
    let (captions, vqa) = (Toy::captions().test(0).unwrap(), Toy::vqa().test(0).unwrap());
    assert_eq!(prediction(&captions, " a dog."), "A photo of a dog.");
    assert_eq!(prediction(&captions, "A photo of a dog."), "A photo of a dog.");
    assert_eq!(prediction(&vqa, " dog "), "dog");
}

#[test]
fn chat_demonstrations_are_earlier_turns() {
    let prompt = prompt(&Toy::vqa(), Style::Chat, 2);
    let tokens: Vec<_> = prompt
        .segments
        .iter()
        .filter_map(|s| match s {
            Segment::Token { token, .. } => Some(*token),
            _ => None,
        })
        .collect();
    use Special::{Assistant, End, User};
    assert_eq!(tokens, [User, Assistant, End, User, Assistant, End, User, Assistant]);
    assert!(matches!(prompt.segments.last(), Some(Segment::Token { token: Assistant, .. })));
    assert_eq!(*texts(&prompt).last().unwrap(), "What is thing 0?");
}

#[test]
fn no_text_before_an_answer_ends_with_a_space() {
    for task in [Toy::vqa(), Toy::captions()] {
        for style in [Style::Pretrained, Style::Chat] {
            for text in texts(&prompt(&task, style, 4)) {
                assert!(!text.ends_with(' ') && !text.starts_with(' '), "{text:?}");
            }
        }
    }
}

#[test]
fn the_most_frequent_answer_is_demonstrated() {
    let mut question = Toy::vqa().test(0).unwrap();
    question.answers = ["b", "a", "a", "c", "c"].map(String::from).to_vec();
    assert_eq!(typical_answer(&question), "a");
    question.answers = ["b", "a"].map(String::from).to_vec();
    assert_eq!(typical_answer(&question), "b");
}

#[test]
fn demonstrations_depend_on_the_seed_and_the_question_alone() {
    let task = Toy::vqa();
    let (first, second) = (task.test(0).unwrap(), task.test(1).unwrap());
    assert_eq!(draw(&task, 8, 7, &first), draw(&task, 8, 7, &first));
    assert_ne!(draw(&task, 8, 7, &first), draw(&task, 8, 8, &first));
    assert_ne!(draw(&task, 8, 7, &first), draw(&task, 8, 7, &second));
    assert_eq!(draw(&task, 8, 7, &first)[..4], draw(&task, 4, 7, &first)[..]);
}

#[test]
fn demonstrations_are_training_items_without_repetition() {
    let task = Toy::vqa();
    let drawn = draw(&task, 40, 7, &task.test(3).unwrap());
    let ids: BTreeSet<_> = drawn.iter().map(|q| q.id.as_str()).collect();
    assert_eq!(ids.len(), 40);
    assert!(ids.iter().all(|id| id.starts_with("toy/train/")));
}

#[test]
fn a_training_item_with_the_test_picture_is_never_shown() {
    let task = Toy::vqa();
    let mut test = task.test(3).unwrap();
    test.pictures = task.demonstration(5).unwrap().pictures;
    let drawn = draw(&task, 39, 7, &test);
    assert!(drawn.iter().all(|q| q.id != "toy/train/5"));
    let error = try_draw(&task, (40, 7), Selection::Random, &test).unwrap_err().to_string();
    assert!(error.contains("40 demonstrations") && error.contains("has 39"), "{error}");
}

#[test]
fn a_prompt_that_does_not_fit_is_refused() {
    let mut never = |_: &[Prompt]| -> anyhow::Result<Vec<String>> { panic!("must not generate") };
    let run = |model, shots| {
        let pass = EvalPass { shots, ..pass() };
        evaluate(&Toy::vqa(), &mut Fun(model, 60), &mut Log::none(), &pass)
    };
    let error = run(&mut never, 4).unwrap_err().to_string();
    for part in ["toy/test/0", "4 demonstrations", "context has 60", "fewer shots"] {
        assert!(error.contains(part), "{error}");
    }
    let mut answer = |p: &[Prompt]| Ok(vec![String::new(); p.len()]);
    assert!(run(&mut answer, 0).is_ok());
}
