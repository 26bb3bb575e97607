//! What an evaluation can be told: which demonstrations, chains of thought, multiple choice, and to go on.

use std::cell::Cell;
use std::fs;

use clap::Parser as _;
use mm1_data::document::Segment;
use mm1_data::question::Question;
use mm1_eval::item::ItemResult;
use mm1_eval::log::Log;
use mm1_eval::metric::Metric;
use mm1_eval::model::Model as _;
use mm1_eval::prompt::{Prompt, Style, conclusion};
use mm1_eval::protocol::{Protocol, Selection};
use mm1_eval::run::{self, EvalPass};
use mm1_eval::shots::Shots;
use mm1_eval::task::Task;
use mm1_eval::template::Template;
use serde_json::json;

use crate::toy::{Fun, Toy, answer_by_prompt, evaluate, pass, protocol};

#[test]
fn similar_pictures_are_shown_the_most_similar_last() {
    let task = Toy::vqa();
    let test = task.test(9).unwrap();
    let mut none = |_: &[Prompt]| Ok(vec![]);
    let mut model = Fun(&mut none, 0);
    let similar = Protocol { demonstrations: Selection::Similar, pool: 40, ..protocol() };
    let mut shots = Shots::new(&task, &similar, Style::Pretrained, 4, 7);
    shots.embed_pool(&mut model).unwrap();
    let drawn = shots.draw(&mut model, &test).unwrap();
    // The first pixel of toy/train/9 is that of toy/test/9; those of the others differ by their distance.
    let distance = |q: &Question| q.id.rsplit('/').next().unwrap().parse::<i64>().unwrap().abs_diff(9);
    assert_eq!(drawn.last().unwrap().id, "toy/train/9");
    assert!(drawn.is_sorted_by_key(|q| std::cmp::Reverse(distance(q))), "{drawn:?}");
    assert!(drawn.iter().all(|q| distance(q) <= 2));
    let blank = Question { pictures: vec![], ..test };
    assert!(shots.draw(&mut model, &blank).unwrap_err().to_string().contains("no picture"));
    assert_eq!(model.features(&[]).unwrap().len(), 0);
}

#[test]
fn fixed_demonstrations_are_the_same_for_all_questions() {
    let pass = EvalPass {
        protocol: &Protocol { demonstrations: Selection::Fixed, ..protocol() },
        shots: 3,
        ..pass()
    };
    let outcome = evaluate(&Toy::vqa(), &mut answer_by_prompt, &pass).unwrap();
    let before = |i: usize| outcome.items[i].prompt.rsplit_once("<image>").unwrap().0.to_owned();
    assert!(before(0).matches("<image>").count() == 3 && (1..20).all(|i| before(i) == before(0)));
    let other = evaluate(&Toy::vqa(), &mut answer_by_prompt, &EvalPass { seed: 8, ..pass }).unwrap();
    assert!(!other.items[0].prompt.starts_with(&before(0)));
}

#[test]
fn chains_of_thought_are_shown_and_their_conclusion_is_scored() {
    let mut thinks =
        |prompts: &[Prompt]| Ok(vec![" It is red. The answer is yes.\nQuestion".to_string(); prompts.len()]);
    let pass = EvalPass { protocol: &Protocol { chain_of_thought: true, ..protocol() }, shots: 2, ..pass() };
    let outcome = evaluate(&Toy::vqa(), &mut thinks, &pass).unwrap();
    let row = &outcome.items[1];
    assert_eq!(row.prompt.matches("Short answer: Look at it. The answer is ").count(), 2, "{}", row.prompt);
    assert_eq!((row.prediction.as_str(), row.score), ("yes", 100.0));
    for (said, concluded) in [
        ("So the answer is: B. Done", "B"),
        ("The answer is 3.5.", "3.5"),
        ("first\nlast", "last"),
        ("the answer is a\nand so on", "a"),
        ("", ""),
    ] {
        assert_eq!(conclusion(said), concluded, "{said:?}");
    }
    let few = Toy { train: 4, ..Toy::vqa() };
    let error = evaluate(&few, &mut thinks, &EvalPass { shots: 4, ..pass }).unwrap_err().to_string();
    assert!(error.contains("has 3 that can be read, show a chain of thought"), "{error}");
}

#[test]
fn the_most_likely_option_is_the_answer() {
    let mut says_owl = |prompts: &[Prompt]| Ok(vec!["owl".to_string(); prompts.len()]);
    for metric in [Metric::Choice, Metric::ChoiceByLength, Metric::Greedy] {
        let task = Toy { metric, ..Toy::vqa() };
        let outcome = evaluate(&task, &mut says_owl, &EvalPass { shots: 2, ..pass() }).unwrap();
        for row in &outcome.items {
            assert_eq!(row.score == 100.0, row.answers[0] == "owl", "{row:?}");
            assert_eq!(row.log_probs.len(), if metric == Metric::Greedy { 1 } else { 4 });
        }
        assert!(outcome.score.value > 0.0 && outcome.score.value < 50.0);
    }
}

#[test]
fn pictures_stand_where_the_question_says() {
    let item =
        |text: &str| Question { text: text.into(), ..Toy { pictures: 2, ..Toy::vqa() }.test(0).unwrap() };
    let asked = |text: &str| Template::questions().write_question(&item(text), None);
    let kinds = |segments: &[Segment]| -> String {
        segments.iter().map(|s| if matches!(s, Segment::Image(_)) { 'i' } else { 't' }).collect()
    };
    assert_eq!(kinds(&asked("Which?").unwrap()), "iit");
    assert_eq!(kinds(&asked("First: <image> Second: <image> Which?").unwrap()), "titit");
    assert_eq!(kinds(&asked("<image><image>Which?").unwrap()), "tiit");
    let error = asked("Only <image>?").unwrap_err().to_string();
    assert!(error.contains("toy/test/0: <image> stands 1 times") && error.contains("2 pictures"), "{error}");
}

#[test]
fn a_template_writes_choices_and_blanks_and_names_what_it_does_not_know() {
    let item = Question {
        text: "The _ is red.".into(),
        choices: vec!["cat".into(), "dog".into()],
        answers: vec!["dog".into()],
        ..Question::default()
    };
    let filled =
        Template { ask: "{before}{choice}".into(), answer: "{after}".into(), ..Template::questions() };
    assert_eq!(filled.write_question(&item, Some("cat")).unwrap(), [Segment::prompt("The cat")]);
    assert_eq!(filled.write_answer(&item, Some("cat")), " is red.");
    assert_eq!(filled.write_demonstration(&item, false).unwrap(), [Segment::prompt("The dog is red.\n")]);
    let lettered = Template::letters().write_question(&item, None).unwrap();
    assert_eq!(lettered, [Segment::prompt("Question: The _ is red.\nA. cat\nB. dog\nAnswer:")]);
    let many = Question { choices: vec!["cat".into(); 27], ..item.clone() };
    let error = Template::letters().write_question(&many, None).unwrap_err().to_string();
    assert!(error.contains("it has 27 options, and letters are there for 26"), "{error}");
    let wrong = Template { chat: "{qestion}".into(), ..Template::questions() };
    assert!(wrong.check().unwrap_err().to_string().contains("template.chat: unknown name {qestion}"));
    assert!(
        Template::questions().check().is_ok()
            && Template::letters().check().is_ok()
            && Template::captions().check().is_ok()
    );
}

#[test]
fn an_interrupted_evaluation_goes_on_and_ends_as_an_unbroken_one() {
    let (folder, about) = (tempfile::tempdir().unwrap(), json!({"task": "toy"}));
    let path = folder.path().join("toy.jsonl");
    let pass = EvalPass { protocol: &Protocol { batch: 1, ..protocol() }, shots: 2, ..pass() };
    let whole = evaluate(&Toy::vqa(), &mut answer_by_prompt, &pass).unwrap();
    let asked = Cell::new(0);
    let mut dies = |prompts: &[Prompt]| {
        asked.set(asked.get() + prompts.len());
        anyhow::ensure!(asked.get() <= 12, "killed");
        answer_by_prompt(prompts)
    };
    let run = |model, path| {
        run::evaluate(&Toy::vqa(), &mut Fun(model, 10_000), &mut Log::open(path, &about).unwrap(), &pass)
    };
    assert!(run(&mut dies, &path).is_err());
    // A kill may cut a line short.
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, &text[..text.len() - 40]).unwrap();
    let before = text.lines().count() - 2;
    asked.set(0);
    let mut counts = |prompts: &[Prompt]| {
        asked.set(asked.get() + prompts.len());
        answer_by_prompt(prompts)
    };
    assert_eq!(run(&mut counts, &path).unwrap(), whole);
    assert_eq!(asked.get(), 20 - before);
    let other = Log::open(&path, &json!({"task": "other"})).unwrap_err().to_string();
    assert!(other.contains("holds answers to something else"), "{other}");
}

#[test]
fn an_option_is_judged_without_its_space_in_a_chat() {
    let task = Toy { metric: Metric::Choice, ..Toy::vqa() };
    let mut says = |prompts: &[Prompt]| {
        assert!(prompts.iter().all(|p| matches!(p.segments.last(), Some(Segment::Token { .. }))));
        Ok(vec!["dog".to_string(); prompts.len()])
    };
    let outcome = evaluate(&task, &mut says, &EvalPass { style: Style::Chat, ..pass() }).unwrap();
    assert!(outcome.items.iter().all(|row| row.output == "dog"));
}

#[test]
fn perplexity_is_that_of_all_tokens_together() {
    let task = Toy { metric: Metric::Perplexity, ..Toy::vqa() };
    let mut says_owl = |prompts: &[Prompt]| Ok(vec!["owl".to_string(); prompts.len()]);
    let outcome = evaluate(&task, &mut says_owl, &pass()).unwrap();
    // The toy gives log-probability 0 to what it says, else minus the length, and each text one token.
    let lost =
        |row: &ItemResult| if row.answers[0] == "owl" { 0.0 } else { 1.0 + row.answers[0].len() as f64 };
    let mean = outcome.items.iter().map(lost).sum::<f64>() / 20.0;
    assert!((outcome.score.value - mean.exp()).abs() < 1e-9, "{:?} and {}", outcome.score, mean.exp());
    assert!(outcome.score.ci95[0] < outcome.score.value && outcome.score.value < outcome.score.ci95[1]);
}

/// The settings as a command has them.
#[derive(clap::Parser)]
struct Command {
    #[command(flatten)]
    protocol: Protocol,
}

#[test]
fn a_recipe_and_a_command_have_the_same_settings_and_defaults() {
    let parse = |arguments: &[&str]| {
        let arguments = [&["mm1", "--tasks", "coco,gqa"], arguments].concat();
        Command::try_parse_from(arguments).map(|command| command.protocol)
    };
    let tasks = vec!["coco".to_owned(), "gqa".to_owned()];
    assert_eq!(parse(&[]).unwrap(), Protocol { tasks: tasks.clone(), ..Protocol::default() });
    let flags = "--shots 0,2 --questions 7 --batch 3 --no-blind --style chat --demonstrations similar \
                 --pool 9 --chain-of-thought --image-size 64 --demonstration-size 32 \
                 --demonstration-overviews --full-resolution-demonstrations 1 \
                 --contamination 0 --data sets";
    let written = r#"
        tasks = ["coco", "gqa"]
        shots = [0, 2]
        questions = 7
        batch = 3
        blind = false
        style = "chat"
        demonstrations = "similar"
        pool = 9
        chain_of_thought = true
        image_size = 64
        demonstration_size = 32
        demonstration_overviews = true
        full_resolution_demonstrations = 1
        contamination = 0
        data = "sets"
    "#;
    let all: Protocol = toml::from_str(written).unwrap();
    assert_eq!(parse(&flags.split_whitespace().collect::<Vec<_>>()).unwrap(), all);
    assert_eq!(toml::from_str::<Protocol>(&toml::to_string(&all).unwrap()).unwrap(), all);
    // A field that is in one of the two forms only would have the default in the other.
    let fields = toml::Table::try_from(&all).unwrap();
    assert_eq!(fields.len(), written.trim().lines().count());
    // The older name of a recipe and of a command.
    let older = written.replace("full_resolution_demonstrations", "sharp_demonstrations");
    assert_eq!(toml::from_str::<Protocol>(&older).unwrap(), all);
    let older = flags.replace("--full-resolution-demonstrations", "--sharp-demonstrations");
    assert_eq!(parse(&older.split_whitespace().collect::<Vec<_>>()).unwrap(), all);
    let lone = parse(&["--full-resolution-demonstrations", "1"]).unwrap();
    let lone = Protocol { tasks: all.tasks.clone(), ..lone }.check().unwrap_err().to_string();
    assert!(lone.contains("--demonstration-size"), "{lone}");
    let misspelt = toml::from_str::<Protocol>("qestions = 3").unwrap_err().to_string();
    assert!(misspelt.contains("unknown field `qestions`, expected one of `tasks`, `shots`"), "{misspelt}");
}

#[test]
fn settings_out_of_range_are_named() {
    let tasks = || Protocol { tasks: vec!["coco".to_owned()], ..Protocol::default() };
    assert!(tasks().check().is_ok());
    for (protocol, says) in [
        (Protocol { questions: 0, ..tasks() }, "questions must be at least 1"),
        (Protocol { batch: 0, ..tasks() }, "batch must be at least 1"),
        (Protocol { shots: vec![], ..tasks() }, "write shots = [0]"),
        (Protocol { shots: vec![0, 4, 0], ..tasks() }, "shots = 0 comes twice"),
        (
            Protocol { tasks: ["coco", "gqa", "coco"].map(str::to_owned).into(), ..tasks() },
            "\"coco\" comes twice",
        ),
        (Protocol::default(), "tasks is empty"),
    ] {
        assert!(protocol.check().unwrap_err().to_string().contains(says), "{protocol:?}");
    }
    let reduced = |size| Protocol { demonstration_size: Some(size), ..tasks() }.check_resolution(8);
    let other = Protocol { image_size: Some(20), ..tasks() }.check_resolution(8).unwrap_err().to_string();
    assert!(other.contains("image_size = 20: give 8 to 4096"), "{other}");
    assert!(reduced(16).is_ok() && tasks().check_resolution(8).is_ok());
    for size in [0, 4, 12, 8192] {
        let error = reduced(size).unwrap_err().to_string();
        assert!(error.contains("give 8 to 4096 pixels in whole patches of 8"), "{error}");
    }
}

/// Answers of earlier versions are found again only under this very line.
#[test]
fn the_header_of_a_log_is_what_it_always_was() {
    let header = |pass: &EvalPass<'_>| {
        pass.log_header("sft after 700 steps, 0123456789abcdef", "scene-vqa").to_string()
    };
    let pass_of_a_run =
        EvalPass { protocol: &Protocol::default(), shots: 4, seed: 1, style: Style::Chat, ..pass() };
    let first =
        r#"{"model":"sft after 700 steps, 0123456789abcdef","task":"scene-vqa","shots":4,"blind":false"#;
    let then = r#","style":"chat","seed":1,"demonstrations":"random","pool":1000,"chain_of_thought":false"#;
    let last = r#","demonstration_size":null,"sharp_demonstrations":0}"#;
    assert_eq!(header(&pass_of_a_run), [first, then, last].concat());
    let all = Protocol {
        demonstrations: Selection::Similar,
        pool: 9,
        chain_of_thought: true,
        demonstration_size: Some(32),
        full_resolution_demonstrations: 2,
        ..protocol()
    };
    let header = header(&EvalPass { protocol: &all, blind: true, ..pass() });
    let last = r#""chain_of_thought":true,"demonstration_size":32,"sharp_demonstrations":2}"#;
    assert!(
        header.contains(r#""blind":true,"style":"pretrained","seed":7"#) && header.ends_with(last),
        "{header}"
    );
    // What came later is there only where it is asked for.
    let later = Protocol { image_size: Some(64), demonstration_overviews: true, ..protocol() };
    let later = EvalPass { protocol: &later, ..pass() }.log_header("", "").to_string();
    assert!(later.ends_with(r#""image_size":64,"demonstration_overviews":true}"#), "{later}");
}
