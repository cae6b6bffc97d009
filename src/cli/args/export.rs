//! What can be typed after `export`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use pagevault::operations::export::{ExportFormat, Relation, Skip, SubjectSpec};
use pagevault::operations::list::SnapshotSpec;

use super::{SNAP_HELP, values};

/// Options of `export`.
#[derive(Debug, Args)]
#[command(after_help = format!("\
With --subject: the row, every row that refers to it by a foreign key, every row that refers to those, and so on. \
Without: all tables.

{SNAP_HELP}

Examples:
  pagevault export --db app.db --subject users:123 --output ann.json
  pagevault export --snapshot app@-30d --subject users:email=ann@example.org --format jsonl
  pagevault export --db app.db --subject users:123 --relation 'notes.author_email -> users.email' --skip users.manager_id"))]
pub(crate) struct ExportArgs {
    /// What is read.
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    /// Whose data: a row by its primary key, TABLE:KEY, or by columns, TABLE:COLUMN=VALUE[,COLUMN=VALUE]
    #[arg(long, value_name = "ROW", value_parser = values::spoken::<SubjectSpec>)]
    pub(crate) subject: Option<SubjectSpec>,
    /// A reference that the schema does not declare, such as 'notes.author_email -> users.email'; may be given several times
    #[arg(long = "relation", value_name = "RELATION", requires = "subject", value_parser = values::spoken::<Relation>)]
    pub(crate) relations: Vec<Relation>,
    /// Do not follow the references of this table, or of this column of it; may be given several times
    #[arg(long = "skip", value_name = "TABLE[.COLUMN]", requires = "subject", value_parser = values::spoken::<Skip>)]
    pub(crate) skips: Vec<Skip>,
    /// One JSON document, or a line of JSON for each row
    #[arg(long, value_name = "FORMAT", default_value = "json")]
    pub(crate) format: Format,
    /// The file to write, readable by you alone; it appears when it is complete [default: standard output]
    #[arg(long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Replace the file if it exists
    #[arg(long, requires = "output")]
    pub(crate) yes: bool,
    /// Also store the export in the vault, as a snapshot of kind export
    #[arg(long)]
    pub(crate) keep: bool,
    /// Give up if a live database would be held longer than this, such as 500ms, 2s or 1m
    #[arg(long, value_name = "TIME", value_parser = values::duration)]
    pub(crate) max_hold: Option<Duration>,
    /// How long to wait for a locked database
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = values::duration)]
    pub(crate) busy_timeout: Duration,
}

/// What is read; one of them.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct SourceArgs {
    /// Read this database, live or at rest
    #[arg(long, value_name = "DB")]
    pub(crate) db: Option<PathBuf>,
    /// Read this snapshot, without restoring it anywhere
    #[arg(long, value_name = "SNAP")]
    pub(crate) snapshot: Option<SnapshotSpec>,
}

/// How an export is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// One JSON document
    Json,
    /// A line of JSON for each row
    Jsonl,
}

impl From<Format> for ExportFormat {
    fn from(format: Format) -> Self {
        match format {
            Format::Json => Self::Json,
            Format::Jsonl => Self::JsonLines,
        }
    }
}
