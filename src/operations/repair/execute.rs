//! Carrying out a plan. What is new is written first, in the order of docs/format.md, section 11; what it replaces is
//! moved aside last.

use std::collections::HashSet;

use super::live::{self, Key};
use super::packs::{entry_of, index_objects};
use super::plan::{LostManifest, PutBack, RepairPlan};
use super::view::Source;
use super::{RepairRequest, RepairStep};
use crate::clock::Clock;
use crate::codec::{Bases, DEFAULT_LEVEL, Encoder};
use crate::crypto::seal::{ObjectSealer, RecordOpener};
use crate::error::{Error, ErrorKind, Result};
use crate::format::envelope::{Header, ObjectKind};
use crate::format::index::{Index, PackEntry};
use crate::format::limits;
use crate::format::log::{LogEntry, Published};
use crate::format::manifest::encode_snapshots;
use crate::ids::ObjectName;
use crate::monitor::Monitor;
use crate::store::{DirectReads, ObjectPath, Put};
use crate::vault::index::located;
use crate::vault::layout::Place;
use crate::vault::reader::plan as plan_chunk;
use crate::vault::writer::{EncodedChunk, RunWriter};
use crate::vault::{Vault, VaultError, layout, quarantine};

/// Packs that one new index object names at most.
const PACKS_PER_INDEX: usize = 64;

/// What a repair has done.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct RepairReport {
    /// The steps of the plan, all of them done.
    pub steps: Vec<RepairStep>,
    /// Where what was damaged is now.
    pub quarantined: Vec<String>,
    /// Chunks that were stored again.
    pub chunks: u64,
}

/// Carries out `plan`, which was made for `vault` and `request`.
///
/// # Errors
/// The store fails, or another copy or a live database is not what it was when the plan was made. What has been done until
/// then is right and stays; plan again.
pub fn execute(
    vault: &Vault,
    request: &RepairRequest,
    plan: &RepairPlan,
    clock: &dyn Clock,
    monitor: &dyn Monitor,
) -> Result<RepairReport> {
    let _direct = DirectReads::of(vault.store());
    let mut report = RepairReport { steps: plan.steps.clone(), ..RepairReport::default() };
    let work = &plan.work;
    let mut failure = None;
    for object in &work.put_back {
        put_back(vault, request.copy.as_ref(), object, &mut report)?;
    }
    vault.load_index_anew()?;
    store_chunks(vault, request, plan, monitor, &mut report)?;
    reindex(vault, work.reindex.iter().copied())?;
    rewrite(vault, plan)?;
    let recovered = publish(vault, &work.manifests)?;
    log(vault, plan, recovered, clock)?;
    for path in &work.aside {
        if is_whole_after_all(vault, path) {
            continue;
        }
        // One on a bad spot of the disk, which cannot be moved, does not keep the others.
        match quarantine::set_aside(vault.store(), path) {
            Ok(place) => report.quarantined.extend(place.map(|place| place.to_string())),
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    failure.map_or(Ok(report), |error| {
        Err(Error::from(error).context("what was damaged could not be moved aside"))
    })
}

/// A store that failed once when the plan was made may give the object now. Only where nothing else replaces it.
fn is_whole_after_all(vault: &Vault, path: &ObjectPath) -> bool {
    let (kind, name) = match Place::of(path) {
        Place::Snapshots(name) => (ObjectKind::Snapshots, name),
        Place::Log(name) => (ObjectKind::Log, name),
        _ => return false,
    };
    vault.core().read_object(kind, name).is_ok()
}

fn put_back(vault: &Vault, copy: Option<&Vault>, object: &PutBack, report: &mut RepairReport) -> Result<()> {
    let (store, place) = match (&object.source, copy) {
        (Source::Own(place), _) => (vault.store(), place),
        (Source::Copy, Some(copy)) => (copy.store(), &object.path),
        (Source::Copy, None) => {
            return Err(Error::new(ErrorKind::Failed, "the copy is not at hand any more"));
        }
    };
    if is_removed_key(vault, &object.path)? {
        return Ok(());
    }
    let bytes = store.get(place, limits::OBJECT)?;
    if ObjectName::of(&bytes) != object.hash {
        let message =
            format!("{place} in {} is not what it was when the repair was planned", store.describe());
        return Err(Error::new(ErrorKind::Failed, message).with_hint("run `pagevault repair` again"));
    }
    if object.occupied {
        let aside = quarantine::set_aside(vault.store(), &object.path)?;
        report.quarantined.extend(aside.map(|place| place.to_string()));
    }
    if vault.store().put_if_absent(&object.path, &bytes)? == Put::AlreadyPresent {
        let there = vault.store().get(&object.path, limits::OBJECT)?;
        if there != bytes {
            return Err(Error::new(
                ErrorKind::Failed,
                format!("something else was written to {}", object.path),
            )
            .with_hint("run `pagevault repair` again"));
        }
    }
    // A removal that was said just now may have looked for it before it was there.
    if is_removed_key(vault, &object.path)? {
        vault.store().delete(&object.path)?;
    }
    Ok(())
}

/// Whether this is a key slot that somebody removes meanwhile: that is said in the log before it is done.
fn is_removed_key(vault: &Vault, path: &ObjectPath) -> Result<bool> {
    match Place::of(path) {
        Place::Slot(id) => Ok(vault.history()?.removed_slots.contains(&id)),
        _ => Ok(false),
    }
}

/// Where chunks go that are stored again.
struct Again<'a> {
    vault: &'a Vault,
    writer: RunWriter,
    encoder: Encoder,
    chunks: u64,
}

impl Again<'_> {
    /// A chunk by its plaintext, in full.
    fn plain(&mut self, key: Key, plain: &[u8]) -> Result<()> {
        let mut bytes = Vec::new();
        let encoding = self.encoder.encode(plain, Bases::default(), &mut bytes);
        let plain_len = u32::try_from(plain.len()).unwrap_or(u32::MAX);
        self.push(EncodedChunk { id: key.1, class: key.0, encoding, plain_len, bytes })
    }

    fn push(&mut self, chunk: EncodedChunk) -> Result<()> {
        if !self.writer.claim(chunk.class, chunk.id) {
            return Ok(());
        }
        self.chunks += 1;
        if self.writer.sink().and_then(|sink| sink.push(chunk)).is_err() {
            // The writer has stopped, and knows why.
            self.writer.flush(&mut self.vault.index())?;
        }
        if self.writer.is_heavy() {
            self.writer.flush(&mut self.vault.index())?;
        }
        Ok(())
    }
}

fn store_chunks(
    vault: &Vault,
    request: &RepairRequest,
    plan: &RepairPlan,
    monitor: &dyn Monitor,
    report: &mut RepairReport,
) -> Result<()> {
    let mut again =
        Again { vault, writer: vault.begin_run(), encoder: Encoder::new(DEFAULT_LEVEL), chunks: 0 };
    for salvage in &plan.work.salvage {
        let numbers: HashSet<u32> = salvage.numbers.iter().copied().collect();
        let opener =
            RecordOpener::new(&vault.core().keys, &salvage.entry.header).map_err(VaultError::from)?;
        for (number, offset, record) in located(&salvage.entry) {
            if !numbers.contains(&number) {
                continue;
            }
            if monitor.interrupted() {
                return Err(Error::new(ErrorKind::Interrupted, "interrupted"));
            }
            let mut bytes = vault.store().get_range(&salvage.place, offset, record.stored_len as usize)?;
            // As it was encoded, and sealed anew: its base is named by id, wherever that is.
            opener
                .open(record, number, &mut bytes)
                .map_err(|error| VaultError::of_object(&salvage.place, error))?;
            let (id, class, encoding, plain_len) =
                (record.id, record.class, record.encoding, record.plain_len);
            again.push(EncodedChunk { id, class, encoding, plain_len, bytes })?;
        }
    }
    if let Some(copy) = &request.copy {
        let (mut reader, mut plain) = (copy.reader(), Vec::new());
        for key in &plan.work.from_copy {
            if monitor.interrupted() {
                return Err(Error::new(ErrorKind::Interrupted, "interrupted"));
            }
            let form = plan_chunk(&copy.index(), key.0, key.1)?;
            reader.read(&form, &mut plain)?;
            again.plain(*key, &plain)?;
        }
    }
    for (path, keys) in &plan.work.from_live {
        let mut found = 0;
        live::search(vault, path, keys, plan.work.busy_timeout, monitor, &mut |key, plain| {
            found += 1;
            again.plain(key, plain)
        })?;
        if found < keys.len() {
            monitor
                .warn(&format!("{} has changed since: not all of its chunks could be had", path.display()));
        }
    }
    if again.chunks > 0 {
        again.writer.flush(&mut vault.index())?;
    }
    report.chunks = again.chunks;
    Ok(())
}

/// New index objects for packs, by what the packs themselves say.
fn reindex(vault: &Vault, packs: impl Iterator<Item = ObjectName>) -> Result<()> {
    let mut index = Index::default();
    for name in packs {
        let path = layout::object_path(ObjectKind::PagePack, name).map_err(VaultError::from)?;
        index.packs.push(entry_of(vault, &path, name)?);
        if index.packs.len() >= PACKS_PER_INDEX {
            write_index(vault, &std::mem::take(&mut index))?;
        }
    }
    write_index(vault, &index)
}

fn write_index(vault: &Vault, index: &Index) -> Result<()> {
    if index.packs.is_empty() {
        return Ok(());
    }
    let body = index.encode().map_err(VaultError::from)?;
    let name = vault.core().write_object(ObjectKind::Index, &body)?;
    vault.index().add(name, index)?;
    Ok(())
}

/// Index objects without what is not true any more. Each is replaced by one of its own, so that none grows.
fn rewrite(vault: &Vault, plan: &RepairPlan) -> Result<()> {
    let work = &plan.work;
    if work.rewrite.is_empty() {
        return Ok(());
    }
    let mut anew = Vec::new();
    for (name, index) in index_objects(vault)? {
        if !work.rewrite.contains(&name) {
            continue;
        }
        let is_liar = work.liars.contains(&name);
        let mut kept: Vec<PackEntry> = Vec::new();
        for pack in index.packs.into_iter().filter(|pack| !work.dropped.contains(&pack.name)) {
            if is_liar {
                anew.push(pack.name);
            } else {
                kept.push(pack);
            }
        }
        write_index(vault, &Index { packs: kept, replaces: vec![name] })?;
    }
    anew.sort_unstable();
    anew.dedup();
    reindex(vault, anew.into_iter())
}

/// Publishes manifests again, each under the epoch that its id belongs to.
fn publish(vault: &Vault, manifests: &[LostManifest]) -> Result<Vec<Published>> {
    let mut published = Vec::new();
    for lost in manifests {
        let mut salt = [0; 32];
        getrandom::fill(&mut salt).map_err(|error| Error::new(ErrorKind::Failed, error.to_string()))?;
        let header = Header { kind: ObjectKind::Snapshots, epoch: lost.epoch, vault: vault.id(), salt }
            .encode()
            .to_vec();
        let body = encode_snapshots(std::slice::from_ref(&lost.bytes)).map_err(VaultError::from)?;
        let bytes = ObjectSealer::with_header(&vault.core().keys, header)
            .and_then(|sealer| sealer.finish(&body))
            .map_err(VaultError::from)?;
        let object = vault.core().put(ObjectKind::Snapshots, &bytes)?;
        published.push(Published { snapshot: lost.id, database: lost.manifest.database, object });
    }
    Ok(published)
}

fn log(vault: &Vault, plan: &RepairPlan, recovered: Vec<Published>, clock: &dyn Clock) -> Result<()> {
    let work = &plan.work;
    let published: Vec<Published> = work.unlogged.iter().copied().chain(recovered).collect();
    let mut entries = Vec::new();
    if !published.is_empty() {
        entries.push(LogEntry::Published(published));
    }
    if !work.answered.is_empty() {
        entries.push(LogEntry::Merged(work.answered.clone()));
    }
    if !work.taken.is_empty() {
        entries.push(LogEntry::Deleted(work.taken.iter().copied().collect()));
    }
    if !entries.is_empty() {
        vault.append_log(&vault.history()?, clock.now(), entries)?;
    }
    if work.accept_log {
        vault.accept_log();
    }
    if work.log_keyring {
        vault.log_keyring(clock.now())?;
    }
    Ok(())
}
