//! A vault in the hands of an enemy, with and without the key: whatever was done to its objects, opening,
//! listing, checking and restoring end with an answer, and the answer is never wrong bytes.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use pagevault::clock::FixedClock;
use pagevault::crypto::secret::Secret32;
use pagevault::crypto::unlock::Unlocker;
use pagevault::format::keyslot::Argon2Params;
use pagevault::ids::SnapshotId;
use pagevault::monitor::Silent;
use pagevault::operations::assemble::assemble;
use pagevault::operations::check::{CheckRequest, DataLevel, check, check_names, test_restore};
use pagevault::operations::list::{ListFilter, SnapshotSpec, choose, list};
use pagevault::operations::repair::{RepairRequest, execute, plan};
use pagevault::sqlite::CheckLevel;
use pagevault::store::MemoryStore;
use pagevault::vault::Vault;

use crate::cursor::Cursor;
use crate::fixture::{self, Fixture, SMALL};
use crate::forge::{Forge, edit, refile};

/// More would only be slower.
const EDITS: usize = 12;
/// Snapshots that are put together.
const RESTORES: usize = 5;

pub fn hostile_vault(data: &[u8]) {
    let fixture = fixture::vault();
    let store = fixture.store.fork();
    let mut cursor = Cursor::new(data);
    let mut forge = Forge::new(fixture, &store);
    for _ in 0..EDITS {
        if cursor.is_empty() {
            break;
        }
        // An edit that makes no sense changes nothing.
        let _ = apply(fixture, &store, &mut forge, &mut cursor);
    }
    // One of the snapshots is asked of SQLite as well, in turn.
    judge(fixture, &store, data.len() % RESTORES);
}

fn apply(
    fixture: &Fixture,
    store: &MemoryStore,
    forge: &mut Forge<'_>,
    cursor: &mut Cursor<'_>,
) -> Option<()> {
    let how = cursor.byte();
    match how % 8 {
        0 | 1 => {
            let (path, bytes) = &fixture.objects[cursor.below(fixture.objects.len())];
            let mut edited = bytes.to_vec();
            edit(&mut edited, cursor);
            if how & 16 == 0 {
                store.replace(path, edited);
            } else {
                refile(store, path, &edited.into())?;
                if how & 32 == 0 {
                    store.remove(path);
                }
            }
        }
        2 => {
            let (path, bytes) = &fixture.objects[cursor.below(fixture.objects.len())];
            let (other, _) = &fixture.objects[cursor.below(fixture.objects.len())];
            store.remove(path);
            if how & 16 != 0 {
                store.replace(other, bytes.to_vec());
            }
        }
        3 => {
            let (path, bytes) = &fixture.objects[cursor.below(fixture.objects.len())];
            forge.reseal(path, bytes, cursor)?;
        }
        4 => forge.index(cursor)?,
        5 => forge.manifest(cursor)?,
        6 => forge.log(cursor)?,
        _ => forge.pack(cursor)?,
    }
    Some(())
}

fn judge(fixture: &Fixture, store: &MemoryStore, proven: usize) {
    let clock = FixedClock(Timestamp::UNIX_EPOCH);
    let _ = check_names(store, &Silent);
    let Some(vault) = fixture::open(Box::new(store.fork())) else { return };
    let request = CheckRequest { data: DataLevel::All, test_restore: None };
    let report = check(&vault, &request, &clock, &Silent).expect("a store in memory can be listed");
    let _ = list(&vault, &ListFilter::default(), &Silent).expect("a store in memory can be listed");
    let catalog = vault.catalog(&vault.history().expect("a history")).expect("a catalog");
    let _ = choose(&catalog, &SnapshotSpec::Latest(None), clock.0);
    let small = catalog.snapshots.iter().filter(|snapshot| snapshot.manifest.content.len() <= SMALL);
    for (number, snapshot) in small.take(RESTORES).enumerate() {
        let mut bytes = Vec::new();
        let mut sink = |piece: &[u8]| {
            bytes.extend_from_slice(piece);
            Ok(())
        };
        let restored = assemble(&vault, snapshot, &Silent, &mut sink);
        if let Err(error) = &restored {
            assert!(!report.problems.is_empty(), "check finds nothing wrong with the vault, and {error}");
        }
        if let Some(true_bytes) = fixture.contents.get(&snapshot.id) {
            if restored.is_ok() {
                assert_eq!(Some(&bytes), true_bytes.as_ref(), "wrong bytes were restored");
            }
            assert!(
                true_bytes.as_ref().is_some_and(|whole| whole.starts_with(&bytes)),
                "wrong bytes were handed over"
            );
        }
        if number == proven {
            let _ = test_restore(&vault, snapshot, CheckLevel::Full, &Silent);
        }
    }
    add_slot(&vault);
    mend(fixture, store);
}

/// A repair ends, and makes nothing worse.
fn mend(fixture: &Fixture, store: &MemoryStore) {
    let clock = FixedClock(Timestamp::UNIX_EPOCH);
    let store = Arc::new(store.fork());
    let Some(vault) = fixture::open(Box::new(Arc::clone(&store))) else { return };
    let good = |vault: &Vault| -> Vec<SnapshotId> {
        let catalog = vault.catalog(&vault.history().expect("a history")).expect("a catalog");
        vault.load_index_anew().expect("an index");
        let small = catalog
            .snapshots
            .iter()
            .filter(|snapshot| fixture.contents.get(&snapshot.id).is_some_and(Option::is_some));
        let whole = small.filter(|snapshot| assemble(vault, snapshot, &Silent, &mut |_| Ok(())).is_ok());
        whole.map(|snapshot| snapshot.id).collect()
    };
    let before = good(&vault);
    let (databases, busy_timeout) = (Vec::new(), Duration::ZERO);
    // Without a copy: that would rightly bring back what the log says was forgotten.
    let request = RepairRequest { copy: None, databases, host: None, busy_timeout, read_data: true };
    let repair = plan(&vault, &request, &Silent).expect("a store in memory can be read");
    // What the key's owner forged may exceed what can be written; then the repair ends half done, and that is safe too.
    let _ = execute(&vault, &request, &repair, &clock, &Silent);
    let Some(vault) = fixture::open(Box::new(Arc::clone(&store))) else {
        panic!("a repaired vault does not open")
    };
    let after = good(&vault);
    assert!(before.iter().all(|id| after.contains(id)), "a repair has lost a snapshot");
}

/// Writing goes on in a vault of any history, and what was written is there.
fn add_slot(vault: &Vault) {
    let new = Unlocker::KeyFile(Secret32::new([0x17; 32]));
    let added = vault.add_slot(&new, Argon2Params::recommended(1), None, Timestamp::UNIX_EPOCH);
    if added.is_ok() {
        let _ = vault.slots().expect("slots can be listed");
    }
}
