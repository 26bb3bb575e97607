//! A web server and S3-compatible store for tests, on a port of its own.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// How the server answers requests for a path that contains `part`.
#[derive(Clone)]
pub(crate) struct Manner {
    pub(crate) part: &'static str,
    pub(crate) trouble: Trouble,
}

#[derive(Clone, Copy)]
pub(crate) enum Trouble {
    /// Each answer waits this long.
    Slow(Duration),
    /// Never answers.
    Dead,
    /// Answers so many requests, then never again.
    DeadAfter(usize),
    /// The first so many requests fail: refused, then cut off in the middle of the body, by turns.
    Flaky(usize),
    /// Every request is answered with this status.
    Status(u16),
    /// Ranges are ignored.
    Whole,
    /// After so many requests another file of the same length takes its place.
    Replaced(usize, Versions),
}

/// How a server tells versions of a file apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Versions {
    /// By a tag, and it answers `If-Match`.
    Matched,
    /// By a tag alone.
    Tagged,
    /// By a weak tag.
    Weak,
    /// By a date.
    Dated,
    /// Not at all.
    Never,
}

impl Versions {
    fn headers(self, version: usize) -> String {
        match self {
            Self::Matched | Self::Tagged => format!("ETag: \"{version}\"\r\n"),
            Self::Weak => format!("ETag: W/\"{version}\"\r\n"),
            Self::Dated => format!("Last-Modified: Mon, 05 Jan 2026 00:00:0{version} GMT\r\n"),
            Self::Never => String::new(),
        }
    }
}

/// What takes the place of a file.
pub(crate) fn replacement(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().map(|byte| if *byte == b'a' { b'b' } else { *byte }).collect()
}

pub(crate) struct Server {
    pub(crate) address: String,
    /// Method, path and range of each request.
    pub(crate) requests: Arc<Mutex<Vec<String>>>,
}

struct Site {
    files: BTreeMap<String, Vec<u8>>,
    manners: Vec<Manner>,
    requests: Arc<Mutex<Vec<String>>>,
}

struct Request<'a> {
    method: &'a str,
    target: &'a str,
    range: Option<String>,
    matched: Option<String>,
    /// How many requests for the target there were, with this one.
    seen: usize,
}

/// Serves `files` by path (`/bucket/key`).
pub(crate) fn serve(files: &[(&str, Vec<u8>)], manners: &[Manner]) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let requests = Arc::new(Mutex::new(Vec::new()));
    let files = files.iter().map(|(path, bytes)| ((*path).to_owned(), bytes.clone())).collect();
    let site = Arc::new(Site { files, manners: manners.to_vec(), requests: Arc::clone(&requests) });
    // The threads end with the test.
    thread::spawn(move || {
        for connection in listener.incoming() {
            let site = Arc::clone(&site);
            thread::spawn(move || site.talk(connection.unwrap()));
        }
    });
    Server { address, requests }
}

impl Site {
    fn talk(&self, connection: TcpStream) -> Option<()> {
        let mut out = connection.try_clone().ok()?;
        let mut lines = BufReader::new(connection).lines();
        loop {
            let request = lines.next()?.ok()?;
            let headers: Vec<String> =
                lines.by_ref().map_while(Result::ok).take_while(|l| !l.is_empty()).collect();
            let header = |name: &str| {
                headers.iter().find_map(|h| h.to_lowercase().strip_prefix(name).map(str::to_owned))
            };
            let (range, matched) = (header("range: bytes="), header("if-match: "));
            let mut words = request.split(' ');
            let (method, target) = (words.next()?, words.next()?);
            let seen = {
                let mut requests = self.requests.lock().unwrap();
                requests.push(format!("{method} {target} {}", range.as_deref().unwrap_or("-")));
                let about = |r: &&String| r.split(' ').nth(1) == Some(target);
                requests.iter().filter(about).count()
            };
            self.answer(&mut out, &Request { method, target, range, matched, seen })?;
        }
    }

    /// `None` closes the connection.
    fn answer(&self, out: &mut TcpStream, request: &Request) -> Option<()> {
        let Request { method, target, seen, .. } = *request;
        let trouble = self.manners.iter().find(|m| target.contains(m.part)).map(|m| m.trouble);
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut cut = false;
        match trouble {
            Some(Trouble::Slow(wait)) => thread::sleep(wait),
            Some(Trouble::DeadAfter(first)) if seen <= first => {}
            Some(Trouble::Dead | Trouble::DeadAfter(_)) => thread::sleep(Duration::from_secs(3600)),
            Some(Trouble::Status(status)) => return send(out, status, "", b"", method),
            Some(Trouble::Flaky(first)) if seen <= first && (seen % 2 == 1 || method == "HEAD") => {
                return send(out, 503, "", b"", method);
            }
            Some(Trouble::Flaky(first)) => cut = seen <= first,
            _ => {}
        }
        if query.contains("list-type=2") {
            return send(
                out,
                200,
                "Content-Type: application/xml\r\n",
                self.list(path, query).as_bytes(),
                method,
            );
        }
        // `gs://` escapes all of these.
        let path = path.replace("%2F", "/").replace("%2D", "-").replace("%2E", ".");
        let Some(bytes) = self.files.get(&path) else { return send(out, 404, "", b"", method) };
        let mut tag =
            "ETag: \"one\"\r\nLast-Modified: Mon, 05 Jan 2026 00:00:00 GMT\r\nAccept-Ranges: bytes\r\n"
                .to_owned();
        let mut bytes = bytes.clone();
        if let Some(Trouble::Replaced(after, versions)) = trouble {
            let version = 1 + usize::from(seen > after);
            tag = versions.headers(version);
            if version == 2 {
                bytes = replacement(&bytes);
            }
            let other = request.matched.as_ref().is_some_and(|wanted| *wanted != format!("\"{version}\""));
            if other && versions == Versions::Matched {
                return send(out, 412, "", b"", method);
            }
        }
        let part = request.range.as_deref().filter(|_| !matches!(trouble, Some(Trouble::Whole)));
        let Some((from, to)) = part.and_then(|range| range.split_once('-')) else {
            return send(out, 200, &tag, &bytes, method);
        };
        let (from, to): (usize, usize) = (from.parse().ok()?, to.parse().ok()?);
        let body = bytes.get(from..=to.min(bytes.len() - 1))?;
        let header =
            format!("{tag}Content-Range: bytes {from}-{}/{}\r\n", from + body.len() - 1, bytes.len());
        if cut {
            let head = format!("HTTP/1.1 206 Partial\r\n{header}Content-Length: {}\r\n\r\n", body.len());
            out.write_all(&[head.as_bytes(), &body[..body.len() / 2]].concat()).ok()?;
            return None;
        }
        send(out, 206, &header, body, method)
    }

    /// The keys of a bucket below a prefix, as S3's ListObjectsV2 writes them.
    fn list(&self, bucket: &str, query: &str) -> String {
        let bucket = bucket.trim_end_matches('/');
        let prefix =
            query.split('&').find_map(|part| part.strip_prefix("prefix=")).unwrap_or("").replace("%2F", "/");
        let keys = self.files.iter().filter_map(|(path, bytes)| {
            let key = path.strip_prefix(bucket)?.strip_prefix('/')?.to_owned();
            key.starts_with(&prefix).then_some((key, bytes.len()))
        });
        let contents: String = keys
            .map(|(key, size)| {
                format!("<Contents><Key>{key}</Key><LastModified>2026-01-05T00:00:00.000Z</LastModified><ETag>\"one\"</ETag><Size>{size}</Size></Contents>")
            })
            .collect();
        format!("<ListBucketResult><IsTruncated>false</IsTruncated>{contents}</ListBucketResult>")
    }
}

fn send(out: &mut TcpStream, status: u16, headers: &str, body: &[u8], method: &str) -> Option<()> {
    let head = format!("HTTP/1.1 {status} X\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
    let body = if method == "HEAD" { &[] } else { body };
    out.write_all(&[head.as_bytes(), body].concat()).ok()
}
