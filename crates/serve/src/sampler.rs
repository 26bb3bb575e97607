//! [`Sampling`]: how the next token is chosen from the logits.

use anyhow::{Result, ensure};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// How tokens are chosen. Of equal logits the lowest id comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Sampling {
    /// The most likely token: what the paper's scores are measured with.
    #[default]
    Greedy,
    /// A draw from the softmax, restricted by `top_k`, then by `top_p` and `min_p`.
    Random {
        /// Divides the logits; above 0.
        temperature: f64,
        /// Only this many most likely tokens, at least 1; `None`: all.
        top_k: Option<usize>,
        /// Only the fewest most likely tokens that have this probability together (Holtzman et al. 2020); 1
        /// keeps all.
        top_p: f64,
        /// Only tokens that are at least this share as likely as the likeliest (Nguyen et al. 2024); 0 keeps
        /// all.
        #[serde(default)]
        min_p: f64,
        /// From which every draw follows.
        seed: u64,
    },
}

/// Chooses the tokens of one answer: its settings are in their ranges.
#[derive(Clone, Debug)]
pub struct Sampler {
    sampling: Sampling,
    rng: ChaCha8Rng,
}

impl Sampler {
    /// The sampler of answer number `stream`; each stream has draws of its own.
    ///
    /// # Errors
    /// A setting outside its range.
    pub fn new(sampling: Sampling, stream: u64) -> Result<Self> {
        let seed = match sampling {
            Sampling::Greedy => 0,
            Sampling::Random { temperature, top_k, top_p, min_p, seed } => {
                ensure!(
                    temperature > 0.0 && temperature.is_finite(),
                    "temperature = {temperature}: give a number above 0, or sample greedily"
                );
                ensure!(top_k != Some(0), "top_k = 0: give at least 1, or leave it out to keep all tokens");
                ensure!(top_p > 0.0 && top_p <= 1.0, "top_p = {top_p}: give a number above 0, up to 1");
                ensure!((0.0..=1.0).contains(&min_p), "min_p = {min_p}: give a number from 0 to 1");
                seed
            }
        };
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(stream);
        Ok(Self { sampling, rng })
    }

    /// The next token's id from its logits `[v]`.
    ///
    /// # Errors
    /// A logit that is NaN or +∞, or no logit above -∞.
    pub fn sample(&mut self, logits: &[f32]) -> Result<u32> {
        let best = highest(logits)?;
        let Sampling::Random { temperature, top_k, top_p, min_p, .. } = self.sampling else {
            return Ok(best as u32);
        };
        let top_k = top_k.unwrap_or(logits.len()).min(logits.len());
        let mut likeliest = Likeliest::new(logits);
        // The likeliest's weight is 1.
        let weight = |id: u32| (f64::from(logits[id as usize] - logits[best]) / temperature).exp();
        // The sum over a whole vocabulary is taken in the order of the ids: only what may be drawn is sorted.
        let all: f64 = if top_k < logits.len() {
            likeliest.sort(top_k);
            (0..top_k).map(|place| weight(likeliest.at(place))).sum()
        } else {
            (0..logits.len() as u32).map(weight).sum()
        };
        let (mut kept, mut sum) = (top_k, all);
        if top_p < 1.0 || min_p > 0.0 {
            (kept, sum) = (0, 0.0);
            while kept < top_k && (top_p >= 1.0 || sum < top_p * all) {
                let weight = weight(likeliest.at(kept));
                if weight < min_p {
                    break;
                }
                (kept, sum) = (kept + 1, sum + weight);
            }
        }
        let (mut left, mut drawn) = (self.rng.random::<f64>() * sum, 0);
        loop {
            left -= weight(likeliest.at(drawn));
            // Rounding may leave a rest: it belongs to the last that can be drawn.
            if left < 0.0 || drawn + 1 == kept || weight(likeliest.at(drawn + 1)) == 0.0 {
                return Ok(likeliest.at(drawn));
            }
            drawn += 1;
        }
    }
}

/// The ids of a vocabulary from the likeliest on, sorted as far as they are asked for: of 50,000 mostly a few
/// are.
struct Likeliest {
    /// An id behind its logit, in such bits that numbers ascend where logits descend, and ids of equal logits
    /// ascend: whole numbers are compared several times as fast.
    keys: Vec<u64>,
    /// How many of them are in their places.
    sorted: usize,
}

impl Likeliest {
    /// Of logits `[v]` without a NaN.
    fn new(logits: &[f32]) -> Self {
        let key = |(id, logit): (usize, &f32)| {
            // 0 and -0 are equal.
            let bits = (logit + 0.0).to_bits();
            let ascending = if bits >> 31 == 1 { !bits } else { bits | 1 << 31 };
            u64::from(!ascending) << 32 | id as u64
        };
        Self { keys: logits.iter().enumerate().map(key).collect(), sorted: 0 }
    }

    /// The id at this place; of equal logits the lowest first.
    fn at(&mut self, place: usize) -> u32 {
        self.sort(place + 1);
        self.keys[place] as u32
    }

    /// Brings the first so many to their places.
    fn sort(&mut self, count: usize) {
        if count > self.sorted {
            // Four times as many as before: it is done a few times at most.
            let end = count.max(4 * self.sorted).max(64).min(self.keys.len());
            let (rest, more) = (&mut self.keys[self.sorted..], end - self.sorted);
            if more < rest.len() {
                rest.select_nth_unstable(more);
            }
            rest[..more].sort_unstable();
            self.sorted = end;
        }
    }
}

/// The lowest of the ids with the highest logit.
pub(crate) fn highest(logits: &[f32]) -> Result<usize> {
    let mut best = None;
    for (id, &logit) in logits.iter().enumerate() {
        ensure!(
            !logit.is_nan() && logit != f32::INFINITY,
            "the logit of token {id} is {logit}: the weights are damaged, or training has diverged"
        );
        if logit > best.map_or(f32::NEG_INFINITY, |b: usize| logits[b]) {
            best = Some(id);
        }
    }
    best.ok_or_else(|| anyhow::anyhow!("no token is possible: all {} logits are -∞", logits.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random(temperature: f64, top_k: Option<usize>, top_p: f64) -> Sampling {
        Sampling::Random { temperature, top_k, top_p, min_p: 0.0, seed: 7 }
    }

    /// How often each id is drawn in 20,000 draws.
    fn shares(sampling: Sampling, logits: &[f32]) -> Vec<f64> {
        let mut sampler = Sampler::new(sampling, 0).unwrap();
        let mut counts = vec![0.0; logits.len()];
        for _ in 0..20_000 {
            counts[sampler.sample(logits).unwrap() as usize] += 1.0;
        }
        counts.iter().map(|c| c / 20_000.0).collect()
    }

    fn close(found: &[f64], expected: &[f64]) {
        for (f, e) in found.iter().zip(expected) {
            // Four standard deviations of a share of 20,000 draws.
            let near = 4.0 * (e * (1.0 - e) / 20_000.0).sqrt();
            assert!((f - e).abs() <= near, "{found:?} instead of {expected:?}");
        }
    }

    #[test]
    fn greedy_takes_the_highest_and_of_equals_the_lowest_id() {
        let mut sampler = Sampler::new(Sampling::Greedy, 0).unwrap();
        assert_eq!(sampler.sample(&[0.0, 3.0, f32::NEG_INFINITY, 3.0]).unwrap(), 1);
        assert_eq!(sampler.sample(&[-5.0, -0.0, 0.0]).unwrap(), 1);
    }

    #[test]
    fn draws_follow_the_softmax() {
        // ln of 1 : 2 : 5 gives shares of 1/8, 2/8, 5/8; at temperature 0.5 the weights are squared.
        let logits = [0.0, 2f32.ln(), 5f32.ln(), f32::NEG_INFINITY];
        close(&shares(random(1.0, None, 1.0), &logits), &[0.125, 0.25, 0.625, 0.0]);
        close(&shares(random(0.5, None, 1.0), &logits), &[1.0 / 30.0, 4.0 / 30.0, 25.0 / 30.0, 0.0]);
    }

    #[test]
    fn top_k_and_top_p_keep_the_likeliest() {
        let logits = [0.0, 2f32.ln(), 5f32.ln()];
        close(&shares(random(1.0, Some(2), 1.0), &logits), &[0.0, 2.0 / 7.0, 5.0 / 7.0]);
        close(&shares(random(1.0, None, 0.6), &logits), &[0.0, 0.0, 1.0]);
        close(&shares(random(1.0, None, 0.7), &logits), &[0.0, 2.0 / 7.0, 5.0 / 7.0]);
        close(&shares(random(1.0, None, 1e-9), &logits), &[0.0, 0.0, 1.0]);
        // Equal logits: the lowest id is kept.
        close(&shares(random(1.0, Some(1), 1.0), &[1.0, 1.0]), &[1.0, 0.0]);
    }

    /// The same draw from a vocabulary that is sorted whole: what [`Sampler::sample`] is to come to.
    fn of_sorted(logits: &[f32], sampling: Sampling, draw: f64) -> usize {
        let Sampling::Random { temperature, top_k, top_p, min_p, .. } = sampling else { panic!() };
        let mut ids: Vec<usize> = (0..logits.len()).collect();
        ids.sort_by(|&a, &b| logits[b].partial_cmp(&logits[a]).unwrap());
        ids.truncate(top_k.unwrap_or(ids.len()));
        let shifted = |id: usize| f64::from(logits[id] - logits[ids[0]]) / temperature;
        let mut weights: Vec<f64> = ids.iter().map(|&id| shifted(id).exp()).collect();
        if top_p < 1.0 {
            let (mut sum, enough) = (0.0, top_p * weights.iter().sum::<f64>());
            let last = weights.iter().position(|weight| {
                sum += weight;
                sum >= enough
            });
            weights.truncate(last.unwrap() + 1);
        }
        weights.retain(|weight| *weight >= min_p);
        let mut left = draw * weights.iter().sum::<f64>();
        let drawn = weights.iter().position(|weight| {
            left -= weight;
            left < 0.0
        });
        ids[drawn.unwrap()]
    }

    #[test]
    fn a_draw_is_that_of_a_sorted_vocabulary() {
        let mut random = ChaCha8Rng::seed_from_u64(5);
        let settings = [None, Some(1), Some(5), Some(40), Some(999), Some(5000)]
            .into_iter()
            .flat_map(|top_k| [1.0, 0.999, 0.9, 0.3, 1e-9].map(|top_p| (top_k, top_p)))
            .flat_map(|(top_k, top_p)| [0.0, 0.05, 0.7].map(|min_p| (top_k, top_p, min_p)));
        for (round, (top_k, top_p, min_p)) in settings.enumerate() {
            let temperature = [0.3, 1.0, 3.0][round % 3];
            let sampling = Sampling::Random { temperature, top_k, top_p, min_p, seed: round as u64 };
            let mut sampler = Sampler::new(sampling, 0).unwrap();
            let mut draws = sampler.rng.clone();
            for _ in 0..100 {
                // Peaked and flat ones, with equal logits and impossible tokens.
                let wide = random.random_range(0.1..8.0);
                let logit = |random: &mut ChaCha8Rng| match random.random_range(0..10) {
                    0 => f32::NEG_INFINITY,
                    1 => 0.0,
                    _ => random.random_range(-wide..wide),
                };
                let logits: Vec<f32> = (0..1000).map(|_| logit(&mut random)).collect();
                let drawn = sampler.sample(&logits).unwrap();
                assert_eq!(drawn as usize, of_sorted(&logits, sampling, draws.random()), "{sampling:?}");
            }
        }
    }

    #[test]
    fn min_p_keeps_what_is_near_the_likeliest() {
        let logits = [0.0, 2f32.ln(), 5f32.ln()];
        let with = |min_p| Sampling::Random { temperature: 1.0, top_k: None, top_p: 1.0, min_p, seed: 7 };
        close(&shares(with(0.3), &logits), &[0.0, 2.0 / 7.0, 5.0 / 7.0]);
        close(&shares(with(1.0), &logits), &[0.0, 0.0, 1.0]);
        assert!(Sampler::new(with(1.1), 0).is_err());
    }

    #[test]
    fn draws_repeat_by_seed_and_differ_by_stream() {
        let draws = |stream| {
            let mut sampler = Sampler::new(random(1.0, None, 1.0), stream).unwrap();
            (0..50).map(|_| sampler.sample(&[0.0; 100]).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(draws(3), draws(3));
        assert_ne!(draws(3), draws(4));
    }

    #[test]
    fn broken_logits_and_settings_are_refused() {
        for sampling in [Sampling::Greedy, random(1.0, None, 1.0)] {
            let mut sampler = Sampler::new(sampling, 0).unwrap();
            for logits in [[0.0, f32::NAN], [f32::INFINITY, 0.0], [f32::NEG_INFINITY; 2]] {
                assert!(sampler.sample(&logits).is_err(), "{logits:?}");
            }
            assert!(sampler.sample(&[]).is_err());
        }
        for (temperature, top_p) in
            [(0.0, 1.0), (-1.0, 1.0), (f64::NAN, 1.0), (1.0, 0.0), (1.0, 1.1), (1.0, f64::NAN)]
        {
            assert!(Sampler::new(random(temperature, None, top_p), 0).is_err(), "{temperature} {top_p}");
        }
        assert!(Sampler::new(random(1.0, Some(0), 1.0), 0).is_err());
    }
}
