//! What lies between ranks, and how long what they exchange takes.

use serde::Serialize;

/// What lies between ranks.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Network {
    /// Of a message, in seconds.
    pub(crate) latency: f64,
    /// Out of a rank, in bytes a second.
    pub(crate) bandwidth: f64,
}

/// What a rank sends in a step, and how long that takes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Exchange {
    /// Out of a rank.
    pub(crate) bytes: u64,
    /// Of all messages, one after the other.
    pub(crate) seconds: f64,
}

impl Network {
    /// What follows from the time of an exchange of few bytes and of one of `bytes` among `ranks` ranks, in
    /// which each sends its part to all others.
    pub(crate) fn measured(ranks: u32, few: f64, (bytes, many): (u64, f64)) -> Self {
        let others = f64::from(ranks - 1);
        let sent = bytes as f64 * others / f64::from(ranks);
        Self { latency: few / others, bandwidth: sent / (many - few).max(f64::MIN_POSITIVE) }
    }
}

impl Exchange {
    /// Among `ranks` ranks: the gradients of `rounds` micro-batches of each rank, and once the weights,
    /// in bytes. A rank sends 1 / `ranks` of them to each of the others, in `messages` messages.
    pub(crate) fn of(
        ranks: u32,
        ([gradients, weights], messages): ([u64; 2], u64),
        rounds: u64,
        network: Network,
    ) -> Self {
        let others = u64::from(ranks - 1);
        let bytes = u128::from(rounds) * u128::from(gradients) + u128::from(weights);
        let sent = (u128::from(others) * bytes).div_ceil(u128::from(ranks)) as u64;
        let waits = ((rounds + 1) * others * messages) as f64;
        Self { bytes: sent, seconds: waits * network.latency + sent as f64 / network.bandwidth }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_measured_network_predicts_what_was_measured() {
        let network = Network { latency: 2e-5, bandwidth: 3e9 };
        let took = |bytes: u64| Exchange::of(4, ([bytes; 2], 1), 0, network).seconds;
        let Network { latency, bandwidth } = Network::measured(4, took(0), (1 << 26, took(1 << 26)));
        assert!((latency / 2e-5 - 1.0).abs() < 1e-9 && (bandwidth / 3e9 - 1.0).abs() < 1e-9);
    }

    /// (n - 1) / n of the gradients' bytes for each micro-batch, and once as many weights come back.
    #[test]
    fn a_rank_sends_its_part_to_each_other_and_back() {
        let gradients = 4 * 3_000_000_000_u64;
        let network = Network { latency: 1e-5, bandwidth: 25e9 };
        let Exchange { bytes, seconds } = Exchange::of(64, ([gradients; 2], 5), 1, network);
        assert_eq!(bytes, 2 * 63 * gradients / 64);
        // 23.625 GB at 25 GB/s, and 630 messages of 10 microseconds.
        assert!((seconds - (23.625 / 25.0 + 630.0 * 1e-5)).abs() < 1e-9, "{seconds}");
        let alone = Exchange::of(1, ([gradients; 2], 5), 8, network);
        assert_eq!(alone, Exchange { bytes: 0, seconds: 0.0 });
        let slow = Network { latency: 1.0, bandwidth: 10.0 };
        assert_eq!(Exchange::of(2, ([10, 10], 1), 3, slow), Exchange { bytes: 20, seconds: 6.0 });
        // Gradients in bf16, weights in f32.
        assert_eq!(Exchange::of(2, ([5, 10], 1), 4, slow), Exchange { bytes: 15, seconds: 6.5 });
    }
}
