//! Scores equal to the references' of `scripts/reference/scores.py`: pycocoevalcap and the official VQA rules.

use mm1_eval::score::{cider::Cider, exact, ptb, vqa};
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    words: Vec<(String, String)>,
    cider: Vec<Corpus>,
    normalised: Vec<(String, String)>,
    vqa: Vec<Answered>,
}

#[derive(Deserialize)]
struct Corpus {
    references: Vec<Vec<String>>,
    predictions: Vec<String>,
    value: f64,
    scores: Vec<f64>,
}

#[derive(Deserialize)]
struct Answered {
    prediction: String,
    answers: Vec<String>,
    accuracy: f64,
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("../../../../testdata/eval/scores.json")).unwrap()
}

#[test]
fn words_are_those_of_the_java_tokenizer() {
    for (caption, words) in golden().words {
        assert_eq!(ptb::words(&caption).join(" "), words, "{caption}");
    }
}

#[test]
fn cider_is_pycocoevalcaps() {
    for corpus in golden().cider {
        let cider = Cider::new(&corpus.references).unwrap();
        let scores: Vec<f64> =
            corpus.predictions.iter().enumerate().map(|(i, p)| cider.score(i, p)).collect();
        for (i, (ours, theirs)) in scores.iter().zip(&corpus.scores).enumerate() {
            assert!((ours - theirs).abs() < 1e-6, "item {i}: {ours} and {theirs}: {}", corpus.predictions[i]);
        }
        let value = scores.iter().sum::<f64>() / scores.len() as f64;
        assert!((value - corpus.value).abs() < 1e-6, "{value} and {}", corpus.value);
    }
}

#[test]
fn cider_of_one_item_is_zero_and_of_a_perfect_caption_a_thousand() {
    let one = Cider::new(&[vec!["a red dog".into()]]).unwrap();
    assert_eq!(one.score(0, "a red dog"), 0.0);
    let two = Cider::new(&[vec!["one red dog runs".into()], vec!["that blue cat sleeps".into()]]).unwrap();
    assert!((two.score(0, "One red dog runs.") - 1000.0).abs() < 1e-9);
    assert!(Cider::new(&[]).is_err());
    assert!(Cider::new(&[vec![]]).is_err());
}

#[test]
fn answers_are_normalised_as_officially() {
    for (answer, normal) in golden().normalised {
        assert_eq!(vqa::normalise(&answer), normal, "{answer:?}");
    }
}

#[test]
fn vqa_accuracy_is_the_official_one() {
    for case in golden().vqa {
        let ours = vqa::accuracy(&case.prediction, &case.answers);
        assert!((ours - case.accuracy).abs() < 1e-9, "{ours}: {:?} of {:?}", case.prediction, case.answers);
    }
}

#[test]
fn exact_match_ignores_outer_spaces_only() {
    let answers = ["Dog face".to_string()];
    assert_eq!(exact::score(" Dog face\n", &answers), 1.0);
    assert_eq!(exact::score("dog face", &answers), 0.0);
}

#[test]
fn any_text_can_be_scored() {
    for text in [
        "",
        " ",
        "'",
        "''",
        "n't",
        "’",
        "é’é",
        "日本’s",
        "#",
        "@",
        "-",
        ".",
        "..",
        "\u{0}",
        "'ñ",
        "ß.x.",
        "ŵeve",
    ] {
        let (words, accuracy) = (ptb::words(text), vqa::accuracy(text, &[text.to_string()]));
        assert!(words.iter().all(|w| !w.is_empty()), "{text:?}: {words:?}");
        assert_eq!(accuracy, 1.0, "{text:?}");
    }
}
