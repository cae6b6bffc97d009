//! Is an image a sound database? Three answers: yes, no, and "cannot be said here", for a good
//! database may use collations, functions, modules and tokenizers that only its application has.

use rusqlite::Connection;

use super::raw::vfs::ImageConnection;
use super::schema;
use crate::error::{Error, Result};
use crate::page_source::PageSource;

/// Bytes of the image held while it is checked.
const CACHE_BYTES: usize = 16 << 20;

/// Findings reported at most, as `PRAGMA integrity_check` itself has it.
const MAX_FINDINGS: usize = 100;

/// Pairs of tables with foreign key problems reported at most.
const MAX_FOREIGN_KEY_PROBLEMS: i64 = 100;

/// How `SQLite` says that it lacks something of the application; the name follows.
const MISSING_FEATURES: [&str; 7] = [
    "no such collation sequence: ",
    "unknown function: ",
    "no such function: ",
    "no such module: ",
    "no such tokenizer: ",
    "unknown tokenizer: ",
    "error in tokenizer constructor",
];

/// How thoroughly an image is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckLevel {
    /// `PRAGMA integrity_check`: every page, and indexes against tables.
    Full,
    /// `PRAGMA quick_check`: every page, without indexes against tables.
    Quick,
    /// Required tables only.
    None,
}

/// Whether the image is a sound database.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case", tag = "result")]
pub enum Integrity {
    /// `SQLite` found nothing wrong.
    Ok,
    /// It is not.
    Damaged {
        /// What `SQLite` found, at most 100 of them.
        findings: Vec<String>,
    },
    /// The check needs something that only the application has. What could be checked without it was found sound.
    NotCheckable {
        /// What is missing, such as `no such collation sequence: german`.
        because: String,
    },
    /// It was not asked for.
    Skipped,
}

/// Rows of one table whose foreign keys lead nowhere.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ForeignKeyProblem {
    /// The table with the foreign key.
    pub table: String,
    /// The table it refers to.
    pub parent: String,
    /// How many rows refer to none.
    pub rows: u64,
}

/// The outcome of [`verify_image`].
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ImageReport {
    /// Whether the image is a sound database.
    pub integrity: Integrity,
    /// Broken references, at most 100 pairs of tables. Not damage: applications may live with them.
    /// Empty also where the check was skipped or is not possible.
    pub foreign_keys: Vec<ForeignKeyProblem>,
    /// The required tables that are not there, or cannot be read.
    pub missing_tables: Vec<String>,
}

/// Checks the image in `source`, at most [`CheckLevel`] deep, and that it has `required_tables`. Nothing is
/// written anywhere.
///
/// # Errors
/// The error of `source` where a page cannot be read, and whatever else keeps `SQLite` from working. A damaged
/// image is not an error but a report.
pub fn verify_image(
    source: Box<dyn PageSource>,
    level: CheckLevel,
    required_tables: &[String],
) -> Result<ImageReport> {
    let image = ImageConnection::open(source, CACHE_BYTES)?;
    let integrity = match level {
        CheckLevel::Full => check(&image, "integrity_check")?,
        CheckLevel::Quick => check(&image, "quick_check")?,
        CheckLevel::None => Integrity::Skipped,
    };
    let checkable = matches!(integrity, Integrity::Ok | Integrity::NotCheckable { .. });
    let foreign_keys = if checkable { check_foreign_keys(&image)? } else { Vec::new() };
    let mut missing_tables = Vec::new();
    for table in required_tables {
        match answer(&image, schema::has_table(&image, table))? {
            Ok(true) => {}
            Ok(false) | Err(_) => missing_tables.push(table.clone()),
        }
    }
    Ok(ImageReport { integrity, foreign_keys, missing_tables })
}

fn check(image: &ImageConnection, pragma: &str) -> Result<Integrity> {
    let because = match answer(image, findings(image, &format!("PRAGMA {pragma}({MAX_FINDINGS})")))? {
        Ok(findings) => match judge(findings) {
            Integrity::NotCheckable { because } => because,
            verdict => return Ok(verdict),
        },
        Err(error) => match missing_feature(&error.to_string()) {
            Some(because) => because,
            None => return Ok(Integrity::Damaged { findings: vec![error.to_string()] }),
        },
    };
    // The statement for the whole database cannot be compiled; those for most tables can.
    let tables = "SELECT name FROM sqlite_schema WHERE type = 'table'";
    let mut damage = Vec::new();
    for table in answer(image, findings(image, tables))?.unwrap_or_default() {
        let sql = format!("PRAGMA {pragma}('{}')", table.replace('\'', "''"));
        match answer(image, findings(image, &sql))? {
            Ok(findings) => {
                if let Integrity::Damaged { findings } = judge(findings) {
                    damage.extend(findings);
                }
            }
            Err(error) if missing_feature(&error.to_string()).is_some() => {}
            Err(error) => damage.push(error.to_string()),
        }
    }
    damage.truncate(MAX_FINDINGS);
    Ok(if damage.is_empty() {
        Integrity::NotCheckable { because }
    } else {
        Integrity::Damaged { findings: damage }
    })
}

/// The rows of `sql` as text.
fn findings(connection: &Connection, sql: &str) -> rusqlite::Result<Vec<String>> {
    connection.prepare(sql)?.query_map((), |row| row.get(0))?.collect()
}

/// Sorts what the pragma answered. A virtual table that cannot be checked for want of a tokenizer is a
/// finding to `SQLite`, but not to us.
fn judge(findings: Vec<String>) -> Integrity {
    let mut because = None;
    let mut damage = Vec::new();
    for finding in findings {
        if finding == "ok" {
            continue;
        }
        match missing_feature(&finding) {
            Some(missing) => because = because.or(Some(missing)),
            None => damage.push(finding),
        }
    }
    match (damage.is_empty(), because) {
        (false, _) => Integrity::Damaged { findings: damage },
        (true, Some(because)) => Integrity::NotCheckable { because },
        (true, None) => Integrity::Ok,
    }
}

fn missing_feature(message: &str) -> Option<String> {
    let at = MISSING_FEATURES.iter().find_map(|feature| message.find(feature))?;
    message.get(at..).map(|text| text.lines().next().unwrap_or(text).to_owned())
}

fn check_foreign_keys(image: &ImageConnection) -> Result<Vec<ForeignKeyProblem>> {
    // Bounded in the number of pairs only: rows are counted, not kept.
    let sql = "SELECT \"table\", parent, count(*) FROM pragma_foreign_key_check GROUP BY 1, 2 LIMIT ?1";
    let problems = image.prepare(sql).and_then(|mut statement| {
        let problem = |row: &rusqlite::Row<'_>| {
            Ok(ForeignKeyProblem {
                table: row.get(0)?,
                parent: row.get(1)?,
                rows: row.get::<_, i64>(2)?.unsigned_abs(),
            })
        };
        statement.query_map([MAX_FOREIGN_KEY_PROBLEMS], problem)?.collect()
    });
    Ok(answer(image, problems)?.unwrap_or_default())
}

/// Separates what `SQLite` says of the image (inner) from what kept it from reading it (outer).
fn answer<T>(image: &ImageConnection, result: rusqlite::Result<T>) -> Result<rusqlite::Result<T>> {
    use rusqlite::ffi::ErrorCode::{DatabaseCorrupt, NotADatabase, Unknown};
    if let Some(error) = image.take_failure() {
        return Err(error);
    }
    match result {
        Err(error)
            if !matches!(error.sqlite_error_code(), Some(DatabaseCorrupt | NotADatabase | Unknown)) =>
        {
            Err(Error::from(super::SqliteError::Sqlite { path: "image".into(), source: error }))
        }
        result => Ok(result),
    }
}
