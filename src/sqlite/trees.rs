//! Which tables lie on pages that cannot be read: the trees of a database are walked as far as they can be, without `SQLite`,
//! which gives up at the first page that is not there (`SQLite` file format, sections 1.6 and 2.6).

use std::collections::{BTreeSet, HashSet};
use std::ops::Range;

use crate::page_source::PageSource;

/// Pages that are walked at most: damage is to be named, not measured.
const MAX_PAGES: u32 = 4 << 20;
/// Bytes of the database header, which precede the tree on page 1.
const HEADER_LEN: usize = 100;

/// What of a database is harmed by pages that cannot be read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HarmedTables {
    /// Tables, with their indexes, that have such pages, or pages below them.
    pub tables: BTreeSet<String>,
    /// Whether the schema itself could be read; if not, there may be other tables, and all may be harmed.
    pub schema_is_whole: bool,
}

/// Finds the tables that `lost` (ranges of the image in bytes) harms.
pub fn harmed_tables(source: &mut dyn PageSource, lost: &[Range<u64>]) -> HarmedTables {
    let page_size = u64::from(source.geometry().page_size.bytes());
    let is_lost = |page: u32| {
        let start = u64::from(page.saturating_sub(1)) * page_size;
        lost.iter().any(|range| range.start < start + page_size && start < range.end)
    };
    let mut walk = Walk { source, is_lost: &is_lost, seen: HashSet::new(), usable: 0, encoding: 1 };
    walk.read_header();
    let mut entries = Vec::new();
    let mut harmed =
        HarmedTables { schema_is_whole: walk.tree(1, &mut Some(&mut entries)), ..Default::default() };
    for record in entries {
        let Some((table, root)) = schema_entry(&record, walk.encoding) else { continue };
        if root > 1 && !walk.tree(root, &mut None) {
            harmed.tables.insert(table);
        }
    }
    harmed
}

enum Payload {
    Whole(Vec<u8>),
    Cut,
}

struct Walk<'a> {
    source: &'a mut dyn PageSource,
    is_lost: &'a dyn Fn(u32) -> bool,
    seen: HashSet<u32>,
    /// Bytes of a page without what is reserved.
    usable: usize,
    encoding: u8,
}

impl Walk<'_> {
    fn read_header(&mut self) {
        let Some(page) = self.page(1) else { return };
        self.usable = page.len() - usize::from(page[20]);
        self.encoding = page[59];
    }

    fn page(&mut self, number: u32) -> Option<Vec<u8>> {
        let geometry = self.source.geometry();
        if number == 0 || number > geometry.page_count || (self.is_lost)(number) {
            return None;
        }
        let mut page = vec![0; geometry.page_size.bytes() as usize];
        self.source.read_pages(number - 1, &mut page).ok().map(|()| page)
    }

    /// Whether all pages of the tree at `root` can be read; payloads of leaves go to `payloads`.
    fn tree(&mut self, root: u32, payloads: &mut Option<&mut Vec<Vec<u8>>>) -> bool {
        let mut whole = true;
        let mut waiting = vec![root];
        while let Some(number) = waiting.pop() {
            if self.seen.len() >= MAX_PAGES as usize || !self.seen.insert(number) {
                continue;
            }
            let page = self.page(number);
            match page.and_then(|page| self.children(number, &page, &mut waiting, payloads)) {
                Some(complete) => whole &= complete,
                None => whole = false,
            }
        }
        whole
    }

    /// The pages below one, and whether its overflow chains are whole; `None` if it is no page of a tree.
    fn children(
        &mut self,
        number: u32,
        page: &[u8],
        waiting: &mut Vec<u32>,
        payloads: &mut Option<&mut Vec<Vec<u8>>>,
    ) -> Option<bool> {
        let at = if number == 1 { HEADER_LEN } else { 0 };
        let kind = *page.get(at)?;
        let (is_interior, is_table) = match kind {
            2 => (true, false),
            5 => (true, true),
            10 => (false, false),
            13 => (false, true),
            _ => return None,
        };
        let mut whole = true;
        let cells = u16_at(page, at + 3)?;
        let pointers = at + if is_interior { 12 } else { 8 };
        for cell in 0..usize::from(cells) {
            let mut cell = usize::from(u16_at(page, pointers + 2 * cell)?);
            if is_interior {
                waiting.push(u32_at(page, cell)?);
                cell += 4;
            }
            if is_interior && is_table {
                continue;
            }
            let (len, used) = varint(page.get(cell..)?)?;
            cell += used;
            if is_table {
                cell += varint(page.get(cell..)?)?.1;
            }
            let payload =
                self.payload(page, cell, usize::try_from(len).ok()?, is_table, payloads.is_some())?;
            match (payload, &mut *payloads) {
                (Payload::Whole(payload), Some(payloads)) => payloads.push(payload),
                (Payload::Whole(_), None) => {}
                (Payload::Cut, _) => whole = false,
            }
        }
        if is_interior {
            waiting.push(u32_at(page, at + 8)?);
        }
        Some(whole)
    }

    /// The payload of a cell, empty unless it is wanted; cut if a page of its overflow chain cannot be read.
    fn payload(
        &mut self,
        page: &[u8],
        at: usize,
        len: usize,
        is_table: bool,
        is_wanted: bool,
    ) -> Option<Payload> {
        let usable = self.usable;
        let most = if is_table {
            usable.checked_sub(35)?
        } else {
            (usable.checked_sub(12)? * 64 / 255).checked_sub(23)?
        };
        if len <= most {
            let payload = page.get(at..at + len)?;
            return Some(Payload::Whole(if is_wanted { payload.to_vec() } else { Vec::new() }));
        }
        let least = (usable - 12) * 32 / 255 - 23;
        let local = least + (len - least) % (usable - 4);
        let local = if local <= most { local } else { least };
        let mut payload = page.get(at..at + local)?.to_vec();
        let mut next = u32_at(page, at + local)?;
        let mut rest = len - local;
        while rest > 0 {
            if next == 0 || !self.seen.insert(next) {
                return Some(Payload::Cut);
            }
            let Some(page) = self.page(next) else { return Some(Payload::Cut) };
            let here = rest.min(usable - 4);
            if is_wanted {
                payload.extend_from_slice(page.get(4..4 + here)?);
            }
            rest -= here;
            next = u32_at(&page, 0)?;
        }
        Some(Payload::Whole(payload))
    }
}

/// Table and root page of a row of `sqlite_schema`: type, name, table's name, root page, SQL.
fn schema_entry(record: &[u8], encoding: u8) -> Option<(String, u32)> {
    let (header_len, mut at) = varint(record)?;
    let mut value = usize::try_from(header_len).ok()?;
    let mut columns = Vec::new();
    while at < usize::try_from(header_len).ok()? && columns.len() < 4 {
        let (kind, used) = varint(record.get(at..)?)?;
        at += used;
        let len = match kind {
            0 | 8 | 9 => 0,
            1..=4 => usize::try_from(kind).ok()?,
            5 => 6,
            6 | 7 => 8,
            kind => usize::try_from((kind - 12) / 2).ok()?,
        };
        columns.push((kind, record.get(value..value.checked_add(len)?)?));
        value += len;
    }
    let root = match *columns.get(3)? {
        (9, _) => 1,
        (1..=6, bytes) => bytes.iter().fold(0u64, |number, byte| (number << 8) | u64::from(*byte)),
        _ => 0,
    };
    Some((text(columns.get(2)?.1, encoding), u32::try_from(root).ok()?))
}

fn text(bytes: &[u8], encoding: u8) -> String {
    let pairs = |read: fn([u8; 2]) -> u16| {
        let units: Vec<u16> = bytes.as_chunks::<2>().0.iter().map(|pair| read(*pair)).collect();
        String::from_utf16_lossy(&units)
    };
    match encoding {
        2 => pairs(u16::from_le_bytes),
        3 => pairs(u16::from_be_bytes),
        _ => String::from_utf8_lossy(bytes).into_owned(),
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|bytes| u16::from_be_bytes(*bytes))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}

/// `SQLite`'s variable-length integer, and how many bytes it takes.
fn varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut value = 0u64;
    for (position, byte) in bytes.iter().take(9).enumerate() {
        if position == 8 {
            return Some(((value << 8) | u64::from(*byte), 9));
        }
        value = (value << 7) | u64::from(byte & 0x7F);
        if byte & 0x80 == 0 {
            return Some((value, position + 1));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sqlite::MemoryImage;

    fn image(encoding: &str) -> (Vec<u8>, Vec<(String, BTreeSet<u32>)>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        let db = rusqlite::Connection::open(&path).unwrap();
        db.execute_batch(&format!("PRAGMA encoding = '{encoding}'; PRAGMA page_size = 1024;")).unwrap();
        for table in ["one", "Zwei ü"] {
            db.execute_batch(&format!(
                "CREATE TABLE \"{table}\"(id INTEGER PRIMARY KEY, a TEXT, b BLOB); CREATE INDEX \"i {table}\" ON \"{table}\"(a);
                 WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 400)
                 INSERT INTO \"{table}\" SELECT i, 'text ' || i, zeroblob(i * 11) FROM n;"
            ))
            .unwrap();
        }
        // What the database itself says of its pages, where it can.
        let statement = "SELECT s.tbl_name, d.pageno FROM dbstat d JOIN sqlite_schema s ON s.name = d.name";
        let mut pages: std::collections::BTreeMap<String, BTreeSet<u32>> = std::collections::BTreeMap::new();
        if let Ok(mut statement) = db.prepare(statement) {
            let mut rows = statement.query(()).unwrap();
            while let Some(row) = rows.next().unwrap() {
                pages.entry(row.get(0).unwrap()).or_default().insert(row.get(1).unwrap());
            }
        }
        drop(db);
        (std::fs::read(path).unwrap(), pages.into_iter().collect())
    }

    #[test]
    fn every_lost_page_is_that_of_its_table() {
        for encoding in ["UTF-8", "UTF-16le", "UTF-16be"] {
            let (bytes, tables) = image(encoding);
            let pages = bytes.len() as u64 / 1024;
            let mut counts = [0; 3];
            for page in 1..=pages {
                let mut source = MemoryImage::new(bytes.clone()).unwrap();
                let lost = (page - 1) * 1024..page * 1024;
                let harmed = harmed_tables(&mut source, std::slice::from_ref(&lost));
                assert_eq!(harmed.schema_is_whole, page != 1);
                counts[harmed.tables.len()] += 1;
                for (table, own) in &tables {
                    let is_own = own.contains(&u32::try_from(page).unwrap());
                    assert_eq!(harmed.tables.contains(table), is_own, "page {page} of {table}");
                }
            }
            assert!(counts[1] > 100 && counts[2] == 0, "{counts:?}");
        }
    }

    #[test]
    fn nonsense_harms_nobody_here() {
        let (mut bytes, _) = image("UTF-8");
        for at in (0..bytes.len()).step_by(37) {
            bytes[at] = bytes[at].wrapping_mul(31).wrapping_add(7);
        }
        bytes[..16].copy_from_slice(b"SQLite format 3\0");
        if let Ok(mut source) = MemoryImage::new(bytes) {
            harmed_tables(&mut source, &[]);
        }
    }
}
