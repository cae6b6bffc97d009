//! The log of a vault: reading all writers' chains, and appending to one's own.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use super::core::Core;
use super::error::VaultError;
use super::{layout, memory};
use crate::crypto::CryptoError;
use crate::format::FormatError;
use crate::format::envelope::ObjectKind;
use crate::format::log::{KeyringState, Log, LogEntry, TESTED_DAMAGED, TESTED_WHOLE};
use crate::ids::{ObjectName, SlotId, SnapshotId, WriterId};

/// What a test restore of a snapshot said, and when that was written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TestAnswer {
    /// Whether the snapshot was whole.
    pub is_whole: bool,
    /// In microseconds since 1970 UTC.
    pub at_us: i64,
}

/// What all log objects together say.
#[derive(Debug, Default)]
pub struct History {
    /// Snapshots that were published.
    pub published: HashSet<SnapshotId>,
    /// Which object a snapshot's manifest was last published in.
    pub objects: HashMap<SnapshotId, ObjectName>,
    /// Snapshots that were given up, and not brought back.
    pub forgotten: HashSet<SnapshotId>,
    /// When each of them was given up, in microseconds since 1970 UTC.
    pub forgotten_at_us: HashMap<SnapshotId, i64>,
    /// Snapshots that are to be kept for ever.
    pub pinned: HashSet<SnapshotId>,
    /// What the newest test restore of a snapshot said.
    pub tested: HashMap<SnapshotId, TestAnswer>,
    /// Packs that may be deleted, and the time before which they must not be, in microseconds since 1970 UTC.
    pub condemned: BTreeMap<ObjectName, i64>,
    /// Packs and snapshots objects that a prune has taken.
    pub deleted: HashSet<ObjectName>,
    /// How often packs were condemned or deleted: who finds the same number again knows that nobody pruned meanwhile.
    pub prunings: u64,
    /// Snapshots whose run withdrew them.
    pub aborted: HashSet<SnapshotId>,
    /// The newest state of the keyring.
    pub keyring: Option<KeyringState>,
    /// Slots that an earlier state of the keyring named and the newest does not.
    pub removed_slots: BTreeSet<SlotId>,
    /// The latest time in any object, in microseconds since 1970 UTC.
    pub newest_us: i64,
    /// The end of each writer's chain.
    pub heads: BTreeMap<WriterId, (u64, ObjectName)>,
    /// All states of the keyring, with the objects that say so.
    pub keyrings: Vec<(ObjectName, KeyringState)>,
    /// What does not fit what this machine has seen of the vault at this place, in words: it was put back.
    pub alarms: Vec<String>,
    /// Where else this machine has seen a later state of the vault, in words: this is a copy that is behind.
    pub behind: Vec<String>,
    /// Whether this machine sees the vault at this place for the first time.
    pub is_new_place: bool,
    /// Gaps and forks in chains, in words.
    pub breaks: Vec<String>,
    /// Log objects that others continue and that are not there. Those that a repair has answered for are not among them.
    pub missing: BTreeSet<ObjectName>,
    /// Names of all objects.
    pub names: HashSet<ObjectName>,
    /// Objects that could not be read.
    pub skipped: Vec<(ObjectName, VaultError)>,
}

impl History {
    pub(crate) fn read(core: &Core, state: Option<&Path>) -> Result<Self, VaultError> {
        let mut history = Self::default();
        let remembered = state.map(|state| memory::recall(state, &core.store.describe()));
        let mut objects = Vec::new();
        let names: Vec<ObjectName> = core.names(layout::LOG)?.into_iter().map(|(name, _)| name).collect();
        history.names.extend(&names);
        core.read_each(
            &names,
            |name| read_log(core, name),
            |name, read| {
                match read {
                    Ok(log) => objects.push((name, log)),
                    Err(error) if error.is_of_ignorable_kind() => {}
                    Err(error) => history.skipped.push((name, error)),
                }
                Ok(())
            },
        )?;
        history.newest_us = objects.iter().map(|(_, log)| log.time_us).max().unwrap_or(i64::MIN);
        history.find_removed_slots(&objects);
        history.check_chains(&objects);
        if let Some(remembered) = remembered {
            remembered.compare(&mut history);
        }
        objects.sort_by_key(|(name, log)| (log.time_us, log.writer, log.sequence, *name));
        for (name, log) in objects {
            for entry in log.entries {
                if let LogEntry::Keyring(state) = &entry {
                    history.keyrings.push((name, state.clone()));
                }
                history.apply(entry, log.time_us);
            }
        }
        Ok(history)
    }

    /// Whether a log object that is new since then says that packs were condemned or deleted. One that cannot be read may
    /// say so.
    pub(crate) fn pruned_since(&self, core: &Core) -> Result<bool, VaultError> {
        let new = core.names(layout::LOG)?.into_iter().filter(|(name, _)| !self.names.contains(name));
        Ok(new.into_iter().any(|(name, _)| {
            read_log(core, name).map_or(true, |log| {
                let is_pruning =
                    |entry: &LogEntry| matches!(entry, LogEntry::Condemned(..) | LogEntry::Deleted(_));
                log.entries.iter().any(is_pruning)
            })
        }))
    }

    /// Whether a snapshot of this id was ever there, as far as the log says.
    pub(crate) fn knows(&self, id: SnapshotId) -> bool {
        [&self.published, &self.forgotten, &self.aborted].iter().any(|known| known.contains(&id))
    }

    fn apply(&mut self, entry: LogEntry, time_us: i64) {
        match entry {
            LogEntry::Published(list) => {
                self.published.extend(list.iter().map(|published| published.snapshot));
                self.objects.extend(list.iter().map(|published| (published.snapshot, published.object)));
            }
            LogEntry::Aborted(list) => self.aborted.extend(list),
            LogEntry::Forgotten(list, _) => {
                // Said twice, it counts from the first time: saying it again must not lengthen the grace.
                for id in list {
                    if self.forgotten.insert(id) {
                        self.forgotten_at_us.insert(id, time_us);
                    }
                }
            }
            LogEntry::Undeleted(list) => list.iter().for_each(|id| {
                self.forgotten.remove(id);
                self.forgotten_at_us.remove(id);
            }),
            LogEntry::Pinned(list) => self.pinned.extend(list),
            LogEntry::Unpinned(list) => list.iter().for_each(|id| {
                self.pinned.remove(id);
            }),
            LogEntry::Condemned(list, not_before_us) => {
                self.prunings += 1;
                self.condemned.extend(list.into_iter().map(|pack| (pack, not_before_us)));
            }
            LogEntry::Rescued(list) => list.iter().for_each(|pack| {
                self.condemned.remove(pack);
            }),
            LogEntry::Deleted(list) => {
                self.prunings += 1;
                for pack in &list {
                    self.condemned.remove(pack);
                }
                self.deleted.extend(list);
            }
            LogEntry::Tested(list) => {
                // Other answers are no proof of anything.
                let known =
                    list.into_iter().filter(|(_, answer)| [TESTED_WHOLE, TESTED_DAMAGED].contains(answer));
                self.tested.extend(known.map(|(id, answer)| {
                    (id, TestAnswer { is_whole: answer == TESTED_WHOLE, at_us: time_us })
                }));
            }
            LogEntry::Keyring(state) => {
                if self.keyring.as_ref().is_none_or(|newest| newest.generation <= state.generation) {
                    self.keyring = Some(state);
                }
            }
            LogEntry::Merged(_) | LogEntry::Verified(..) | LogEntry::Unknown(_) => {}
        }
    }

    /// Slots that somebody has removed, or is about to, as far as entries other than `own` say: the newest that names
    /// them is older than one that does not.
    #[must_use]
    pub fn withdrawn_slots(&self, own: ObjectName) -> BTreeSet<SlotId> {
        let others: Vec<&KeyringState> =
            self.keyrings.iter().filter(|(name, _)| *name != own).map(|(_, state)| state).collect();
        let mut named: BTreeMap<SlotId, u64> = BTreeMap::new();
        for state in &others {
            for (slot, _) in &state.slots {
                let newest = named.entry(*slot).or_default();
                *newest = state.generation.max(*newest);
            }
        }
        let newest = others.iter().map(|state| state.generation).max().unwrap_or(0);
        named.into_iter().filter(|(_, named_at)| *named_at < newest).map(|(slot, _)| slot).collect()
    }

    /// The slots to name in a new state of the keyring, if the newest states name one that is not among `present`: two who
    /// change keys at once each name what the other removes. A slot that one of the newest states leaves out and an earlier
    /// one named is being removed; one that no earlier state named was just added.
    pub(crate) fn slots_to_settle(
        &self,
        present: &[(SlotId, ObjectName)],
    ) -> Option<Vec<(SlotId, ObjectName)>> {
        let states = || self.keyrings.iter().map(|(_, state)| state);
        let generation = states().map(|state| state.generation).max()?;
        let newest: Vec<&KeyringState> = states().filter(|state| state.generation == generation).collect();
        let names = |state: &KeyringState, slot: SlotId| state.slots.iter().any(|(named, _)| *named == slot);
        let is_present = |slot: SlotId| present.iter().any(|(there, _)| *there == slot);
        if newest.iter().flat_map(|state| &state.slots).all(|(slot, _)| is_present(*slot)) {
            return None;
        }
        let was_named = |slot| states().any(|state| state.generation < generation && names(state, slot));
        let stays = |slot: SlotId| {
            let by_all = newest.iter().all(|state| names(state, slot));
            by_all || newest.iter().any(|state| names(state, slot)) && !was_named(slot)
        };
        Some(present.iter().filter(|(slot, _)| stays(*slot)).copied().collect())
    }

    /// States of one generation were written at the same time: what one of them names was not removed by another.
    fn find_removed_slots(&mut self, objects: &[(ObjectName, Log)]) {
        let states = || {
            objects.iter().flat_map(|(_, log)| &log.entries).filter_map(|entry| match entry {
                LogEntry::Keyring(state) => Some(state),
                _ => None,
            })
        };
        let newest = states().map(|state| state.generation).max();
        let named = |of_newest: bool| {
            let of_interest = states().filter(move |state| (Some(state.generation) == newest) == of_newest);
            of_interest.flat_map(|state| &state.slots).map(|(slot, _)| *slot).collect::<BTreeSet<_>>()
        };
        self.removed_slots = named(false).difference(&named(true)).copied().collect();
    }

    fn check_chains(&mut self, objects: &[(ObjectName, Log)]) {
        let mut chains: BTreeMap<WriterId, BTreeSet<(u64, ObjectName, ObjectName)>> = BTreeMap::new();
        for (name, log) in objects {
            chains.entry(log.writer).or_default().insert((log.sequence, *name, log.previous));
        }
        // What a repair answers for by name is no gap any more.
        let answered: HashSet<ObjectName> = objects
            .iter()
            .flat_map(|(_, log)| &log.entries)
            .filter_map(|entry| if let LogEntry::Merged(names) = entry { Some(names) } else { None })
            .flatten()
            .copied()
            .collect();
        for (writer, chain) in chains {
            let mut last = (0, ObjectName([0; 32]));
            for (sequence, name, previous) in chain {
                if sequence == last.0 {
                    self.breaks.push(format!("writer {} wrote log entry {sequence} twice", writer.short()));
                } else if (sequence != last.0.saturating_add(1) || previous != last.1)
                    && !answered.contains(&previous)
                {
                    if previous != ObjectName([0; 32]) {
                        self.missing.insert(previous);
                    }
                    let gap = format!("writer {}: log entries before {sequence} are missing", writer.short());
                    self.breaks.push(gap);
                }
                last = (sequence, name);
            }
            self.heads.insert(writer, last);
        }
    }
}

fn read_log(core: &Core, name: ObjectName) -> Result<Log, VaultError> {
    let (_, body) = core.read_object(ObjectKind::Log, name)?;
    Log::decode(&body)
        .map_err(|error| VaultError::of_object(format!("{}/{name}", layout::LOG), CryptoError::from(error)))
}

/// Appends to this client's own chain.
///
/// Whose chain that is, is remembered in a small file in the client's state folder, locked while appending;
/// without such a folder each run is a writer of its own.
pub(crate) fn append(
    core: &Core,
    state: Option<&Path>,
    history: &History,
    time_us: i64,
    entries: Vec<LogEntry>,
) -> Result<ObjectName, VaultError> {
    let mut file = state.and_then(|folder| open_state(folder, &core.store.describe()));
    let remembered = file.as_mut().and_then(read_state);
    let writer = match remembered {
        Some((writer, ..)) => writer,
        None => WriterId::random().map_err(CryptoError::from)?,
    };
    let remembered = remembered.map_or((0, ObjectName([0; 32])), |(_, sequence, name)| (sequence, name));
    // A crash between writing the object and remembering it leaves the vault ahead of the file.
    let in_vault = history.heads.get(&writer).copied().unwrap_or((0, ObjectName([0; 32])));
    let (sequence, previous) = if in_vault.0 > remembered.0 { in_vault } else { remembered };
    let sequence = sequence.checked_add(1).ok_or(FormatError::Invalid("sequence of a log object"))?;
    // Never before what this client has read: entries apply in the order of their times, whatever clocks say.
    let time_us = time_us.max(history.newest_us);
    let log = Log { writer, sequence, previous, time_us, entries };
    let name = match core.write_object(ObjectKind::Log, &log.encode()?) {
        Ok(name) => name,
        Err(error) => {
            // Nobody knows whether the object is there: a second one of the same number would look like a fork.
            if let Some(file) = &mut file {
                let _ = file.set_len(0);
            }
            return Err(error);
        }
    };
    if let Some(file) = &mut file {
        // Without it the next append of this client begins a chain anew, or goes on from the vault's.
        let _ = write_state(file, writer, log.sequence, name);
    }
    if let Some(folder) = state {
        memory::remember(folder, &core.store.describe(), writer, log.sequence, name);
    }
    Ok(name)
}

/// The last log object that this client remembers having written at `place`: its chain, its number there, its name.
pub(crate) fn remembered(state: Option<&Path>, place: &str) -> Option<(WriterId, u64, ObjectName)> {
    let mut file = File::open(state?.join(state_file(place))).ok()?;
    read_state(&mut file)
}

fn state_file(place: &str) -> String {
    format!("writer-{}", memory::place_key(place))
}

/// By place: a copy of a vault that is written to begins a chain of its own.
fn open_state(folder: &Path, place: &str) -> Option<File> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).ok()?;
    let path = folder.join(state_file(place));
    let file =
        File::options().read(true).write(true).create(true).truncate(false).mode(0o600).open(path).ok()?;
    file.lock().ok()?;
    Some(file)
}

fn read_state(file: &mut File) -> Option<(WriterId, u64, ObjectName)> {
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    let mut words = text.split_whitespace();
    Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?, words.next()?.parse().ok()?))
}

fn write_state(file: &mut File, writer: WriterId, sequence: u64, name: ObjectName) -> std::io::Result<()> {
    let text = format!("{writer} {sequence:020} {name}\n");
    file.rewind()?;
    file.write_all(text.as_bytes())?;
    file.set_len(text.len() as u64)?;
    file.sync_all()
}
