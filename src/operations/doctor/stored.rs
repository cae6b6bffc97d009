//! What the vault itself tells: its keys, its snapshots, and whether any of them was ever proven to restore.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use jiff::{SignedDuration, Timestamp};

use super::{DoctorRequest, Findings, Severity};
use crate::format::keyslot::SlotKind;
use crate::ids::{DatabaseId, HostId};
use crate::operations::list;
use crate::vault::log::History;
use crate::vault::{Catalog, Snapshot, Vault, VaultError};

/// A proof older than this says little of the disk of today.
const PROOF_LASTS: SignedDuration = SignedDuration::from_hours(90 * 24);

/// A clock may be so far off that of another machine.
const TOLERANCE: SignedDuration = SignedDuration::from_mins(10);

/// What the vault knows of this machine.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Its databases that are still there.
    pub(super) databases: Vec<PathBuf>,
    /// Bytes of the largest newest snapshot.
    pub(super) largest: u64,
}

pub(super) fn look(vault: &Vault, request: &DoctorRequest, now: Timestamp, findings: &mut Findings) -> Known {
    let place = vault.place();
    let looked = (|| {
        let history = vault.history()?;
        let catalog = vault.catalog(&history)?;
        look_at_history(&place, &history, &catalog, findings);
        look_at_keys(vault, findings)?;
        let logged =
            history.tested.values().filter(|answer| answer.is_whole).map(|answer| answer.at_us).max();
        let logged = logged.and_then(|at_us| Timestamp::from_microsecond(at_us).ok());
        look_at_tests(&place, &catalog, request.last_proof.max(logged), now, findings);
        Ok::<_, VaultError>(catalog)
    })();
    match looked {
        Ok(catalog) => look_at_snapshots(&place, &catalog, request.host, now, findings),
        Err(error) => {
            let message = format!("it cannot be read: {error}");
            findings.add(
                "vault",
                Severity::Danger,
                place,
                message,
                "`pagevault check` says what can be trusted",
            );
            Known::default()
        }
    }
}

/// Whether the vault was put back, or has lost something that the log knows of.
fn look_at_history(place: &str, history: &History, catalog: &Catalog, findings: &mut Findings) {
    let vanished = catalog.vanished.iter().map(|id| list::vanished(*id));
    for message in history.alarms.iter().cloned().chain(list::gaps(history)).chain(vanished) {
        let advice = "`pagevault check` says what can be trusted, `pagevault repair` what can be done";
        findings.add("history", Severity::Danger, place, message, advice);
    }
}

fn look_at_keys(vault: &Vault, findings: &mut Findings) -> Result<(), VaultError> {
    let slots = vault.slots()?;
    if slots.iter().all(|slot| slot.slot.kind != SlotKind::RecoveryKey) {
        let severity = if slots.len() < 2 { Severity::Danger } else { Severity::Warning };
        let message = match slots.len() {
            0 | 1 => "there is one key and no recovery key: if it is lost, so is everything in the vault",
            _ => "there is no recovery key",
        };
        findings.add(
            "recovery-key",
            severity,
            vault.place(),
            message,
            "`pagevault key recovery` prints one: keep it on paper, away from this machine",
        );
    }
    Ok(())
}

/// Whether it was ever tried to get something back.
fn look_at_tests(
    place: &str,
    catalog: &Catalog,
    last: Option<Timestamp>,
    now: Timestamp,
    findings: &mut Findings,
) {
    let message = match last {
        Some(last) if now.duration_since(last) > PROOF_LASTS => {
            format!("the last test restore was on {last}")
        }
        None if !catalog.snapshots.is_empty() => "no restore from it was ever tested".to_owned(),
        _ => return,
    };
    let advice =
        "`pagevault check --test-restore latest` restores one without writing it anywhere; do so regularly";
    findings.add("test-restore", Severity::Warning, place, message, advice);
}

fn look_at_snapshots(
    place: &str,
    catalog: &Catalog,
    host: Option<HostId>,
    now: Timestamp,
    findings: &mut Findings,
) -> Known {
    let images = catalog.snapshots.iter().filter(|snapshot| snapshot.is_image());
    // The last of each database is its newest.
    let newest: BTreeMap<DatabaseId, &Snapshot> =
        images.map(|snapshot| (snapshot.manifest.database, snapshot)).collect();
    if newest.is_empty() {
        findings.add(
            "snapshots",
            Severity::Warning,
            place,
            "there is no snapshot in it",
            "`pagevault snapshot DB` makes one",
        );
    }
    let ahead = newest.values().map(|snapshot| snapshot.created_at()).max();
    if let Some(ahead) = ahead.filter(|ahead| ahead.duration_since(now) > TOLERANCE) {
        let message = format!(
            "its newest snapshot is of {ahead}, and this machine's clock says {now}: one of them is wrong"
        );
        findings.add(
            "clock",
            Severity::Danger,
            place,
            message,
            "set the clock, and let it be kept by NTP; times decide what is the newest and what is forgotten",
        );
    }
    let mut known = Known::default();
    for snapshot in newest.values() {
        known.largest = known.largest.max(snapshot.manifest.content.len());
        let path = snapshot.manifest.details.source_path.as_deref().map(OsStr::from_bytes).map(PathBuf::from);
        let Some(path) = path.filter(|_| host == Some(snapshot.manifest.host)) else { continue };
        if path.exists() {
            known.databases.push(path);
        } else {
            let object = path.display();
            findings.add(
                "database",
                Severity::Note,
                object,
                "the vault has snapshots of it, and it is gone",
                "restore it, if it was not meant to go",
            );
        }
    }
    known
}
