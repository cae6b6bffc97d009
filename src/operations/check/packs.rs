//! Packs: present, of the right length, and, as far as they are read, whole down to the plaintext of every record.

use std::collections::{HashMap, HashSet};

use super::promises::Promises;
use super::{CheckReport, DataLevel, kind_of};
use crate::crypto::seal::open_directory;
use crate::error::{Error, ErrorKind, Result};
use crate::format::envelope::{Header, ObjectKind};
use crate::ids::ObjectName;
use crate::monitor::Monitor;
use crate::store::{ObjectMeta, ObjectPath};
use crate::vault::index::Location;
use crate::vault::layout::{self, Place};
use crate::vault::reader::{ChunkReader, plan};
use crate::vault::readings::{Reading, Readings};
use crate::vault::{Vault, VaultError};

/// What is remembered is written down after so many bytes, so that a check that is killed has not read in vain.
const SAVE_AFTER: u64 = 1 << 30;

/// Packs and records, by pack and number, that cannot be used, and why.
#[derive(Debug, Default)]
pub(super) struct Bad {
    pub(super) packs: HashMap<ObjectName, String>,
    pub(super) records: HashMap<(ObjectName, u32), String>,
    /// Those reasons that say nothing of the bytes.
    unreadable: HashSet<String>,
}

impl Bad {
    pub(super) fn why(&self, location: &Location) -> Option<&str> {
        let whole = self.packs.get(&location.pack);
        whole.or_else(|| self.records.get(&(location.pack, location.number))).map(String::as_str)
    }

    /// Notes that `error` was the reason of something, and gives its words.
    pub(super) fn words(&mut self, error: &VaultError) -> String {
        let words = error.to_string();
        if kind_of(error) == "unreadable" {
            self.unreadable.insert(words.clone());
        }
        words
    }

    /// What kind of problem a reason stands for.
    pub(super) fn kind_of(&self, reason: &str) -> &'static str {
        let is_unreadable = self.unreadable.iter().any(|words| reason.ends_with(words));
        if is_unreadable { "unreadable" } else { "damaged" }
    }
}

/// Checks all packs; those in `whole` were read by an earlier attempt of the same check.
pub(super) fn check_packs(
    vault: &Vault,
    objects: &[ObjectMeta],
    level: DataLevel,
    now_us: i64,
    whole: &mut HashSet<ObjectName>,
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
    let mut readings = vault.readings();
    let is_there = |name| present.contains_key(&name);
    let chosen = choose_packs(&present, level, &readings, now_us)?;
    report.packs_left = chosen.left;
    monitor.begin("check", "data", chosen.packs.iter().map(|(_, meta)| meta.size).sum());
    let promises = if chosen.packs.is_empty() { Promises::default() } else { Promises::read(vault)? };
    let mut reader = vault.reader();
    let mut unsaved = 0;
    for (name, meta) in chosen.packs {
        if monitor.interrupted() {
            readings.save(&is_there);
            return Err(Error::new(ErrorKind::Interrupted, "interrupted"));
        }
        if !bad.packs.contains_key(&name) && !whole.contains(&name) {
            let known = (report.problems.len(), report.bytes_read);
            check_pack(vault, &meta.path, name, &promises, &mut reader, &mut bad, report)?;
            let is_whole = report.problems.len() == known.0;
            readings.note(name, Reading { at_us: now_us, whole: is_whole });
            if is_whole {
                whole.insert(name);
            }
            report.packs_read += 1;
            unsaved += report.bytes_read - known.1;
            if unsaved >= SAVE_AFTER {
                readings.save(&is_there);
                unsaved = 0;
            }
        }
        monitor.advance(meta.size);
    }
    if report.packs_read > 0 {
        readings.save(&is_there);
    }
    monitor.finish();
    Ok(bad)
}

/// The packs to be read, in this order, and how many more are due.
#[derive(Debug, Default)]
pub(super) struct Chosen<'a> {
    pub(super) packs: Vec<(ObjectName, &'a ObjectMeta)>,
    pub(super) left: u64,
}

pub(super) fn choose_packs<'a>(
    present: &HashMap<ObjectName, &'a ObjectMeta>,
    level: DataLevel,
    readings: &Readings,
    now_us: i64,
) -> Result<Chosen<'a>> {
    let mut packs: Vec<(ObjectName, &ObjectMeta)> =
        present.iter().map(|(name, meta)| (*name, *meta)).collect();
    packs.sort_unstable_by_key(|(name, _)| *name);
    let percent = match level {
        DataLevel::None => return Ok(Chosen::default()),
        DataLevel::All => return Ok(Chosen { packs, left: 0 }),
        DataLevel::Subset(percent) => percent,
        DataLevel::Due { budget, max_age } => {
            let age_us = max_age.map(|age| i64::try_from(age.as_micros()).unwrap_or(i64::MAX));
            return Ok(due(packs, budget, age_us, readings, now_us));
        }
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
    Ok(Chosen { packs, left: 0 })
}

/// What was found damaged first, then what was never read, then what was read longest ago; as much as `budget` allows, one
/// at least.
fn due<'a>(
    mut packs: Vec<(ObjectName, &'a ObjectMeta)>,
    budget: Option<u64>,
    max_age_us: Option<i64>,
    readings: &Readings,
    now_us: i64,
) -> Chosen<'a> {
    if let Some(age_us) = max_age_us {
        packs.retain(|(name, _)| {
            // One from the future is no reading: some clock was wrong.
            readings.of(*name).is_none_or(|reading| {
                !reading.whole || reading.at_us > now_us || now_us.saturating_sub(reading.at_us) > age_us
            })
        });
    }
    packs.sort_by_key(|(name, _)| match readings.of(*name) {
        Some(Reading { whole: false, .. }) => (0, 0),
        None => (1, 0),
        Some(reading) => (2, reading.at_us),
    });
    let mut bytes = 0;
    let mut count = 0;
    for (_, meta) in &packs {
        bytes += meta.size;
        if count > 0 && budget.is_some_and(|budget| bytes > budget) {
            break;
        }
        count += 1;
    }
    let left = packs.split_off(count).len() as u64;
    Chosen { packs, left }
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
            let why = bad.words(&error);
            bad.packs.insert(name, why);
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
            report.vault_problem(&format!("{path} record {number}"), &error);
            let why = bad.words(&error);
            bad.records.insert((name, number), why);
        }
    }
    Ok(())
}
