//! The checksum of an image whose database is no longer held.
//!
//! In rollback mode a writer waits for as long as the image is read, and SHA-256 is the slowest part of that. So it is
//! taken when the lock is gone: from the file again, each chunk proven by its id, and from the vault where the file has
//! moved on. No lock is needed for that, and none is taken: whatever a writer makes of the file in the meantime, bytes
//! that have the id are the bytes of the image.

use crossbeam_channel::{Sender, bounded};

use crate::checksum::{Sha256, Sha256Hasher};
use crate::chunk::{CHUNK_SIZE, Class, chunk_count, chunk_len};
use crate::error::{Error, ErrorKind, Result};
use crate::ids::ChunkId;
use crate::monitor::Monitor;
use crate::page_source::Geometry;
use crate::sqlite::LiveDatabase;
use crate::vault::image::TreeReader;
use crate::vault::reader::{ChunkReader, plan};
use crate::vault::writer::RunWriter;
use crate::vault::{Vault, VaultError};

/// Buffers of 64 KiB between the reading and the hashing thread: 2 MiB.
const BUFFERS: usize = 32;

/// Ids of chunks, in order: those of a small image are kept while it is read (1 MiB of ids for 4 GiB), those of a large
/// one come from the tree that was stored.
pub(super) const KEPT_IDS: u64 = 65_536;

/// What the checksum is taken of.
pub(super) struct Image<'a> {
    pub(super) vault: &'a Vault,
    pub(super) database: &'a LiveDatabase,
    pub(super) geometry: Geometry,
    pub(super) root: Option<ChunkId>,
    /// All ids, if they were kept.
    pub(super) ids: Option<Vec<ChunkId>>,
}

/// Takes the checksum. What this run has stored is made durable first if it has to be read back.
pub(super) fn checksum(image: &Image<'_>, writer: &mut RunWriter, monitor: &dyn Monitor) -> Result<Sha256> {
    let (full, inbox) = bounded::<Vec<u8>>(BUFFERS);
    let (home, pool) = bounded(BUFFERS);
    for _ in 0..BUFFERS {
        let _ = home.try_send(Vec::new());
    }
    std::thread::scope(|scope| {
        let hasher = scope.spawn(move || {
            let mut hasher = Sha256Hasher::new();
            for buffer in inbox {
                hasher.update(&buffer);
                let _ = home.try_send(buffer);
            }
            hasher.finish()
        });
        let mut source = Source {
            image,
            tree: TreeReader::new(image.root, image.geometry.image_len()),
            reader: image.vault.reader(),
            is_flushed: false,
        };
        if image.ids.is_none() {
            source.flush(writer)?;
        }
        let hand_over = |position| {
            if monitor.interrupted() {
                let why = "interrupted; no snapshot of this database was made";
                return Err(Error::new(ErrorKind::Interrupted, why));
            }
            let mut buffer: Vec<u8> = pool.recv().map_err(|_| VaultError::Worker)?;
            source.read(position, &mut buffer, writer)?;
            monitor.advance(buffer.len() as u64);
            send(&full, buffer)
        };
        let read = (0..chunk_count(image.geometry.image_len())).try_for_each(hand_over);
        drop(full);
        let sha256 = hasher.join().map_err(|_| VaultError::Worker)?;
        read.map(|()| sha256)
    })
}

fn send(full: &Sender<Vec<u8>>, buffer: Vec<u8>) -> Result<()> {
    full.send(buffer).map_err(|_| VaultError::Worker.into())
}

struct Source<'a> {
    image: &'a Image<'a>,
    tree: TreeReader,
    reader: ChunkReader,
    is_flushed: bool,
}

impl Source<'_> {
    fn read(&mut self, position: u64, into: &mut Vec<u8>, writer: &mut RunWriter) -> Result<()> {
        let Image { vault, database, geometry, .. } = self.image;
        let id = self.id_at(position)?;
        into.resize(chunk_len(geometry.image_len(), position), 0);
        if database.read_unlocked(*geometry, position * CHUNK_SIZE as u64, into)
            && vault.chunk_id(Class::Page, into)? == id
        {
            return Ok(());
        }
        self.flush(writer)?;
        let read = self.read_stored(id, into);
        match read {
            Err(error) if vault.distrust_cache(&error)? => Ok(self.read_stored(id, into)?),
            read => Ok(read?),
        }
    }

    fn read_stored(&mut self, id: ChunkId, into: &mut Vec<u8>) -> Result<(), VaultError> {
        let plan = plan(&self.image.vault.index(), Class::Page, id)?;
        self.reader.read(&plan, into)
    }

    fn id_at(&mut self, position: u64) -> Result<ChunkId, VaultError> {
        let Some(ids) = &self.image.ids else {
            return self.tree.chunk_id(&self.image.vault.index(), &mut self.reader, position);
        };
        let id = usize::try_from(position).ok().and_then(|position| ids.get(position));
        id.copied().ok_or(VaultError::Worker)
    }

    fn flush(&mut self, writer: &mut RunWriter) -> Result<(), VaultError> {
        if !std::mem::replace(&mut self.is_flushed, true) {
            writer.flush(&mut self.image.vault.index())?;
        }
        Ok(())
    }
}
