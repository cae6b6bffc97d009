//! The tables of a database as an export sees them: columns, how a row is named, and the keys that are declared.

use std::collections::HashSet;

use rusqlite::Connection;

use super::words::quoted;

/// A column that a row has to offer.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// The type it was declared with, empty if it has none. Values may be of another: `SQLite` permits it.
    #[serde(rename = "type")]
    pub declared: String,
}

/// How one row of a table is told from the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RowKey {
    /// By its rowid, under a name that no column has.
    Rowid(&'static str),
    /// By its primary key.
    Columns(Vec<String>),
}

impl RowKey {
    /// As a list of SQL expressions of the row called `alias`.
    pub(super) fn expressions(&self, alias: &str) -> Vec<String> {
        match self {
            Self::Rowid(name) => vec![format!("{alias}.{name}")],
            Self::Columns(names) => names.iter().map(|name| format!("{alias}.{}", quoted(name))).collect(),
        }
    }

    /// As a condition with one parameter for each expression, the first numbered `from`.
    pub(super) fn condition(&self, alias: &str, from: usize) -> String {
        let equal = |(number, expression): (usize, String)| format!("{expression} IS ?{number}");
        (from..).zip(self.expressions(alias)).map(equal).collect::<Vec<_>>().join(" AND ")
    }
}

/// A foreign key as it is declared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ForeignKey {
    pub(super) columns: Vec<String>,
    pub(super) parent: String,
    /// Empty where the declaration leaves it to the parent's primary key.
    pub(super) parent_columns: Vec<String>,
}

/// A table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) name: String,
    pub(super) is_virtual: bool,
    pub(super) has_generated: bool,
    pub(super) columns: Vec<Column>,
    pub(super) primary_key: Vec<String>,
    pub(super) key: RowKey,
    pub(super) foreign_keys: Vec<ForeignKey>,
    /// Columns, in small letters, with which a whole index begins: rows are found by them without reading the table.
    leading: HashSet<String>,
    /// Single columns, in small letters, whose values are unique.
    unique: HashSet<String>,
}

impl Table {
    /// The column of that name as it is declared.
    pub(super) fn column(&self, name: &str) -> Option<&str> {
        let known = self.columns.iter().find(|column| column.name.eq_ignore_ascii_case(name));
        known.map(|column| column.name.as_str()).or_else(|| match self.key {
            RowKey::Rowid(alias)
                if ["rowid", "oid", "_rowid_"].iter().any(|n| n.eq_ignore_ascii_case(name)) =>
            {
                Some(alias)
            }
            _ => None,
        })
    }

    pub(super) fn finds_by(&self, columns: &[String]) -> bool {
        let rowid = |name: &str| matches!(self.key, RowKey::Rowid(alias) if alias == name);
        columns.iter().any(|name| rowid(name) || self.leading.contains(&name.to_ascii_lowercase()))
    }

    pub(super) fn is_unique(&self, column: &str) -> bool {
        self.unique.contains(&column.to_ascii_lowercase())
    }
}

/// The tables of a database, and those that cannot be read, with the reason.
pub(super) struct Schema {
    pub(super) tables: Vec<Table>,
    pub(super) unreadable: Vec<(String, String)>,
}

impl Schema {
    /// Reads the schema of `main`: ordinary and virtual tables by name, without `SQLite`'s own and those in which virtual
    /// tables keep their data.
    pub(super) fn read(connection: &Connection) -> rusqlite::Result<Self> {
        let sql = "SELECT name, type = 'virtual', wr FROM pragma_table_list \
                   WHERE schema = 'main' AND type IN ('table', 'virtual') AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' \
                   ORDER BY name";
        let mut statement = connection.prepare(sql)?;
        let rows = statement.query_map((), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        let listed: Vec<(String, bool, bool)> = rows.collect::<rusqlite::Result<_>>()?;
        let mut schema = Self { tables: Vec::new(), unreadable: Vec::new() };
        for (name, is_virtual, without_rowid) in listed {
            match read_table(connection, &name, is_virtual, without_rowid) {
                Ok(Ok(table)) => schema.tables.push(table),
                Ok(Err(why)) => schema.unreadable.push((name, why)),
                // A virtual table needs a module that only its application may have.
                Err(error) if is_virtual => schema.unreadable.push((name, error.to_string())),
                Err(error) => return Err(error),
            }
        }
        Ok(schema)
    }

    /// The table of that name, compared as `SQLite` compares names.
    pub(super) fn find(&self, name: &str) -> Option<usize> {
        self.tables.iter().position(|table| table.name.eq_ignore_ascii_case(name))
    }
}

/// A table, or why its rows cannot be told apart.
fn read_table(
    connection: &Connection,
    name: &str,
    is_virtual: bool,
    without_rowid: bool,
) -> rusqlite::Result<Result<Table, String>> {
    let mut columns = Vec::new();
    let mut primary_key: Vec<(u32, String)> = Vec::new();
    let mut has_generated = false;
    let mut statement =
        connection.prepare("SELECT name, type, pk, hidden FROM pragma_table_xinfo(?1) ORDER BY cid")?;
    let mut rows = statement.query([name])?;
    while let Some(row) = rows.next()? {
        let column =
            Column { name: row.get(0)?, declared: row.get::<_, Option<String>>(1)?.unwrap_or_default() };
        let (place, hidden): (u32, u32) = (row.get(2)?, row.get(3)?);
        // 1 are arguments of virtual tables; 2 and 3 are computed, and as visible as the others.
        if hidden == 1 {
            continue;
        }
        has_generated |= hidden > 1;
        if place > 0 {
            primary_key.push((place, column.name.clone()));
        }
        columns.push(column);
    }
    primary_key.sort_unstable();
    let primary_key: Vec<String> = primary_key.into_iter().map(|(_, name)| name).collect();
    let taken = |alias: &str| columns.iter().any(|column| column.name.eq_ignore_ascii_case(alias));
    let key = if without_rowid {
        RowKey::Columns(primary_key.clone())
    } else {
        match ["rowid", "_rowid_", "oid"].into_iter().find(|alias| !taken(alias)) {
            Some(alias) => RowKey::Rowid(alias),
            None if primary_key.is_empty() => {
                return Ok(Err(
                    "its columns hide every name of the rowid, and it has no primary key".to_owned()
                ));
            }
            None => RowKey::Columns(primary_key.clone()),
        }
    };
    let (leading, mut unique) = read_indexes(connection, name)?;
    if let [single] = primary_key.as_slice() {
        unique.insert(single.to_ascii_lowercase());
    }
    let mut leading = leading;
    if let (RowKey::Rowid(_), [single]) = (&key, primary_key.as_slice()) {
        let is_rowid =
            |column: &&Column| column.name == *single && column.declared.eq_ignore_ascii_case("integer");
        leading.extend(columns.iter().find(is_rowid).map(|column| column.name.to_ascii_lowercase()));
    }
    let foreign_keys = read_foreign_keys(connection, name)?;
    let name = name.to_owned();
    Ok(Ok(Table {
        name,
        is_virtual,
        has_generated,
        columns,
        primary_key,
        key,
        foreign_keys,
        leading,
        unique,
    }))
}

/// The first columns of whole indexes, and the columns that are unique alone.
fn read_indexes(
    connection: &Connection,
    table: &str,
) -> rusqlite::Result<(HashSet<String>, HashSet<String>)> {
    let (mut leading, mut unique) = (HashSet::new(), HashSet::new());
    let sql = "SELECT list.\"unique\", info.name, (SELECT count(*) FROM pragma_index_info(list.name)) \
               FROM pragma_index_list(?1) AS list, pragma_index_info(list.name) AS info \
               WHERE NOT list.partial AND info.seqno = 0 AND info.name IS NOT NULL";
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([table])?;
    while let Some(row) = rows.next()? {
        let column = row.get::<_, String>(1)?.to_ascii_lowercase();
        if row.get::<_, bool>(0)? && row.get::<_, u32>(2)? == 1 {
            unique.insert(column.clone());
        }
        leading.insert(column);
    }
    Ok((leading, unique))
}

fn read_foreign_keys(connection: &Connection, table: &str) -> rusqlite::Result<Vec<ForeignKey>> {
    let sql = "SELECT id, \"from\", \"table\", \"to\" FROM pragma_foreign_key_list(?1) ORDER BY id DESC, seq";
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query([table])?;
    let mut keys: Vec<(i64, ForeignKey)> = Vec::new();
    while let Some(row) = rows.next()? {
        let id = row.get(0)?;
        if keys.last().is_none_or(|(last, _)| *last != id) {
            let key = ForeignKey { columns: Vec::new(), parent: row.get(2)?, parent_columns: Vec::new() };
            keys.push((id, key));
        }
        if let Some((_, key)) = keys.last_mut() {
            key.columns.push(row.get(1)?);
            key.parent_columns.extend(row.get::<_, Option<String>>(3)?);
        }
    }
    Ok(keys.into_iter().map(|(_, key)| key).collect())
}
