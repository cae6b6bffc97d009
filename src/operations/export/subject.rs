//! The row that an export begins with.

use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use super::rows::RowSet;
use super::schema::{Schema, Table};
use super::source::Failure;
use super::words::{SubjectSpec, quoted};
use crate::error::{Error, ErrorKind};

/// The table of `spec` and the rows of it that it names.
pub(super) fn find(
    connection: &Connection,
    schema: &Schema,
    spec: &SubjectSpec,
) -> Result<(usize, RowSet), Failure> {
    let Some(at) = schema.find(&spec.table) else {
        let known: Vec<&str> = schema.tables.iter().take(10).map(|table| table.name.as_str()).collect();
        let hint = match schema.unreadable.iter().find(|(name, _)| name.eq_ignore_ascii_case(&spec.table)) {
            Some((name, why)) => format!("{name} is there, but cannot be read: {why}"),
            None if known.is_empty() => "the database has no tables".to_owned(),
            None => format!("it has: {}", known.join(", ")),
        };
        let message = format!("the database has no table {:?}", spec.table);
        return Err(Error::new(ErrorKind::NotFound, message).with_hint(hint).into());
    };
    let table = &schema.tables[at];
    let pairs = pairs(table, &spec.key)?;
    let conditions: Vec<String> = (0..pairs.len()).map(|pair| condition(&pairs[pair].0, pair)).collect();
    let sql = format!(
        "SELECT {} FROM {} AS t WHERE {}",
        table.key.expressions("t").join(", "),
        quoted(&table.name),
        conditions.join(" AND ")
    );
    let values: Vec<Value> = pairs.iter().flat_map(|(_, text)| meanings(text)).collect();
    let mut statement = connection.prepare(&sql)?;
    let mut found = statement.query(params_from_iter(values))?;
    let mut rows = RowSet::new(&table.key);
    while let Some(row) = found.next()? {
        rows.insert(row, 0)?;
    }
    if rows.len() == 0 {
        let message = format!("table {:?} has no row {:?}", table.name, spec.key);
        return Err(Error::new(ErrorKind::NotFound, message).with_hint("nothing was exported").into());
    }
    Ok((at, rows))
}

/// A column is compared with the text and, if it is the form of one, with the number or the blob: a column without a type
/// keeps what it was given.
fn condition(column: &str, pair: usize) -> String {
    let (text, other) = (2 * pair + 1, 2 * pair + 2);
    format!("(t.{0} = ?{text} OR t.{0} = ?{other})", quoted(column))
}

fn meanings(text: &str) -> [Value; 2] {
    let number = text.parse().map(Value::Integer);
    let blob = || {
        let digits = text.strip_prefix("x'")?.strip_suffix('\'')?;
        let bytes: Option<Vec<u8>> = (0..digits.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok())
            .collect();
        bytes.map(Value::Blob)
    };
    let text = || Value::Text(text.to_owned());
    [text(), number.ok().or_else(blob).unwrap_or_else(text)]
}

/// Columns with the values they must have.
fn pairs(table: &Table, key: &str) -> Result<Vec<(String, String)>, Error> {
    let column_before = |text: &str| {
        let (name, _) = text.split_once('=')?;
        table.column(name.trim()).map(str::to_owned)
    };
    if column_before(key).is_some() {
        let mut pairs: Vec<(String, String)> = Vec::new();
        for part in key.split(',') {
            match (column_before(part), part.split_once('='), pairs.last_mut()) {
                (Some(column), Some((_, value)), _) => pairs.push((column, value.to_owned())),
                // A comma that no column follows belongs to the value.
                (_, _, Some((_, value))) => {
                    value.push(',');
                    value.push_str(part);
                }
                _ => {}
            }
        }
        return Ok(pairs);
    }
    match table.primary_key.as_slice() {
        [single] => Ok(vec![(single.clone(), key.to_owned())]),
        [] => match table.column("rowid") {
            Some(rowid) => Ok(vec![(rowid.to_owned(), key.to_owned())]),
            None => Err(by_columns(table, "has no primary key", "COLUMN=VALUE")),
        },
        several => {
            let form = several.iter().map(|name| format!("{name}=...")).collect::<Vec<_>>().join(",");
            Err(by_columns(table, "has a primary key of several columns", &form))
        }
    }
}

fn by_columns(table: &Table, why: &str, form: &str) -> Error {
    Error::new(ErrorKind::Usage, format!("table {:?} {why}", table.name))
        .with_hint(format!("name the row as {}:{form}", table.name))
}
