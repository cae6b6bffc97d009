//! Rows that were found, by their keys: in the order they were found, each once.

use std::collections::HashSet;
use std::rc::Rc;

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Row, Statement};

use super::schema::RowKey;

/// The rows of one table. About 25 bytes for a row that has a rowid; key and 50 bytes for one that has not.
#[derive(Debug)]
pub(super) enum RowSet {
    Rowids { order: Vec<i64>, seen: HashSet<i64> },
    Keys { width: usize, order: Vec<Rc<[u8]>>, seen: HashSet<Rc<[u8]>> },
}

impl RowSet {
    pub(super) fn new(key: &RowKey) -> Self {
        match key {
            RowKey::Rowid(_) => Self::Rowids { order: Vec::new(), seen: HashSet::new() },
            RowKey::Columns(names) => {
                Self::Keys { width: names.len(), order: Vec::new(), seen: HashSet::new() }
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Rowids { order, .. } => order.len(),
            Self::Keys { order, .. } => order.len(),
        }
    }

    /// How many columns of a result a key takes.
    pub(super) const fn width(&self) -> usize {
        match self {
            Self::Rowids { .. } => 1,
            Self::Keys { width, .. } => *width,
        }
    }

    /// Takes the key that begins at column `from` of `row`; whether it is new.
    pub(super) fn insert(&mut self, row: &Row<'_>, from: usize) -> rusqlite::Result<bool> {
        Ok(match self {
            Self::Rowids { order, seen } => {
                let rowid = row.get(from)?;
                let new = seen.insert(rowid);
                if new {
                    order.push(rowid);
                }
                new
            }
            Self::Keys { width, order, seen } => {
                let key: Rc<[u8]> = encode(row, from, *width)?.into();
                let new = seen.insert(Rc::clone(&key));
                if new {
                    order.push(key);
                }
                new
            }
        })
    }

    /// Whether the key that begins at column `from` of `row` is here.
    pub(super) fn contains(&self, row: &Row<'_>, from: usize) -> rusqlite::Result<bool> {
        Ok(match self {
            Self::Rowids { seen, .. } => seen.contains(&row.get(from)?),
            Self::Keys { width, seen, .. } => seen.contains(encode(row, from, *width)?.as_slice()),
        })
    }

    /// Gives key `position` to the first parameters of `statement`.
    pub(super) fn bind(&self, position: usize, statement: &mut Statement<'_>) -> rusqlite::Result<()> {
        match self {
            Self::Rowids { order, .. } => statement.raw_bind_parameter(1, order.get(position))?,
            Self::Keys { order, .. } => {
                let values = order.get(position).map(|key| decode(key)).unwrap_or_default();
                for (number, value) in (1..).zip(values) {
                    statement.raw_bind_parameter(number, ToSqlOutput::Borrowed(value))?;
                }
            }
        }
        Ok(())
    }

    /// Puts rowids in ascending order, in which a table is read best. Only when nothing is followed any more.
    pub(super) fn sort(&mut self) {
        if let Self::Rowids { order, .. } = self {
            order.sort_unstable();
        }
    }
}

/// One byte of storage class, then eight of a number or a length, then the bytes.
fn encode(row: &Row<'_>, from: usize, width: usize) -> rusqlite::Result<Vec<u8>> {
    let mut key = Vec::new();
    for column in from..from + width {
        let (class, number, bytes): (u8, u64, &[u8]) = match row.get_ref(column)? {
            ValueRef::Null => (0, 0, &[]),
            ValueRef::Integer(number) => (1, number.cast_unsigned(), &[]),
            ValueRef::Real(number) => (2, number.to_bits(), &[]),
            ValueRef::Text(text) => (3, text.len() as u64, text),
            ValueRef::Blob(blob) => (4, blob.len() as u64, blob),
        };
        key.push(class);
        key.extend_from_slice(&number.to_le_bytes());
        key.extend_from_slice(bytes);
    }
    Ok(key)
}

fn decode(mut key: &[u8]) -> Vec<ValueRef<'_>> {
    let mut values = Vec::new();
    while let Some((&class, rest)) = key.split_first() {
        let Some((number, rest)) = rest.split_first_chunk() else { break };
        let number = u64::from_le_bytes(*number);
        let len = if class > 2 { usize::try_from(number).unwrap_or(usize::MAX).min(rest.len()) } else { 0 };
        let (bytes, rest) = rest.split_at(len);
        key = rest;
        values.push(match class {
            1 => ValueRef::Integer(number.cast_signed()),
            2 => ValueRef::Real(f64::from_bits(number)),
            3 => ValueRef::Text(bytes),
            4 => ValueRef::Blob(bytes),
            _ => ValueRef::Null,
        });
    }
    values
}
