use super::*;

fn database(sql: &str) -> Connection {
    let connection = Connection::open_in_memory().unwrap();
    connection.execute_batch(sql).unwrap();
    connection
}

fn compare(from: &str, to: &str) -> TableDifferences {
    compare_tables(&database(from), &database(to), &|| true).unwrap()
}

/// As `name +added -removed ~changed`.
fn words(found: &TableDifferences) -> Vec<String> {
    let one = |table: &TableDifference| {
        let TableDifference { table, rows_added, rows_removed, rows_changed, .. } = table;
        format!("{table} +{rows_added} -{rows_removed} ~{rows_changed}")
    };
    found.tables.iter().map(one).collect()
}

const NUMBERS: &str = "WITH RECURSIVE n(v) AS (SELECT 1 UNION ALL SELECT v + 1 FROM n LIMIT 3000) ";

#[test]
fn rows_are_added_removed_and_changed() {
    let from = format!(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, x, y); {NUMBERS} INSERT INTO t SELECT v, v * 2, 'a' FROM n;"
    );
    let to = format!(
        "{from} DELETE FROM t WHERE id IN (1, 1500, 3000); INSERT INTO t VALUES(-5, 1, 1), (9999, 1, 1);
         UPDATE t SET y = NULL WHERE id = 77; UPDATE t SET x = CAST(x AS REAL) WHERE id = 78;
         CREATE TABLE more(a); INSERT INTO more VALUES(1), (2);"
    );
    assert_eq!(words(&compare(&from, &to)), ["more +2 -0 ~0", "t +2 -3 ~2"]);
    assert_eq!(words(&compare(&to, &from)), ["more +0 -2 ~0", "t +3 -2 ~2"]);
    let changes: Vec<_> = compare(&to, &from).tables.iter().map(|table| table.change).collect();
    assert_eq!(changes, [TableChange::Removed, TableChange::Changed]);
    assert_eq!(compare(&from, &from), TableDifferences::default());
}

/// Without rowids the order is that of the key: classes, collations, directions, encodings.
#[test]
fn tables_without_rowids_are_merged_by_their_key() {
    let values = "(NULL, 1), (2, 'b'), (2.5, 'C'), (-3, x'00'), ('Abc', 4), ('abd', 5), ('ABE', 6), ('zé', 7), ('\u{1f600}', 8),
                  ('\u{fffd}', 9), (x'ff', 10), (9007199254740993, 11), (9007199254740992.0, 12)";
    for collation in ["BINARY", "NOCASE", "RTRIM"] {
        for direction in ["ASC", "DESC"] {
            for encoding in ["UTF-8", "UTF-16le", "UTF-16be"] {
                let from = format!(
                    "PRAGMA encoding = '{encoding}';
                     CREATE TABLE t(b INT, a ANY COLLATE {collation}, v, PRIMARY KEY(a {direction}, b)) WITHOUT ROWID;
                     INSERT OR IGNORE INTO t(a, v, b) SELECT column1, column2, number FROM (VALUES {values}),
                         (SELECT 1 AS number UNION SELECT 2) WHERE column1 IS NOT NULL;"
                );
                let to = format!(
                    "{from} DELETE FROM t WHERE a IN ('abd', x'ff') AND b = 2; UPDATE t SET v = v || '!' WHERE b = 1 AND a > 'abe';
                     INSERT INTO t(a, b, v) VALUES('Abc', 3, 1), (0.5, 1, 1), (x'', 1, 1);"
                );
                let changed: i64 = database(&to)
                    .query_row("SELECT count(*) FROM t WHERE v LIKE '%!'", (), |row| row.get(0))
                    .unwrap();
                let form = format!("{collation} {direction} {encoding}");
                assert!(changed > 1, "{form}");
                assert_eq!(words(&compare(&from, &to)), [format!("t +3 -2 ~{changed}")], "{form}");
                assert_eq!(compare(&to, &to), TableDifferences::default(), "{form}");
            }
        }
    }
}

#[test]
fn columns_that_only_one_side_has_do_not_count() {
    let from = "CREATE TABLE t(id INTEGER PRIMARY KEY, x, gone); INSERT INTO t VALUES(1, 2, 3), (2, 3, 4)";
    let to = "CREATE TABLE T(id INTEGER PRIMARY KEY, new, X, twice AS (x * 2)); INSERT INTO t VALUES(1, 9, 2), (2, 9, 5)";
    assert_eq!(words(&compare(from, to)), ["T +0 -0 ~1"]);
    // No column of the table is common.
    let found = compare(
        "CREATE TABLE t(a); INSERT INTO t VALUES(1)",
        "CREATE TABLE t(b); INSERT INTO t VALUES(1), (2)",
    );
    assert_eq!(words(&found), ["t +1 -0 ~0"]);
}

fn reason(found: &TableDifferences, table: &str) -> String {
    let left = found.not_compared.iter().find(|left| left.table.as_deref() == Some(table));
    left.map(|left| left.reason.clone()).unwrap_or_default()
}

#[test]
fn what_cannot_be_compared_is_named() {
    let found = compare("CREATE TABLE t(a PRIMARY KEY) WITHOUT ROWID", "CREATE TABLE t(a PRIMARY KEY)");
    assert!(
        reason(&found, "t").contains("their rowid instead of the primary key (a COLLATE BINARY)"),
        "{found:?}"
    );
    let found = compare("CREATE TABLE t(rowid, oid, _rowid_)", "CREATE TABLE t(rowid, oid, _rowid_)");
    assert!(reason(&found, "t").contains("hide every name"), "{found:?}");
    let found = compare("CREATE TABLE t(a)", "CREATE VIRTUAL TABLE t USING fts5(a)");
    assert!(reason(&found, "t").contains("a virtual table instead of a table"), "{found:?}");
    let plain = "CREATE TABLE t(a PRIMARY KEY) WITHOUT ROWID; INSERT INTO t VALUES('a')";
    let found = compare(plain, &format!("PRAGMA encoding = 'UTF-16le'; {plain}"));
    assert!(reason(&found, "t").contains("another encoding"), "{found:?}");

    let own = database(
        "CREATE TABLE t(a COLLATE NOCASE PRIMARY KEY) WITHOUT ROWID; PRAGMA writable_schema = ON;
         UPDATE sqlite_schema SET sql = replace(sql, 'NOCASE', 'german'); PRAGMA writable_schema = RESET",
    );
    let found = compare_tables(&own, &own, &|| true).unwrap();
    assert!(reason(&found, "t").contains("no such collation sequence: german"), "{found:?}");
}

#[test]
fn virtual_tables_are_judged_by_what_they_store() {
    let from = "CREATE VIRTUAL TABLE words USING fts5(text); INSERT INTO words VALUES('alpha beta');
                CREATE VIRTUAL TABLE boxes USING rtree(id, x0, x1); INSERT INTO boxes VALUES(1, 2, 3);";
    assert_eq!(compare(from, from), TableDifferences::default());
    let to = format!(
        "{from} INSERT INTO words VALUES('gamma'); CREATE VIRTUAL TABLE other USING fts5(a); INSERT INTO other VALUES('x')"
    );
    let found = compare(from, &to);
    assert!(reason(&found, "words").contains("its data differ"), "{found:?}");
    assert_eq!(reason(&found, "boxes"), "");
    // Its rows can be asked for.
    assert_eq!(words(&found), ["other +1 -0 ~0"]);
}

#[test]
fn it_ends_when_it_is_told_to() {
    let many = database(&format!("CREATE TABLE t(a); {NUMBERS} INSERT INTO t SELECT v FROM n"));
    assert!(matches!(compare_tables(&many, &many, &|| false), Err(CompareError::Stopped)));
}
