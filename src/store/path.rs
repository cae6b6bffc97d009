//! Names of objects: the one place that decides what may become a file name or a key in a bucket.

use std::fmt;
use std::str::FromStr;

use super::StoreError;

/// Temporary files begin with this; no component of an object path does, so neither can be taken for the
/// other.
pub(super) const TEMPORARY_PREFIX: &str = ".tmp-";

/// Where an object is, relative to its store: 1 to 4 components of `A-Z a-z 0-9 . _ -` joined by `/`, at most
/// 200 bytes together; no component is empty, `.`, `..` or begins with `.tmp-`.
///
/// The rules make a path safe as a file name on every file system and as an object key, and keep it inside
/// its store.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectPath(Box<str>);

impl ObjectPath {
    /// Longest path in bytes.
    pub const MAX_LEN: usize = 200;
    /// Most components, the file name included.
    pub const MAX_COMPONENTS: usize = 4;

    /// Accepts `path` if it follows the rules ([`StoreError::InvalidPath`] otherwise).
    pub fn new(path: impl Into<String>) -> Result<Self, StoreError> {
        let path = path.into();
        if is_valid(&path, Self::MAX_COMPONENTS) {
            Ok(Self(path.into_boxed_str()))
        } else {
            Err(StoreError::InvalidPath { path })
        }
    }

    /// The text form.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last component.
    #[must_use]
    pub fn file_name(&self) -> &str {
        self.split().1
    }

    /// The components before the last, joined; `""` for an object at the top.
    #[must_use]
    pub fn folder(&self) -> &str {
        self.split().0
    }

    /// Whether a listing of `folder` shows this object.
    pub(super) fn is_below(&self, folder: &str) -> bool {
        folder.is_empty() || self.0.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
    }

    fn split(&self) -> (&str, &str) {
        self.0.rsplit_once('/').unwrap_or(("", &self.0))
    }
}

/// Accepts the argument of [`super::Store::list`]: `""`, or what can precede a file name in an object path.
pub(super) fn check_folder(folder: &str) -> Result<(), StoreError> {
    if folder.is_empty() || is_valid(folder, ObjectPath::MAX_COMPONENTS - 1) {
        Ok(())
    } else {
        Err(StoreError::InvalidPath { path: folder.to_owned() })
    }
}

/// Whether `name` can be one component of an object path.
pub(super) fn is_component(name: &str) -> bool {
    !matches!(name, "" | "." | "..")
        && !name.starts_with(TEMPORARY_PREFIX)
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

/// Whether a name is a hash in lower-case hexadecimal.
pub(super) fn is_hash(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

fn is_valid(path: &str, most_components: usize) -> bool {
    path.len() <= ObjectPath::MAX_LEN
        && path.split('/').count() <= most_components
        && path.split('/').all(is_component)
}

impl FromStr for ObjectPath {
    type Err = StoreError;

    fn from_str(path: &str) -> Result<Self, StoreError> {
        Self::new(path)
    }
}

impl fmt::Display for ObjectPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_inside_the_rules_are_accepted() {
        for path in ["a", "vault.pv", ".gitignore", "packs/0a/0a_-.X", "a/b/c/d", "...", &"x".repeat(200)] {
            let parsed: ObjectPath = path.parse().unwrap();
            assert_eq!((parsed.as_str(), parsed.to_string().as_str()), (path, path));
        }
    }

    #[test]
    fn paths_outside_the_rules_are_refused() {
        let long = "x".repeat(201);
        let bad = [
            "",
            "/",
            "/a",
            "a/",
            "a//b",
            ".",
            "..",
            "a/../b",
            "a/./b",
            "../a",
            "a/b/c/d/e",
            "a b",
            "a\\b",
            "a\0b",
            "ä",
            "a:b",
            ".tmp-1",
            "packs/.tmp-1",
            ".tmp-x/a",
            "a\n",
            &long,
        ];
        for path in bad {
            assert!(matches!(ObjectPath::new(path), Err(StoreError::InvalidPath { .. })), "{path:?}");
        }
    }

    #[test]
    fn folder_and_file_name_are_the_two_halves() {
        let deep = ObjectPath::new("packs/0a/name").unwrap();
        assert_eq!((deep.folder(), deep.file_name()), ("packs/0a", "name"));
        let top = ObjectPath::new("vault.pv").unwrap();
        assert_eq!((top.folder(), top.file_name()), ("", "vault.pv"));
    }

    #[test]
    fn below_means_below_whole_components() {
        let path = ObjectPath::new("packs/0a/name").unwrap();
        for (folder, expected) in
            [("", true), ("packs", true), ("packs/0a", true), ("pack", false), ("packs/0a/name", false)]
        {
            assert_eq!(path.is_below(folder), expected, "{folder:?}");
        }
    }

    #[test]
    fn folders_leave_room_for_a_file_name() {
        assert!(check_folder("").is_ok() && check_folder("a/b/c").is_ok());
        assert!(
            check_folder("a/b/c/d").is_err() && check_folder("a/").is_err() && check_folder("..").is_err()
        );
    }
}
