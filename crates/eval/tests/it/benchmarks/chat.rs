//! The benchmarks of tuned models.

use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use mm1_eval::metric::Metric;
use mm1_eval::prompt::{Prompt, Style};
use mm1_eval::run::EvalPass;
use mm1_eval::score::{letter, yes_no};
use mm1_eval::task::Task;

use super::{all, data, opened, picture, refused, shades};
use crate::toy::{evaluate, pass};

const SETS: &str = "../../testdata/eval/sets";

#[test]
fn mmmu_places_up_to_seven_pictures_in_text_and_pass() {
    let (set, outcome) = opened("mmmu", Path::new(SETS));
    let tests = all(&set);
    assert_eq!((set.tests(), set.demonstrations()), (4, 2));
    assert_eq!(outcome.by_category.keys().collect::<Vec<_>>(), ["Accounting", "Music"]);
    assert_eq!(tests[0].choices, ["$6", "the firm's", "$8"]);
    assert_eq!(tests[1].text, "Compare <image> to <image>, then <image>.");
    assert_eq!((tests[1].choices[0].as_str(), shades(&tests[1])), ("<image>", vec![3, 2, 3, 4]));
    // Nothing names its two pictures: the first is shown.
    assert_eq!(
        (&*tests[2].answers, shades(&tests[2])),
        (&["1,200", "twelve hundred"].map(String::from)[..], vec![5])
    );
    assert_eq!((tests[3].id.as_str(), shades(&tests[3])), ("mmmu/validation_Music_1", vec![8]));
    let mut says = |prompts: &[Prompt]| Ok(vec!["1200.0".to_owned(); prompts.len()]);
    let asked = evaluate(&set, &mut says, &EvalPass { style: Style::Chat, ..pass() }).unwrap();
    assert!(asked.items[2].prompt.contains("\nAnswer the question using a single word or phrase."));
    assert!(asked.items[1].prompt.contains("\nAnswer with the option's letter"));
    assert_eq!(asked.items.iter().map(|row| row.score).collect::<Vec<_>>(), [0.0, 0.0, 100.0, 0.0]);
}

#[test]
fn mathvista_has_options_for_some() {
    let (set, outcome) = opened("mathvista", Path::new(SETS));
    let tests = all(&set);
    assert_eq!(tests[0].text, "How long is it? (Unit: m)");
    assert_eq!((&*tests[1].answers, tests[1].choices.len()), (&["B".to_owned()][..], 2));
    assert!(tests[2].choices.is_empty());
    assert_eq!(tests.iter().map(|q| shades(q)[0]).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(
        outcome.by_category.keys().collect::<Vec<_>>(),
        ["figure question answering", "geometry problem solving"]
    );
}

#[test]
fn mmbench_is_asked_once_or_in_every_rotation_with_pictures_in_base64() {
    let base64 = |shade| {
        let mut png = std::io::Cursor::new(Vec::new());
        picture(shade).write_to(&mut png, image::ImageFormat::Png).unwrap();
        BASE64_STANDARD.encode(png.into_inner())
    };
    let (first, second) = (base64(1), base64(2));
    let text = [
        "index\tquestion\thint\tA\tB\tC\tD\tanswer\tcategory\timage\tsource\tl2-category\tcomment\tsplit",
        &format!(
            "241\t\"Identify the \"\"question\"\"\tof Madelyn.\"\t\"Two\nlines.\"\tOne\tTwo\tThree\t\
            Four\tB\tidentity_reasoning\t{first}\tscienceqa\tattribute_reasoning\t\tdev"
        ),
        &format!("252\tWhich is it?\t\tthis\tthat\t\t\tA\tspatial\t{second}\tx\ty\t\tdev"),
        "253\tAnd here?\t\tthis\tthat\t\t\tB\tspatial\t252\tx\ty\t\tdev",
        "1000241\t\"Identify the \"\"question\"\"\tof Madelyn.\"\t\"Two\nlines.\"\tTwo\tThree\tFour\t\
            One\tA\tidentity_reasoning\t241\tx\ty\t\tdev",
    ]
    .join("\n");
    let files = ["mmbench", "mmbench-circular"].map(|set| format!("{set}/mmbench_dev_20230712.tsv"));
    let root = data(&[(&files[0], &text), (&files[1], &text)], &[]);
    let (set, outcome) = opened("mmbench", root.path());
    let tests = all(&set);
    assert_eq!(set.tests(), 3);
    assert_eq!(tests[0].text, "Two\nlines.\nIdentify the \"question\"\tof Madelyn.");
    assert_eq!((tests[0].choices.len(), tests[1].choices.len()), (4, 2));
    assert_eq!(tests.iter().map(|q| shades(q)[0]).collect::<Vec<_>>(), [1, 2, 2]);
    assert_eq!(outcome.by_category.keys().collect::<Vec<_>>(), ["identity_reasoning", "spatial"]);

    let (circular, outcome) = opened("mmbench-circular", root.path());
    let ids: Vec<String> = all(&circular).into_iter().map(|question| question.id).collect();
    assert_eq!(ids, ["241", "1000241", "252", "253"].map(|index| format!("mmbench/dev/{index}")));
    assert_eq!((circular.demonstrations(), shades(&all(&circular)[1])), (3, vec![1]));
    let mut rows = outcome.items;
    rows.iter_mut().for_each(|row| row.score = 100.0);
    rows[1].score = 0.0;
    assert_eq!(letter::circular(&rows)["circular"], 100.0 * 2.0 / 3.0);
    assert!(letter::circular(&opened("mmbench", root.path()).1.items).is_empty());

    std::fs::write(root.path().join("mmbench/mmbench_dev_20230712.tsv"), text.replace("\t252\tx", "\t99\tx"))
        .unwrap();
    assert!(refused("mmbench", root.path()).contains("mmbench/dev/253: no row \"99\""));
    std::fs::write(
        root.path().join("mmbench/mmbench_dev_20230712.tsv"),
        text.replace("\thint\t", "\tints\t"),
    )
    .unwrap();
    let error = refused("mmbench", root.path());
    assert!(
        error.contains("mmbench_dev_20230712.tsv: ") && error.contains("missing field `hint`"),
        "{error}"
    );
}

#[test]
fn seed_asks_about_pictures_and_leaves_videos_out() {
    let asked = |id: u32, kind: u32, data_type: &str, picture: &str, answer: &str| {
        format!(
            r#"{{"answer": "{answer}", "choice_a": "One", "choice_b": "Two", "choice_c": "Three",
                "choice_d": "Four",
                "data_id": "{picture}", "data_type": "{data_type}",
                "question": "How many towels are in the image?",
                "question_id": "{id}", "question_type_id": {kind}}}"#
        )
    };
    let text = format!(
        r#"{{"questions": [{}, {}, {}], "question_type": {{"Scene Understanding": 1,
            "Action Recognition": 10, "Instances Counting": 5}}}}"#,
        asked(101669, 5, "image", "1454426_2591111986", "A"),
        asked(400, 10, "video", "ssv2/1.webm", "B"),
        asked(101670, 1, "image", "2_3", "D"),
    );
    let pictures = [("seed/SEED-Bench-image/1454426_2591111986", 1), ("seed/SEED-Bench-image/2_3", 2)];
    let root = data(&[("seed/SEED-Bench.json", &text)], &pictures);
    let (set, outcome) = opened("seed", root.path());
    assert_eq!((set.tests(), &*set.tests[1].question.answers), (2, &["D".to_owned()][..]));
    assert_eq!(outcome.by_category.keys().collect::<Vec<_>>(), ["Instances Counting", "Scene Understanding"]);
}

#[test]
fn pope_has_three_kinds_of_objects_that_are_not_there() {
    let line = |id: u32, object: &str, label: &str| {
        let picture = r#""image": "COCO_val2014_000000310196.jpg""#;
        let text = format!("Is there a {object} in the image?");
        format!(r#"{{"question_id": {id}, {picture}, "text": "{text}", "label": "{label}"}}"#)
    };
    let text = format!("{}\n{}\n", line(1, "snowboard", "yes"), line(2, "dining table", "no"));
    let other = text.replace("310196", "210789");
    let texts = [
        ("pope/coco_pope_random.json", text.as_str()),
        ("pope/coco_pope_popular.json", &other),
        ("pope/coco_pope_adversarial.json", &text),
    ];
    let pictures = [
        ("pope/val2014/COCO_val2014_000000310196.jpg", 1),
        ("pope/val2014/COCO_val2014_000000210789.jpg", 2),
    ];
    let root = data(&texts, &pictures);
    let (set, outcome) = opened("pope", root.path());
    assert_eq!((set.metric(), set.tests()), (Metric::YesNo, 6));
    assert_eq!(outcome.by_category.keys().collect::<Vec<_>>(), ["adversarial", "popular", "random"]);
    let figures = yes_no::figures(&outcome.items);
    assert_eq!((figures["accuracy+"], figures["f1"], figures["yes-share"]), (100.0, 100.0, 50.0));
    let mut yes = |prompts: &[Prompt]| Ok(vec!["Yes, there is.".to_owned(); prompts.len()]);
    let outcome = evaluate(&set, &mut yes, &pass()).unwrap();
    let figures = yes_no::figures(&outcome.items);
    assert_eq!((outcome.score.value, figures["accuracy+"], figures["yes-share"]), (50.0, 0.0, 100.0));
    std::fs::write(root.path().join("pope/coco_pope_random.json"), format!("{text}{{\"image\": 3}}"))
        .unwrap();
    assert!(refused("pope", root.path()).contains("coco_pope_random.json, line 3: "));
}

#[test]
fn mme_has_texts_beside_pictures_or_apart() {
    let texts = [
        (
            "mme/OCR/0001.txt",
            "Is the word in the logo \"angie's\"? Please answer yes or no.\tYes\r\nIs it \"angle's\"? \
             Please answer yes or no.\tNo\r\n",
        ),
        (
            "mme/artwork/questions_answers_YN/10002.txt",
            "Does this artwork exist in the form of painting?\tYes\nDoes this artwork exist in the form \
                of glassware?\tNo\n",
        ),
    ];
    let root = data(&texts, &[("mme/OCR/0001.png", 1), ("mme/artwork/images/10002.jpg", 2)]);
    let (set, outcome) = opened("mme", root.path());
    assert_eq!(set.tests(), 4);
    assert_eq!(set.tests[0].question.text, "Is the word in the logo \"angie's\"? Please answer yes or no.");
    assert_eq!(outcome.by_category.keys().collect::<Vec<_>>(), ["OCR", "artwork"]);
    let tests = all(&set);
    assert_eq!(tests.iter().map(|q| q.answers[0].as_str()).collect::<Vec<_>>(), ["yes", "no", "yes", "no"]);
    assert_eq!(tests.iter().map(|q| shades(q)[0]).collect::<Vec<_>>(), [1, 1, 2, 2]);
    std::fs::write(root.path().join("mme/OCR/0001.txt"), "Is it?\tYes\nIs it? No\n").unwrap();
    let error = refused("mme", root.path());
    assert!(error.contains("OCR/0001.txt: line 2: not a question, a tab, and Yes or No"), "{error}");
    std::fs::remove_file(root.path().join("mme/OCR/0001.png")).unwrap();
    assert!(refused("mme", root.path()).contains("0001.jpg or .png is missing"));
}
