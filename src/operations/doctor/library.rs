//! Which `SQLite` is at work: the one linked here, and those inside processes that have a database open.
//!
//! Versions 3.7.0 to 3.51.2 can lose commits of a WAL database when two checkpoints and a writer meet ("WAL-reset bug"); fixed in 3.51.3, and in
//! 3.44.6 and 3.50.7 for those branches. pagevault itself never checkpoints.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::{Findings, Severity};

/// The first version without the WAL-reset bug.
pub const WAL_RESET_FIXED: &str = "3.51.3";

const ADVICE: &str = "use SQLite 3.51.3 or newer (3.50.7 and 3.44.6 are mended too)";

/// Bytes of a program or library that are searched at most.
const SEARCH_LIMIT: u64 = 512 << 20;

/// What every copy of `SQLite` that can open a file has in it.
const MARK: &[u8] = b"SQLite format 3\0";

/// Whether that version of `SQLite` has the WAL-reset bug.
#[must_use]
pub fn has_wal_reset_bug(version: (u32, u32, u32)) -> bool {
    let mended =
        matches!(version, (3, 44, patch) if patch >= 6) || matches!(version, (3, 50, patch) if patch >= 7);
    ((3, 7, 0)..(3, 51, 3)).contains(&version) && !mended
}

pub(super) fn look_at_own(findings: &mut Findings) {
    let version = rusqlite::version();
    if parse(version).is_some_and(has_wal_reset_bug) {
        findings.add(
            "sqlite",
            Severity::Warning,
            format_args!("SQLite {version} in this program"),
            "it has the WAL-reset bug; pagevault never checkpoints a database in use, so it cannot set it off alone",
            ADVICE,
        );
    }
}

/// `3.45.1` as numbers.
pub(super) fn parse(version: &str) -> Option<(u32, u32, u32)> {
    let mut parts = version.split('.').map(|part| part.parse().ok());
    let parsed = (parts.next()??, parts.next()??, parts.next()??);
    parts.next().is_none().then_some(parsed)
}

/// A copy of `SQLite` inside a process.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Copy {
    /// The program or library it is in, as the process sees it.
    pub(super) file: PathBuf,
    /// Its version, where exactly one can be read.
    pub(super) version: Option<String>,
}

/// The copies of `SQLite` that process `pid` has mapped, as far as this user may see.
pub(super) fn copies_in(process: &Path) -> Vec<Copy> {
    let Ok(maps) = std::fs::read_to_string(process.join("maps")) else { return Vec::new() };
    let mut seen = BTreeSet::new();
    let mut copies = Vec::new();
    for line in maps.lines() {
        // address perms offset dev inode path
        let mut words = line.split_ascii_whitespace();
        let (range, executable) = (words.next(), words.next().is_some_and(|perms| perms.contains('x')));
        let Some(path) = line.find('/').map(|at| &line[at..]).filter(|_| executable) else { continue };
        if !seen.insert(path.to_owned()) {
            continue;
        }
        let Some(version) = open(process, range.unwrap_or_default(), path).and_then(version_in) else {
            continue;
        };
        copies.push(Copy { file: path.trim_end_matches(" (deleted)").into(), version: version.0 });
    }
    copies
}

/// The file itself, also where it was replaced since; else what has its name now, in the process's own file system.
fn open(process: &Path, range: &str, path: &str) -> Option<File> {
    let through_map = File::open(process.join("map_files").join(range)).ok();
    through_map
        .or_else(|| File::open(process.join("root").join(path.strip_prefix('/')?)).ok())
        .or_else(|| File::open(path).ok())
}

/// Whether there is a `SQLite` in `file`; and its version, if exactly one can be read.
struct Version(Option<String>);

fn version_in(file: File) -> Option<Version> {
    let mut versions = BTreeSet::new();
    let mut marked = false;
    let mut source = file.take(SEARCH_LIMIT);
    // What is carried over holds a mark or a version that a boundary cuts.
    let (mut window, mut piece) = (Vec::new(), vec![0; 1 << 20]);
    loop {
        let len = source.read(&mut piece).ok()?;
        if len == 0 {
            break;
        }
        window.extend_from_slice(&piece[..len]);
        marked = marked || find(&window, MARK);
        versions.extend(versions_in(&window));
        let keep = window.len().saturating_sub(32);
        window.drain(..keep);
    }
    let single = if versions.len() == 1 { versions.pop_first() } else { None };
    marked.then_some(Version(single))
}

fn find(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}

/// Texts of the form `3.x.y`, each between two NULs, as the library keeps its version.
fn versions_in(bytes: &[u8]) -> Vec<String> {
    let is_version = |text: &&[u8]| {
        text.len() <= 9
            && text.starts_with(b"3.")
            && std::str::from_utf8(text)
                .ok()
                .and_then(parse)
                .is_some_and(|(_, minor, _)| (5..100).contains(&minor))
    };
    let parts: Vec<&[u8]> = bytes.split(|&byte| byte == 0).collect();
    // Neither the first nor the last is known to be whole.
    let whole = parts.get(1..parts.len().saturating_sub(1)).unwrap_or_default();
    whole
        .iter()
        .copied()
        .filter(|text| is_version(text))
        .map(|text| String::from_utf8_lossy(text).into_owned())
        .collect()
}

/// What there is to say of the copies in one process.
pub(super) fn judge(process: &str, copies: &[Copy], in_wal_mode: bool, findings: &mut Findings) {
    for copy in copies {
        let object =
            format!("SQLite {} in {process}", copy.version.as_deref().unwrap_or("of unknown version"));
        let file = copy.file.display();
        match copy.version.as_deref().and_then(parse) {
            Some(version) if has_wal_reset_bug(version) => {
                let severity = if in_wal_mode { Severity::Danger } else { Severity::Warning };
                let message = format!("{file} has the WAL-reset bug, which can lose commits or damage a database in WAL mode");
                findings.add("sqlite", severity, object, message, format!("{ADVICE} in that program"));
            }
            Some(_) => {}
            None => findings.add(
                "sqlite",
                Severity::Note,
                object,
                format!("the version of the SQLite in {file} cannot be told"),
                "see its documentation, or run SELECT sqlite_version() in it; before 3.51.3 it has the WAL-reset bug",
            ),
        }
    }
    if copies.len() > 1 {
        let files: Vec<String> = copies.iter().map(|copy| copy.file.display().to_string()).collect();
        findings.add(
            "sqlite",
            Severity::Warning,
            process,
            format!("it has several copies of SQLite: {}", files.join(", ")),
            "if more than one of them opens this database, each drops the locks of the other: use one copy, or a process for each",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_versions_with_the_bug_are_named() {
        for (version, has) in [
            ("3.6.23", false),
            ("3.7.0", true),
            ("3.44.5", true),
            ("3.44.6", false),
            ("3.45.1", true),
            ("3.50.6", true),
            ("3.50.7", false),
            ("3.51.2", true),
            ("3.51.3", false),
            ("3.53.0", false),
        ] {
            assert_eq!(has_wal_reset_bug(parse(version).unwrap()), has, "{version}");
        }
        assert!(parse("3.45").is_none() && parse("3.45.1.2").is_none() && parse("x").is_none());
    }

    #[test]
    fn the_version_in_a_program_is_found_wherever_it_lies() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("program");
        for before in [0, 100, (1 << 20) - 3, (1 << 20) + 7] {
            let mut program = vec![7; before];
            program.extend_from_slice(b"\0SQLite format 3\0 x\x003.45.1\x00 y\0");
            program.extend(vec![9; 40]);
            std::fs::write(&path, &program).unwrap();
            let found = version_in(File::open(&path).unwrap()).unwrap();
            assert_eq!(found.0.as_deref(), Some("3.45.1"), "{before}");
        }
        std::fs::write(&path, b"\x003.45.1\0").unwrap();
        assert!(version_in(File::open(&path).unwrap()).is_none(), "no SQLite at all");
        std::fs::write(&path, b"\0SQLite format 3\0\x003.45.1\x003.46.0\0\0").unwrap();
        assert!(version_in(File::open(&path).unwrap()).unwrap().0.is_none(), "one of two");
    }
}
