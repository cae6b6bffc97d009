//! Chunks into records and back: in full at several levels, and as deltas against their version an "hour" ago.
//! Encoding includes what it always does: decoding and comparing.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use pagevault::chunk::CHUNK_SIZE;
use pagevault::codec::{Base, Bases, DEFAULT_LEVEL, Decoder, Encoder};
use pagevault::format::directory::Encoding;
use pagevault::ids::ChunkId;

use crate::input::{Database, changed, chunks};

const BASE: ChunkId = ChunkId([9; 16]);

pub(crate) fn benches(criterion: &mut Criterion) {
    let database = Database::build(8);
    let old = database.image();
    database.churn();
    let new = database.image();
    full(criterion, &chunks(&new));
    delta(criterion, &changed(&old, &new));
}

fn full(criterion: &mut Criterion, chunks: &[&[u8]]) {
    let mut group = criterion.benchmark_group("compression/full");
    group.throughput(Throughput::Bytes(CHUNK_SIZE as u64));
    for level in [DEFAULT_LEVEL, 2, 3, 6, 9] {
        let (mut encoder, mut encoded) = (Encoder::new(level), Vec::new());
        let mut plain = chunks.iter().cycle();
        group.bench_function(format!("encode-level-{level}"), |bencher| {
            bencher.iter(|| encoder.encode(black_box(plain.next().unwrap()), Bases::default(), &mut encoded));
        });
    }
    let encoded: Vec<(Encoding, Vec<u8>)> = encode(chunks.iter().map(|plain| (*plain, None)));
    let (mut decoder, mut plain) = (Decoder::new(), Vec::new());
    let mut records = encoded.iter().cycle();
    group.bench_function("decode", |bencher| {
        bencher.iter(|| {
            let (encoding, bytes) = records.next().unwrap();
            assert!(decoder.decode(*encoding, black_box(bytes), None, CHUNK_SIZE, &mut plain));
        });
    });
    group.finish();
}

fn delta(criterion: &mut Criterion, pairs: &[(&[u8], &[u8])]) {
    assert!(!pairs.is_empty(), "the application changed nothing");
    let mut group = criterion.benchmark_group("compression/delta");
    group.throughput(Throughput::Bytes(CHUNK_SIZE as u64));
    let (mut encoder, mut encoded) = (Encoder::new(DEFAULT_LEVEL), Vec::new());
    let mut changes = pairs.iter().cycle();
    group.bench_function("encode", |bencher| {
        bencher.iter(|| {
            let (old, new) = changes.next().unwrap();
            encoder.encode(black_box(new), against(Some(old)), &mut encoded)
        });
    });
    let encoded = encode(pairs.iter().map(|(old, new)| (*new, Some(*old))));
    let (mut decoder, mut plain) = (Decoder::new(), Vec::new());
    let mut records =
        encoded.iter().zip(pairs).filter(|((encoding, _), _)| encoding.base().is_some()).cycle();
    group.bench_function("decode", |bencher| {
        bencher.iter(|| {
            let ((encoding, bytes), (old, _)) = records.next().unwrap();
            assert!(decoder.decode(*encoding, black_box(bytes), Some(old), CHUNK_SIZE, &mut plain));
        });
    });
    group.finish();
}

fn against(full: Option<&[u8]>) -> Bases<'_> {
    Bases { full: full.map(|plain| Base { id: BASE, plain }), middle: None }
}

fn encode<'a>(chunks: impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)>) -> Vec<(Encoding, Vec<u8>)> {
    let mut encoder = Encoder::new(DEFAULT_LEVEL);
    chunks
        .map(|(plain, base)| {
            let mut bytes = Vec::new();
            (encoder.encode(plain, against(base), &mut bytes), bytes)
        })
        .collect()
}
