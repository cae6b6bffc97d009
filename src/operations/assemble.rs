//! A stored content, whole and in order: chunks are read and decoded by several threads, handed over in order, and
//! hashed by one more. Restore writes them to a file; a test restore only wants the checksum.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::checksum::{Sha256, Sha256Hasher};
use crate::chunk::{Class, chunk_count, chunk_len};
use crate::error::{Error, ErrorKind, Result};
use crate::monitor::Monitor;
use crate::tree::FAN_OUT;
use crate::vault::image::TreeReader;
use crate::vault::reader::{ChunkPlan, ChunkReader, plan};
use crate::vault::{Snapshot, Vault, VaultError};

/// Buffers of 64 KiB in circulation: 8 MiB.
const BUFFERS: usize = 128;
/// Chunks below a node whose children are nodes of the lowest level.
const NODE_OF_NODES: u64 = (FAN_OUT * FAN_OUT) as u64;
/// Chunks that are looked up ahead of those that are read, where what they need comes from far away: 32 MiB of pages.
const AHEAD: usize = 512;
/// Threads that bring blocks of packs: each may hold a request's 2 MiB.
const BRINGERS: usize = 8;

struct Job {
    position: u64,
    plan: Arc<ChunkPlan>,
    buffer: Vec<u8>,
}

type Decoded = (u64, std::result::Result<Vec<u8>, VaultError>);

/// Reads the content of `snapshot`, gives it to `sink` piece by piece in order, and returns its SHA-256. Every piece
/// is proven by its id; whether the checksum is the manifest's is for the caller to compare.
///
/// # Errors
/// A chunk cannot be read, or `sink` fails.
pub fn assemble(
    vault: &Vault,
    snapshot: &Snapshot,
    monitor: &dyn Monitor,
    sink: &mut (dyn FnMut(&[u8]) -> Result<()> + Send),
) -> Result<Sha256> {
    let image_len = snapshot.manifest.content.len();
    let (home, pool) = bounded::<Vec<u8>>(BUFFERS);
    for _ in 0..BUFFERS.min(usize::try_from(chunk_count(image_len)).unwrap_or(BUFFERS)) {
        let _ = home.try_send(Vec::new());
    }
    let (jobs, job_inbox) = bounded::<Job>(BUFFERS);
    let (results, result_inbox) = bounded::<Decoded>(BUFFERS);
    let (pieces, piece_inbox) = bounded::<Vec<u8>>(BUFFERS);
    std::thread::scope(|scope| {
        for _ in 0..super::workers() {
            let (inbox, results, reader) = (job_inbox.clone(), results.clone(), vault.reader());
            scope.spawn(move || decode(&inbox, &results, reader));
        }
        drop((job_inbox, results));
        let hasher = scope.spawn(move || hash(&piece_inbox, &home));
        let deliverer = scope.spawn(move || deliver(&result_inbox, &pieces, image_len, monitor, sink));
        let ahead = vault.store().is_remote().then(|| {
            let (ahead, inbox) = bounded::<Arc<ChunkPlan>>(BRINGERS);
            for _ in 0..BRINGERS {
                let inbox = inbox.clone();
                // One failure is enough: who reads will ask again, be patient, and hear what is wrong.
                scope.spawn(move || inbox.iter().all(|plan| plan.fetch_ahead(vault.store()).is_ok()));
            }
            ahead
        });
        let planned = plan_chunks(vault, snapshot, monitor, &pool, (jobs, ahead));
        let delivered = deliverer.join().map_err(|_| VaultError::Worker)?;
        // What failed first downstream is the reason; upstream only noticed that nobody listens.
        delivered?;
        planned?;
        Ok(hasher.join().map_err(|_| VaultError::Worker)?)
    })
}

/// Walks the tree and looks chunks up, far ahead where somebody fetches ahead. By value: dropping the senders tells the
/// other threads that there are no more.
fn plan_chunks(
    vault: &Vault,
    snapshot: &Snapshot,
    monitor: &dyn Monitor,
    pool: &Receiver<Vec<u8>>,
    (jobs, ahead): (Sender<Job>, Option<Sender<Arc<ChunkPlan>>>),
) -> Result<()> {
    let image_len = snapshot.manifest.content.len();
    let mut tree = TreeReader::new(snapshot.manifest.root, image_len);
    let mut reader = vault.reader();
    let mut positions = 0..chunk_count(image_len);
    let mut planned = VecDeque::new();
    loop {
        while planned.len() < if ahead.is_some() { AHEAD } else { 1 }
            && let Some(position) = positions.next()
        {
            if monitor.interrupted() {
                return Err(Error::new(ErrorKind::Interrupted, "interrupted"));
            }
            if let Some(ahead) = ahead.as_ref().filter(|_| position % NODE_OF_NODES == 0) {
                bring_nodes(vault, &mut tree, &mut reader, position, ahead);
            }
            let mut look_up = || {
                let index = vault.index();
                let id = tree.chunk_id(&index, &mut reader, position)?;
                plan(&index, Class::Page, id)
            };
            let plan = Arc::new(match look_up() {
                Err(error) if vault.distrust_cache(&error)? => look_up()?,
                found => found?,
            });
            if let Some(ahead) = &ahead {
                let _ = ahead.send(Arc::clone(&plan));
            }
            planned.push_back((position, plan));
        }
        let Some((position, plan)) = planned.pop_front() else { return Ok(()) };
        let Ok(buffer) = pool.recv() else { return Err(VaultError::Worker.into()) };
        if jobs.send(Job { position, plan, buffer }).is_err() {
            return Err(VaultError::Worker.into());
        }
    }
}

/// Nodes of the lowest level are needed one by one, and each may be in another pack: those that belong together are brought
/// at once. What cannot be had shows when it is needed.
fn bring_nodes(
    vault: &Vault,
    tree: &mut TreeReader,
    reader: &mut ChunkReader,
    position: u64,
    ahead: &Sender<Arc<ChunkPlan>>,
) {
    let plans: Vec<ChunkPlan> = {
        let index = vault.index();
        if tree.id_at(&index, reader, 1, position / FAN_OUT as u64).is_err() {
            return;
        }
        tree.siblings(1).filter_map(|id| plan(&index, Class::Node(1), id).ok()).collect()
    };
    for plan in plans {
        let _ = ahead.send(Arc::new(plan));
    }
}

fn decode(inbox: &Receiver<Job>, results: &Sender<Decoded>, mut reader: ChunkReader) {
    for mut job in inbox {
        let read = reader.read(&job.plan, &mut job.buffer);
        if results.send((job.position, read.map(|()| job.buffer))).is_err() {
            return;
        }
    }
}

fn deliver(
    inbox: &Receiver<Decoded>,
    pieces: &Sender<Vec<u8>>,
    image_len: u64,
    monitor: &dyn Monitor,
    sink: &mut (dyn FnMut(&[u8]) -> Result<()> + Send),
) -> Result<()> {
    let mut early = BTreeMap::new();
    let mut next = 0;
    for (position, decoded) in inbox {
        early.insert(position, decoded?);
        while let Some(piece) = early.remove(&next) {
            if piece.len() != chunk_len(image_len, next) {
                return Err(Error::new(
                    ErrorKind::Damage,
                    format!("chunk {next} of the snapshot has the wrong size"),
                ));
            }
            sink(&piece)?;
            monitor.advance(piece.len() as u64);
            next += 1;
            pieces.send(piece).map_err(|_| VaultError::Worker)?;
        }
    }
    Ok(())
}

fn hash(inbox: &Receiver<Vec<u8>>, home: &Sender<Vec<u8>>) -> Sha256 {
    let mut hasher = Sha256Hasher::new();
    for piece in inbox {
        hasher.update(&piece);
        let _ = home.try_send(piece);
    }
    hasher.finish()
}
