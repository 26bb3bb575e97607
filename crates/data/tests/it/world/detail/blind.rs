//! Questions without their pictures: neither the best constant nor what counting finds in the questions is
//! better than chance.

use std::collections::BTreeMap;

use mm1_data::question::Question;
use mm1_data::source::Split;
use mm1_data::world::DetailCategory;

use super::world;

/// Questions to learn from, and to ask of each split.
const NUMBER: u64 = 800;

/// What the most frequent answer may be right in: chance, and what the numbers of answers leave.
fn chance(category: DetailCategory) -> f64 {
    match category {
        DetailCategory::YesNo | DetailCategory::Side => 0.5,
        DetailCategory::Kind => 1.0 / 6.0,
        DetailCategory::Tallest | DetailCategory::Count => 1.0 / 9.0,
        // Scales of an axis share some values.
        DetailCategory::Value => 4.0 / 60.0,
        DetailCategory::Cell => 1.0 / 90.0,
        DetailCategory::Sign | DetailCategory::Price | DetailCategory::Item | DetailCategory::Label => 0.01,
    }
}

/// Counts of answers, and of words of questions beside each answer.
struct Counter {
    answers: BTreeMap<String, f64>,
    words: BTreeMap<(String, String), f64>,
}

fn words(question: &Question) -> Vec<String> {
    let plain = question.text.to_lowercase().replace('?', "");
    let one: Vec<String> = plain.split(' ').map(str::to_owned).collect();
    let two = one.windows(2).map(|pair| pair.join(" ")).collect::<Vec<_>>();
    one.into_iter().chain(two).collect()
}

impl Counter {
    fn of(training: &[Question]) -> Self {
        let mut counter = Self { answers: BTreeMap::new(), words: BTreeMap::new() };
        for question in training {
            let answer = &question.answers[0];
            *counter.answers.entry(answer.clone()).or_default() += 1.0;
            for word in words(question) {
                *counter.words.entry((word, answer.clone())).or_default() += 1.0;
            }
        }
        // What was seen once or twice can't be guessed.
        let mut often: Vec<(String, f64)> = std::mem::take(&mut counter.answers).into_iter().collect();
        often.sort_by(|a, b| b.1.total_cmp(&a.1));
        counter.answers = often.into_iter().take(30).collect();
        counter
    }

    fn constant(&self) -> &str {
        self.answers.iter().max_by(|a, b| a.1.total_cmp(b.1)).unwrap().0
    }

    /// Naive Bayes over words and pairs of words.
    fn guess(&self, question: &Question) -> &str {
        let words = words(question);
        let score = |(answer, count): (&String, &f64)| {
            let beside = |word: &String| {
                let both = self.words.get(&(word.clone(), answer.clone())).copied().unwrap_or_default();
                ((both + 1.0) / (count + 20.0)).ln()
            };
            count.ln() + words.iter().map(beside).sum::<f64>()
        };
        let best = self.answers.iter().max_by(|&a, &b| score(a).total_cmp(&score(b)));
        best.unwrap().0
    }
}

#[test]
fn the_best_constant_and_the_best_guess_from_the_question_are_at_chance() {
    let world = world(32);
    for category in DetailCategory::ALL {
        let questions = |split, from: u64| -> Vec<Question> {
            (from..from + NUMBER).map(|i| world.detail_question_undrawn(split, category, i)).collect()
        };
        let counter = Counter::of(&questions(Split::Train, 0));
        for (split, from) in [(Split::Train, NUMBER), (Split::Test, 0)] {
            let asked = questions(split, from);
            let right = |guess: &dyn Fn(&Question) -> String| {
                asked.iter().filter(|q| q.answers[0] == guess(q)).count() as f64 / NUMBER as f64
            };
            let constant = right(&|_| counter.constant().to_owned());
            let blind = right(&|q| counter.guess(q).to_owned());
            let chance = chance(category);
            println!("{} {}: constant {constant:.3}, blind {blind:.3}", category.name(), split.name());
            // Three standard errors.
            let most = chance + 3.0 * (chance * (1.0 - chance) / NUMBER as f64).sqrt() + 0.005;
            assert!(constant < most && blind < most, "{category:?} {split:?}: {constant} {blind} {most}");
        }
    }
}
