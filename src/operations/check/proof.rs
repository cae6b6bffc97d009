//! Test restores: a snapshot is put together without writing it anywhere, and `SQLite` asked about it. What is found is said
//! in the log, for whoever judges by it: retention, status, doctor.

use super::super::assemble::assemble;
use super::{CheckReport, Problem};
use crate::clock::Clock;
use crate::error::{ErrorKind, Result};
use crate::format::log::{LogEntry, TESTED_DAMAGED, TESTED_WHOLE};
use crate::ids::SnapshotId;
use crate::monitor::Monitor;
use crate::sqlite::{CheckLevel, Integrity, verify_image};
use crate::store::DirectReads;
use crate::vault::{Snapshot, Vault};

/// A snapshot, and whether a test restore found it whole.
pub type TestedSnapshot = (SnapshotId, bool);

/// Says in the log what test restores have found.
///
/// # Errors
/// The log cannot be read or written.
pub fn note_tests(vault: &Vault, tests: &[TestedSnapshot], clock: &dyn Clock) -> Result<()> {
    if tests.is_empty() {
        return Ok(());
    }
    let answer = |is_whole| if is_whole { TESTED_WHOLE } else { TESTED_DAMAGED };
    let entry = LogEntry::Tested(tests.iter().map(|(id, is_whole)| (*id, answer(*is_whole))).collect());
    vault.append_log(&vault.history()?, clock.now(), vec![entry])?;
    Ok(())
}

pub(super) fn test_restore_into(
    vault: &Vault,
    snapshot: &Snapshot,
    monitor: &dyn Monitor,
    tests: &mut Vec<TestedSnapshot>,
    report: &mut CheckReport,
) -> Result<()> {
    let mut warnings = Vec::new();
    let problems = prove(vault, snapshot, CheckLevel::Full, monitor, &mut warnings)?;
    report.warnings.extend(warnings);
    report.test_restored.push(snapshot.id);
    tests.push((snapshot.id, problems.is_empty()));
    report.problems.extend(problems);
    Ok(())
}

/// Restores a snapshot without writing it anywhere: every chunk, the checksum, and `SQLite`'s checks through a
/// read-only VFS. What is wrong is returned; what cannot be said, `monitor` is warned of.
///
/// # Errors
/// Interrupted.
pub fn test_restore(
    vault: &Vault,
    snapshot: &Snapshot,
    level: CheckLevel,
    monitor: &dyn Monitor,
) -> Result<Vec<Problem>> {
    let mut warnings = Vec::new();
    let problems = prove(vault, snapshot, level, monitor, &mut warnings);
    for warning in &warnings {
        monitor.warn(warning);
    }
    problems
}

fn prove(
    vault: &Vault,
    snapshot: &Snapshot,
    level: CheckLevel,
    monitor: &dyn Monitor,
    warnings: &mut Vec<String>,
) -> Result<Vec<Problem>> {
    let manifest = &snapshot.manifest;
    let object = format!("snapshot {} of {}", snapshot.id.short(), manifest.name);
    let problem = |kind, message| {
        Ok(vec![Problem { object: object.clone(), kind, message, snapshots: vec![snapshot.id] }])
    };
    let _direct = DirectReads::of(vault.store());
    monitor.begin("test restore", &manifest.name, manifest.content.len());
    let assembled = assemble(vault, snapshot, monitor, &mut |_| Ok(()));
    monitor.finish();
    match assembled {
        Err(error) if error.kind() == ErrorKind::Interrupted => return Err(error),
        Err(error) => return problem("damaged", error.to_string()),
        Ok(sum) if manifest.sha256.is_some_and(|expected| expected != sum) => {
            return problem("damaged", "its bytes do not have its SHA-256".to_owned());
        }
        Ok(_) => {}
    }
    if manifest.content.is_empty() {
        return Ok(Vec::new());
    }
    let Some(image) = vault.image(snapshot) else { return Ok(Vec::new()) };
    let report = match verify_image(Box::new(image), level, &manifest.details.required_tables) {
        Ok(report) => report,
        Err(error) => return problem("damaged", error.to_string()),
    };
    if let Some(table) = report.missing_tables.first() {
        return problem("damaged", format!("required table {table:?} is missing"));
    }
    match report.integrity {
        Integrity::Damaged { findings } => {
            let first = findings.first().map_or("", String::as_str);
            return problem(
                "damaged",
                format!("SQLite finds the database damaged as it was captured: {first}"),
            );
        }
        Integrity::NotCheckable { because } => {
            warnings.push(format!("{object}: not checkable, because of {because}"));
        }
        Integrity::Ok | Integrity::Skipped => {}
    }
    Ok(Vec::new())
}
