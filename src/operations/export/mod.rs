//! `export`: the data of one subject, or of a whole database, as JSON (docs/export.md).
//!
//! Source is a live database, read in one transaction as a capture is, or a stored snapshot, read through the read-only VFS:
//! neither is written to, and no plaintext reaches any place but the output. Everything streams; what is held in memory are the
//! keys of the rows found, and a piece of the row being written.
//!
//! - `words`: what people type. `schema`, `references`: what a database declares.
//! - `subject`, `rows`, `closure`: which rows. `values`, `document`, `reading`: what is written of them.
//! - `file`, `keep`: where it goes.

mod closure;
mod document;
mod file;
mod keep;
mod reading;
mod references;
mod rows;
mod schema;
mod source;
mod subject;
mod values;
mod words;

use std::collections::{BTreeMap, HashSet};
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;

pub use self::document::Followed;
pub use self::file::OutputFile;
pub use self::references::{NotFollowed, Origin, Reason};
pub use self::schema::Column;
pub use self::source::SourceInfo;
pub use self::words::{Relation, Skip, SubjectSpec};

use self::document::{Document, Head};
use self::keep::Keeper;
use self::references::References;
use self::schema::Schema;
use self::source::{Opened, Pace};
use super::list::SnapshotSpec;
use super::snapshot::Host;
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::ids::SnapshotId;
use crate::monitor::Monitor;
use crate::sqlite::OpenOptions;
use crate::vault::Vault;

/// What is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExportSource {
    /// A database that applications may be using.
    Database(PathBuf),
    /// A stored snapshot.
    Snapshot(SnapshotSpec),
}

/// How an export is laid out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ExportFormat {
    /// One JSON document.
    #[default]
    Json,
    /// JSON lines: head, tables, rows, tail.
    JsonLines,
}

/// What is to be exported, and how.
#[derive(Debug, Clone)]
pub struct ExportRequest {
    /// Where from.
    pub source: ExportSource,
    /// Whose data; everything if not given.
    pub subject: Option<SubjectSpec>,
    /// References that the schema does not declare.
    pub relations: Vec<Relation>,
    /// What is not to be followed.
    pub skips: Vec<Skip>,
    /// The layout.
    pub format: ExportFormat,
    /// Also store it in the vault, as a snapshot of kind export made on this machine.
    pub keep: Option<Host>,
    /// How long to wait for a lock on a live database.
    pub busy_timeout: Duration,
    /// Give up when a live database has been held for longer.
    pub max_hold: Option<Duration>,
}

impl ExportRequest {
    /// All of `source` as one JSON document. Whatever else is wanted is set on the fields.
    #[must_use]
    pub fn new(source: ExportSource) -> Self {
        Self {
            source,
            subject: None,
            relations: Vec::new(),
            skips: Vec::new(),
            format: ExportFormat::Json,
            keep: None,
            busy_timeout: OpenOptions::default().busy_timeout,
            max_hold: None,
        }
    }
}

/// A finished export, in the words of docs/cli.md.
#[derive(Debug, Clone, serde::Serialize)]
pub struct ExportReport {
    /// Whose data; null for everything.
    pub subject: Option<String>,
    /// Where from.
    pub source: SourceInfo,
    /// When.
    pub exported_at: Timestamp,
    /// Rows by table.
    pub tables: BTreeMap<String, u64>,
    /// Which references were followed.
    pub followed: Vec<Followed>,
    /// Which were not, and why.
    pub not_followed: Vec<NotFollowed>,
    /// Bytes of the document.
    pub size: u64,
    /// The snapshot it is kept as.
    pub snapshot_id: Option<SnapshotId>,
    /// Milliseconds for which a live database was held.
    pub hold_ms: Option<u64>,
}

/// Exports what `request` says to `output`. `vault` is needed for a snapshot as source, and to keep the export.
///
/// # Errors
/// There is no such database, snapshot, table or row; a reference that was given makes no sense; what is read is damaged; or
/// `output` fails. What was written to `output` until then is worthless: [`OutputFile`] forgets it.
pub fn export(
    vault: Option<&Vault>,
    request: &ExportRequest,
    clock: &dyn Clock,
    monitor: &dyn Monitor,
    output: &mut dyn Write,
) -> Result<ExportReport> {
    source::with_source(vault, request, clock, monitor, |opened| {
        let mut keeper = match &request.keep {
            Some(host) => Some(Keeper::begin(needed(vault)?, opened.origin(), host, monitor)?),
            None => None,
        };
        let mut outputs = Outputs { output, keeper: &mut keeper, size: 0 };
        let mut report = write(request, &opened, clock.now(), monitor, &mut outputs)?;
        // Exactly one committed state, or no export: before anything of it is published.
        report.hold_ms = opened.release()?;
        if let Some(keeper) = keeper {
            let words = report.subject.as_ref().map_or_else(|| "everything".to_owned(), Clone::clone);
            report.snapshot_id = Some(keeper.publish(&words, report.exported_at, clock)?);
        }
        Ok(report)
    })
}

/// The vault, where the request makes no sense without one.
fn needed(vault: Option<&Vault>) -> Result<&Vault> {
    vault.ok_or_else(|| Error::new(ErrorKind::Usage, "this export needs a vault, and none was given"))
}

fn write(
    request: &ExportRequest,
    opened: &Opened<'_>,
    now: Timestamp,
    monitor: &dyn Monitor,
    outputs: &mut Outputs<'_, '_>,
) -> Result<ExportReport> {
    let pace = Pace { opened, monitor, max_hold: request.max_hold };
    let connection = opened.connection();
    let explain = |error| opened.explain(error);
    let schema = Schema::read(connection).map_err(|error| opened.explain(error.into()))?;
    let source = opened.info().clone();
    let subject = request.subject.as_ref().map(ToString::to_string);
    let head = Head { subject: subject.clone(), source: &source, exported_at: now };
    let references = References::of(&schema, &request.relations, &request.skips)?;
    let unreadable = schema.unreadable.iter().map(|(table, why)| NotFollowed {
        table: table.clone(),
        columns: Vec::new(),
        parent: None,
        reason: Reason::Table,
        message: format!("the table cannot be read: {why}"),
    });
    let mut not_followed: Vec<NotFollowed> = unreadable.collect();
    let mut tables = BTreeMap::new();
    let mut followed = Vec::new();
    let reader = reading::Reader::new(connection, &pace).map_err(explain)?;
    match &request.subject {
        None => {
            let mut document = Document::begin(outputs, request.format, &head)?;
            for table in &schema.tables {
                let rows = reader.all(table, &mut document).map_err(explain)?;
                tables.insert(table.name.clone(), rows);
            }
            document.finish(&followed, &not_followed)?;
        }
        Some(spec) => {
            let (at, start) = subject::find(connection, &schema, spec).map_err(explain)?;
            let mut rows: Vec<_> = schema.tables.iter().map(|table| rows::RowSet::new(&table.key)).collect();
            rows[at] = start;
            let allowed = || pace.still_allowed();
            let found = closure::follow(connection, &schema, &references.followed, rows, &allowed)
                .map_err(explain)?;
            (followed, not_followed) =
                tell(&schema, references, &found, at, std::mem::take(&mut not_followed));
            let mut document = Document::begin(outputs, request.format, &head)?;
            for (table, mut rows) in schema.tables.iter().zip(found.rows) {
                if rows.len() > 0 {
                    rows.sort();
                    let count = reader.some(table, &rows, &mut document).map_err(explain)?;
                    tables.insert(table.name.clone(), count);
                }
            }
            document.finish(&followed, &not_followed)?;
        }
    }
    let size = outputs.size;
    Ok(ExportReport {
        subject,
        source,
        exported_at: now,
        tables,
        followed,
        not_followed,
        size,
        snapshot_id: None,
        hold_ms: None,
    })
}

/// What was followed and what was not, in the end.
fn tell(
    schema: &Schema,
    references: References,
    found: &closure::Found,
    subject: usize,
    mut not_followed: Vec<NotFollowed>,
) -> (Vec<Followed>, Vec<NotFollowed>) {
    let tables: HashSet<usize> = (0..found.rows.len()).filter(|&table| found.rows[table].len() > 0).collect();
    let concerns = |named: &NotFollowed| {
        let found = |name: &str| schema.find(name).is_some_and(|table| tables.contains(&table));
        found(&named.table) || named.parent.as_deref().is_some_and(found)
    };
    not_followed.extend(references.not_followed.into_iter().filter(concerns));
    not_followed.extend(references::suspects(schema, &references.followed, &tables, subject));
    let mut followed = Vec::new();
    for (reference, &rows) in references.followed.iter().zip(&found.by_reference) {
        let relation = reference.relation.clone();
        if tables.contains(&reference.parent) {
            followed.push(Followed {
                table: relation.table,
                columns: relation.columns,
                parent: relation.parent,
                parent_columns: relation.parent_columns,
                origin: reference.origin,
                rows,
            });
        } else if tables.contains(&reference.child) {
            not_followed.push(NotFollowed {
                message: format!(
                    "rows of {} refer to rows of {}, which are not exported",
                    relation.table, relation.parent
                ),
                table: relation.table,
                columns: relation.columns,
                parent: Some(relation.parent),
                reason: Reason::Parent,
            });
        }
    }
    (followed, not_followed)
}

/// All places an export goes to.
struct Outputs<'a, 'v> {
    output: &'a mut dyn Write,
    keeper: &'a mut Option<Keeper<'v>>,
    size: u64,
}

impl Write for Outputs<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.output.write_all(bytes)?;
        if let Some(keeper) = self.keeper {
            keeper.push(bytes).map_err(std::io::Error::other)?;
        }
        self.size += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.output.flush()
    }
}

/// The error of an output: an error of our own that travelled through [`Write`], or the system's.
fn io_failed(error: std::io::Error) -> Error {
    match error.downcast::<Error>() {
        Ok(own) => own,
        Err(error) => {
            Error::new(ErrorKind::Failed, format!("the export cannot be written: {error}")).with_source(error)
        }
    }
}
