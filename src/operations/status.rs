//! `status`: how well each database of a vault is kept.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use jiff::{SignedDuration, Timestamp};

use super::list;
use super::retention::is_ahead;
use crate::error::Result;
use crate::ids::{DatabaseId, SnapshotId};
use crate::monitor::Monitor;
use crate::vault::log::History;
use crate::vault::{Snapshot, Vault};

/// Growth is that of the last week, or since the first snapshot if that is not so long ago.
const WINDOW: SignedDuration = SignedDuration::from_hours(7 * 24);
const DAY_SECONDS: f64 = 86_400.0;

/// A database, in the words of docs/cli.md.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct DatabaseStatus {
    /// Its name, the one it had last.
    pub database: String,
    /// Its identity.
    pub database_id: DatabaseId,
    /// Canonical path of the source.
    pub source: String,
    /// Machine of the source.
    pub host: Option<String>,
    /// How many snapshots there are.
    pub snapshots: u64,
    /// The newest; an export only where there is nothing else, one that is dated in the future likewise.
    pub newest: SnapshotId,
    /// When its image was true.
    pub newest_at: Timestamp,
    /// The same, if it says something of how well the database is kept: it is no export, and not dated in the future.
    pub kept_at: Option<Timestamp>,
    /// Bytes of its content.
    pub size: u64,
    /// Bytes of records stored for all its snapshots, when each was made.
    pub stored_bytes: u64,
    /// Bytes of records stored in a day, over the last week.
    pub stored_bytes_per_day: u64,
    /// The newest test restore of any of its snapshots, as the log tells, wherever it was made.
    pub last_test: Option<SnapshotTest>,
    /// The newest that found one whole.
    pub last_proof: Option<SnapshotTest>,
}

/// A test restore, as the log tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct SnapshotTest {
    /// The snapshot.
    pub snapshot_id: SnapshotId,
    /// When it was written down.
    pub at: Timestamp,
    /// Whether the snapshot was whole.
    pub is_whole: bool,
}

/// A vault and its databases.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct VaultStatus {
    /// The place in words.
    pub vault: String,
    /// Bytes of all objects.
    pub vault_bytes: u64,
    /// The databases by name.
    pub databases: Vec<DatabaseStatus>,
}

/// How well each database is kept, as far as the vault knows.
///
/// # Errors
/// The vault cannot be listed. Objects that cannot be read become warnings.
pub fn status(vault: &Vault, now: Timestamp, monitor: &dyn Monitor) -> Result<VaultStatus> {
    let (history, catalog) = list::read(vault, monitor)?;
    let mut of_database: BTreeMap<DatabaseId, Vec<&Snapshot>> = BTreeMap::new();
    for snapshot in &catalog.snapshots {
        of_database.entry(snapshot.manifest.database).or_default().push(snapshot);
    }
    for ahead in catalog.snapshots.iter().filter(|snapshot| is_ahead(snapshot.created_at(), now)) {
        monitor.warn(&format!("{}: it does not count as kept", list::dated_ahead(ahead)));
    }
    let mut databases: Vec<DatabaseStatus> =
        of_database.values().filter_map(|snapshots| of_snapshots(snapshots, &history, now)).collect();
    databases.sort_by(|one, other| one.database.cmp(&other.database));
    Ok(VaultStatus { vault: vault.place(), vault_bytes: bytes(vault)?, databases })
}

/// Bytes of all objects of a vault.
///
/// # Errors
/// The vault cannot be listed.
pub fn bytes(vault: &Vault) -> Result<u64> {
    let mut bytes = 0;
    vault.store().list("", &mut |meta| {
        bytes += meta.size;
        ControlFlow::Continue(())
    })?;
    Ok(bytes)
}

/// `snapshots` are those of one database, oldest first.
fn of_snapshots(snapshots: &[&Snapshot], history: &History, now: Timestamp) -> Option<DatabaseStatus> {
    let images = || snapshots.iter().copied().filter(|snapshot| snapshot.is_image()).rev();
    let (first, newest) = (snapshots.first()?, list::newest(images(), now).or(snapshots.last().copied())?);
    let keeps = newest.is_image() && !is_ahead(newest.created_at(), now);
    let details = &newest.manifest.details;
    let tests = || {
        images().filter_map(|snapshot| {
            let answer = history.tested.get(&snapshot.id)?;
            let at = Timestamp::from_microsecond(answer.at_us).ok()?;
            Some(SnapshotTest { snapshot_id: snapshot.id, at, is_whole: answer.is_whole })
        })
    };
    let stored = |snapshot: &&&Snapshot| snapshot.manifest.details.stored_bytes.unwrap_or(0);
    Some(DatabaseStatus {
        database: newest.manifest.name.clone(),
        database_id: newest.manifest.database,
        source: String::from_utf8_lossy(details.source_path.as_deref().unwrap_or_default()).into_owned(),
        host: details.host_name.clone(),
        snapshots: snapshots.len() as u64,
        newest: newest.id,
        newest_at: newest.created_at(),
        kept_at: keeps.then(|| newest.created_at()),
        size: newest.manifest.content.len(),
        stored_bytes: snapshots.iter().map(|snapshot| stored(&snapshot)).sum(),
        stored_bytes_per_day: per_day(
            snapshots.iter().map(|snapshot| (snapshot.created_at(), stored(&snapshot))),
            first.created_at(),
            now,
        ),
        last_test: tests().max_by_key(|test| test.at),
        last_proof: tests().filter(|test| test.is_whole).max_by_key(|test| test.at),
    })
}

/// What the snapshots of the last week stored, in a day. The first snapshot of a database is no growth.
fn per_day(stored: impl Iterator<Item = (Timestamp, u64)>, first: Timestamp, now: Timestamp) -> u64 {
    let start = now.checked_sub(WINDOW).map_or(first, |start| start.max(first));
    let grown: u64 = stored.filter(|(at, _)| *at > start).map(|(_, bytes)| bytes).sum();
    let seconds = now.duration_since(start).as_secs_f64();
    if seconds < 1.0 {
        return 0;
    }
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a figure for people"
    )]
    // Of less than a day nothing is foretold.
    let daily = (grown as f64 * DAY_SECONDS / seconds.max(DAY_SECONDS)) as u64;
    daily
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_what_came_in_the_last_week_per_day() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let (first, now) = (at("2026-11-01T00:00:00Z"), at("2026-11-22T00:00:00Z"));
        let stored = [(first, 1000), (at("2026-11-10T00:00:00Z"), 500), (at("2026-11-20T00:00:00Z"), 700)];
        assert_eq!(per_day(stored.into_iter(), first, now), 100);
        let young = [(first, 1000), (at("2026-11-01T12:00:00Z"), 700)];
        assert_eq!(per_day(young.into_iter(), first, at("2026-11-02T00:00:00Z")), 700);
        assert_eq!(per_day(young.into_iter(), first, at("2026-11-03T00:00:00Z")), 350);
        assert_eq!(per_day([(first, 9)].into_iter(), first, first), 0);
    }
}
