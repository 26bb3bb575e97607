//! [`Bundles`]: tensors of which each rank has a part, whole at rank 0, in few large messages.

use std::collections::VecDeque;
use std::ops::Range;

use anyhow::{Context as _, Result, ensure};

use crate::exchange::{Exchange, MOST_BYTES};

/// What each rank gives of the tensors is one stream of bytes, cut without regard to where a tensor ends. So
/// a checkpoint of many small tensors takes few messages, and one of large ones no more memory than
/// [`MOST_BYTES`] beside the tensors. All ranks know the length of all streams, and so how many messages
/// there are.
pub(crate) struct Bundles<'a> {
    exchange: &'a dyn Exchange,
    /// Bytes of a rank in a message.
    most: usize,
    /// Messages still to come.
    messages: usize,
    /// What this rank gives and has not sent.
    unsent: Vec<u8>,
    /// At rank 0.
    whole: Option<Whole>,
}

/// The tensors, as far as they have come.
struct Whole {
    /// The bytes of each.
    tensors: Vec<Vec<u8>>,
    /// Of each rank where the rest of its stream belongs: which tensor, and where in it.
    places: Vec<VecDeque<(usize, Range<usize>)>>,
}

/// The bytes of a tensor, and which of them are of each rank.
#[derive(Clone, Debug)]
pub(crate) struct SharedTensor {
    pub(crate) bytes: usize,
    pub(crate) parts: Vec<Range<usize>>,
}

impl<'a> Bundles<'a> {
    /// Of these `tensors`, of which each rank gives its parts in this order.
    pub(crate) fn new(exchange: &'a dyn Exchange, tensors: &[SharedTensor]) -> Self {
        Self::of_at_most(exchange, tensors, MOST_BYTES / exchange.ranks())
    }

    /// With so many bytes of a rank in a message.
    fn of_at_most(exchange: &'a dyn Exchange, tensors: &[SharedTensor], most: usize) -> Self {
        let most = most.max(1);
        let of_rank = |rank: usize| tensors.iter().map(|tensor| tensor.parts[rank].len()).sum::<usize>();
        let longest = (0..exchange.ranks()).map(of_rank).max().unwrap_or(0);
        let whole = (exchange.rank() == 0).then(|| Whole::new(tensors, exchange.ranks()));
        Self { exchange, most, messages: longest.div_ceil(most), unsent: Vec::new(), whole }
    }

    /// This rank's part of the next tensor.
    ///
    /// # Errors
    /// The network's own; more than this rank has.
    pub(crate) fn give(&mut self, mut part: &[u8]) -> Result<()> {
        while !part.is_empty() {
            let (now, later) = part.split_at(part.len().min(self.most - self.unsent.len()));
            self.unsent.extend_from_slice(now);
            part = later;
            if self.unsent.len() == self.most {
                self.send()?;
            }
        }
        Ok(())
    }

    /// The bytes of each tensor at rank 0, once every rank has given its parts.
    ///
    /// # Errors
    /// The network's own; ranks that have given less or more.
    pub(crate) fn finish(mut self) -> Result<Option<Vec<Vec<u8>>>> {
        // Others may have more to give than this rank.
        while self.messages > 0 {
            self.send()?;
        }
        ensure!(self.unsent.is_empty(), "moments of ranks with other models");
        let Some(Whole { tensors, places }) = self.whole else { return Ok(None) };
        ensure!(places.iter().all(VecDeque::is_empty), "moments of ranks with other models");
        Ok(Some(tensors))
    }

    fn send(&mut self) -> Result<()> {
        ensure!(self.messages > 0, "moments of ranks with other models");
        self.messages -= 1;
        let of_ranks = self.exchange.gather_at_first(&self.unsent)?;
        self.unsent.clear();
        let Some((whole, of_ranks)) = self.whole.as_mut().zip(of_ranks) else { return Ok(()) };
        of_ranks.iter().enumerate().try_for_each(|(rank, given)| whole.put(rank, given))
    }
}

impl Whole {
    fn new(tensors: &[SharedTensor], ranks: usize) -> Self {
        let of_rank = |rank: usize| {
            let parts = tensors.iter().map(|tensor| tensor.parts[rank].clone()).enumerate();
            parts.filter(|(_, part)| !part.is_empty()).collect()
        };
        let places = (0..ranks).map(of_rank).collect();
        Self { tensors: tensors.iter().map(|tensor| vec![0; tensor.bytes]).collect(), places }
    }

    /// Puts the next bytes of a rank's stream where they belong.
    fn put(&mut self, rank: usize, mut given: &[u8]) -> Result<()> {
        while !given.is_empty() {
            let place = self.places[rank].front_mut();
            let (tensor, place) = place.context("moments of ranks with other models")?;
            let (now, later) = given.split_at(given.len().min(place.len()));
            self.tensors[*tensor][place.start..place.start + now.len()].copy_from_slice(now);
            place.start += now.len();
            if place.start == place.end {
                self.places[rank].pop_front();
            }
            given = later;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// A rank that keeps what it sends; rank 0 is given what the others have sent before.
    #[derive(Debug)]
    struct Recorded {
        rank: usize,
        of_others: Vec<Vec<Vec<u8>>>,
        sent: Mutex<Vec<Vec<u8>>>,
    }

    const RANKS: usize = 3;

    impl Exchange for Recorded {
        fn rank(&self) -> usize {
            self.rank
        }

        fn ranks(&self) -> usize {
            RANKS
        }

        fn gather_at_first(&self, own: &[u8]) -> Result<Option<Vec<Vec<u8>>>> {
            let mut sent = self.sent.lock().expect("sent");
            let others = self.of_others.iter().map(|of_rank| of_rank[sent.len()].clone());
            let all = [own.to_vec()].into_iter().chain(others).collect();
            sent.push(own.to_vec());
            Ok((self.rank == 0).then_some(all))
        }

        fn gather(&self, _: &[u8]) -> Result<Vec<Vec<u8>>> {
            unreachable!("rank 0 alone receives")
        }

        fn scatter(&self, _: &[f32], _: &[Range<usize>], _: &mut [f32]) -> Result<()> {
            unreachable!("no gradient crosses")
        }

        fn scatter_halves(&self, _: &[u16], _: &[Range<usize>], _: &mut [u16]) -> Result<()> {
            unreachable!("no gradient crosses")
        }

        fn collect(&self, _: &[f32], _: &[Range<usize>], _: &mut [f32]) -> Result<()> {
            unreachable!("no weight crosses")
        }
    }

    /// Parts in any order, empty ones, tensors that are longer than a message: any size of message gives the
    /// same bytes, in as few messages as hold the longest stream.
    #[test]
    fn any_cut_of_the_streams_gives_the_tensors() {
        let of = |parts: [Range<usize>; RANKS]| SharedTensor {
            bytes: parts.iter().map(|part| part.end).max().unwrap_or(0),
            parts: parts.to_vec(),
        };
        let tensors = [of([20..30, 0..10, 10..20]), of([0..0, 0..3, 3..3]), of([0..1, 1..40, 40..41])];
        let bytes = |tensor: usize| -> Vec<u8> {
            (0..tensors[tensor].bytes).map(|at| (100 * tensor + at) as u8).collect()
        };
        for (most, messages) in [(1, 52), (7, 8), (11, 5), (52, 1), (1000, 1)] {
            let run = |rank: usize, of_others: Vec<Vec<Vec<u8>>>| {
                let exchange = Recorded { rank, of_others, sent: Mutex::default() };
                let mut bundles = Bundles::of_at_most(&exchange, &tensors, most);
                for (number, tensor) in tensors.iter().enumerate() {
                    bundles.give(&bytes(number)[tensor.parts[rank].clone()]).expect("given");
                }
                let whole = bundles.finish().expect("finished");
                (whole, exchange.sent.into_inner().expect("sent"))
            };
            let of_others: Vec<_> = (1..RANKS).map(|rank| run(rank, Vec::new())).collect();
            assert!(of_others.iter().all(|(whole, sent)| whole.is_none() && sent.len() == messages));
            let of_others: Vec<Vec<Vec<u8>>> = of_others.into_iter().map(|(_, sent)| sent).collect();
            assert!(of_others.iter().flatten().all(|message| message.len() <= most));
            // A rank that has sent less than it has is noticed.
            let mut less = of_others.clone();
            less[0].iter_mut().rev().find_map(Vec::pop).expect("a byte");
            let (whole, sent) = run(0, of_others);
            assert_eq!(sent.len(), messages);
            assert_eq!(whole.expect("whole"), [bytes(0), bytes(1), bytes(2)]);
            let exchange = Recorded { rank: 0, of_others: less, sent: Mutex::default() };
            let mut bundles = Bundles::of_at_most(&exchange, &tensors, most);
            for (number, tensor) in tensors.iter().enumerate() {
                bundles.give(&bytes(number)[tensor.parts[0].clone()]).expect("given");
            }
            assert!(bundles.finish().is_err());
        }
    }
}
