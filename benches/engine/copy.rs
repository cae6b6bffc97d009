//! The path of a page: out of a live database, into a vault in memory, and back. Throughput is in bytes of the
//! database, whatever part of it is new.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput};
use pagevault::chunk::CHUNK_SIZE;
use pagevault::monitor::Silent;
use pagevault::operations::assemble::assemble;
use pagevault::operations::list::SnapshotSpec;
use pagevault::operations::restore::{RestoreRequest, restore};
use pagevault::page_source::PageSource;
use pagevault::sqlite::{CheckLevel, LiveDatabase, OpenOptions};

use crate::input::{Database, clock, memory_vault, open_vault, take};

pub(crate) fn benches(criterion: &mut Criterion) {
    let database = Database::build(24);
    let path = database.path();
    let (vault, store) = memory_vault();
    take(&vault, &path);
    let first = Arc::new(store.fork());

    let mut group = criterion.benchmark_group("copy");
    group.sample_size(10).throughput(Throughput::Bytes(path.metadata().unwrap().len()));
    group.bench_function("capture", |bencher| bencher.iter(|| capture(&database)));
    group.bench_function("first-snapshot", |bencher| {
        bencher.iter_batched(
            || memory_vault().0,
            |vault| (take(&vault, &path), vault),
            BatchSize::PerIteration,
        );
    });
    group.bench_function("unchanged-snapshot", |bencher| {
        bencher.iter_batched(
            || open_vault(Box::new(first.fork())),
            |vault| (take(&vault, &path), vault),
            BatchSize::PerIteration,
        );
    });

    database.churn();
    group.throughput(Throughput::Bytes(path.metadata().unwrap().len()));
    group.bench_function("hourly-snapshot", |bencher| {
        bencher.iter_batched(
            || open_vault(Box::new(first.fork())),
            |vault| (take(&vault, &path), vault),
            BatchSize::PerIteration,
        );
    });
    take(&vault, &path);
    restores(&mut group, &database, &Arc::new(store.fork()));
    group.finish();
}

fn capture(database: &Database) {
    let mut live = LiveDatabase::open(&database.path(), &OpenOptions::default()).unwrap();
    let mut capture = live.begin().unwrap();
    let geometry = capture.geometry();
    let mut buffer = vec![0; CHUNK_SIZE];
    let per_chunk = u32::try_from(CHUNK_SIZE).unwrap() / geometry.page_size.bytes();
    for page in (0..geometry.page_count).step_by(per_chunk as usize) {
        let pages = per_chunk.min(geometry.page_count - page);
        let piece = &mut buffer[..(pages * geometry.page_size.bytes()) as usize];
        capture.read_pages(page, piece).unwrap();
        black_box(piece);
    }
    capture.finish().unwrap();
}

/// Of a snapshot that is mostly unchanged and partly deltas.
fn restores(
    group: &mut criterion::BenchmarkGroup<'_, criterion::measurement::WallTime>,
    database: &Database,
    store: &Arc<pagevault::store::MemoryStore>,
) {
    group.bench_function("assemble", |bencher| {
        let vault = open_vault(Box::new(Arc::clone(store)));
        vault.load_index().unwrap();
        let catalog = vault.catalog(&vault.history().unwrap()).unwrap();
        let newest = catalog.snapshots.last().unwrap();
        bencher.iter(|| {
            let sum = assemble(&vault, newest, &Silent, &mut |piece| {
                black_box(piece);
                Ok(())
            });
            assert_eq!(Some(sum.unwrap()), newest.manifest.sha256);
        });
    });
    for (name, check) in
        [("restore-to-file", CheckLevel::None), ("restore-to-file-checked", CheckLevel::Full)]
    {
        group.bench_function(name, |bencher| {
            let vault = open_vault(Box::new(Arc::clone(store)));
            let newest = vault.catalog(&vault.history().unwrap()).unwrap().snapshots.pop().unwrap();
            let request = RestoreRequest {
                snapshot: SnapshotSpec::Prefix(newest.id.to_string()),
                target: database.beside("restored.db"),
                overwrite: true,
                check,
                safety: None,
            };
            bencher.iter(|| restore(&vault, &request, &clock(), &Silent).unwrap());
        });
    }
}
