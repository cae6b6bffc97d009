//! What grows with the vault, by simulation: an index of millions of chunks, the tree over them, and the manifests and
//! log of many databases. docs/scaling.md has the figures and what follows from them.
//!
//!     cargo bench --bench scaling                    1 million chunks, 8,760 runs of one database, 50 of a hundred
//!     cargo bench --bench scaling -- 16000000        as many chunks as 1 TB has; needs 4 GB of disk
//!
//! Memory is the process's own peak, set back before each step (Linux). Nothing here is real data: chunks are a few bytes
//! long, but their ids, records, index objects and manifests are what they always are.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench that cannot run shall say so and end"
)]

#[path = "../input/mod.rs"]
mod input;

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use pagevault::checksum::Sha256;
use pagevault::chunk::Class;
use pagevault::format::directory::Encoding;
use pagevault::format::log::{LogEntry, Published};
use pagevault::format::manifest::{ChunkCounts, Content, Details, JournalMode, Kind, Manifest};
use pagevault::ids::{ChunkId, DatabaseId, HostId, SnapshotId};
use pagevault::page_source::{Geometry, PageSize};
use pagevault::store::{CountingStore, LocalStore, MemoryStore, OperationKind, StoreCounts};
use pagevault::tree::TreeBuilder;
use pagevault::vault::LocalFolders;
use pagevault::vault::writer::EncodedChunk;

use input::{clock, create_vault, open_vault, open_vault_with};

/// Chunks that one index object names in a large run.
const PER_OBJECT: u64 = 16_384;

fn main() {
    // Cargo adds arguments of its own.
    let chunks = std::env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(1_000_000);
    tree(chunks);
    index(chunks);
    history(8_760, 1);
    history(50, 100);
}

/// Nodes and bytes of the tree over `chunks`.
fn tree(chunks: u64) {
    let (mut nodes, mut bytes) = (0u64, 0u64);
    let mut store = |node: pagevault::tree::Node| {
        nodes += 1;
        bytes += node.plain.len() as u64;
        Ok::<_, std::convert::Infallible>(id_of(nodes))
    };
    let started = Instant::now();
    let mut builder = TreeBuilder::new();
    for number in 0..chunks {
        builder.push(id_of(number), &mut store).unwrap();
    }
    let (height, _) = builder.finish(&mut store).unwrap().unwrap();
    println!(
        "tree over {chunks} chunks: height {height}, {nodes} nodes, {:.1} MB, built in {:.2} s",
        mega(bytes),
        started.elapsed().as_secs_f64()
    );
}

/// An index of `chunks`: loaded into an empty cache, asked, and opened again.
fn index(chunks: u64) {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("vault");
    fill(&place, chunks);
    let folders = LocalFolders { cache: Some(folder.path().join("cache")), state: None };
    let store = Arc::new(CountingStore::new(LocalStore::open(&place).unwrap()));
    let vault = open_vault_with(Box::new(Arc::clone(&store)), &folders);
    step("index, loaded into an empty cache", chunks, || assert!(vault.load_index().unwrap().is_empty()));
    println!("    requests: {}", requests(&store.counts()));
    println!(
        "    index objects {:.1} MB, cache {:.1} MB",
        size(&place.join("index")),
        size(folder.path()) - size(&place)
    );
    drop(vault);
    let store = Arc::new(CountingStore::new(LocalStore::open(&place).unwrap()));
    let vault = open_vault_with(Box::new(Arc::clone(&store)), &folders);
    step("index, cache at hand", chunks, || assert!(vault.load_index().unwrap().is_empty()));
    println!("    requests: {}", requests(&store.counts()));
    let lost = step("index, packs looked for", chunks, || vault.look_for_packs().unwrap());
    assert!(lost.is_empty());
    let index = vault.index();
    for (what, present) in [("present", true), ("absent", false)] {
        let count = 100_000;
        step(&format!("index, look-ups of chunks that are {what}"), count, || {
            for number in 0..count {
                let number = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) % chunks;
                let id = if present {
                    vault.chunk_id(Class::Page, &number.to_le_bytes()).unwrap()
                } else {
                    id_of(number)
                };
                assert_eq!(index.find(Class::Page, id).unwrap().is_some(), present);
            }
        });
    }
}

fn fill(place: &Path, chunks: u64) {
    let vault = create_vault(Box::new(LocalStore::create(place).unwrap()));
    let mut run = vault.begin_run();
    for number in 0..chunks {
        let bytes = number.to_le_bytes().to_vec();
        let id = vault.chunk_id(Class::Page, &bytes).unwrap();
        assert!(run.claim(Class::Page, id));
        let chunk = EncodedChunk { id, class: Class::Page, encoding: Encoding::Plain, plain_len: 8, bytes };
        run.sink().unwrap().push(chunk).unwrap();
        if (number + 1) % PER_OBJECT == 0 {
            run.flush(&mut vault.index()).unwrap();
        }
    }
    run.flush(&mut vault.index()).unwrap();
}

/// A vault with the manifests of `runs` runs over `databases` each: what every command reads first.
fn history(runs: u32, databases: u32) {
    let store = Arc::new(MemoryStore::new());
    let vault = create_vault(Box::new(Arc::clone(&store)));
    let first = vault.history().unwrap();
    let mut run = vault.begin_run();
    for number in 0..runs {
        let manifests: Vec<Vec<u8>> =
            (0..databases).map(|database| manifest(number, database).encode().unwrap()).collect();
        let object = run.publish(&mut vault.index(), &manifests).unwrap();
        let published = (0..databases).zip(&manifests).map(|(database, manifest)| Published {
            snapshot: vault.snapshot_id(manifest).unwrap(),
            database: database_id(database),
            object,
        });
        vault.append_log(&first, clock().0, vec![LogEntry::Published(published.collect())]).unwrap();
    }
    drop((run, vault));
    let snapshots = u64::from(runs) * u64::from(databases);
    println!("{runs} runs over {databases} databases, {snapshots} snapshots:");
    let store = Arc::new(CountingStore::new(store));
    let vault = open_vault(Box::new(Arc::clone(&store)));
    let history = step("    log", snapshots, || vault.history().unwrap());
    let catalog = step("    manifests", snapshots, || vault.catalog(&history).unwrap());
    assert_eq!(catalog.snapshots.len() as u64, snapshots);
    println!("    requests: {}", requests(&store.counts()));
}

/// As large as manifests are.
fn manifest(run: u32, database: u32) -> Manifest {
    let geometry = Geometry { page_size: PageSize::new(4096).unwrap(), page_count: 122_070 };
    let time = i64::from(run) * 3_600_000_000;
    Manifest {
        database: database_id(database),
        name: format!("customer-{database}"),
        created_at_us: 1_700_000_000_000_000 + time,
        kind: Kind::Automatic,
        content: Content::Image(geometry),
        root: Some(id_of(u64::from(run) << 32 | u64::from(database))),
        sha256: Some(Sha256([run.to_le_bytes()[0]; 32])),
        parent: (run > 0).then_some(SnapshotId([9; 16])),
        host: HostId([7; 16]),
        details: Details {
            host_name: Some("server-1".to_owned()),
            source_path: Some(format!("/srv/application/customers/customer-{database}/app.db").into_bytes()),
            journal_mode: Some(JournalMode::Wal),
            user_version: Some(7),
            application_id: Some(0),
            schema_fingerprint: Some([3; 32]),
            sqlite_version: Some("3.54.1".to_owned()),
            tool_version: Some("0.1.0".to_owned()),
            chunks: Some(ChunkCounts {
                total: 7_630,
                unchanged: 5_740,
                deduplicated: 0,
                delta: 1_880,
                full: 10,
            }),
            stored_bytes: Some(612_000),
            timing_ms: Some((310, 590)),
            wal_frames: Some(4_000),
            ..Details::default()
        },
    }
}

fn database_id(number: u32) -> DatabaseId {
    let mut id = [5; 16];
    id[..4].copy_from_slice(&number.to_le_bytes());
    DatabaseId(id)
}

/// An id that no chunk has.
fn id_of(number: u64) -> ChunkId {
    let hash = blake3::hash(&number.to_le_bytes());
    ChunkId(*hash.as_bytes().first_chunk().unwrap())
}

/// Runs a step over `count` things, and says what it took.
fn step<T>(what: &str, count: u64, run: impl FnOnce() -> T) -> T {
    let before = reset_peak();
    let started = Instant::now();
    let answer = run();
    let elapsed = started.elapsed();
    let peak = memory("VmHWM:").saturating_sub(before);
    println!(
        "{what}: {:.3} s, {:.2} us each, {:.1} MiB more memory",
        elapsed.as_secs_f64(),
        elapsed.as_secs_f64() * 1e6 / f64::from(u32::try_from(count).unwrap()),
        f64::from(u32::try_from(peak).unwrap()) / 1024.0
    );
    answer
}

/// Sets the peak back to what is in use, and says what that is, in KiB.
fn reset_peak() -> u64 {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    memory("VmRSS:")
}

fn memory(line: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let value = status.lines().find_map(|text| text.strip_prefix(line));
    value.and_then(|value| value.trim().strip_suffix(" kB")?.parse().ok()).unwrap_or(0)
}

fn requests(counts: &StoreCounts) -> String {
    let kinds =
        [("get", OperationKind::Get), ("range", OperationKind::ReadRange), ("list", OperationKind::List)];
    let text = kinds.map(|(name, kind)| {
        let tally = counts.of(kind);
        format!("{} {name} ({:.1} MB)", tally.requests, mega(tally.bytes))
    });
    text.join(", ")
}

/// Million bytes in all files below `folder`.
fn size(folder: &Path) -> f64 {
    fn bytes(folder: &Path) -> u64 {
        let entries = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
        entries
            .map(|entry| match entry.metadata().unwrap() {
                metadata if metadata.is_dir() => bytes(&entry.path()),
                metadata => metadata.len(),
            })
            .sum()
    }
    mega(bytes(folder))
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn mega(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
