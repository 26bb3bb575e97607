//! [`Counters`]: what the engine has done, in Prometheus' form.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// What the engine has done and holds. Clones count together.
#[derive(Clone, Debug)]
pub struct Counters {
    /// Requests that were answered to their end.
    pub answered: Counter,
    /// Requests whose client had left.
    pub left: Counter,
    /// Requests that failed.
    pub failed: Counter,
    /// Requests that found the queue full.
    pub refused: Counter,
    /// Positions of prompts that were read.
    pub prompt_positions: Counter,
    /// Positions of prompts that had been read before, for these or for others.
    pub cached_positions: Counter,
    /// Tokens of answers.
    pub answer_tokens: Counter,
    /// Views of pictures that were encoded.
    pub encoded_views: Counter,
    /// Views of pictures that had been encoded for another prompt.
    pub reused_views: Counter,
    /// Steps of the model.
    pub steps: Counter,
    /// Requests that are read or answered.
    pub active: Gauge,
    /// Requests that wait.
    pub waiting: Gauge,
    /// Memory of keys and values.
    pub cache_bytes: Gauge,
    /// Memory of the image tokens that are kept.
    pub picture_bytes: Gauge,
    /// Beginnings of prompts that are kept.
    pub prefixes: Gauge,
    /// From a request to the first token of its answer.
    pub first_token: Histogram,
    /// From a request to the end of its answer.
    pub whole_answer: Histogram,
    /// Of a step of the model.
    pub step: Histogram,
    /// Seconds, in bits, of the engine's work; see [`Self::steps`].
    pub busy: Counter<f64, AtomicU64>,
}

impl Default for Counters {
    fn default() -> Self {
        let seconds = |first, count| Histogram::new(exponential_buckets(first, 2.0, count));
        Self {
            answered: Counter::default(),
            left: Counter::default(),
            failed: Counter::default(),
            refused: Counter::default(),
            prompt_positions: Counter::default(),
            cached_positions: Counter::default(),
            answer_tokens: Counter::default(),
            encoded_views: Counter::default(),
            reused_views: Counter::default(),
            steps: Counter::default(),
            active: Gauge::default(),
            waiting: Gauge::default(),
            cache_bytes: Gauge::default(),
            picture_bytes: Gauge::default(),
            prefixes: Gauge::default(),
            first_token: seconds(0.01, 14),
            whole_answer: seconds(0.05, 14),
            step: seconds(0.001, 14),
            busy: Counter::default(),
        }
    }
}

impl Counters {
    /// Gives all of them to `registry`, by names that begin with `mm1_`.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("mm1");
        let counters = [
            ("requests_answered", "Requests that were answered to their end", &self.answered),
            ("requests_left", "Requests whose client had left", &self.left),
            ("requests_failed", "Requests that failed", &self.failed),
            ("requests_refused", "Requests that found the queue full", &self.refused),
            ("prompt_positions", "Positions of prompts that were read", &self.prompt_positions),
            ("cached_positions", "Positions of prompts that had been read before", &self.cached_positions),
            ("answer_tokens", "Tokens of answers", &self.answer_tokens),
            ("encoded_views", "Views of pictures that were encoded", &self.encoded_views),
            ("reused_views", "Views of pictures that were encoded for another prompt", &self.reused_views),
            ("steps", "Steps of the model", &self.steps),
        ];
        for (name, help, counter) in counters {
            registry.register(name, help, counter.clone());
        }
        registry.register("requests_active", "Requests that are read or answered", self.active.clone());
        registry.register("requests_waiting", "Requests that wait", self.waiting.clone());
        registry.register("prefixes", "Beginnings of prompts that are kept", self.prefixes.clone());
        let bytes = "Memory of keys and values";
        registry.register_with_unit("cache", bytes, Unit::Bytes, self.cache_bytes.clone());
        let bytes = "Memory of the image tokens that are kept";
        registry.register_with_unit("picture_cache", bytes, Unit::Bytes, self.picture_bytes.clone());
        let histograms = [
            ("first_token", "From a request to the first token of its answer", &self.first_token),
            ("whole_answer", "From a request to the end of its answer", &self.whole_answer),
            ("step", "Of a step of the model", &self.step),
        ];
        for (name, help, histogram) in histograms {
            registry.register_with_unit(name, help, Unit::Seconds, histogram.clone());
        }
        registry.register_with_unit("busy", "Of all steps", Unit::Seconds, self.busy.clone());
    }
}
