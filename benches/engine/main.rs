//! Benches of the copy hot path, part by part and as a whole. One binary: `cargo bench --bench engine -- NAME`
//! runs those whose name begins with or contains NAME, `-- --test` each once.

#![allow(missing_docs, clippy::unwrap_used, reason = "a bench that cannot run shall say so and end")]

#[path = "../input/mod.rs"]
mod input;

mod compression;
mod copy;
mod hashing;
mod index;
mod sealing;

use criterion::{criterion_group, criterion_main};

criterion_group!(
    benches,
    hashing::benches,
    compression::benches,
    sealing::benches,
    index::benches,
    copy::benches
);
criterion_main!(benches);
