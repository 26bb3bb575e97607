//! The built-in tasks.

use std::collections::{BTreeMap, BTreeSet};

use mm1_data::image::open;
use mm1_data::question::Question;
use mm1_data::world::{LetterHeight, World, WorldConfig};
use mm1_eval::metric::Metric;
use mm1_eval::prompt::{Prompt, Style};
use mm1_eval::protocol::Protocol;
use mm1_eval::run::EvalPass;
use mm1_eval::task::Task;
use mm1_eval::tasks::scenes::SceneTask;

use crate::toy::{answer_by_prompt, evaluate, pass, pictures, protocol};

fn world() -> std::sync::Arc<World> {
    World::new(&WorldConfig { detail_size: 64, ..WorldConfig::default() }, 3).unwrap()
}

/// Every task.
fn all(world: std::sync::Arc<World>) -> [SceneTask; 7] {
    let tasks = [
        SceneTask::captions,
        SceneTask::vqa,
        SceneTask::pairs,
        SceneTask::binding,
        SceneTask::steps,
        SceneTask::ocr,
        SceneTask::detail,
    ];
    tasks.map(|task| task(world.clone()))
}

#[test]
fn the_five_kinds_of_question_are_in_equal_parts() {
    let outcome = evaluate(
        &SceneTask::vqa(world()),
        &mut answer_by_prompt,
        &EvalPass { protocol: &Protocol { questions: 50, ..protocol() }, shots: 2, ..pass() },
    )
    .unwrap();
    let kinds: Vec<_> = outcome.by_category.iter().map(|(name, score)| (name.as_str(), score.n)).collect();
    assert_eq!(kinds, [("colour", 10), ("count", 10), ("what", 10), ("where", 10), ("yes-no", 10)]);
}

#[test]
fn an_oracle_scores_full() {
    for task in all(world()) {
        let task = &task;
        let mut index = 0;
        let mut oracle = |prompts: &[Prompt]| {
            let answer = |_: &Prompt| {
                let answer = task.test(index).unwrap().answers[0].clone();
                index += 1;
                format!(" {answer}\n")
            };
            Ok(prompts.iter().map(answer).collect())
        };
        let outcome = evaluate(
            task,
            &mut oracle,
            &EvalPass { protocol: &Protocol { questions: 50, ..protocol() }, shots: 1, ..pass() },
        )
        .unwrap();
        let full = if task.name() == "scene-captions" { 800.0 } else { 100.0 };
        assert!(outcome.score.value >= full, "{}: {}", task.name(), outcome.score.value);
    }
}

#[test]
fn demonstrations_never_come_from_the_test_side() {
    for task in all(world()) {
        let task = &task;
        let asked = (0..99).flat_map(|i| task.test(i).unwrap().pictures);
        let tests: BTreeSet<_> = asked.map(|p| open(&p).unwrap().rgb.clone()).collect();
        let mut look = |prompts: &[Prompt]| {
            for prompt in prompts {
                let shown = pictures(prompt);
                let own = match task.name() {
                    "scene-pairs" | "scene-steps" => 2..=2,
                    "scene-binding" => 3..=5,
                    _ => 1..=1,
                };
                let from = shown.iter().position(|p| tests.contains(&p.rgb)).unwrap();
                assert!(shown[from..].iter().all(|p| tests.contains(&p.rgb)), "{}", prompt.id);
                assert!(own.contains(&(shown.len() - from)), "{}: {from} of {}", prompt.id, shown.len());
                assert!(from >= 4 * own.start(), "{}: {from} pictures of demonstrations", prompt.id);
            }
            Ok(vec![String::new(); prompts.len()])
        };
        evaluate(
            task,
            &mut look,
            &EvalPass {
                protocol: &Protocol { questions: 99, ..protocol() },
                shots: 4,
                style: Style::Chat,
                ..pass()
            },
        )
        .unwrap();
    }
}

#[test]
fn kinds_of_the_further_tasks_take_turns() {
    let [_, _, pairs, binding, steps, ocr, detail] = all(world());
    let kinds = |task: &SceneTask| [0, 1, 2, 3].map(|i| task.test(i).unwrap().category);
    assert_eq!(kinds(&pairs), ["which", "more", "changed", "which"]);
    assert_eq!(kinds(&binding), ["two-words", "three-words", "four-words", "two-words"]);
    assert_eq!(kinds(&steps), ["more", "together", "difference", "more"]);
    assert_eq!(kinds(&ocr), ["large", "medium", "small", "large"]);
    assert_eq!(kinds(&detail), ["sign", "price", "item", "cell"]);
    for task in [pairs, binding, steps, ocr, detail] {
        let ids: BTreeSet<_> = (0..300).map(|i| task.test(i).unwrap().id).collect();
        assert_eq!(ids.len(), 300, "{}", task.name());
    }
}

#[test]
fn detailed_pictures_are_scored_by_what_is_needed_and_by_the_height_of_letters_too() {
    let task = SceneTask::detail(world());
    let asked: Vec<_> = (0..110).map(|i| task.test(i).unwrap()).collect();
    let outcome = evaluate(
        &task,
        &mut answer_by_prompt,
        &EvalPass { protocol: &Protocol { questions: 110, ..protocol() }, shots: 0, ..pass() },
    )
    .unwrap();
    let n = |name: &str| outcome.by_category.get(name).map_or(0, |score| score.n);
    assert_eq!((n("price"), n("yes-no"), n("whole"), n("detail")), (10, 10, 30, 80));
    for class in LetterHeight::CLASSES {
        let expected = asked.iter().filter(|q| q.further_categories.iter().any(|c| c == class)).count();
        assert!(expected > 0 && n(class) == expected, "{class}: {} of {expected}", n(class));
    }
    // A blind demonstration is the same item.
    for index in 0..22 {
        let whole = task.demonstration(index).unwrap();
        assert_eq!(whole.pictures.len(), 1);
        assert_eq!(Question { pictures: Vec::new(), ..whole }, task.blind_demonstration(index).unwrap());
    }
}

#[test]
fn endings_of_texts_are_judged_by_their_likelihood_and_scored_by_what_they_take() {
    for (task, metric) in [
        (SceneTask::text_choice(world()), Metric::Choice),
        (SceneTask::text_completion(world()), Metric::Greedy),
    ] {
        assert_eq!((task.metric(), task.has_pictures()), (metric, false));
        let right: BTreeMap<String, String> =
            (0..50).map(|i| task.test(i).unwrap()).map(|q| (q.id, q.answers[0].clone())).collect();
        let mut oracle =
            |prompts: &[Prompt]| Ok(prompts.iter().map(|prompt| right[&prompt.id].clone()).collect());
        let pass = EvalPass { protocol: &Protocol { questions: 50, ..protocol() }, shots: 4, ..pass() };
        let outcome = evaluate(&task, &mut oracle, &pass).unwrap();
        assert_eq!(outcome.score.value, 100.0);
        let n = |name: &str| outcome.by_category.get(name).map_or(0, |score| score.n);
        let kinds = ["class", "number", "place", "object", "story", "memory", "reading"].map(n);
        assert_eq!(kinds, [10, 10, 10, 10, 10, 20, 30]);
        let item = &outcome.items[2];
        assert_eq!(item.prompt.lines().count(), 5, "{}", item.prompt);
        assert!(item.prompt.ends_with("It is in the"), "{}", item.prompt);
        let judged = if metric == Metric::Choice { 4 } else { 1 };
        assert_eq!(item.log_probs.len(), judged);
        // The same items by both metrics.
        assert_eq!(item.answers, SceneTask::text_choice(world()).test(2).unwrap().answers);
    }
}
