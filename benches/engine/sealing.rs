//! Encoded chunks into a sealed pack, and records out of it.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput};
use pagevault::chunk::Class;
use pagevault::crypto::seal::{ObjectSealer, RecordOpener, open_directory};
use pagevault::format::directory::{Encoding, Record};
use pagevault::format::envelope::{HEADER_LEN, ObjectKind};

use crate::input::{Database, chunks, keys};

/// Bytes of a typical record: a chunk of 64 KiB, compressed.
const RECORD: usize = 32 << 10;

pub(crate) fn benches(criterion: &mut Criterion) {
    let image = Database::build(4).image();
    let records: Vec<&[u8]> = chunks(&image).into_iter().map(|chunk| &chunk[..RECORD]).collect();
    let keys = keys();
    let epoch = keys.current().unwrap();
    let prepared: Vec<(Record, &[u8])> = records
        .iter()
        .map(|bytes| {
            let plain_len = u32::try_from(bytes.len()).unwrap();
            let id = epoch.chunk_id(Class::Page, bytes);
            (Record { id, class: Class::Page, encoding: Encoding::Plain, plain_len, stored_len: 0 }, *bytes)
        })
        .collect();
    let seal = || {
        let mut sealer = ObjectSealer::new(&keys, ObjectKind::PagePack).unwrap();
        for (record, bytes) in &prepared {
            sealer.push(*record, black_box(bytes)).unwrap();
        }
        sealer.finish_pack().unwrap()
    };
    let (pack, directory) = seal();
    let mut at = HEADER_LEN;
    let sealed: Vec<&[u8]> = directory
        .records()
        .iter()
        .map(|record| {
            let start = at;
            at += record.stored_len as usize;
            &pack[start..at]
        })
        .collect();

    let mut group = criterion.benchmark_group("sealing");
    group.throughput(Throughput::Bytes((records.len() * RECORD) as u64));
    group.bench_function("seal-pack", |bencher| bencher.iter(seal));
    group.bench_function("open-directory", |bencher| {
        bencher.iter(|| open_directory(&keys, black_box(&pack)).unwrap());
    });
    group.bench_function("open-records", |bencher| {
        let opener = RecordOpener::new(&keys, &pack[..HEADER_LEN]).unwrap();
        bencher.iter_batched(
            || Vec::with_capacity(RECORD + 16),
            |mut buffer| {
                for (number, (record, sealed)) in (0..).zip(directory.records().iter().zip(&sealed)) {
                    buffer.clear();
                    buffer.extend_from_slice(sealed);
                    opener.open(record, number, &mut buffer).unwrap();
                }
                buffer
            },
            BatchSize::LargeInput,
        );
    });
    group.finish();
}
