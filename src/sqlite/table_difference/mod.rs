//! In which rows two databases differ, table by table: both are read in the order of their keys and merged, so that
//! never more than a row of each is held.
//!
//! A row is known by its rowid, or by its primary key where a table has no rowids. In a table whose primary key is not
//! the rowid, a row that was deleted and inserted again under another rowid is therefore one removed and one added.

mod merge;

use std::collections::BTreeMap;

use rusqlite::Connection;
use rusqlite::ffi::ErrorCode;

use self::merge::{Counts, Key, Reading};
use super::error::error_code;

/// What becomes of a table on the way from one database to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TableChange {
    /// Only the second has it.
    Added,
    /// Only the first has it.
    Removed,
    /// Both have it, with other rows.
    Changed,
}

/// A table that is not the same in two databases.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct TableDifference {
    /// Its name.
    pub table: String,
    /// What becomes of it.
    pub change: TableChange,
    /// Rows that only the second has.
    pub rows_added: u64,
    /// Rows that only the first has.
    pub rows_removed: u64,
    /// Rows that both have, with other values in the columns that both have.
    pub rows_changed: u64,
}

/// A table whose rows are not compared.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct NotCompared {
    /// Its name; none where it is about all of them.
    pub table: Option<String>,
    /// Why, and what is known all the same.
    pub reason: String,
}

/// In what two databases differ.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct TableDifferences {
    /// Tables with other rows, by name.
    pub tables: Vec<TableDifference>,
    /// Tables of which that is not known.
    pub not_compared: Vec<NotCompared>,
}

/// Which of two databases something is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The first.
    From,
    /// The second.
    To,
}

/// Why two databases could not be compared.
#[derive(Debug)]
pub enum CompareError {
    /// One of them cannot be read.
    Sqlite(Side, rusqlite::Error),
    /// The caller said that it should not go on.
    Stopped,
}

/// Compares all tables of two databases, `SQLite`'s own (`sqlite_sequence`, `sqlite_stat1`) included; asks `go_on` now and
/// then.
///
/// # Errors
/// A file cannot be read, or `go_on` said no. A table that cannot be compared is no error.
pub fn compare_tables(
    from: &Connection,
    to: &Connection,
    go_on: &dyn Fn() -> bool,
) -> Result<TableDifferences, CompareError> {
    let both = Both { from, to, go_on };
    let listed = [(Side::From, from), (Side::To, to)]
        .map(|(side, connection)| list(connection).map_err(|error| CompareError::Sqlite(side, error)));
    let [listed_from, listed_to] = listed;
    let (listed_from, listed_to) = (listed_from?, listed_to?);
    let mut names: Vec<&String> = listed_from.keys().chain(listed_to.keys()).collect();
    names.sort();
    names.dedup();
    let mut found = TableDifferences::default();
    // Tables in which virtual ones keep their data, and whether they differ.
    let mut shadows: Vec<(&String, bool)> = Vec::new();
    for name in names {
        match (listed_from.get(name), listed_to.get(name)) {
            (Some(one), Some(other)) if one.kind == Kind::Shadow && other.kind == Kind::Shadow => {
                let same = both.rows(one, other, true)?;
                shadows.push((name, same.is_none_or(|counts| counts == Counts::default())));
            }
            (Some(one), Some(other)) if one.kind == Kind::Plain && other.kind == Kind::Plain => {
                both.table(one, other, &mut found)?;
            }
            (Some(one), Some(other)) if one.kind != other.kind => {
                found.leave(
                    &other.name,
                    format!("it is {} instead of {}", other.kind.words(), one.kind.words()),
                );
            }
            (Some(one), None) if one.kind != Kind::Shadow => {
                both.alone(Side::From, one, &mut found)?;
            }
            (None, Some(other)) if other.kind != Kind::Shadow => {
                both.alone(Side::To, other, &mut found)?;
            }
            _ => {}
        }
    }
    for (name, table) in &listed_to {
        let known = listed_from.get(name).is_some_and(|other| other.kind == Kind::Virtual);
        if known && table.kind == Kind::Virtual {
            found.judge_virtual(name, table, &shadows);
        }
    }
    found.tables.sort_by(|one, other| one.table.cmp(&other.table));
    found.not_compared.sort_by(|one, other| one.table.cmp(&other.table));
    Ok(found)
}

impl TableDifferences {
    fn leave(&mut self, table: &str, reason: impl Into<String>) {
        self.not_compared.push(NotCompared { table: Some(table.to_owned()), reason: reason.into() });
    }

    /// A virtual table has no rows of its own; what it stores, it stores in other tables.
    fn judge_virtual(&mut self, name: &str, table: &Listed, shadows: &[(&String, bool)]) {
        let mut own = shadows
            .iter()
            .filter(|(shadow, _)| shadow.strip_prefix(name).is_some_and(|rest| rest.starts_with('_')));
        let any = own.clone().next().is_some();
        if !any {
            self.leave(
                &table.name,
                "it is a virtual table, and what it gives is not in tables that are known to be its own",
            );
        } else if own.any(|(_, same)| !same) {
            self.leave(
                &table.name,
                "it is a virtual table: the tables in which it stores its data differ, but its rows are not counted",
            );
        }
    }
}

/// What kind of table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    Virtual,
    /// In which a virtual table keeps its data.
    Shadow,
}

impl Kind {
    const fn words(self) -> &'static str {
        match self {
            Self::Plain => "a table",
            Self::Virtual => "a virtual table",
            Self::Shadow => "a part of a virtual table",
        }
    }
}

/// A table as the schema lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Listed {
    name: String,
    kind: Kind,
    without_rowid: bool,
}

/// The tables of `main` by their names in small letters, as `SQLite` compares names.
fn list(connection: &Connection) -> rusqlite::Result<BTreeMap<String, Listed>> {
    let sql = "SELECT name, type, wr FROM pragma_table_list \
               WHERE schema = 'main' AND type <> 'view' AND name <> 'sqlite_schema'";
    let mut statement = connection.prepare(sql)?;
    let listed = statement.query_map((), |row| {
        let kind = match row.get_ref(1)?.as_str().unwrap_or_default() {
            "virtual" => Kind::Virtual,
            "shadow" => Kind::Shadow,
            _ => Kind::Plain,
        };
        let name: String = row.get(0)?;
        Ok((name.to_ascii_lowercase(), Listed { name, kind, without_rowid: row.get(2)? }))
    })?;
    listed.collect()
}

struct Both<'a> {
    from: &'a Connection,
    to: &'a Connection,
    go_on: &'a dyn Fn() -> bool,
}

impl Both<'_> {
    fn side(&self, side: Side) -> &Connection {
        match side {
            Side::From => self.from,
            Side::To => self.to,
        }
    }

    /// A table that only one side has.
    fn alone(&self, side: Side, table: &Listed, found: &mut TableDifferences) -> Result<(), CompareError> {
        let sql = format!("SELECT count(*) FROM main.{}", merge::quoted(&table.name));
        let counted = self.side(side).query_row(&sql, (), |row| row.get::<_, i64>(0));
        let rows = match counted {
            Ok(rows) => rows.unsigned_abs(),
            Err(error) => {
                let reason = tolerable(side, error)?;
                found.leave(&table.name, format!("its rows cannot be counted: {reason}"));
                0
            }
        };
        let (change, rows_added, rows_removed) = match side {
            Side::From => (TableChange::Removed, 0, rows),
            Side::To => (TableChange::Added, rows, 0),
        };
        found.tables.push(TableDifference {
            table: table.name.clone(),
            change,
            rows_added,
            rows_removed,
            rows_changed: 0,
        });
        Ok(())
    }

    /// A table that both have.
    fn table(&self, one: &Listed, other: &Listed, found: &mut TableDifferences) -> Result<(), CompareError> {
        let counted = match self.read(one, other)? {
            Ok((from, to)) => self.merge(&from, &to, false)?,
            Err(reason) => Err(reason),
        };
        match counted {
            Ok(Counts { added: 0, removed: 0, changed: 0 }) => {}
            Ok(Counts { added, removed, changed }) => found.tables.push(TableDifference {
                table: other.name.clone(),
                change: TableChange::Changed,
                rows_added: added,
                rows_removed: removed,
                rows_changed: changed,
            }),
            Err(reason) => found.leave(&other.name, reason),
        }
        Ok(())
    }

    /// The counts of a table, up to the first difference; `None` if it cannot be compared.
    fn rows(&self, one: &Listed, other: &Listed, first_only: bool) -> Result<Option<Counts>, CompareError> {
        match self.read(one, other)? {
            Ok((from, to)) => Ok(self.merge(&from, &to, first_only)?.ok()),
            Err(_) => Ok(None),
        }
    }

    /// How both sides are read, or why they cannot be merged.
    fn read(&self, one: &Listed, other: &Listed) -> Result<Result<(Reading, Reading), String>, CompareError> {
        let read = |side, table: &Listed| -> Result<Result<Reading, String>, CompareError> {
            match Reading::of(self.side(side), &table.name, table.without_rowid) {
                Ok(reading) => Ok(reading),
                Err(error) => tolerable(side, error).map(Err),
            }
        };
        let (mut from, mut to) = match (read(Side::From, one)?, read(Side::To, other)?) {
            (Ok(from), Ok(to)) => (from, to),
            (Err(reason), _) | (_, Err(reason)) => return Ok(Err(reason)),
        };
        if from.key.is_other_than(&to.key) {
            return Ok(Err(format!(
                "its rows are told apart by {} instead of {}",
                to.key.words(),
                from.key.words()
            )));
        }
        if matches!(from.key, Key::Primary(_)) && from.encoding != to.encoding {
            return Ok(Err(
                "its rows are in another order, for text is stored in another encoding".to_owned()
            ));
        }
        from.keep_common(&mut to);
        Ok(Ok((from, to)))
    }

    fn merge(
        &self,
        from: &Reading,
        to: &Reading,
        first_only: bool,
    ) -> Result<Result<Counts, String>, CompareError> {
        match merge::merge(self, from, to, first_only) {
            Ok(counts) => Ok(Ok(counts)),
            Err(CompareError::Sqlite(side, error)) => tolerable(side, error).map(Err),
            Err(error) => Err(error),
        }
    }
}

/// The reason for leaving a table out, if `error` is about that table: something of the application is missing, or it is
/// damaged. Anything else ends the work.
fn tolerable(side: Side, error: rusqlite::Error) -> Result<String, CompareError> {
    match error_code(&error) {
        Some(ErrorCode::Unknown) => Ok(match error {
            rusqlite::Error::SqlInputError { msg, .. } => msg,
            error => error.to_string(),
        }),
        Some(ErrorCode::DatabaseCorrupt) => Ok("it is damaged".to_owned()),
        _ => Err(CompareError::Sqlite(side, error)),
    }
}

#[cfg(test)]
mod tests;
