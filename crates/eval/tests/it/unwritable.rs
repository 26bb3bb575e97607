//! Items of other people that are read and can't be asked: they are left out and listed, the rest is asked.

use anyhow::Result;
use mm1_data::question::Question;
use mm1_eval::metric::Metric;
use mm1_eval::prompt::{Prompt, Style};
use mm1_eval::protocol::Protocol;
use mm1_eval::refusal::Refusal;
use mm1_eval::rehearsal::rehearse;
use mm1_eval::run::EvalPass;
use mm1_eval::task::Task;

use crate::toy::{Fun, Toy, evaluate, pass, protocol};

/// A toy whose items, in test and training, are changed by their number.
struct Changed {
    toy: Toy,
    change: fn(u64, &mut Question),
}

impl Changed {
    fn new(metric: Metric, tests: u64, change: fn(u64, &mut Question)) -> Self {
        Self { toy: Toy { metric, tests, ..Toy::vqa() }, change }
    }

    fn changed(&self, index: u64, question: Result<Question>) -> Result<Question> {
        question.map(|mut question| {
            (self.change)(index, &mut question);
            question
        })
    }
}

impl Task for Changed {
    fn name(&self) -> &str {
        "changed"
    }
    fn metric(&self) -> Metric {
        self.toy.metric
    }
    fn tests(&self) -> u64 {
        self.toy.tests
    }
    fn demonstrations(&self) -> u64 {
        self.toy.train
    }
    fn test(&self, index: u64) -> Result<Question> {
        self.changed(index, self.toy.test(index))
    }
    fn demonstration(&self, index: u64) -> Result<Question> {
        self.changed(index, self.toy.demonstration(index))
    }
    fn max_tokens(&self) -> usize {
        4
    }
}

/// Every fourth is whole.
fn damage(index: u64, question: &mut Question) {
    match index % 4 {
        0 => {}
        1 => question.choices[2] = " ".into(),
        2 => question.choices.clear(),
        _ => question.text = "Is <image> like <image>?".into(),
    }
}

#[test]
fn items_without_options_or_with_too_few_pictures_are_left_out_and_listed() {
    let task = Changed::new(Metric::Choice, 8, damage);
    for style in [Style::Pretrained, Style::Chat] {
        let mut model = |asked: &[Prompt]| Ok(vec!["dog".into(); asked.len()]);
        let outcome = evaluate(&task, &mut model, &EvalPass { style, ..pass() }).unwrap();
        let asked: Vec<&str> = outcome.items.iter().map(|item| item.id.as_str()).collect();
        assert_eq!(asked, ["toy/test/0", "toy/test/4"]);
        let reasons: Vec<&str> = outcome.skipped.iter().map(|skipped| skipped.reason.as_str()).collect();
        assert_eq!(reasons.len(), 6);
        assert!(reasons[0].contains("one of its options or answers is empty"), "{reasons:?}");
        assert!(reasons[1].contains("it has no choices"), "{reasons:?}");
        assert!(
            reasons[2].contains("<image> stands 2 times in the question, which has 1 pictures"),
            "{reasons:?}"
        );
    }
}

#[test]
fn demonstrations_that_cant_be_written_are_replaced_and_listed() {
    let task = Changed::new(Metric::VqaAccuracy, 1, damage);
    let mut prompts = 0;
    let mut model = |asked: &[Prompt]| {
        prompts += asked.len();
        assert!(asked.iter().all(|prompt| !prompt.text().contains("like <image>")));
        Ok(vec!["dog".into(); asked.len()])
    };
    // All of those that can be shown: three of four of 40.
    let outcome = evaluate(&task, &mut model, &EvalPass { shots: 30, ..pass() }).unwrap();
    assert_eq!((outcome.items.len(), prompts), (1, 1));
    let all = evaluate(&task, &mut |_| Ok(vec![]), &EvalPass { shots: 31, ..pass() }).unwrap_err();
    assert!(all.to_string().contains("has 30 that can be read"), "{all:#}");
}

#[test]
fn a_task_of_such_items_alone_is_refused_before_anything_is_asked() {
    let task = Changed::new(Metric::Choice, 3, |_, question| question.choices.clear());
    let (protocol, mut none): (Protocol, _) = (protocol(), |_: &[Prompt]| Ok(vec![]));
    let refused =
        rehearse(&task, &Fun(&mut none, 100), &EvalPass { protocol: &protocol, ..pass() }).unwrap_err();
    assert!(refused.downcast_ref::<Refusal>().is_some());
    assert!(refused.to_string().contains("none can be read: toy/test/0: it has no choices"), "{refused:#}");
}
