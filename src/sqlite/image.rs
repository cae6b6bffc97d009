//! Plain images: a file that `SQLite` does not have open, and bytes in memory.

use std::fs::File;
use std::os::unix::fs::FileExt;

use super::header::{DatabaseHeader, HEADER_LEN, HeaderError};
use crate::error::{Error, ErrorKind, Result};
use crate::page_source::{Geometry, PageSize, PageSource};

/// The page size given to an image of no pages, which has none of its own: `SQLite`'s default.
pub(super) const DEFAULT_PAGE_SIZE: PageSize = match PageSize::new(4096) {
    Some(page_size) => page_size,
    None => panic!("4096 is a page size"),
};

/// A [`PageSource`] over a file of our own, such as a restore's temporary file.
///
/// Never over a live database: see the layer's first invariant.
#[derive(Debug)]
pub struct FileImage {
    file: File,
    geometry: Geometry,
}

impl FileImage {
    /// Takes the page size from the header in `file`, the page count from its length.
    ///
    /// # Errors
    /// An unreadable file, no header, or a length that is not a whole number of pages.
    pub fn new(file: File) -> Result<Self> {
        let failed = |source: std::io::Error| {
            Error::new(ErrorKind::Failed, format!("cannot read the image: {source}")).with_source(source)
        };
        let len = file.metadata().map_err(failed)?.len();
        let mut header = [0; HEADER_LEN];
        if len >= HEADER_LEN as u64 {
            file.read_exact_at(&mut header, 0).map_err(failed)?;
        }
        Ok(Self { file, geometry: geometry_of(len, &header)? })
    }
}

impl PageSource for FileImage {
    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn read_pages(&mut self, first_page: u32, into: &mut [u8]) -> Result<()> {
        let offset = check_range(self.geometry, first_page, into.len())?;
        self.file.read_exact_at(into, offset).map_err(|source| {
            Error::new(ErrorKind::Failed, format!("cannot read the image at offset {offset}: {source}"))
                .with_source(source)
        })
    }
}

/// A [`PageSource`] over bytes in memory, for tests and small images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryImage {
    bytes: Vec<u8>,
    geometry: Geometry,
}

impl MemoryImage {
    /// Takes the page size from the header in `bytes`, the page count from their number.
    ///
    /// # Errors
    /// No header, or a length that is not a whole number of pages.
    pub fn new(bytes: Vec<u8>) -> Result<Self> {
        let geometry = geometry_of(bytes.len() as u64, &bytes)?;
        Ok(Self { bytes, geometry })
    }

    /// Takes `bytes` as pages of `page_size`, whatever they hold.
    ///
    /// # Errors
    /// A length that is not a whole number of pages.
    pub fn with_page_size(bytes: Vec<u8>, page_size: PageSize) -> Result<Self> {
        let geometry = Geometry { page_size, page_count: whole_pages(bytes.len() as u64, page_size)? };
        Ok(Self { bytes, geometry })
    }

    /// The bytes of the image.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl PageSource for MemoryImage {
    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn read_pages(&mut self, first_page: u32, into: &mut [u8]) -> Result<()> {
        let offset = check_range(self.geometry, first_page, into.len())?;
        let from = usize::try_from(offset).ok().and_then(|start| self.bytes.get(start..start + into.len()));
        into.copy_from_slice(from.ok_or_else(|| beyond(self.geometry, first_page))?);
        Ok(())
    }
}

/// The offset of `first_page`, if `len` bytes from there are whole pages inside the image.
pub(super) fn check_range(geometry: Geometry, first_page: u32, len: usize) -> Result<u64> {
    let page = u64::from(geometry.page_size.bytes());
    let offset = u64::from(first_page) * page;
    if !(len as u64).is_multiple_of(page) || offset + len as u64 > geometry.image_len() {
        return Err(beyond(geometry, first_page));
    }
    Ok(offset)
}

fn beyond(geometry: Geometry, first_page: u32) -> Error {
    let message = format!("a read at page {first_page} leaves the image of {} pages", geometry.page_count);
    Error::new(ErrorKind::Failed, message)
}

fn geometry_of(len: u64, header: &[u8]) -> Result<Geometry> {
    let damage =
        |why: HeaderError| Error::new(ErrorKind::Damage, format!("not an image of a database: {why}"));
    if len == 0 {
        return Ok(Geometry { page_size: DEFAULT_PAGE_SIZE, page_count: 0 });
    }
    if len < HEADER_LEN as u64 {
        return Err(damage(HeaderError::TooShort { len: usize::try_from(len).unwrap_or(usize::MAX) }));
    }
    let page_size = DatabaseHeader::parse(header).map_err(damage)?.page_size;
    Ok(Geometry { page_size, page_count: whole_pages(len, page_size)? })
}

fn whole_pages(len: u64, page_size: PageSize) -> Result<u32> {
    let page = u64::from(page_size.bytes());
    let count = if len.is_multiple_of(page) { u32::try_from(len / page).ok() } else { None };
    count.ok_or_else(|| {
        let message =
            format!("not an image of a database: {len} bytes are not a number of {page}-byte pages");
        Error::new(ErrorKind::Damage, message)
    })
}
