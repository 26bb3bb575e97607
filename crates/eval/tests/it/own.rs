//! A task of a user's own.

use std::fs;
use std::path::Path;

use mm1_eval::metric::Metric;
use mm1_eval::prompt::Prompt;
use mm1_eval::run::EvalPass;
use mm1_eval::task::Task;
use mm1_eval::tasks::benchmark::Benchmark;
use mm1_eval::tasks::own;

use crate::toy::{evaluate, pass};

#[test]
fn the_example_of_the_documents_is_evaluated() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../recipes/tasks/shop.toml");
    let task = own::open(&path).unwrap();
    assert_eq!((task.name(), task.metric(), task.max_tokens()), ("shop-questions", Metric::VqaAccuracy, 8));
    let mut says = |prompts: &[Prompt]| Ok(vec![" Red.\nQuestion".to_string(); prompts.len()]);
    let outcome = evaluate(&task, &mut says, &EvalPass { shots: 2, ..pass() }).unwrap();
    let scores: Vec<f64> = outcome.items.iter().map(|row| row.score).collect();
    assert_eq!((scores, outcome.by_category.len()), (vec![100.0, 0.0, 0.0, 0.0], 3));
    let row = &outcome.items[2];
    assert!(row.hashes.len() >= 4, "pictures of two demonstrations and two of its own");
    let asked =
        "Question: First: <image> Second: <image> Which is green, the first or the second? Short answer:";
    assert!(row.prompt.ends_with(&format!("\n{asked}")), "{}", row.prompt);
    assert_eq!((row.id.as_str(), row.category.as_str()), ("shop-questions/test/3", "compare"));
    // The shots of the documents, and those that are the default.
    for shots in [0, 4, 8] {
        let outcome = evaluate(&task, &mut says, &EvalPass { shots, ..pass() }).unwrap();
        assert_eq!((outcome.items.len(), outcome.skipped.len()), (4, 0), "{shots} shots");
    }
}

/// Opens a task of these two files.
fn opened(toml: &str, items: &str) -> Result<Benchmark, String> {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("task.toml"), toml).unwrap();
    fs::write(folder.path().join("test.jsonl"), items).unwrap();
    fs::write(folder.path().join("picture.png"), "never opened").unwrap();
    own::open(&folder.path().join("task.toml")).map_err(|e| format!("{e:#}"))
}

const TASK: &str = "name = \"mine\"\nmetric = \"exact-match\"\n[data]\ntest = \"test.jsonl\"\n";
const ITEM: &str = "{\"question\": \"Who?\", \"answers\": \"I\"}\n";

#[test]
fn what_is_not_written_has_a_default() {
    let task = opened(
        TASK,
        &format!("{ITEM}\n{{\"id\": 7, \"question\": \"How many?\", \"answers\": [3, \"three\"]}}"),
    )
    .unwrap();
    let items: Vec<_> = (0..2).map(|i| task.test(i).unwrap()).collect();
    assert_eq!((items[0].id.as_str(), items[1].id.as_str()), ("mine/test/0", "mine/test/7"));
    assert_eq!(
        (items[0].category.as_str(), &items[1].answers[..]),
        ("mine", &["3".to_string(), "three".into()][..])
    );
    assert_eq!((task.max_tokens(), task.stop(), task.demonstrations()), (16, vec!["\n"], 0));
    let letters = "name = \"mine\"\nmetric = \"letter\"\ndata.test = \"test.jsonl\"\n\
                   fields.choices = \"options\"\n\
                   template.separator = \"\\n---\\n\"\n";
    let item = "{\"question\": \"Who?\", \"answers\": \"B\", \"options\": [\"I\", \"you\"]}";
    let template = opened(letters, item).unwrap().template();
    assert!(
        template.ask.ends_with("\n{choices}\nAnswer:"),
        "the parts that are not written are the metric's"
    );
    assert_eq!(template.separator, "\n---\n");
}

#[test]
fn a_file_with_a_mistake_is_refused_by_name_and_place() {
    let with = |line: &str| format!("{line}\n{TASK}");
    for (toml, said) in [
        ("name = ".to_owned(), "task.toml:1: "),
        (with("nmae = 1"), "task.toml:1: unknown field `nmae`"),
        (
            TASK.replace("exact-match", "exact"),
            "task.toml:2: unknown variant `exact`, expected one of `cider`",
        ),
        (TASK.replace("mine", "my task"), "task.toml: name: `my task`"),
        (TASK.replace("name = \"mine\"\n", ""), "missing field `name`"),
        (with("max_tokens = 0"), "task.toml: max_tokens: "),
        (with("max_tokens = \"8\""), "task.toml:1: invalid type: string \"8\""),
        (with("stop = [\"\"]"), "task.toml: stop: an empty text"),
        (format!("{TASK}train = \"test.jsonl\"\n"), "task.toml: data.train: it is data.test"),
        (format!("{TASK}tset = \"x\"\n"), "unknown field `tset`"),
        (TASK.replace("test.jsonl", "none.jsonl"), "none.jsonl: "),
        (format!("{TASK}[fields]\nanswer = \"x\"\n"), "unknown field `answer`"),
        (format!("{TASK}[template]\naks = \"x\"\n"), "task.toml: template: unknown field `aks`"),
        (format!("{TASK}[template]\nask = \"{{qestion}}\"\n"), "template.ask: unknown name {qestion}"),
        (
            format!("{TASK}[template]\nask = \"{{question}} {{answer}}\"\n"),
            "template.ask: {answer} gives the answer away",
        ),
        (
            format!("{TASK}[template]\nchat = \"{{choice}}\"\n"),
            "template.chat: {choice} gives the answer away",
        ),
        (format!("{TASK}[template]\nask = \"{{choice}}\"\n"), "template.ask: {choice} is for the metrics"),
    ] {
        let error = opened(&toml, ITEM).err().unwrap();
        assert!(error.contains(said) && !error.contains('\n'), "{toml}: {error}");
    }
}

/// An item with so many options, the first of which is right.
fn many_options(count: usize) -> String {
    let options: Vec<String> = (0..count).map(|i| format!("\"option {i}\"")).collect();
    format!("{{\"question\": \"Who?\", \"answers\": \"A\", \"choices\": [{}]}}\n", options.join(", "))
}

#[test]
fn an_item_with_a_mistake_is_refused_by_line() {
    let choice = TASK.replace("exact-match", "choice");
    let letter = TASK.replace("exact-match", "letter");
    let most_options = many_options(26);
    let blind = format!("{TASK}[template]\nask = \"{{question}}\"\n");
    for (toml, item, said) in [
        (TASK, "{", "EOF"),
        (TASK, "[]", "invalid type"),
        (TASK, "{\"answers\": \"I\"}", "field `question` is missing or empty"),
        (TASK, "{\"question\": \"Who?\"}", "field `answers` is missing or empty"),
        (TASK, "{\"question\": \"Who?\", \"answers\": true}", "field `answers`: true is no text"),
        (TASK, "{\"question\": \"Who?\", \"answers\": [\" \"]}", "field `answers`: \" \" is no text"),
        (TASK, "{\"question\": [\"a\", \"b\"], \"answers\": \"I\"}", "field `question` has 2 texts"),
        (
            TASK,
            "{\"question\": \"Who?\", \"answers\": \"I\", \"id\": 0}",
            "field `id`: 0 is the id of an earlier item",
        ),
        (
            TASK,
            "{\"question\": \"Who?\", \"answers\": \"I\", \"image\": \"x.png\"}",
            "field `image`: there is no file",
        ),
        (TASK, "{\"question\": \"<image> Who?\", \"answers\": \"I\"}", "<image> stands 1 times"),
        (&choice, "{\"question\": \"Who?\", \"answers\": \"I\"}", "field `choices` has 0 options"),
        (
            &choice,
            "{\"question\": \"Who?\", \"answers\": \"I\", \"choices\": [\"you\", \"we\"]}",
            "field `answers`: `I` is none of: you, we",
        ),
        (&letter, &many_options(27), "field `choices` has 27 options; letters are there for 26"),
        (
            &blind,
            "{\"question\": \"Who?\", \"answers\": \"I\", \"image\": \"picture.png\"}",
            "the template has no place for its pictures",
        ),
    ] {
        let first = match toml {
            _ if toml == letter => most_options.as_str(),
            _ if toml == choice => {
                "{\"question\": \"Who?\", \"answers\": \"I\", \"choices\": [\"I\", \"you\"]}\n"
            }
            _ => ITEM,
        };
        let error = opened(toml, &format!("{first}{item}")).err().unwrap();
        assert!(
            error.contains("test.jsonl:2: ") && error.contains(said) && !error.contains('\n'),
            "{item}: {error}"
        );
    }
}

#[test]
fn fault_57_a_byte_order_mark_in_task_files_is_no_content() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/faults/57-task-files");
    let item = own::open(&folder.join("bom.toml")).unwrap().test(0).unwrap();
    let asked = (item.id, item.text, item.answers);
    assert_eq!(asked, ("bom/test/1".to_owned(), "Q?".to_owned(), vec!["1".to_owned()]));
    // How a fraction is written is not in its value: 0.5 and 0.50 are other answers.
    let task = own::open(&folder.join("floats.toml"));
    let error = format!("{:#}", task.and_then(|task| task.test(0)).unwrap_err());
    assert!(error.contains("field `answers`: 0.5 is no text"), "{error}");
    // The mark of MME's text is not asked either, and its lines end as Windows has it.
    let set = mm1_eval::tasks::open("mme", &folder).unwrap();
    let items: Vec<_> = (0..set.tests()).map(|i| set.test(i).unwrap()).collect();
    let asked: Vec<_> = items.iter().map(|item| (item.text.as_str(), item.answers[0].as_str())).collect();
    let ask = |colour: &str| format!("Is it {colour}? Please answer yes or no.");
    assert_eq!(asked, [(ask("red").as_str(), "yes"), (ask("blue").as_str(), "no")]);
    // The task's own file as an editor of Windows saves it.
    let marked =
        opened(&format!("\u{feff}{}", TASK.replace('\n', "\r\n")), &format!("\u{feff}{ITEM}")).unwrap();
    assert_eq!(marked.test(0).unwrap().text, "Who?");
}
