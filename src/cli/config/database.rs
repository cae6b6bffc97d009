//! What the file says of databases: which they are, and what holds for each.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use glob::{MatchOptions, Pattern};
use pagevault::codec::DEFAULT_LEVEL;
use pagevault::daemon::Schedule;
use pagevault::operations::export::{Relation, Skip};

use super::section::Section;
use super::{Places, at_least_a_second, schedule, values};

/// Keys of `[defaults]`, and of every database.
pub(super) const POLICY: [&str; 13] = [
    "schedule",
    "jitter",
    "max_age",
    "required_tables",
    "tags",
    "compression_level",
    "busy_timeout",
    "max_hold",
    "verify",
    "full_scan",
    "unchanged",
    "export_relations",
    "export_skips",
];
/// Keys of a database alone.
pub(super) const DATABASE: [&str; 5] = ["path", "glob", "exclude", "name", "hooks"];
/// Keys of `[hooks]`.
pub(super) const HOOKS: [&str; 4] = ["before", "after", "failed", "timeout"];

/// Where databases are found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// One file.
    Path(PathBuf),
    /// Whatever matches, but for what is excluded.
    Glob(String, Vec<Pattern>),
}

/// A `[[database]]`.
#[derive(Debug, Clone)]
pub(crate) struct DatabaseEntry {
    /// Where.
    pub(crate) source: Source,
    /// The name in the vault, with its placeholders.
    pub(crate) name: Option<String>,
    /// What holds for it.
    pub(crate) policy: Policy,
}

/// A hidden file is matched only by a pattern that names its point, and `*` stays inside a folder, as in a shell.
pub(crate) const MATCHING: MatchOptions =
    MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: true };

impl DatabaseEntry {
    /// Whether it means the database whose canonical path is `path`, be it there or not.
    pub(crate) fn means(&self, path: &Path) -> bool {
        match &self.source {
            Source::Path(own) => {
                own == path || std::fs::canonicalize(own).is_ok_and(|canonical| canonical == path)
            }
            Source::Glob(pattern, excluded) => {
                let matches = |pattern: &Pattern| pattern.matches_path_with(path, MATCHING);
                Pattern::new(pattern).is_ok_and(|pattern| matches(&pattern)) && !excluded.iter().any(matches)
            }
        }
    }

    /// The name that the file gives the database at `path`.
    pub(crate) fn name_of(&self, path: &Path) -> Option<String> {
        let part = |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
        let name = self.name.as_ref()?;
        Some(
            name.replace("{parent}", &part(path.parent().and_then(Path::file_name)))
                .replace("{stem}", &part(path.file_stem()))
                .replace("{file}", &part(path.file_name())),
        )
    }
}

/// What to do with a database that is proven not to have changed since its newest snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unchanged {
    /// Remember that it was looked at.
    Skip,
    /// Make a snapshot that shares all of its chunks.
    Snapshot,
}

/// What holds for a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Policy {
    pub(crate) schedule: Schedule,
    pub(crate) jitter: Duration,
    pub(crate) max_age: Option<Duration>,
    pub(crate) required_tables: Vec<String>,
    pub(crate) tags: Vec<(String, String)>,
    pub(crate) compression_level: i32,
    pub(crate) busy_timeout: Duration,
    pub(crate) max_hold: Option<Duration>,
    pub(crate) verify: bool,
    pub(crate) full_scan: bool,
    pub(crate) unchanged: Unchanged,
    /// References that the schema does not declare.
    pub(crate) export_relations: Vec<Relation>,
    /// What an export does not follow.
    pub(crate) export_skips: Vec<Skip>,
    pub(crate) hooks: Hooks,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            schedule: Schedule::Every(Duration::from_hours(1)),
            jitter: Duration::ZERO,
            max_age: None,
            required_tables: Vec::new(),
            tags: Vec::new(),
            compression_level: DEFAULT_LEVEL,
            busy_timeout: Duration::from_secs(5),
            max_hold: None,
            verify: false,
            full_scan: false,
            unchanged: Unchanged::Skip,
            export_relations: Vec::new(),
            export_skips: Vec::new(),
            hooks: Hooks::default(),
        }
    }
}

impl Policy {
    /// What `section` says, and `other` where it says nothing.
    pub(super) fn read(section: &Section<'_, '_>, other: &Self) -> Self {
        let length = |key| section.parsed(key, values::length);
        let unchanged = |word: &str| match word {
            "skip" => Ok(Unchanged::Skip),
            "snapshot" => Ok(Unchanged::Snapshot),
            _ => Err("expected \"skip\" or \"snapshot\""),
        };
        let level =
            section.number("compression_level", &(1..=19)).and_then(|level| i32::try_from(level).ok());
        Self {
            schedule: schedule(section, "schedule").unwrap_or_else(|| other.schedule.clone()),
            jitter: length("jitter").unwrap_or(other.jitter),
            max_age: at_least_a_second(section, "max_age").or(other.max_age),
            required_tables: section
                .texts("required_tables")
                .unwrap_or_else(|| other.required_tables.clone()),
            tags: section.pairs("tags").unwrap_or_else(|| other.tags.clone()),
            compression_level: level.unwrap_or(other.compression_level),
            busy_timeout: length("busy_timeout").unwrap_or(other.busy_timeout),
            max_hold: length("max_hold").or(other.max_hold),
            verify: section.flag("verify").unwrap_or(other.verify),
            full_scan: section.flag("full_scan").unwrap_or(other.full_scan),
            unchanged: section.parsed("unchanged", unchanged).unwrap_or(other.unchanged),
            export_relations: parsed_texts(section, "export_relations")
                .unwrap_or_else(|| other.export_relations.clone()),
            export_skips: parsed_texts(section, "export_skips").unwrap_or_else(|| other.export_skips.clone()),
            hooks: other.hooks.clone(),
        }
    }
}

/// A list of texts in which each is to be understood.
fn parsed_texts<T: FromStr<Err = pagevault::Error>>(section: &Section<'_, '_>, key: &str) -> Option<Vec<T>> {
    let parse = |text: &String| match text.parse::<T>() {
        Ok(parsed) => Some(parsed),
        Err(error) => {
            section.wrong(key, format_args!("{error}; {}", error.hint().unwrap_or_default()));
            None
        }
    };
    section.texts(key).map(|texts| texts.iter().filter_map(parse).collect())
}

/// Programs around a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hooks {
    pub(crate) before: Option<String>,
    pub(crate) after: Option<String>,
    pub(crate) failed: Option<String>,
    pub(crate) timeout: Duration,
}

impl Default for Hooks {
    fn default() -> Self {
        Self { before: None, after: None, failed: None, timeout: Duration::from_mins(1) }
    }
}

impl Hooks {
    pub(super) fn read(section: &Section<'_, '_>, other: &Self) -> Self {
        let command = |key, other: &Option<String>| match section.text(key) {
            Some(text) => Some(text).filter(|text| !text.trim().is_empty()),
            None => other.clone(),
        };
        Self {
            before: command("before", &other.before),
            after: command("after", &other.after),
            failed: command("failed", &other.failed),
            timeout: at_least_a_second(section, "timeout").unwrap_or(other.timeout),
        }
    }

    /// Whether there is none.
    pub(crate) const fn are_none(&self) -> bool {
        self.before.is_none() && self.after.is_none() && self.failed.is_none()
    }
}

pub(super) fn read_all(top: &Section<'_, '_>, defaults: &Policy, places: Places<'_>) -> Vec<DatabaseEntry> {
    let known: Vec<&str> = DATABASE.into_iter().chain(POLICY).collect();
    let mut entries: Vec<DatabaseEntry> = Vec::new();
    for section in top.sections("database", &known) {
        let Some(entry) = read(&section, defaults, places) else { continue };
        if entries.iter().any(|other| other.source == entry.source) {
            section.wrong(
                if section.has("path") { "path" } else { "glob" },
                "a [[database]] above has the same",
            );
        }
        let fixed = |entry: &DatabaseEntry| entry.name.clone().filter(|name| !name.contains('{'));
        if let Some(name) = fixed(&entry)
            && entries.iter().any(|other| fixed(other).as_ref() == Some(&name))
        {
            section.wrong("name", format_args!("{name:?} is the name of a [[database]] above"));
        }
        entries.push(entry);
    }
    entries
}

fn read(section: &Section<'_, '_>, defaults: &Policy, places: Places<'_>) -> Option<DatabaseEntry> {
    let mut policy = Policy::read(section, defaults);
    if let Some(hooks) = section.section("hooks", &HOOKS) {
        policy.hooks = Hooks::read(&hooks, &defaults.hooks);
    }
    let name = section.parsed("name", name);
    let source = match (section.has("path"), section.has("glob")) {
        (true, false) => {
            if section.has("exclude") {
                section.wrong("exclude", "it narrows a glob, and this database is a path");
            }
            Source::Path(section.parsed("path", |text| places.path(text))?)
        }
        (false, true) => read_glob(section, places, name.as_deref())?,
        (true, true) => {
            section.wrong("glob", "expected either path or glob, not both");
            return None;
        }
        (false, false) => {
            section.wrong("", "expected a path, such as path = \"/srv/app/app.db\", or a glob");
            return None;
        }
    };
    Some(DatabaseEntry { source, name, policy })
}

fn read_glob(section: &Section<'_, '_>, places: Places<'_>, name: Option<&str>) -> Option<Source> {
    let pattern = |text: &str| -> Result<String, String> {
        let path = places.path(text)?;
        let text = path.to_str().ok_or("expected text")?.to_owned();
        Pattern::new(&text).map_err(|error| format!("expected a pattern: {}", error.msg))?;
        Ok(text)
    };
    let glob = section.parsed("glob", pattern);
    let mut excluded = Vec::new();
    for text in section.texts("exclude").unwrap_or_default() {
        match pattern(&text).map(|text| Pattern::new(&text)) {
            Ok(Ok(pattern)) => excluded.push(pattern),
            Ok(Err(error)) => section.wrong("exclude", format_args!("{text:?}: {error}")),
            Err(why) => section.wrong("exclude", format_args!("{text:?}: {why}")),
        }
    }
    if name.is_some_and(|name| !name.contains('{')) {
        section.wrong("name", "a glob may find several databases; expected {parent}, {stem} or {file} in it");
    }
    Some(Source::Glob(glob?, excluded))
}

fn name(text: &str) -> Result<String, String> {
    let mut rest = text.to_owned();
    for placeholder in ["{parent}", "{stem}", "{file}"] {
        rest = rest.replace(placeholder, "x");
    }
    if rest.is_empty() || rest.contains(['@', '{', '}']) || rest.chars().any(char::is_control) {
        return Err(
            "expected a name without @ and control characters; {parent}, {stem} and {file} stand for \
                    parts of the path"
                .to_owned(),
        );
    }
    Ok(text.to_owned())
}
