//! The engine: many requests at any times, each answered as if it were alone.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use mm1_data::document::Segment;
use mm1_model::ops::Precision;
use mm1_model::{Input, Layout, Sight};
use mm1_serve::engine::{
    AnswerEvent, AnswerRequest, ClientId, Counters, EmbeddingInput, Engine, EngineLimits, Finish, Listener,
    PromptLogProbs, ReadyPrompt, Refusal,
};
use mm1_serve::generate::AnswerOptions;
use mm1_serve::penalties::Penalties;
use mm1_serve::sampler::Sampling;

use crate::case::{Case, greedy, logits, picture, prompts};

const ROOM: EngineLimits = EngineLimits { cache_bytes: 64 << 20, picture_bytes: 1 << 20, waiting: 64 };

/// Sends what it hears; gone after so many events.
struct Told {
    events: Sender<AnswerEvent>,
    most: usize,
}

impl Listener for Told {
    fn hear(&mut self, event: AnswerEvent) {
        // The test may have seen enough.
        let _ = self.events.send(event);
        self.most -= 1;
    }

    fn is_gone(&self) -> bool {
        self.most == 0
    }
}

fn listener() -> (Box<dyn Listener>, Receiver<AnswerEvent>) {
    let (events, heard) = channel();
    (Box::new(Told { events, most: usize::MAX }), heard)
}

fn ready(engine: &Engine, prompt: &[Segment]) -> ReadyPrompt {
    let prompts = engine.prompts();
    prompts.ready(&prompts.encode(&[prompt.into()]).unwrap()).unwrap()
}

fn options(max_tokens: usize) -> AnswerOptions {
    let sampling = Sampling::Random { temperature: 1.0, top_k: None, top_p: 1.0, min_p: 0.0, seed: 3 };
    AnswerOptions { sampling, ..AnswerOptions::greedy(max_tokens) }
}

/// A request for the text alone.
fn plain(prompt: ReadyPrompt, options: AnswerOptions, listener: Box<dyn Listener>) -> AnswerRequest {
    AnswerRequest {
        client: ClientId::default(),
        prompt,
        options,
        grammar: None,
        stream: 0,
        log_probs: None,
        prompt_log_probs: None,
        attention: false,
        listener,
    }
}

/// Submits a request for sampled tokens with their log probabilities.
fn ask(engine: &Engine, prompt: &[Segment], stream: u64) -> Receiver<AnswerEvent> {
    let (listener, heard) = listener();
    let prompt = ready(engine, prompt);
    let (options, log_probs) = (options(12), Some(2));
    let request = AnswerRequest { stream, log_probs, ..plain(prompt, options, listener) };
    engine.submit(request).unwrap();
    heard
}

/// All that is heard up to the end, and how much of the prompt was known.
fn hear(heard: &Receiver<AnswerEvent>) -> (Vec<AnswerEvent>, usize) {
    let (mut events, mut known) = (Vec::new(), 0);
    loop {
        match heard.recv_timeout(Duration::from_secs(60)).expect("an answer") {
            AnswerEvent::Start { cached, .. } => known = cached,
            event => events.push(event),
        }
        if matches!(events.last(), Some(AnswerEvent::End { .. } | AnswerEvent::Failure(_))) {
            return (events, known);
        }
    }
}

/// Prompts of 7 to 600 positions, many of which begin alike.
fn long_prompts() -> Vec<Vec<Segment>> {
    let lead = "the owl is on the left, the cat is on the right. ".repeat(20);
    let mut all = prompts();
    for (i, ending) in ["the red", "the green apple", "the owl", "the red"].iter().enumerate() {
        all.push(vec![Segment::prompt(format!("{lead}{ending}"))]);
        all.push(vec![picture(1), Segment::prompt(*ending), picture(i as u32), Segment::prompt(&lead)]);
        all.push(vec![Segment::prompt(&lead), picture(2), Segment::prompt(*ending)]);
    }
    all
}

#[test]
fn an_answer_depends_on_nobody_else() {
    let case = Case::new(1);
    let alone: Vec<_> = long_prompts()
        .iter()
        .enumerate()
        .map(|(i, prompt)| {
            let engine = Engine::start(case.generator(), ROOM).unwrap();
            hear(&ask(&engine, prompt, i as u64)).0
        })
        .collect();
    // Together, in three orders, and once more when all beginnings are known.
    let engine = Engine::start(case.generator(), ROOM).unwrap();
    let n = alone.len();
    for stride in [1, 3, 5, 1] {
        let order: Vec<usize> = (0..n).map(|i| i * stride % n).collect();
        let heard: Vec<_> = order.iter().map(|&i| ask(&engine, &long_prompts()[i], i as u64)).collect();
        for (&i, heard) in order.iter().zip(&heard) {
            assert!(hear(heard).0 == alone[i], "prompt {i} by strides of {stride}");
        }
    }
    assert!(engine.counters().cached_positions.get() > 1000);
}

/// Behind a connector with which the decoder looks at pictures beside its sequence, what it looks at is held
/// in the same memory, and kept for those who begin alike.
#[test]
fn pictures_beside_the_sequence_are_counted_and_depend_on_nobody_else() {
    let case = Case::looking(1);
    let expected: Vec<_> = long_prompts()
        .iter()
        .enumerate()
        .map(|(i, prompt)| {
            let engine = Engine::start(case.generator(), ROOM).unwrap();
            hear(&ask(&engine, prompt, i as u64)).0
        })
        .collect();
    let block = case.model.cache(1).block_bytes();
    let picture = case.model.config().picture_cache_bytes().div_ceil(block);
    assert!(picture >= 1, "a picture takes memory");
    let small = EngineLimits { cache_bytes: (12 + 2 * picture) * block, ..ROOM };
    let engine = Engine::start(case.generator(), small).unwrap();
    for turn in 0..2 {
        let heard: Vec<_> = (0..).zip(long_prompts()).map(|(i, prompt)| ask(&engine, &prompt, i)).collect();
        for (i, heard) in heard.iter().enumerate() {
            assert!(hear(heard).0 == expected[i], "prompt {i}, turn {turn}");
        }
        assert!(engine.counters().cache_bytes.get() <= small.cache_bytes as i64);
    }
    assert!(engine.counters().cached_positions.get() > 100);
    // Five pictures are more than there is room for, though their positions are few.
    let narrow = EngineLimits { cache_bytes: (1 + 4 * picture) * block, ..ROOM };
    let engine = Engine::start(case.generator(), narrow).unwrap();
    let (listener, ..) = listener();
    let pictures: Vec<Segment> = (0..5).map(crate::case::picture).collect();
    let Err(Refusal::Impossible(why)) = engine.submit(plain(ready(&engine, &pictures), options(8), listener))
    else {
        panic!("was taken")
    };
    assert!(why.contains("do not fit into the memory"), "{why}");
}

#[test]
fn a_short_prompt_is_answered_as_by_the_generator() {
    let case = Case::new(2);
    let expected = case.generator().generate(&prompts(), &greedy(12), None).unwrap();
    let engine = Engine::start(case.generator(), ROOM).unwrap();
    for (prompt, expected) in prompts().iter().zip(expected) {
        let (listener, heard) = listener();
        let (prompt, options) = (ready(&engine, prompt), AnswerOptions::greedy(12));
        let request = plain(prompt, options, listener);
        engine.submit(request).unwrap();
        let text: String = hear(&heard).0.into_iter().filter_map(text).collect();
        assert_eq!(text, expected);
    }
}

fn text(event: AnswerEvent) -> Option<String> {
    match event {
        AnswerEvent::Token { text, .. } => Some(text),
        _ => None,
    }
}

#[test]
fn a_picture_that_was_seen_is_not_encoded_again() {
    let engine = Engine::start(Case::new(1).generator(), ROOM).unwrap();
    let prompt = |shade, question: &str| vec![picture(shade), Segment::prompt(question)];
    let (_, known) = hear(&ask(&engine, &prompt(1, "the red apple"), 0));
    assert_eq!((known, engine.counters().encoded_views.get()), (0, 1));
    // Another question about the same picture, and the same about another picture.
    let (_, known) = hear(&ask(&engine, &prompt(1, "the owl is"), 0));
    assert_eq!((known, engine.counters().encoded_views.get()), (4, 1));
    let (_, known) = hear(&ask(&engine, &prompt(9, "the owl is"), 0));
    assert_eq!((known, engine.counters().encoded_views.get()), (0, 2));
}

#[test]
fn a_picture_at_another_place_is_not_encoded_again() {
    for precision in [Precision::F32, Precision::Bf16] {
        let case = Case::new(1);
        let engine = Engine::start(case.generator_in(precision), ROOM).unwrap();
        let prompts = [
            vec![picture(1), Segment::prompt("the red apple")],
            vec![Segment::prompt("left"), picture(1), Segment::prompt(" or right")],
            vec![picture(2), picture(1), picture(1)],
        ];
        for (prompt, encoded, reused) in [(&prompts[0], 1, 0), (&prompts[1], 1, 1), (&prompts[2], 2, 3)] {
            let (answer, known) = hear(&ask(&engine, prompt, 0));
            let alone = Engine::start(case.generator_in(precision), ROOM).unwrap();
            assert!(answer == hear(&ask(&alone, prompt, 0)).0, "{precision:?}");
            let counters = engine.counters();
            assert_eq!(
                (known, counters.encoded_views.get(), counters.reused_views.get()),
                (0, encoded, reused)
            );
            assert!(counters.picture_bytes.get() > 0);
        }
        // Where nothing is kept, the answers are the same.
        let nothing = EngineLimits { picture_bytes: 0, ..ROOM };
        let without = Engine::start(case.generator_in(precision), nothing).unwrap();
        for prompt in &prompts {
            assert!(hear(&ask(&without, prompt, 0)).0 == hear(&ask(&engine, prompt, 0)).0, "{precision:?}");
        }
        assert_eq!((without.counters().encoded_views.get(), without.counters().picture_bytes.get()), (5, 0));
    }
}

#[test]
fn prompts_that_begin_alike_and_come_together_are_read_once() {
    let engine = Engine::start(Case::new(1).generator(), ROOM).unwrap();
    let lead = "the owl is on the left, the cat is on the right. ".repeat(20);
    let prompt = |i: usize| vec![Segment::prompt(format!("{lead}{i}"))];
    let heard: Vec<_> = (0..8).map(|i| ask(&engine, &prompt(i), 0)).collect();
    let known: Vec<usize> = heard.iter().map(|heard| hear(heard).1).collect();
    let whole = ready(&engine, &prompt(0)).positions();
    assert_eq!(known.iter().filter(|known| **known == 0).count(), 1, "{known:?}");
    assert!(known.iter().filter(|known| **known > 0).all(|known| known + 128 >= whole), "{known:?}");
}

#[test]
fn log_probabilities_of_a_prompt_are_those_of_a_whole_pass() {
    let case = Case::new(1);
    let engine = Engine::start(case.generator(), ROOM).unwrap();
    let text = "the owl is on the left, the cat is on the right. ".repeat(9);
    let segments = vec![picture(1), Segment::prompt(text)];
    for _ in 0..2 {
        let (listener, heard) = listener();
        let (prompt, options) = (ready(&engine, &segments), AnswerOptions::greedy(1));
        let positions = prompt.positions();
        engine
            .submit(AnswerRequest {
                prompt_log_probs: Some(PromptLogProbs::default()),
                ..plain(prompt, options, listener)
            })
            .unwrap();
        let AnswerEvent::Start { log_probs, cached } = heard.recv_timeout(Duration::from_secs(60)).unwrap()
        else {
            panic!("not the start")
        };
        assert_eq!((log_probs.len(), cached), (positions, 0));
        // The text's first token is judged after the picture, and so are all others.
        let (ids, pixels, slots) = case.read(&segments);
        let layout = Layout::full(1, ids.len(), Sight::Causal);
        let (pixels, image_slots) = (&pixels[..], &slots[..]);
        let input = Input { rows: 1, length: ids.len(), ids: &ids, layout: &layout, pixels, image_slots };
        let logits: Vec<f32> = logits(&case.model, &input).into_data().iter::<f32>().collect();
        for (i, told) in log_probs.iter().enumerate() {
            let Some(told) = told else {
                assert!(i < 4, "position {i} has none");
                continue;
            };
            let row = &logits[(i - 1) * case.tokenizer.vocab()..][..case.tokenizer.vocab()];
            let sum: f64 = row.iter().map(|x| f64::from(*x).exp()).sum();
            let expected = f64::from(row[told.id as usize]) - sum.ln();
            assert_eq!(told.id, ids[i]);
            assert!((told.log_prob - expected).abs() < 1e-4, "{i}: {} for {expected}", told.log_prob);
        }
    }
}

#[test]
fn who_leaves_makes_room_and_changes_nothing() {
    let case = Case::new(1);
    let engine = Engine::start(case.generator(), ROOM).unwrap();
    let (events, heard) = channel();
    // After the start and two tokens.
    let listener = Box::new(Told { events, most: 3 });
    let (prompt, options) = (ready(&engine, &prompts()[0]), options(3000));
    engine.submit(plain(prompt, options, listener)).unwrap();
    let answered = hear(&ask(&engine, &prompts()[1], 0)).0;
    let alone = Engine::start(case.generator(), ROOM).unwrap();
    assert!(answered == hear(&ask(&alone, &prompts()[1], 0)).0);
    let events: Vec<_> = heard.iter().collect();
    assert!(events.len() == 3 && !matches!(events[2], AnswerEvent::End { .. }), "{events:?}");
    assert_eq!(engine.counters().left.get(), 1);
}

#[test]
fn little_memory_holds_requests_back_and_loses_none() {
    let case = Case::new(1);
    // Twelve blocks of 64 positions: two or three of the long prompts at a time.
    let block = case.model.cache(1).block_bytes();
    let small = EngineLimits { cache_bytes: 12 * block, ..ROOM };
    let (narrow, wide) =
        (Engine::start(case.generator(), small).unwrap(), Engine::start(case.generator(), ROOM).unwrap());
    let all = |engine: &Engine| -> Vec<_> {
        let heard: Vec<_> = long_prompts().iter().map(|prompt| ask(engine, prompt, 0)).collect();
        heard.iter().map(|heard| hear(heard).0).collect()
    };
    assert!(all(&narrow) == all(&wide));
    assert!(narrow.counters().cache_bytes.get() <= 12 * block as i64);
    let (listener, ..) = listener();
    let request = plain(ready(&narrow, &long_prompts()[prompts().len()]), options(900), listener);
    let Err(Refusal::Impossible(why)) = narrow.submit(request) else { panic!("was taken") };
    assert!(why.contains("do not fit into the memory, which is for 768"), "{why}");
}

#[test]
fn features_are_made_between_the_tokens_of_answers() {
    let engine = Engine::start(Case::new(1).generator(), ROOM).unwrap();
    let (listener, heard) = listener();
    let request = plain(ready(&engine, &prompts()[0]), options(600), listener);
    engine.submit(request).unwrap();
    // Each is told how many tokens there were before it.
    let heard = std::sync::Arc::new(std::sync::Mutex::new((heard, 0)));
    let (told, tokens) = channel();
    let Segment::Image(image) = picture(1) else { panic!("no picture") };
    for _ in 0..20 {
        let (heard, told) = (heard.clone(), told.clone());
        let reply = move |_| {
            let (heard, n) = &mut *heard.lock().unwrap();
            *n += heard.try_iter().count();
            told.send(*n).unwrap();
        };
        engine.embed(ClientId::default(), EmbeddingInput::Features(image.clone()), reply).unwrap();
    }
    let tokens: Vec<usize> = (0..20).map(|_| tokens.recv().unwrap()).collect();
    // The first may come before the answer, and the last behind its end.
    let answered = tokens.iter().filter(|n| **n > 0 && **n < *tokens.last().unwrap());
    let answered: Vec<usize> = answered.copied().collect();
    assert!(answered.len() > 3 && answered.is_sorted_by(|a, b| a < b), "{tokens:?}");
}

#[test]
fn what_is_kept_is_not_forgotten_for_one_who_has_to_wait() {
    let case = Case::new(1);
    let block = case.model.cache(1).block_bytes();
    let small = EngineLimits { cache_bytes: 12 * block, ..ROOM };
    let engine = Engine::start(case.generator(), small).unwrap();
    let lead = Segment::prompt("the owl is on the left, the cat is on the right. ".repeat(12));
    let known = |ending: &str| hear(&ask(&engine, &[lead.clone(), Segment::prompt(ending)], 0)).1;
    assert_eq!(known("the red"), 0);
    let kept = known("the owl");
    assert!(kept > 0);
    // An answer for which there is room beside what is kept, and one that needs all.
    let (events, kept) = channel();
    let begin = |text: &str, max_tokens| {
        let listener = Box::new(Watching { counters: engine.counters().clone(), kept: events.clone() });
        let request = plain(ready(&engine, &[Segment::prompt(text)]), options(max_tokens), listener);
        engine.submit(request).unwrap();
    };
    begin("apple", 60);
    begin("cat", 12 * 64 - 10);
    // Up to the end of the first.
    let kept: Vec<Option<i64>> = kept.iter().take_while(Option::is_some).collect();
    assert!(kept.len() > 5 && kept.iter().flatten().all(|kept| *kept > 0), "forgotten in vain: {kept:?}");
}

/// Tells how many beginnings are kept whenever a token comes, and nothing at the end.
struct Watching {
    counters: Counters,
    kept: Sender<Option<i64>>,
}

impl Listener for Watching {
    fn hear(&mut self, event: AnswerEvent) {
        let ended = matches!(event, AnswerEvent::End { .. });
        let _ = self.kept.send((!ended).then(|| self.counters.prefixes.get()));
    }

    fn is_gone(&self) -> bool {
        false
    }
}

#[test]
fn memory_for_nothing_is_refused_at_the_start() {
    let none = EngineLimits { cache_bytes: 100, ..ROOM };
    let Err(e) = Engine::start(Case::new(1).generator(), none) else { panic!("was started") };
    assert!(
        e.to_string().contains("100 bytes are not enough for the keys and values of 64 positions"),
        "{e}"
    );
}

#[test]
fn what_cannot_be_taken_is_refused() {
    let engine = Engine::start(Case::new(1).generator(), EngineLimits { waiting: 0, ..ROOM }).unwrap();
    let submit = |prompt: &[Segment], options: AnswerOptions| {
        let (listener, ..) = listener();
        let prompt = ready(&engine, prompt);
        engine.submit(plain(prompt, options, listener)).unwrap_err()
    };
    let owl = [Segment::prompt("owl")];
    assert_eq!(submit(&owl, options(1)), Refusal::Full);
    assert_eq!(engine.counters().refused.get(), 1);
    for (prompt, options, expected) in [
        (&owl[..], options(0), "max_tokens = 0"),
        (&owl[..], options(5000), "context of 4096"),
        (&[][..], options(1), "nothing to answer"),
        (
            &owl[..],
            AnswerOptions { penalties: Penalties { frequency: 3.0, presence: 0.0 }, ..options(1) },
            "frequency_penalty = 3",
        ),
    ] {
        let Refusal::Impossible(why) = submit(prompt, options) else { panic!("{expected}: was taken") };
        assert!(why.contains(expected), "{why}");
    }
    engine.stop();
    assert_eq!(submit(&owl, options(1)), Refusal::Stopping);
}

#[test]
fn penalties_forbid_what_was_said() {
    let engine = Engine::start(Case::new(1).generator(), ROOM).unwrap();
    let tokens = |penalties| {
        let (listener, heard) = listener();
        let prompt = ready(&engine, &prompts()[0]);
        let options = AnswerOptions { penalties, ..AnswerOptions::greedy(40) };
        engine.submit(AnswerRequest { log_probs: Some(0), ..plain(prompt, options, listener) }).unwrap();
        let ids = hear(&heard).0.into_iter().filter_map(|event| match event {
            AnswerEvent::Token { log_prob, .. } => log_prob.map(|log_prob| log_prob.id),
            _ => None,
        });
        let mut ids: Vec<u32> = ids.collect();
        let all = ids.len();
        ids.sort_unstable();
        ids.dedup();
        (all, ids.len())
    };
    let (all, different) = tokens(Penalties::default());
    let (penalised, more) = tokens(Penalties { frequency: 2.0, presence: 2.0 });
    assert!(more * all > different * penalised, "{different} of {all}, {more} of {penalised}");
}

#[test]
fn an_answer_ends_by_its_length_or_its_stop() {
    let engine = Engine::start(Case::new(1).generator(), ROOM).unwrap();
    let (events, _) = hear(&ask(&engine, &prompts()[0], 0));
    let text: String = events.iter().cloned().filter_map(text).collect();
    let expected = AnswerEvent::End { finish: Finish::Length };
    assert_eq!(events.last(), Some(&expected), "{text}");
    let (listener, heard) = listener();
    let stop: String = text.chars().skip(1).take(2).collect();
    let options = AnswerOptions { stop: vec![stop.clone()], ..options(12) };
    let prompt = ready(&engine, &prompts()[0]);
    engine.submit(plain(prompt, options, listener)).unwrap();
    let events = hear(&heard).0;
    assert_eq!(events.last(), Some(&AnswerEvent::End { finish: Finish::Stop }));
    let cut: String = events.into_iter().filter_map(self::text).collect();
    assert_eq!(Some(cut.as_str()), text.split(stop.as_str()).next());
}
