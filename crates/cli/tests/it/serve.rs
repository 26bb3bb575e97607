//! `mm1 serve`, as a process.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::{mm1, run, stderr, succeeds};

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

#[test]
fn a_run_is_served_until_it_is_told_to_stop() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("tiny-run");
    succeeds(&run(&out, &[]));
    let (mut child, address) = start(&["serve", "--run", out.to_str().unwrap(), "--port", "0"]);
    let body =
        r#"{"messages": [{"role": "user", "content": "What is it?"}], "temperature": 0, "max_tokens": 4}"#;
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n\
         Connection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = ask(&address, &request);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let told: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!(told["model"], "tiny-run");
    // As in a chat: the prompt is short enough to be read at once.
    let said = mm1(&["chat", "--run", out.to_str().unwrap(), "--json", "--max-tokens", "4", "What is it?"]);
    let said: Value = serde_json::from_slice(&{ said }.output().unwrap().stdout).unwrap();
    assert_eq!(told["choices"][0]["message"]["content"], said["answer"]);
    let page = ask(&address, &format!("GET / HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"));
    assert!(page.contains("<title>mm1</title>"), "{page}");
    assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_server_is_closed_by_default() {
    for (arguments, expected) in [
        (
            &["--host", "0.0.0.0"][..],
            "--host 0.0.0.0 can be reached by others: give --api-key KEY, or --no-auth",
        ),
        (&["--api-key", "short"], "--api-key: give at least 8 characters"),
        (&["--allow-origin", "a.example"], "--allow-origin a.example: give scheme and host alone"),
        (&["--host", "192.0.2.1", "--no-auth"], "--host 192.0.2.1 --port 8080: "),
    ] {
        let output = mm1(&["serve", "--run", "nothing"]).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        assert!(stderr(&output).contains(expected), "{}", stderr(&output));
    }
}
