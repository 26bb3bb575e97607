//! A small server with the OpenAI interface.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// A request.
pub(super) struct Asked {
    /// How many came before it.
    pub(super) nth: usize,
    /// Its test item: `What is thing 7?` is 7.
    pub(super) index: usize,
    pub(super) path: String,
    /// Header lines in lower case.
    pub(super) head: Vec<String>,
    pub(super) body: Value,
}

/// What is answered.
#[derive(Clone)]
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) head: Vec<String>,
    pub(super) body: String,
    /// Nothing is said for so long before it.
    pub(super) silence: Duration,
    /// The body is sent again and again, without an end.
    pub(super) endless: bool,
}

impl Default for Response {
    fn default() -> Self {
        Self { status: 200, head: vec![], body: String::new(), silence: Duration::ZERO, endless: false }
    }
}

pub(super) fn said(text: &str) -> Response {
    Response {
        body: json!({"choices": [{"message": {"role": "assistant", "content": text}}]}).to_string(),
        ..Response::default()
    }
}

pub(super) struct Server {
    /// `http://…/v1`.
    pub(super) address: String,
    count: Arc<AtomicUsize>,
    /// The test items that were asked, with the time of each.
    seen: Arc<Mutex<Vec<(usize, Instant)>>>,
}

impl Server {
    pub(super) fn start(answer: impl Fn(&Asked) -> Response + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}/v1", listener.local_addr().unwrap());
        let (count, answer) = (Arc::new(AtomicUsize::new(0)), Arc::new(answer));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let server = Self { address, count: count.clone(), seen: seen.clone() };
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, count, answer, seen) =
                    (stream.unwrap(), count.clone(), answer.clone(), seen.clone());
                std::thread::spawn(move || {
                    let asked = read(&stream, &count);
                    seen.lock().unwrap().push((asked.index, Instant::now()));
                    write(stream, &answer(&asked));
                });
            }
        });
        server
    }

    /// Requests so far.
    pub(super) fn asked(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }

    /// The items that were asked since the last call, sorted, and when.
    pub(super) fn seen(&self) -> Vec<(usize, Instant)> {
        let mut seen = std::mem::take(&mut *self.seen.lock().unwrap());
        seen.sort_by_key(|&(index, _)| index);
        seen
    }

    /// The same without the times.
    pub(super) fn items(&self) -> Vec<usize> {
        self.seen().into_iter().map(|(index, _)| index).collect()
    }
}

fn read(stream: &TcpStream, count: &AtomicUsize) -> Asked {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    assert!(line.starts_with("POST ") || line.starts_with("GET ") && path.ends_with("/models"), "{line}");
    let (mut length, mut head) = (0, Vec::new());
    while line != "\r\n" {
        line.clear();
        reader.read_line(&mut line).unwrap();
        head.push(line.trim().to_lowercase());
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let text = String::from_utf8(body).unwrap();
    let number = text.rsplit("What is thing ").next().unwrap_or_default();
    let number: String = number.chars().take_while(char::is_ascii_digit).collect();
    let nth = count.fetch_add(1, Ordering::SeqCst);
    let body = if text.is_empty() { Value::Null } else { serde_json::from_str(&text).unwrap() };
    Asked { nth, index: number.parse().unwrap_or_default(), path, head, body }
}

fn write(mut stream: TcpStream, response: &Response) {
    std::thread::sleep(response.silence);
    let Response { status, head, body, endless, .. } = response;
    let length = if *endless { String::new() } else { format!("content-length: {}\r\n", body.len()) };
    let more: String = head.iter().map(|line| format!("{line}\r\n")).collect();
    let whole = format!("HTTP/1.1 {status} X\r\n{length}{more}connection: close\r\n\r\n{body}");
    let mut sent = stream.write_all(whole.as_bytes());
    while *endless && sent.is_ok() {
        // Until the other side has had enough.
        sent = stream.write_all(body.as_bytes());
    }
}
