//! The hot path in stages, each a given number of times, for counting instructions: see README.md.
//!
//!     instructions STAGE ROUNDS BEFORE.db AFTER.db
//!
//! Without arguments, as `cargo bench` starts it, every stage runs once on a small database of its own.

#![allow(missing_docs, clippy::unwrap_used, reason = "a bench that cannot run shall say so and end")]

#[path = "../input/mod.rs"]
mod input;

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pagevault::checksum::Sha256Hasher;
use pagevault::chunk::{CHUNK_SIZE, Class};
use pagevault::codec::{Base, Bases, DEFAULT_LEVEL, Decoder, Encoder};
use pagevault::crypto::seal::{ObjectSealer, RecordOpener};
use pagevault::format::directory::{Encoding, Record};
use pagevault::format::envelope::{HEADER_LEN, ObjectKind};
use pagevault::ids::ChunkId;
use pagevault::monitor::Silent;
use pagevault::operations::assemble::assemble;
use pagevault::page_source::PageSource;
use pagevault::sqlite::{LiveDatabase, OpenOptions};

use input::{Database, changed, chunks, keys, memory_vault, open_vault, take};

const BASE: ChunkId = ChunkId([9; 16]);

type Stage = fn(usize, &Input);

const STAGES: [(&str, Stage); 13] = [
    ("capture", capture),
    ("chunk-ids", chunk_ids),
    ("sha256", sha256),
    ("encode-full", encode_full),
    ("decode-full", decode_full),
    ("encode-delta", encode_delta),
    ("decode-delta", decode_delta),
    ("seal", seal),
    ("open", open),
    ("index-look-up", index_look_up),
    ("first-snapshot", first_snapshot),
    ("hourly-snapshot", hourly_snapshot),
    ("assemble", assemble_newest),
];

fn main() {
    // Cargo adds arguments of its own, all of which begin with a hyphen or follow one.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let [stage, rounds, before, after] = arguments.as_slice() else {
        let database = Database::build(4);
        let before = database.beside("before.db");
        std::fs::copy(database.path(), &before).unwrap();
        database.churn();
        let input = Input::read(before, database.path());
        for (_, run) in STAGES {
            run(1, &input);
        }
        return;
    };
    let (_, run) = STAGES.iter().find(|(name, _)| name == stage).unwrap();
    run(rounds.parse().unwrap(), &Input::read(before.into(), after.into()));
}

/// A database before and after an "hour", as files and as bytes.
struct Input {
    before: PathBuf,
    after: PathBuf,
    old: Vec<u8>,
    new: Vec<u8>,
}

impl Input {
    fn read(before: PathBuf, after: PathBuf) -> Self {
        let (old, new) = (std::fs::read(&before).unwrap(), std::fs::read(&after).unwrap());
        Self { before, after, old, new }
    }

    fn changed(&self) -> Vec<(&[u8], &[u8])> {
        changed(&self.old, &self.new)
    }
}

fn capture(rounds: usize, input: &Input) {
    let mut buffer = vec![0; CHUNK_SIZE];
    for _ in 0..rounds {
        let mut live = LiveDatabase::open(&input.before, &OpenOptions::default()).unwrap();
        let mut capture = live.begin().unwrap();
        let geometry = capture.geometry();
        let per_chunk = u32::try_from(CHUNK_SIZE).unwrap() / geometry.page_size.bytes();
        for page in (0..geometry.page_count).step_by(per_chunk as usize) {
            let pages = per_chunk.min(geometry.page_count - page);
            capture.read_pages(page, &mut buffer[..(pages * geometry.page_size.bytes()) as usize]).unwrap();
        }
        capture.finish().unwrap();
    }
}

fn chunk_ids(rounds: usize, input: &Input) {
    let keys = keys();
    let keys = keys.current().unwrap();
    for _ in 0..rounds {
        for chunk in chunks(&input.old) {
            black_box(keys.chunk_id(Class::Page, chunk));
        }
    }
}

fn sha256(rounds: usize, input: &Input) {
    for _ in 0..rounds {
        let mut hasher = Sha256Hasher::new();
        for chunk in chunks(&input.old) {
            hasher.update(chunk);
        }
        black_box(hasher.finish());
    }
}

fn encode_full(rounds: usize, input: &Input) {
    let (mut encoder, mut encoded) = (Encoder::new(DEFAULT_LEVEL), Vec::new());
    for _ in 0..rounds {
        for chunk in chunks(&input.old) {
            black_box(encoder.encode(chunk, Bases::default(), &mut encoded));
        }
    }
}

fn decode_full(rounds: usize, input: &Input) {
    let mut encoder = Encoder::new(DEFAULT_LEVEL);
    let encoded: Vec<(Encoding, Vec<u8>)> = chunks(&input.old)
        .into_iter()
        .map(|chunk| {
            let mut bytes = Vec::new();
            (encoder.encode(chunk, Bases::default(), &mut bytes), bytes)
        })
        .collect();
    let (mut decoder, mut plain) = (Decoder::new(), Vec::new());
    for _ in 0..rounds {
        for (encoding, bytes) in &encoded {
            assert!(decoder.decode(*encoding, bytes, None, CHUNK_SIZE, &mut plain));
        }
    }
}

fn encode_delta(rounds: usize, input: &Input) {
    let (mut encoder, mut encoded) = (Encoder::new(DEFAULT_LEVEL), Vec::new());
    for _ in 0..rounds {
        for (old, new) in input.changed() {
            black_box(encoder.encode(new, against(old), &mut encoded));
        }
    }
}

fn decode_delta(rounds: usize, input: &Input) {
    let mut encoder = Encoder::new(DEFAULT_LEVEL);
    let encoded: Vec<(Encoding, Vec<u8>, &[u8])> = input
        .changed()
        .into_iter()
        .map(|(old, new)| {
            let mut bytes = Vec::new();
            (encoder.encode(new, against(old), &mut bytes), bytes, old)
        })
        .collect();
    let (mut decoder, mut plain) = (Decoder::new(), Vec::new());
    for _ in 0..rounds {
        for (encoding, bytes, old) in &encoded {
            assert!(decoder.decode(*encoding, bytes, Some(old), CHUNK_SIZE, &mut plain));
        }
    }
}

/// `old` as the last version that is stored in full.
fn against(old: &[u8]) -> Bases<'_> {
    Bases { full: Some(Base { id: BASE, plain: old }), middle: None }
}

fn seal(rounds: usize, input: &Input) {
    let keys = keys();
    let record = sample_record();
    for _ in 0..rounds {
        // The same salt each time: what is sealed here is thrown away.
        let mut sealer = ObjectSealer::with_salt(&keys, ObjectKind::PagePack, [1; 32]).unwrap();
        for chunk in chunks(&input.old) {
            sealer.push(record, chunk).unwrap();
        }
        black_box(sealer.finish_pack().unwrap());
    }
}

fn open(rounds: usize, input: &Input) {
    let keys = keys();
    let mut sealer = ObjectSealer::with_salt(&keys, ObjectKind::PagePack, [1; 32]).unwrap();
    for chunk in chunks(&input.old) {
        sealer.push(sample_record(), chunk).unwrap();
    }
    let (pack, directory) = sealer.finish_pack().unwrap();
    let opener = RecordOpener::new(&keys, &pack[..HEADER_LEN]).unwrap();
    let mut buffer = Vec::new();
    for _ in 0..rounds {
        let mut at = HEADER_LEN;
        for (number, record) in (0..).zip(directory.records()) {
            buffer.clear();
            buffer.extend_from_slice(&pack[at..at + record.stored_len as usize]);
            at += record.stored_len as usize;
            opener.open(record, number, &mut buffer).unwrap();
        }
    }
}

fn sample_record() -> Record {
    let plain_len = u32::try_from(CHUNK_SIZE).unwrap();
    Record { id: BASE, class: Class::Page, encoding: Encoding::Plain, plain_len, stored_len: 0 }
}

fn index_look_up(rounds: usize, input: &Input) {
    let (vault, _) = memory_vault();
    take(&vault, &input.before);
    let ids: Vec<ChunkId> =
        chunks(&input.old).into_iter().map(|chunk| vault.chunk_id(Class::Page, chunk).unwrap()).collect();
    for _ in 0..rounds {
        for id in &ids {
            assert!(vault.index().find(Class::Page, *id).unwrap().is_some());
        }
    }
}

fn first_snapshot(rounds: usize, input: &Input) {
    for _ in 0..rounds {
        take(&memory_vault().0, &input.before);
    }
}

/// Identity goes by path, so the newer database is put in the older one's place.
fn hourly_snapshot(rounds: usize, input: &Input) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    std::fs::copy(&input.before, &path).unwrap();
    let (vault, store) = memory_vault();
    take(&vault, &path);
    replace(&path, &input.after);
    for _ in 0..rounds {
        let report = take(&open_vault(Box::new(store.fork())), &path);
        assert!(report.parent.is_some() && report.chunks.delta > 0);
    }
}

fn assemble_newest(rounds: usize, input: &Input) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    std::fs::copy(&input.before, &path).unwrap();
    let (vault, store) = memory_vault();
    take(&vault, &path);
    replace(&path, &input.after);
    take(&vault, &path);
    let vault = open_vault(Box::new(Arc::clone(&store)));
    vault.load_index().unwrap();
    let newest = vault.catalog(&vault.history().unwrap()).unwrap().snapshots.pop().unwrap();
    for _ in 0..rounds {
        let sum = assemble(&vault, &newest, &Silent, &mut |_| Ok(())).unwrap();
        assert_eq!(Some(sum), newest.manifest.sha256);
    }
}

fn replace(path: &Path, with: &Path) {
    for suffix in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{suffix}", path.display()));
    }
    std::fs::copy(with, path).unwrap();
}
