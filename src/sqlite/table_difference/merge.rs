//! One table of two databases, read in the order of its keys.

use std::cmp::Ordering;
use std::fmt::Write as _;

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, Row, Statement, ToSql};

use super::{Both, CompareError, Side};

/// Rows between two questions whether to go on.
const ROWS_PER_QUESTION: u64 = 1024;

/// A name as SQL takes it, whatever is in it.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// How many rows differ, and how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) added: u64,
    pub(super) removed: u64,
    pub(super) changed: u64,
}

impl Counts {
    const fn any(self) -> bool {
        self.added + self.removed + self.changed > 0
    }
}

/// What tells a row of a table from the others, and in which order they are stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Key {
    /// The rowid, under a name that no column has.
    Rowid(&'static str),
    /// The primary key of a table without rowids.
    Primary(Vec<KeyColumn>),
}

/// A column of a primary key as it is ordered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KeyColumn {
    name: String,
    collation: String,
    descending: bool,
}

impl Key {
    /// Under what name the rowid is asked for does not matter.
    pub(super) fn is_other_than(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Rowid(_), Self::Rowid(_)) => false,
            (one, other) => one != other,
        }
    }

    pub(super) fn words(&self) -> String {
        match self {
            Self::Rowid(_) => "their rowid".to_owned(),
            Self::Primary(columns) => {
                let word = |column: &KeyColumn| {
                    let order = if column.descending { " DESC" } else { "" };
                    format!("{} COLLATE {}{order}", column.name, column.collation)
                };
                format!("the primary key ({})", columns.iter().map(word).collect::<Vec<_>>().join(", "))
            }
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Rowid(_) => 1,
            Self::Primary(columns) => columns.len(),
        }
    }
}

/// How one side's table is read.
#[derive(Debug, Clone)]
pub(super) struct Reading {
    table: String,
    pub(super) key: Key,
    /// Its stored columns; what is computed follows from them.
    columns: Vec<String>,
    pub(super) encoding: String,
}

impl Reading {
    /// What `main` says of a table, or why its rows cannot be put in order.
    pub(super) fn of(
        connection: &Connection,
        table: &str,
        without_rowid: bool,
    ) -> rusqlite::Result<Result<Self, String>> {
        let encoding = connection.query_row("PRAGMA encoding", (), |row| row.get(0))?;
        let sql = "SELECT name, hidden FROM pragma_table_xinfo(?1) ORDER BY cid";
        let mut statement = connection.prepare(sql)?;
        let rows = statement.query_map([table], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let all: Vec<(String, u32)> = rows.collect::<rusqlite::Result<_>>()?;
        let key = if without_rowid {
            Key::Primary(primary_key(connection, table)?)
        } else {
            let taken = |alias: &&str| all.iter().any(|(column, _)| column.eq_ignore_ascii_case(alias));
            match ["rowid", "_rowid_", "oid"].into_iter().find(|alias| !taken(alias)) {
                Some(alias) => Key::Rowid(alias),
                None => return Ok(Err("its columns hide every name of the rowid".to_owned())),
            }
        };
        let columns = all.into_iter().filter(|(_, hidden)| *hidden == 0).map(|(name, _)| name).collect();
        Ok(Ok(Self { table: table.to_owned(), key, columns, encoding }))
    }

    /// Only columns of the same name can be compared.
    pub(super) fn keep_common(&mut self, other: &mut Self) {
        let pairs: Vec<(String, String)> = self
            .columns
            .drain(..)
            .filter_map(|mine| {
                let theirs = other.columns.iter().find(|theirs| theirs.eq_ignore_ascii_case(&mine))?.clone();
                Some((mine, theirs))
            })
            .collect();
        (self.columns, other.columns) = pairs.into_iter().unzip();
    }

    fn sql(&self) -> String {
        let (mut wanted, order): (Vec<String>, String) = match &self.key {
            Key::Rowid(alias) => (vec![(*alias).to_owned()], (*alias).to_owned()),
            Key::Primary(columns) => {
                let order = columns.iter().map(|column| {
                    let direction = if column.descending { "DESC" } else { "ASC" };
                    format!("{} COLLATE {} {direction}", quoted(&column.name), quoted(&column.collation))
                });
                let names = columns.iter().map(|column| quoted(&column.name));
                (names.collect(), order.collect::<Vec<_>>().join(", "))
            }
        };
        wanted.extend(self.columns.iter().map(|column| quoted(column)));
        format!("SELECT {} FROM main.{} ORDER BY {order}", wanted.join(", "), quoted(&self.table))
    }

    /// The statement that reads it in the order in which it is stored; a sort would hold all of it.
    fn prepare<'c>(&self, connection: &'c Connection) -> rusqlite::Result<Statement<'c>> {
        let sql = self.sql();
        let mut explain = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}"))?;
        let mut steps = explain.query(())?;
        while let Some(step) = steps.next()? {
            if step.get_ref(3)?.as_str().is_ok_and(|step| step.contains("TEMP B-TREE")) {
                let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_ERROR);
                let message = "its rows cannot be read in the order of their key".to_owned();
                return Err(rusqlite::Error::SqliteFailure(code, Some(message)));
            }
        }
        connection.prepare(&sql)
    }
}

fn primary_key(connection: &Connection, table: &str) -> rusqlite::Result<Vec<KeyColumn>> {
    let sql = "SELECT info.name, info.coll, info.\"desc\" \
               FROM pragma_index_list(?1) AS list, pragma_index_xinfo(list.name) AS info \
               WHERE list.origin = 'pk' AND info.key ORDER BY info.seqno";
    let mut statement = connection.prepare(sql)?;
    let columns = statement.query_map([table], |row| {
        Ok(KeyColumn { name: row.get(0)?, collation: row.get(1)?, descending: row.get(2)? })
    })?;
    columns.collect()
}

/// Compares keys as `SQLite` does, by asking it: its rules for classes, collations and encodings are many.
struct Order {
    scratch: Option<Connection>,
    sql: String,
    len: usize,
}

impl Order {
    fn of(reading: &Reading) -> rusqlite::Result<Self> {
        let Key::Primary(columns) = &reading.key else {
            return Ok(Self { scratch: None, sql: String::new(), len: 1 });
        };
        let scratch = Connection::open_in_memory()?;
        scratch.pragma_update(None, "encoding", &reading.encoding)?;
        let mut sql = "SELECT CASE".to_owned();
        for (number, column) in (1..).zip(columns) {
            let (one, other) = (number, number + columns.len());
            let collation = quoted(&column.collation);
            let (less, more) = if column.descending { (1, -1) } else { (-1, 1) };
            let _ = write!(
                sql,
                " WHEN ?{one} < ?{other} COLLATE {collation} THEN {less} WHEN ?{one} > ?{other} COLLATE {collation} THEN {more}"
            );
        }
        sql.push_str(" ELSE 0 END");
        Ok(Self { scratch: Some(scratch), sql, len: columns.len() })
    }

    fn compare(&self, one: &Row<'_>, other: &Row<'_>) -> rusqlite::Result<Ordering> {
        let Some(scratch) = &self.scratch else {
            return Ok(one.get::<_, i64>(0)?.cmp(&other.get::<_, i64>(0)?));
        };
        let mut values = Vec::with_capacity(2 * self.len);
        for row in [one, other] {
            for column in 0..self.len {
                values.push(ToSqlOutput::Borrowed(row.get_ref(column)?));
            }
        }
        let parameters: Vec<&dyn ToSql> = values.iter().map(|value| value as &dyn ToSql).collect();
        let mut statement = scratch.prepare_cached(&self.sql)?;
        statement.query_row(parameters.as_slice(), |row| row.get::<_, i64>(0)).map(|sign| sign.cmp(&0))
    }
}

/// Reads both sides to the end, or to the first difference.
pub(super) fn merge(
    both: &Both<'_>,
    from: &Reading,
    to: &Reading,
    first_only: bool,
) -> Result<Counts, CompareError> {
    let of = |side| move |error| CompareError::Sqlite(side, error);
    let (of_from, of_to) = (of(Side::From), of(Side::To));
    let order = Order::of(from).map_err(&of_from)?;
    let mut from_statement = from.prepare(both.from).map_err(&of_from)?;
    let mut to_statement = to.prepare(both.to).map_err(&of_to)?;
    let mut from_rows = from_statement.query(()).map_err(&of_from)?;
    let mut to_rows = to_statement.query(()).map_err(&of_to)?;
    let mut counts = Counts::default();
    let mut read = 0_u64;
    let mut one = from_rows.next().map_err(&of_from)?;
    let mut other = to_rows.next().map_err(&of_to)?;
    let key_len = from.key.len();
    loop {
        read += 1;
        if read.is_multiple_of(ROWS_PER_QUESTION) && !(both.go_on)() {
            return Err(CompareError::Stopped);
        }
        let ordering = match (one, other) {
            (None, None) => return Ok(counts),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(one), Some(other)) => {
                let ordering = order.compare(one, other).map_err(&of_from)?;
                if ordering == Ordering::Equal && !is_same(one, other, key_len, from.columns.len()) {
                    counts.changed += 1;
                }
                ordering
            }
        };
        counts.removed += u64::from(ordering == Ordering::Less);
        counts.added += u64::from(ordering == Ordering::Greater);
        if first_only && counts.any() {
            return Ok(counts);
        }
        if ordering != Ordering::Greater {
            one = from_rows.next().map_err(&of_from)?;
        }
        if ordering != Ordering::Less {
            other = to_rows.next().map_err(&of_to)?;
        }
    }
}

/// Whether the columns behind the key are the same, to the bit.
fn is_same(one: &Row<'_>, other: &Row<'_>, key_len: usize, columns: usize) -> bool {
    (key_len..key_len + columns).all(|column| match (one.get_ref(column), other.get_ref(column)) {
        (Ok(ValueRef::Real(one)), Ok(ValueRef::Real(other))) => one.to_bits() == other.to_bits(),
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    })
}
