//! In which pages a database differs from a stored snapshot. Chunks of the same id are not read from the vault.

use crate::chunk::{CHUNK_SIZE, Class, chunk_count, chunk_len};
use crate::error::{Error, ErrorKind, Result};
use crate::monitor::Monitor;
use crate::page_source::PageSource;
use crate::sqlite::differs_only_as_live;
use crate::vault::{Snapshot, Vault};

/// Hears of a page: the source, the page's number from 1, and the stored bytes.
pub(super) type EachPage<'e, S> = dyn FnMut(&S, u32, &[u8]) -> Result<()> + 'e;

/// Gives `each` the number, from 1, and the stored bytes of every page that `source` has otherwise or not at all. Pages
/// that only `source` has are not among them. In page 1, what a live database keeps of its own does not count.
///
/// # Errors
/// The source or the snapshot cannot be read, their pages have different sizes, or `each` fails.
pub(super) fn differing_pages<S: PageSource>(
    vault: &Vault,
    snapshot: &Snapshot,
    source: &mut S,
    monitor: &dyn Monitor,
    each: &mut EachPage<'_, S>,
) -> Result<()> {
    let failed =
        |why: &str| Error::new(ErrorKind::Failed, format!("snapshot {}: {why}", snapshot.id.short()));
    let mut image = vault.image(snapshot).ok_or_else(|| failed("it is no database"))?;
    let (stored, live) = (image.geometry(), source.geometry());
    if stored.page_size != live.page_size {
        return Err(failed("its pages have another size than those of the database"));
    }
    let page_size = stored.page_size.bytes() as usize;
    let pages_per_chunk = CHUNK_SIZE / page_size;
    let (mut theirs, mut ours) = (Vec::new(), Vec::new());
    for position in 0..chunk_count(stored.image_len()) {
        if monitor.interrupted() {
            return Err(Error::new(ErrorKind::Interrupted, "interrupted; the database is as it was"));
        }
        let first_page =
            u32::try_from(position * pages_per_chunk as u64).map_err(|_| failed("it is too large"))?;
        let wanted = chunk_len(stored.image_len(), position);
        let there = live.image_len().saturating_sub(position * CHUNK_SIZE as u64);
        theirs.resize(wanted.min(usize::try_from(there).unwrap_or(wanted)), 0);
        if !theirs.is_empty() {
            source.read_pages(first_page, &mut theirs)?;
        }
        if theirs.len() < wanted || vault.chunk_id(Class::Page, &theirs)? != image.chunk_id(position)? {
            ours.resize(wanted, 0);
            image.read_pages(first_page, &mut ours)?;
            for (number, page) in (first_page + 1..).zip(ours.chunks_exact(page_size)) {
                let at = (number - first_page - 1) as usize * page_size;
                let other = theirs.get(at..at + page_size);
                let same = match other {
                    Some(other) if number == 1 => differs_only_as_live(page, other),
                    other => other == Some(page),
                };
                if !same {
                    each(source, number, page)?;
                }
            }
        }
        monitor.advance(wanted as u64);
    }
    Ok(())
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
