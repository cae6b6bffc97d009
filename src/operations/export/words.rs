//! What people type to name tables, columns, relations and subjects.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, ErrorKind, Result};

/// A name as SQL takes it, whatever is in it.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A reference between two tables: rows of the first refer to rows of the second by equal values of some columns.
///
/// Its text form is `notes.author_email -> users.email`; several columns are separated by commas
/// (`line.order,shop -> order.number,shop`), and names with other characters than letters, digits and `_` are quoted (`"my notes"."by"`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relation {
    /// The table whose rows refer.
    pub table: String,
    /// Its columns.
    pub columns: Vec<String>,
    /// The table they refer to.
    pub parent: String,
    /// Its columns, one for each of the others.
    pub parent_columns: Vec<String>,
}

impl FromStr for Relation {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut words = Words(text);
        let parsed = (|| {
            let (table, columns) = words.columns()?;
            words.expect("->")?;
            let (parent, parent_columns) = words.columns()?;
            let whole = words.is_at_end() && columns.len() == parent_columns.len();
            whole.then_some(Self { table, columns, parent, parent_columns })
        })();
        parsed.ok_or_else(|| {
            Error::new(ErrorKind::Usage, format!("{text:?} is not a relation")).with_hint(
                "write it as \"notes.author_email -> users.email\", with as many columns on both sides",
            )
        })
    }
}

impl fmt::Display for Relation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = |table: &str, columns: &[String]| {
            format!("{}.{}", word(table), columns.iter().map(|name| word(name)).collect::<Vec<_>>().join(","))
        };
        write!(f, "{} -> {}", side(&self.table, &self.columns), side(&self.parent, &self.parent_columns))
    }
}

/// Whose data is wanted: a row, as `users:123` (by primary key) or `users:email=ann@example.org` (by columns).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubjectSpec {
    /// As it was given.
    text: String,
    /// The table.
    pub(super) table: String,
    /// The value of the primary key, or `column=value` pairs; which of them, the table's columns decide.
    pub(super) key: String,
}

impl FromStr for SubjectSpec {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut words = Words(text);
        let table = words.name_until(':').filter(|_| words.expect(":").is_some());
        match table {
            Some(table) if !words.0.is_empty() => {
                Ok(Self { text: text.to_owned(), table, key: words.0.to_owned() })
            }
            _ => Err(Error::new(ErrorKind::Usage, format!("{text:?} does not name a row"))
                .with_hint("write TABLE:KEY, such as users:123, or TABLE:COLUMN=VALUE")),
        }
    }
}

impl fmt::Display for SubjectSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// What is not to be followed: a table, or one of its columns (`users.manager_id`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skip {
    /// The table.
    pub table: String,
    /// The column; without one, no relation to rows of the table is followed.
    pub column: Option<String>,
}

impl FromStr for Skip {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut words = Words(text);
        let parsed = (|| {
            let table = words.name()?;
            let column = match words.expect(".") {
                Some(()) => Some(words.name()?),
                None => None,
            };
            words.is_at_end().then_some(Self { table, column })
        })();
        parsed.ok_or_else(|| {
            Error::new(ErrorKind::Usage, format!("{text:?} names neither a table nor a column"))
                .with_hint("write TABLE or TABLE.COLUMN, such as users.manager_id")
        })
    }
}

/// A name as [`Words`] reads it back.
fn word(name: &str) -> String {
    if !name.is_empty() && name.chars().all(is_plain) { name.to_owned() } else { quoted(name) }
}

fn is_plain(character: char) -> bool {
    character.is_alphanumeric() || "_$".contains(character)
}

/// What is left of a text.
struct Words<'a>(&'a str);

impl Words<'_> {
    fn expect(&mut self, symbol: &str) -> Option<()> {
        self.0 = self.0.trim_start().strip_prefix(symbol)?;
        Some(())
    }

    fn is_at_end(&self) -> bool {
        self.0.trim().is_empty()
    }

    fn columns(&mut self) -> Option<(String, Vec<String>)> {
        let table = self.name()?;
        self.expect(".")?;
        let mut columns = vec![self.name()?];
        while self.expect(",").is_some() {
            columns.push(self.name()?);
        }
        Some((table, columns))
    }

    fn name(&mut self) -> Option<String> {
        self.0 = self.0.trim_start();
        if self.0.starts_with('"') {
            return self.quoted();
        }
        let end = self.0.find(|character| !is_plain(character)).unwrap_or(self.0.len());
        self.take(end)
    }

    /// A name that may hold anything but `stop`, or is quoted.
    fn name_until(&mut self, stop: char) -> Option<String> {
        if self.0.starts_with('"') {
            return self.quoted();
        }
        self.take(self.0.find(stop)?)
    }

    fn take(&mut self, end: usize) -> Option<String> {
        let (name, rest) = self.0.split_at(end);
        self.0 = rest;
        (!name.is_empty()).then(|| name.to_owned())
    }

    fn quoted(&mut self) -> Option<String> {
        let mut name = String::new();
        let mut rest = self.0.strip_prefix('"')?;
        loop {
            let (part, after) = rest.split_once('"')?;
            name.push_str(part);
            let Some(after) = after.strip_prefix('"') else {
                self.0 = after;
                return Some(name);
            };
            name.push('"');
            rest = after;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relations_are_read_and_written() {
        for text in [
            "notes.author_email -> users.email",
            "line.order,shop -> \"order\".number,shop",
            "\"my \"\"notes\"\"\".by -> users.id",
        ] {
            let relation: Relation = text.parse().unwrap();
            assert_eq!(relation.to_string().parse::<Relation>().unwrap(), relation);
        }
        let tight: Relation = "a.x,y->b.c,d".parse().unwrap();
        assert_eq!((tight.columns.len(), tight.to_string().as_str()), (2, "a.x,y -> b.c,d"));
        for wrong in
            ["", "a.b", "a.b -> c", "a -> b.c", "a.b -> c.d e", "a.b,c -> d.e", "a.\"b -> c.d", "a.b, -> c.d"]
        {
            assert!(wrong.parse::<Relation>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn subjects_are_told_from_nonsense() {
        let subject = |text: &str| text.parse::<SubjectSpec>();
        let of = |text: &str| subject(text).map(|subject| (subject.table, subject.key)).unwrap();
        assert_eq!(of("users:123"), ("users".to_owned(), "123".to_owned()));
        assert_eq!(of("users:urn:uuid:1"), ("users".to_owned(), "urn:uuid:1".to_owned()));
        assert_eq!(of("\"my:users\":email=a@b"), ("my:users".to_owned(), "email=a@b".to_owned()));
        for wrong in ["", "users", ":1", "users:", "\"users:1"] {
            assert!(subject(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_skipped_is_a_table_or_a_column() {
        let skip = |text: &str| text.parse::<Skip>();
        assert_eq!(skip("audit").unwrap(), Skip { table: "audit".to_owned(), column: None });
        assert_eq!(skip("a.b").unwrap().column.as_deref(), Some("b"));
        for wrong in ["", "a.", ".b", "a.b.c"] {
            assert!(skip(wrong).is_err(), "{wrong}");
        }
    }
}
