//! Ids of chunks by size, and the checksum of a whole image by both backends.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use pagevault::checksum::{Sha256Hasher, sha256_portable};
use pagevault::chunk::{CHUNK_SIZE, Class};

use crate::input::{Database, keys};

const IMAGE: usize = 4 << 20;

pub(crate) fn benches(criterion: &mut Criterion) {
    let mut image = Database::build(5).image();
    image.truncate(IMAGE);
    let keys = keys();
    let keys = keys.current().unwrap();

    let mut group = criterion.benchmark_group("hashing/blake3-keyed");
    for size in [4 << 10, 16 << 10, CHUNK_SIZE, 256 << 10, 1 << 20] {
        group.throughput(Throughput::Bytes(size as u64));
        let mut pieces = image.chunks_exact(size).cycle();
        group.bench_function(format!("{}KiB", size >> 10), |bencher| {
            bencher.iter(|| keys.chunk_id(Class::Page, black_box(pieces.next().unwrap())));
        });
    }
    group.finish();

    let mut group = criterion.benchmark_group("hashing/sha256");
    group.throughput(Throughput::Bytes(image.len() as u64));
    let built_with = if cfg!(feature = "assembly") { "assembly" } else { "portable-by-pieces" };
    group.bench_function(built_with, |bencher| {
        bencher.iter(|| {
            let mut hasher = Sha256Hasher::new();
            image.chunks(CHUNK_SIZE).for_each(|piece| hasher.update(black_box(piece)));
            hasher.finish()
        });
    });
    group.bench_function("portable", |bencher| bencher.iter(|| sha256_portable(black_box(&image))));
    group.finish();
}
