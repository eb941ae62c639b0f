//! The instrument forwards, with its truth: raw nights for tests, benchmarks and the demo.
