//! VQA accuracy (Antol et al. 2015) with the answer normalisation of the official evaluator
//! (GT-Vision-Lab/VQA, `vqaEval.py`).
//!
//! With ten answers from ten people, each person in turn is left out and the prediction earns min(1, matches
//! / 3) against the other nine; the accuracy is the mean of the ten. Items with fewer answers (such as the
//! built-in scenes, whose truth is known) earn 1 if any answer matches in its normal form, else 0.

use super::is_space;

/// Answers that the leave-one-out rule needs.
const PEOPLE: usize = 10;

/// Each word with one apostrophe missing is read as the whole word: `dont`, `wouldnt've`, `wouldn'tve`.
const CONTRACTIONS: &str = "\
    ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't \
    he'd he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've might've \
    mustn't must've needn't not've o'clock oughtn't 'ow's'at shan't she'd've should've shouldn't \
    shouldn't've somebody'd've somebody'll somebody's someone'd someone'd've someone'll someone's \
    something'd something'd've something'll that's there'd there'd've there're there's they'd they'd've \
    they'll they're they've 'twas wasn't we'd've we've weren't what'll what're what's what've when's \
    where'd where's where've who'd who'd've who'll who's who've why'll why're why's won't would've \
    wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll you're you've";

/// Deleted where a space is beside it (or where the text has a number such as 1,000), else replaced by a
/// space.
const PUNCTUATION: &str = ";/[]\"{}()=+\\_-><@`,?!";

const NUMBERS: [&str; 11] =
    ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"];

/// The accuracy of `prediction`, 0 to 1.
///
/// As in the official evaluator, a unanimous answer is compared as it is, without normalisation, when ten
/// people gave it.
pub fn accuracy(prediction: &str, answers: &[String]) -> f64 {
    let clean = |text: &str| text.replace(['\n', '\t'], " ").trim_matches(is_space).to_string();
    let answers: Vec<String> = answers.iter().map(|a| clean(a)).collect();
    let prediction = clean(prediction);
    if answers.len() < PEOPLE {
        let prediction = normalise(&prediction);
        return f64::from(u8::from(answers.iter().any(|a| normalise(a) == prediction)));
    }
    let unanimous = answers.iter().all(|a| *a == answers[0]);
    let same = |a: &str| if unanimous { a == prediction } else { normalise(a) == normalise(&prediction) };
    let hits: Vec<bool> = answers.iter().map(|a| same(a)).collect();
    let matches = hits.iter().filter(|&&hit| hit).count();
    let earned = hits.iter().map(|&hit| ((matches - usize::from(hit)) as f64 / 3.0).min(1.0));
    earned.sum::<f64>() / hits.len() as f64
}

/// The official normal form: punctuation out, lower case, number words as digits, articles out, apostrophes
/// restored.
pub fn normalise(answer: &str) -> String {
    let text = strip_punctuation(answer).to_lowercase();
    let words = text.split(is_space).filter(|word| !word.is_empty()).map(number);
    words
        .filter(|word| !matches!(word.as_str(), "a" | "an" | "the"))
        .map(contraction)
        .collect::<Vec<_>>()
        .join(" ")
}

fn strip_punctuation(text: &str) -> String {
    let characters: Vec<char> = text.chars().collect();
    let thousands =
        characters.windows(3).any(|w| w[0].is_ascii_digit() && w[1] == ',' && w[2].is_ascii_digit());
    let mut stripped = text.to_string();
    for p in PUNCTUATION.chars() {
        let spaced = text.contains(&format!("{p} ")) || text.contains(&format!(" {p}"));
        stripped = stripped.replace(p, if spaced || thousands { "" } else { " " });
    }
    strip_periods(&stripped)
}

/// Removes full stops that no digit follows. At most 32: the original passes a flag of value 32 where the
/// count belongs.
fn strip_periods(text: &str) -> String {
    let mut characters = text.chars().peekable();
    let (mut stripped, mut removed) = (String::new(), 0);
    while let Some(c) = characters.next() {
        if c == '.' && removed < 32 && !characters.peek().is_some_and(char::is_ascii_digit) {
            removed += 1;
        } else {
            stripped.push(c);
        }
    }
    stripped
}

fn number(word: &str) -> String {
    match NUMBERS.iter().position(|&n| n == word) {
        Some(value) => value.to_string(),
        None if word == "none" => "0".to_string(),
        None => word.to_string(),
    }
}

fn contraction(word: String) -> String {
    if word == "somebody'd" {
        return "somebodyd".to_string(); // The official table has this entry the wrong way round.
    }
    let restored = CONTRACTIONS.split(' ').find(|whole| {
        whole.len() == word.len() + 1
            && whole.match_indices('\'').any(|(at, _)| {
                word.get(..at) == Some(&whole[..at]) && word.get(at..) == Some(&whole[at + 1..])
            })
    });
    restored.map_or(word, str::to_string)
}
