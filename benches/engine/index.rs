//! Finding chunks in an index of a hundred thousand, and loading it.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput};
use pagevault::chunk::Class;
use pagevault::format::directory::Encoding;
use pagevault::ids::ChunkId;
use pagevault::store::MemoryStore;
use pagevault::vault::writer::EncodedChunk;

use crate::input::{memory_vault, open_vault};

/// As many as 6.5 GB of images have.
const CHUNKS: u32 = 100_000;

pub(crate) fn benches(criterion: &mut Criterion) {
    let (store, ids) = filled_store();
    let vault = open_vault(Box::new(Arc::clone(&store)));
    assert!(vault.load_index().unwrap().is_empty());

    let mut group = criterion.benchmark_group("index");
    group.throughput(Throughput::Elements(1));
    let mut known = ids.iter().step_by(7919).chain(&ids).cycle();
    group.bench_function("look-up-present", |bencher| {
        let index = vault.index();
        bencher
            .iter(|| assert!(index.find(Class::Page, *black_box(known.next().unwrap())).unwrap().is_some()));
    });
    let mut number = 0u64;
    group.bench_function("look-up-absent", |bencher| {
        let index = vault.index();
        bencher.iter(|| {
            number += 1;
            let mut id = [0xA5; 16];
            id[..8].copy_from_slice(&number.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes());
            assert!(index.find(Class::Page, black_box(ChunkId(id))).unwrap().is_none());
        });
    });
    group.sample_size(10).throughput(Throughput::Elements(CHUNKS.into()));
    group.bench_function("load", |bencher| {
        bencher.iter_with_large_drop(|| {
            let vault = open_vault(Box::new(Arc::clone(&store)));
            vault.load_index().unwrap();
            vault
        });
    });
    group.finish();
}

/// A vault with many small chunks.
fn filled_store() -> (Arc<MemoryStore>, Vec<ChunkId>) {
    let (vault, store) = memory_vault();
    let mut run = vault.begin_run();
    let ids = (0..CHUNKS)
        .map(|number| {
            let bytes = number.to_le_bytes().to_vec();
            let id = vault.chunk_id(Class::Page, &bytes).unwrap();
            assert!(run.claim(Class::Page, id));
            let chunk =
                EncodedChunk { id, class: Class::Page, encoding: Encoding::Plain, plain_len: 4, bytes };
            run.sink().unwrap().push(chunk).unwrap();
            id
        })
        .collect();
    run.flush(&mut vault.index()).unwrap();
    (store, ids)
}
