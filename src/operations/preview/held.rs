//! A live database as it was at one commit, without holding it: what the vault has as well is read from there, and only
//! the rest is kept in memory.

use super::super::difference::{ChunkPair, compare_chunks, differing, first_page_of};
use crate::chunk::{CHUNK_SIZE, Class, chunk_count, chunk_len};
use crate::error::{Error, ErrorKind, Result};
use crate::ids::ChunkId;
use crate::monitor::Monitor;
use crate::page_source::{Geometry, PageSource};
use crate::vault::{Snapshot, StoredImage, Vault};

/// Bytes that are kept in memory at most, those included that say where each chunk is.
const KEPT_BYTES: usize = 32 << 20;

/// In how many pages a database and a snapshot differ.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct PageDifference {
    /// Pages that both have, with other bytes.
    pub changed: u64,
    /// Pages that the database would get.
    pub added: u64,
    /// Pages that would be cut off.
    pub removed: u64,
}

/// Where the bytes of a chunk are.
#[derive(Debug)]
enum Place {
    /// In the snapshot, at the same place.
    Stored,
    /// Somewhere in the vault.
    Vault(ChunkId),
    /// In the snapshot, at the same place, but for these pages: where in the chunk, and what.
    Patched(Vec<(usize, Box<[u8]>)>),
}

/// The copy.
#[derive(Debug)]
pub(super) struct HeldImage {
    geometry: Geometry,
    places: Vec<Place>,
    image: StoredImage,
    /// The chunk at hand.
    at_hand: Option<(u64, Vec<u8>)>,
}

/// What one reading of a database has found.
pub(super) struct Looked {
    pub(super) pages: PageDifference,
    /// `None` if too much of it is not in the vault.
    pub(super) held: Option<HeldImage>,
}

/// Reads `source` once from the beginning to the end.
pub(super) fn look<S: PageSource>(
    vault: &Vault,
    snapshot: &Snapshot,
    source: &mut S,
    monitor: &dyn Monitor,
) -> Result<Looked> {
    let gone = || Error::new(ErrorKind::Refused, format!("snapshot {} is no database", snapshot.id.short()));
    let image = vault.image(snapshot).ok_or_else(gone)?;
    let (stored, geometry) = (image.geometry(), source.geometry());
    let page_size = geometry.page_size.bytes() as usize;
    let mut keeper = Keeper { vault, page_size, places: Vec::new(), kept: 0 };
    let mut pages = PageDifference {
        removed: u64::from(geometry.page_count.saturating_sub(stored.page_count)),
        ..PageDifference::default()
    };
    compare_chunks(vault, snapshot, source, monitor, &mut |_, pair| {
        for (number, _) in differing(&pair, stored) {
            let is_new = number > geometry.page_count;
            *if is_new { &mut pages.added } else { &mut pages.changed } += 1;
        }
        keeper.take(&pair)
    })?;
    let mut chunk = Vec::new();
    for position in chunk_count(stored.image_len())..chunk_count(geometry.image_len()) {
        if keeper.is_full() || monitor.interrupted() {
            break;
        }
        chunk.resize(chunk_len(geometry.image_len(), position), 0);
        let too_large = || Error::new(ErrorKind::Failed, "the database is too large");
        source.read_pages(first_page_of(position, geometry).ok_or_else(too_large)?, &mut chunk)?;
        keeper.take(&ChunkPair { position, theirs: &chunk, stored: Some(&[]) })?;
    }
    let complete = !keeper.is_full() && keeper.places.len() as u64 == chunk_count(geometry.image_len());
    let places = keeper.places;
    Ok(Looked { pages, held: complete.then(|| HeldImage { geometry, places, image, at_hand: None }) })
}

struct Keeper<'v> {
    vault: &'v Vault,
    page_size: usize,
    places: Vec<Place>,
    kept: usize,
}

impl Keeper<'_> {
    const fn is_full(&self) -> bool {
        self.kept > KEPT_BYTES
    }

    fn take(&mut self, pair: &ChunkPair<'_>) -> Result<()> {
        if self.is_full() || pair.theirs.is_empty() {
            return Ok(());
        }
        let place = match pair.stored {
            None => Place::Stored,
            Some(stored) => {
                let id = self.vault.chunk_id(Class::Page, pair.theirs)?;
                if self.vault.index().find(Class::Page, id)?.is_some() {
                    Place::Vault(id)
                } else {
                    self.patch(pair.theirs, stored)
                }
            }
        };
        self.places.push(place);
        self.kept += size_of::<Place>();
        if self.is_full() {
            // None of it is of use any more.
            self.places = Vec::new();
        }
        Ok(())
    }

    /// Keeps the pages of `theirs` that `stored` has otherwise or not at all.
    fn patch(&mut self, theirs: &[u8], stored: &[u8]) -> Place {
        let starts = (0..theirs.len()).step_by(self.page_size);
        let pages = starts.filter_map(|start| {
            let page = theirs.get(start..start + self.page_size)?;
            (stored.get(start..start + self.page_size) != Some(page)).then(|| (start, page.into()))
        });
        let pages: Vec<(usize, Box<[u8]>)> = pages.collect();
        self.kept += pages.len() * self.page_size;
        Place::Patched(pages)
    }
}

impl HeldImage {
    /// Reads the beginning of a chunk of the snapshot, as much as both have.
    fn read_stored(&mut self, position: u64, into: &mut Vec<u8>) -> Result<()> {
        let len = chunk_len(self.geometry.image_len(), position);
        into.resize(len, 0);
        let both = len.min(chunk_len(self.image.geometry().image_len(), position));
        if both > 0 {
            self.image.read_pages(first_page_of(position, self.geometry).unwrap_or(0), &mut into[..both])?;
        }
        Ok(())
    }

    fn load(&mut self, position: u64) -> Result<()> {
        if self.at_hand.as_ref().is_some_and(|(at_hand, _)| *at_hand == position) {
            return Ok(());
        }
        let len = chunk_len(self.geometry.image_len(), position);
        let mut bytes = self.at_hand.take().map(|(_, bytes)| bytes).unwrap_or_default();
        bytes.clear();
        let slot = usize::try_from(position).unwrap_or(usize::MAX);
        match self.places.get(slot) {
            Some(Place::Vault(id)) => self.image.read_chunk(*id, &mut bytes)?,
            Some(Place::Stored) => self.read_stored(position, &mut bytes)?,
            Some(Place::Patched(_)) => {
                self.read_stored(position, &mut bytes)?;
                if let Some(Place::Patched(pages)) = self.places.get(slot) {
                    for (start, page) in pages {
                        bytes[*start..start + page.len()].copy_from_slice(page);
                    }
                }
            }
            None => {}
        }
        if bytes.len() != len {
            return Err(Error::new(ErrorKind::Failed, "a page beyond the end of the database was asked for"));
        }
        self.at_hand = Some((position, bytes));
        Ok(())
    }
}

impl PageSource for HeldImage {
    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn read_pages(&mut self, first_page: u32, into: &mut [u8]) -> Result<()> {
        let mut offset = u64::from(first_page) * u64::from(self.geometry.page_size.bytes());
        let mut rest = into;
        while !rest.is_empty() {
            self.load(offset / CHUNK_SIZE as u64)?;
            let start = usize::try_from(offset % CHUNK_SIZE as u64).unwrap_or(0);
            let chunk = self.at_hand.as_ref().and_then(|(_, bytes)| bytes.get(start..)).unwrap_or_default();
            let len = rest.len().min(chunk.len());
            if len == 0 {
                return Err(Error::new(ErrorKind::Failed, "pages beyond the end were asked for"));
            }
            let (now, later) = rest.split_at_mut(len);
            now.copy_from_slice(&chunk[..len]);
            rest = later;
            offset += len as u64;
        }
        Ok(())
    }
}
