//! [`Exchange`]: what the processes of a training tell each other, and which part of a parameter is whose.

use std::fmt::Debug;
use std::ops::Range;

use anyhow::{Result, ensure};
use half::bf16;
use half::slice::{HalfBitsSliceExt as _, HalfFloatSliceExt as _};
use mm1_kernels::adamw::PIECE;
use mm1_kernels::rows;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The ranks of a training: processes with the same model that share the micro-batches of a step. Of n ranks
/// rank r has micro-batches r, r + n, r + 2n and so on, and keeps the moments of its part of each parameter
/// (ZeRO stage 1, Rajbhandari et al. 2020).
///
/// All ranks make the same calls in the same order, and each call waits for all of them. A rank that fails
/// comes to no further call: whoever starts the ranks ends the others then.
pub trait Exchange: Debug + Send + Sync {
    /// Which rank this is, from 0.
    fn rank(&self) -> usize;

    /// How many there are.
    fn ranks(&self) -> usize;

    /// What each rank gives, in their order.
    ///
    /// # Errors
    /// The network's own.
    fn gather(&self, own: &[u8]) -> Result<Vec<Vec<u8>>>;

    /// The same at rank 0; nothing elsewhere.
    ///
    /// # Errors
    /// The network's own.
    fn gather_at_first(&self, own: &[u8]) -> Result<Option<Vec<Vec<u8>>>>;

    /// Gives `own[parts[r]]` to each rank r. Returns what all ranks give to this one: `[ranks, own part]`.
    ///
    /// # Errors
    /// The network's own.
    fn scatter(&self, own: &[f32], parts: &[Range<usize>]) -> Result<Vec<f32>>;

    /// The same of bf16 values, by their bits.
    ///
    /// # Errors
    /// The network's own.
    fn scatter_halves(&self, own: &[u16], parts: &[Range<usize>]) -> Result<Vec<u16>>;

    /// Fills `whole` with `whole[parts[r]]` of each rank r.
    ///
    /// # Errors
    /// The network's own.
    fn collect(&self, whole: &mut [f32], parts: &[Range<usize>]) -> Result<()>;
}

/// In which precision gradients cross between ranks. They are summed in f32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ExchangePrecision {
    /// As they are.
    #[default]
    F32,
    /// The gradient of each micro-batch rounded to the nearest bf16: half the bytes.
    Bf16,
}

impl ExchangePrecision {
    /// Bytes of a gradient that crosses.
    pub fn bytes(self) -> u64 {
        match self {
            Self::F32 => 4,
            Self::Bf16 => 2,
        }
    }

    /// [`Exchange::scatter`] in this precision. What a rank keeps for itself is rounded, too: else digits
    /// would depend on who has which micro-batch.
    pub(crate) fn scatter(
        self,
        exchange: &dyn Exchange,
        own: &[f32],
        parts: &[Range<usize>],
    ) -> Result<Vec<f32>> {
        match self {
            Self::F32 => exchange.scatter(own, parts),
            Self::Bf16 => {
                let mut halves = vec![bf16::ZERO; own.len()];
                rows::narrow(&mut halves, own);
                let given = exchange.scatter_halves(halves.reinterpret_cast(), parts)?;
                let mut all = vec![0.0; given.len()];
                rows::widen(&mut all, given.reinterpret_cast());
                Ok(all)
            }
        }
    }
}

/// The parts of a parameter of `count` values, by rank; it is the `index`-th of all. A part is whole pieces,
/// by which the kernels sum and round, so that no digit depends on how many ranks there are. Parameters of
/// few pieces go to the ranks in turn.
pub(crate) fn parts(ranks: usize, index: usize, count: usize) -> Vec<Range<usize>> {
    let pieces = count.div_ceil(PIECE);
    let bound = |slot: usize| (pieces * slot / ranks * PIECE).min(count);
    let part = |rank: usize| {
        let slot = (rank + index) % ranks;
        bound(slot)..bound(slot + 1)
    };
    (0..ranks).map(part).collect()
}

/// Values of small parameters that cross together, 64 MiB: a message of its own for each would be mostly
/// latency. A larger parameter crosses alone.
const BUCKET: usize = 1 << 24;

/// Which of the parameters with these numbers of values cross together.
pub fn buckets(counts: impl IntoIterator<Item = usize>) -> Vec<Range<usize>> {
    let (mut buckets, mut values): (Vec<Range<usize>>, _) = (Vec::new(), 0);
    for (index, count) in counts.into_iter().enumerate() {
        match buckets.last_mut().filter(|_| values + count <= BUCKET) {
            Some(last) => (last.end, values) = (index + 1, values + count),
            None => {
                buckets.push(index..index + 1);
                values = count;
            }
        }
    }
    buckets
}

/// Parameters that cross together, rank by rank: all that is of rank 0, then of rank 1 and so on.
pub(crate) struct Bucket<'a> {
    /// Of each parameter the part of each rank.
    members: Vec<&'a [Range<usize>]>,
    ranks: Vec<Range<usize>>,
}

impl<'a> Bucket<'a> {
    /// Of parameters with these parts.
    pub(crate) fn new(members: Vec<&'a [Range<usize>]>) -> Self {
        let mut end = 0;
        let ranks = (0..members.first().map_or(0, |parts| parts.len())).map(|rank| {
            let begin = end;
            end += members.iter().map(|parts| parts[rank].len()).sum::<usize>();
            begin..end
        });
        let ranks = ranks.collect();
        Self { members, ranks }
    }

    /// Where what is of each rank lies.
    pub(crate) fn ranks(&self) -> &[Range<usize>] {
        &self.ranks
    }

    /// Values of all.
    pub(crate) fn len(&self) -> usize {
        self.ranks.last().map_or(0, |last| last.end)
    }

    /// All of `whole`, the values of each parameter.
    pub(crate) fn pack(&self, whole: &[Vec<f32>]) -> Vec<f32> {
        let mut packed = Vec::with_capacity(self.len());
        for rank in 0..self.ranks.len() {
            for (parts, values) in self.members.iter().zip(whole) {
                packed.extend_from_slice(&values[parts[rank].clone()]);
            }
        }
        packed
    }

    /// What [`Self::pack`] was given.
    pub(crate) fn unpack(&self, mut packed: &[f32]) -> Vec<Vec<f32>> {
        let count = |parts: &&[Range<usize>]| parts.iter().map(|part| part.len()).sum();
        let mut whole: Vec<Vec<f32>> = self.members.iter().map(|parts| vec![0.0; count(parts)]).collect();
        for rank in 0..self.ranks.len() {
            for (parts, values) in self.members.iter().zip(&mut whole) {
                let part = parts[rank].clone();
                let (from, behind) = packed.split_at(part.len());
                values[part].copy_from_slice(from);
                packed = behind;
            }
        }
        whole
    }
}

/// The parts of all ranks, `[ranks][own part]`, in the order of the parameter.
pub(crate) fn in_order<'a>(parts: &[Range<usize>], of_ranks: &[&'a [u8]]) -> Vec<&'a [u8]> {
    let mut placed: Vec<(usize, &[u8])> =
        parts.iter().map(|part| part.start).zip(of_ranks.iter().copied()).collect();
    placed.retain(|(_, bytes)| !bytes.is_empty());
    placed.sort_unstable_by_key(|(start, _)| *start);
    placed.into_iter().map(|(_, bytes)| bytes).collect()
}

/// `[f64; N]` of each micro-batch of a step, in order, from those of this rank.
pub(crate) fn of_step<const N: usize>(exchange: &dyn Exchange, own: &[[f64; N]]) -> Result<Vec<[f64; N]>> {
    let bytes: Vec<u8> = own.as_flattened().iter().flat_map(|number| number.to_le_bytes()).collect();
    let of_ranks = exchange.gather(&bytes)?;
    for (rank, given) in of_ranks.iter().enumerate() {
        let number = given.len() / (8 * N);
        ensure!(
            given.len() == bytes.len(),
            "rank {rank} has {number} micro-batches in a step in which rank {} has {}: give all ranks the \
             same recipe",
            exchange.rank(),
            own.len()
        );
    }
    let number = |rank: usize, at: usize| {
        f64::from_le_bytes(std::array::from_fn(|byte| of_ranks[rank][8 * at + byte]))
    };
    let of = |batch: usize, rank: usize| std::array::from_fn(|i| number(rank, batch * N + i));
    Ok((0..own.len()).flat_map(|batch| (0..of_ranks.len()).map(move |rank| of(batch, rank))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_parameters_cross_together() {
        assert_eq!(buckets([3, BUCKET - 3, 1, 2 * BUCKET, 5, 6]), [0..2, 2..3, 3..4, 4..6]);
        assert!(buckets([]).is_empty());
    }

    #[test]
    fn a_bucket_has_what_is_of_a_rank_together() {
        let counts = [3, PIECE + 5, 0, 4 * PIECE];
        let parts: Vec<_> = counts.iter().enumerate().map(|(index, &count)| parts(3, index, count)).collect();
        let bucket = Bucket::new(parts.iter().map(Vec::as_slice).collect());
        let value = |index: usize, at: usize| (index * 1_000_000 + at) as f32;
        let whole: Vec<Vec<f32>> = counts
            .iter()
            .enumerate()
            .map(|(i, &count)| (0..count).map(|at| value(i, at)).collect())
            .collect();
        let packed = bucket.pack(&whole);
        assert_eq!(packed.len(), bucket.len());
        assert!(bucket.unpack(&packed) == whole);
        let of_first = &packed[bucket.ranks()[0].clone()];
        let expected: Vec<f32> =
            whole.iter().zip(&parts).flat_map(|(values, parts)| values[parts[0].clone()].to_vec()).collect();
        assert!(of_first == expected && !expected.is_empty());
    }

    #[test]
    fn parts_are_whole_pieces_and_all_of_a_parameter() {
        for (ranks, count) in [(1, 5), (2, 1), (3, 0), (3, PIECE * 7 + 1), (4, PIECE * 4), (64, PIECE * 3)] {
            for index in 0..3 {
                let mut parts = parts(ranks, index, count);
                assert_eq!(parts.len(), ranks);
                parts.sort_by_key(|part| (part.start, part.end));
                let mut next = 0;
                for part in parts.into_iter().filter(|part| !part.is_empty()) {
                    assert_eq!(part.start, next);
                    assert!(part.start.is_multiple_of(PIECE));
                    assert!(part.len() <= count.div_ceil(PIECE).div_ceil(ranks) * PIECE);
                    next = part.end;
                }
                assert_eq!(next, count);
            }
        }
        assert_ne!(parts(2, 0, 5), parts(2, 1, 5), "small parameters go to the ranks in turn");
    }
}
