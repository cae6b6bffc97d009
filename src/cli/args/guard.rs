//! Options of `guard`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use pagevault::operations::guard::Expectation;

use crate::cli::values;

/// Options of `guard`.
#[derive(Debug, Args)]
#[command(after_help = "\
CMD runs with the standard streams of this command, and signals are passed on to it. If it fails, or what it leaves does \
not pass, every database is put back to what it was, in place.

With several databases, a table or a query that begins with NAME: is about the one of that name, else about all of them.

Examples:
  pagevault guard app.db -- npx prisma migrate deploy
  pagevault guard app.db --require-table users --expect 'users>=same' -- ./manage.py migrate
  pagevault guard app.db --assert 'SELECT count(*) = 0 FROM orders WHERE total < 0' -- sqlite3 app.db '.read 7.sql'
  pagevault guard --resume")]
pub(crate) struct GuardArgs {
    /// Database files
    #[arg(value_name = "DB", required_unless_present = "resume", conflicts_with = "resume")]
    pub(crate) databases: Vec<PathBuf>,
    /// Fail if this table is not there afterwards; may be given several times
    #[arg(long = "require-table", value_name = "TABLE", value_parser = values::name)]
    pub(crate) required_tables: Vec<String>,
    /// Fail if the number of rows of a table is otherwise: 'users>=same', 'orders=1200'; may be given several times
    #[arg(long = "expect", value_name = "EXPECTATION")]
    pub(crate) expectations: Vec<Expectation>,
    /// Fail unless this query gives rows, and a value other than 0 and NULL first in each; may be given several times
    #[arg(long = "assert", value_name = "SQL", value_parser = values::name)]
    pub(crate) assertions: Vec<String>,
    /// How long to wait for a locked database
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = values::duration)]
    pub(crate) busy_timeout: Duration,
    /// Finish a guard that was killed
    #[arg(long)]
    pub(crate) resume: bool,
    /// With --resume: keep what the command did, if it passes
    #[arg(long, requires = "resume", conflicts_with = "roll_back")]
    pub(crate) keep: bool,
    /// With --resume: put the databases back, whatever the command did
    #[arg(long, requires = "resume")]
    pub(crate) roll_back: bool,
    /// The command, after `--`
    #[arg(last = true, value_name = "CMD", required_unless_present = "resume", conflicts_with = "resume")]
    pub(crate) command: Vec<OsString>,
}
