//! In which pages a database differs from a stored snapshot. Chunks of the same id are not read from the vault.

use crate::chunk::{CHUNK_SIZE, Class, chunk_count, chunk_len};
use crate::error::{Error, ErrorKind, Result};
use crate::monitor::Monitor;
use crate::page_source::{Geometry, PageSource};
use crate::sqlite::differs_only_as_live;
use crate::vault::{Snapshot, StoredImage, Vault};

/// Hears of a page: the source, the page's number from 1, and the stored bytes.
pub(super) type EachPage<'e, S> = dyn FnMut(&S, u32, &[u8]) -> Result<()> + 'e;

/// Hears of a chunk.
pub(super) type EachChunk<'e, S> = dyn FnMut(&S, ChunkPair<'_>) -> Result<()> + 'e;

/// A chunk of a source beside the stored one at the same place.
pub(super) struct ChunkPair<'p> {
    /// Counted from 0.
    pub(super) position: u64,
    /// What the source has; shorter than a chunk, or nothing, at its end.
    pub(super) theirs: &'p [u8],
    /// What is stored, if that is something else.
    pub(super) stored: Option<&'p [u8]>,
}

/// Gives `each` every chunk of the stored image, in order, with what `source` has there.
///
/// # Errors
/// The source or the snapshot cannot be read, their pages have different sizes, `monitor` is interrupted, or `each` fails.
pub(super) fn compare_chunks<S: PageSource>(
    vault: &Vault,
    snapshot: &Snapshot,
    source: &mut S,
    monitor: &dyn Monitor,
    each: &mut EachChunk<'_, S>,
) -> Result<()> {
    let mut image = image_of(vault, snapshot)?;
    let (stored, live) = (image.geometry(), source.geometry());
    if stored.page_size != live.page_size {
        return Err(failed(snapshot, "its pages have another size than those of the database"));
    }
    let (mut theirs, mut ours) = (Vec::new(), Vec::new());
    for position in 0..chunk_count(stored.image_len()) {
        if monitor.interrupted() {
            return Err(Error::new(ErrorKind::Interrupted, "interrupted; the database is as it was"));
        }
        let first_page =
            first_page_of(position, stored).ok_or_else(|| failed(snapshot, "it is too large"))?;
        theirs.resize(chunk_len(live.image_len(), position), 0);
        if !theirs.is_empty() {
            source.read_pages(first_page, &mut theirs)?;
        }
        let wanted = chunk_len(stored.image_len(), position);
        let is_same =
            theirs.len() == wanted && vault.chunk_id(Class::Page, &theirs)? == image.chunk_id(position)?;
        if !is_same {
            ours.resize(wanted, 0);
            image.read_pages(first_page, &mut ours)?;
        }
        let stored = (!is_same).then_some(ours.as_slice());
        each(source, ChunkPair { position, theirs: &theirs, stored })?;
        monitor.advance(wanted as u64);
    }
    Ok(())
}

/// The number of the first page of a chunk, from 0.
pub(super) fn first_page_of(position: u64, geometry: Geometry) -> Option<u32> {
    let pages_per_chunk = CHUNK_SIZE as u64 / u64::from(geometry.page_size.bytes());
    u32::try_from(position * pages_per_chunk).ok()
}

/// The stored pages of `pair` that the source has otherwise or not at all, with their numbers, from 1. In page 1, what a
/// live database keeps of its own does not count.
pub(super) fn differing<'p>(
    pair: &ChunkPair<'p>,
    geometry: Geometry,
) -> impl Iterator<Item = (u32, &'p [u8])> + use<'p> {
    let page_size = geometry.page_size.bytes() as usize;
    let first = first_page_of(pair.position, geometry).unwrap_or(u32::MAX);
    let theirs = pair.theirs;
    let pages = pair.stored.unwrap_or_default().chunks_exact(page_size);
    (first.saturating_add(1)..).zip(pages).filter(move |(number, page)| {
        let at = (number - first - 1) as usize * page_size;
        match theirs.get(at..at + page_size) {
            Some(other) if *number == 1 => !differs_only_as_live(page, other),
            other => other != Some(page),
        }
    })
}

/// Gives `each` the number, from 1, and the stored bytes of every page that `source` has otherwise or not at all. Pages
/// that only `source` has are not among them. In page 1, what a live database keeps of its own does not count.
///
/// # Errors
/// As [`compare_chunks`].
pub(super) fn differing_pages<S: PageSource>(
    vault: &Vault,
    snapshot: &Snapshot,
    source: &mut S,
    monitor: &dyn Monitor,
    each: &mut EachPage<'_, S>,
) -> Result<()> {
    let geometry = image_of(vault, snapshot)?.geometry();
    compare_chunks(vault, snapshot, source, monitor, &mut |source, pair| {
        differing(&pair, geometry).try_for_each(|(number, page)| each(source, number, page))
    })
}

fn image_of(vault: &Vault, snapshot: &Snapshot) -> Result<StoredImage> {
    vault.image(snapshot).ok_or_else(|| failed(snapshot, "it is no database"))
}

fn failed(snapshot: &Snapshot, why: &str) -> Error {
    Error::new(ErrorKind::Failed, format!("snapshot {}: {why}", snapshot.id.short()))
}

/// Whether `source` is what `snapshot` holds, but for what a live database keeps of its own in page 1.
///
/// # Errors
/// The source or the snapshot cannot be read.
pub(super) fn is_same<S: PageSource>(
    vault: &Vault,
    snapshot: &Snapshot,
    source: &mut S,
    monitor: &dyn Monitor,
) -> Result<bool> {
    if snapshot.manifest.content.geometry() != Some(source.geometry()) {
        return Ok(false);
    }
    let mut same = true;
    differing_pages(vault, snapshot, source, monitor, &mut |_, _, _| {
        same = false;
        Ok(())
    })?;
    Ok(same)
}
