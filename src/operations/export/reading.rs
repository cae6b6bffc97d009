//! From rows to the document, one at a time; large values piece by piece.

use std::io::Write;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, MAIN_DB, Row};

use super::document::{Document, at_hand};
use super::io_failed;
use super::rows::RowSet;
use super::schema::{RowKey, Table};
use super::source::{Failure, Pace};
use super::values::{copy_base64, copy_text};
use super::words::quoted;
use crate::error::Result;

/// Values of more bytes than this are read in pieces.
const LARGE: usize = 1 << 20;

/// `SQLite` returns 2,000 columns at most; there are two for each of the table's where large values are looked for.
const MOST_COLUMNS: usize = 900;

/// Reads rows of a database.
pub(super) struct Reader<'a> {
    connection: &'a Connection,
    pace: &'a Pace<'a>,
    /// Text is stored as it is written: UTF-8.
    is_utf8: bool,
}

impl<'a> Reader<'a> {
    pub(super) fn new(connection: &'a Connection, pace: &'a Pace<'a>) -> Result<Self, Failure> {
        let encoding: String = connection.query_row("PRAGMA encoding", (), |row| row.get(0))?;
        Ok(Self { connection, pace, is_utf8: encoding == "UTF-8" })
    }

    /// Writes all rows of `table`; how many there were.
    pub(super) fn all(&self, table: &Table, document: &mut Document<'_>) -> Result<u64, Failure> {
        let columns = Columns::of(table);
        document.begin_table(&table.name, &table.columns)?;
        let mut statement = self.connection.prepare(&columns.select())?;
        let mut rows = statement.query(())?;
        let mut count = 0;
        while let Some(row) = rows.next()? {
            self.write(row, &columns, document)?;
            count += 1;
        }
        document.end_table()?;
        Ok(count)
    }

    /// Writes the rows of `table` that are in `rows`.
    pub(super) fn some(
        &self,
        table: &Table,
        rows: &RowSet,
        document: &mut Document<'_>,
    ) -> Result<u64, Failure> {
        let columns = Columns::of(table);
        document.begin_table(&table.name, &table.columns)?;
        let sql = format!("{} WHERE {}", columns.select(), table.key.condition("t", 1));
        let mut statement = self.connection.prepare(&sql)?;
        let mut count = 0;
        for position in 0..rows.len() {
            rows.bind(position, &mut statement)?;
            let mut found = statement.raw_query();
            while let Some(row) = found.next()? {
                self.write(row, &columns, document)?;
                count += 1;
            }
        }
        document.end_table()?;
        Ok(count)
    }

    fn write(
        &self,
        row: &Row<'_>,
        columns: &Columns<'_>,
        document: &mut Document<'_>,
    ) -> Result<(), Failure> {
        self.pace.still_allowed()?;
        Ok(document.row(&mut |column, out| match columns.large(row, column) {
            Some((rowid, placeholder)) => self.write_large(out, columns.table, column, rowid, placeholder),
            None => at_hand(out, row, column),
        })?)
    }

    fn write_large(
        &self,
        out: &mut dyn Write,
        table: &Table,
        column: usize,
        rowid: i64,
        placeholder: ValueRef<'_>,
    ) -> Result<()> {
        let name = table.columns[column].name.as_str();
        let open = || {
            let blob = self.connection.blob_open(MAIN_DB, table.name.as_str(), name, rowid, true);
            blob.map_err(std::io::Error::other)
        };
        let is_text = matches!(placeholder, ValueRef::Text(_));
        if !is_text || self.is_utf8 {
            let written = if is_text {
                copy_text(out, open).and_then(|whole| {
                    if whole { Ok(()) } else { copy_base64(out, "text_base64", &mut open()?) }
                })
            } else {
                open().and_then(|mut blob| copy_base64(out, "blob_base64", &mut blob))
            };
            return written.map_err(io_failed);
        }
        // Text of another encoding is for SQLite to convert, in one piece.
        let sql = format!("SELECT {} FROM {} WHERE rowid = ?1", quoted(name), quoted(&table.name));
        let mut statement =
            self.connection.prepare(&sql).map_err(|error| io_failed(std::io::Error::other(error)))?;
        let mut rows = statement.query([rowid]).map_err(|error| io_failed(std::io::Error::other(error)))?;
        match rows.next().map_err(|error| io_failed(std::io::Error::other(error)))? {
            Some(row) => at_hand(out, row, 0),
            None => Ok(out.write_all(b"null").map_err(io_failed)?),
        }
    }
}

/// What is asked of each row.
struct Columns<'t> {
    table: &'t Table,
    /// Name of the rowid, if large values can be read in pieces: not in tables without rowids, in virtual tables, and where
    /// columns are computed.
    pieces: Option<&'static str>,
}

impl<'t> Columns<'t> {
    fn of(table: &'t Table) -> Self {
        let able = !table.is_virtual && !table.has_generated && table.columns.len() <= MOST_COLUMNS;
        let pieces = match table.key {
            RowKey::Rowid(alias) if able => Some(alias),
            _ => None,
        };
        Self { table, pieces }
    }

    /// The values, an empty one of the same class in place of each large one; then whether they are; then the rowid.
    fn select(&self) -> String {
        let names: Vec<String> =
            self.table.columns.iter().map(|column| format!("t.{}", quoted(&column.name))).collect();
        let mut asked: Vec<String> = names.clone();
        if let Some(rowid) = self.pieces {
            asked = names
                .iter()
                .map(|name| {
                    format!(
                        "CASE WHEN octet_length({name}) > {LARGE} THEN \
                         CASE typeof({name}) WHEN 'text' THEN '' ELSE zeroblob(0) END ELSE {name} END"
                    )
                })
                .collect();
            asked.extend(names.iter().map(|name| format!("octet_length({name}) > {LARGE}")));
            asked.push(format!("t.{rowid}"));
        }
        format!("SELECT {} FROM {} AS t", asked.join(", "), quoted(&self.table.name))
    }

    /// The rowid and the placeholder of a large value.
    fn large<'r>(&self, row: &'r Row<'_>, column: usize) -> Option<(i64, ValueRef<'r>)> {
        self.pieces?;
        let count = self.table.columns.len();
        let is_large: Option<bool> = row.get(count + column).ok()?;
        let rowid = row.get(2 * count).ok()?;
        is_large?.then(|| row.get_ref(column).ok().map(|placeholder| (rowid, placeholder)))?
    }
}
