//! Is an image a sound database? Three answers: yes, no, and "cannot be said here", for a good
//! database may use collations, functions, modules and tokenizers that only its application has.

use rusqlite::ffi::ErrorCode;

use super::error::{SqliteError, error_code};
use super::raw::vfs::ImageConnection;
use super::schema;
use crate::error::Result;
use crate::page_source::PageSource;

/// Bytes of the image held while it is checked.
const CACHE_BYTES: usize = 16 << 20;

/// Findings reported at most, as `PRAGMA integrity_check` itself has it.
const MAX_FINDINGS: usize = 100;

/// Pairs of tables with foreign key problems reported at most.
const MAX_FOREIGN_KEY_PROBLEMS: usize = 100;

/// How `SQLite` says that it lacks something of the application; the name follows.
const MISSING_FEATURES: [&str; 6] = [
    "no such collation sequence: ",
    "unknown function: ",
    "no such function: ",
    "no such module: ",
    "no such tokenizer: ",
    "unknown tokenizer: ",
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
///
/// What cannot be told apart: an application that replaces a built-in function or collation (`lower`, `NOCASE`)
/// by its own may have indexes that are right for it and look damaged to everybody else.
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
        /// What is missing, such as `no such collation sequence: german`, in `SQLite`'s words.
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
        match of_the_image(&image, schema::has_table(&image, table))? {
            Ok(true) => {}
            Ok(false) | Err(_) => missing_tables.push(table.clone()),
        }
    }
    Ok(ImageReport { integrity, foreign_keys, missing_tables })
}

fn check(image: &ImageConnection, pragma: &str) -> Result<Integrity> {
    let because = match judge(run(image, &format!("PRAGMA {pragma}({MAX_FINDINGS})"))?) {
        Integrity::NotCheckable { because } => because,
        verdict => return Ok(verdict),
    };
    // One thing that is missing ends the check of the whole database; most tables can still be checked alone.
    let mut because = missing_tokenizer(image)?.unwrap_or(because);
    let mut damage = Vec::new();
    for table in run(image, "SELECT name FROM sqlite_schema WHERE type = 'table'")?.rows {
        let sql = format!("PRAGMA {pragma}('{}')", table.replace('\'', "''"));
        match judge(run(image, &sql)?) {
            Integrity::Damaged { findings } => damage.extend(findings),
            Integrity::NotCheckable { because: named } if missing_feature(&because).is_none() => {
                because = named;
            }
            _ => {}
        }
    }
    damage.truncate(MAX_FINDINGS);
    Ok(if damage.is_empty() {
        Integrity::NotCheckable { because }
    } else {
        Integrity::Damaged { findings: damage }
    })
}

/// FTS5 looks for its tokenizer late, and its integrity check does not say what is missing; a query does.
fn missing_tokenizer(image: &ImageConnection) -> Result<Option<String>> {
    let sql = "SELECT name FROM sqlite_schema WHERE sql LIKE 'CREATE VIRTUAL TABLE%USING%fts5%'";
    for table in run(image, sql)?.rows {
        let table = table.replace('"', "\"\"");
        let answer = run(image, &format!("SELECT 1 FROM \"{table}\" WHERE \"{table}\" MATCH 'x' LIMIT 1"))?;
        if let Some(missing) = answer.error.and_then(|error| missing_feature(&error.to_string())) {
            return Ok(Some(missing));
        }
    }
    Ok(None)
}

/// The rows of a query as text, and the error that ended it.
struct Answer {
    rows: Vec<String>,
    error: Option<rusqlite::Error>,
}

/// Runs `sql`. Fails only where the image cannot be read.
fn run(image: &ImageConnection, sql: &str) -> Result<Answer> {
    let mut rows = Vec::new();
    let mut collect = || -> rusqlite::Result<()> {
        let mut statement = image.prepare(sql)?;
        let mut found = statement.query(())?;
        while let Some(row) = found.next()? {
            rows.push(String::from_utf8_lossy(row.get_ref(0)?.as_bytes().unwrap_or_default()).into_owned());
        }
        Ok(())
    };
    let ended = collect();
    let error = of_the_image(image, ended)?.err();
    Ok(Answer { rows, error })
}

/// Sorts what the pragma answered. What an index or a virtual table lacks of the application comes as an
/// error or as a finding; neither says anything of the bytes. Nor does any other plain error
/// (`SQLITE_ERROR`): what `SQLite` takes for damage to the file has a code of its own.
fn judge(answer: Answer) -> Integrity {
    let (missing, mut damage): (Vec<_>, Vec<_>) =
        answer.rows.into_iter().filter(|row| row != "ok").partition(|row| missing_feature(row).is_some());
    let mut because = missing.first().and_then(|row| missing_feature(row));
    if let Some(error) = answer.error {
        let message = message_of(&error);
        if error_code(&error) == Some(ErrorCode::Unknown) {
            because = because.or_else(|| missing_feature(&message)).or(Some(message));
        } else {
            damage.push(message);
        }
    }
    match (damage.is_empty(), because) {
        (false, _) => Integrity::Damaged { findings: damage },
        (true, Some(because)) => Integrity::NotCheckable { because },
        (true, None) => Integrity::Ok,
    }
}

/// `SQLite`'s message, without the SQL that rusqlite adds to it.
fn message_of(error: &rusqlite::Error) -> String {
    match error {
        rusqlite::Error::SqlInputError { msg, .. } => msg.clone(),
        error => error.to_string(),
    }
}

fn missing_feature(message: &str) -> Option<String> {
    let at = MISSING_FEATURES.iter().find_map(|feature| message.find(feature))?;
    message.get(at..).map(|text| text.lines().next().unwrap_or(text).to_owned())
}

/// Table by table, so that one foreign key that makes no sense does not hide the others. Rows are counted, not kept.
fn check_foreign_keys(image: &ImageConnection) -> Result<Vec<ForeignKeyProblem>> {
    let mut problems = Vec::new();
    for table in run(image, "SELECT name FROM sqlite_schema WHERE type = 'table'")?.rows {
        let found = broken_references(image, &table);
        problems.extend(of_the_image(image, found)?.unwrap_or_default());
        if problems.len() >= MAX_FOREIGN_KEY_PROBLEMS {
            problems.truncate(MAX_FOREIGN_KEY_PROBLEMS);
            break;
        }
    }
    Ok(problems)
}

fn broken_references(image: &ImageConnection, table: &str) -> rusqlite::Result<Vec<ForeignKeyProblem>> {
    let sql = "SELECT parent, count(*) FROM pragma_foreign_key_check(?1) GROUP BY parent";
    let problem = |row: &rusqlite::Row<'_>| {
        let rows = row.get::<_, i64>(1)?.unsigned_abs();
        Ok(ForeignKeyProblem { table: table.to_owned(), parent: row.get(0)?, rows })
    };
    image.prepare(sql)?.query_map([table], problem)?.collect()
}

/// Separates what `SQLite` says of the image (inner) from what kept it from reading it (outer).
fn of_the_image<T>(image: &ImageConnection, result: rusqlite::Result<T>) -> Result<rusqlite::Result<T>> {
    use ErrorCode::{DatabaseCorrupt, NotADatabase, Unknown};
    if let Some(error) = image.take_failure() {
        return Err(error);
    }
    match result {
        Err(error) if !matches!(error_code(&error), Some(DatabaseCorrupt | NotADatabase | Unknown)) => {
            Err(SqliteError::Sqlite { path: "image".into(), source: error }.into())
        }
        result => Ok(result),
    }
}
