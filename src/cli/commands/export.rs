//! `export`: one subject's data, or all of it, as JSON on standard output or in a file.

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use pagevault::operations::export::{
    ExportReport, ExportRequest, ExportSource, NotFollowed, OutputFile, Reason, export,
};
use pagevault::operations::list::find;
use pagevault::vault::Vault;
use pagevault::{Error, ErrorKind, Result};

use super::super::args::ExportArgs;
use super::super::context::Context;
use super::super::failure::Outcome;
use super::super::output::Output;
use super::super::text::{printable, size};

/// Exports.
pub(crate) fn run(args: ExportArgs, context: &Context) -> Result<Outcome> {
    let source = match (args.source.db, args.source.snapshot) {
        (Some(path), _) => ExportSource::Database(path),
        (None, Some(snapshot)) => ExportSource::Snapshot(snapshot),
        (None, None) => return Err(Error::new(ErrorKind::Usage, "neither --db nor --snapshot was given")),
    };
    let needs_vault = args.keep || matches!(source, ExportSource::Snapshot(_));
    let vault = if needs_vault { Some(context.open_vault()?) } else { None };
    let (mut relations, mut skips) = (args.relations, args.skips);
    if let (Some(_), Some(loaded)) = (&args.subject, &context.loaded) {
        let path = path_of(&source, vault.as_ref(), context)?;
        let policy = loaded.config.policy_of(&path);
        let more: Vec<_> = policy.export_relations.iter().filter(|one| !relations.contains(one)).collect();
        relations.extend(more.into_iter().cloned());
        let more: Vec<_> = policy.export_skips.iter().filter(|one| !skips.contains(one)).collect();
        skips.extend(more.into_iter().cloned());
    }
    let request = ExportRequest {
        subject: args.subject,
        relations,
        skips,
        format: args.format.into(),
        keep: if args.keep { Some(context.host()?) } else { None },
        busy_timeout: args.busy_timeout,
        max_hold: args.max_hold,
        ..ExportRequest::new(source)
    };
    let run =
        |output: &mut dyn Write| export(vault.as_ref(), &request, &context.clock, &context.progress, output);
    let Some(path) = &args.output else {
        let mut output = io::BufWriter::with_capacity(64 * 1024, ToOutput(&context.output));
        let report = run(&mut output)?;
        tell_aside(&report, context);
        return Ok(Outcome::Done);
    };
    let overwrite = args.yes || may_replace(path, context)?;
    let mut file = OutputFile::create(path, overwrite)?;
    let report = run(&mut file)?;
    file.put_in_place()?;
    if context.output.is_json() {
        context.output.json(&WithFile { output: path.display().to_string(), report: &report })?;
    } else {
        context.output.text(&sentence(&report, path))?;
    }
    tell_aside(&report, context);
    Ok(Outcome::Done)
}

/// The path by which the configuration knows what is exported.
fn path_of(source: &ExportSource, vault: Option<&Vault>, context: &Context) -> Result<PathBuf> {
    match (source, vault) {
        (ExportSource::Database(path), _) => Ok(std::fs::canonicalize(path).unwrap_or_else(|_| path.clone())),
        (ExportSource::Snapshot(spec), Some(vault)) => {
            let snapshot = find(vault, spec, context.now(), &context.progress)?;
            let path = snapshot.manifest.details.source_path.unwrap_or_default();
            Ok(OsString::from_vec(path).into())
        }
        (ExportSource::Snapshot(_), None) => Ok(PathBuf::new()),
    }
}

fn may_replace(path: &Path, context: &Context) -> Result<bool> {
    if !path.symlink_metadata().is_ok_and(|metadata| metadata.is_file()) {
        return Ok(false);
    }
    context.confirm(&format!("{} exists. Replace it?", printable(&path.display().to_string())))
}

/// The report and where the document went.
#[derive(serde::Serialize)]
struct WithFile<'a> {
    output: String,
    #[serde(flatten)]
    report: &'a ExportReport,
}

fn sentence(report: &ExportReport, path: &Path) -> String {
    let subject = report.subject.as_deref().unwrap_or("everything");
    let rows: u64 = report.tables.values().sum();
    format!(
        "exported {} from {}: {rows} rows of {} tables to {}, {}\n",
        printable(subject),
        printable(&report.source.database),
        report.tables.len(),
        printable(&path.display().to_string()),
        size(report.size)
    )
}

/// What a person who exports has to know beside the document.
fn tell_aside(report: &ExportReport, context: &Context) {
    if let Some(id) = report.snapshot_id {
        context.progress.note(&format!("kept in the vault as snapshot {}", id.short()));
    }
    let undeclared: Vec<&NotFollowed> =
        report.not_followed.iter().filter(|named| named.reason == Reason::Undeclared).collect();
    for named in undeclared.iter().take(10) {
        let column = format!("{}.{}", named.table, named.columns.join(","));
        context.progress.note(&format!("not followed: {}: {}", printable(&column), named.message));
    }
    if undeclared.len() > 10 {
        context.progress.note(&format!("{} more are listed under not_followed", undeclared.len() - 10));
    }
    if !undeclared.is_empty() {
        context.progress.note(
            "hint: if they belong to the subject, name them with --relation 'TABLE.COLUMN -> TABLE.COLUMN'",
        );
    }
}

/// Standard output as [`Write`]: a closed pipe is no error.
struct ToOutput<'a>(&'a Output);

impl Write for ToOutput<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.bytes(bytes).map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
