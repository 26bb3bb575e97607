//! A person's own pictures, from a folder to a model that talks about them.

use std::fs;
use std::path::Path;

use crate::html_page::text_of;
use crate::{mm1, stderr, succeeds};

const RECIPE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../recipes/own-pictures.toml");

/// A few steps of each stage of the recipe.
const SHORT: [&str; 12] = [
    "--set",
    "stage.encoder.steps=2",
    "--set",
    "stage.pretrain.steps=2",
    "--set",
    "stage.sft.steps=2",
    "--set",
    "stage.encoder.rows=1",
    "--set",
    "stage.pretrain.rows=1",
    "--set",
    "stage.sft.rows=1",
];

/// Sixty drawn shapes: a square or a disc in one of six colours and one of five sizes.
fn shapes(folder: &Path) {
    fs::create_dir_all(folder).unwrap();
    let colours = [
        ("red", [220, 30, 30]),
        ("green", [30, 160, 60]),
        ("blue", [40, 70, 220]),
        ("yellow", [240, 210, 40]),
        ("black", [20, 20, 20]),
        ("purple", [140, 40, 170]),
    ];
    for number in 0..60_u32 {
        let (name, colour) = colours[number as usize % 6];
        let (disc, size) = (number / 6 % 2 == 0, 8 + 4 * (number / 12));
        let inside = |x: u32, y: u32| {
            let (dx, dy) = (i64::from(x) - 32, i64::from(y) - 32);
            let size = i64::from(size);
            if disc { dx * dx + dy * dy < size * size } else { dx.abs().max(dy.abs()) < size }
        };
        let picture = image::RgbImage::from_fn(64, 64, |x, y| {
            image::Rgb(if inside(x, y) { colour } else { [255, 255, 255] })
        });
        let shape = if disc { "disc" } else { "square" };
        picture.save(folder.join(format!("{number:02}.png"))).unwrap();
        fs::write(folder.join(format!("{number:02}.txt")), format!("A {name} {shape} on white.")).unwrap();
    }
}

fn own(command: &str, pictures: &Path, more: &[&str]) -> std::process::Output {
    let path = format!("data.pictures.path={}", pictures.display());
    mm1(&[command, RECIPE, "--set", &path]).args(SHORT).args(more).output().unwrap()
}

#[test]
fn the_recipe_goes_from_a_folder_to_scores_of_its_pictures_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (pictures, out) = (dir.path().join("shapes"), dir.path().join("run"));
    shapes(&pictures);
    let done = own("run", &pictures, &["--out", out.to_str().unwrap()]);
    succeeds(&done);
    let said = stderr(&done);
    assert!(said.contains("captions:pictures has 12 test items;"), "{said}");
    let scores: serde_json::Value =
        serde_json::from_slice(&fs::read(out.join("eval.json")).unwrap()).unwrap();
    assert_eq!(scores[0]["task"], "captions:pictures");
    assert_eq!(scores[0]["n"], 12);
    // The tokenizer knows the captions' words, and nothing that any stage saw is of the built-in world.
    let plan = fs::read_to_string(out.join("plan.toml")).unwrap();
    assert!(!plan.contains("emoji-"), "{plan}");
    let tokens = fs::read_to_string(out.join("tokenizer.json")).unwrap();
    assert!(tokens.contains("purple") && !tokens.contains("balloon"));
    let report = fs::read_to_string(out.join("report.html")).unwrap();
    assert!(report.contains("With fewer than 200 questions the intervals are wide"));
}

#[test]
fn tuning_learns_the_captions_and_reads_the_requests() {
    let dir = tempfile::tempdir().unwrap();
    let (pictures, page) = (dir.path().join("shapes"), dir.path().join("page.html"));
    shapes(&pictures);
    let path = format!("data.pictures.path={}", pictures.display());
    let preview = mm1(&["data", "preview", RECIPE, "--set", &path, "--stage", "sft", "--rows", "1"])
        .args(["--html", page.to_str().unwrap()])
        .output()
        .unwrap();
    succeeds(&preview);
    let page = fs::read_to_string(page).unwrap();
    assert!(page.contains("prefers-color-scheme:dark") && page.contains("<img src=\"data:image/png;base64,"));
    let learned = text_of(&page, "<span class=\"t learned\">");
    let read = text_of(&page, "<span class=\"t\">");
    assert!(learned.contains("on white.") && !learned.contains('?'), "{learned}");
    assert!(read.contains("picture") && !read.contains("white"), "{read}");
    assert!(page.contains("<span class=\"token\">16 image tokens</span>"));
    assert!(page.contains("<span class=\"token learned\">end</span>"));
}

/// Whether a line of a plan speaks of time. That of other programs is there on a busy machine alone.
fn is_time(line: &str) -> bool {
    line.starts_with("time: ")
        || ["by one measured step", "by the first questions", "other programs took"]
            .iter()
            .any(|part| line.contains(part))
}

#[test]
fn a_plan_says_minutes_and_disk() {
    let dir = tempfile::tempdir().unwrap();
    shapes(dir.path());
    let plan = own("plan", dir.path(), &[]);
    succeeds(&plan);
    let text = String::from_utf8(plan.stdout).unwrap();
    assert!(text.contains("time: about ") && text.contains(" of training here (encoder "), "{text}");
    assert!(text.contains("disk: about ") && text.contains(" of checkpoints in the run folder"), "{text}");
    // Without a step it is the same plan, but for the time.
    let quick = own("plan", dir.path(), &["--no-measure"]);
    succeeds(&quick);
    let rest: Vec<&str> = text.split_inclusive('\n').filter(|line| !is_time(line)).collect();
    assert_eq!(String::from_utf8(quick.stdout).unwrap(), rest.concat());
    let json = own("plan", dir.path(), &["--json"]);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    let estimate = &json["estimate"];
    let step = estimate["step_seconds"]["sft"].as_f64().unwrap();
    assert!(step > 0.0 && (estimate["seconds"]["sft"].as_f64().unwrap() - 2.0 * step).abs() < 1e-9);
    assert!(
        estimate["evaluation_seconds"]["chat-eval"].as_f64().is_some_and(|seconds| seconds > 0.0),
        "{estimate}"
    );
    // Weights in f32 and two moments: 12 bytes for each trained parameter. One checkpoint of each stage, and
    // the largest once more while it is written.
    let parameters = &json["settled"]["derived"]["parameters"];
    let of = |part: &str| parameters[part].as_u64().unwrap();
    let all = of("vision") + of("connector") + of("lm") + of("embedding");
    assert_eq!(estimate["checkpoint_bytes"], 12 * (of("vision") + all + all + all));
}

#[test]
fn a_source_that_is_made_of_nothing_is_refused_by_its_field() {
    let dir = tempfile::tempdir().unwrap();
    shapes(dir.path());
    for (of, reason) in
        [("nothing", "no [data.nothing]"), ("instructions", "that source is made of instructions itself")]
    {
        let refused = own("plan", dir.path(), &["--set", &format!("data.instructions.of={of}")]);
        assert_eq!(refused.status.code(), Some(2));
        let said = stderr(&refused);
        assert!(said.contains("data.instructions.of") && said.contains(reason), "{said}");
    }
}

#[test]
fn demonstrations_are_made_of_instructions_that_are_made_of_pictures() {
    let dir = tempfile::tempdir().unwrap();
    let (pictures, page) = (dir.path().join("shapes"), dir.path().join("page.html"));
    shapes(&pictures);
    let path = format!("data.pictures.path={}", pictures.display());
    let shots = r#"data.shots={ kind = "few-shot", of = "instructions", shots = 4 }"#;
    let preview = mm1(&["data", "preview", RECIPE, "--set", &path, "--stage", "sft", "--rows", "1"])
        .args(["--set", shots, "--set", "stage.sft.mixture={ shots = 1.0 }"])
        .args(["--html", page.to_str().unwrap()])
        .output()
        .unwrap();
    succeeds(&preview);
    let page = fs::read_to_string(page).unwrap();
    // Two conversations of five pictures and five captions fill a row.
    let learned = text_of(&page, "<span class=\"t learned\">");
    assert!(learned.matches("on white.").count() >= 10, "{learned}");
    let [a, b] = ["b", "a"].map(|of| format!(r#"={{ kind = "few-shot", of = "{of}" }}"#));
    let circle = ["--set", &format!("data.a{a}"), "--set", &format!("data.b{b}")];
    let refused = own("plan", &pictures, &circle);
    assert_eq!(refused.status.code(), Some(2));
    let said = stderr(&refused);
    assert!(said.contains("data.b.of = \"a\": that source is made of b itself"), "{said}");
}

#[test]
#[cfg(feature = "emoji")]
fn a_sample_of_pictures_is_a_folder_like_a_persons() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("pictures");
    let sample =
        || mm1(&["data", "sample", "--number", "25", "--to", folder.to_str().unwrap()]).output().unwrap();
    let written = sample();
    succeeds(&written);
    assert!(stderr(&written).contains("25 pictures with captions"));
    let caption = fs::read_to_string(folder.join("025.txt")).unwrap();
    assert!(caption.starts_with("A ") && caption.contains(" background"), "{caption}");
    assert!(image::open(folder.join("001.png")).is_ok());
    let stats = mm1(&["data", "stats", folder.to_str().unwrap(), "--json"]).output().unwrap();
    let stats: serde_json::Value = serde_json::from_slice(&stats.stdout).unwrap();
    assert_eq!((&stats["documents"], &stats["images"]), (&25.into(), &25.into()));
    let again = sample();
    assert_eq!(again.status.code(), Some(2));
    assert!(stderr(&again).contains("not empty"), "{}", stderr(&again));
}
