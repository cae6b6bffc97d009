//! Carrying a plan out.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use jiff::Timestamp;

use super::survey::{present, read_index};
use super::{ATTEMPTS, MERGE_INDEXES, PackSum, PrunePlan, PruneReport, WAIT, interrupted, plan};
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::format::envelope::ObjectKind;
use crate::format::index::{Index, PackEntry};
use crate::format::log::LogEntry;
use crate::ids::ObjectName;
use crate::monitor::Monitor;
use crate::operations::list;
use crate::store::StoreError;
use crate::vault::index::{Location, located};
use crate::vault::log::History;
use crate::vault::writer::EncodedChunk;
use crate::vault::{Catalog, Vault, VaultError, layout};

/// Records in one new index object: about 4 MiB of it.
const RECORDS_PER_INDEX: usize = 100_000;
/// An index object below this is merged with others.
const SMALL_INDEX: u64 = 1 << 20;

/// How the last step went.
enum Taken {
    /// All that could be taken away now is gone.
    Done,
    /// The vault has changed under the plan.
    Changed,
    /// There was no room for all that was to be written anew, so first what could go without it was deleted.
    MadeRoom,
    /// There is none, and nothing that could go without.
    NoRoom(Error),
}

/// How copying went.
enum Copied {
    /// What is needed of packs that are to go is elsewhere.
    All,
    /// Another prune was faster.
    Changed,
    /// There is no space left, says the store.
    NoRoom(VaultError),
}

impl PrunePlan {
    /// Carries it out; made anew where the vault has changed meanwhile.
    ///
    /// # Errors
    /// As [`super::prune`].
    pub fn execute(self, vault: &Vault, clock: &dyn Clock, monitor: &dyn Monitor) -> Result<PruneReport> {
        let mut current = self;
        let mut made_room = false;
        for attempt in 1..=ATTEMPTS {
            let request = current.request;
            // So busy a vault gets in the end no more than what needs no quiet moment.
            match current.carry_out(vault, clock, monitor, attempt < ATTEMPTS)? {
                Taken::Done => break,
                Taken::NoRoom(error) if made_room => {
                    monitor.warn(&format!("{error}: what else could be written anew is left as it is"));
                    break;
                }
                Taken::NoRoom(error) => return Err(error),
                Taken::Changed | Taken::MadeRoom if attempt == ATTEMPTS => break,
                Taken::Changed => current = plan(vault, &request, clock, monitor)?,
                Taken::MadeRoom => {
                    made_room = true;
                    // The same plan goes on.
                    let report = current.report;
                    current = Self { report, ..plan(vault, &request, clock, monitor)? };
                }
            }
        }
        Ok(current.report)
    }

    fn carry_out(
        &mut self,
        vault: &Vault,
        clock: &dyn Clock,
        monitor: &dyn Monitor,
        at_once: bool,
    ) -> Result<Taken> {
        let mut has_room = true;
        loop {
            match self.copy(vault, monitor)? {
                Copied::All => break,
                Copied::Changed => return Ok(Taken::Changed),
                Copied::NoRoom(error) => {
                    has_room = false;
                    if !self.copy_less() {
                        return Ok(Taken::NoRoom(error.into()));
                    }
                }
            }
        }
        self.condemn(vault, clock)?;
        let alone = at_once && vault.try_alone();
        let taken = self.take_away(vault, clock, monitor, alone);
        if alone {
            vault.let_others_in();
        }
        let (taken, gone) = taken?;
        // Nobody who came in meanwhile can know of these packs: no index object names them.
        for (name, size) in &gone {
            vault
                .store()
                .delete(&layout::object_path(ObjectKind::PagePack, *name).map_err(VaultError::from)?)?;
            self.report.deleted.add(*size);
        }
        self.settle(vault, clock, &gone)?;
        match taken {
            Taken::Done if !has_room && gone.is_empty() => Ok(Taken::NoRoom(no_room_yet(vault))),
            Taken::Done if !has_room => Ok(Taken::MadeRoom),
            taken => Ok(taken),
        }
    }

    /// Where there is no room for all, what wins little for its room is left for later: first merging, then everything.
    /// Whether anything is to go without it.
    fn copy_less(&mut self) -> bool {
        let left = match std::mem::take(&mut self.merged) {
            merged if merged.is_empty() => std::mem::take(&mut self.copied),
            merged => merged,
        };
        self.copied.retain(|pack| !left.contains(pack));
        self.doomed.retain(|pack| !left.contains(pack));
        !self.doomed.is_empty()
    }

    /// Copies what is needed of packs that are to go.
    fn copy(&self, vault: &Vault, monitor: &dyn Monitor) -> Result<Copied> {
        match self.copy_all(vault, monitor) {
            Ok(true) => Ok(Copied::All),
            Ok(false) => Err(interrupted()),
            Err(VaultError::Store(error)) if error.is_not_found() => Ok(Copied::Changed),
            Err(error @ VaultError::Store(StoreError::NoSpace { .. })) => Ok(Copied::NoRoom(error)),
            Err(error) => Err(error.into()),
        }
    }

    /// `false` if the user asked to stop.
    fn copy_all(&self, vault: &Vault, monitor: &dyn Monitor) -> Result<bool, VaultError> {
        if self.copied.is_empty() {
            return Ok(true);
        }
        let mut writer = vault.begin_run();
        let mut reader = vault.reader();
        let mut done = HashSet::new();
        monitor.begin("prune", "packs", self.report.written_bytes);
        for (name, _) in &self.survey.indexes {
            for pack in read_index(vault, *name)?.packs {
                if !self.copied.contains(&pack.name) || !done.insert(pack.name) {
                    continue;
                }
                for (number, offset, record) in located(&pack) {
                    if !self.reach.of(pack.name).is_some_and(|marks| marks.has(number)) {
                        continue;
                    }
                    if monitor.interrupted() {
                        // What was copied so far need not be copied again.
                        writer.flush(&mut vault.index())?;
                        return Ok(false);
                    }
                    if !writer.claim(record.class, record.id) {
                        continue;
                    }
                    let location = Location {
                        pack: pack.name,
                        header: pack.header.clone(),
                        pack_len: pack.object_len,
                        number,
                        offset,
                        record: *record,
                    };
                    let mut bytes = Vec::new();
                    reader.read_encoded(&location, &mut bytes)?;
                    monitor.advance(u64::from(record.stored_len));
                    let chunk = EncodedChunk {
                        id: record.id,
                        class: record.class,
                        encoding: record.encoding,
                        plain_len: record.plain_len,
                        bytes,
                    };
                    if let Err(error) = writer.sink().and_then(|sink| sink.push(chunk)) {
                        // Flushing says why the run has failed.
                        writer.flush(&mut vault.index())?;
                        return Err(error);
                    }
                    if writer.is_heavy() {
                        writer.flush(&mut vault.index())?;
                    }
                }
            }
        }
        writer.flush(&mut vault.index())?;
        monitor.finish();
        Ok(true)
    }

    /// Says in the log which packs are to go, and which were to and are needed.
    fn condemn(&mut self, vault: &Vault, clock: &dyn Clock) -> Result<()> {
        let known = &self.history.condemned;
        let new: Vec<ObjectName> =
            self.doomed.iter().copied().filter(|pack| !known.contains_key(pack)).collect();
        let needed = |pack: &&ObjectName| !self.doomed.contains(*pack) && self.reach.of(**pack).is_some();
        let rescued: Vec<ObjectName> = known.keys().filter(needed).copied().collect();
        self.report.rescued = rescued.len() as u64;
        let mut entries = Vec::new();
        if !new.is_empty() {
            let not_before = clock.now().saturating_add(WAIT).unwrap_or(Timestamp::MAX);
            entries.push(LogEntry::Condemned(new, not_before.as_microsecond()));
        }
        if !rescued.is_empty() {
            entries.push(LogEntry::Rescued(rescued));
        }
        if !entries.is_empty() {
            vault.append_log(&self.history, clock.now(), entries)?;
        }
        Ok(())
    }

    /// Takes away manifests and what index objects say, if everything is as it was planned; the packs that may be
    /// deleted then, with their sizes.
    fn take_away(
        &mut self,
        vault: &Vault,
        clock: &dyn Clock,
        monitor: &dyn Monitor,
        alone: bool,
    ) -> Result<(Taken, BTreeMap<ObjectName, u64>)> {
        let (history, catalog) = list::read(vault, monitor)?;
        super::refuse_unknown(&history, &catalog)?;
        vault.load_index()?;
        let present = present(vault)?;
        let may_go = self.may_go(&history, clock.now(), alone);
        if !self.holds(vault, &catalog, &may_go)? {
            return Ok((Taken::Changed, BTreeMap::new()));
        }
        let removable = removable(&history, &catalog, self.grace_began_us());
        if !removable.is_empty() {
            // Said before it is done: whoever finds them gone knows that they were not lost.
            let list = removable.iter().copied().collect();
            vault.append_log(&history, clock.now(), vec![LogEntry::Deleted(list)])?;
        }
        for object in removable {
            vault
                .store()
                .delete(&layout::object_path(ObjectKind::Snapshots, object).map_err(VaultError::from)?)?;
        }
        let named = self.replace_indexes(vault, &may_go)?;
        let goes = |name: &ObjectName, is_old: bool| {
            // Alone, no run can be at work on a pack that no index object names.
            may_go.contains(name) && (alone || !self.is_unnamed(*name) || is_old)
                || alone && !named.contains(name)
        };
        let gone = present.into_iter().filter(|(name, (_, is_old))| goes(name, *is_old));
        Ok((Taken::Done, gone.map(|(name, (size, _))| (name, size)).collect()))
    }

    fn grace_began_us(&self) -> i64 {
        self.now.saturating_sub(self.request.grace).unwrap_or(Timestamp::MIN).as_microsecond()
    }

    fn is_unnamed(&self, pack: ObjectName) -> bool {
        !self.survey.packs.contains_key(&pack)
    }

    /// Packs that may be deleted now: all that are to go if nobody else is there, else those that have waited.
    fn may_go(&self, history: &History, now: Timestamp, alone: bool) -> BTreeSet<ObjectName> {
        let unneeded = |pack: &ObjectName| self.doomed.contains(pack) || self.reach.of(*pack).is_none();
        let waited = |not_before_us: i64| alone || not_before_us <= now.as_microsecond();
        let condemned = history.condemned.iter().filter(|(pack, until)| waited(**until) && unneeded(pack));
        let may_go = condemned.map(|(pack, _)| *pack);
        if alone { may_go.chain(self.doomed.iter().copied()).collect() } else { may_go.collect() }
    }

    /// Whether what was published or brought back since the plan was made does without the packs that go.
    fn holds(&self, vault: &Vault, catalog: &Catalog, may_go: &BTreeSet<ObjectName>) -> Result<bool> {
        if may_go.is_empty() {
            return Ok(true);
        }
        let going: BTreeMap<ObjectName, i64> = may_go.iter().map(|pack| (*pack, 0)).collect();
        for snapshot in catalog.snapshots.iter().filter(|snapshot| !self.planned.contains(&snapshot.id)) {
            if !vault.is_whole_without(snapshot, &going)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Writes index objects without the packs that go, then deletes those that they replace. The packs that are named.
    fn replace_indexes(
        &mut self,
        vault: &Vault,
        may_go: &BTreeSet<ObjectName>,
    ) -> Result<HashSet<ObjectName>> {
        let listed = vault.core().names(layout::INDEX)?;
        let crowded = listed.len() >= MERGE_INDEXES;
        let mut named = HashSet::new();
        let mut replaced = Vec::new();
        let mut batch = Batch::default();
        let mut any_affected = false;
        for (name, size) in listed {
            let index = match read_index(vault, name) {
                Err(error) if error.is_of_ignorable_kind() => continue,
                read => read?,
            };
            let is_affected = index.packs.iter().any(|pack| may_go.contains(&pack.name));
            if !(is_affected || crowded && size < SMALL_INDEX) {
                named.extend(index.packs.iter().map(|pack| pack.name));
                continue;
            }
            any_affected |= is_affected;
            replaced.push(name);
            batch.replaces.push(name);
            for pack in index.packs {
                if !may_go.contains(&pack.name) && named.insert(pack.name) {
                    batch.add(vault, pack)?;
                }
            }
        }
        if !any_affected && replaced.len() < 2 {
            // A single small object would be replaced by itself.
            return Ok(named);
        }
        batch.write(vault)?;
        for name in &replaced {
            vault
                .store()
                .delete(&layout::object_path(ObjectKind::Index, *name).map_err(VaultError::from)?)?;
        }
        self.report.replaced_indexes += replaced.len() as u64;
        vault.load_index()?;
        Ok(named)
    }

    /// Says in the log what is gone, and in the report what waits.
    fn settle(&mut self, vault: &Vault, clock: &dyn Clock, gone: &BTreeMap<ObjectName, u64>) -> Result<()> {
        let history = vault.history()?;
        let present = present(vault)?;
        let settled = history.condemned.keys().filter(|pack| !present.contains_key(*pack));
        let mut deleted: BTreeSet<ObjectName> = settled.copied().collect();
        deleted.extend(gone.keys());
        if !deleted.is_empty() {
            vault.append_log(
                &history,
                clock.now(),
                vec![LogEntry::Deleted(deleted.iter().copied().collect())],
            )?;
        }
        self.report.condemned = PackSum::default();
        let waiting = history.condemned.iter().filter(|(pack, _)| !deleted.contains(*pack));
        let mut first = None;
        for (pack, until_us) in waiting {
            self.report.condemned.add(present.get(pack).map_or(0, |(size, _)| *size));
            first = Some(first.map_or(*until_us, |first: i64| first.min(*until_us)));
        }
        self.report.delete_after = first.and_then(|us| Timestamp::from_microsecond(us).ok());
        Ok(())
    }
}

/// Where nothing could be deleted at once to make room.
fn no_room_yet(vault: &Vault) -> Error {
    let message = format!("no space left to write packs of {} anew", vault.place());
    Error::new(ErrorKind::Failed, message).with_hint(
        "what nothing needs is condemned, and another prune deletes it when others have had time to notice; then there is room",
    )
}

/// Index objects in the making.
#[derive(Default)]
struct Batch {
    packs: Vec<PackEntry>,
    records: usize,
    replaces: Vec<ObjectName>,
}

impl Batch {
    fn add(&mut self, vault: &Vault, pack: PackEntry) -> Result<(), VaultError> {
        self.records += pack.directory.records().len();
        self.packs.push(pack);
        if self.records >= RECORDS_PER_INDEX { self.write(vault) } else { Ok(()) }
    }

    fn write(&mut self, vault: &Vault) -> Result<(), VaultError> {
        self.records = 0;
        let packs = std::mem::take(&mut self.packs);
        if packs.is_empty() {
            return Ok(());
        }
        let index = Index { packs, replaces: std::mem::take(&mut self.replaces) };
        vault.core().write_object(ObjectKind::Index, &index.encode()?).map(|_| ())
    }
}

/// Snapshots objects of which no manifest is needed: all were withdrawn, or forgotten before the grace began. Those that
/// are lost already are among them.
pub(super) fn removable(history: &History, catalog: &Catalog, grace_began_us: i64) -> BTreeSet<ObjectName> {
    let can_come_back = |id| history.forgotten_at_us.get(id).is_some_and(|at_us| *at_us > grace_began_us);
    let (kept, expired): (Vec<_>, Vec<_>) =
        catalog.forgotten.iter().partition(|snapshot| can_come_back(&snapshot.id));
    let needed: HashSet<ObjectName> =
        catalog.snapshots.iter().chain(kept).map(|snapshot| snapshot.object).collect();
    let objects = expired.into_iter().chain(&catalog.withdrawn).map(|snapshot| snapshot.object);
    let lost = catalog.vanished_forgotten.iter().filter(|id| !can_come_back(id));
    let lost_objects = lost.filter_map(|id| history.objects.get(id).copied());
    objects.chain(lost_objects).filter(|object| !needed.contains(object)).collect()
}
