//! Which tables refer to which: by declared foreign keys, by relations that were given; and what only looks like it.

use std::collections::HashSet;

use super::schema::{Schema, Table};
use super::words::{Relation, Skip};
use crate::error::{Error, ErrorKind, Result};

/// Who says that rows refer to rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// A foreign key of the schema.
    Declared,
    /// A relation of the request.
    Given,
}

/// Rows of one table that refer to rows of another, with names as the schema has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reference {
    pub(super) child: usize,
    pub(super) parent: usize,
    pub(super) relation: Relation,
    pub(super) origin: Origin,
}

/// Why something was not followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Reason {
    /// Rows of the export refer to rows of this table, which are not the subject's and are not exported.
    Parent,
    /// The column's name looks like a reference, and no foreign key is declared. A relation can be given.
    Undeclared,
    /// It was to be skipped.
    Skipped,
    /// The foreign key refers to a table or columns that do not exist.
    Broken,
    /// The table cannot be read here, or is virtual and can declare no keys.
    Table,
}

/// What was not followed.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct NotFollowed {
    /// The table with the reference.
    pub table: String,
    /// Its columns; none if the whole table is meant.
    pub columns: Vec<String>,
    /// The table referred to, where that is known or can be guessed.
    pub parent: Option<String>,
    /// Why.
    pub reason: Reason,
    /// The same in a sentence.
    pub message: String,
}

/// The references of a database, as far as they may be followed.
pub(super) struct References {
    pub(super) followed: Vec<Reference>,
    pub(super) not_followed: Vec<NotFollowed>,
}

impl References {
    pub(super) fn of(schema: &Schema, given: &[Relation], skips: &[Skip]) -> Result<Self> {
        for skip in skips {
            check_skip(schema, skip)?;
        }
        let mut references = Self { followed: Vec::new(), not_followed: Vec::new() };
        for (child, table) in schema.tables.iter().enumerate() {
            for key in &table.foreign_keys {
                let parent_columns = match (key.parent_columns.as_slice(), schema.find(&key.parent)) {
                    ([], Some(parent)) => schema.tables[parent].primary_key.clone(),
                    (named, _) => named.to_vec(),
                };
                let relation = Relation {
                    table: table.name.clone(),
                    columns: key.columns.clone(),
                    parent: key.parent.clone(),
                    parent_columns,
                };
                match resolve(schema, &relation) {
                    Ok(relation) => references.add(schema, child, relation, Origin::Declared, skips),
                    Err(why) => references.not_followed.push(NotFollowed {
                        table: table.name.clone(),
                        columns: key.columns.clone(),
                        parent: Some(key.parent.clone()),
                        reason: Reason::Broken,
                        message: format!("the foreign key leads nowhere: {why}"),
                    }),
                }
            }
        }
        for relation in given {
            let resolved = resolve(schema, relation).map_err(|why| {
                Error::new(ErrorKind::NotFound, format!("relation {relation}: {why}"))
                    .with_hint("check the names; `sqlite3 DB .schema` shows them")
            })?;
            let child = schema.find(&resolved.table).unwrap_or_default();
            if !references.followed.iter().any(|known| known.relation == resolved) {
                references.add(schema, child, resolved, Origin::Given, skips);
            }
        }
        Ok(references)
    }

    fn add(&mut self, schema: &Schema, child: usize, relation: Relation, origin: Origin, skips: &[Skip]) {
        let is_skipped = skips.iter().any(|skip| {
            skip.table.eq_ignore_ascii_case(&relation.table)
                && skip.column.as_ref().is_none_or(|column| {
                    relation.columns.iter().any(|known| known.eq_ignore_ascii_case(column))
                })
        });
        if is_skipped {
            self.not_followed.push(NotFollowed {
                message: format!("{relation} was to be skipped"),
                table: relation.table,
                columns: relation.columns,
                parent: Some(relation.parent),
                reason: Reason::Skipped,
            });
        } else if let Some(parent) = schema.find(&relation.parent) {
            self.followed.push(Reference { child, parent, relation, origin });
        }
    }
}

fn check_skip(schema: &Schema, skip: &Skip) -> Result<()> {
    let missing = match schema.find(&skip.table) {
        None => format!("no table {:?}", skip.table),
        Some(table) => match &skip.column {
            Some(column) if schema.tables[table].column(column).is_none() => {
                format!("table {:?} has no column {column:?}", skip.table)
            }
            _ => return Ok(()),
        },
    };
    Err(Error::new(ErrorKind::NotFound, format!("what is to be skipped does not exist: {missing}")))
}

/// The relation with the schema's own spelling, or what is missing.
fn resolve(schema: &Schema, relation: &Relation) -> Result<Relation, String> {
    let side = |table: &str, columns: &[String]| {
        let found = schema.find(table).map(|table| &schema.tables[table]);
        let found = found.ok_or_else(|| format!("no table {table:?}"))?;
        let columns: Result<Vec<String>, String> = columns
            .iter()
            .map(|name| {
                let known = found.column(name).map(str::to_owned);
                known.ok_or_else(|| format!("table {:?} has no column {name:?}", found.name))
            })
            .collect();
        Ok::<_, String>((found.name.clone(), columns?))
    };
    let (table, columns) = side(&relation.table, &relation.columns)?;
    let (parent, parent_columns) = side(&relation.parent, &relation.parent_columns)?;
    if columns.len() != parent_columns.len() {
        return Err(format!("{} columns refer to {}", columns.len(), parent_columns.len()));
    }
    Ok(Relation { table, columns, parent, parent_columns })
}

/// What else may refer to rows of the tables in `found`, to judge by names alone.
pub(super) fn suspects(
    schema: &Schema,
    known: &[Reference],
    found: &HashSet<usize>,
    subject: usize,
) -> Vec<NotFollowed> {
    let mut suspects = Vec::new();
    for (position, table) in schema.tables.iter().enumerate() {
        let covered: HashSet<&str> = known
            .iter()
            .filter(|reference| reference.child == position)
            .flat_map(|reference| reference.relation.columns.iter().map(String::as_str))
            .chain(table.foreign_keys.iter().flat_map(|key| key.columns.iter().map(String::as_str)))
            .collect();
        if table.is_virtual {
            if covered.is_empty() {
                suspects.push(NotFollowed {
                    table: table.name.clone(),
                    columns: Vec::new(),
                    parent: None,
                    reason: Reason::Table,
                    message:
                        "a virtual table declares no keys; what it holds is mostly computed from other tables"
                            .to_owned(),
                });
            }
            continue;
        }
        for column in &table.columns {
            let name = column.name.as_str();
            if covered.contains(name) || table.primary_key == [name] {
                continue;
            }
            match look_at(schema, position, name, subject) {
                Look::Parent(parent) if found.contains(&parent) => {
                    suspects.push(suspect(table, name, Some(&schema.tables[parent])));
                }
                Look::Somewhere => suspects.push(suspect(table, name, None)),
                Look::Parent(_) | Look::Plain => {}
            }
        }
    }
    suspects
}

fn suspect(table: &Table, column: &str, parent: Option<&Table>) -> NotFollowed {
    let towards = parent.map_or_else(|| "other rows".to_owned(), |parent| format!("rows of {}", parent.name));
    NotFollowed {
        table: table.name.clone(),
        columns: vec![column.to_owned()],
        parent: parent.map(|parent| parent.name.clone()),
        reason: Reason::Undeclared,
        message: format!("its name looks as if it referred to {towards}, and no foreign key is declared"),
    }
}

/// What the name of a column looks like.
enum Look {
    Plain,
    Parent(usize),
    Somewhere,
}

fn look_at(schema: &Schema, table: usize, column: &str, subject: usize) -> Look {
    let words = snake(column);
    // What identifies the subject by another name than its key: an e-mail address in other tables.
    let telling = |known: &&super::schema::Column| {
        let name = snake(&known.name);
        let own = &schema.tables[subject];
        name != "id" && (own.is_unique(&known.name) || name == "email") && ends_with_word(&words, &name)
    };
    if table != subject && schema.tables[subject].columns.iter().any(|known| telling(&known)) {
        return Look::Parent(subject);
    }
    let stem = ["_id", "_uuid", "_guid", "_ref", "_fk"].iter().find_map(|suffix| words.strip_suffix(suffix));
    let parent = |stem: &str| {
        let named = |other: &Table| {
            let name = snake(&other.name);
            singulars(&name).iter().any(|singular| ends_with_word(stem, singular))
        };
        schema.tables.iter().position(named)
    };
    match stem {
        Some(stem) => parent(stem).map_or(Look::Somewhere, Look::Parent),
        None if words.ends_with("_by") => Look::Somewhere,
        // A column that is called as a table is.
        None => {
            let named = |other: &Table| singulars(&snake(&other.name)).contains(&words);
            schema
                .tables
                .iter()
                .position(named)
                .filter(|other| *other != table)
                .map_or(Look::Plain, Look::Parent)
        }
    }
}

/// Whether `words` is `end`, or ends with it as a word of its own.
fn ends_with_word(words: &str, end: &str) -> bool {
    words.strip_suffix(end).is_some_and(|before| before.is_empty() || before.ends_with('_'))
}

/// `userId`, `UserID` and `user_id` are the same words.
fn snake(name: &str) -> String {
    let mut words = String::new();
    let mut after_small = false;
    for character in name.chars() {
        if character.is_uppercase() && after_small {
            words.push('_');
        }
        after_small = character.is_lowercase() || character.is_numeric();
        words.extend(character.to_lowercase());
    }
    words
}

/// The name itself and what it may be the plural of.
fn singulars(name: &str) -> Vec<String> {
    let mut forms = vec![name.to_owned()];
    if let Some(stem) = name.strip_suffix("ies") {
        forms.push(format!("{stem}y"));
    }
    if let Some(stem) = name.strip_suffix("es") {
        forms.push(stem.to_owned());
    }
    if let Some(stem) = name.strip_suffix('s') {
        forms.push(stem.to_owned());
    }
    forms
}
