//! The layout of an export: one JSON document, or a line for each piece of it.
//!
//! Rows stand on lines of their own in both, so that an export can be looked at, compared and searched.

use std::io::Write;

use serde::Serialize;

use super::references::{NotFollowed, Origin};
use super::schema::Column;
use super::values::{write_text, write_value};
use super::{ExportFormat, io_failed};
use crate::error::Result;

/// What the values that JSON has no form for look like, told in the document itself: its readers may have nothing else.
const ENCODING: &str =
    "blob_base64: bytes; text_base64: text that is not UTF-8; integer: beyond 2^53; real: infinite";

/// What was followed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Followed {
    /// The table whose rows refer.
    pub table: String,
    /// Its columns.
    pub columns: Vec<String>,
    /// The table they refer to.
    pub parent: String,
    /// Its columns.
    pub parent_columns: Vec<String>,
    /// Who says so.
    pub origin: Origin,
    /// Rows that were found by it first.
    pub rows: u64,
}

/// What an export says of itself before the tables.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Head<'a, S: Serialize> {
    pub(super) subject: Option<String>,
    pub(super) source: &'a S,
    pub(super) exported_at: jiff::Timestamp,
}

/// Writes an export piece by piece: head, tables with their rows, tail.
pub(super) struct Document<'a> {
    out: &'a mut dyn Write,
    format: ExportFormat,
    table: Option<String>,
    tables: u64,
    rows_of_table: u64,
    names: Vec<String>,
}

impl<'a> Document<'a> {
    pub(super) fn begin<S: Serialize>(
        out: &'a mut dyn Write,
        format: ExportFormat,
        head: &Head<'_, S>,
    ) -> Result<Self> {
        let mut document = Self { out, format, table: None, tables: 0, rows_of_table: 0, names: Vec::new() };
        let mut text = json(head)?;
        // One object: the head's closing brace gives way to what follows.
        text.pop();
        document.put(&text)?;
        document.put(",\"encoding\":")?;
        write_text(document.out, ENCODING)?;
        document.put(match format {
            ExportFormat::Json => ",\n\"tables\":{",
            ExportFormat::JsonLines => "}\n",
        })?;
        Ok(document)
    }

    pub(super) fn begin_table(&mut self, name: &str, columns: &[Column]) -> Result<()> {
        self.names.clear();
        for column in columns {
            self.names.push(json(&column.name)?);
        }
        let (name, columns) = (json(name)?, json(&columns)?);
        match self.format {
            ExportFormat::Json => {
                let comma = if self.tables > 0 { "," } else { "" };
                self.put(&format!("{comma}\n{name}:{{\"columns\":{columns},\"rows\":["))?;
            }
            ExportFormat::JsonLines => self.put(&format!("{{\"table\":{name},\"columns\":{columns}}}\n"))?,
        }
        self.table = Some(name);
        self.tables += 1;
        self.rows_of_table = 0;
        Ok(())
    }

    /// A row, whose values `write` writes, each when it is asked for by number.
    pub(super) fn row(&mut self, write: &mut dyn FnMut(usize, &mut dyn Write) -> Result<()>) -> Result<()> {
        match self.format {
            ExportFormat::Json => self.put(if self.rows_of_table > 0 { ",\n{" } else { "\n{" })?,
            ExportFormat::JsonLines => {
                let table = self.table.clone().unwrap_or_default();
                self.put(&format!("{{\"table\":{table},\"row\":{{"))?;
            }
        }
        for number in 0..self.names.len() {
            if number > 0 {
                self.put(",")?;
            }
            self.out.write_all(self.names[number].as_bytes()).map_err(io_failed)?;
            self.put(":")?;
            write(number, self.out)?;
        }
        self.rows_of_table += 1;
        self.put(match self.format {
            ExportFormat::Json => "}",
            ExportFormat::JsonLines => "}}\n",
        })
    }

    pub(super) fn end_table(&mut self) -> Result<()> {
        match self.format {
            ExportFormat::Json => self.put("]}"),
            ExportFormat::JsonLines => Ok(()),
        }
    }

    pub(super) fn finish(mut self, followed: &[Followed], not_followed: &[NotFollowed]) -> Result<()> {
        let (followed, not_followed) = (json(&followed)?, json(&not_followed)?);
        let open = match self.format {
            ExportFormat::Json => "},\n",
            ExportFormat::JsonLines => "{",
        };
        self.put(&format!("{open}\"followed\":{followed},\"not_followed\":{not_followed}}}\n"))?;
        self.out.flush().map_err(io_failed)
    }

    fn put(&mut self, text: &str) -> Result<()> {
        self.out.write_all(text.as_bytes()).map_err(io_failed)
    }
}

pub(super) fn json<T: Serialize + ?Sized>(value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|error| io_failed(error.into()))
}

/// Writes a value that is at hand in a row.
pub(super) fn at_hand(out: &mut dyn Write, row: &rusqlite::Row<'_>, column: usize) -> Result<()> {
    let value = row.get_ref(column).map_err(|error| io_failed(std::io::Error::other(error)))?;
    write_value(out, value)
}
