//! The built-in tasks.

use std::collections::BTreeSet;

use mm1_data::image::open;
use mm1_data::world::{World, WorldConfig};
use mm1_eval::run::Options;
use mm1_eval::shots::{Prompt, Style};
use mm1_eval::task::Task;
use mm1_eval::tasks::scenes::{SceneCaptions, SceneVqa};

use crate::toy::{answer_by_prompt, evaluate, options, pictures};

fn world() -> std::sync::Arc<World> {
    World::new(&WorldConfig::default(), 3).unwrap()
}

#[test]
fn the_five_kinds_of_question_are_in_equal_parts() {
    let outcome =
        evaluate(&SceneVqa(world()), &mut answer_by_prompt, &Options { shots: 2, n: 50, ..options() })
            .unwrap();
    let kinds: Vec<_> = outcome.by_category.iter().map(|(name, score)| (name.as_str(), score.n)).collect();
    assert_eq!(kinds, [("colour", 10), ("count", 10), ("what", 10), ("where", 10), ("yes-no", 10)]);
}

#[test]
fn an_oracle_scores_full() {
    let world = world();
    let tasks: [&dyn Task; 2] = [&SceneVqa(world.clone()), &SceneCaptions(world)];
    for task in tasks {
        let mut index = 0;
        let mut oracle = |prompts: &[Prompt]| {
            let answer = |_: &Prompt| {
                let answer = task.test(index).unwrap().answers[0].clone();
                index += 1;
                format!(" {answer}\n")
            };
            Ok(prompts.iter().map(answer).collect())
        };
        let outcome = evaluate(task, &mut oracle, &Options { shots: 1, n: 50, ..options() }).unwrap();
        let full = if task.name() == "scene-vqa" { 100.0 } else { 800.0 };
        assert!(outcome.score.value >= full, "{}: {}", task.name(), outcome.score.value);
    }
}

#[test]
fn demonstrations_never_come_from_the_test_side() {
    let world = world();
    let tasks: [&dyn Task; 2] = [&SceneVqa(world.clone()), &SceneCaptions(world)];
    for task in tasks {
        let tests: BTreeSet<_> =
            (0..100).map(|i| open(&task.test(i).unwrap().pictures[0]).unwrap().rgb.clone()).collect();
        let mut look = |prompts: &[Prompt]| {
            for prompt in prompts {
                let shown = pictures(prompt);
                assert_eq!(shown.len(), 5);
                assert!(shown[..4].iter().all(|p| !tests.contains(&p.rgb)), "{}", prompt.id);
                assert!(tests.contains(&shown[4].rgb));
            }
            Ok(vec![String::new(); prompts.len()])
        };
        evaluate(task, &mut look, &Options { shots: 4, style: Style::Chat, n: 100, ..options() }).unwrap();
    }
}
