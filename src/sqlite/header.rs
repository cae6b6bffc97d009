//! The 100-byte database header (`SQLite` file format, section 1.3). Pure, and total over any bytes.

use crate::page_source::PageSize;

/// Bytes of the header.
pub(super) const HEADER_LEN: usize = 100;

const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// How a database commits, by its header's read and write versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum JournalMode {
    /// A rollback journal in one of its forms (delete, truncate, persist, memory, off): versions 1 and 1.
    Rollback,
    /// A write-ahead log: versions 2 and 2.
    Wal,
}

/// How text is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TextEncoding {
    /// 1; also the 0 of a database in which nothing was ever created.
    Utf8,
    /// 2.
    Utf16Le,
    /// 3.
    Utf16Be,
}

/// Whether and when free pages are given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AutoVacuum {
    /// Never, except by `VACUUM`.
    None,
    /// At every commit.
    Full,
    /// On `PRAGMA incremental_vacuum`.
    Incremental,
}

/// The fields of a database header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct DatabaseHeader {
    /// Bytes per page; in the file, 1 stands for 65,536.
    #[serde(serialize_with = "page_size_bytes")]
    pub page_size: PageSize,
    /// From the read and write versions, which must agree.
    pub journal_mode: JournalMode,
    /// Bytes at the end of each page that `SQLite` leaves alone.
    pub reserved_bytes: u8,
    /// Counts commits outside a write-ahead log; proves nothing about content.
    pub change_counter: u32,
    /// Size in pages as the last writer saw it; see [`DatabaseHeader::page_count`].
    pub header_page_count: u32,
    /// First trunk page of the free list, or 0.
    pub freelist_trunk: u32,
    /// Pages in the free list.
    pub freelist_pages: u32,
    /// Changes whenever the schema does.
    pub schema_cookie: u32,
    /// 1 to 4; 0 in a database in which nothing was ever created.
    pub schema_format: u32,
    /// How text is stored.
    pub text_encoding: TextEncoding,
    /// The application's number, by `PRAGMA user_version`.
    pub user_version: i32,
    /// The file type's number, by `PRAGMA application_id`.
    pub application_id: i32,
    /// Auto-vacuum mode.
    pub auto_vacuum: AutoVacuum,
    /// The change counter at which the version number was written.
    pub version_valid_for: u32,
    /// Version of the last `SQLite` to write, as 3054001 for 3.54.1.
    pub sqlite_version_number: u32,
}

/// Why bytes are not a header that can be captured.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeaderError {
    /// Fewer bytes than a header has.
    #[error("only {len} bytes, shorter than a database header")]
    TooShort {
        /// Bytes there are.
        len: usize,
    },
    /// It does not begin with `SQLite format 3`.
    #[error("it does not begin with \"SQLite format 3\"")]
    NoMagic,
    /// The page size is not a power of two between 512 and 65,536.
    #[error("its header gives the page size {field}")]
    PageSize {
        /// The field as stored.
        field: u16,
    },
    /// Read and write versions other than 1/1 and 2/2 belong to other journal designs, or to none.
    #[error("its header gives write version {write} and read version {read}; 1/1 and 2/2 are supported")]
    Versions {
        /// Byte 18.
        write: u8,
        /// Byte 19.
        read: u8,
    },
    /// Fewer than 480 usable bytes per page.
    #[error("its header reserves {reserved} bytes of each page, which leaves too few")]
    Reserved {
        /// Byte 20.
        reserved: u8,
    },
    /// The text encoding is none of the three.
    #[error("its header gives the text encoding {field}")]
    TextEncoding {
        /// The field as stored.
        field: u32,
    },
}

impl DatabaseHeader {
    /// Reads the header at the beginning of `bytes`; anything after the first 100 bytes is ignored.
    ///
    /// # Errors
    /// Only what keeps the file from being understood: free-list, cookie and counters are not judged.
    pub fn parse(bytes: &[u8]) -> Result<Self, HeaderError> {
        let header: &[u8; HEADER_LEN] =
            bytes.first_chunk().ok_or(HeaderError::TooShort { len: bytes.len() })?;
        if header.first_chunk() != Some(MAGIC) {
            return Err(HeaderError::NoMagic);
        }
        let page_size = parse_page_size(u16::from_be_bytes([header[16], header[17]]))?;
        let reserved_bytes = header[20];
        if page_size.bytes() - u32::from(reserved_bytes) < 480 {
            return Err(HeaderError::Reserved { reserved: reserved_bytes });
        }
        let field =
            |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        Ok(Self {
            page_size,
            journal_mode: parse_journal_mode(header[18], header[19])?,
            reserved_bytes,
            change_counter: field(24),
            header_page_count: field(28),
            freelist_trunk: field(32),
            freelist_pages: field(36),
            schema_cookie: field(40),
            schema_format: field(44),
            text_encoding: parse_text_encoding(field(56))?,
            user_version: field(60).cast_signed(),
            application_id: field(68).cast_signed(),
            auto_vacuum: parse_auto_vacuum(field(52), field(64)),
            version_valid_for: field(92),
            sqlite_version_number: field(96),
        })
    }

    /// The size in pages, if the header may be trusted on it (file format, section 1.3.8): a writer older
    /// than 3.7.0 leaves a stale number behind and does not update `version_valid_for`.
    #[must_use]
    pub const fn page_count(&self) -> Option<u32> {
        if self.header_page_count > 0 && self.change_counter == self.version_valid_for {
            Some(self.header_page_count)
        } else {
            None
        }
    }
}

fn parse_page_size(field: u16) -> Result<PageSize, HeaderError> {
    let bytes = if field == 1 { PageSize::MAX } else { u32::from(field) };
    PageSize::new(bytes).ok_or(HeaderError::PageSize { field })
}

const fn parse_journal_mode(write: u8, read: u8) -> Result<JournalMode, HeaderError> {
    match (write, read) {
        (1, 1) => Ok(JournalMode::Rollback),
        (2, 2) => Ok(JournalMode::Wal),
        _ => Err(HeaderError::Versions { write, read }),
    }
}

const fn parse_text_encoding(field: u32) -> Result<TextEncoding, HeaderError> {
    match field {
        0 | 1 => Ok(TextEncoding::Utf8),
        2 => Ok(TextEncoding::Utf16Le),
        3 => Ok(TextEncoding::Utf16Be),
        _ => Err(HeaderError::TextEncoding { field }),
    }
}

/// `largest_root` is non-zero in either auto-vacuum mode; only then does `incremental` count.
const fn parse_auto_vacuum(largest_root: u32, incremental: u32) -> AutoVacuum {
    match (largest_root, incremental) {
        (0, _) => AutoVacuum::None,
        (_, 0) => AutoVacuum::Full,
        _ => AutoVacuum::Incremental,
    }
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's calling convention
fn page_size_bytes<S: serde::Serializer>(page_size: &PageSize, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u32(page_size.bytes())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn valid() -> [u8; HEADER_LEN] {
        let mut header = [0; HEADER_LEN];
        header[..16].copy_from_slice(MAGIC);
        header[16..24].copy_from_slice(&[0x10, 0, 2, 2, 0, 64, 32, 32]);
        header[59] = 1;
        header
    }

    #[test]
    fn page_size_one_means_65536() {
        let mut header = valid();
        header[16..18].copy_from_slice(&[0, 1]);
        assert_eq!(DatabaseHeader::parse(&header).unwrap().page_size.bytes(), 65_536);
    }

    #[test]
    fn fields_are_where_the_format_puts_them() {
        let mut header = valid();
        for at in [24, 28, 32, 36, 40, 44, 52, 60, 64, 68, 92, 96] {
            header[at + 3] = u8::try_from(at).unwrap();
        }
        let parsed = DatabaseHeader::parse(&header).unwrap();
        assert_eq!((parsed.change_counter, parsed.header_page_count), (24, 28));
        assert_eq!((parsed.freelist_trunk, parsed.freelist_pages), (32, 36));
        assert_eq!((parsed.schema_cookie, parsed.schema_format), (40, 44));
        assert_eq!((parsed.user_version, parsed.application_id), (60, 68));
        assert_eq!((parsed.version_valid_for, parsed.sqlite_version_number), (92, 96));
        assert_eq!(parsed.auto_vacuum, AutoVacuum::Incremental);
        assert_eq!(parsed.page_count(), None);
    }

    #[test]
    fn what_cannot_be_captured_is_named() {
        let damaged = |at: usize, byte: u8| {
            let mut header = valid();
            header[at] = byte;
            DatabaseHeader::parse(&header).unwrap_err()
        };
        assert_eq!(DatabaseHeader::parse(b"SQLite"), Err(HeaderError::TooShort { len: 6 }));
        assert_eq!(damaged(0, b's'), HeaderError::NoMagic);
        assert_eq!(damaged(17, 1), HeaderError::PageSize { field: 0x1001 });
        assert_eq!(damaged(18, 1), HeaderError::Versions { write: 1, read: 2 });
        assert_eq!(damaged(19, 3), HeaderError::Versions { write: 2, read: 3 });
        assert_eq!(damaged(59, 4), HeaderError::TextEncoding { field: 4 });
        let mut small = valid();
        small[16..18].copy_from_slice(&[2, 0]);
        small[20] = 33;
        assert_eq!(DatabaseHeader::parse(&small), Err(HeaderError::Reserved { reserved: 33 }));
    }

    proptest! {
        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = DatabaseHeader::parse(&bytes);
        }

        #[test]
        fn never_panics_behind_the_magic(tail in prop::collection::vec(any::<u8>(), 84..184)) {
            let bytes = [MAGIC.as_slice(), &tail].concat();
            if let Ok(header) = DatabaseHeader::parse(&bytes) {
                prop_assert_eq!(header.change_counter.to_be_bytes().to_vec(), bytes[24..28].to_vec());
            }
        }
    }
}
