//! The files that a configuration means at this moment.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use glob::glob_with;

use super::super::config::{Config, DatabaseEntry, MATCHING, Source};

/// What `SQLite` puts beside a database.
const SIDECARS: [&str; 3] = ["-wal", "-shm", "-journal"];

/// A database file, and the number of its entry in the configuration. A file that several entries mean belongs to the
/// first of them, and to one that names it before all patterns.
pub(crate) fn find(config: &Config) -> BTreeMap<PathBuf, usize> {
    let mut found = BTreeMap::new();
    for (number, entry) in config.databases.iter().enumerate() {
        if let Source::Path(path) = &entry.source {
            found.entry(path.clone()).or_insert(number);
        }
    }
    for (number, entry) in config.databases.iter().enumerate() {
        for path in matches(entry) {
            found.entry(path).or_insert(number);
        }
    }
    found
}

/// The files that the pattern of an entry finds; none for a path.
fn matches(entry: &DatabaseEntry) -> Vec<PathBuf> {
    let Source::Glob(pattern, excluded) = &entry.source else { return Vec::new() };
    // The pattern was tried when the file was read. A folder that cannot be read holds nothing for us.
    let Ok(paths) = glob_with(pattern, MATCHING) else { return Vec::new() };
    let is_wanted = |path: &Path| {
        let is_sidecar =
            path.to_str().is_some_and(|path| SIDECARS.iter().any(|sidecar| path.ends_with(sidecar)));
        !is_sidecar
            && !excluded.iter().any(|pattern| pattern.matches_path_with(path, MATCHING))
            && path.is_file()
    };
    paths.flatten().filter(|path| is_wanted(path)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::config::Places;

    #[test]
    fn patterns_find_files_and_leave_sidecars_alone() {
        let folder = tempfile::tempdir().unwrap();
        for file in ["a/x.db", "a/x.db-wal", "b/x.db", "test-1/x.db", "b/.x.db", "c/d/x.db"] {
            let path = folder.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let text = "[[database]]\nglob = '*/x.db*'\nexclude = ['test-*/*']\n[[database]]\npath = 'b/x.db'\n";
        let places = Places { home: None, folder: folder.path() };
        let found = find(&Config::parse(text, places).unwrap());
        let found: Vec<_> = found
            .iter()
            .map(|(path, number)| (path.strip_prefix(folder.path()).unwrap().display().to_string(), *number))
            .collect();
        assert_eq!(found, [("a/x.db".to_owned(), 0), ("b/x.db".to_owned(), 1)]);
    }
}
