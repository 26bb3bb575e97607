//! Generation: prefill, decode and sampling over a key-value cache.
