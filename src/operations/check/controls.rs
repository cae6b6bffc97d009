//! The objects with fixed names, and what the log says of them. Anybody who can write to the store can put a config or a
//! slot there that looks whole; the vault's key and the log tell which are genuine.

use std::collections::{BTreeMap, BTreeSet};

use super::CheckReport;
use crate::crypto::unlock::SlotNote;
use crate::format::keyslot::KeySlot;
use crate::format::vault_config::VaultConfig;
use crate::format::{FormatError, limits};
use crate::ids::{ObjectName, SlotId};
use crate::store::{ObjectMeta, ObjectPath};
use crate::vault::layout::{self, Place};
use crate::vault::log::History;
use crate::vault::{Catalog, Vault, VaultError};

/// Checks all copies of config and slots with the vault's key and against the log.
pub(super) fn check_controls(
    vault: &Vault,
    objects: &[ObjectMeta],
    history: &History,
    report: &mut CheckReport,
) {
    let mut found = BTreeSet::new();
    let expected: BTreeMap<SlotId, ObjectName> =
        history.keyring.iter().flat_map(|state| &state.slots).copied().collect();
    for meta in objects {
        let place = Place::of(&meta.path);
        if !matches!(place, Place::Config | Place::Slot(_)) {
            continue;
        }
        report.objects += 1;
        let bytes = match vault.store().get(&meta.path, limits::CONTROL_OBJECT) {
            Ok(bytes) => bytes,
            Err(error) => {
                report.vault_problem(&meta.path, &error.into());
                continue;
            }
        };
        report.bytes_read += bytes.len() as u64;
        if let Place::Slot(id) = place {
            found.insert(id);
            check_slot(vault, &meta.path, id, &bytes, (&expected, history), report);
        } else {
            let mac = |bytes: &[u8]| vault.core().keys.config_mac(bytes);
            report.format_problem(&meta.path, VaultConfig::decode(&bytes, Some(&mac)).err());
        }
    }
    for id in expected.keys().filter(|id| !found.contains(id)) {
        report.problem(
            format!("{}/{id}", layout::KEYS),
            "missing",
            "the log names this key slot, and it is gone",
        );
    }
    match &history.keyring {
        None => report.warnings.push("the log says nothing of the key slots".to_owned()),
        Some(state) if state.config != vault.config_hash() => {
            report.problem(layout::CONFIG, "history", "it is not the config that the log names");
        }
        Some(_) => {}
    }
}

fn check_slot(
    vault: &Vault,
    path: &ObjectPath,
    id: SlotId,
    bytes: &[u8],
    (expected, history): (&BTreeMap<SlotId, ObjectName>, &History),
    report: &mut CheckReport,
) {
    let slot = match KeySlot::decode(bytes) {
        Ok(slot) => slot,
        Err(error) => return report.format_problem(path, Some(error)),
    };
    if slot.id != id {
        return report.problem(path, "damaged", "it holds another slot");
    }
    let genuine = slot.vault == vault.id()
        && slot.note.is_some()
        && SlotNote::open(&slot, vault.core().keys.keyring()).is_ok();
    match expected.get(&id) {
        Some(hash) if *hash == ObjectName::of(bytes) => {}
        Some(_) => report.problem(path, "damaged", "it is not the key slot that the log names"),
        None if history.removed_slots.contains(&id) => {
            let message = "the log says that this key slot was removed, and it is there: remove it again";
            report.problem(path, "history", message);
        }
        None if genuine => {
            report.warnings.push(format!("{path} is in no log entry: adding it was cut off just before"));
        }
        None => report.warnings.push(format!("{path} was not made with this vault's key and is not used")),
    }
}

/// What the log says of itself, of snapshots, and of what this machine remembers.
pub(super) fn check_history(history: &History, snapshots: &Catalog, report: &mut CheckReport) {
    for text in &history.breaks {
        report.problem(layout::LOG, "history", text);
    }
    for text in &history.alarms {
        report.problem(layout::LOG, "history", text);
    }
    report.warnings.extend(history.behind.iter().cloned());
    for id in &snapshots.unlogged {
        let message = format!("snapshot {} is in no log entry: its run was cut off just before", id.short());
        report.warnings.push(message);
    }
    for id in &snapshots.vanished {
        let object = format!("snapshot {}", id.short());
        let message = "the log says that it was published, and its manifest is gone".to_owned();
        report.problems.push(super::Problem { object, kind: "missing", message, snapshots: vec![*id] });
    }
    for id in &snapshots.vanished_forgotten {
        let message = "it was forgotten and could be brought back, but its manifest is gone";
        report.problem(format!("snapshot {}", id.short()), "missing", message);
    }
}

impl CheckReport {
    /// `error` of decoding `object`, if there is one.
    pub(super) fn format_problem(&mut self, object: &ObjectPath, error: Option<FormatError>) {
        if let Some(error) = error {
            self.vault_problem(object, &VaultError::of_object(object, error.into()));
        }
    }
}
