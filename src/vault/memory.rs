//! What this machine remembers of a vault: how far each writer's chain of the log went, at each place where the vault
//! was seen. A store that drops or rolls back log objects cannot make the memory agree.
//!
//! By place, because a copy of a vault has the same identity: a lagging mirror, or a copy that went its own way, must
//! not make the original look as if it had been put back.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::log::History;
use crate::ids::{ObjectName, WriterId, to_hex};

const PREFIX: &str = "heads-";

type Heads = BTreeMap<WriterId, (u64, ObjectName)>;

/// A short name for a place, for file names.
pub(super) fn place_key(place: &str) -> String {
    to_hex(&blake3::hash(place.as_bytes()).as_bytes()[..8])
}

/// What is remembered, as it was before the log was listed: what others add to the log meanwhile, they remember after
/// that, and it is not what a listing must have.
pub(super) struct Memory {
    path: PathBuf,
    place: String,
    heads: Heads,
    is_new_place: bool,
    elsewhere: Vec<(String, Heads)>,
}

/// What `folder` remembers of the vault at `place`, and elsewhere.
pub(super) fn recall(folder: &Path, place: &str) -> Memory {
    let name = format!("{PREFIX}{}", place_key(place));
    let elsewhere = others(folder, &name);
    let path = folder.join(name);
    let is_new_place = !path.exists();
    let text = if is_new_place { None } else { open(&path).and_then(|mut file| read(&mut file)) };
    let heads = text.as_deref().map(parse).unwrap_or_default();
    Memory { path, place: place.to_owned(), heads, is_new_place, elsewhere }
}

impl Memory {
    /// Compares the chains with it, says in `history` what does not fit, and remembers what is new.
    pub(super) fn compare(self, history: &mut History) {
        history.is_new_place = self.is_new_place;
        let is_behind = |heads: &Heads| {
            heads.iter().any(|(writer, (seen, _))| history.heads.get(writer).is_none_or(|(at, _)| at < seen))
        };
        if self.is_new_place || !history.heads.is_empty() {
            for (other, _) in self.elsewhere.iter().filter(|(_, heads)| is_behind(heads)) {
                let message =
                    format!("this copy of the vault is behind what this machine has seen at {other}");
                history.behind.push(message);
            }
        }
        // What cannot be read is reported as such, and is not what was dropped.
        if history.skipped.is_empty()
            && let Some(message) = difference(&self.heads, &history.heads)
        {
            history.alarms.push(format!(
                "{message}: the vault was put back to an earlier state, or lost log objects. If you put it back yourself, remove {}",
                self.path.display()
            ));
        }
        self.add(&history.heads);
    }

    fn add(&self, found: &Heads) {
        let Some(mut file) = open(&self.path) else { return };
        let Some(text) = read(&mut file) else { return };
        let before = parse(&text);
        let mut remembered = before.clone();
        for (writer, head) in found {
            let known = remembered.entry(*writer).or_insert(*head);
            if known.0 < head.0 {
                *known = *head;
            }
        }
        if remembered != before || self.is_new_place {
            write(&mut file, &self.place, &remembered);
        }
    }
}

/// Forgets what is remembered of a place.
pub(super) fn forget(folder: &Path, place: &str) {
    let _ = std::fs::remove_file(folder.join(format!("{PREFIX}{}", place_key(place))));
}

/// Remembers a log object that was just written.
pub(super) fn remember(folder: &Path, place: &str, writer: WriterId, sequence: u64, name: ObjectName) {
    let path = folder.join(format!("{PREFIX}{}", place_key(place)));
    let Some(mut file) = open(&path) else { return };
    let Some(text) = read(&mut file) else { return };
    let mut remembered = parse(&text);
    if remembered.get(&writer).is_none_or(|(known, _)| *known < sequence) {
        remembered.insert(writer, (sequence, name));
        write(&mut file, place, &remembered);
    }
}

fn read(file: &mut File) -> Option<String> {
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    Some(text)
}

/// Without it this machine remembers less, and notices less: a failure is no reason to fail.
fn write(file: &mut File, place: &str, remembered: &Heads) {
    let mut text = format!("{place:?}\n");
    for (writer, (sequence, name)) in remembered {
        let _ = writeln!(text, "{writer} {sequence} {name}");
    }
    let _ = file
        .rewind()
        .and_then(|()| file.write_all(text.as_bytes()))
        .and_then(|()| file.set_len(text.len() as u64));
}

fn difference(remembered: &Heads, found: &Heads) -> Option<String> {
    remembered.iter().find_map(|(writer, (seen, name))| {
        let writer_name = writer.short();
        match found.get(writer) {
            None => Some(format!(
                "this machine remembers log entries of writer {writer_name}, and there are none"
            )),
            Some((at, _)) if at < seen => Some(format!(
                "this machine remembers log entry {seen} of writer {writer_name}, and its log ends at {at}"
            )),
            Some((at, other)) if at == seen && other != name => Some(format!(
                "this machine remembers another log entry {seen} of writer {writer_name} than there is"
            )),
            Some(_) => None,
        }
    })
}

/// What is remembered of other places.
fn others(folder: &Path, own: &str) -> Vec<(String, Heads)> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let names = entries.flatten().filter(|entry| {
        entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX) && name != own)
    });
    let texts = names.filter_map(|entry| std::fs::read_to_string(entry.path()).ok());
    texts.map(|text| (text.lines().next().unwrap_or_default().to_owned(), parse(&text))).collect()
}

fn parse(text: &str) -> Heads {
    let head = |line: &str| {
        let mut words = line.split_whitespace();
        Some((words.next()?.parse().ok()?, (words.next()?.parse().ok()?, words.next()?.parse().ok()?)))
    };
    text.lines().skip(1).filter_map(head).collect()
}

fn open(path: &Path) -> Option<File> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path.parent()?).ok()?;
    let mut options = File::options();
    let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path).ok()?;
    file.lock().ok()?;
    Some(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: &str = "a place";

    fn found(sequence: u64) -> History {
        let head = (WriterId([1; 16]), (sequence, ObjectName([u8::try_from(sequence).unwrap(); 32])));
        History { heads: [head].into(), ..History::default() }
    }

    fn compared(memory: Memory, sequence: u64) -> History {
        let mut history = found(sequence);
        memory.compare(&mut history);
        history
    }

    #[test]
    fn what_is_added_while_the_log_is_read_is_no_sign_of_an_earlier_state() {
        let folder = tempfile::tempdir().unwrap();
        let recall = || recall(folder.path(), PLACE);
        assert!(compared(recall(), 25).alarms.is_empty());
        let before = recall();
        let (writer, (sequence, name)) = found(26).heads.into_iter().next().unwrap();
        remember(folder.path(), PLACE, writer, sequence, name);
        // The listing was taken before.
        assert_eq!(compared(before, 25).alarms, [] as [String; 0]);
        // And does not take back what is remembered.
        assert_eq!(compared(recall(), 25).alarms.len(), 1);
        assert!(compared(recall(), 26).alarms.is_empty());
    }
}
