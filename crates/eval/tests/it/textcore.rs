//! TextCore agrees with lm-evaluation-harness: prompts, continuations and scores of
//! `scripts/reference/textcore.py`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use mm1_data::document::{Image, Segment};
use mm1_eval::log::Log;
use mm1_eval::model::{AnswerLimits, Lengths, Likelihood, Model, OnReply, PromptReader, Reply};
use mm1_eval::prompt::{Prompt, PromptWriter, Style};
use mm1_eval::protocol::Protocol;
use mm1_eval::run::{self, EvalPass, Outcome};
use mm1_eval::score::likelihood::{by_length, perplexity};
use mm1_eval::task::Task;
use mm1_eval::tasks::{self, SETS, TEXT_CORE};
use serde::Deserialize;

use crate::toy::{Fun, pass, protocol};

#[derive(Deserialize)]
struct Golden {
    sets: BTreeMap<String, Set>,
}

#[derive(Deserialize)]
struct Set {
    items: Vec<Item>,
    metrics: BTreeMap<String, f64>,
    shown: serde_json::Value,
}

/// What the harness asks and the model's made-up answers: likelihoods, or a text.
#[derive(Deserialize)]
struct Item {
    #[serde(default)]
    requests: Vec<(String, String)>,
    #[serde(default)]
    log_probs: Vec<f64>,
    #[serde(default)]
    greedy: Vec<bool>,
    #[serde(default)]
    context: String,
    #[serde(default)]
    until: Vec<String>,
    #[serde(default)]
    said: String,
    metrics: BTreeMap<String, f64>,
}

fn golden() -> BTreeMap<String, Set> {
    let text = include_str!("../../../../testdata/eval/textcore.json");
    serde_json::from_str::<Golden>(text).unwrap().sets
}

fn samples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/eval/textcore")
}

/// A copy of a set's sample files in `folder`.
fn copied(name: &str, folder: &Path) -> PathBuf {
    let copy = folder.join(name);
    fs::create_dir_all(&copy).unwrap();
    for file in fs::read_dir(samples().join(name)).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), copy.join(file.file_name())).unwrap();
    }
    copy
}

fn text(segments: &[Segment]) -> String {
    let text = |segment: &Segment| match segment {
        Segment::Text { text, .. } => text.clone(),
        other => panic!("{other:?}"),
    };
    segments.iter().map(text).collect()
}

/// The golden answers; it is asked what the harness asks, or it panics.
struct Recorded<'a>(&'a Set);

impl Recorded<'_> {
    fn item(&self, prompt: &Prompt) -> &Item {
        &self.0.items[prompt.id.rsplit('/').next().unwrap().parse::<usize>().unwrap()]
    }

    fn judge(&self, prompt: &Prompt, after: &str) -> Likelihood {
        let (item, prompt) = (self.item(prompt), text(&prompt.segments));
        // The harness moves the space at a context's end when it encodes (`_encode_pair`).
        let same = |(context, continuation): &(String, String)| {
            prompt == context.trim_end() && format!("{prompt}{after}") == format!("{context}{continuation}")
        };
        let place = item.requests.iter().position(same);
        let place = place.unwrap_or_else(|| panic!("{prompt:?} + {after:?} is none of {:?}", item.requests));
        Likelihood { log_prob: item.log_probs[place], tokens: 1, greedy: item.greedy[place] }
    }
}

impl PromptReader for Recorded<'_> {
    type Encoded = (Prompt, Vec<String>);

    fn encode(&self, prompt: &Prompt, continuations: &[String]) -> Result<Self::Encoded> {
        Ok((prompt.clone(), continuations.to_vec()))
    }
    fn lengths(&self, _: &Self::Encoded) -> Option<Lengths> {
        None
    }
}

impl Model for Recorded<'_> {
    fn generate(
        &mut self,
        prompts: &[Self::Encoded],
        limits: &AnswerLimits,
        on_reply: OnReply<'_>,
    ) -> Result<()> {
        for (i, (prompt, _)) in prompts.iter().enumerate() {
            let item = self.item(prompt);
            assert_eq!((text(&prompt.segments), &limits.stop), (item.context.clone(), &item.until));
            on_reply(i, Reply::Words(item.said.clone()))?;
        }
        Ok(())
    }
    fn likelihoods(&mut self, prompts: &[Self::Encoded]) -> Result<Vec<Vec<Likelihood>>> {
        let judge = |(prompt, continuations): &Self::Encoded| {
            continuations.iter().map(|text| self.judge(prompt, text)).collect()
        };
        Ok(prompts.iter().map(judge).collect())
    }
    fn features(&mut self, _: &[Image]) -> Result<Vec<Vec<f32>>> {
        unreachable!("there are no pictures")
    }
}

fn evaluated(name: &str, set: &Set) -> Outcome {
    let task = tasks::open(name, &samples()).unwrap();
    run::evaluate(&task, &mut Recorded(set), &mut Log::none(), &pass()).unwrap()
}

#[test]
fn prompts_and_scores_are_those_of_the_harness() {
    let golden = golden();
    assert_eq!(golden.len(), TEXT_CORE.len());
    for name in TEXT_CORE {
        let set = &golden[name];
        let outcome = evaluated(name, set);
        assert_eq!(outcome.items.len(), set.items.len(), "{name}");
        let metric = if set.metrics.contains_key("acc") { "acc" } else { "exact_match" };
        for (row, item) in outcome.items.iter().zip(&set.items) {
            // All that the harness asks, in its order.
            assert_eq!(row.log_probs, item.log_probs, "{}", row.id);
            assert_eq!(row.score, 100.0 * item.metrics[metric], "{row:?}");
        }
        assert!((outcome.score.value - 100.0 * set.metrics[metric]).abs() < 1e-9, "{name}");
        if set.metrics.contains_key("acc_norm") {
            let expected: Vec<f64> = set.items.iter().map(|i| 100.0 * i.metrics["acc_norm"]).collect();
            assert_eq!(by_length(&outcome.items), expected, "{name}");
        }
        if let Some(expected) = set.metrics.get("perplexity") {
            assert!((perplexity(&outcome.items) / expected - 1.0).abs() < 1e-12, "{name}");
        }
    }
}

#[test]
fn demonstrations_are_those_of_the_harness() {
    for (name, set) in golden() {
        let task = tasks::open(&name, &samples()).unwrap();
        let shown: Vec<_> = (0..2).map(|i| task.demonstration(i).unwrap()).collect();
        let test = task.test(task.tests() - 1).unwrap();
        let write = |choice: Option<&str>| {
            let writer = PromptWriter {
                style: Style::Pretrained,
                template: &task.template(),
                chain_of_thought: false,
            };
            text(&writer.write(&shown, &test, choice).unwrap().segments)
        };
        let written: Vec<String> = match task.template().ask.contains("{choice}") {
            true => test.choices.iter().map(|choice| write(Some(choice))).collect(),
            false => vec![write(None)],
        };
        let expected: Vec<String> = match name.as_str() {
            // The harness stops here: it takes the indices of the right answers for their texts.
            "webqs" => {
                assert!(set.shown.as_str().unwrap().starts_with("Answer is not a string"));
                vec![
                    "Question: what colour is the sky?\nAnswer: Azure blue\n\n\
                     Question: where do penguins live?\nAnswer: Africa\n\n\
                     Question: what is the étude's name?\nAnswer:"
                        .to_owned(),
                ]
            }
            // It writes two spaces before a demonstrated word.
            "lambada" => {
                vec![set.shown[0].as_str().unwrap().replace("  dog", " dog").replace("  key", " key")]
            }
            _ => serde_json::from_value(set.shown).unwrap(),
        };
        assert_eq!(written, expected, "{name}");
    }
}

#[test]
fn a_passage_is_not_its_own_demonstration() {
    let task = tasks::open("lambada", &samples()).unwrap();
    let mut dog = |prompts: &[Prompt]| Ok(vec!["dog".to_string(); prompts.len()]);
    let pass = EvalPass { shots: 2, ..pass() };
    let outcome = run::evaluate(&task, &mut Fun(&mut dog, 1000), &mut Log::none(), &pass).unwrap();
    for row in &outcome.items {
        let shown = row.prompt.rsplit_once("\n\n").unwrap().0;
        assert!(!shown.contains(&row.question), "{}", row.prompt);
    }
}

#[test]
fn names_for_a_blank_are_judged_in_a_chat() {
    let task = tasks::open("winogrande", &samples()).unwrap();
    let mut chair = |prompts: &[Prompt]| Ok(vec!["the chair".to_string(); prompts.len()]);
    let pass = EvalPass { protocol: &Protocol { questions: 1, ..protocol() }, style: Style::Chat, ..pass() };
    let outcome = run::evaluate(&task, &mut Fun(&mut chair, 1000), &mut Log::none(), &pass).unwrap();
    assert_eq!(outcome.items[0].output, "the chair");
    assert!(outcome.items[0].prompt.contains("so _ was hidden."), "{}", outcome.items[0].prompt);
}

#[test]
fn triviaqa_is_read_in_each_of_its_forms() {
    let folder = tempfile::tempdir().unwrap();
    let root = copied("triviaqa", folder.path());
    let tests = || tasks::open("triviaqa", folder.path()).unwrap().tests();
    assert_eq!(tests(), 5);
    fs::copy(root.join("web-dev.json"), root.join("unfiltered-web-dev.json")).unwrap();
    assert_eq!(tests(), 3);
    fs::write(
        root.join("validation.jsonl"),
        r#"{"question": "Who?", "answer": {"aliases": ["I"], "value": "I"}}"#,
    )
    .unwrap();
    let task = tasks::open("triviaqa", folder.path()).unwrap();
    assert_eq!((task.tests(), task.test(0).unwrap().answers), (1, vec!["I".to_string()]));
}

/// A set, one of its files, what is in it (`None`: it is missing), and what is said.
const WRONG: &[(&str, &str, Option<&str>, &str)] = &[
    ("arc-e", "ARC-Easy-Test.jsonl", None, "docs/guide/evaluation.md"),
    ("arc-e", "ARC-Easy-Test.jsonl", Some("\n"), "ARC-Easy-Test.jsonl: it has no item"),
    ("arc-c", "ARC-Challenge-Test.jsonl", Some("{}"), "ARC-Challenge-Test.jsonl:1: missing field `question`"),
    (
        "arc-e",
        "ARC-Easy-Train.jsonl",
        Some("\n{\"question\": {\"stem\": \"?\", \"choices\": []}, \"answerKey\": \"B\"}"),
        "ARC-Easy-Train.jsonl:2: answerKey `B` is the label of no option",
    ),
    ("piqa", "valid-labels.lst", Some("1\n0\n"), "valid-labels.lst: it has 2 lines, but valid.jsonl 3"),
    ("piqa", "valid-labels.lst", Some("1\n0\n2\n"), "valid-labels.lst:3: `2` is not 0 or 1"),
    (
        "lambada",
        "lambada_test.jsonl",
        Some("{\"text\": \"one\"}"),
        "lambada_test.jsonl:1: field `text` is one word",
    ),
    (
        "winogrande",
        "dev.jsonl",
        Some("{\"sentence\": \"a _ b\", \"option1\": \"x\", \"option2\": \"y\", \"answer\": \"\"}"),
        "dev.jsonl:1: field `answer` is ``, not 1 or 2",
    ),
    (
        "winogrande",
        "dev.jsonl",
        Some("{\"sentence\": \"a b\", \"option1\": \"x\", \"option2\": \"y\", \"answer\": \"1\"}"),
        "dev.jsonl:1: field `sentence` has no blank",
    ),
    (
        "hellaswag",
        "hellaswag_val.jsonl",
        Some(
            "{\"activity_label\": \"\", \"ctx_a\": \"\", \"ctx_b\": \"\", \"endings\": [\"x\"], \
                \"label\": \"\"}",
        ),
        "hellaswag_val.jsonl:1: field `label` is \"\", not a number",
    ),
    ("sciq", "test.json", Some("[{}]"), "test.json: missing field `question` at line 1"),
    (
        "triviaqa",
        "web-dev.json",
        Some("{\"Data\": [{\"Question\": \"?\", \"Answer\": {\"Aliases\": []}}]}"),
        "web-dev.json: Data[0]: field `aliases` is empty",
    ),
    (
        "webqs",
        "webquestions.examples.test.json",
        Some("[{\"utterance\": \"?\", \"targetValue\": \"(list)\"}]"),
        "webquestions.examples.test.json: [0].targetValue has no (description",
    ),
];

#[test]
fn files_that_are_not_the_set_are_refused() {
    let known = tasks::open("arc", &samples()).err().unwrap().to_string();
    assert!(
        known.contains("no benchmark \"arc\"; known: coco") && known.contains(", arc-e, arc-c, piqa"),
        "{known}"
    );
    for (name, file, content, said) in WRONG {
        let folder = tempfile::tempdir().unwrap();
        let path = copied(name, folder.path()).join(file);
        match content {
            Some(content) => fs::write(&path, content).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
        let error = format!("{:#}", tasks::open(name, folder.path()).err().unwrap());
        assert!(error.contains(file) && error.contains(said) && !error.contains('\n'), "{error}");
    }
}

#[test]
fn every_set_of_textcore_can_be_opened_by_name() {
    for name in TEXT_CORE {
        assert!(SETS.iter().any(|(known, _)| *known == name), "{name}");
        assert_eq!(tasks::open(name, &samples()).unwrap().name, name);
    }
}
