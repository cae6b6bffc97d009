//! What holds in every committed state.

use std::path::Path;

use rusqlite::{Connection, OpenFlags, Result};

use super::{ACCOUNTS, OPENING_BALANCE};

/// The number of ledger moves in the database at `path`, or what is wrong with it. Opens it read-only.
pub(crate) fn check(path: &Path) -> Result<Result<i64, Vec<String>>> {
    let database = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let mut problems = Vec::new();
    for look in [file, ledger, references] {
        // A database too damaged to be asked is a finding, not the end of the search.
        problems.extend(look(&database).unwrap_or_else(|error| vec![error.to_string()]));
    }
    if problems.is_empty() {
        database.query_row("SELECT moves FROM ledger_meta", (), |row| row.get(0)).map(Ok)
    } else {
        Ok(Err(problems))
    }
}

fn file(database: &Connection) -> Result<Vec<String>> {
    let mut lines = texts(database, "PRAGMA integrity_check")?;
    lines.retain(|line| line != "ok");
    Ok(lines)
}

fn ledger(database: &Connection) -> Result<Vec<String>> {
    let (sum, accounts): (i64, i64) =
        database.query_row("SELECT sum(balance), count(*) FROM ledger", (), |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?;
    if (sum, accounts) == (ACCOUNTS * OPENING_BALANCE, ACCOUNTS) {
        Ok(Vec::new())
    } else {
        Ok(vec![format!("ledger sum {sum} over {accounts} accounts")])
    }
}

fn references(database: &Connection) -> Result<Vec<String>> {
    texts(
        database,
        "SELECT format('foreign key: row %d of %s refers to no row of %s', rowid, \"table\", parent)
         FROM pragma_foreign_key_check LIMIT 5",
    )
}

fn texts(database: &Connection, sql: &str) -> Result<Vec<String>> {
    database.prepare(sql)?.query_map((), |row| row.get(0))?.collect()
}
