//! What changed from one schema to another, in words.

use std::collections::BTreeMap;

use rusqlite::Connection;

/// A schema as far as it can be told apart in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schema {
    user_version: i64,
    /// Columns by table: name and what is declared of each.
    tables: BTreeMap<String, Vec<(String, String)>>,
    /// Definitions by kind and name, tables included.
    definitions: BTreeMap<(String, String), String>,
}

impl Schema {
    /// The schema of `main`.
    ///
    /// # Errors
    /// Whatever keeps it from being read. Columns of a table that only its application understands stay unknown.
    pub fn read(connection: &Connection) -> rusqlite::Result<Self> {
        let user_version = connection.query_row("PRAGMA user_version", (), |row| row.get(0))?;
        let mut schema = Self { user_version, tables: BTreeMap::new(), definitions: BTreeMap::new() };
        let sql = "SELECT type, name, coalesce(sql, '') FROM sqlite_schema WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\'";
        let mut statement = connection.prepare(sql)?;
        let rows =
            statement.query_map((), |row| Ok(((row.get(0)?, row.get::<_, String>(1)?), row.get(2)?)))?;
        for row in rows {
            let ((kind, name), sql): ((String, String), String) = row?;
            if kind == "table" {
                schema.tables.insert(name.clone(), columns(connection, &name).unwrap_or_default());
            }
            schema.definitions.insert((kind, name), sql);
        }
        Ok(schema)
    }

    /// What is otherwise in `after`, one sentence each; none if nothing is.
    #[must_use]
    pub fn changes(&self, after: &Self) -> Vec<String> {
        let mut changes = Vec::new();
        if self.user_version != after.user_version {
            changes.push(format!("user_version {} -> {}", self.user_version, after.user_version));
        }
        for (kind, name) in self.definitions.keys() {
            if !after.definitions.contains_key(&(kind.clone(), name.clone())) {
                changes.push(format!("{kind} {name} removed"));
            }
        }
        for ((kind, name), sql) in &after.definitions {
            let before = self.definitions.get(&(kind.clone(), name.clone()));
            match before {
                None if kind == "table" => {
                    let count = after.tables.get(name).map_or(0, Vec::len);
                    let columns = if count == 1 { "column" } else { "columns" };
                    changes.push(format!("table {name} added ({count} {columns})"));
                }
                None => changes.push(format!("{kind} {name} added")),
                Some(before) if before == sql => {}
                Some(_) if kind == "table" => changes.extend(self.column_changes(after, name)),
                Some(_) => changes.push(format!("{kind} {name} changed")),
            }
        }
        changes
    }

    fn column_changes(&self, after: &Self, table: &str) -> Vec<String> {
        let none = Vec::new();
        let before: BTreeMap<_, _> = self.tables.get(table).unwrap_or(&none).iter().cloned().collect();
        let now = after.tables.get(table).unwrap_or(&none);
        let mut changes = Vec::new();
        for name in before.keys().filter(|name| !now.iter().any(|(other, _)| other == *name)) {
            changes.push(format!("table {table}: column {name} removed"));
        }
        for (name, declared) in now {
            match before.get(name) {
                None => changes.push(format!("table {table}: column {name} added ({declared})")),
                Some(was) if was != declared => {
                    changes.push(format!("table {table}: column {name} was {was}, is {declared}"));
                }
                Some(_) => {}
            }
        }
        if changes.is_empty() {
            changes.push(format!("table {table}: defined otherwise, with the same columns"));
        }
        changes
    }
}

fn columns(connection: &Connection, table: &str) -> rusqlite::Result<Vec<(String, String)>> {
    let sql = "SELECT name, iif(type = '', 'no type', type) || iif(\"notnull\", ' NOT NULL', '')
                      || iif(dflt_value IS NULL, '', ' DEFAULT ' || dflt_value) || iif(pk, ' PRIMARY KEY', '')
               FROM pragma_table_xinfo(?1)";
    connection.prepare(sql)?.query_map([table], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(sql: &str) -> Schema {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(sql).unwrap();
        Schema::read(&connection).unwrap()
    }

    #[test]
    fn changes_are_said_in_words() {
        let before = schema("CREATE TABLE a(x, y TEXT); CREATE TABLE b(z); CREATE INDEX i ON a(x)");
        let after = schema(
            "CREATE TABLE a(x INT NOT NULL, n TEXT DEFAULT 'q'); CREATE TABLE c(z, w); CREATE VIEW v AS SELECT 1;
             PRAGMA user_version = 3",
        );
        assert_eq!(
            before.changes(&after),
            [
                "user_version 0 -> 3",
                "index i removed",
                "table b removed",
                "table a: column y removed",
                "table a: column x was no type, is INT NOT NULL",
                "table a: column n added (TEXT DEFAULT 'q')",
                "table c added (2 columns)",
                "view v added",
            ]
        );
        assert!(before.changes(&before).is_empty());
    }
}
