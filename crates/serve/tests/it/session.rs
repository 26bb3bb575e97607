use mm1_data::chat::{Turn, prompt};
use mm1_data::document::{Segment, Special};
use mm1_serve::generate::{AnswerOptions, GenerateOptions};
use mm1_serve::sampler::Sampling;
use mm1_serve::session::Session;

use crate::case::{Case, picture};

fn turns() -> [Vec<Segment>; 3] {
    [
        vec![picture(1), Segment::prompt("what is this?"), picture(2)],
        vec![Segment::prompt("and where is the owl?")],
        vec![picture(3), Segment::prompt("the cat?")],
    ]
}

/// Three turns are the same as prompts that repeat all before, with the replies as they were made.
#[test]
fn a_conversation_equals_fresh_prompts() {
    for (seed, max_tokens) in [(1, 12), (2, 12), (4, 1)] {
        let case = Case::new(seed);
        let generator = case.generator();
        let mut session = Session::new(&generator);
        let (mut ids, mut pixels, mut slots) = (Vec::new(), Vec::new(), Vec::new());
        for turn in turns() {
            let (new_ids, new_pixels, new_slots) = case.read(&prompt(&[Turn::user(turn.clone())]));
            slots.extend(new_slots.iter().map(|s| ids.len() + s));
            ids.extend(new_ids);
            pixels.extend(new_pixels);
            let reply = case.reference(&ids, &pixels, &slots, max_tokens);
            ids.extend(&reply);
            ids.push(case.tokenizer.id(Special::End));

            let mut streamed = String::new();
            let said = session
                .say(&turn, &AnswerOptions::greedy(max_tokens), &mut |piece| streamed.push_str(piece))
                .unwrap();
            assert_eq!(said, case.tokenizer.decode(&reply));
            assert_eq!(said, streamed);
            assert_eq!(session.tokens(), ids.len());
        }
    }
}

#[test]
fn the_first_turn_equals_generation() {
    let case = Case::new(5);
    let generator = case.generator();
    let [turn, ..] = turns();
    let sampling = Sampling::Random { temperature: 1.0, top_k: Some(40), top_p: 0.9, min_p: 0.0, seed: 3 };
    let answer = AnswerOptions { stop: vec!["a".into()], sampling, ..AnswerOptions::greedy(30) };
    let options = GenerateOptions { answer: answer.clone(), batch: 8 };
    let expected = generator.generate(&[prompt(&[Turn::user(turn.clone())])], &options, None).unwrap();
    assert_eq!(Session::new(&generator).say(&turn, &answer, &mut |_| ()).unwrap(), expected[0]);
}

#[test]
fn a_refused_turn_changes_nothing() {
    let case = Case::new(1);
    let generator = case.generator().with_context(80);
    let [first, second, _] = turns();
    let talk = |refused: bool| {
        let mut session = Session::new(&generator);
        session.say(&first, &AnswerOptions::greedy(5), &mut |_| ()).unwrap();
        if refused {
            let long = [Segment::prompt("owl ".repeat(60))];
            let error =
                session.say(&long, &AnswerOptions::greedy(5), &mut |_| panic!("work was done")).unwrap_err();
            assert!(format!("{error:#}").starts_with("the conversation: "), "{error:#}");
            let bare = [Segment::Token { token: Special::Image, learn: false }];
            assert!(session.say(&bare, &AnswerOptions::greedy(5), &mut |_| ()).is_err());
        }
        session.say(&second, &AnswerOptions::greedy(5), &mut |_| ()).unwrap()
    };
    assert_eq!(talk(true), talk(false));
}
