//! Scores equal to the references' of `scripts/reference/scores.py`: pycocoevalcap and the official VQA
//! rules.

use mm1_eval::score::bleu::{self, BleuCounts};
use mm1_eval::score::cider::Cider;
use mm1_eval::score::ptb::PtbTokenizer;
use mm1_eval::score::{anls, exact, relaxed, rouge, vqa};
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    words: Vec<(String, String)>,
    corpora: Vec<Corpus>,
    normalised: Vec<(String, String)>,
    vqa: Vec<Answered>,
    anls: Vec<Answered>,
    relaxed: Vec<Answered>,
}

#[derive(Deserialize)]
struct Corpus {
    references: Vec<Vec<String>>,
    predictions: Vec<String>,
    cider: f64,
    ciders: Vec<f64>,
    bleu: [f64; 4],
    bleus: Vec<[f64; 4]>,
    rouge: f64,
    rouges: Vec<f64>,
}

#[derive(Deserialize)]
struct Answered {
    prediction: String,
    answers: Vec<String>,
    score: f64,
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("../../../../testdata/eval/scores.json")).unwrap()
}

#[test]
fn words_are_those_of_the_java_tokenizer() {
    let tokenizer = PtbTokenizer::new();
    for (caption, words) in golden().words {
        assert_eq!(tokenizer.tokenize(&caption), words, "{caption}");
    }
}

/// Items and their mean agree.
fn agree(ours: &[f64], theirs: &[f64], mean: f64) {
    for (i, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
        assert!((ours - theirs).abs() < 1e-6, "item {i}: {ours} and {theirs}");
    }
    let value = ours.iter().sum::<f64>() / ours.len() as f64;
    assert!(ours.len() == theirs.len() && (value - mean).abs() < 1e-6, "{value} and {mean}");
}

#[test]
fn cider_is_pycocoevalcaps() {
    for corpus in golden().corpora {
        let cider = Cider::new(&corpus.references).unwrap();
        let scores: Vec<f64> =
            corpus.predictions.iter().enumerate().map(|(i, p)| cider.score(i, p)).collect();
        agree(&scores, &corpus.ciders, corpus.cider);
    }
}

#[test]
fn rouge_is_pycocoevalcaps() {
    for corpus in golden().corpora {
        let items = corpus.predictions.iter().zip(&corpus.references);
        let scores: Vec<f64> = items.map(|(p, r)| 100.0 * rouge::score(&PtbTokenizer::new(), p, r)).collect();
        agree(&scores, &corpus.rouges, corpus.rouge);
    }
}

#[test]
fn bleu_is_pycocoevalcaps() {
    for corpus in golden().corpora {
        let predictions: Vec<&str> = corpus.predictions.iter().map(String::as_str).collect();
        let scores = bleu::corpus(&corpus.references, &predictions, 7);
        for (ours, theirs) in scores.iter().zip(corpus.bleu) {
            assert!((ours.value - theirs).abs() < 1e-6, "{} and {theirs}", ours.value);
            assert!(ours.ci95[0] <= ours.value && ours.value <= ours.ci95[1], "{ours:?}");
        }
        for (i, theirs) in corpus.bleus.iter().enumerate() {
            let ours = BleuCounts::of(&PtbTokenizer::new(), predictions[i], &corpus.references[i]).bleu();
            for (ours, theirs) in ours.iter().zip(theirs) {
                assert!((100.0 * ours - theirs).abs() < 1e-6, "item {i}: {ours} and {theirs}");
            }
        }
    }
}

#[test]
fn empty_captions_have_scores() {
    let reference = ["a red dog".to_string()];
    assert_eq!(rouge::score(&PtbTokenizer::new(), "", &reference), 0.0);
    assert_eq!(rouge::score(&PtbTokenizer::new(), "", &[String::new()]), 1.0);
    assert!(BleuCounts::of(&PtbTokenizer::new(), "", &reference).bleu().iter().all(|&b| b == 0.0));
    assert!((BleuCounts::of(&PtbTokenizer::new(), "A red dog.", &reference).bleu()[2] - 1.0).abs() < 1e-6);
    assert_eq!(bleu::corpus(&[], &[], 7)[3].n, 0);
    assert_eq!(anls::score("", &[String::new()]), 1.0);
    assert_eq!(anls::score("", &reference), 0.0);
    assert_eq!(relaxed::score("", &[String::new()]), 1.0);
}

#[test]
fn anls_and_relaxed_accuracy_are_the_official_ones() {
    let golden = golden();
    type Score = fn(&str, &[String]) -> f64;
    for (score, cases) in [(anls::score as Score, golden.anls), (relaxed::score, golden.relaxed)] {
        for case in cases {
            let ours = score(&case.prediction, &case.answers);
            assert!((ours - case.score).abs() < 1e-9, "{ours}: {:?} of {:?}", case.prediction, case.answers);
        }
    }
}

#[test]
fn anls_keeps_a_half_and_relaxed_accuracy_five_percent() {
    let answers = |text: &str| [text.to_string()];
    assert_eq!(anls::score("abxx", &answers("ABCD")), 0.5);
    assert_eq!(anls::score("axxx", &answers("abcd")), 0.0);
    assert_eq!(relaxed::score("105", &answers("100")), 1.0);
    assert_eq!(relaxed::score("106", &answers("100")), 0.0);
    assert_eq!(relaxed::score("0.05", &answers("5%")), 1.0);
    assert_eq!(relaxed::score("5", &answers("5%")), 0.0);
    assert_eq!(relaxed::score("YES", &answers("yes")), 1.0);
    assert_eq!(relaxed::score("0.0", &answers("0")), 0.0);
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
        assert!((ours - case.score).abs() < 1e-9, "{ours}: {:?} of {:?}", case.prediction, case.answers);
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
        "a\nb\r\u{85}c",
        "\u{ad}",
        "a.\u{2028}",
        "<a b=\"",
        "@",
        "a@",
        "ﬁ\u{10ffff}",
    ] {
        let (words, accuracy) =
            (PtbTokenizer::new().tokenize(text), vqa::accuracy(text, &[text.to_string()]));
        assert!(words.is_empty() || words.split(' ').all(|w| !w.is_empty()), "{text:?}: {words:?}");
        assert_eq!(accuracy, 1.0, "{text:?}");
    }
}
