//! What a study finds: how far settings are apart, how sure that is, and the sentence that says so.
//!
//! Every setting is trained with several seeds, and every run answers the same examples. A score therefore
//! varies in two ways: with the seed of the training and with the examples that happened to be asked.
//! [`answers`] reads them, [`results`] keeps them in one file, and [`scores`] has their mean and its interval
//! over both. Settings are compared seed by seed and example by example ([`comparison`]), all comparisons of
//! a study are corrected together ([`holm`]), and what remains is put into words ([`sentence`]).

pub mod answers;
pub mod comparison;
pub mod figure;
pub mod findings;
pub mod holm;
pub mod page;
pub mod record;
pub mod results;
pub mod scores;
pub mod sentence;
