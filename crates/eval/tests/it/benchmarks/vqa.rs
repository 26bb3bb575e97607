//! Questions about pictures.

use mm1_eval::metric::Metric;
use mm1_eval::prompt::{Prompt, Style};
use mm1_eval::run::EvalPass;
use mm1_eval::task::Task;

use super::{all, data, opened, refused, shades};
use crate::toy::{evaluate, pass};

/// Ten answers: `common` eight times.
fn ten(common: &str, raw: bool) -> String {
    let answer = |i: usize| {
        let answer = if i < 8 { common } else { "hay" };
        let raw = if raw { format!(r#""raw_answer": "{answer}ing","#) } else { String::new() };
        format!(r#"{{"answer": "{answer}", {raw} "answer_confidence": "yes", "answer_id": {}}}"#, i + 1)
    };
    (0..10).map(answer).collect::<Vec<_>>().join(",")
}

fn coco_questions(id: u64, image: u64, text: &str) -> String {
    format!(
        r#"{{"info": {{}}, "task_type": "Open-Ended", "data_type": "mscoco", "questions": [
            {{"image_id": {image}, "question": "{text}", "question_id": {id}}}]}}"#
    )
}

fn coco_answers(id: u64, kind: &str, answers: &str, more: &str) -> String {
    format!(
        r#"{{"info": {{}}, "data_type": "mscoco", "annotations": [{{"question_type": "{kind}",
            "image_id": 1, "answers": [{answers}],
            "multiple_choice_answer": "x", "answer_type": "other", "question_id": {id}}}]{more}}}"#
    )
}

#[test]
fn vqav2_keeps_ten_answers_of_each_question() {
    let (val, train) = (
        coco_answers(262148000, "where is the", &ten("down", false), ""),
        coco_answers(9000, "what", &ten("net", false), ""),
    );
    let texts = [
        (
            "vqav2/v2_OpenEnded_mscoco_val2014_questions.json",
            coco_questions(262148000, 262148, "Where is he looking?"),
        ),
        ("vqav2/v2_mscoco_val2014_annotations.json", val),
        ("vqav2/v2_OpenEnded_mscoco_train2014_questions.json", coco_questions(9000, 9, "What is this?")),
        ("vqav2/v2_mscoco_train2014_annotations.json", train),
    ];
    let pictures = [
        ("vqav2/val2014/COCO_val2014_000000262148.jpg", 1),
        ("vqav2/train2014/COCO_train2014_000000000009.jpg", 2),
    ];
    let root = data(&texts, &pictures);
    let (set, outcome) = opened("vqav2", root.path());
    let test = set.test(0).unwrap();
    assert_eq!((test.answers.len(), test.category.as_str(), shades(&test)), (10, "other", vec![1]));
    assert_eq!(
        outcome.items[0].prompt,
        "<image>Question: What is this? Short answer: net\n<image>Question: Where is he \
         looking? Short answer:"
    );
    let file = "vqav2/v2_mscoco_val2014_annotations.json";
    std::fs::write(root.path().join(file), coco_answers(7, "what", "", "")).unwrap();
    assert!(refused("vqav2", root.path()).contains("annotations.json: no answers to question 262148000"));
}

#[test]
fn ok_vqa_takes_words_as_they_were_written_and_kinds_by_name() {
    let kinds = r#", "question_types": {"one": "Vehicles and Transportation",
        "two": "Brands, Companies and Products"}"#;
    let (val, train) = (
        coco_answers(2971475, "one", &ten("rac", true), kinds),
        coco_answers(5, "two", &ten("wheel", true), kinds),
    );
    let texts = [
        (
            "ok-vqa/OpenEnded_mscoco_val2014_questions.json",
            coco_questions(2971475, 297147, "What sport is it for?"),
        ),
        ("ok-vqa/mscoco_val2014_annotations.json", val),
        ("ok-vqa/OpenEnded_mscoco_train2014_questions.json", coco_questions(5, 9, "What is he doing?")),
        ("ok-vqa/mscoco_train2014_annotations.json", train),
    ];
    let pictures = [
        ("ok-vqa/val2014/COCO_val2014_000000297147.jpg", 1),
        ("ok-vqa/train2014/COCO_train2014_000000000009.jpg", 2),
    ];
    let root = data(&texts, &pictures);
    let (set, _) = opened("ok-vqa", root.path());
    let test = set.test(0).unwrap();
    assert_eq!((test.category.as_str(), test.answers[0].as_str()), ("Vehicles and Transportation", "racing"));
    assert_eq!(set.demonstration(0).unwrap().category, "Brands, Companies and Products");
}

#[test]
fn textvqa_and_vizwiz_have_their_answers_beside_the_question() {
    let answers = [r#""nokia""#; 10].join(",");
    let textvqa = |set: &str, image: &str| {
        format!(
            r#"{{"dataset_type": "{set}", "dataset_name": "textvqa", "dataset_version": "0.5.1", "data": [{{
                "question": "what is the brand of this phone?", "image_id": "{image}",
                "image_classes": ["Mobile phone"],
                "image_width": 1024, "question_id": 34602, "set_name": "{set}", "answers": [{answers}]}}]}}"#
        )
    };
    let vizwiz = |image: &str| {
        format!(
            r#"[{{"image": "{image}", "question": "What is it?", "answers": [{}],
                "answer_type": "unanswerable", "answerable": 0}}]"#,
            ten("unsuitable", false)
        )
    };
    let texts = [
        ("textvqa/TextVQA_0.5.1_val.json", textvqa("val", "003a8ae2ef43b901")),
        ("textvqa/TextVQA_0.5.1_train.json", textvqa("train", "0054c91397f2fe05")),
        ("vizwiz/val.json", vizwiz("VizWiz_val_00000000.jpg")),
        ("vizwiz/train.json", vizwiz("VizWiz_train_00000000.jpg")),
    ];
    let pictures = [
        ("textvqa/train_images/003a8ae2ef43b901.jpg", 1),
        ("textvqa/train_images/0054c91397f2fe05.jpg", 2),
        ("vizwiz/val/VizWiz_val_00000000.jpg", 3),
        ("vizwiz/train/VizWiz_train_00000000.jpg", 4),
    ];
    let root = data(&texts, &pictures);
    for (name, shade, category) in [("textvqa", 1, "question"), ("vizwiz", 3, "unanswerable")] {
        let test = opened(name, root.path()).0.test(0).unwrap();
        assert_eq!((test.answers.len(), shades(&test), test.category.as_str()), (10, vec![shade], category));
    }
}

#[test]
fn gqa_is_a_map_by_id_and_forgives_a_capital() {
    let file = |id: &str, image: &str, answer: &str| {
        format!(
            r#"{{"{id}": {{"semantic": [], "question": "Is it overcast?", "imageId": "{image}",
                "isBalanced": true, "answer": "{answer}",
                "types": {{"detailed": "weatherVerify", "semantic": "global", "structural": "verify"}},
                "fullAnswer": "No."}}}}"#
        )
    };
    let texts = [
        ("gqa/testdev_balanced_questions.json", file("201307251", "n161313", "no")),
        ("gqa/val_balanced_questions.json", file("05451384", "2382986", "yes")),
    ];
    let root = data(&texts, &[("gqa/images/n161313.jpg", 1), ("gqa/images/2382986.jpg", 2)]);
    let (set, _) = opened("gqa", root.path());
    assert_eq!(set.tests[0].question.category, "verify");
    assert_eq!(set.prediction(&set.tests[0].question, " No."), "No.");
    let scores = mm1_eval::score::scores(set.metric(), &[vec!["no".to_owned()]], &["No."]).unwrap();
    assert_eq!((set.tests[0].question.id.as_str(), scores), ("gqa/testdev/201307251", vec![100.0]));
}

#[test]
fn scienceqa_asks_what_has_a_picture_and_shows_how_it_is_found() {
    let problem = |image: &str, hint: &str, answer: usize, split: &str| {
        format!(
            r#"{{"question": "Which of these states is farthest north?", "choices": ["West Virginia",
                "Louisiana", "Oklahoma"],
                "answer": {answer}, "hint": "{hint}", "image": {image}, "task": "closed choice",
                "grade": "grade2",
                "subject": "social science", "topic": "geography", "category": "Geography",
                "skill": "Read a map",
                "lecture": "Maps have four directions.", "solution": "West Virginia is farthest north.",
                "split": "{split}"}}"#
        )
    };
    let problems = format!(
        r#"{{"1": {}, "4": {}, "5": {}}}"#,
        problem(r#""image.png""#, "", 0, "train"),
        problem("null", "", 1, "test"),
        problem(r#""image.png""#, "Look at the map.", 2, "test"),
    );
    let texts = [
        ("scienceqa/problems.json", problems),
        (
            "scienceqa/pid_splits.json",
            r#"{"train": ["1"], "val": [], "test": ["4", "5"], "minival": []}"#.to_owned(),
        ),
    ];
    let pictures = [("scienceqa/images/train/1/image.png", 1), ("scienceqa/images/test/5/image.png", 2)];
    let root = data(&texts, &pictures);
    let (set, _) = opened("scienceqa", root.path());
    let test = set.test(0).unwrap();
    assert_eq!((set.metric(), set.tests(), test.id.as_str()), (Metric::Letter, 1, "scienceqa/test/5"));
    assert_eq!(test.text, "Look at the map.\nWhich of these states is farthest north?");
    assert_eq!(
        (test.choices.len(), &*test.answers, test.category.as_str()),
        (3, &["C".to_owned()][..], "social science")
    );
    assert_eq!(
        set.demonstration(0).unwrap().reasoning,
        "Maps have four directions. West Virginia is farthest north."
    );
}

#[test]
fn an_item_that_no_answer_is_right_of_is_left_out_by_name() {
    let asked = |id: u32, answers: &str| {
        format!(
            r#"{{"question_id": {id}, "image_id": "a", "question": "What is written?", "answers": {answers}}}"#
        )
    };
    let set = |answers: [&str; 2]| {
        let [first, second] = [0, 1].map(|i| asked(i as u32, answers[i]));
        format!(r#"{{"data": [{first}, {second}]}}"#)
    };
    let [tests, train] = [[r#"["stop"]"#, "[]"], [r#"["go"]"#, r#"["stop"]"#]].map(set);
    let texts = [("textvqa/TextVQA_0.5.1_val.json", tests), ("textvqa/TextVQA_0.5.1_train.json", train)];
    let root = data(&texts, &[("textvqa/train_images/a.jpg", 1)]);
    let set = mm1_eval::tasks::open("textvqa", root.path()).unwrap();
    let mut says = |prompts: &[Prompt]| Ok(vec![" stop".to_owned(); prompts.len()]);
    let outcome = evaluate(&set, &mut says, &pass()).unwrap();
    assert_eq!((outcome.items.len(), outcome.score.value), (1, 100.0));
    let [skipped] = &outcome.skipped[..] else { panic!("{:?}", outcome.skipped) };
    assert!(skipped.reason.contains("textvqa/val/1: no answer is accepted"), "{}", skipped.reason);
}

#[test]
fn ai2d_has_its_pictures_in_cells() {
    let (set, outcome) = opened("ai2d", std::path::Path::new("../../testdata/eval/sets"));
    let tests = all(&set);
    assert_eq!(tests[0].choices, ["a", "b", "g", "i"]);
    assert_eq!(
        (&*tests[0].answers, shades(&tests[0]), shades(&tests[1])),
        (&["C".to_owned()][..], vec![1], vec![2])
    );
    assert_eq!(
        outcome.items[0].prompt,
        "<image>Question: what eats grass?\nA. fox\nB. hare\nC. owl\nD. grass\nAnswer: B\n\n\
         <image>Question: which is the face of a man?\nA. a\nB. b\nC. g\nD. i\nAnswer:"
    );
    let mut letters = |prompts: &[Prompt]| Ok(vec!["B".to_owned(); prompts.len()]);
    let chat = EvalPass { style: Style::Chat, ..pass() };
    let outcome = evaluate(&set, &mut letters, &chat).unwrap();
    assert!(
        outcome.items[0].prompt.contains("Answer with the option's letter"),
        "{}",
        outcome.items[0].prompt
    );
    assert_eq!(outcome.score.value, 50.0);
}

#[test]
fn chartqa_has_questions_of_people_and_of_captions() {
    let asked = |picture: &str, label: &str| {
        format!(
            r#"[{{"imgname": "{picture}.png", "query": "How many food items are shown?",
                "label": "{label}"}}]"#
        )
    };
    let texts = [
        ("chartqa/test/test_human.json", asked("41699051005347", "14")),
        ("chartqa/test/test_augmented.json", asked("multi_col_1229", "57.2")),
        ("chartqa/train/train_human.json", asked("11049", "5")),
        ("chartqa/train/train_augmented.json", asked("two_col_101", "Inbound")),
    ];
    let pictures = [
        ("chartqa/test/png/41699051005347.png", 1),
        ("chartqa/test/png/multi_col_1229.png", 2),
        ("chartqa/train/png/11049.png", 3),
        ("chartqa/train/png/two_col_101.png", 4),
    ];
    let root = data(&texts, &pictures);
    let (set, outcome) = opened("chartqa", root.path());
    assert_eq!((set.metric(), set.tests(), set.demonstrations()), (Metric::RelaxedAccuracy, 2, 2));
    assert_eq!(outcome.by_category.keys().collect::<Vec<_>>(), ["augmented", "human"]);
}

#[test]
fn docvqa_finds_its_pages_where_they_are_now() {
    let file = |split: &str, id: u32, page: &str| {
        format!(
            r#"{{"dataset_name": "SP-DocVQA", "dataset_version": "1.0", "dataset_split": "{split}",
                "data": [{{"questionId": {id},
                "question": "What is the 'actual' value per 1000?", "question_types": ["figure/diagram",
                "layout"],
                "image": "documents/{page}", "docId": 14465, "ucsf_document_id": "pybv0228",
                "answers": ["0.28", ".28"],
                "data_split": "{split}"}}]}}"#
        )
    };
    let texts = [
        ("docvqa/val_v1.0_withQT.json", file("val", 49153, "pybv0228_81.png")),
        ("docvqa/train_v1.0_withQT.json", file("train", 337, "xnbl0037_1.png")),
    ];
    let pictures =
        [("docvqa/spdocvqa_images/pybv0228_81.png", 1), ("docvqa/spdocvqa_images/xnbl0037_1.png", 2)];
    let root = data(&texts, &pictures);
    let (set, _) = opened("docvqa", root.path());
    let test = set.test(0).unwrap();
    assert_eq!(
        (set.metric(), test.id.as_str(), test.category.as_str()),
        (Metric::Anls, "docvqa/val/49153", "figure/diagram")
    );
    assert_eq!(test.answers, ["0.28", ".28"]);
}
