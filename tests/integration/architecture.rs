//! The tree is the architecture: dependencies between the folders of `src` point one way, and files stay short
//! enough to be read in a sitting.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// What each layer may know of the others; the lowest first. `cli` has the public library only.
const MAY_KNOW: [(&str, &[&str]); 18] = [
    ("error", &[]),
    ("ids", &[]),
    ("clock", &[]),
    ("monitor", &[]),
    // When, not what.
    ("daemon", &[]),
    ("checksum", &["ids"]),
    ("page_source", &["error"]),
    ("tree", &["chunk", "ids"]),
    ("chunk", &["ids", "tree"]),
    // Ciphertext and names only.
    ("store", &["error"]),
    // Nothing of backups.
    ("sqlite", &["error", "page_source"]),
    // Neither keys nor files.
    ("format", &["checksum", "chunk", "ids", "page_source", "tree"]),
    ("codec", &["format", "ids"]),
    ("crypto", &["chunk", "codec", "format", "ids"]),
    (
        "vault",
        &["checksum", "chunk", "codec", "crypto", "error", "format", "ids", "page_source", "store", "tree"],
    ),
    (
        "operations",
        &[
            "checksum",
            "chunk",
            "clock",
            "codec",
            "crypto",
            "error",
            "format",
            "ids",
            "monitor",
            "page_source",
            "sqlite",
            "store",
            "tree",
            "vault",
        ],
    ),
    ("backups", &["clock", "crypto", "error", "format", "monitor", "operations", "sqlite", "store", "vault"]),
    ("cli", &[]),
];

/// Words that a layer must not use outside its tests, and why.
const FORBIDDEN: [(&str, &[&str], &str); 3] = [
    ("format", &["std::fs", "std::path", "std::net", "File::"], "format is bytes only"),
    ("crypto", &["std::fs", "std::path", "std::net", "File::"], "crypto is bytes only"),
    (
        "",
        &["Timestamp::now(", "SystemTime::now(", "std::env::var", "env::args"],
        "time and environment are passed in",
    ),
];

/// Where the words of the last line above have their place.
const EXEMPT: [&str; 3] = [
    "clock.rs",
    "cli/",
    // Compares a file's times with the clock that set them.
    "sqlite/witness.rs",
];

const LONGEST_FILE: usize = 600;

/// A source file: its path below `src`, and its lines without comments and unit tests.
struct Source {
    path: PathBuf,
    lines: Vec<String>,
    whole_len: usize,
}

impl Source {
    fn layer(&self) -> String {
        let first = self.path.components().next().unwrap();
        Path::new(first.as_os_str()).with_extension("").display().to_string()
    }
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![root.clone()];
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                let is_test = path.iter().any(|part| part == "tests" || part == "tests.rs");
                let code = text.lines().take_while(|line| !is_test && *line != "#[cfg(test)]");
                let lines =
                    code.filter(|line| !line.trim_start().starts_with("//")).map(str::to_owned).collect();
                let path = path.strip_prefix(&root).unwrap().to_path_buf();
                sources.push(Source { path, lines, whole_len: text.lines().count() });
            }
        }
    }
    assert!(sources.len() > 50, "the sources were not found");
    sources
}

/// The names that follow `crate::` in a line, also in braces.
fn names_after_crate(line: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for rest in line.split("crate::").skip(1) {
        let list = rest.strip_prefix('{').unwrap_or(rest);
        let parts = if list.len() < rest.len() { list.split(',').collect() } else { vec![list] };
        for part in parts {
            let name: String =
                part.trim().chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
            names.insert(name);
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

#[test]
fn dependencies_between_layers_point_one_way() {
    let rules: BTreeMap<&str, &[&str]> = MAY_KNOW.into_iter().collect();
    let mut wrong = Vec::new();
    for source in sources() {
        let layer = source.layer();
        if layer == "lib" || layer == "main" {
            continue;
        }
        let Some(allowed) = rules.get(layer.as_str()) else {
            wrong
                .push(format!("{}: give the new layer {layer} its place in MAY_KNOW", source.path.display()));
            continue;
        };
        let known = source.lines.iter().flat_map(|line| names_after_crate(line));
        for name in known.filter(|name| *name != layer && rules.contains_key(name.as_str())) {
            if !allowed.contains(&name.as_str()) {
                wrong.push(format!("{}: {layer} must not know {name}", source.path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn rules_name_no_cycle_but_chunk_and_tree() {
    let rank = |name: &str| MAY_KNOW.iter().position(|(layer, _)| *layer == name).unwrap();
    for (layer, known) in MAY_KNOW {
        for name in known {
            assert!(rank(name) < rank(layer) || (layer, *name) == ("tree", "chunk"), "{layer} and {name}");
        }
    }
}

#[test]
fn layers_do_not_reach_for_what_is_passed_in() {
    let mut wrong = Vec::new();
    for source in sources() {
        let path = source.path.display().to_string();
        for (layer, words, why) in FORBIDDEN {
            let exempt = layer.is_empty() && EXEMPT.iter().any(|exempt| path.starts_with(exempt));
            if exempt || !(layer.is_empty() || source.layer() == layer) {
                continue;
            }
            for line in &source.lines {
                if let Some(word) = words.iter().find(|word| line.contains(**word)) {
                    wrong.push(format!("{path}: {word}: {why}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn unsafe_code_is_in_its_one_place() {
    for source in sources() {
        let unsafe_code =
            source.lines.iter().any(|line| line.contains("unsafe ") || line.contains("unsafe_code"));
        assert!(!unsafe_code || source.path.starts_with("sqlite/raw"), "{}", source.path.display());
    }
}

#[test]
fn no_file_is_longer_than_a_sitting() {
    for Source { path, whole_len, .. } in sources() {
        assert!(whole_len <= LONGEST_FILE, "{} has {whole_len} lines", path.display());
    }
}
