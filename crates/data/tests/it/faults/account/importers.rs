//! One small set of data of every format, and what a walk without the program's readers finds in it.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use mm1_data::document::{Document, DocumentKind, Segment};
use mm1_data::shard::{Provenance, ShardWriter};

use crate::faults::detection::{Cells, picture, table};
use crate::faults::fault;
use crate::source::written;

/// A set of data.
pub(super) struct Importer {
    pub(super) name: &'static str,
    pub(super) write: fn(&Path),
    /// What a person says, as `--kind` and `--set`.
    pub(super) said: (Option<&'static str>, &'static [&'static str]),
    /// Documents that a walk finds; `None` where damage has hidden them.
    pub(super) documents: fn(&Path) -> Option<u64>,
    /// Of the whole data: files, those that are read, documents that are read, and pieces left out of them.
    pub(super) whole: [u64; 4],
    /// The share of a file that may be damaged, from its beginning.
    pub(super) head: f64,
}

/// All files below a folder that are regular and not hidden.
fn files(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root).unwrap() {
        let entry = entry.unwrap();
        let kind = entry.file_type().unwrap();
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        } else if kind.is_dir() {
            found.extend(files(&entry.path()));
        } else if kind.is_file() {
            found.push(entry.path());
        }
    }
    found
}

fn ending(path: &Path) -> String {
    path.extension().and_then(OsStr::to_str).unwrap_or_default().to_lowercase()
}

fn of_ending(root: &Path, ending_wanted: &str) -> Vec<PathBuf> {
    files(root).into_iter().filter(|path| ending(path) == ending_wanted).collect()
}

/// Lines with something in them.
fn lines(root: &Path) -> Option<u64> {
    let filled = |line: &&[u8]| !line.trim_ascii().is_empty();
    let mut count = 0;
    for file in of_ending(root, "jsonl") {
        let bytes = fs::read(file).unwrap();
        // Damage may make an array of it, which is another form.
        let another = bytes.trim_ascii().starts_with(b"[") || bytes.starts_with(&[0xEF]);
        count += (!another).then(|| bytes.split(|&byte| byte == b'\n').filter(filled).count() as u64)?;
    }
    Some(count)
}

/// Samples of all archives by the `tar` crate; `None` where it finds one damaged.
fn samples(root: &Path) -> Option<u64> {
    let mut count = 0;
    for file in of_ending(root, "tar") {
        let bytes = fs::read(file).unwrap();
        let mut archive = tar::Archive::new(bytes.as_slice());
        archive.set_ignore_zeros(true);
        let mut keys = BTreeSet::new();
        for entry in archive.entries().ok()? {
            let entry = entry.ok()?;
            let path = entry.path().ok()?.to_string_lossy().into_owned();
            keys.insert(path.split('.').next().unwrap_or_default().to_owned());
        }
        count += keys.len() as u64;
    }
    Some(count)
}

const PICTURES: [&str; 4] = ["jpg", "jpeg", "png", "webp"];

/// Pictures with a text of their name.
fn pairs(root: &Path) -> Option<u64> {
    let stem = |path: &PathBuf| path.with_extension("").to_string_lossy().to_lowercase();
    let texts: BTreeSet<String> = of_ending(root, "txt").iter().map(stem).collect();
    let pictures = files(root).into_iter().filter(|path| PICTURES.contains(&ending(path).as_str()));
    Some(pictures.filter(|path| texts.contains(&stem(path))).count() as u64)
}

fn count(root: &Path, ending: &str) -> Option<u64> {
    Some(of_ending(root, ending).len() as u64)
}

/// Rows of all tables of this many rows: they are counted in a table's last part, which stays whole.
fn rows(root: &Path, each: u64) -> Option<u64> {
    Some(each * count(root, "parquet")?)
}

fn put(root: &Path, name: &str, bytes: impl AsRef<[u8]>) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// Four pictures with captions in two folders, a picture of a format that is not read with its caption, one
/// without a caption, a text without a picture and a file about them.
fn write_pairs(root: &Path) {
    for i in 0..4 {
        put(root, &format!("{}/{i}.jpg", i % 2), picture(i));
        put(root, &format!("{}/{i}.txt", i % 2), format!("picture number {i}"));
    }
    put(root, "0/x.avif", "avif");
    put(root, "0/x.txt", "not read");
    put(root, "1/lonely.jpg", picture(0));
    put(root, "1/lost.txt", "no picture");
    put(root, "README.md", "about");
}

fn write_list(root: &Path) {
    let line = |i| format!("{{\"file_name\": \"{i}.jpg\", \"text\": \"picture number {i}\"}}\n");
    put(root, "metadata.jsonl", (0..4).map(line).collect::<String>());
    (0..4).for_each(|i| put(root, &format!("{i}.jpg"), picture(i)));
    put(root, "other.jpg", picture(0));
}

fn write_csv(root: &Path) {
    let line = |i| format!("{i}.jpg,\"picture, number {i}\"\n");
    put(root, "metadata.csv", "file_name,text\n".to_owned() + &(0..4).map(line).collect::<String>());
    (0..4).for_each(|i| put(root, &format!("{i}.jpg"), picture(i)));
}

/// Records of CSV below the names of the columns; a quote that damage has opened joins lines.
fn records(root: &Path) -> Option<u64> {
    let text = fs::read(root.join("metadata.csv")).ok()?;
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(text.as_slice());
    reader.byte_headers().ok()?;
    Some(reader.byte_records().count() as u64)
}

fn write_listed_table(root: &Path) {
    let columns = [
        ("file_name", Cells::Texts(vec!["0.jpg", "1.jpg"])),
        ("text", Cells::Texts(vec!["a red thing", "a blue thing"])),
    ];
    table(root, "metadata.parquet", &columns);
    (0..2).for_each(|i| put(root, &format!("{i}.jpg"), picture(i)));
}

fn write_classes(root: &Path) {
    for (i, class) in ["train/dog", "train/cat", "test/dog", "train/cat"].into_iter().enumerate() {
        put(root, &format!("{class}/{i}.jpg"), picture(i));
    }
    put(root, "train/list.csv", "a,b\n");
}

/// Pages of MMC4, of which one misses a picture; one picture is in no page.
fn write_mmc4(root: &Path) {
    let page = |i: usize| {
        let info = |name: &str, at: usize| serde_json::json!({"image_name": name, "matched_text_index": at, "raw_url": "https://a.org"});
        let pictures = [info(&format!("{i}.jpg"), 1), info(if i == 2 { "gone.jpg" } else { "3.jpg" }, 0)];
        let texts = ["A sentence.", "Another one."];
        serde_json::json!({"text_list": texts, "image_info": pictures, "url": "https://a.org"}).to_string()
            + "\n"
    };
    put(root, "pages.jsonl", (0..3).map(page).collect::<String>());
    (0..4).for_each(|i| put(root, &format!("images/{i}.jpg"), picture(i)));
    put(root, "images/unused.jpg", picture(1));
}

fn write_obelics(root: &Path) {
    let columns = [
        ("images", Cells::Lists(vec![vec!["0.jpg", "1.jpg"], vec!["2.jpg"], vec!["gone.jpg"]])),
        ("texts", Cells::Lists(vec![vec!["one", "two"], vec!["three"], vec!["four"]])),
    ];
    table(root, "pages.parquet", &columns);
    (0..4).for_each(|i| put(root, &format!("images/{i}.jpg"), picture(i)));
}

/// Our shards, with a member that no document names.
fn write_shards(root: &Path) {
    let mut writer = ShardWriter::new(root, "shard", Provenance::default(), 6000).unwrap();
    for i in 0..6 {
        let segments = vec![Segment::Image(picture(i % 4).into()), Segment::text(format!("number {i}"))];
        writer.push(&Document { id: format!("d{i}"), kind: DocumentKind::Captioned, segments }).unwrap();
    }
    writer.finish().unwrap();
}

fn write_archive(root: &Path) {
    let mut archive = tar::Builder::new(Vec::new());
    let mut add = |name: String, content: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, content).unwrap();
    };
    for i in 0..5 {
        for (ending, content) in [("jpg", picture(i % 4).as_slice()), ("txt", b"a caption"), ("cls", b"7")] {
            add(format!("{i}.{ending}"), content);
        }
    }
    put(root, "a.tar", archive.into_inner().unwrap());
}

/// What img2dataset writes: shards or folders of pictures, with a record of each and tables beside.
fn write_img2dataset(root: &Path) {
    for i in 0..3 {
        put(root, &format!("00000/{i}.jpg"), picture(i));
        put(root, &format!("00000/{i}.txt"), format!("picture number {i}"));
        put(
            root,
            &format!("00000/{i}.json"),
            format!("{{\"caption\": \"number {i}\", \"url\": \"https://a.org\"}}"),
        );
    }
    put(root, "00000_stats.json", "{\"count\": 3}");
    let columns =
        [("url", Cells::Texts(vec!["https://a.org"; 3])), ("caption", Cells::Texts(vec!["a thing"; 3]))];
    table(root, "00000.parquet", &columns);
}

const PROSE: [&str; 4] =
    ["a red ball lies there", "two dogs run about", "the sea by night", "a small green boat"];

fn write_captioned_table(root: &Path) {
    let columns =
        [("image", Cells::Bytes((0..4).map(picture).collect())), ("text", Cells::Texts(PROSE.to_vec()))];
    table(root, "a.parquet", &columns);
}

/// Two pictures a row beside one text, and one picture beside several captions.
fn write_lists_of_pictures(root: &Path) {
    let two = || vec![picture(0), picture(1)];
    let columns = [
        ("images", Cells::Pictures((0..4).map(|_| two()).collect())),
        ("text", Cells::Texts(PROSE.to_vec())),
    ];
    table(root, "a.parquet", &columns);
    let columns = [
        ("image", Cells::Bytes((0..4).map(picture).collect())),
        ("captions", Cells::Lists(vec![vec!["red one", "a red one"]; 4])),
    ];
    table(root, "b.parquet", &columns);
}

fn write_text_table(root: &Path) {
    table(root, "a.parquet", &[("text", Cells::Texts(PROSE.to_vec()))]);
}

fn write_talk_table(root: &Path) {
    let turns = r#"[{"from": "human", "value": "<image>What?"}, {"from": "gpt", "value": "A thing."}]"#;
    let columns = [
        ("image", Cells::Bytes((0..4).map(picture).collect())),
        ("conversations", Cells::Texts(vec![turns; 4])),
    ];
    table(root, "a.parquet", &columns);
}

fn write_talks(root: &Path) {
    let talk = |i: usize| {
        let first = if i == 0 { "gpt" } else { "human" };
        serde_json::json!({"id": i, "image": format!("{}.jpg", i % 2), "conversations": [
            {"from": first, "value": "Hello."},
            {"from": "human", "value": "<image>What?"},
            {"from": "gpt", "value": format!("Thing {i}.")},
        ]})
        .to_string()
            + "\n"
    };
    put(root, "talks.jsonl", (0..6).map(talk).collect::<String>());
    (0..3).for_each(|i| put(root, &format!("images/{i}.jpg"), picture(i)));
}

/// An array, whose values are between brackets.
fn write_array(root: &Path) {
    let talk = |i| {
        format!(
            "{{\"messages\": [{{\"role\": \"user\", \"content\": \"question {i}\"}}, \
             {{\"role\": \"assistant\", \"content\": \"answer {i}\"}}]}}"
        )
    };
    put(root, "talks.json", format!("[{}]", (0..6).map(talk).collect::<Vec<_>>().join(",\n")));
}

/// Values of an array by a parser of JSON; `None` where it finds the file damaged.
fn values(root: &Path) -> Option<u64> {
    let mut count = 0;
    for file in of_ending(root, "json") {
        let array: Vec<serde_json::Value> = serde_json::from_slice(&fs::read(file).unwrap()).ok()?;
        count += array.len() as u64;
    }
    Some(count)
}

fn write_texts(root: &Path) {
    let line = |i| format!("{{\"text\": \"document number {i}\"}}\n");
    put(root, "a.jsonl", (0..12).map(line).collect::<String>());
    put(root, "b.JSONL", "{\"text\": \"one more\"}");
}

/// Pages with pictures: of the folder, of a server, of a format that is not read, and damaged. One is in no
/// page.
fn write_pages(root: &Path) {
    let page = "<p>some text <img src=img/0.jpg><img src='https://a.org/x.png'><img src=x.svg><img>\
                <img src=img/broken.jpg>";
    put(root, "a.html", page);
    put(root, "deeper/b.HTM", "<p>text alone");
    put(root, "img/0.jpg", picture(0));
    put(root, "img/broken.jpg", &picture(1)[..300]);
    put(root, "img/unused.jpg", picture(2));
}

fn pages(root: &Path) -> Option<u64> {
    Some(count(root, "html")? + count(root, "htm")?)
}

fn write_plain(root: &Path) {
    put(root, "a.txt", "one\n\ntwo");
    put(root, "deeper/b.md", "three");
    put(root, "empty.txt", "");
    put(root, "program.bin", [0, 1, 2]);
}

fn plain(root: &Path) -> Option<u64> {
    Some(count(root, "txt")? + count(root, "md")?)
}

fn write_obelics_of_others(root: &Path) {
    fs::copy(fault("33-obelics-urls/urls.parquet"), root.join("urls.parquet")).unwrap();
    written(root, "notes.txt", "some text");
}

const LEAVE_OUT: &[&str] = &["missing=leave-out"];

/// A set of every format.
pub(super) const IMPORTERS: [Importer; 19] = [
    importer("pairs", write_pairs, pairs, [13, 8, 4, 0]),
    importer("pairs that are said", write_pairs, pairs, [13, 8, 4, 0]).said(Some("folder"), &[]),
    importer("a list", write_list, lines, [6, 5, 4, 0]),
    importer("a list of CSV", write_csv, records, [5, 5, 4, 0]),
    importer("a list of Parquet", write_listed_table, |root| rows(root, 2), [3, 3, 2, 0]).head(0.5),
    importer("classes", write_classes, |root| count(root, "jpg"), [5, 4, 4, 0]).said(Some("classes"), &[]),
    importer("MMC4", write_mmc4, lines, [6, 5, 3, 1]).said(None, LEAVE_OUT),
    importer("OBELICS", write_obelics, |root| rows(root, 3), [5, 4, 3, 1]).said(None, LEAVE_OUT).head(0.5),
    importer("shards", write_shards, samples, [3, 3, 6, 0]),
    importer("WebDataset", write_archive, samples, [1, 1, 5, 5]),
    importer("img2dataset", write_img2dataset, pairs, [11, 6, 3, 0]),
    importer("captioned Parquet", write_captioned_table, |root| rows(root, 4), [1, 1, 4, 0]).head(0.5),
    importer("lists of pictures", write_lists_of_pictures, |root| rows(root, 4), [2, 2, 8, 4]).head(0.5),
    importer("text in Parquet", write_text_table, |root| rows(root, 4), [1, 1, 4, 0]).head(0.3),
    importer("talks in Parquet", write_talk_table, |root| rows(root, 4), [1, 1, 4, 0]).head(0.5),
    importer("talks", write_talks, lines, [4, 3, 6, 6]),
    importer("an array of talks", write_array, values, [1, 1, 6, 0]),
    importer("text in JSON", write_texts, lines, [2, 2, 13, 0]),
    importer("pages", write_pages, pages, [5, 3, 2, 4]),
];

/// Whole files may be damaged, and a person says nothing.
const fn importer(
    name: &'static str,
    write: fn(&Path),
    documents: fn(&Path) -> Option<u64>,
    whole: [u64; 4],
) -> Importer {
    Importer { name, write, said: (None, &[]), documents, whole, head: 1.0 }
}

impl Importer {
    const fn said(mut self, kind: Option<&'static str>, edits: &'static [&'static str]) -> Self {
        self.said = (kind, edits);
        self
    }

    const fn head(mut self, share: f64) -> Self {
        self.head = share;
        self
    }
}

/// Two more, beside those of formats with documents inside of files.
pub(super) const PLAIN: [Importer; 2] = [
    importer("plain text", write_plain, plain, [4, 3, 2, 0]),
    importer("addresses", write_obelics_of_others, |_| None, [2, 2, 3, 2]).said(None, LEAVE_OUT).head(0.3),
];
