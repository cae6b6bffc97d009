//! Byte-wise reading of a page source through a bounded cache: what the image VFS serves.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use lru::LruCache;

use crate::error::{Error, ErrorKind, Result};
use crate::page_source::{Geometry, PageSource};

/// Bytes read from the source at once: the largest page, and the size of a stored chunk.
const RUN_LEN: u64 = 65_536;

/// Where the header says how the database commits (write and read version).
const VERSION_BYTES: std::ops::Range<usize> = 18..20;

/// A page source with a cache of 64 KiB runs. A failure is kept for whoever holds [`ImageReader::failure`],
/// because `SQLite` can only be told a number.
pub(super) struct ImageReader {
    source: Box<dyn PageSource>,
    geometry: Geometry,
    runs: LruCache<u64, Box<[u8]>>,
    failure: Arc<Mutex<Option<Error>>>,
}

impl ImageReader {
    /// Keeps at most `cache_bytes` of the image, at least one run.
    pub(super) fn new(source: Box<dyn PageSource>, cache_bytes: usize) -> Self {
        let runs = NonZeroUsize::new(cache_bytes / 65_536).unwrap_or(NonZeroUsize::MIN);
        let geometry = source.geometry();
        Self { source, geometry, runs: LruCache::new(runs), failure: Arc::default() }
    }

    pub(super) const fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// The first failure since it was last taken out.
    pub(super) fn failure(&self) -> Arc<Mutex<Option<Error>>> {
        Arc::clone(&self.failure)
    }

    /// Fills the front of `into` from `offset` and says how many bytes there were; `None` after a failure.
    pub(super) fn read_at(&mut self, offset: u64, into: &mut [u8]) -> Option<usize> {
        let mut done = 0;
        while done < into.len() {
            let at = offset + done as u64;
            if at >= self.geometry.image_len() {
                break;
            }
            match self.run(at / RUN_LEN) {
                Ok(run) => {
                    let start = usize::try_from(at % RUN_LEN).unwrap_or(usize::MAX);
                    let from = run.get(start..).unwrap_or_default();
                    let len = from.len().min(into.len() - done);
                    if len == 0 {
                        break;
                    }
                    into[done..done + len].copy_from_slice(&from[..len]);
                    done += len;
                }
                Err(error) => {
                    self.note(error);
                    return None;
                }
            }
        }
        Some(done)
    }

    /// Records that the source panicked.
    pub(super) fn note_panic(&self) {
        self.note(Error::new(ErrorKind::Failed, "reading the image panicked"));
    }

    fn note(&self, error: Error) {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    }

    fn run(&mut self, index: u64) -> Result<&[u8]> {
        if !self.runs.contains(&index) {
            let run = self.load(index)?;
            self.runs.push(index, run);
        }
        Ok(self.runs.get(&index).map(AsRef::as_ref).unwrap_or_default())
    }

    fn load(&mut self, index: u64) -> Result<Box<[u8]>> {
        let offset = index * RUN_LEN;
        let len = RUN_LEN.min(self.geometry.image_len() - offset);
        let outside = |_| Error::new(ErrorKind::Failed, "a read leaves the image");
        let mut run = vec![0; usize::try_from(len).map_err(outside)?].into_boxed_slice();
        let first_page =
            u32::try_from(offset / u64::from(self.geometry.page_size.bytes())).map_err(outside)?;
        self.source.read_pages(first_page, &mut run)?;
        // An image of a WAL database is complete without a log, and `SQLite` is not to look for one.
        if index == 0 && run.get(VERSION_BYTES) == Some(&[2, 2]) {
            run[VERSION_BYTES].copy_from_slice(&[1, 1]);
        }
        Ok(run)
    }
}
