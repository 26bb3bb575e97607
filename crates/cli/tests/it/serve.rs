//! `mm1 serve`, as a process.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mm1_data::document::Special;
use mm1_data::tokenizer::Tokenizer;
use mm1_model::clip::{Clip, Contrast, PackedCaptions};
use mm1_model::device::DeviceKind;
use mm1_model::{Compute, Mm1, Mm1Config, weights};
use serde_json::{Value, json};

use crate::{mm1, picture, run, stderr, succeeds};

/// A server, and the address that it tells.
fn start(arguments: &[&str]) -> (Child, String) {
    let mut child = mm1(arguments).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let told = lines.find_map(|line| Some(line.unwrap().split_once("http://")?.1.to_owned())).unwrap();
    let address = told.split(' ').next().unwrap().to_owned();
    // What it says later has to go somewhere.
    std::thread::spawn(move || lines.for_each(drop));
    (child, address)
}

fn ask(address: &str, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// The answer to a `POST` of JSON.
fn post(address: &str, path: &str, body: &Value) -> Value {
    let body = body.to_string();
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nConnection: close\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = ask(address, &request);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    serde_json::from_str(body).unwrap_or_else(|e| panic!("{e}: {head}\n{body}"))
}

/// Ends a server as `kill` does.
fn end(mut server: Child) {
    assert!(Command::new("kill").arg(server.id().to_string()).status().unwrap().success());
    assert!(server.wait().unwrap().success());
}

#[test]
fn a_run_is_served_until_it_is_told_to_stop() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("tiny-run");
    succeeds(&run(&out, &[]));
    let (child, address) = start(&["serve", "--run", out.to_str().unwrap(), "--port", "0"]);
    let messages = json!([{ "role": "user", "content": "What is it?" }]);
    let body = json!({ "messages": messages, "temperature": 0, "max_tokens": 4 });
    let told = post(&address, "/v1/chat/completions", &body);
    assert_eq!(told["model"], "tiny-run", "{told}");
    let refused = post(&address, "/v1/embeddings", &json!({ "input": "a red balloon" }));
    let error = refused["error"]["message"].as_str().unwrap();
    assert!(error.starts_with("input[0]: this model has no text tower"), "{error}");
    // As in a chat: the prompt is short enough to be read at once.
    let said = mm1(&["chat", "--run", out.to_str().unwrap(), "--json", "--max-tokens", "4", "What is it?"]);
    let said: Value = serde_json::from_slice(&{ said }.output().unwrap().stdout).unwrap();
    assert_eq!(told["choices"][0]["message"]["content"], said["answer"]);
    let page = ask(&address, &format!("GET / HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"));
    assert!(page.contains("<title>mm1</title>"), "{page}");
    end(child);
}

/// Options about pictures of one colour, as a task.
fn colours(folder: &Path) -> String {
    let colours = [("red", [230, 20, 20]), ("green", [20, 200, 20]), ("blue", [20, 20, 230])];
    let names = colours.map(|(name, _)| name);
    for (split, side, question) in [("test", 16, "Which colour?"), ("train", 24, "What colour is it?")] {
        let mut lines = String::new();
        for (name, colour) in colours {
            let file = format!("{split}-{name}.png");
            picture(folder.join(&file), side, colour);
            let item = json!({ "question": question, "answers": name, "choices": names, "image": file });
            lines += &format!("{item}\n");
        }
        std::fs::write(folder.join(format!("{split}.jsonl")), lines).unwrap();
    }
    let data = "[data]\ntest = \"test.jsonl\"\ntrain = \"train.jsonl\"\n";
    let task = format!("name = \"colours\"\nmetric = \"choice\"\n{data}");
    std::fs::write(folder.join("colours.toml"), task).unwrap();
    folder.join("colours.toml").to_str().unwrap().to_owned()
}

/// All scores, and the log-probabilities of all options.
fn likelihoods(out: &Path, stage: &str) -> (Value, Vec<f64>) {
    let mut scores: Value = serde_json::from_slice(&std::fs::read(out.join("eval.json")).unwrap()).unwrap();
    for score in scores.as_array_mut().unwrap() {
        score["stage"] = Value::Null;
        // Of log-probabilities, which are compared by themselves.
        if let Some(also) = score["also"].as_object_mut() {
            also.remove("perplexity");
        }
    }
    let mut files: Vec<_> = std::fs::read_dir(out.join("eval").join(stage)).unwrap().collect();
    files.sort_by_key(|file| file.as_ref().unwrap().path());
    let texts = files.into_iter().map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap());
    let text = texts.collect::<String>();
    let items = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let told = items.flat_map(|item| item["log_probs"].as_array().cloned().unwrap_or_default());
    (scores, told.map(|one| one.as_f64().unwrap()).collect())
}

#[test]
fn a_run_behind_an_address_is_scored_as_in_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("tiny-run");
    // Behind an address nothing is known of the run: texts are about the usual world.
    succeeds(&run(&out, &["--set", "seed=1", "--set", "world.emoji=120"]));
    let tasks = format!("facts,text-choice,text-completion,{}", colours(dir.path()));
    let eval = |more: &[&str], to: &Path| {
        // What training has seen of the tasks is known of a run alone.
        let mut eval = mm1(&["eval", "--tasks", &tasks, "--shots", "0,2", "--contamination", "0"]);
        eval.args(["--questions", "40", "--batch", "4"]);
        succeeds(&eval.args(more).arg("--out").arg(to).output().unwrap());
    };
    let [inside, behind] = ["inside", "behind"].map(|name| dir.path().join(name));
    eval(&["--run", out.to_str().unwrap()], &inside);
    let (child, address) = start(&["serve", "--run", out.to_str().unwrap(), "--port", "0"]);
    let address = format!("http://{address}/v1");
    // The only model that it serves.
    eval(&["--model", &address], &behind);
    end(child);
    let ((scores, inside), (their_scores, behind)) =
        (likelihoods(&inside, "sft"), likelihoods(&behind, "tiny-run"));
    assert_eq!(scores, their_scores);
    // Four tasks, each without and with demonstrations; the pictures also blind.
    let options = 2 * 40 * (4 + 4 + 1) + 4 * 3 * 3;
    assert_eq!((inside.len(), inside.len()), (behind.len(), options));
    // A prompt is read in other pieces: the last digits differ.
    let farthest = inside.iter().zip(&behind).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(farthest < 1e-3, "{farthest}");
}

/// The vectors of an answer.
fn embeddings(answer: &Value) -> Vec<Vec<f32>> {
    let data = answer["data"].as_array().unwrap_or_else(|| panic!("{answer}"));
    let values = |one: &Value| -> Vec<f32> { serde_json::from_value(one["embedding"].clone()).unwrap() };
    data.iter().map(values).collect()
}

#[test]
fn texts_and_pictures_are_embedded_by_the_towers_of_the_run() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("tiny-run");
    succeeds(&run(&out, &["--set", "stage.encoder.objective=clip"]));
    let (child, address) = start(&["serve", "--run", out.to_str().unwrap(), "--port", "0"]);
    let file = dir.path().join("red.png");
    picture(file.clone(), 16, [230, 20, 20]);
    let url = format!("data:image/png;base64,{}", STANDARD.encode(std::fs::read(file).unwrap()));
    let texts = ["a red balloon", "two cats and an owl", "é"];
    let asked = json!({ "model": "tiny-run/encoder", "input": [texts[0], texts[1], url, texts[2]] });
    let answer = post(&address, "/v1/embeddings", &asked);
    let features = post(&address, "/v1/embeddings", &json!({ "model": "tiny-run", "input": url }));
    let refused = post(&address, "/v1/embeddings", &json!({ "input": "a red balloon" }));
    end(child);

    // The same by what training computes with, from its checkpoint.
    let plan: toml::Table = std::fs::read_to_string(out.join("plan.toml")).unwrap().parse().unwrap();
    let model: Mm1Config = plan["settled"]["recipe"]["model"].clone().try_into().unwrap();
    let device = DeviceKind::Cpu.open().unwrap();
    let vision = Mm1::encoder(&model, 1, &device).unwrap();
    let clip = Clip::new(vision, &model.lm, Contrast::Softmax, 1).unwrap();
    let clip = weights::load(clip, &out.join("checkpoints/encoder/step-00000005/model.safetensors")).unwrap();
    let tokenizer = Tokenizer::of_run(&out).unwrap();
    let tokens = texts.map(|text| [&tokenizer.encode(text)[..], &[tokenizer.id(Special::End)]].concat());
    let captions = PackedCaptions { ids: &tokens.concat(), lens: &tokens.each_ref().map(Vec::len) };
    let vectors = clip.embed_captions(&Compute::new(device), captions);
    let [_, width] = vectors.dims();
    let vectors: Vec<f32> = vectors.into_data().iter::<f32>().collect();
    let expected: Vec<&[f32]> = vectors.chunks(width).collect();
    let found = embeddings(&answer);
    assert_eq!([&found[0][..], &found[1], &found[3]], expected[..]);
    assert_eq!(answer["usage"]["prompt_tokens"], tokens.concat().len());
    // A picture has a unit vector of the same space; its features are others.
    let length = found[2].iter().map(|x| x * x).sum::<f32>();
    assert!((length - 1.0).abs() < 1e-5 && found[2].len() == width, "{length}");
    assert_ne!(embeddings(&features)[0], found[2]);
    let error = refused["error"]["message"].as_str().unwrap();
    assert!(error.contains("ask model \"tiny-run/encoder\""), "{error}");
}

#[test]
fn a_server_is_closed_by_default() {
    for (arguments, expected) in [
        (
            &["--host", "0.0.0.0"][..],
            "--host 0.0.0.0 can be reached by others: give --api-key KEY, or --no-auth",
        ),
        (&["--api-key", "short"], "--api-key: give at least 8 characters"),
        (&["--api-key", "schl\u{fc}ssel"], "--api-key: a key is of letters, digits and signs of ASCII"),
        (&["--allow-origin", "a.example"], "--allow-origin a.example: give scheme and host alone"),
        (&["--host", "192.0.2.1", "--no-auth"], "--host 192.0.2.1 --port 8080: "),
    ] {
        let output = mm1(&["serve", "--run", "nothing"]).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        assert!(stderr(&output).contains(expected), "{}", stderr(&output));
    }
}
