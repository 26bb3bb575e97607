use mm1_data::document::Segment;
use mm1_model::{Input, Layout, Sight};
use mm1_serve::generate::{EncodedPrompt, Generator, PromptPart};
use mm1_serve::likelihood::{Likelihood, LikelihoodRequest};

use crate::case::{Case, greedy, logits, picture, prompts};

fn texts() -> Vec<String> {
    ["the red apple", "a", " and the owl", "e", "the cat is on the left"].map(String::from).to_vec()
}

fn encoded(generator: &Generator, prompts: &[Vec<Segment>]) -> Vec<EncodedPrompt> {
    prompts.iter().map(|prompt| generator.encode(&[prompt.into()]).unwrap()).collect()
}

fn request(generator: &Generator, parts: &[PromptPart<'_>], texts: &[String]) -> LikelihoodRequest {
    LikelihoodRequest {
        prompt: generator.encode(parts).unwrap(),
        continuations: texts.iter().map(|text| generator.prompts().encode_after(parts, text)).collect(),
    }
}

/// The likelihoods of the same texts after each prompt.
fn judged(
    generator: &Generator,
    shared: &[PromptPart<'_>],
    prompts: &[Vec<Segment>],
) -> Vec<Vec<Likelihood>> {
    let requests: Vec<_> =
        prompts.iter().map(|prompt| request(generator, &[prompt.into()], &texts())).collect();
    let shared = generator.encode(shared).unwrap();
    generator.likelihoods(&shared, &requests.iter().collect::<Vec<_>>()).unwrap()
}

/// The log-probabilities of `text` after `prompt` by a whole forward pass.
fn reference(case: &Case, prompt: &[Segment], text: &str) -> (f64, bool) {
    let (mut ids, pixels, slots) = case.read(prompt);
    let (before, text) = (ids.len(), case.tokenizer.encode(text));
    ids.extend(&text);
    let layout = Layout::full(1, ids.len(), Sight::Causal);
    let input = Input {
        rows: 1,
        length: ids.len(),
        ids: &ids,
        layout: &layout,
        pixels: &pixels,
        image_slots: &slots,
    };
    let logits = logits(&case.model, &input);
    let logits: Vec<f64> = logits.into_data().iter::<f32>().map(f64::from).collect();
    let vocab = case.tokenizer.vocab();
    let (mut log_prob, mut greedy) = (0.0, true);
    for (i, &id) in text.iter().enumerate() {
        let row = &logits[(before + i - 1) * vocab..][..vocab];
        let sum: f64 = row.iter().map(|x| x.exp()).sum();
        log_prob += row[id as usize] - sum.ln();
        greedy &= row.iter().all(|&x| x <= row[id as usize]);
    }
    (log_prob, greedy)
}

#[test]
fn likelihoods_are_those_of_a_whole_pass() {
    let case = Case::new(1);
    let prompts = prompts();
    let generator = case.generator();
    let together = judged(&generator, &[], &prompts);
    for (prompt, judged) in prompts.iter().zip(&together) {
        for (text, judged) in texts().iter().zip(judged) {
            let (log_prob, greedy) = reference(&case, prompt, text);
            assert!((judged.log_prob - log_prob).abs() < 1e-4, "{text:?}: {judged:?} and {log_prob}");
            assert_eq!((judged.greedy, judged.tokens), (greedy, case.tokenizer.encode(text).len()));
        }
    }
    // Each by itself: the same bits.
    for (prompt, together) in prompts.iter().zip(&together) {
        assert_eq!(judged(&generator, &[], std::slice::from_ref(prompt))[0], *together);
    }
}

#[test]
fn what_greedy_decoding_writes_is_greedy() {
    let case = Case::new(2);
    let generator = case.generator();
    let written = generator.generate(&prompts(), &greedy(3), None).unwrap();
    let prompts = prompts();
    let asked =
        prompts.iter().zip(&written).filter(|(_, text)| !text.is_empty() && !text.contains('\u{fffd}'));
    let requests: Vec<_> = asked
        .map(|(prompt, text)| {
            request(&generator, &[prompt.into()], &[text.clone(), format!("{text} not this")])
        })
        .collect();
    let requests: Vec<_> = requests.iter().collect();
    let judged = generator.likelihoods(&EncodedPrompt::default(), &requests).unwrap();
    // Text can be cut into other tokens than were written; most are the same.
    let greedy = judged.iter().filter(|l| l[0].greedy).count();
    assert!(2 * greedy > judged.len(), "{greedy} of {}", judged.len());
    assert!(judged.iter().all(|l| !l[1].greedy && l[1].log_prob < l[0].log_prob));
}

#[test]
fn a_shared_beginning_is_read_once_and_changes_no_answer() {
    let case = Case::new(3);
    let generator = case.generator();
    let (shared, prompts) = (vec![picture(4), Segment::prompt("the owl is on the left\n")], prompts());
    let whole: Vec<_> = prompts.iter().map(|prompt| [shared.clone(), prompt.clone()].concat()).collect();
    let parts = encoded(&generator, &prompts);
    let parts: Vec<_> = parts.iter().collect();
    let beginning = generator.encode(&[(&shared).into()]).unwrap();
    let apart = generator.generate_after(&beginning, &parts, &greedy(12), None).unwrap();
    assert_eq!(apart, generator.generate(&whole, &greedy(12), None).unwrap());
    let alone = generator.generate_after(&beginning, &parts[..1], &greedy(12), None).unwrap();
    assert_eq!(alone[0], apart[0]);
    let (apart, whole) = (judged(&generator, &[(&shared).into()], &prompts), judged(&generator, &[], &whole));
    for (apart, whole) in apart.iter().flatten().zip(whole.iter().flatten()) {
        assert!((apart.log_prob - whole.log_prob).abs() < 1e-4 && apart.greedy == whole.greedy);
    }
}

/// A part in the trained resolution is read as if it were not named; another gives other answers, shared or
/// not.
#[test]
fn demonstrations_may_have_a_resolution_of_their_own() {
    let case = Case::new(3);
    let generator = case.generator();
    let (shown, prompts) = (vec![picture(4), Segment::prompt("the owl is on the left\n")], prompts());
    let judged = |side: Option<usize>, together: bool| {
        let shown = PromptPart { segments: &shown, side, overviews: false };
        let own = |prompt| if together { vec![prompt] } else { vec![shown, prompt] };
        let requests: Vec<_> =
            prompts.iter().map(|prompt| request(&generator, &own(prompt.into()), &texts())).collect();
        let shared = if together { vec![shown] } else { Vec::new() };
        let (shared, requests) = (generator.encode(&shared).unwrap(), requests.iter().collect::<Vec<_>>());
        let judged = generator.likelihoods(&shared, &requests).unwrap();
        judged.iter().flatten().map(|l| l.log_prob).collect::<Vec<_>>()
    };
    let farthest = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    let (own, small) = (judged(None, false), judged(Some(8), false));
    assert_eq!(judged(Some(16), false), own);
    assert!(farthest(&small, &own) > 1e-2, "{}", farthest(&small, &own));
    assert!(farthest(&judged(Some(8), true), &small) < 1e-4);
    let shown =
        generator.encode(&[PromptPart { segments: &shown, side: Some(9), overviews: false }]).unwrap();
    let prompt = &encoded(&generator, &prompts[..1])[0];
    let error = generator.generate_after(&shown, &[prompt], &greedy(2), None);
    let error = format!("{:#}", error.unwrap_err());
    assert!(error.contains("9x9 pixels are not whole patches"), "{error}");
}

#[test]
fn nothing_to_judge_is_refused() {
    let generator = Case::new(1).generator();
    let error = |prompt: &str, text: &str| {
        let prompt = [Segment::prompt(prompt)];
        let request = request(&generator, &[(&prompt).into()], &[text.to_string()]);
        format!("{:#}", generator.likelihoods(&EncodedPrompt::default(), &[&request]).unwrap_err())
    };
    assert!(error("", "a").contains("it is empty"));
    assert!(error("a", "").contains("a text that is to be judged is empty"));
    assert!(error(&"a ".repeat(5000), "a").contains("do not fit into the context of 4096"));
}

#[test]
fn features_tell_pictures_apart() {
    let generator = Case::new(1).generator();
    let features = |seed| match picture(seed) {
        Segment::Image(image) => generator.features(&image).unwrap(),
        _ => unreachable!(),
    };
    assert_eq!(features(1).len(), 16);
    assert!(features(1) == features(1) && features(1) != features(2));
}
