//! `mm1 eval`: the same answers however they are computed, and two models compared.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};

use crate::{mm1, run, stderr, succeeds};

/// `mm1 eval --run RUN --out OUT` on the built-in tasks with more arguments.
fn eval(run: &Path, out: &Path, more: &[&str]) -> std::process::Command {
    let tasks = "scene-captions,scene-vqa,scene-pairs,scene-binding,scene-ocr";
    let mut command =
        mm1(&["eval", "--tasks", tasks, "--shots", "0,2", "--questions", "12", "--contamination", "20"]);
    command.arg("--run").arg(run).arg("--out").arg(out).args(more);
    command
}

fn scores(out: &Path) -> Vec<u8> {
    fs::read(out.join("eval.json")).unwrap()
}

#[test]
fn scores_depend_on_no_batch_no_thread_and_no_interrupt() {
    let dir = tempfile::tempdir().unwrap();
    let (model, out) = (dir.path().join("run"), |name: &str| dir.path().join(name));
    succeeds(&run(&model, &[]));
    succeeds(&eval(&model, &out("one"), &["--batch", "1", "--threads", "1"]).output().unwrap());
    let whole = scores(&out("one"));
    for (batch, threads) in [("7", "2"), ("32", "2")] {
        succeeds(&eval(&model, &out(batch), &["--batch", batch, "--threads", threads]).output().unwrap());
        assert!(scores(&out(batch)) == whole, "batch {batch} with {threads} threads");
    }
    // Killed again and again, each time somewhat later.
    let mut kills = 0;
    for wait in (0..).map(|n| Duration::from_millis(150 + 60 * n)) {
        let mut child =
            eval(&model, &out("killed"), &["--batch", "1"]).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(wait);
        if child.try_wait().unwrap().is_some_and(|status| status.success()) {
            break;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
    }
    assert!(kills > 2 && scores(&out("killed")) == whole, "after {kills} kills");
    // Everything that an answer depends on is part of it.
    for more in [["--seed", "2"], ["--weights", "q8_0"]] {
        let other = eval(&model, &out("one"), &more).output().unwrap();
        assert_eq!(other.status.code(), Some(2));
        assert!(stderr(&other).contains("holds answers to something else"), "{}", stderr(&other));
    }

    let record: Vec<Value> = serde_json::from_slice(&whole).unwrap();
    assert_eq!(record[0]["contamination"]["items"], 12);
    let compared = mm1(&["eval", "compare", "--json"]).arg(out("one")).arg(&model).output().unwrap();
    // The run's own evaluation has another name, but there is no other.
    succeeds(&compared);
    let same = mm1(&["eval", "compare", "--json"]).arg(out("one")).arg(out("7")).output().unwrap();
    succeeds(&same);
    let last: Value =
        serde_json::from_slice(same.stdout.split(|&b| b == b'\n').rev().nth(1).unwrap()).unwrap();
    let compared = last["compared"].as_array().unwrap();
    assert_eq!(compared.len(), 10);
    assert!(compared.iter().all(|c| c["n"] == 12 && c["difference"]["value"] == 0.0), "{last}");
}

#[test]
fn demonstrations_can_be_fixed_or_similar_and_a_stage_chosen() {
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join("run");
    succeeds(&run(&model, &[]));
    for (name, more) in [
        ("fixed", &["--demonstrations", "fixed"][..]),
        ("similar", &["--demonstrations", "similar", "--no-blind"]),
        ("pretrain", &["--stage", "pretrain", "--no-blind"]),
        ("q8_0", &["--weights", "q8_0", "--no-blind"]),
        ("small", &["--demonstration-size", "8", "--sharp-demonstrations", "1", "--no-blind"]),
    ] {
        let out = dir.path().join(name);
        succeeds(&eval(&model, &out, more).output().unwrap());
        let scores: Vec<Value> = serde_json::from_slice(&scores(&out)).unwrap();
        let stage = if name == "pretrain" { "pretrain" } else { "sft" };
        assert!(scores.iter().all(|score| score["stage"] == stage), "{name}");
        let log = fs::read_to_string(out.join("eval").join(stage).join("scene-vqa-2-shot.jsonl")).unwrap();
        let row: Value = serde_json::from_str(log.lines().nth(1).unwrap()).unwrap();
        assert_eq!(row["hashes"].as_array().unwrap().len(), 3);
    }
    let odd = eval(&model, &dir.path().join("odd"), &["--demonstration-size", "20"]).output().unwrap();
    assert!(
        odd.status.code() == Some(2) && stderr(&odd).contains("in whole patches of 8"),
        "{}",
        stderr(&odd)
    );
    let sets = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testdata/eval/textcore");
    let names = "arc-e,arc-c,piqa,lambada,winogrande,hellaswag,sciq,triviaqa,webqs";
    let mut text = mm1(&["eval", "--stage", "pretrain", "--shots", "0", "--tasks", names, "--data", sets]);
    let text = text.arg("--run").arg(&model).arg("--out").arg(dir.path().join("text")).output().unwrap();
    succeeds(&text);
    let scores: Vec<Value> = serde_json::from_slice(&scores(&dir.path().join("text"))).unwrap();
    let values: Vec<f64> = names
        .split(',')
        .map(|name| scores.iter().find(|s| s["task"] == name).unwrap()["value"].as_f64().unwrap())
        .collect();
    let mean = format!("TextCore 0-shot {:.1}", values.iter().sum::<f64>() / 9.0);
    assert!(stderr(&text).contains(&mean), "{}", stderr(&text));
    let none = eval(&model, &dir.path().join("none"), &["--stage", "pretrian"]).output().unwrap();
    assert!(
        none.status.code() == Some(2) && stderr(&none).contains("there are: pretrain, sft"),
        "{}",
        stderr(&none)
    );
}

#[test]
fn a_model_behind_an_address_is_asked_a_task_of_ones_own() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/v1", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let (mut line, mut length) = (String::from("-"), 0);
            while !line.trim().is_empty() {
                line.clear();
                reader.read_line(&mut line).unwrap();
                if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
            }
            reader.read_exact(&mut vec![0; length]).unwrap();
            let choices = json!([{"message": {"content": "blue"}}]);
            let body = json!({"data": [{"id": "theirs"}], "choices": choices}).to_string();
            let head =
                format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
            stream.write_all((head + &body).as_bytes()).unwrap();
        }
    });
    let dir = tempfile::tempdir().unwrap();
    fs::write(
        dir.path().join("mine.toml"),
        "name = \"mine\"\nmetric = \"exact-match\"\ndata.test = \"mine.jsonl\"\n",
    )
    .unwrap();
    let items = "{\"question\": \"The sky?\", \"answers\": \"blue\"}\n{\"question\": \"Grass?\", \
                 \"answers\": \"green\"}\n";
    fs::write(dir.path().join("mine.jsonl"), items).unwrap();
    let task = dir.path().join("mine.toml");
    let ask = |task: &str, shots: &str| {
        mm1(&["eval", "--model", &address, "--tasks", task, "--shots", shots, "--json"])
            .arg("--out")
            .arg(dir.path().join("out"))
            .output()
            .unwrap()
    };
    let done = ask(task.to_str().unwrap(), "0");
    succeeds(&done);
    let last: Value = serde_json::from_slice(done.stdout.split(|&b| b == b'\n').next().unwrap()).unwrap();
    assert_eq!((&last["eval"][0]["value"], &last["eval"][0]["n"]), (&json!(50.0), &json!(2)));
    let shown = ask(task.to_str().unwrap(), "1");
    assert!(stderr(&shown).contains("the training split has 0"), "{}", stderr(&shown));
    for (task, says) in [
        ("coco", "give their folder"),
        ("nonsense", "unknown task \"nonsense\""),
        ("vqa:mine", "mine is a source of a run's recipe"),
    ] {
        let refused = ask(task, "0");
        assert!(
            refused.status.code() == Some(2) && stderr(&refused).contains(says),
            "{task}: {}",
            stderr(&refused)
        );
    }
}
