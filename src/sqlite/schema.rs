//! The schema as data: its fingerprint, and which tables there are.

use rusqlite::Connection;
use rusqlite::types::ValueRef;

/// Domain of the fingerprint, so that it can never equal another BLAKE3 in use.
const FINGERPRINT_CONTEXT: &str = "pagevault 2026-11-22 schema fingerprint";

/// A fingerprint of the schema of `main`: equal exactly when the same objects are defined by the same SQL.
///
/// It is BLAKE3 (`derive_key` mode, the context string above) over the rows of `sqlite_schema` ordered by type, name
/// and table name, bytewise. Each row is its four columns `type`, `name`, `tbl_name`, `sql`; each column is one byte
/// of storage class (0 NULL, 1 text, 2 anything else, as text) followed, unless NULL, by its length in bytes as eight
/// little-endian bytes and the bytes. The number of rows comes last in the same form. Root pages do not
/// count, so that `VACUUM` keeps the fingerprint, and neither does the text encoding.
///
/// # Errors
/// Whatever keeps `sqlite_schema` from being read.
pub fn schema_fingerprint(connection: &Connection) -> rusqlite::Result<[u8; 32]> {
    let mut hasher = blake3::Hasher::new_derive_key(FINGERPRINT_CONTEXT);
    let mut statement = connection.prepare(
        "SELECT type, name, tbl_name, sql FROM sqlite_schema \
         ORDER BY type COLLATE BINARY, name COLLATE BINARY, tbl_name COLLATE BINARY, rowid",
    )?;
    let mut rows = statement.query(())?;
    let mut count = 0_u64;
    while let Some(row) = rows.next()? {
        for column in 0..4 {
            match row.get_ref(column)? {
                ValueRef::Null => {
                    hasher.update(&[0]);
                }
                ValueRef::Text(text) => update_bytes(&mut hasher, 1, text),
                ValueRef::Blob(blob) => update_bytes(&mut hasher, 2, blob),
                ValueRef::Integer(number) => update_bytes(&mut hasher, 2, number.to_string().as_bytes()),
                ValueRef::Real(number) => update_bytes(&mut hasher, 2, number.to_string().as_bytes()),
            }
        }
        count += 1;
    }
    hasher.update(&count.to_le_bytes());
    Ok(*hasher.finalize().as_bytes())
}

fn update_bytes(hasher: &mut blake3::Hasher, class: u8, bytes: &[u8]) {
    hasher.update(&[class]).update(&(bytes.len() as u64).to_le_bytes()).update(bytes);
}

/// Whether `main` has a table (virtual ones included, views not) of that name, compared as `SQLite` compares names.
///
/// # Errors
/// Whatever keeps `sqlite_schema` from being read.
pub fn has_table(connection: &Connection, table: &str) -> rusqlite::Result<bool> {
    connection
        .prepare("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1 COLLATE NOCASE")?
        .exists([table])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fingerprint(sql: &str) -> [u8; 32] {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(sql).unwrap();
        schema_fingerprint(&connection).unwrap()
    }

    #[test]
    fn depends_on_definitions_only() {
        let one = fingerprint("CREATE TABLE a(x); CREATE TABLE b(y);");
        assert_eq!(
            one,
            fingerprint("CREATE TABLE b(y); CREATE TABLE a(x); INSERT INTO a VALUES(1); VACUUM;")
        );
        assert_ne!(one, fingerprint("CREATE TABLE a(x); CREATE TABLE b(z);"));
        assert_ne!(one, fingerprint("CREATE TABLE a(x);"));
        assert_ne!(one, fingerprint(""));
    }

    #[test]
    fn tables_are_found_whatever_their_case() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch("CREATE TABLE Users(x); CREATE VIEW v AS SELECT 1;").unwrap();
        assert!(has_table(&connection, "users").unwrap());
        assert!(!has_table(&connection, "v").unwrap());
        assert!(!has_table(&connection, "nobody").unwrap());
    }
}
