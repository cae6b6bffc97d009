//! The log (section 10): what happened, chained per writer.

use super::fields::{FieldWriter, Fields};
use super::{FormatError, limits, within};
use crate::ids::{DatabaseId, ObjectName, SlotId, SnapshotId, WriterId};

/// The answer in a [`LogEntry::Tested`] of a snapshot that was restored from end to end and found whole.
pub const TESTED_WHOLE: u8 = 1;
/// The answer in a [`LogEntry::Tested`] of a snapshot that failed its test restore.
pub const TESTED_DAMAGED: u8 = 2;

/// A snapshot that became visible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// Its database.
    pub database: DatabaseId,
    /// The snapshots object that holds its manifest.
    pub object: ObjectName,
}

/// Which slots are alive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyringState {
    /// Grows by one with each change.
    pub generation: u64,
    /// Hash of `vault.pv`.
    pub config: ObjectName,
    /// Slots and the hashes of their objects.
    pub slots: Vec<(SlotId, ObjectName)>,
    /// The epoch new objects are sealed under.
    pub epoch: u32,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogEntry {
    /// Snapshots became visible.
    Published(Vec<Published>),
    /// Snapshots were withdrawn by the run that made them.
    Aborted(Vec<SnapshotId>),
    /// Snapshots were given up, for a reason.
    Forgotten(Vec<SnapshotId>, Option<String>),
    /// Snapshots were brought back.
    Undeleted(Vec<SnapshotId>),
    /// Snapshots are to be kept for ever.
    Pinned(Vec<SnapshotId>),
    /// They are no longer.
    Unpinned(Vec<SnapshotId>),
    /// Packs may be deleted, but not before this time (microseconds since 1970 UTC).
    Condemned(Vec<ObjectName>, i64),
    /// Packs are needed after all.
    Rescued(Vec<ObjectName>),
    /// Packs were deleted.
    Deleted(Vec<ObjectName>),
    /// The keyring changed.
    Keyring(KeyringState),
    /// Log objects whose entries this object repeats.
    Merged(Vec<ObjectName>),
    /// Packs were read and found whole, to this level.
    Verified(Vec<ObjectName>, u8),
    /// Snapshots were restored for a test, with this answer each: [`TESTED_WHOLE`] or [`TESTED_DAMAGED`].
    Tested(Vec<(SnapshotId, u8)>),
    /// An ignorable entry of a newer version.
    Unknown(u16),
}

/// The content of a log object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// Who wrote it.
    pub writer: WriterId,
    /// Counts this writer's log objects, from 1.
    pub sequence: u64,
    /// The writer's previous log object; zero in the first.
    pub previous: ObjectName,
    /// When, in microseconds since 1970 UTC.
    pub time_us: i64,
    /// What happened.
    pub entries: Vec<LogEntry>,
}

impl Log {
    /// The encoded field list.
    ///
    /// # Errors
    /// There are too many entries.
    pub fn encode(&self) -> Result<Vec<u8>, FormatError> {
        self.validate()?;
        let mut entries: Vec<(u16, Vec<u8>)> = Vec::with_capacity(self.entries.len());
        for entry in &self.entries {
            entries.push(entry.encode()?);
        }
        let mut writer = FieldWriter::new("log");
        writer
            .put(2, &self.writer.0)?
            .put(4, &self.sequence)?
            .put(6, &self.previous.0)?
            .put(8, &self.time_us)?
            .put(10, &entries)?;
        writer.finish()
    }

    /// Decodes a field list.
    ///
    /// # Errors
    /// Anything that section 10 does not allow.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let mut fields = Fields::parse("log", bytes)?;
        let entries: Vec<(u16, Vec<u8>)> = fields.require(10)?;
        within("log entries", entries.len(), limits::LOG_ENTRIES)?;
        let log = Self {
            writer: WriterId(fields.require(2)?),
            sequence: fields.require(4)?,
            previous: ObjectName(fields.require(6)?),
            time_us: fields.require(8)?,
            entries: entries
                .iter()
                .map(|(number, payload)| LogEntry::decode(*number, payload))
                .collect::<Result<_, _>>()?,
        };
        fields.finish()?;
        log.validate()?;
        Ok(log)
    }

    fn validate(&self) -> Result<(), FormatError> {
        within("log entries", self.entries.len(), limits::LOG_ENTRIES)?;
        for entry in &self.entries {
            if let LogEntry::Forgotten(_, Some(reason)) = entry {
                within("reason", reason.len(), limits::STRING)?;
            }
        }
        let first = self.previous == ObjectName([0; 32]);
        if self.sequence == 0 || first != (self.sequence == 1) {
            return Err(FormatError::Invalid("sequence of a log object"));
        }
        Ok(())
    }
}

impl LogEntry {
    fn encode(&self) -> Result<(u16, Vec<u8>), FormatError> {
        let mut writer = FieldWriter::new("log entry");
        let number = match self {
            Self::Published(list) => {
                let list: Vec<_> = list.iter().map(|p| (p.snapshot.0, p.database.0, p.object.0)).collect();
                writer.put(2, &list)?;
                2
            }
            Self::Aborted(list) => put_snapshots(&mut writer, list, 4)?,
            Self::Forgotten(list, reason) => {
                writer.put_some(1, reason.as_ref())?;
                put_snapshots(&mut writer, list, 6)?
            }
            Self::Undeleted(list) => put_snapshots(&mut writer, list, 8)?,
            Self::Pinned(list) => put_snapshots(&mut writer, list, 10)?,
            Self::Unpinned(list) => put_snapshots(&mut writer, list, 12)?,
            Self::Condemned(list, until_us) => {
                writer.put(4, until_us)?;
                put_objects(&mut writer, list, 14)?
            }
            Self::Rescued(list) => put_objects(&mut writer, list, 16)?,
            Self::Deleted(list) => put_objects(&mut writer, list, 18)?,
            Self::Keyring(state) => {
                let slots: Vec<_> = state.slots.iter().map(|(slot, hash)| (slot.0, hash.0)).collect();
                writer
                    .put(2, &state.generation)?
                    .put(4, &state.config.0)?
                    .put(6, &slots)?
                    .put(8, &state.epoch)?;
                20
            }
            Self::Merged(list) => put_objects(&mut writer, list, 22)?,
            Self::Verified(list, level) => {
                writer.put(4, level)?;
                put_objects(&mut writer, list, 1)?
            }
            Self::Tested(list) => {
                writer.put(2, &list.iter().map(|(id, answer)| (id.0, *answer)).collect::<Vec<_>>())?;
                3
            }
            Self::Unknown(number) => {
                return Err(FormatError::Newer { what: "log entry", number: (*number).into() });
            }
        };
        Ok((number, writer.finish()?))
    }

    fn decode(number: u16, payload: &[u8]) -> Result<Self, FormatError> {
        let mut fields = Fields::parse("log entry", payload)?;
        let entry = match number {
            2 => Self::Published(
                fields
                    .require::<Vec<([u8; 16], [u8; 16], [u8; 32])>>(2)?
                    .into_iter()
                    .map(|(snapshot, database, object)| Published {
                        snapshot: SnapshotId(snapshot),
                        database: DatabaseId(database),
                        object: ObjectName(object),
                    })
                    .collect(),
            ),
            4 => Self::Aborted(snapshots(&mut fields)?),
            6 => Self::Forgotten(snapshots(&mut fields)?, fields.take(1)?),
            8 => Self::Undeleted(snapshots(&mut fields)?),
            10 => Self::Pinned(snapshots(&mut fields)?),
            12 => Self::Unpinned(snapshots(&mut fields)?),
            14 => Self::Condemned(objects(&mut fields)?, fields.require(4)?),
            16 => Self::Rescued(objects(&mut fields)?),
            18 => Self::Deleted(objects(&mut fields)?),
            20 => Self::Keyring(KeyringState {
                generation: fields.require(2)?,
                config: ObjectName(fields.require(4)?),
                slots: fields
                    .require::<Vec<([u8; 8], [u8; 32])>>(6)?
                    .into_iter()
                    .map(|(slot, hash)| (SlotId(slot), ObjectName(hash)))
                    .collect(),
                epoch: fields.require(8)?,
            }),
            22 => Self::Merged(objects(&mut fields)?),
            1 => Self::Verified(objects(&mut fields)?, fields.require(4)?),
            3 => Self::Tested(
                fields
                    .require::<Vec<([u8; 16], u8)>>(2)?
                    .into_iter()
                    .map(|(id, answer)| (SnapshotId(id), answer))
                    .collect(),
            ),
            number if number % 2 == 1 => return Ok(Self::Unknown(number)),
            number => return Err(FormatError::Newer { what: "log entry", number: number.into() }),
        };
        fields.finish()?;
        Ok(entry)
    }
}

fn put_snapshots(writer: &mut FieldWriter, list: &[SnapshotId], number: u16) -> Result<u16, FormatError> {
    writer.put(2, &list.iter().map(|id| id.0).collect::<Vec<_>>())?;
    Ok(number)
}

fn put_objects(writer: &mut FieldWriter, list: &[ObjectName], number: u16) -> Result<u16, FormatError> {
    writer.put(2, &list.iter().map(|name| name.0).collect::<Vec<_>>())?;
    Ok(number)
}

fn snapshots(fields: &mut Fields<'_>) -> Result<Vec<SnapshotId>, FormatError> {
    Ok(fields.require::<Vec<[u8; 16]>>(2)?.into_iter().map(SnapshotId).collect())
}

fn objects(fields: &mut Fields<'_>) -> Result<Vec<ObjectName>, FormatError> {
    Ok(fields.require::<Vec<[u8; 32]>>(2)?.into_iter().map(ObjectName).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_entry() -> impl Strategy<Value = LogEntry> {
        let ids = proptest::collection::vec(any::<[u8; 16]>().prop_map(SnapshotId), 0..4);
        let names = proptest::collection::vec(any::<[u8; 32]>().prop_map(ObjectName), 0..4);
        prop_oneof![
            ids.clone().prop_map(LogEntry::Aborted),
            (ids.clone(), proptest::option::of(".{0,30}"))
                .prop_map(|(ids, why)| LogEntry::Forgotten(ids, why)),
            ids.prop_map(LogEntry::Pinned),
            (names.clone(), any::<i64>()).prop_map(|(names, until)| LogEntry::Condemned(names, until)),
            (names.clone(), any::<u8>()).prop_map(|(names, level)| LogEntry::Verified(names, level)),
            (names, any::<u64>(), any::<[u8; 8]>()).prop_map(|(names, generation, slot)| {
                let slots = names.iter().map(|name| (SlotId(slot), *name)).collect();
                LogEntry::Keyring(KeyringState { generation, config: ObjectName([1; 32]), slots, epoch: 1 })
            }),
        ]
    }

    proptest! {
        #[test]
        fn every_log_goes_both_ways(
            sequence in 1u64.., previous in any::<[u8; 32]>(), time_us: i64,
            entries in proptest::collection::vec(any_entry(), 0..6),
        ) {
            let previous = ObjectName(if sequence == 1 { [0; 32] } else { previous });
            let log = Log { writer: WriterId([1; 16]), sequence, previous, time_us, entries };
            let bytes = log.encode().unwrap();
            prop_assert_eq!(Log::decode(&bytes).unwrap(), log);
        }

        #[test]
        fn changed_bytes_decode_or_fail(
            entries in proptest::collection::vec(any_entry(), 1..6), position: prop::sample::Index, value: u8,
        ) {
            let (writer, previous) = (WriterId([1; 16]), ObjectName([2; 32]));
            let mut bytes = Log { writer, sequence: 2, previous, time_us: 0, entries }.encode().unwrap();
            let position = position.index(bytes.len());
            bytes[position] = value;
            let _ = Log::decode(&bytes);
        }
    }

    #[test]
    fn every_entry_goes_both_ways() {
        let (snapshot, object) = (SnapshotId([1; 16]), ObjectName([2; 32]));
        let log = Log {
            writer: WriterId([9; 16]),
            sequence: 2,
            previous: ObjectName([5; 32]),
            time_us: 77,
            entries: vec![
                LogEntry::Published(vec![Published { snapshot, database: DatabaseId([3; 16]), object }]),
                LogEntry::Aborted(vec![snapshot]),
                LogEntry::Forgotten(vec![snapshot], Some("too old".to_owned())),
                LogEntry::Undeleted(vec![snapshot]),
                LogEntry::Pinned(vec![snapshot]),
                LogEntry::Unpinned(vec![]),
                LogEntry::Condemned(vec![object], 5),
                LogEntry::Rescued(vec![object]),
                LogEntry::Deleted(vec![object]),
                LogEntry::Keyring(KeyringState {
                    generation: 3,
                    config: object,
                    slots: vec![(SlotId([1; 8]), object)],
                    epoch: 1,
                }),
                LogEntry::Merged(vec![object]),
                LogEntry::Verified(vec![object], 2),
                LogEntry::Tested(vec![(snapshot, 1)]),
            ],
        };
        assert_eq!(Log::decode(&log.encode().unwrap()).unwrap(), log);
    }

    #[test]
    fn unknown_entries_are_skipped_if_odd_and_refused_if_even() {
        assert_eq!(LogEntry::decode(101, &[0]), Ok(LogEntry::Unknown(101)));
        assert!(LogEntry::decode(102, &[0]).unwrap_err().is_newer());
    }

    #[test]
    fn a_chain_begins_at_one() {
        let log = |sequence, previous| Log {
            writer: WriterId([9; 16]),
            sequence,
            previous: ObjectName(previous),
            time_us: 0,
            entries: vec![],
        };
        assert!(log(1, [0; 32]).encode().is_ok());
        assert!(log(0, [0; 32]).encode().is_err());
        assert!(log(1, [1; 32]).encode().is_err());
        assert!(log(2, [0; 32]).encode().is_err());
    }
}
