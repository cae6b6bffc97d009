//! `stats`: what is stored, for what, and how it grows. Manifests, the log and a listing are read; no pack is.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::list;
use crate::error::Result;
use crate::format::manifest::ChunkCounts;
use crate::ids::DatabaseId;
use crate::monitor::Monitor;
use crate::vault::layout::Place;
use crate::vault::{Snapshot, Vault};

/// Objects of one folder.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct ObjectSum {
    /// How many.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl ObjectSum {
    const fn add(&mut self, bytes: u64) {
        self.objects += 1;
        self.bytes += bytes;
    }
}

/// What is stored, by folder.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Stored {
    /// All objects.
    pub total: ObjectSum,
    /// Packs.
    pub packs: ObjectSum,
    /// Index objects.
    pub index: ObjectSum,
    /// Snapshots objects.
    pub snapshots: ObjectSum,
    /// Log objects.
    pub log: ObjectSum,
    /// Config and key slots.
    pub control: ObjectSum,
}

/// Sums over snapshots.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize)]
pub struct Sums {
    /// How many.
    pub snapshots: u64,
    /// Bytes that restoring all of them would write.
    pub logical_bytes: u64,
    /// Bytes that were added for them when they were made. A prune does not change it.
    pub stored_bytes: u64,
    /// Where their chunks came from.
    pub chunks: ChunkCounts,
    /// Chunks for each one that had to be stored: 10 means that nine of ten were there already. Null if none was.
    pub dedup_ratio: Option<f64>,
    /// The share of stored chunks that are deltas, 0 to 1. Null if none was stored.
    pub delta_ratio: Option<f64>,
}

impl Sums {
    fn add(&mut self, snapshot: &Snapshot) {
        let details = &snapshot.manifest.details;
        let chunks = details.chunks.unwrap_or_default();
        self.snapshots += 1;
        self.logical_bytes += snapshot.manifest.content.len();
        self.stored_bytes += details.stored_bytes.unwrap_or(0);
        self.chunks.total += chunks.total;
        self.chunks.unchanged += chunks.unchanged;
        self.chunks.deduplicated += chunks.deduplicated;
        self.chunks.delta += chunks.delta;
        self.chunks.full += chunks.full;
        let stored = self.chunks.delta + self.chunks.full;
        self.dedup_ratio = ratio(self.chunks.total, stored);
        self.delta_ratio = ratio(self.chunks.delta, stored);
    }
}

/// `of` divided by `by`, to three digits.
#[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
fn ratio(of: u64, by: u64) -> Option<f64> {
    (by > 0).then(|| (of as f64 / by as f64 * 1000.0).round() / 1000.0)
}

/// What one database has stored.
#[derive(Debug, Clone, serde::Serialize)]
pub struct DatabaseStats {
    /// The name it had last.
    pub database: String,
    /// Its identity.
    pub database_id: DatabaseId,
    /// When its oldest snapshot was made.
    pub oldest: Timestamp,
    /// When its newest snapshot was made.
    pub newest: Timestamp,
    /// Bytes of its newest snapshot.
    pub size: u64,
    /// Its snapshots together.
    #[serde(flatten)]
    pub sums: Sums,
}

/// What was added on one day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Growth {
    /// The day, in the zone that was asked for.
    pub day: Date,
    /// Snapshots made on it that are there still.
    pub snapshots: u64,
    /// Bytes added for them.
    pub stored_bytes: u64,
}

/// What is stored, in the words of docs/cli.md.
#[derive(Debug, Clone, serde::Serialize)]
pub struct StatsReport {
    /// All snapshots.
    #[serde(flatten)]
    pub sums: Sums,
    /// Forgotten snapshots that are still there.
    pub forgotten: u64,
    /// Pinned snapshots.
    pub pinned: u64,
    /// What is in the store.
    pub stored: Stored,
    /// Logical bytes for each stored byte of the whole vault. Null in an empty one.
    pub ratio: Option<f64>,
    /// By database, in the order of their names.
    pub databases: Vec<DatabaseStats>,
    /// By day, the oldest first; days without a snapshot are left out.
    pub growth: Vec<Growth>,
}

/// Sums up a vault. Days begin where `zone` says.
///
/// # Errors
/// The vault cannot be listed.
pub fn stats(vault: &Vault, zone: &TimeZone, monitor: &dyn Monitor) -> Result<StatsReport> {
    let (history, catalog) = list::read(vault, monitor)?;
    let stored = stored(vault)?;
    let mut sums = Sums::default();
    let mut databases: BTreeMap<DatabaseId, DatabaseStats> = BTreeMap::new();
    let mut growth: BTreeMap<Date, Growth> = BTreeMap::new();
    for snapshot in &catalog.snapshots {
        let (manifest, created_at) = (&snapshot.manifest, snapshot.created_at());
        sums.add(snapshot);
        let own = databases.entry(manifest.database).or_insert_with(|| DatabaseStats {
            database: String::new(),
            database_id: manifest.database,
            oldest: created_at,
            newest: created_at,
            size: 0,
            sums: Sums::default(),
        });
        // Oldest first: the last one wins.
        own.database.clone_from(&manifest.name);
        (own.newest, own.size) = (created_at, manifest.content.len());
        own.sums.add(snapshot);
        let day = created_at.to_zoned(zone.clone()).date();
        let day = growth.entry(day).or_insert(Growth { day, snapshots: 0, stored_bytes: 0 });
        day.snapshots += 1;
        day.stored_bytes += manifest.details.stored_bytes.unwrap_or(0);
    }
    let mut databases: Vec<DatabaseStats> = databases.into_values().collect();
    databases.sort_by(|one, other| one.database.cmp(&other.database));
    Ok(StatsReport {
        forgotten: catalog.forgotten.len() as u64,
        pinned: catalog.snapshots.iter().filter(|snapshot| history.pinned.contains(&snapshot.id)).count()
            as u64,
        ratio: ratio(sums.logical_bytes, stored.total.bytes).filter(|_| sums.snapshots > 0),
        sums,
        stored,
        databases,
        growth: growth.into_values().collect(),
    })
}

fn stored(vault: &Vault) -> Result<Stored> {
    let mut stored = Stored::default();
    vault.store().list("", &mut |meta| {
        let sum = match Place::of(&meta.path) {
            Place::Config | Place::Slot(_) => &mut stored.control,
            Place::Pack(_) => &mut stored.packs,
            Place::Index(_) => &mut stored.index,
            Place::Snapshots(_) => &mut stored.snapshots,
            Place::Log(_) => &mut stored.log,
            Place::Other => return ControlFlow::Continue(()),
        };
        sum.add(meta.size);
        stored.total.add(meta.size);
        ControlFlow::Continue(())
    })?;
    Ok(stored)
}
