//! `list` and `show`, and the words by which people name a snapshot.

use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Span, Timestamp};

use crate::checksum::Sha256;
use crate::error::{Error, ErrorKind, Result};
use crate::format::manifest::{ChunkCounts, JournalMode, Kind};
use crate::ids::{DatabaseId, SnapshotId};
use crate::monitor::Monitor;
use crate::operations::retention::is_ahead;
use crate::vault::log::History;
use crate::vault::{Catalog, Snapshot, Vault};

/// A snapshot for people and scripts, in the words of docs/cli.md.
#[derive(Debug, Clone, serde::Serialize)]
pub struct SnapshotInfo {
    /// Its id.
    pub snapshot_id: SnapshotId,
    /// Name of the database.
    pub database: String,
    /// Identity of the database.
    pub database_id: DatabaseId,
    /// Canonical path of the source.
    pub source: String,
    /// Machine of the source.
    pub host: Option<String>,
    /// Why it was made.
    pub kind: Kind,
    /// When the image was true.
    pub created_at: Timestamp,
    /// The snapshot it was compared with.
    pub parent: Option<SnapshotId>,
    /// What the content is.
    pub content: ContentKind,
    /// Bytes of the content.
    pub size: u64,
    /// Bytes of a page.
    pub page_size: u32,
    /// Pages of the image.
    pub page_count: u32,
    /// Checksum of the content.
    pub sha256: Option<Sha256>,
    /// Where its chunks came from.
    pub chunks: ChunkCounts,
    /// Bytes of records added for it.
    pub stored_bytes: u64,
    /// The user's words.
    pub description: Option<String>,
    /// The user's `key=value` pairs.
    pub tags: std::collections::BTreeMap<String, String>,
    /// Tables that must be there after a restore.
    pub required_tables: Vec<String>,
    /// How the source keeps its journal.
    pub journal_mode: Option<JournalMode>,
    /// `PRAGMA user_version`.
    pub user_version: Option<i32>,
    /// `PRAGMA application_id`.
    pub application_id: Option<i32>,
    /// Fingerprint of the schema.
    pub schema_fingerprint: Option<String>,
    /// Version of `SQLite` that read the image.
    pub sqlite_version: Option<String>,
    /// Version of pagevault that made the snapshot.
    pub tool_version: Option<String>,
    /// Whether it is to be kept for ever.
    pub pinned: bool,
}

/// What a snapshot holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ContentKind {
    /// An image of a database.
    Database,
    /// A document: an export.
    Document,
}

impl From<&Snapshot> for SnapshotInfo {
    fn from(snapshot: &Snapshot) -> Self {
        let manifest = &snapshot.manifest;
        let details = &manifest.details;
        let geometry = manifest.content.geometry();
        Self {
            snapshot_id: snapshot.id,
            database: manifest.name.clone(),
            database_id: manifest.database,
            source: String::from_utf8_lossy(details.source_path.as_deref().unwrap_or_default()).into_owned(),
            host: details.host_name.clone(),
            kind: manifest.kind,
            created_at: snapshot.created_at(),
            parent: manifest.parent,
            content: if geometry.is_some() { ContentKind::Database } else { ContentKind::Document },
            size: manifest.content.len(),
            page_size: geometry.map_or(0, |geometry| geometry.page_size.bytes()),
            page_count: geometry.map_or(0, |geometry| geometry.page_count),
            sha256: manifest.sha256,
            chunks: details.chunks.unwrap_or_default(),
            stored_bytes: details.stored_bytes.unwrap_or(0),
            description: details.description.clone(),
            tags: details.tags.iter().cloned().collect(),
            required_tables: details.required_tables.clone(),
            journal_mode: details.journal_mode,
            user_version: details.user_version.map(u32::cast_signed),
            application_id: details.application_id.map(u32::cast_signed),
            schema_fingerprint: details.schema_fingerprint.map(|print| crate::ids::to_hex(&print)),
            sqlite_version: details.sqlite_version.clone(),
            tool_version: details.tool_version.clone(),
            pinned: false,
        }
    }
}

/// Which snapshots to list; each part narrows the choice.
#[derive(Debug, Clone, Default)]
pub struct ListFilter {
    /// Of this database.
    pub database: Option<String>,
    /// Of this kind.
    pub kind: Option<Kind>,
    /// Made at or after this.
    pub since: Option<Timestamp>,
    /// With all of these tags.
    pub tags: Vec<(String, String)>,
    /// Those that were forgotten and can perhaps be brought back, instead of those that are there.
    pub forgotten: bool,
}

impl ListFilter {
    fn matches(&self, snapshot: &Snapshot) -> bool {
        let manifest = &snapshot.manifest;
        self.database.as_ref().is_none_or(|name| *name == manifest.name)
            && self.kind.is_none_or(|kind| kind == manifest.kind)
            && self.since.is_none_or(|since| snapshot.created_at() >= since)
            && self.tags.iter().all(|tag| manifest.details.tags.contains(tag))
    }
}

/// The snapshots that match, oldest first.
///
/// # Errors
/// The vault cannot be listed. Objects that cannot be read become warnings.
pub fn list(vault: &Vault, filter: &ListFilter, monitor: &dyn Monitor) -> Result<Vec<SnapshotInfo>> {
    let (history, mut catalog) = read(vault, monitor)?;
    if filter.forgotten {
        catalog.snapshots = std::mem::take(&mut catalog.forgotten);
    }
    if let Some(name) = &filter.database
        && !catalog.database_names().contains(&name.as_str())
    {
        return Err(no_such_database(&catalog, name));
    }
    let info = |snapshot| {
        let info = SnapshotInfo::from(snapshot);
        SnapshotInfo { pinned: history.pinned.contains(&info.snapshot_id), ..info }
    };
    Ok(catalog.snapshots.iter().filter(|snapshot| filter.matches(snapshot)).map(info).collect())
}

/// The snapshots of a vault; what cannot be read becomes a warning.
pub(super) fn catalog(vault: &Vault, monitor: &dyn Monitor) -> Result<Catalog> {
    Ok(read(vault, monitor)?.1)
}

/// The index, up to date; what cannot be read becomes a warning.
pub(super) fn load_index(vault: &Vault, monitor: &dyn Monitor) -> Result<()> {
    for skipped in vault.load_index()? {
        monitor.warn(&format!("index object {} is not used: {}", skipped.name, skipped.error));
    }
    Ok(())
}

/// What the log says and the snapshots of a vault; what cannot be read becomes a warning.
pub(super) fn read(vault: &Vault, monitor: &dyn Monitor) -> Result<(History, Catalog)> {
    let history = vault.history()?;
    warn_of_history(&history, monitor);
    let catalog = vault.catalog(&history)?;
    for (name, error) in &catalog.skipped {
        monitor.warn(&format!("snapshots object {name} is not used: {error}"));
    }
    warn_of_vanished(&catalog, monitor);
    Ok((history, catalog))
}

/// Says what of the log cannot be read, what it lacks, and whether the vault was put back.
pub(super) fn warn_of_history(history: &History, monitor: &dyn Monitor) {
    for (name, error) in &history.skipped {
        monitor.warn(&format!("log object {name} is not used: {error}"));
    }
    for text in &history.alarms {
        monitor.warn(text);
    }
    if let Some(text) = gaps(history) {
        monitor.warn(&format!("{text}; `pagevault check` says all, `pagevault repair` what can be done"));
    }
    // Whoever works with a copy that is behind need not be told each time.
    for text in history.behind.iter().filter(|_| history.is_new_place) {
        monitor.warn(text);
    }
}

/// What the log lacks, in a sentence. It stays so until a repair has answered for it.
pub(super) fn gaps(history: &History) -> Option<String> {
    let first = history.breaks.first()?;
    let more = match history.breaks.len() {
        1 => String::new(),
        count => format!(" (and {} more)", count - 1),
    };
    Some(format!("the vault's log is not whole: {first}{more}"))
}

/// Says which snapshots are gone that were not forgotten.
pub(super) fn warn_of_vanished(catalog: &Catalog, monitor: &dyn Monitor) {
    catalog.vanished.iter().for_each(|id| monitor.warn(&vanished(*id)));
}

/// What to say of a snapshot that is gone.
pub(super) fn vanished(id: SnapshotId) -> String {
    format!(
        "snapshot {} was published and not forgotten, and its manifest is gone or not readable",
        id.short()
    )
}

/// Says whether the vault was put back or has lost snapshots: for commands that have no other reason to look.
///
/// # Errors
/// The vault cannot be listed.
pub fn watch(vault: &Vault, monitor: &dyn Monitor) -> Result<()> {
    read(vault, monitor).map(|_| ())
}

/// When a snapshot was wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Moment {
    /// The newest.
    Latest,
    /// The newest at or before this instant.
    At(Timestamp),
    /// The newest at or before this long ago.
    Ago(SignedDuration),
}

/// A snapshot in the user's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SnapshotSpec {
    /// By the beginning of its id, four digits or more.
    Prefix(String),
    /// The newest of a kind, or of all, in a vault of one database.
    Latest(Option<Kind>),
    /// Of a named database, or of the only one, at a moment.
    Of(Option<String>, Moment),
}

/// Words that name no snapshot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} does not name a snapshot: expected an id, latest, latest:KIND, NAME@latest, NAME@TIME, NAME@-2h, or a time"
)]
pub struct SpecError(String);

impl FromStr for SnapshotSpec {
    type Err = SpecError;

    fn from_str(text: &str) -> std::result::Result<Self, SpecError> {
        let unknown = || SpecError(text.to_owned());
        if let Some((name, moment)) = text.rsplit_once('@') {
            let name = (!name.is_empty()).then(|| name.to_owned()).ok_or_else(unknown)?;
            return Ok(Self::Of(Some(name), parse_moment(moment).ok_or_else(unknown)?));
        }
        if text == "latest" {
            return Ok(Self::Latest(None));
        }
        if let Some(kind) = text.strip_prefix("latest:") {
            let kind = Kind::ALL.into_iter().find(|known| known.name() == kind).ok_or_else(unknown)?;
            return Ok(Self::Latest(Some(kind)));
        }
        if (4..=SnapshotId::LEN * 2).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_hexdigit())
        {
            return Ok(Self::Prefix(text.to_ascii_lowercase()));
        }
        match parse_moment(text) {
            Some(moment @ Moment::At(_)) => Ok(Self::Of(None, moment)),
            _ => Err(unknown()),
        }
    }
}

/// `latest`, a time span before now, or a time: RFC 3339, or a civil one in the machine's time zone.
fn parse_moment(text: &str) -> Option<Moment> {
    if text == "latest" {
        return Some(Moment::Latest);
    }
    if let Some(span) = text.strip_prefix('-') {
        let span: Span = span.parse().ok()?;
        let ago = span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).ok()?;
        return (!ago.is_negative()).then_some(Moment::Ago(ago));
    }
    // `list` shows whole seconds: what it shows as made at 10:00:05 is found by that.
    let rest_of_second = SignedDuration::from_nanos(if is_to_the_second(text) { 999_999_999 } else { 0 });
    let at = |instant: Timestamp| Moment::At(instant.saturating_add(rest_of_second).unwrap_or(instant));
    if let Ok(instant) = text.parse::<Timestamp>() {
        return Some(at(instant));
    }
    let civil = |time: DateTime| time.to_zoned(TimeZone::system()).ok().map(|zoned| at(zoned.timestamp()));
    if let Ok(date) = text.parse::<Date>()
        && !text.contains(['T', 't', ' '])
    {
        // A bare date means the whole day.
        return civil(date.at(23, 59, 59, 999_999_999));
    }
    civil(text.parse().ok()?)
}

/// Whether a time is given with seconds and without a fraction of one.
fn is_to_the_second(text: &str) -> bool {
    let Some((_, time)) = text.split_once(['T', 't', ' ']) else { return false };
    let end = time.find(|character: char| !character.is_ascii_digit() && character != ':');
    let (clock, rest) = time.split_at(end.unwrap_or(time.len()));
    clock.matches(':').count() == 2 && !rest.starts_with(['.', ','])
}

impl fmt::Display for SnapshotSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prefix(prefix) => f.write_str(prefix),
            Self::Latest(None) => f.write_str("latest"),
            Self::Latest(Some(kind)) => write!(f, "latest:{}", kind.name()),
            Self::Of(name, moment) => {
                if let Some(name) = name {
                    write!(f, "{name}@")?;
                }
                match moment {
                    Moment::Latest => f.write_str("latest"),
                    // As it is read: whole seconds stand for the rest of the second, too.
                    Moment::At(instant) => match instant.subsec_nanosecond() {
                        999_999_999 => write!(f, "{instant:.0}"),
                        0 => write!(f, "{instant:.1}"),
                        _ => instant.fmt(f),
                    },
                    Moment::Ago(ago) => write!(f, "-{ago:#}"),
                }
            }
        }
    }
}

/// The snapshot that `spec` names.
///
/// # Errors
/// There is none, or more than one.
pub fn find(vault: &Vault, spec: &SnapshotSpec, now: Timestamp, monitor: &dyn Monitor) -> Result<Snapshot> {
    let catalog = catalog(vault, monitor)?;
    let snapshot = choose(&catalog, spec, now)?;
    warn_of_passed_over(&catalog, spec, snapshot, now, monitor);
    Ok(snapshot.clone())
}

/// Says which snapshot `latest` would have meant if its date were right.
fn warn_of_passed_over(
    catalog: &Catalog,
    spec: &SnapshotSpec,
    chosen: &Snapshot,
    now: Timestamp,
    monitor: &dyn Monitor,
) {
    if !matches!(spec, SnapshotSpec::Latest(_) | SnapshotSpec::Of(_, Moment::Latest)) {
        return;
    }
    let passed_over = |snapshot: &&Snapshot| {
        snapshot.manifest.database == chosen.manifest.database
            && snapshot.is_image() == chosen.is_image()
            && snapshot.created_at() > chosen.created_at()
            && is_ahead(snapshot.created_at(), now)
    };
    if let Some(ahead) = catalog.snapshots.iter().rev().find(passed_over) {
        let (chosen, at) = (chosen.id.short(), chosen.created_at());
        monitor.warn(&format!("{}: {spec} is taken for {chosen}, of {at}", dated_ahead(ahead)));
    }
}

/// What to say of a snapshot whose date is in the future; what follows from that comes after it.
pub(super) fn dated_ahead(snapshot: &Snapshot) -> String {
    let (id, name, at) = (snapshot.id.short(), &snapshot.manifest.name, snapshot.created_at());
    format!("snapshot {id} of {name} is dated in the future ({at}), by this machine's clock")
}

/// The newest of some snapshots, which are in the order of their dates. One that is dated in the future, by a clock that
/// was wrong, must not hide those that were made since; where all are, it may be this clock that is wrong.
pub(super) fn newest<'c>(
    mut newest_first: impl Iterator<Item = &'c Snapshot>,
    now: Timestamp,
) -> Option<&'c Snapshot> {
    let first = newest_first.next()?;
    if !is_ahead(first.created_at(), now) {
        return Some(first);
    }
    Some(newest_first.find(|snapshot| !is_ahead(snapshot.created_at(), now)).unwrap_or(first))
}

/// All that is known of the snapshot that `spec` names.
///
/// # Errors
/// There is none, or more than one.
pub fn describe(
    vault: &Vault,
    spec: &SnapshotSpec,
    now: Timestamp,
    monitor: &dyn Monitor,
) -> Result<SnapshotInfo> {
    let (history, catalog) = read(vault, monitor)?;
    let snapshot = choose(&catalog, spec, now)?;
    warn_of_passed_over(&catalog, spec, snapshot, now, monitor);
    Ok(SnapshotInfo { pinned: history.pinned.contains(&snapshot.id), ..SnapshotInfo::from(snapshot) })
}

/// As [`find`], in a catalog at hand.
///
/// # Errors
/// There is none, or more than one.
pub fn choose<'c>(catalog: &'c Catalog, spec: &SnapshotSpec, now: Timestamp) -> Result<&'c Snapshot> {
    if catalog.snapshots.is_empty() {
        return Err(Error::new(ErrorKind::NotFound, "the vault has no snapshots")
            .with_hint("make one with `pagevault snapshot DB`"));
    }
    match spec {
        SnapshotSpec::Prefix(prefix) => by_prefix(catalog, prefix),
        SnapshotSpec::Latest(kind) => {
            only_database(catalog, spec)?;
            let wanted = |snapshot: &&Snapshot| match kind {
                Some(kind) => *kind == snapshot.manifest.kind,
                None => snapshot.is_image(),
            };
            newest(catalog.snapshots.iter().rev().filter(wanted), now).ok_or_else(|| {
                Error::new(ErrorKind::NotFound, format!("no snapshot for {spec}"))
                    .with_hint("`pagevault list` shows what there is")
            })
        }
        SnapshotSpec::Of(name, moment) => {
            let name = match name {
                Some(name) => name.as_str(),
                None => only_database(catalog, spec)?,
            };
            at_moment(catalog, name, moment, now)
        }
    }
}

fn by_prefix<'c>(catalog: &'c Catalog, prefix: &str) -> Result<&'c Snapshot> {
    let mut matching =
        catalog.snapshots.iter().filter(|snapshot| snapshot.id.to_string().starts_with(prefix));
    match (matching.next(), matching.next()) {
        (Some(snapshot), None) => Ok(snapshot),
        (None, _) => {
            let message = format!("no snapshot has an id that begins with {prefix}");
            let mut forgotten = catalog.forgotten.iter();
            let hint = match forgotten.find(|snapshot| snapshot.id.to_string().starts_with(prefix)) {
                Some(_) => {
                    format!("one that does was forgotten: `pagevault undelete {prefix}` brings it back")
                }
                None => "`pagevault list` shows what there is".to_owned(),
            };
            Err(Error::new(ErrorKind::NotFound, message).with_hint(hint))
        }
        (Some(_), Some(_)) => Err(Error::new(
            ErrorKind::Usage,
            format!("several snapshots have an id that begins with {prefix}"),
        )
        .with_hint("give more digits")),
    }
}

fn only_database<'c>(catalog: &'c Catalog, spec: &SnapshotSpec) -> Result<&'c str> {
    let names = catalog.database_names();
    let databases: std::collections::BTreeSet<_> =
        catalog.snapshots.iter().map(|snapshot| snapshot.manifest.database).collect();
    match (databases.len(), names.first()) {
        (1, Some(_)) => Ok(catalog.snapshots.last().map_or("", |newest| newest.manifest.name.as_str())),
        _ => Err(Error::new(
            ErrorKind::Usage,
            format!("{spec} is not enough: the vault has several databases"),
        )
        .with_hint(format!(
            "say which: {}",
            names.iter().take(5).map(|name| format!("{name}@latest")).collect::<Vec<_>>().join(", ")
        ))),
    }
}

/// The databases of these names. One may have had another name earlier; it is found by any of them.
pub(super) fn databases_named(catalog: &Catalog, names: &[String]) -> Result<HashSet<DatabaseId>> {
    names.iter().map(|name| database_named(catalog, name)).collect()
}

fn database_named(catalog: &Catalog, name: &str) -> Result<DatabaseId> {
    let mut newest_first = catalog.snapshots.iter().rev();
    newest_first
        .find(|snapshot| snapshot.manifest.name == name)
        .map(|snapshot| snapshot.manifest.database)
        .ok_or_else(|| no_such_database(catalog, name))
}

fn at_moment<'c>(catalog: &'c Catalog, name: &str, moment: &Moment, now: Timestamp) -> Result<&'c Snapshot> {
    let database = database_named(catalog, name)?;
    let is_own = |own: &&Snapshot| own.manifest.database == database && own.is_image();
    let own: Vec<&Snapshot> = catalog.snapshots.iter().filter(is_own).collect();
    let mut newest_first = own.iter().rev().copied();
    let until = match moment {
        Moment::Latest => Timestamp::MAX,
        Moment::At(instant) => *instant,
        Moment::Ago(ago) => now.saturating_sub(*ago).unwrap_or(Timestamp::MIN),
    };
    let found = match moment {
        Moment::Latest => newest(newest_first, now),
        Moment::At(_) | Moment::Ago(_) => newest_first.find(|snapshot| snapshot.created_at() <= until),
    };
    found.ok_or_else(|| {
        let nearest: Vec<String> = own
            .iter()
            .take(3)
            .map(|snapshot| format!("{} ({})", snapshot.id.short(), snapshot.created_at()))
            .collect();
        if nearest.is_empty() {
            return Error::new(ErrorKind::NotFound, format!("there are only exports of {name}"))
                .with_hint("name one by its id, or the newest by latest:export");
        }
        Error::new(ErrorKind::NotFound, format!("no snapshot of {name} is as old as {until}"))
            .with_hint(format!("the oldest are {}", nearest.join(", ")))
    })
}

pub(super) fn no_such_database(catalog: &Catalog, name: &str) -> Error {
    let names = catalog.database_names();
    let known = if names.is_empty() {
        "none yet".to_owned()
    } else {
        names.into_iter().take(10).collect::<Vec<_>>().join(", ")
    };
    Error::new(ErrorKind::NotFound, format!("the vault has no database named {name:?}"))
        .with_hint(format!("it has: {known}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specs_are_told_apart() {
        let parse = |text: &str| text.parse::<SnapshotSpec>();
        assert_eq!(parse("latest"), Ok(SnapshotSpec::Latest(None)));
        assert_eq!(parse("latest:migration"), Ok(SnapshotSpec::Latest(Some(Kind::Migration))));
        assert_eq!(parse("AB12"), Ok(SnapshotSpec::Prefix("ab12".to_owned())));
        assert_eq!(parse("app@latest"), Ok(SnapshotSpec::Of(Some("app".to_owned()), Moment::Latest)));
        let ago = Moment::Ago(SignedDuration::from_hours(2));
        assert_eq!(parse("app@-2h"), Ok(SnapshotSpec::Of(Some("app".to_owned()), ago)));
        let at = |time: &str| Ok(SnapshotSpec::Of(None, Moment::At(time.parse().unwrap())));
        assert_eq!(parse("2026-11-22T10:00:00.5Z"), at("2026-11-22T10:00:00.5Z"));
        assert_eq!(parse("2026-11-22T10:00:05Z"), at("2026-11-22T10:00:05.999999999Z"));
        assert_eq!(parse("2026-11-22T10:00Z"), at("2026-11-22T10:00:00Z"));
        assert!(matches!(parse("app@2026-11-22T10:00"), Ok(SnapshotSpec::Of(Some(_), Moment::At(_)))));
        assert!(matches!(parse("app@2026-11-22"), Ok(SnapshotSpec::Of(Some(_), Moment::At(_)))));
        for wrong in ["", "abc", "xyzw", "latest:weekly", "@latest", "app@", "app@noon", "app@--2h", "-2h"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_spec_is_read_as_it_was_printed() {
        for (text, printed) in [
            ("2026-11-22T10:00:05Z", "2026-11-22T10:00:05Z"),
            ("2026-11-22T10:00Z", "2026-11-22T10:00:00.0Z"),
            ("2026-11-22T10:00:05.0Z", "2026-11-22T10:00:05.0Z"),
            ("2026-11-22T10:00:05.25Z", "2026-11-22T10:00:05.25Z"),
            ("app@2026-11-22T11:00:05+01:00", "app@2026-11-22T10:00:05Z"),
            ("app@-2h", "app@-2h"),
            ("latest:migration", "latest:migration"),
        ] {
            let spec: SnapshotSpec = text.parse().unwrap();
            assert_eq!(spec.to_string(), printed, "{text}");
            assert_eq!(printed.parse(), Ok(spec), "{text}");
        }
        for civil in
            ["app@2026-11-22T10:00", "app@2026-11-22", "app@2026-11-22T10:00:05", "app@-1 day 3 hours"]
        {
            let spec: SnapshotSpec = civil.parse().unwrap();
            assert_eq!(spec.to_string().parse(), Ok(spec), "{civil}");
        }
    }
}
