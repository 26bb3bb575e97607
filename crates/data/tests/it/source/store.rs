//! Files behind `http://`, `s3://` and `gs://`, from servers that are slow, dead or flaky.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use mm1_data::document::Document;
use mm1_data::source::SourceConfig;
use mm1_data::source::files::Files;
use mm1_data::store::{Store, StoreSpec};
use serde_json::{Value, from_value, json};

use super::server::{Manner, Server, Trouble, Versions, replacement, serve};
use super::{sample, sketch, stored};

fn file(name: &str) -> Vec<u8> {
    fs::read(sample(name)).unwrap()
}

/// A store that loses patience soon.
fn store(cache: &Path, endpoint: &str) -> Store {
    let spec = StoreSpec {
        cache: cache.to_owned(),
        timeout_seconds: 0.5,
        retries: 2,
        endpoint: endpoint.to_owned(),
        anonymous: true,
        ..StoreSpec::default()
    };
    Store::new(spec).unwrap()
}

fn open(config: Value, store: &Store) -> Result<Files> {
    from_value::<SourceConfig>(config)?.open_files("mine", 7, store)
}

fn texts(files: &Files) -> Vec<String> {
    stored(files).into_iter().map(|document: Result<Document>| sketch(&document.unwrap())).collect()
}

fn count(server: &Server, part: &str) -> usize {
    server.requests.lock().unwrap().iter().filter(|request| request.contains(part)).count()
}

fn pairs() -> Vec<String> {
    (0..6).map(|i| format!("[{i}]picture {i}<end>")).collect()
}

#[test]
fn archives_of_a_web_server_are_fetched_once() {
    let server =
        serve(&[("/a/pairs-0.tar", file("pairs.tar")), ("/a/pairs-1.tar", file("pairs.tar.gz"))], &[]);
    let gz = serve(&[("/a/pairs.tar.gz", file("pairs.tar.gz"))], &[]);
    let cache = tempfile::tempdir().unwrap();
    let config = json!({"kind": "webdataset", "path": format!("{}/a/pairs-{{0..0}}.tar", server.address)});
    for _ in 0..2 {
        let files = open(config.clone(), &store(cache.path(), "")).unwrap();
        assert_eq!(texts(&files), pairs());
    }
    assert_eq!(count(&server, "GET"), 1, "{:?}", server.requests.lock());
    let config = json!({"kind": "webdataset", "path": format!("{}/a/pairs.tar.gz", gz.address)});
    assert_eq!(texts(&open(config, &store(cache.path(), "")).unwrap()), pairs());
}

#[test]
fn parquet_is_read_by_ranges_and_never_whole() {
    let server = serve(&[("/captioned.parquet", file("captioned.parquet"))], &[]);
    let cache = tempfile::tempdir().unwrap();
    let config =
        json!({"kind": "parquet-captioned", "path": format!("{}/captioned.parquet", server.address)});
    let files = open(config, &store(cache.path(), "")).unwrap();
    assert_eq!(sketch(&files.stored(9).unwrap()), "[9]picture 9<end>");
    assert!(server.requests.lock().unwrap().iter().all(|r| r.starts_with("HEAD") || !r.ends_with(" -")));
    assert!(!cache.path().join("files").exists(), "nothing is kept of it");
}

#[test]
fn buckets_are_listed_and_read() {
    let files = [
        ("/bucket/set/a-0.tar", file("pairs.tar")),
        ("/bucket/set/a-1.tar", file("pairs.tar")),
        ("/bucket/set/b.txt", b"not this".to_vec()),
    ];
    for scheme in ["s3", "gs"] {
        let server = serve(&files, &[]);
        let cache = tempfile::tempdir().unwrap();
        let store = store(cache.path(), &server.address);
        for path in
            [format!("{scheme}://bucket/set/a-*.tar"), format!("{scheme}://bucket/set/a-{{0..1}}.tar")]
        {
            let opened = open(json!({"kind": "webdataset", "path": path}), &store).unwrap();
            assert_eq!(texts(&opened), [pairs(), pairs()].concat(), "{path}");
        }
        let none = open(json!({"kind": "webdataset", "path": format!("{scheme}://bucket/set/x-*")}), &store);
        assert!(format!("{:#}", none.err().unwrap()).contains("no file found"));
    }
}

#[test]
fn a_flaky_server_is_asked_again_and_gives_the_same_documents() {
    let manner = Manner { part: "pairs", trouble: Trouble::Flaky(2) };
    let server = serve(&[("/pairs.tar", file("pairs.tar"))], &[manner]);
    let cache = tempfile::tempdir().unwrap();
    let config = json!({"kind": "webdataset", "path": format!("{}/pairs.tar", server.address)});
    assert_eq!(texts(&open(config, &store(cache.path(), "")).unwrap()), pairs());
    assert!(count(&server, "pairs") >= 4, "{:?}", server.requests.lock());
}

#[test]
fn a_dead_or_failing_server_is_reported_in_time_and_named() {
    let cases = [
        (Trouble::Dead, "given up after 3 attempts: no answer within 0.5 s", 3),
        (Trouble::Status(503), "given up after 3 attempts", 3),
        (Trouble::Status(404), "not found", 1),
        (Trouble::Status(403), "403", 1),
        (Trouble::Whole, "ange", 2),
    ];
    for (trouble, reason, requests) in cases {
        let server = serve(&[("/pairs.tar", file("pairs.tar"))], &[Manner { part: "pairs", trouble }]);
        let cache = tempfile::tempdir().unwrap();
        let config = json!({"kind": "webdataset", "path": format!("{}/pairs.tar", server.address)});
        let start = Instant::now();
        let error = format!("{:#}", open(config, &store(cache.path(), "")).err().unwrap());
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
        assert!(
            error.to_lowercase().contains(reason) && error.contains("source `mine`"),
            "{reason}: {error}"
        );
        assert!(error.contains("/pairs.tar") && !error.contains('\n'), "{error}");
        assert_eq!(count(&server, "pairs"), requests, "{reason}: {:?}", server.requests.lock());
    }
    let cache = tempfile::tempdir().unwrap();
    let nobody = json!({"kind": "webdataset", "path": "http://127.0.0.1:9/pairs.tar"});
    assert!(open(nobody, &store(cache.path(), "")).is_err());
    for wrong in ["ftp://a/b.tar", "https://", "http://a/*.tar", "http://a/b.tar?x=1", "s3://"] {
        let error = open(json!({"kind": "webdataset", "path": wrong}), &store(cache.path(), ""));
        assert!(format!("{:#}", error.err().unwrap()).contains("source `mine`"), "{wrong}");
    }
}

/// Lines of JSON that take three requests of 4 MiB.
fn long_file() -> Vec<u8> {
    (0..100_000).flat_map(|i| format!("{{\"text\": \"{i} {}\"}}\n", "a".repeat(90)).into_bytes()).collect()
}

/// A file that is replaced while it is downloaded is never a mixture of both, and nothing of it is kept.
#[test]
fn a_file_that_is_replaced_during_its_download_is_refused() {
    let versions = [Versions::Matched, Versions::Tagged, Versions::Weak, Versions::Dated, Versions::Never];
    for versions in versions {
        // The question for its size, and one or two of its three parts.
        for after in [2, 3] {
            let manner = Manner { part: "long", trouble: Trouble::Replaced(after, versions) };
            let server = serve(&[("/long.jsonl", long_file())], &[manner]);
            let cache = tempfile::tempdir().unwrap();
            let config = json!({"kind": "json-text", "path": format!("{}/long.jsonl", server.address)});
            let error = open(config.clone(), &store(cache.path(), "")).err().map(|e| format!("{e:#}"));
            let error = error.unwrap_or_else(|| panic!("{versions:?} after {after}: a mixture was taken"));
            assert!(error.contains("has changed on its server") && error.contains("long.jsonl"), "{error}");
            // The next attempt finds the new file, whole.
            let again = open(config, &store(cache.path(), "")).unwrap();
            let first = sketch(&again.stored(99_999).unwrap());
            assert!(!first.contains('a') && first.contains("bbb"), "{first}");
        }
    }
}

/// Rows that are read by ranges come from the version whose index was made.
#[test]
fn a_table_that_is_replaced_between_two_rows_is_refused() {
    for versions in [Versions::Matched, Versions::Tagged, Versions::Dated] {
        let manner = Manner { part: "captioned", trouble: Trouble::Replaced(3, versions) };
        let server = serve(&[("/captioned.parquet", file("captioned.parquet"))], &[manner]);
        let cache = tempfile::tempdir().unwrap();
        let path = format!("{}/captioned.parquet", server.address);
        let files =
            open(json!({"kind": "parquet-captioned", "path": path}), &store(cache.path(), "")).unwrap();
        let read: Vec<_> = stored(&files).into_iter().collect();
        let refused = read.iter().filter(|row| {
            row.as_ref().is_err_and(|e| format!("{e:#}").contains("has changed on its server"))
        });
        assert!(refused.count() > 0, "{versions:?}: {:?}", server.requests.lock());
        let right = |(i, row): (usize, &Result<Document>)| {
            row.as_ref().is_ok_and(|row| sketch(row) != format!("[{i}]picture {i}<end>"))
        };
        assert!(!read.iter().enumerate().any(right), "a row of another file");
    }
}

/// Without tag and date nothing says that the file of the cache is still the server's.
#[test]
fn without_tag_and_date_the_cache_is_not_trusted() {
    let manner = Manner { part: "long", trouble: Trouble::Replaced(usize::MAX, Versions::Never) };
    let (old, new) = (b"{\"text\": \"aa\"}\n".to_vec(), b"{\"text\": \"bb\"}\n".to_vec());
    let cache = tempfile::tempdir().unwrap();
    assert_eq!(replacement(&old).len(), new.len());
    let read = |server: &Server| {
        let config = json!({"kind": "json-text", "path": format!("{}/long.jsonl", server.address)});
        texts(&open(config, &store(cache.path(), "")).unwrap())
    };
    let server = serve(&[("/long.jsonl", old.clone())], std::slice::from_ref(&manner));
    assert_eq!(read(&server), ["aa<end>"]);
    let before = count(&server, "GET");
    assert_eq!(read(&server), ["aa<end>"]);
    assert!(count(&server, "GET") > before, "it is asked for again");
}

/// A file of the cache that is not what was written is made again.
#[test]
fn a_damaged_file_of_the_cache_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("cache");
    let path = sample("text.jsonl.gz");
    let read = || {
        let config = json!({"kind": "json-text", "path": path});
        texts(&open(config, &store(&cache, "")).unwrap())
    };
    let whole = read();
    let file = fs::read_dir(cache.join("files")).unwrap().next().unwrap().unwrap().path();
    let bytes = fs::read(&file).unwrap();
    let mut flipped = bytes.clone();
    flipped[bytes.len() / 2] ^= 1;
    for damage in [Vec::new(), bytes[..bytes.len() - 1].to_vec(), flipped] {
        fs::write(&file, damage).unwrap();
        assert_eq!(read(), whole);
        assert_eq!(fs::read(&file).unwrap(), bytes);
    }
    // A copy of the cache has other times, and the same bytes.
    fs::write(&file, &bytes).unwrap();
    let sum = cache.join("sums").join(file.file_name().unwrap());
    let before = fs::read(&sum).unwrap();
    assert_eq!(read(), whole);
    assert_eq!(fs::read(&sum).unwrap(), before, "it was not made again");
    // Its sum is gone: it is not believed.
    fs::remove_file(&sum).unwrap();
    fs::write(&file, b"x").unwrap();
    assert_eq!(read(), whole);
}

#[test]
fn a_slow_shard_does_not_delay_the_others() {
    let wait = Duration::from_millis(300);
    let names: Vec<String> = (0..8).map(|i| format!("/a-{i}.tar")).collect();
    let files: Vec<(&str, Vec<u8>)> = names.iter().map(|name| (name.as_str(), file("pairs.tar"))).collect();
    let server = serve(&files, &[Manner { part: "a-", trouble: Trouble::Slow(wait) }]);
    let cache = tempfile::tempdir().unwrap();
    let config = json!({"kind": "webdataset", "path": format!("{}/a-{{0..7}}.tar", server.address)});
    let start = Instant::now();
    assert_eq!(texts(&open(config, &store(cache.path(), "")).unwrap()).len(), 48);
    assert!(
        start.elapsed() < 5 * wait,
        "16 requests one after the other take 16 waits: {:?}",
        start.elapsed()
    );
}

#[test]
fn the_cache_stays_within_its_bound() {
    let server = serve(&[("/pairs.tar", file("pairs.tar"))], &[]);
    let cache = tempfile::tempdir().unwrap();
    let spec = StoreSpec { cache: cache.path().to_owned(), cache_gib: 2e-5, ..StoreSpec::default() };
    let config = json!({"kind": "webdataset", "path": format!("{}/pairs.tar", server.address)});
    let error = format!("{:#}", open(config, &Store::new(spec).unwrap()).err().unwrap());
    assert!(error.contains("store.cache_gib = 0.00002"), "{error}");
    assert_eq!(fs::read_dir(cache.path().join("files")).unwrap().count(), 0, "no part is left");
    for spec in [json!({"cache_gib": 0.0}), json!({"timeout_seconds": -1.0}), json!({"retries": 1000})] {
        assert!(
            Store::new(from_value(spec.clone()).unwrap()).err().unwrap().to_string().contains("store."),
            "{spec}"
        );
    }
}

#[test]
fn a_server_that_dies_during_a_run_is_reported_and_delays_no_other() {
    let path = "/captioned.parquet";
    let serve = |manners: &[Manner]| serve(&[(path, file("captioned.parquet"))], manners);
    // It answers while the index is made, and never again.
    let (alive, dead) = (serve(&[]), serve(&[Manner { part: "captioned", trouble: Trouble::DeadAfter(3) }]));
    let cache = tempfile::tempdir().unwrap();
    let store = store(cache.path(), "");
    let open = |server: &Server| {
        open(json!({"kind": "parquet-captioned", "path": format!("{}{path}", server.address)}), &store)
            .unwrap()
    };
    let (alive, dead) = (open(&alive), open(&dead));
    let start = Instant::now();
    std::thread::scope(|scope| {
        let first = scope.spawn(|| format!("{:#}", dead.stored(0).unwrap_err()));
        assert_eq!(texts(&alive).len(), 10);
        assert!(start.elapsed() < Duration::from_millis(500), "{:?}", start.elapsed());
        let error = first.join().unwrap();
        assert!(error.contains("given up after 3 attempts") && error.contains(path), "{error}");
    });
    let start = Instant::now();
    let error = format!("{:#}", dead.stored(9).unwrap_err());
    assert!(error.contains("given up after 1 attempt"), "a server known to be dead is asked once: {error}");
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
}

/// A store of its own, as each process has.
fn open_once(server: &Server, cache: &Path, gib: f64, name: &str) -> Result<Files> {
    let store =
        Store::new(StoreSpec { cache: cache.to_owned(), cache_gib: gib, ..StoreSpec::default() }).unwrap();
    open(json!({"kind": "webdataset", "path": format!("{}/{name}.tar", server.address)}), &store)
}

#[test]
fn a_full_cache_loses_what_nobody_uses_the_oldest_first() {
    let files = ["/a.tar", "/b.tar", "/c.tar", "/d.tar", "/e.tar"].map(|path| (path, file("pairs.tar")));
    let server = serve(&files, &[]);
    let cache = tempfile::tempdir().unwrap();
    // Room for three.
    let gib = 3.5 * files[0].1.len() as f64 / f64::from(1 << 30);
    let open = |name| open_once(&server, cache.path(), gib, name);
    let gets = |name: &str| {
        let requests = server.requests.lock().unwrap();
        requests.iter().filter(|r| r.starts_with("GET") && r.contains(&format!("/{name}.tar"))).count()
    };
    drop(open("a").unwrap());
    let b = open("b").unwrap();
    drop(open("c").unwrap());
    let d = open("d").unwrap();
    // The oldest that is free was `a`, now it is `c`: `b` is in use, though older.
    drop(open("c").unwrap());
    assert_eq!((gets("a"), gets("c")), (1, 1));
    let a = open("a").unwrap();
    assert_eq!((gets("a"), gets("b"), gets("d")), (2, 1, 1));
    for files in [&a, &b, &d] {
        assert_eq!(texts(files), pairs(), "what is in use stays readable");
    }
    let error = format!("{:#}", open("e").err().unwrap());
    assert!(error.contains("store.cache_gib") && error.contains("all of it in use"), "{error}");
    drop(b);
    drop(open("e").unwrap());
    drop(open("b").unwrap());
    assert_eq!((gets("e"), gets("b")), (2, 2));
}

#[test]
fn what_killed_processes_left_in_the_cache_is_removed_when_it_is_full() {
    let server = serve(&[("/a.tar", file("pairs.tar")), ("/b.tar", file("pairs.tar"))], &[]);
    let cache = tempfile::tempdir().unwrap();
    let size = file("pairs.tar").len();
    let gib = 1.5 * size as f64 / f64::from(1 << 30);
    drop(open_once(&server, cache.path(), gib, "a").unwrap());
    let kept = fs::read_dir(cache.path().join("files")).unwrap().next().unwrap().unwrap().file_name();
    // A list without a lock, and half of a download.
    fs::write(cache.path().join("use/.tmpdead"), format!("+{}\n", kept.to_string_lossy())).unwrap();
    fs::write(cache.path().join("files/.tmphalf"), vec![0; size]).unwrap();
    let b = open_once(&server, cache.path(), gib, "b").unwrap();
    assert_eq!(texts(&b), pairs());
    assert_eq!(fs::read_dir(cache.path().join("files")).unwrap().count(), 1);
    let lists = fs::read_dir(cache.path().join("use")).unwrap().count();
    assert_eq!(lists, 2, "the guard and the list of `b`");
}
