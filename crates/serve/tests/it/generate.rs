use burn::tensor::{Device, Tensor, TensorData};
use mm1_data::document::{Segment, Special};
use mm1_model::ops::Precision;
use mm1_model::{PictureContent, Piece, Placed};
use mm1_serve::generate::{AnswerOptions, EncodedPrompt, Finish, GenerateOptions};
use mm1_serve::sampler::Sampling;

use crate::case::{Case, compute, greedy, picture, prompts};

fn random(seed: u64, batch: usize) -> GenerateOptions {
    let sampling = Sampling::Random { temperature: 1.0, top_k: None, top_p: 0.95, min_p: 0.0, seed };
    let stop = vec!["e".into(), "o\n".into()];
    GenerateOptions { answer: AnswerOptions { stop, sampling, ..AnswerOptions::greedy(40) }, batch }
}

#[test]
fn the_cache_gives_what_the_whole_prompt_gives() {
    for seed in [1, 2] {
        let case = Case::new(seed);
        let texts = case.generator().generate(&prompts(), &greedy(24), None).unwrap();
        for (prompt, text) in prompts().iter().zip(&texts) {
            let (ids, pixels, slots) = case.read(prompt);
            let expected = case.reference(&ids, &pixels, &slots, 24);
            assert_eq!(*text, case.tokenizer.decode(&expected), "{prompt:?}");
        }
        let distinct: std::collections::BTreeSet<_> = texts.iter().collect();
        assert!(distinct.len() > 6, "the prompts matter: {texts:?}");
    }
}

#[test]
fn all_products_are_in_the_generators_precision() {
    let case = Case::new(1);
    let segment = picture(1);
    let Segment::Image(image) = &segment else { panic!("a picture") };
    let (_, pixels, _) = case.read(std::slice::from_ref(&segment));
    let side = case.model.config().vision.image_size;
    let pixels: Tensor<4> = Tensor::from_data(TensorData::new(pixels, [1, side, side, 3]), &Device::flex());
    let features = |precision| {
        let compute = compute().with_precision(precision);
        let features = case.model.vision.forward(&compute, pixels.clone());
        features.mean_dim(1).into_data().iter::<f32>().collect::<Vec<_>>()
    };
    assert_ne!(features(Precision::F32), features(Precision::Bf16));
    for precision in [Precision::F32, Precision::Bf16] {
        let found = case.generator_in(precision).features(image).unwrap();
        assert!(found == features(precision), "{precision:?}");
    }
}

#[test]
fn answers_depend_on_pictures() {
    let generator = Case::new(1).generator();
    let ask = |seed| vec![picture(seed), Segment::prompt("what is this?")];
    let texts = generator.generate(&[ask(1), ask(2), ask(1)], &greedy(24), None).unwrap();
    assert_ne!(texts[0], texts[1]);
    assert_eq!(texts[0], texts[2]);
}

#[test]
fn answers_do_not_depend_on_batch_size_or_neighbours() {
    let generator = Case::new(3).generator();
    let alone = generator.generate(&prompts(), &random(5, 1), None).unwrap();
    for batch in [2, 7, 100] {
        assert_eq!(generator.generate(&prompts(), &random(5, batch), None).unwrap(), alone, "batch {batch}");
    }
    let lengths: std::collections::BTreeSet<_> = alone.iter().map(String::len).collect();
    assert!(lengths.len() > 3, "answers end at different times: {alone:?}");
    let others: Vec<_> = prompts().into_iter().take(3).chain([vec![Segment::prompt("other")]]).collect();
    assert_eq!(
        generator.generate(&others, &random(5, 7), None).unwrap()[..3],
        alone[..3],
        "other neighbours"
    );
    assert_ne!(generator.generate(&prompts(), &random(6, 7), None).unwrap(), alone, "the seed matters");
}

#[test]
fn a_prompt_with_its_number_gets_the_same_answer_anywhere() {
    let generator = Case::new(3).generator();
    let encoded: Vec<EncodedPrompt> =
        prompts().iter().map(|prompt| generator.encode(&[prompt.into()]).unwrap()).collect();
    let ask = |numbers: &[usize], batch: usize| {
        let asked: Vec<(u64, &EncodedPrompt)> =
            numbers.iter().map(|&i| (40 + i as u64, &encoded[i])).collect();
        let begun = EncodedPrompt::default();
        generator.answer_numbered(&begun, &asked, &random(5, batch), None).unwrap()
    };
    let all: Vec<usize> = (0..encoded.len()).collect();
    let answers = ask(&all, 3);
    for i in &all {
        assert_eq!(ask(&[*i], 1)[0], answers[*i], "{i}");
    }
    let (first, rest) = all.split_at(2);
    assert_eq!([ask(first, 2), ask(rest, 100)].concat(), answers);
    // An answer of all tokens that it may have did not end; one of fewer did.
    let finished = |of: Finish| answers.iter().filter(|answer| answer.finish == of).count();
    assert!(finished(Finish::Stop) > 0, "{answers:?}");
    let long = generator.answer_numbered(
        &EncodedPrompt::default(),
        &[(1, &encoded[0])],
        &GenerateOptions { answer: AnswerOptions::greedy(1), batch: 1 },
        None,
    );
    assert_eq!(long.unwrap()[0].finish, Finish::Length);
}

/// Text could stay equal by luck; the logits must be equal to the last bit.
#[test]
fn neighbours_change_no_bit_of_the_logits() {
    let case = Case::new(3);
    let read: Vec<_> = prompts().iter().map(|p| case.read(p)).collect();
    let size = [case.model.config().vision.image_size; 2];
    let placed = |(_, pixels, slots): &(_, Vec<f32>, Vec<usize>)| -> Vec<Placed> {
        let each = pixels.chunks(3 * size[0] * size[1]);
        slots
            .iter()
            .zip(each)
            .map(|(&slot, pixels)| Placed { slot, size, content: PictureContent::Pixels(pixels.to_vec()) })
            .collect()
    };
    let placed: Vec<Vec<Placed>> = read.iter().map(placed).collect();
    let pieces: Vec<_> = (read.iter().zip(&placed).enumerate())
        .map(|(sequence, ((ids, ..), pictures))| Piece { sequence, ids, pictures })
        .collect();
    let logits = |pieces: &[Piece<'_>], sequences| -> Vec<f32> {
        let mut cache = case.model.cache(sequences);
        case.model.extend(&compute(), pieces, &mut cache).unwrap().into_data().iter::<f32>().collect()
    };
    let together = logits(&pieces, pieces.len());
    for (piece, together) in pieces.iter().zip(together.chunks(case.tokenizer.vocab())) {
        assert!(logits(&[Piece { sequence: 0, ..*piece }], 1) == together, "prompt {}", piece.sequence);
    }
}

#[test]
fn many_long_prompts_are_read_over_several_steps() {
    let generator = Case::new(3).generator();
    let prompt = |i: usize| vec![Segment::prompt("the red apple and the owl ".repeat(60 + i))];
    let prompts: Vec<_> = (0..9).map(prompt).collect();
    let positions: usize = prompts.iter().map(|p| generator.encode(&[p.into()]).unwrap().positions()).sum();
    assert!(positions > 2 * 2048, "{positions} positions are more than two steps' worth");
    let together = generator.generate(&prompts, &greedy(5), None).unwrap();
    for (prompt, text) in prompts.into_iter().zip(together) {
        assert_eq!(generator.generate(&[prompt], &greedy(5), None).unwrap(), [text]);
    }
}

#[test]
fn pieces_join_to_the_answers() {
    let generator = Case::new(3).generator();
    let mut streamed = vec![String::new(); prompts().len()];
    let mut pieces = 0;
    let mut on_token = |i: usize, piece: &str| {
        assert!(!piece.is_empty());
        assert!(!piece.contains('e'), "a stop string is shown");
        streamed[i].push_str(piece);
        pieces += 1;
    };
    let texts = generator.generate(&prompts(), &random(5, 4), Some(&mut on_token)).unwrap();
    assert_eq!(streamed, texts);
    assert!(pieces > 3 * prompts().len(), "the text comes in pieces: {pieces}");
}

#[test]
fn a_stop_string_cuts_what_would_have_come() {
    let generator = Case::new(1).generator();
    let whole = generator.generate(&prompts(), &greedy(24), None).unwrap();
    for (i, text) in whole.iter().enumerate() {
        // Two characters from the middle: mostly parts of two tokens.
        let stop: String = text.chars().skip(text.chars().count() / 2).take(2).collect();
        let answer = AnswerOptions { stop: vec![stop.clone()], ..AnswerOptions::greedy(24) };
        let options = GenerateOptions { answer, batch: 8 };
        let cut = &generator.generate(&prompts(), &options, None).unwrap()[i];
        assert_eq!(Some(cut.as_str()), text.split(stop.as_str()).next());
        assert!(cut.len() < text.len());
    }
}

#[test]
fn what_cannot_be_done_is_refused_before_any_work() {
    let generator = Case::new(1).generator().with_context(30);
    let refuse = |prompts: &[Vec<Segment>], options: &GenerateOptions| {
        let mut on_token = |_: usize, _: &str| panic!("work was done");
        format!("{:#}", generator.generate(prompts, options, Some(&mut on_token)).unwrap_err())
    };
    let short = vec![Segment::prompt("owl")];
    let long = vec![Segment::prompt("owl ".repeat(20))];
    let tokens = generator.encode(&[(&long).into()]).unwrap().positions();
    let error = refuse(&[short.clone(), long], &greedy(10));
    assert!(
        error.contains("prompt 1")
            && error.contains(&format!("{tokens} tokens"))
            && error.contains("context of 30")
    );
    assert!(
        refuse(&[short.clone(), vec![]], &greedy(10)).starts_with("prompt 1: there is nothing to answer")
    );
    let one = [short];
    assert!(refuse(&one, &greedy(0)).contains("max_tokens"));
    assert!(refuse(&one, &GenerateOptions { batch: 0, ..greedy(1) }).contains("batch"));
    let with = |answer| GenerateOptions { answer, batch: 8 };
    let one_token = AnswerOptions::greedy(1);
    let empty = AnswerOptions { stop: vec![String::new()], ..one_token.clone() };
    assert!(refuse(&one, &with(empty)).contains("stop"));
    let cold = Sampling::Random { temperature: 0.0, top_k: None, top_p: 1.0, min_p: 0.0, seed: 0 };
    assert!(refuse(&one, &with(AnswerOptions { sampling: cold, ..one_token })).contains("temperature"));
    let bare = Segment::Token { token: Special::Image, learn: false };
    assert!(refuse(&[vec![bare]], &greedy(1)).contains("give the picture"));
    assert_eq!(generator.generate(&[], &greedy(1), None).unwrap(), Vec::<String>::new());
    assert!(generator.generate(&one, &greedy(1), None).is_ok());
}
