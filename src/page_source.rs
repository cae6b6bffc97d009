//! The central noun: an image of a database as numbered pages. A live database is one, a snapshot
//! stored in a vault is one, a plain file is one; operations are written against the trait.

use crate::error::Error;

/// Size of a database page in bytes: a power of two, 512 to 65,536 (`SQLite` file format, section 1.3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PageSize(u32);

impl PageSize {
    /// Smallest page size of the `SQLite` file format.
    pub const MIN: u32 = 512;
    /// Largest page size of the `SQLite` file format.
    pub const MAX: u32 = 65_536;

    /// Accepts `bytes` if it is a page size of the `SQLite` file format.
    #[must_use]
    pub const fn new(bytes: u32) -> Option<Self> {
        if bytes.is_power_of_two() && bytes >= Self::MIN && bytes <= Self::MAX {
            Some(Self(bytes))
        } else {
            None
        }
    }

    /// The size in bytes.
    #[must_use]
    pub const fn bytes(self) -> u32 {
        self.0
    }
}

impl std::fmt::Display for PageSize {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Page size and number of pages of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// Bytes per page.
    pub page_size: PageSize,
    /// Pages in the image; 0 for an empty database.
    pub page_count: u32,
}

impl Geometry {
    /// Bytes of the whole image.
    #[must_use]
    pub const fn image_len(self) -> u64 {
        self.page_size.bytes() as u64 * self.page_count as u64
    }
}

/// An image of a database, readable page by page.
pub trait PageSource: Send {
    /// Page size and page count; constant for the life of the source.
    fn geometry(&self) -> Geometry;

    /// Fills `into` (a whole number of pages) with consecutive pages from `first_page`, counted from 0.
    ///
    /// # Errors
    /// A range beyond the image, or whatever keeps the source from being read; on error the content of
    /// `into` is unspecified.
    fn read_pages(&mut self, first_page: u32, into: &mut [u8]) -> Result<(), Error>;
}
