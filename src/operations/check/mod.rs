//! `check`: what can be trusted. Three depths: names against bytes, which needs no key; structure and references; and
//! data, read, opened and decoded. A test restore adds SQLite's own opinion of a stored image.

mod controls;
mod promises;
mod proof;
mod references;

use std::collections::{BTreeSet, HashMap};
use std::ops::ControlFlow;

pub use self::proof::test_restore;

use self::controls::{check_controls, check_history};
use self::promises::Promises;
use self::proof::test_restore_into;
use self::references::check_references;
use super::list::{SnapshotSpec, choose};
use crate::clock::Clock;
use crate::crypto::seal::open_directory;
use crate::error::{Error, ErrorKind, Result};
use crate::format::envelope::{Header, ObjectKind};
use crate::format::vault_config::VaultConfig;
use crate::format::{keyslot::KeySlot, limits};
use crate::ids::{ObjectName, SnapshotId};
use crate::monitor::Monitor;
use crate::store::{ObjectMeta, ObjectPath, Store};
use crate::vault::index::Location;
use crate::vault::layout::{self, Place};
use crate::vault::reader::{ChunkReader, plan};
use crate::vault::{Snapshot, Vault, VaultError};

/// How much of the packs is read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum DataLevel {
    /// None: presence and sizes only.
    None,
    /// About this share of the packs, chosen at random, in percent.
    Subset(f64),
    /// All.
    All,
}

/// What is to be checked.
#[derive(Debug, Clone)]
pub struct CheckRequest {
    /// How much data is read.
    pub data: DataLevel,
    /// Test-restore all snapshots (`Some(None)`) or one.
    pub test_restore: Option<Option<SnapshotSpec>>,
}

/// Something that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Problem {
    /// The object.
    pub object: String,
    /// `damaged`, `missing`, `newer`, `unlogged` or `history`.
    pub kind: &'static str,
    /// What does not hold.
    pub message: String,
    /// Snapshots that are harmed.
    pub snapshots: Vec<SnapshotId>,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.object, self.message)
    }
}

/// The outcome of a check, in the words of docs/cli.md.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct CheckReport {
    /// Objects looked at.
    pub objects: u64,
    /// Chunks looked at.
    pub chunks: u64,
    /// Bytes read from the store.
    pub bytes_read: u64,
    /// Snapshots that were test-restored.
    pub test_restored: Vec<SnapshotId>,
    /// What does not hold.
    pub problems: Vec<Problem>,
    /// What a check could not answer, such as an index that needs the application's own function.
    pub warnings: Vec<String>,
}

impl CheckReport {
    #[expect(clippy::needless_pass_by_value, reason = "callers hand over what they have just made")]
    fn problem(&mut self, object: impl ToString, kind: &'static str, message: impl ToString) {
        let problem =
            Problem { object: object.to_string(), kind, message: message.to_string(), snapshots: Vec::new() };
        self.problems.push(problem);
    }

    fn vault_problem(&mut self, object: impl ToString, error: &VaultError) {
        let kind = match error {
            VaultError::Newer { .. } => "newer",
            VaultError::MissingChunk(_) => "missing",
            VaultError::Store(error) if error.is_not_found() => "missing",
            _ => "damaged",
        };
        self.problem(object, kind, error);
    }
}

/// Compares the name of every object with its bytes, and the checksums of the objects with fixed names. Needs no key.
///
/// # Errors
/// The store cannot be listed, or holds no vault.
pub fn check_names(store: &dyn Store, monitor: &dyn Monitor) -> Result<CheckReport> {
    let mut report = CheckReport::default();
    let _in_use = store.in_use(layout::KEYS);
    let objects = listing(store)?;
    if !objects.iter().any(|meta| Place::of(&meta.path) == Place::Config) {
        return Err(VaultError::NotAVault { place: store.describe() }.into());
    }
    monitor.begin("check", "names", objects.iter().map(|meta| meta.size).sum());
    for meta in &objects {
        if monitor.interrupted() {
            return Err(Error::new(ErrorKind::Interrupted, "interrupted"));
        }
        check_bytes(store, meta, &mut report);
        monitor.advance(meta.size);
    }
    monitor.finish();
    check_copies(&objects, &mut report);
    Ok(report)
}

fn listing(store: &dyn Store) -> Result<Vec<ObjectMeta>> {
    let mut objects = Vec::new();
    store.list("", &mut |meta| {
        objects.push(meta);
        ControlFlow::Continue(())
    })?;
    objects.sort_by(|one, other| one.path.as_str().cmp(other.path.as_str()));
    Ok(objects)
}

fn check_bytes(store: &dyn Store, meta: &ObjectMeta, report: &mut CheckReport) {
    let place = Place::of(&meta.path);
    if place == Place::Other {
        return;
    }
    report.objects += 1;
    let bytes = match store.get(&meta.path, limits::OBJECT) {
        Ok(bytes) => bytes,
        Err(error) => {
            report.vault_problem(&meta.path, &error.into());
            return;
        }
    };
    report.bytes_read += bytes.len() as u64;
    match place {
        Place::Config => report.format_problem(&meta.path, VaultConfig::decode(&bytes, None).err()),
        Place::Slot(id) => match KeySlot::decode(&bytes) {
            Ok(slot) if slot.id == id => {}
            Ok(_) => report.problem(&meta.path, "damaged", "it holds another slot"),
            Err(error) => report.format_problem(&meta.path, Some(error)),
        },
        place => {
            if place.name() != Some(ObjectName::of(&bytes)) {
                report.problem(&meta.path, "damaged", "its bytes do not hash to its name");
            }
        }
    }
}

fn check_copies(objects: &[ObjectMeta], report: &mut CheckReport) {
    let paths: BTreeSet<&str> = objects.iter().map(|meta| meta.path.as_str()).collect();
    let mut expect = |path: String| {
        if !paths.contains(path.as_str()) {
            report.problem(path, "missing", "the second copy is there, this one is not");
        }
    };
    // Visitors in the vault's folders have no copies and are none.
    for path in objects.iter().filter(|meta| matches!(Place::of(&meta.path), Place::Config | Place::Slot(_)))
    {
        let path = path.path.as_str();
        expect(path.strip_suffix(".copy").map_or_else(|| format!("{path}.copy"), str::to_owned));
    }
}

/// Checks a vault with its key.
///
/// # Errors
/// The store cannot be listed, or a snapshot to test-restore does not exist. Damage is not an error but a report.
pub fn check(
    vault: &Vault,
    request: &CheckRequest,
    clock: &dyn Clock,
    monitor: &dyn Monitor,
) -> Result<CheckReport> {
    let mut report = CheckReport::default();
    // In this order whatever another client publishes meanwhile is whole: what a manifest needs was named by an index
    // before it was there, and what an index names was there before the index. The cache has no say.
    let history = vault.history()?;
    let snapshots = vault.catalog(&history)?;
    let skipped = vault.load_index_anew()?;
    let objects = listing(vault.store())?;
    for meta in &objects {
        match Place::of(&meta.path) {
            // Read as a whole just now; what is wrong with them is in `skipped`.
            Place::Index(_) | Place::Snapshots(_) | Place::Log(_) => {
                report.objects += 1;
                report.bytes_read += meta.size;
            }
            Place::Pack(_) => report.objects += 1,
            Place::Config | Place::Slot(_) | Place::Other => {}
        }
    }
    check_controls(vault, &objects, &history, &mut report);
    check_copies(&objects, &mut report);
    for skipped in &skipped {
        report.vault_problem(format!("{}/{}", layout::INDEX, skipped.name), &skipped.error);
    }
    for (name, error) in &history.skipped {
        report.vault_problem(format!("{}/{name}", layout::LOG), error);
    }
    for (name, error) in &snapshots.skipped {
        report.vault_problem(format!("{}/{name}", layout::SNAPSHOTS), error);
    }
    check_history(&history, &snapshots, &mut report);
    let mut bad = check_packs(vault, &objects, request.data, monitor, &mut report)?;
    check_references(vault, &snapshots, &mut bad, monitor, &mut report)?;
    if let Some(wanted) = &request.test_restore {
        let chosen: Vec<&Snapshot> = match wanted {
            Some(spec) => vec![choose(&snapshots, spec, clock.now())?],
            None => snapshots.snapshots.iter().collect(),
        };
        for snapshot in chosen {
            test_restore_into(vault, snapshot, monitor, &mut report)?;
        }
    }
    Ok(report)
}

/// Records that cannot be used, by pack and number; `None` stands for the whole pack.
#[derive(Debug, Default)]
struct Bad {
    packs: HashMap<ObjectName, String>,
    records: HashMap<(ObjectName, u32), String>,
}

impl Bad {
    fn why(&self, location: &Location) -> Option<&str> {
        let whole = self.packs.get(&location.pack);
        whole.or_else(|| self.records.get(&(location.pack, location.number))).map(String::as_str)
    }
}

fn check_packs(
    vault: &Vault,
    objects: &[ObjectMeta],
    level: DataLevel,
    monitor: &dyn Monitor,
    report: &mut CheckReport,
) -> Result<Bad> {
    let mut bad = Bad::default();
    let mut present = HashMap::new();
    for meta in objects {
        if let Place::Pack(name) = Place::of(&meta.path) {
            present.insert(name, meta);
        }
    }
    for (name, len) in vault.index().packs()? {
        let path = layout::object_path(ObjectKind::PagePack, name).map_err(VaultError::from)?;
        match present.get(&name) {
            None => {
                report.problem(&path, "missing", "an index names this pack, and it is gone");
                bad.packs.insert(name, format!("pack {path} is missing"));
            }
            Some(meta) if meta.size != len => {
                let message = format!("it has {} bytes instead of {len}", meta.size);
                bad.packs.insert(name, format!("pack {path}: {message}"));
                report.problem(&path, "damaged", message);
            }
            Some(_) => {}
        }
    }
    let chosen: Vec<_> = choose_packs(present, level)?;
    monitor.begin("check", "data", chosen.iter().map(|(_, meta)| meta.size).sum());
    let promises = if chosen.is_empty() { Promises::default() } else { Promises::read(vault)? };
    let mut reader = vault.reader();
    for (name, meta) in chosen {
        if monitor.interrupted() {
            return Err(Error::new(ErrorKind::Interrupted, "interrupted"));
        }
        if !bad.packs.contains_key(&name) {
            check_pack(vault, &meta.path, name, &promises, &mut reader, &mut bad, report)?;
        }
        monitor.advance(meta.size);
    }
    monitor.finish();
    Ok(bad)
}

fn choose_packs(
    present: HashMap<ObjectName, &ObjectMeta>,
    level: DataLevel,
) -> Result<Vec<(ObjectName, &ObjectMeta)>> {
    let mut packs: Vec<_> = present.into_iter().collect();
    packs.sort_unstable_by_key(|(name, _)| *name);
    let percent = match level {
        DataLevel::None => return Ok(Vec::new()),
        DataLevel::All => return Ok(packs),
        DataLevel::Subset(percent) => percent,
    };
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of a count"
    )]
    let wanted = ((packs.len() as f64 * percent / 100.0).ceil() as usize).min(packs.len());
    for position in 0..wanted {
        let random = getrandom::u64().map_err(|error| Error::new(ErrorKind::Failed, error.to_string()))?;
        let rest = (packs.len() - position) as u64;
        let other = position + usize::try_from(random % rest).unwrap_or(0);
        packs.swap(position, other);
    }
    packs.truncate(wanted);
    Ok(packs)
}

/// Reads a pack: name, directory, and every record down to its plaintext.
fn check_pack(
    vault: &Vault,
    path: &ObjectPath,
    name: ObjectName,
    promises: &Promises,
    reader: &mut ChunkReader,
    bad: &mut Bad,
    report: &mut CheckReport,
) -> Result<()> {
    let core = vault.core();
    let opened = crate::vault::read_named(&*core.store, path, name).and_then(|bytes| {
        report.bytes_read += bytes.len() as u64;
        let opened = open_directory(&core.keys, &bytes).and_then(|(_, directory)| {
            let (_, header_len) = Header::decode(&bytes)?;
            Ok((bytes[..header_len].to_vec(), directory))
        });
        opened.map_err(|error| VaultError::of_object(path, error))
    });
    let (header, directory) = match opened {
        Ok(opened) => opened,
        Err(error) if error.is_of_ignorable_kind() => return Ok(()),
        Err(error) => {
            report.vault_problem(path, &error);
            bad.packs.insert(name, error.to_string());
            // Which of its records are whole all the same, shows when the snapshots are walked.
            return Ok(());
        }
    };
    for index in promises.broken(name, &header, &directory)? {
        let message = format!("it says something else of pack {path} than the pack itself");
        // What can be read as it says all the same, shows when the snapshots are walked.
        bad.packs.insert(name, format!("index object {index}: {message}"));
        report.problem(format!("{}/{index}", layout::INDEX), "damaged", message);
    }
    let mut plain = Vec::new();
    for (number, record) in (0u32..).zip(directory.records()) {
        report.chunks += 1;
        let form = {
            let index = vault.index();
            plan(&index, record.class, record.id).ok().and_then(|plan| plan.only(name, number))
        };
        // Records of a crashed run are in no index: nothing refers to them.
        let Some(form) = form else { continue };
        if let Err(error) = reader.read(&form, &mut plain) {
            report.vault_problem(format!("{path} record {number}"), &error);
            bad.records.insert((name, number), error.to_string());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
