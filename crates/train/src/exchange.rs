//! [`Exchange`]: what the processes of a training tell each other, and which part of a parameter is whose.

use std::fmt::Debug;
use std::ops::Range;
use std::sync::Arc;

use anyhow::{Result, ensure};
use half::bf16;
use half::slice::HalfFloatSliceExt as _;
use mm1_kernels::adamw::PIECE;
use mm1_kernels::arena::Buffer;
use mm1_kernels::rows;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The ranks of a training: processes with the same model that share the micro-batches of a step. Of n ranks
/// rank r has micro-batches r, r + n, r + 2n and so on, and keeps the moments of its part of each parameter
/// (ZeRO stage 1, Rajbhandari et al. 2020).
///
/// All ranks make the same calls in the same order, and each call waits for all of them. No two calls of a
/// rank are made at once, but some by another thread. A rank that fails comes to no further call: whoever
/// starts the ranks ends the others then.
pub trait Exchange: Debug + Send + Sync {
    /// Which rank this is, from 0.
    fn rank(&self) -> usize;

    /// How many there are.
    fn ranks(&self) -> usize;

    /// Whether another thread may call while this rank computes gradients.
    fn overlaps(&self) -> bool {
        true
    }

    /// From here on this rank computes beside the calls of another thread, or no longer.
    fn computes_beside(&self, _computes: bool) {}

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

    /// Gives `own[parts[r]]` to each rank r. Writes to `given` `[ranks, own part]` what all ranks give to
    /// this one.
    ///
    /// # Errors
    /// The network's own.
    fn scatter(&self, own: &[f32], parts: &[Range<usize>], given: &mut [f32]) -> Result<()>;

    /// The same of bf16 values, by their bits.
    ///
    /// # Errors
    /// The network's own.
    fn scatter_halves(&self, own: &[u16], parts: &[Range<usize>], given: &mut [u16]) -> Result<()>;

    /// Fills `whole[parts[r]]` with what rank r gives, this one `own`.
    ///
    /// # Errors
    /// The network's own.
    fn collect(&self, own: &[f32], parts: &[Range<usize>], whole: &mut [f32]) -> Result<()>;
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

    /// [`Exchange::scatter`] in this precision: `[ranks, own part]`. What a rank keeps for itself is rounded,
    /// too: else digits would depend on who has which micro-batch.
    pub(crate) fn scatter(
        self,
        exchange: &dyn Exchange,
        own: &[f32],
        parts: &[Range<usize>],
    ) -> Result<Buffer<f32>> {
        let count = parts.len() * parts[exchange.rank()].len();
        let mut given = Buffer::new(count);
        match self {
            Self::F32 => exchange.scatter(own, parts, &mut given)?,
            Self::Bf16 => {
                let [mut halves, mut given_halves] = [own.len(), count].map(Buffer::<bf16>::new);
                rows::narrow_alone(&mut halves, own);
                let to = given_halves.reinterpret_cast_mut();
                exchange.scatter_halves(halves.reinterpret_cast(), parts, to)?;
                rows::widen_alone(&mut given, &given_halves);
            }
        }
        Ok(given)
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

/// Bytes that cross together at most, those of all ranks. A larger parameter crosses alone.
pub(crate) const MOST_BYTES: usize = 1 << 26;
/// The same in values of parameters.
const MOST: usize = MOST_BYTES / size_of::<f32>();
/// At least: the time of a message with fewer is its latency alone.
const LEAST: usize = 1 << 12;
/// About so many buckets cross while gradients are computed. What is left of them then is mostly the last
/// one: an eighth.
const BUCKETS: usize = 8;

/// Which parameters cross together, by path, in the order in which their gradients are there, about: the
/// model's backwards. `parameters` are all trained ones with their numbers of values, in the order of the
/// model. A table of embeddings is read first, so that its gradient comes last.
///
/// Where nothing crosses `beside` the computing of gradients, as few messages as may be are best: in each all
/// ranks wait for one another. No digit depends on it.
pub fn buckets(parameters: Vec<(String, usize)>, beside: bool) -> Vec<Vec<String>> {
    let all: usize = parameters.iter().map(|(_, count)| count).sum();
    let room = if beside { (all / BUCKETS).clamp(LEAST, MOST) } else { MOST };
    let is_table = |path: &str| path.rsplit('.').next() == Some("embedding");
    let (tables, others): (Vec<_>, Vec<_>) =
        parameters.into_iter().rev().partition(|(path, _)| is_table(path));
    let (mut buckets, mut values): (Vec<Vec<String>>, _) = (Vec::new(), 0);
    for (path, count) in others.into_iter().chain(tables) {
        match buckets.last_mut().filter(|_| values + count <= room) {
            Some(last) => {
                last.push(path);
                values += count;
            }
            None => {
                buckets.push(vec![path]);
                values = count;
            }
        }
    }
    buckets
}

/// Rounds of micro-batches whose gradients, of `count` values in a round, cross together: as many as fit into
/// a message. Ranks wait for one another once for all of them, so that a rank with much to do in one round
/// and little in another is not waited for. None is held back where gradients cross `beside` the computing of
/// others.
pub(crate) fn rounds_together(count: usize, beside: bool) -> usize {
    if beside { 1 } else { (MOST / count.max(1)).max(1) }
}

/// Parameters that cross together, rank by rank: all that is of rank 0, then of rank 1 and so on.
#[derive(Debug)]
pub(crate) struct Bucket {
    members: Vec<Member>,
    /// Where what is of each rank lies.
    ranks: Vec<Range<usize>>,
}

/// What crosses in each micro-batch.
#[derive(Clone, Copy)]
pub(crate) struct Crossing<'a> {
    /// In the order in which they cross at all ranks, whenever their gradients come.
    pub(crate) buckets: &'a [Bucket],
    pub(crate) precision: ExchangePrecision,
}

/// Of each bucket the sums of the gradients of this rank's parts.
pub(crate) type PartSums = Vec<Buffer<f32>>;

/// One of the rounds of micro-batches whose gradients cross together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Round {
    /// Which of them it is, from 0.
    pub(crate) number: usize,
    /// How many there are.
    pub(crate) of: usize,
}

/// A parameter of a bucket.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) path: String,
    /// The part of each rank.
    parts: Parts,
    /// Where in the bucket it begins.
    begins: Vec<usize>,
}

/// Of a parameter the part of each rank.
pub(crate) type Parts = Arc<[Range<usize>]>;

impl<'a> Crossing<'a> {
    /// Paths of all parameters, in the order in which they cross.
    pub(crate) fn members(self) -> impl Iterator<Item = &'a str> {
        self.buckets.iter().flat_map(Bucket::members).map(|member| member.path.as_str())
    }
}

impl Bucket {
    /// Of parameters with these paths and parts.
    pub(crate) fn new(ranks: usize, parameters: impl IntoIterator<Item = (String, Parts)>) -> Self {
        let member = |(path, parts)| Member { path, parts, begins: Vec::with_capacity(ranks) };
        let mut members: Vec<Member> = parameters.into_iter().map(member).collect();
        let mut end = 0;
        let of_rank = |rank: usize| {
            let begin = end;
            for member in &mut members {
                member.begins.push(end);
                end += member.parts[rank].len();
            }
            begin..end
        };
        let ranks = (0..ranks).map(of_rank).collect();
        Self { members, ranks }
    }

    /// Its parameters.
    pub(crate) fn members(&self) -> &[Member] {
        &self.members
    }

    /// Where what is of each rank lies.
    pub(crate) fn ranks(&self) -> &[Range<usize>] {
        &self.ranks
    }

    /// Where what is of each rank lies in `rounds` of them that cross together.
    pub(crate) fn ranks_of(&self, rounds: usize) -> Vec<Range<usize>> {
        self.ranks.iter().map(|of_rank| rounds * of_rank.start..rounds * of_rank.end).collect()
    }

    /// Values of all.
    pub(crate) fn len(&self) -> usize {
        self.ranks.last().map_or(0, |last| last.end)
    }
}

impl Member {
    /// Of the part of each rank where it lies in the parameter, and where in the bucket.
    fn places(&self) -> impl Iterator<Item = (Range<usize>, Range<usize>)> {
        let place = |(part, &begin): (&Range<usize>, &usize)| (part.clone(), begin..begin + part.len());
        self.parts.iter().zip(&self.begins).map(place)
    }

    /// Where the part of `rank` lies among what is of that rank in `bucket`.
    pub(crate) fn place_of(&self, rank: usize, bucket: &Bucket) -> Range<usize> {
        let begin = self.begins[rank] - bucket.ranks[rank].start;
        begin..begin + self.parts[rank].len()
    }

    /// Writes the parameter's values to their places in `packed`, zeros where there are none. That is of
    /// several rounds: rank by rank, and of each round by round.
    pub(crate) fn pack(
        &self,
        bucket: &Bucket,
        Round { number, of }: Round,
        whole: Option<&[f32]>,
        packed: &mut [f32],
    ) {
        for ((part, place), of_rank) in self.places().zip(&bucket.ranks) {
            let begin = (of - 1) * of_rank.start + number * of_rank.len() + place.start;
            let place = begin..begin + place.len();
            match whole {
                Some(whole) => packed[place].copy_from_slice(&whole[part]),
                None => packed[place].fill(0.0),
            }
        }
    }

    /// Writes the values that lie in `packed` to `whole`, those of the parameter.
    pub(crate) fn unpack(&self, packed: &[f32], whole: &mut [f32]) {
        for (part, place) in self.places() {
            whole[part].copy_from_slice(&packed[place]);
        }
    }
}

/// The parts of all ranks, `[ranks][own part]`, in the order of the parameter.
pub(crate) fn in_order<'a, T>(parts: &[Range<usize>], of_ranks: &[&'a [T]]) -> Vec<&'a [T]> {
    let mut placed: Vec<(usize, &[T])> =
        parts.iter().map(|part| part.start).zip(of_ranks.iter().copied()).collect();
    placed.retain(|(_, values)| !values.is_empty());
    placed.sort_unstable_by_key(|(start, _)| *start);
    placed.into_iter().map(|(_, values)| values).collect()
}

/// Adds `part` to `bytes`, behind its length.
pub(crate) fn put_part(bytes: &mut Vec<u8>, part: &[u8]) {
    bytes.extend((part.len() as u64).to_le_bytes());
    bytes.extend(part);
}

/// What [`put_part`] has put at the beginning of `bytes`, and the rest.
pub(crate) fn take_part(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)
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
    fn parameters_cross_in_the_order_of_the_backward_pass() {
        let named = |parameters: &[(&str, usize)]| {
            buckets(parameters.iter().map(|(path, count)| ((*path).to_owned(), *count)).collect(), true)
        };
        assert!(named(&[]).is_empty());
        let small = named(&[("vision.patch", 3), ("lm.embedding", 5), ("lm.blocks.0.w", 7), ("lm.norm", 1)]);
        assert_eq!(small, [["lm.norm", "lm.blocks.0.w", "vision.patch", "lm.embedding"]]);
        let several =
            named(&[("a", LEAST), ("embedding.b", 1), ("c", 2 * LEAST), ("d", LEAST - 1), ("e", 1)]);
        assert_eq!(several, [vec!["e", "d"], vec!["c"], vec!["embedding.b"], vec!["a"]]);
        let paths: Vec<String> = (0..100).map(|i| format!("blocks.{i}")).collect();
        let many = |count: usize| named(&paths.iter().map(|p| (p.as_str(), count)).collect::<Vec<_>>());
        assert_eq!(many(10 * LEAST).len(), 9, "twelve of a hundred in each");
        assert_eq!(many(MOST).len(), 100, "none above the most");
    }

    #[test]
    fn what_crosses_after_the_backward_pass_crosses_together() {
        let of = |counts: &[usize]| {
            let named = |(i, &count): (usize, &usize)| (format!("blocks.{i}"), count);
            let buckets = buckets(counts.iter().enumerate().map(named).collect(), false);
            buckets.iter().map(Vec::len).collect::<Vec<_>>()
        };
        assert_eq!(of(&[MOST / 4; 4]), [4]);
        assert_eq!(of(&[MOST / 4; 9]), [4, 4, 1], "none above the most");
        assert_eq!(of(&[1, 2 * MOST, 1]), [1, 1, 1]);
        let rounds = |count| [false, true].map(|beside| rounds_together(count, beside));
        assert_eq!(rounds(MOST / 3), [3, 1]);
        assert_eq!((rounds(2 * MOST), rounds(0)), ([1, 1], [MOST, 1]));
    }

    #[test]
    fn a_bucket_has_what_is_of_a_rank_together() {
        let counts = [3, PIECE + 5, 0, 4 * PIECE];
        let parts: Vec<Parts> =
            counts.iter().enumerate().map(|(index, &count)| parts(3, index, count).into()).collect();
        let named = parts.iter().enumerate().map(|(i, parts)| (i.to_string(), parts.clone()));
        let bucket = Bucket::new(3, named);
        let value = |index: usize, at: usize| (index * 1_000_000 + at) as f32;
        let whole: Vec<Vec<f32>> = counts
            .iter()
            .enumerate()
            .map(|(i, &count)| (0..count).map(|at| value(i, at)).collect())
            .collect();
        let mut packed = vec![f32::NAN; bucket.len()];
        let members = || bucket.members().iter();
        let pack = |round: Round, factor: f32, packed: &mut [f32]| {
            for (member, values) in members().zip(&whole) {
                let values: Vec<f32> = values.iter().map(|value| factor * value).collect();
                member.pack(&bucket, round, Some(&values), packed);
            }
        };
        pack(Round { number: 0, of: 1 }, 1.0, &mut packed);
        for (member, values) in members().zip(&whole) {
            let mut unpacked = vec![f32::NAN; values.len()];
            member.unpack(&packed, &mut unpacked);
            assert!(unpacked == *values, "{}", member.path);
        }
        let of_first = &packed[bucket.ranks()[0].clone()];
        let expected: Vec<f32> =
            whole.iter().zip(&parts).flat_map(|(values, parts)| values[parts[0].clone()].to_vec()).collect();
        assert!(of_first == expected && !expected.is_empty());
        let large = &bucket.members()[3];
        assert!(of_first[large.place_of(0, &bucket)] == whole[3][parts[3][0].clone()]);
        // Of two rounds: of each rank the first and the second.
        let mut of_two = vec![f32::NAN; 2 * bucket.len()];
        (0..2).for_each(|number| pack(Round { number, of: 2 }, [1.0, -1.0][number], &mut of_two));
        for (of_rank, place) in bucket.ranks().iter().zip(bucket.ranks_of(2)) {
            let first = &packed[of_rank.clone()];
            let both: Vec<f32> = first.iter().copied().chain(first.iter().map(|value| -value)).collect();
            assert!(of_two[place] == both);
        }
        let none = |member: &Member| member.pack(&bucket, Round { number: 0, of: 1 }, None, &mut packed);
        members().for_each(none);
        assert!(packed.iter().all(|&value| value == 0.0));
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
