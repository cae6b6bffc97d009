//! A TOML table as a list of known keys: every value is asked for by name and kind, and whatever is wrong is noted with its
//! line. One mistake does not hide the next.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Range, RangeInclusive};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Something wrong in a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    /// Line, from 1.
    pub(crate) line: usize,
    /// What is wrong and what was expected.
    pub(crate) message: String,
}

/// Where problems gather.
#[derive(Debug)]
pub(super) struct Problems<'t> {
    text: &'t str,
    found: RefCell<Vec<Problem>>,
}

impl<'t> Problems<'t> {
    pub(super) const fn new(text: &'t str) -> Self {
        Self { text, found: RefCell::new(Vec::new()) }
    }

    pub(super) fn add(&self, place: &Range<usize>, message: impl fmt::Display) {
        let before = self.text.get(..place.start.min(self.text.len())).unwrap_or(self.text);
        let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
        self.found.borrow_mut().push(Problem { line, message: message.to_string() });
    }

    /// In the order of lines.
    pub(super) fn into_list(self) -> Vec<Problem> {
        let mut list = self.found.into_inner();
        list.sort_by_key(|problem| problem.line);
        list
    }
}

/// A table of the file.
pub(super) struct Section<'a, 't> {
    table: &'a DeTable<'t>,
    /// As in the file, for messages; empty at the top.
    name: String,
    /// Where it begins.
    pub(super) place: Range<usize>,
    problems: &'a Problems<'t>,
}

impl<'a, 't> Section<'a, 't> {
    /// Reports every key that is not among `known`.
    pub(super) fn new(
        table: &'a DeTable<'t>,
        place: Range<usize>,
        name: impl Into<String>,
        known: &[&str],
        problems: &'a Problems<'t>,
    ) -> Self {
        let name = name.into();
        for key in table.keys() {
            let word = key.get_ref().as_ref();
            if !known.contains(&word) {
                let what = if name.is_empty() { "unknown section" } else { "unknown key" };
                let place = if name.is_empty() { String::new() } else { format!(" in [{name}]") };
                let help = match nearest(word, known) {
                    Some(near) => format!("did you mean {near:?}?"),
                    None => format!("expected one of {}", known.join(", ")),
                };
                problems.add(&key.span(), format_args!("{what} {word:?}{place}; {help}"));
            }
        }
        Self { table, name, place, problems }
    }

    /// A mistake about the section, or about `key` in it.
    pub(super) fn wrong(&self, key: &str, message: impl fmt::Display) {
        let place = self.table.get(key).map_or(self.place.clone(), Spanned::span);
        if key.is_empty() {
            self.problems.add(&place, format_args!("[{}]: {message}", self.name));
        } else {
            self.problems.add(&place, format_args!("{key}: {message}"));
        }
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    fn value(&self, key: &str) -> Option<&'a DeValue<'t>> {
        self.table.get(key).map(Spanned::get_ref)
    }

    fn expected(&self, key: &str, what: &str, found: &DeValue<'_>) {
        self.wrong(key, format_args!("expected {what}, found {} {}", article(found), found.type_str()));
    }

    pub(super) fn text(&self, key: &str) -> Option<String> {
        match self.value(key)? {
            DeValue::String(text) => Some(text.to_string()),
            other => {
                self.expected(key, "text in quotes", other);
                None
            }
        }
    }

    /// Text that `parse` understands; what it says otherwise is the message.
    pub(super) fn parsed<T, E: fmt::Display>(
        &self,
        key: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let text = self.text(key)?;
        parse(&text).map_err(|why| self.wrong(key, format_args!("{text:?}: {why}"))).ok()
    }

    pub(super) fn flag(&self, key: &str) -> Option<bool> {
        match self.value(key)? {
            DeValue::Boolean(flag) => Some(*flag),
            other => {
                self.expected(key, "true or false", other);
                None
            }
        }
    }

    pub(super) fn number(&self, key: &str, range: &RangeInclusive<u32>) -> Option<u32> {
        let what = || format!("a whole number from {} to {}", range.start(), range.end());
        match self.value(key)? {
            DeValue::Integer(number) => {
                let digits = number.as_str().replace('_', "");
                let value = u32::from_str_radix(&digits, number.radix()).ok();
                let value = value.filter(|value| range.contains(value));
                if value.is_none() {
                    self.wrong(key, format_args!("expected {}, found {}", what(), number.as_str()));
                }
                value
            }
            other => {
                self.expected(key, &what(), other);
                None
            }
        }
    }

    /// A size: text with a unit, or a number of bytes.
    pub(super) fn size(&self, key: &str) -> Option<u64> {
        match self.value(key)? {
            DeValue::Integer(number) if number.radix() == 10 => {
                let size = number.as_str().replace('_', "").parse().ok();
                if size.is_none() {
                    self.wrong(key, format_args!("expected a size, found {}", number.as_str()));
                }
                size
            }
            DeValue::String(_) => self.parsed(key, super::values::size),
            other => {
                self.expected(key, "a size such as \"1GiB\"", other);
                None
            }
        }
    }

    pub(super) fn texts(&self, key: &str) -> Option<Vec<String>> {
        let DeValue::Array(list) = self.value(key)? else {
            self.expected(key, "a list of texts, such as [\"one\", \"two\"]", self.value(key)?);
            return None;
        };
        let mut texts = Vec::new();
        for item in list {
            match item.get_ref() {
                DeValue::String(text) => texts.push(text.to_string()),
                other => {
                    let found = format!("{} {}", article(other), other.type_str());
                    self.problems
                        .add(&item.span(), format_args!("{key}: expected text in quotes, found {found}"));
                }
            }
        }
        Some(texts)
    }

    pub(super) fn pairs(&self, key: &str) -> Option<Vec<(String, String)>> {
        let DeValue::Table(table) = self.value(key)? else {
            self.expected(key, "a table of texts, such as { env = \"production\" }", self.value(key)?);
            return None;
        };
        let mut pairs = BTreeMap::new();
        for (name, value) in table {
            match value.get_ref() {
                DeValue::String(text) => {
                    pairs.insert(name.get_ref().to_string(), text.to_string());
                }
                other => {
                    let found = format!("{} {}", article(other), other.type_str());
                    self.problems
                        .add(&value.span(), format_args!("{key}: expected text in quotes, found {found}"));
                }
            }
        }
        Some(pairs.into_iter().collect())
    }

    /// A table in this one.
    pub(super) fn section(&self, key: &str, known: &[&str]) -> Option<Section<'a, 't>> {
        let value = self.table.get(key)?;
        match value.get_ref() {
            DeValue::Table(table) => {
                Some(Section::new(table, value.span(), self.named(key), known, self.problems))
            }
            other => {
                self.expected(key, &format!("a section [{}]", self.named(key)), other);
                None
            }
        }
    }

    /// Tables of one name, written `[[name]]`.
    pub(super) fn sections(&self, key: &str, known: &[&str]) -> Vec<Section<'a, 't>> {
        let Some(value) = self.table.get(key) else { return Vec::new() };
        let DeValue::Array(list) = value.get_ref() else {
            self.wrong(key, format_args!("expected sections [[{key}]], with two brackets"));
            return Vec::new();
        };
        let mut sections = Vec::new();
        for item in list {
            match item.get_ref() {
                DeValue::Table(table) => {
                    sections.push(Section::new(table, item.span(), self.named(key), known, self.problems));
                }
                _ => self.problems.add(&item.span(), format_args!("{key}: expected sections [[{key}]]")),
            }
        }
        sections
    }

    fn named(&self, key: &str) -> String {
        if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) }
    }
}

fn article(value: &DeValue<'_>) -> &'static str {
    if matches!(value, DeValue::Integer(_) | DeValue::Array(_)) { "an" } else { "a" }
}

/// The known word that `word` was probably meant to be.
fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    let word = word.to_lowercase().replace('-', "_");
    let close = known.iter().map(|near| (distance(&word, near), *near)).min()?;
    (close.0 <= 2.max(word.len() / 3)).then_some(close.1)
}

/// Edits that make one word of the other (Levenshtein 1965).
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (above, letter) in one.chars().enumerate() {
        let mut diagonal = above;
        row[0] = above + 1;
        for (column, wanted) in other.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != *wanted);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_that_was_meant_is_near() {
        let known = ["schedule", "jitter", "max_age", "path"];
        assert_eq!(nearest("shedule", &known), Some("schedule"));
        assert_eq!(nearest("max-age", &known), Some("max_age"));
        assert_eq!(nearest("Path", &known), Some("path"));
        assert_eq!(nearest("colour", &known), None);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
