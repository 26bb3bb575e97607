//! Benchmarks and scores: shots, captioning and VQA metrics with intervals; generation comes in as a closure.
