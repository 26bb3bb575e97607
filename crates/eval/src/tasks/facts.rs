//! `facts`: common facts in words alone, each with four options of one kind. It says what a language model
//! has kept of what it knew before it learned to see. Written for this program.

use mm1_data::question::Question;

use super::benchmark::{Benchmark, BenchmarkItem};
use crate::metric::Metric;
use crate::template::Template;

/// As recipes and commands call it.
pub const NAME: &str = "facts";

/// Options of a fact, the right one among them: chance is 25%.
const OPTIONS: usize = 4;

/// Facts of each kind that are demonstrated and not asked.
const DEMONSTRATED: usize = 2;

/// Facts of one kind: its name, the sentence that they end, and what stands in it with what ends it.
type Kind = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

#[rustfmt::skip]
const KINDS: [Kind; 8] = [
    ("capital", "The capital of {} is", &[
        ("France", "Paris"), ("Italy", "Rome"), ("Spain", "Madrid"), ("Germany", "Berlin"), ("Japan", "Tokyo"),
        ("Russia", "Moscow"), ("Egypt", "Cairo"), ("Greece", "Athens"), ("Austria", "Vienna"),
        ("Ireland", "Dublin"), ("Poland", "Warsaw"), ("Norway", "Oslo"), ("Sweden", "Stockholm"),
        ("Portugal", "Lisbon"), ("Cuba", "Havana"), ("Kenya", "Nairobi"), ("Peru", "Lima"),
        ("Canada", "Ottawa"), ("India", "New Delhi"), ("China", "Beijing"),
    ]),
    ("opposite", "The opposite of {} is", &[
        ("hot", "cold"), ("big", "small"), ("up", "down"), ("open", "closed"), ("early", "late"),
        ("full", "empty"), ("hard", "soft"), ("light", "dark"), ("fast", "slow"), ("old", "young"),
        ("rich", "poor"), ("wet", "dry"), ("happy", "sad"), ("strong", "weak"), ("day", "night"),
        ("left", "right"), ("first", "last"), ("high", "low"), ("loud", "quiet"), ("true", "false"),
    ]),
    ("home", "A {} lives in", &[
        ("fish", "water"), ("bird", "a nest"), ("bee", "a hive"), ("spider", "a web"), ("horse", "a stable"),
        ("king", "a palace"), ("prisoner", "a cell"), ("dog", "a kennel"), ("rabbit", "a burrow"),
        ("lion", "a den"),
    ]),
    ("colour", "The colour of {} is", &[
        ("grass", "green"), ("snow", "white"), ("blood", "red"), ("a ripe banana", "yellow"),
        ("the sky on a clear day", "blue"), ("coal", "black"), ("a carrot", "orange"), ("chocolate", "brown"),
        ("an elephant", "grey"), ("a flamingo", "pink"),
    ]),
    ("young", "The young of a {} is called a", &[
        ("dog", "puppy"), ("cat", "kitten"), ("cow", "calf"), ("sheep", "lamb"), ("horse", "foal"),
        ("hen", "chick"), ("bear", "cub"), ("pig", "piglet"), ("goose", "gosling"), ("frog", "tadpole"),
    ]),
    ("tool", "To {} you use", &[
        ("cut paper", "scissors"), ("see far away", "a telescope"), ("tell the time", "a clock"),
        ("sweep the floor", "a broom"), ("open a lock", "a key"), ("drive a nail", "a hammer"),
        ("dig a hole", "a shovel"), ("measure temperature", "a thermometer"),
        ("take a photograph", "a camera"), ("keep off the rain", "an umbrella"),
    ]),
    ("kind", "{} is a kind of", &[
        ("A rose", "flower"), ("An oak", "tree"), ("A trout", "fish"), ("A sparrow", "bird"),
        ("Copper", "metal"), ("A violin", "musical instrument"), ("Chess", "game"), ("Mars", "planet"),
        ("A wasp", "insect"), ("Cheddar", "cheese"), ("Oxygen", "gas"), ("Rice", "grain"),
        ("A sofa", "furniture"), ("Spanish", "language"), ("A diamond", "gem"), ("A sweater", "clothing"),
        ("The Nile", "river"), ("A carrot", "vegetable"), ("A dog", "mammal"), ("A hammer", "tool"),
    ]),
    ("work", "Somebody who {} is a", &[
        ("teaches children", "teacher"), ("treats sick people", "doctor"), ("bakes bread", "baker"),
        ("puts out fires", "firefighter"), ("flies a plane", "pilot"), ("grows crops", "farmer"),
        ("cuts hair", "barber"), ("pulls teeth", "dentist"), ("mends pipes", "plumber"),
        ("writes novels", "writer"),
    ]),
];

/// The task: the most likely of four options ends the sentence. A tuned model is asked to complete it.
pub fn task() -> Benchmark {
    let (mut tests, mut demonstrations) = (Vec::new(), Vec::new());
    for (category, sentence, facts) in KINDS {
        let items = (0..facts.len()).map(|index| item(category, sentence, facts, index));
        let (shown, asked): (Vec<_>, Vec<_>) = items.enumerate().partition(|(i, _)| *i < DEMONSTRATED);
        demonstrations.extend(shown.into_iter().map(|(_, item)| item));
        tests.extend(asked.into_iter().map(|(_, item)| item));
    }
    let template = Template {
        ask: "{question}".to_owned(),
        answer: " {answer}.".to_owned(),
        chat: "Complete the sentence: {question}".to_owned(),
        ..Template::questions()
    };
    Benchmark { template, ..Benchmark::new(NAME, Metric::Choice, tests, demonstrations) }
}

/// The options are the endings of facts that follow one another, the right one at the place that its number
/// says, so that each place is right as often.
fn item(category: &str, sentence: &str, facts: &[(&str, &str)], index: usize) -> BenchmarkItem {
    let (subject, answer) = facts[index];
    let first = facts.len() + index - index % OPTIONS;
    let choices = (0..OPTIONS).map(|place| facts[(first + place) % facts.len()].1.to_owned()).collect();
    let question = Question {
        id: format!("{category}/{subject}"),
        category: category.to_owned(),
        text: sentence.replace("{}", subject),
        answers: vec![answer.to_owned()],
        choices,
        ..Question::default()
    };
    BenchmarkItem { question, pictures: Vec::new() }
}
