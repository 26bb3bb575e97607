//! Words that no picture teaches: made-up ones, and short English ones for signs. Each word belongs to one
//! split.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::World;
use super::author::Author;
use crate::source::interface::Split;

/// English words of three to five letters.
pub(super) const ENGLISH: &str = "\
    able acid arch area army atom aunt bake bald band bank barn bath beam bean bell belt bend best bill bird \
    bite blow boat body bold bone book boot born boss both bowl brave bread brick bring brown brush cage \
    cake calm camp card care cart case cash cave chair chalk cheap chess chest chin city clay clean clock \
    cloth club coal coast coin cold cook copy cord corn cost count court cover crane crowd dance dark date \
    dawn deal deep desk dish dock door doubt down dream dress drink drum dust eagle early earth east easy \
    edge empty evil exit face fact fair fall farm fast fear fence field film find firm fish flat floor flour \
    fold foot fork free fresh front fruit fuel full gain game gate ghost giant gift girl glad glass glove \
    goal goat gold grain grass grow guest habit hall hand harm heavy help hill hold hole home honey hope \
    horse hotel hour huge hunt idea iron item jail joke judge jump just keep kind king kiss knee lake lamp \
    land large late lawn lead left lemon level lift lime line list loan local lock long lost loud love luck \
    lunch magic mail main march mark match meal meat metal milk mind mix model money moon moral motor mouth \
    music nail name neck need nest news next night noise north nose note nurse ocean offer olive onion open \
    order oven paint paper park part party past path peace phone piano pilot pipe plain plane plate point \
    pond pool post power press price proud queen quick quiet race radio rain ranch rapid reach ready rest \
    rice rich ride ring river road rock roof room root rope rough round royal rule safe salt sand sauce \
    scale score seat seed sell shade shape sharp shelf shirt shop short show sing sink skin sleep slow smart \
    smile snow soap soft soil song soup south space spoon sport stage stand steel step stone stop store \
    storm stove sugar sun sweet swim table tail tall taste teach team tent test thick thin tired toast tooth \
    tower town toy track trade trip truck trust tube turn uncle under union upper urban valid value video \
    view visit voice wait walk wall warm wash watch water wave west wheel wide wild wind wine wing wise wood \
    wool work world wrong yard year young zero zone";

/// Beginnings of the new words in [`super::interleaved`].
pub(super) const HEADS: [&str; 10] = ["bli", "da", "zo", "wu", "ke", "mo", "fi", "nu", "ta", "gri"];
/// Their ends.
pub(super) const TAILS: [&str; 8] = ["cket", "x", "p", "nk", "zen", "ba", "lt", "ffo"];

/// The letters of made-up words, which begin with a consonant. Without "e", which would make English words
/// such as "more".
const CONSONANTS: [char; 14] = ['b', 'd', 'f', 'g', 'k', 'l', 'm', 'n', 'p', 'r', 's', 't', 'v', 'z'];
const VOWELS: [char; 4] = ['a', 'i', 'o', 'u'];

impl Author<'_> {
    /// A short English word that this split may show on a sign.
    pub(super) fn english_word(&mut self) -> String {
        let all: Vec<&str> = ENGLISH.split_whitespace().collect();
        loop {
            let word = self.pick(&all);
            if self.world.side(word) == self.split {
                return word.to_owned();
            }
        }
    }

    /// A made-up word of four or five letters that this split may show or teach, such as "dako" or "fipol".
    pub(super) fn new_word(&mut self) -> String {
        loop {
            let letters = self.pick(&[4, 5]);
            let letter = |i| if i % 2 == 0 { self.pick(&CONSONANTS) } else { self.pick(&VOWELS) };
            let word: String = (0..letters).map(letter).collect();
            let known = || {
                ENGLISH.split_whitespace().any(|w| w == word)
                    || self.world.emoji.iter().any(|e| e.name.split(' ').any(|w| w == word))
            };
            // The split first: the hash takes less than the look-up.
            if self.world.side(&word) == self.split && !known() {
                return word;
            }
        }
    }
}

impl World {
    /// The split that a word belongs to, by a hash of the seed and the word.
    pub fn side(&self, word: &str) -> Split {
        // Both splits of the interleaved pages have these.
        let shown = HEADS.iter().any(|h| word.strip_prefix(h).is_some_and(|tail| TAILS.contains(&tail)));
        let share = xxh3_64_with_seed(word.as_bytes(), self.seed) as f64 / u64::MAX as f64;
        if share < self.config.test_share && !shown { Split::Test } else { Split::Train }
    }
}
