//! Exports against SQL written by hand, on the workload's schema and on schemas with composite keys, cycles and
//! self-references; values there and back; and what an export leaves behind, which is nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use pagevault::Result;
use pagevault::clock::SystemClock;
use pagevault::error::ErrorKind;
use pagevault::ids::HostId;
use pagevault::monitor::Silent;
use pagevault::operations::check::{CheckRequest, DataLevel, check};
use pagevault::operations::export::{
    ExportFormat, ExportReport, ExportRequest, ExportSource, OutputFile, export,
};
use pagevault::operations::list::{ContentKind, ListFilter, list};
use pagevault::operations::snapshot::Host;
use pagevault::vault::Vault;
use rusqlite::Connection;
use rusqlite::types::ValueRef;
use serde_json::{Value, json};

use crate::children::workload;
use crate::databases::{contents, difference, execute};
use crate::support::{memory_vault, restore_to, take};
use crate::tamper::fixture::scratch;

fn live(database: &Path) -> ExportRequest {
    ExportRequest::new(ExportSource::Database(database.to_path_buf()))
}

fn of_subject(database: &Path, subject: &str, relations: &[&str]) -> ExportRequest {
    ExportRequest {
        subject: Some(subject.parse().unwrap()),
        relations: relations.iter().map(|relation| relation.parse().unwrap()).collect(),
        ..live(database)
    }
}

fn run(vault: Option<&Vault>, request: &ExportRequest) -> Result<(ExportReport, Vec<u8>)> {
    let mut bytes = Vec::new();
    let report = export(vault, request, &SystemClock, &Silent, &mut bytes)?;
    assert_eq!(report.size, bytes.len() as u64);
    Ok((report, bytes))
}

fn document(vault: Option<&Vault>, request: &ExportRequest) -> Value {
    let (report, bytes) = run(vault, request).unwrap();
    let document: Value = serde_json::from_slice(&bytes).unwrap();
    let counts: BTreeMap<String, u64> =
        rows_of(&document).into_iter().map(|(name, rows)| (name, rows.len() as u64)).collect();
    assert_eq!(report.tables, counts, "the report counts what the document holds");
    document
}

/// The rows of each table, as sorted lines of JSON.
fn rows_of(document: &Value) -> BTreeMap<String, Vec<String>> {
    let tables = document["tables"].as_object().unwrap();
    let rows = |table: &Value| {
        let mut rows: Vec<String> =
            table["rows"].as_array().unwrap().iter().map(ToString::to_string).collect();
        rows.sort();
        rows
    };
    tables.iter().map(|(name, table)| (name.clone(), rows(table))).collect()
}

/// What SQL says the export must hold; `selects` are pairs of a table and a query on all its columns.
fn by_hand(database: &Path, selects: &[(&str, &str)]) -> BTreeMap<String, Vec<String>> {
    let connection = Connection::open(database).unwrap();
    let mut tables = BTreeMap::new();
    for (table, sql) in selects {
        let mut statement = connection.prepare(sql).unwrap();
        let names: Vec<String> = statement.column_names().map(str::to_owned).collect();
        let mut rows = statement.query(()).unwrap();
        let mut lines = Vec::new();
        while let Some(row) = rows.next().unwrap() {
            let values =
                names.iter().enumerate().map(|(at, name)| (name.clone(), plain(row.get_ref(at).unwrap())));
            lines.push(Value::Object(values.collect()).to_string());
        }
        lines.sort();
        if !lines.is_empty() {
            tables.insert((*table).to_owned(), lines);
        }
    }
    tables
}

fn plain(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => json!(number),
        // As the export is read here: serde_json rounds the last bit otherwise than it was written.
        ValueRef::Real(number) => serde_json::from_str(&format!("{number:?}")).unwrap(),
        ValueRef::Text(text) => json!(std::str::from_utf8(text).unwrap()),
        ValueRef::Blob(blob) => json!({ "blob_base64": encoded(blob) }),
    }
}

/// Base64 by another hand than the exporter's.
fn encoded(bytes: &[u8]) -> String {
    let digit = |value: u8| match value {
        0..=25 => (b'A' + value) as char,
        26..=51 => (b'a' + value - 26) as char,
        52..=61 => (b'0' + value - 52) as char,
        62 => '+',
        _ => '/',
    };
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let mut bits = 0_u32;
        for at in 0..3 {
            bits = bits << 8 | u32::from(*group.get(at).unwrap_or(&0));
        }
        for at in 0..4 {
            text.push(if at <= group.len() { digit((bits >> (18 - 6 * at)) as u8 & 63) } else { '=' });
        }
    }
    text
}

fn decoded(text: &str) -> Vec<u8> {
    let value = |digit: u8| match digit {
        b'A'..=b'Z' => digit - b'A',
        b'a'..=b'z' => digit - b'a' + 26,
        b'0'..=b'9' => digit - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let mut bytes = Vec::new();
    for group in text.as_bytes().chunks(4) {
        let bits = group
            .iter()
            .fold(0_u32, |bits, &digit| bits << 6 | u32::from(if digit == b'=' { 0 } else { value(digit) }));
        let len = group.iter().filter(|&&digit| digit != b'=').count() - 1;
        bytes.extend_from_slice(&bits.to_be_bytes()[1..=len]);
    }
    bytes
}

fn build_workload(path: &Path, journal: &str) {
    let arguments = ["--megabytes", "2", "--journal", journal, "--seed", "5"];
    let built =
        Command::new(workload()).arg("build").arg(path).args(arguments).stdout(Stdio::null()).status();
    assert!(built.unwrap().success());
}

#[test]
fn a_user_of_the_workload_is_what_sql_says_live_and_stored() {
    let folder = scratch();
    let path = folder.path().join("cases.db");
    build_workload(&path, "wal");
    let (vault, _) = memory_vault();
    let id = take(&vault, &path).unwrap().snapshot_id.to_string();
    for user in [1, 7, 23] {
        let of_cases = format!("WHERE case_id IN (SELECT id FROM cases WHERE user_id = {user})");
        let expected = by_hand(
            &path,
            &[
                ("users", &format!("SELECT * FROM users WHERE id = {user}")),
                ("cases", &format!("SELECT * FROM cases WHERE user_id = {user}")),
                ("documents", &format!("SELECT * FROM documents {of_cases}")),
                ("evidence", &format!("SELECT * FROM evidence {of_cases}")),
                ("audit_logs", &format!("SELECT * FROM audit_logs WHERE user_id = {user}")),
            ],
        );
        assert!(expected["documents"].len() > 1, "{user}");
        let request = of_subject(&path, &format!("users:{user}"), &[]);
        let now = document(None, &request);
        assert!(rows_of(&now) == expected, "live, user {user}");
        let source = ExportSource::Snapshot(id.parse().unwrap());
        let stored = document(Some(&vault), &ExportRequest { source, ..request });
        assert!(rows_of(&stored) == expected, "stored, user {user}");
        assert_eq!(stored["source"]["snapshot_id"], json!(id));
        assert_eq!(now["source"]["snapshot_id"], Value::Null);
        assert_eq!(now["tables"]["users"]["columns"][3], json!({"name": "password_hash", "type": "BLOB"}));
        let undeclared: Vec<&Value> = now["not_followed"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|named| named["reason"] == "undeclared")
            .collect();
        assert_eq!(undeclared.len(), 1, "{undeclared:?}");
        assert_eq!(undeclared[0]["columns"], json!(["entity_id"]));
    }
}

/// Composite keys, a table without rowids, a self-reference, a key to a unique column of another collation.
const STAFF: &str = "
    PRAGMA foreign_keys = OFF;
    CREATE TABLE person(country TEXT, number INTEGER, name TEXT, boss_country TEXT, boss_number INTEGER,
        PRIMARY KEY(country, number), FOREIGN KEY(boss_country, boss_number) REFERENCES person) WITHOUT ROWID;
    CREATE TABLE badge(code TEXT UNIQUE COLLATE NOCASE, of_country, of_number, picture BLOB,
        FOREIGN KEY(of_country, of_number) REFERENCES person(country, number));
    CREATE TABLE visit(id INTEGER PRIMARY KEY, badge_code TEXT REFERENCES badge(code), after INTEGER REFERENCES visit(id),
        room INTEGER REFERENCES room(id));
    CREATE TABLE room(id INTEGER PRIMARY KEY, name TEXT);
    INSERT INTO room VALUES(1, 'hall');
    INSERT INTO person VALUES('de', 1, 'Ada', NULL, NULL), ('de', 2, 'Bea', 'de', 1), ('fr', 1, 'Cyd', 'de', 2),
        ('fr', 2, 'Dan', 'fr', 2), ('de', 3, 'Eve', NULL, 1), ('it', 1, 'Fay', NULL, NULL);
    INSERT INTO badge VALUES('a1', 'de', 1, x'01ff'), ('B2', 'de', 2, NULL), ('c3', 'fr', 1, x''), ('d4', 'fr', 2, NULL),
        ('e5', NULL, 1, NULL);
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 400)
    INSERT INTO visit SELECT i, CASE i % 5 WHEN 0 THEN 'A1' WHEN 1 THEN 'b2' WHEN 2 THEN 'd4' END,
        CASE WHEN i % 10 = 8 THEN i - 2 WHEN i % 10 = 3 THEN i - 1 WHEN i = 399 THEN 400 WHEN i % 5 = 4 THEN i + 5 END, 1 FROM n;";

const STAFF_UNDER: &str = "
    WITH RECURSIVE under(c, n) AS (VALUES('de', 1) UNION
        SELECT country, number FROM person JOIN under ON boss_country = c AND boss_number = n),
    codes(code) AS (SELECT code FROM badge JOIN under ON of_country = c AND of_number = n),
    visits(id) AS (SELECT id FROM visit JOIN codes ON badge_code = codes.code COLLATE NOCASE UNION
        SELECT visit.id FROM visit JOIN visits ON visit.after = visits.id)";

#[test]
fn composite_keys_and_self_references_are_what_sql_says() {
    let folder = scratch();
    let path = folder.path().join("staff.db");
    execute(&path, STAFF);
    let expected = by_hand(
        &path,
        &[
            (
                "person",
                &format!(
                    "{STAFF_UNDER} SELECT person.* FROM person JOIN under ON country = c AND number = n"
                ),
            ),
            ("badge", &format!("{STAFF_UNDER} SELECT * FROM badge WHERE code IN (SELECT code FROM codes)")),
            ("visit", &format!("{STAFF_UNDER} SELECT * FROM visit WHERE id IN (SELECT id FROM visits)")),
        ],
    );
    assert_eq!((expected["person"].len(), expected["badge"].len()), (3, 3));
    // All of two badges, half of those after them, and a chain of 80 that begins at its end.
    assert_eq!(expected["visit"].len(), 80 + 80 + 40 + 80);
    let found = document(None, &of_subject(&path, "person:country=de,number=1", &[]));
    assert!(rows_of(&found) == expected);
    let parents: Vec<&Value> = found["not_followed"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|named| named["reason"] == "parent")
        .collect();
    assert_eq!(parents.len(), 1, "{parents:?}");
    assert_eq!((&parents[0]["table"], &parents[0]["parent"]), (&json!("visit"), &json!("room")));
    // A person who is their own superior.
    let own = document(None, &of_subject(&path, "person:country=fr,number=2", &[]));
    assert_eq!(rows_of(&own)["person"].len(), 1);
    let skipped = ExportRequest {
        skips: vec!["person.boss_number".parse().unwrap(), "visit".parse().unwrap()],
        ..of_subject(&path, "person:country=de,number=1", &[])
    };
    let alone: Vec<(String, usize)> =
        rows_of(&document(None, &skipped)).into_iter().map(|(name, rows)| (name, rows.len())).collect();
    assert_eq!(alone, [("badge".to_owned(), 1), ("person".to_owned(), 1)]);
}

/// A cycle of three tables without an index, a broken key, and references that nobody declared.
const BANK: &str = "
    PRAGMA foreign_keys = OFF;
    CREATE TABLE customer(email TEXT PRIMARY KEY, main_account REFERENCES account(iban), ghost REFERENCES nowhere(x));
    CREATE TABLE account(iban TEXT UNIQUE, card INTEGER REFERENCES card(id), note TEXT);
    CREATE TABLE card(id INTEGER PRIMARY KEY, owner TEXT REFERENCES customer);
    CREATE TABLE letter(\"to\" TEXT, text TEXT);
    CREATE TABLE \"odd \"\"name\"(\"rowid\" TEXT, \"select\" TEXT);
    INSERT INTO customer VALUES('a@x', 'A', NULL), ('b@x', 'B', NULL), ('c@x', 'Z', 1);
    WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 60)
    INSERT INTO card SELECT i, CASE WHEN i % 2 THEN 'a@x' ELSE 'b@x' END FROM n;
    INSERT INTO account SELECT 'X' || id, id, 'of card ' || id FROM card;
    INSERT INTO account VALUES('A', 2, 'crossing over'), ('Z', NULL, NULL);
    INSERT INTO letter VALUES('a@x', 'Dear'), ('b@x', 'Dear'), ('A@X', 'other case');
    INSERT INTO \"odd \"\"name\" VALUES('a@x', 'x'), ('q', 'y');";

#[test]
fn cycles_end_and_given_relations_count() {
    let folder = scratch();
    let path = folder.path().join("bank.db");
    execute(&path, BANK);
    // The card's owner, that owner's customers by main account, their cards, round and round.
    let closed = "WITH RECURSIVE reach(kind, key) AS (VALUES('customer', 'b@x') UNION
        SELECT 'card', id FROM card JOIN reach ON kind = 'customer' AND owner = key UNION
        SELECT 'account', iban FROM account JOIN reach ON kind = 'card' AND card = key UNION
        SELECT 'customer', email FROM customer JOIN reach ON kind = 'account' AND main_account = key)";
    let select = |table: &str, key: &str| {
        format!(
            "{closed} SELECT * FROM {table} WHERE {key} IN (SELECT key FROM reach WHERE kind = '{table}')"
        )
    };
    let mut expected = by_hand(
        &path,
        &[
            ("customer", &select("customer", "email")),
            ("card", &select("card", "id")),
            ("account", &select("account", "iban")),
            ("letter", "SELECT * FROM letter WHERE \"to\" IN ('a@x', 'b@x')"),
            ("odd \"name", "SELECT * FROM \"odd \"\"name\" WHERE \"rowid\" = 'a@x'"),
        ],
    );
    assert_eq!((expected["customer"].len(), expected["card"].len(), expected["account"].len()), (2, 60, 61));
    let relations = ["letter.to -> customer.email", "\"odd \"\"name\".rowid -> customer.email"];
    let found = document(None, &of_subject(&path, "customer:b@x", &relations));
    assert!(rows_of(&found) == expected, "{:?}", rows_of(&found));
    assert!(found["not_followed"].as_array().unwrap().iter().any(|named| named["reason"] == "broken"));
    expected.remove("letter");
    expected.remove("odd \"name");
    assert!(rows_of(&document(None, &of_subject(&path, "customer:b@x", &[]))) == expected);
    let lines = ExportRequest { format: ExportFormat::JsonLines, ..of_subject(&path, "customer:b@x", &[]) };
    let (_, bytes) = run(None, &lines).unwrap();
    let mut by_lines: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in String::from_utf8(bytes).unwrap().lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        if let Some(row) = line.get("row") {
            by_lines.entry(line["table"].as_str().unwrap().to_owned()).or_default().push(row.to_string());
        }
    }
    by_lines.values_mut().for_each(|rows| rows.sort());
    assert!(by_lines == expected);
}

#[test]
fn what_does_not_exist_is_said() {
    let folder = scratch();
    let path = folder.path().join("bank.db");
    execute(&path, BANK);
    let kind = |subject: &str, relations: &[&str]| {
        run(None, &of_subject(&path, subject, relations)).unwrap_err().kind()
    };
    assert_eq!(kind("nobody:1", &[]), ErrorKind::NotFound);
    assert_eq!(kind("customer:z@x", &[]), ErrorKind::NotFound);
    assert_eq!(kind("card:abc", &[]), ErrorKind::NotFound);
    assert_eq!(kind("customer:a@x", &["letter.from -> customer.email"]), ErrorKind::NotFound);
    assert_eq!(kind("customer:a@x", &["letters.to -> customer.email"]), ErrorKind::NotFound);
    let stored = ExportRequest::new(ExportSource::Snapshot("latest".parse().unwrap()));
    assert_eq!(run(None, &stored).unwrap_err().kind(), ErrorKind::Usage);
    execute(&path, "CREATE TABLE pair(a, b, PRIMARY KEY(a, b)); INSERT INTO pair VALUES(1, 2)");
    let error = run(None, &of_subject(&path, "pair:1", &[])).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert!(error.hint().unwrap().contains("pair:a=...,b=..."), "{error:?}");
    assert_eq!(rows_of(&document(None, &of_subject(&path, "pair:b=2", &[])))["pair"].len(), 1);
}

/// Every class of value at its edges, large ones, computed columns, names that need quoting.
fn edges(path: &Path, encoding: &str) {
    execute(path, &format!("PRAGMA encoding = '{encoding}'; PRAGMA page_size = 1024;
        CREATE TABLE edge(id INTEGER PRIMARY KEY, v, \"a \"\"b\" TEXT);
        INSERT INTO edge(v) VALUES(NULL), (0), (-1), (9007199254740991), (9007199254740992), (-9223372036854775808),
            (1.0), (-0.0), (0.1), (1e308), (5e-324), (1e999), (-1e999), (''), ('a' || char(0) || 'b'), (char(34, 92, 10, 128512)),
            (x''), (x'00'), (x'ff00ff'), (zeroblob(1048576)), (randomblob(1048577)), (randomblob(3000001));
        INSERT INTO edge(v) SELECT replace(hex(zeroblob(400000)), '0', char(233, 128512, 34));
        CREATE TABLE made(a INTEGER, b TEXT AS (a || '!') STORED, c AS (a * 2), d BLOB);
        INSERT INTO made(a, d) VALUES(1, randomblob(1500000)), (2, NULL);
        CREATE TABLE keyed(k TEXT PRIMARY KEY, v BLOB) WITHOUT ROWID; INSERT INTO keyed VALUES('x', randomblob(1200000));
        CREATE VIRTUAL TABLE words USING fts5(text); INSERT INTO words VALUES('some words');
        CREATE VIEW seen AS SELECT 1;"));
    if encoding == "UTF-8" {
        let broken =
            "INSERT INTO edge(v) VALUES(CAST(x'61ff' AS TEXT)), (CAST(zeroblob(2) || x'ff' AS TEXT));
            INSERT INTO edge(v) SELECT CAST(CAST(randomblob(1100000) AS BLOB) AS TEXT);";
        execute(path, broken);
    }
}

/// The value that a piece of an export stands for.
fn read_back(value: &Value) -> rusqlite::types::Value {
    use rusqlite::types::Value as Sql;
    match value {
        Value::Null => Sql::Null,
        Value::Number(number) if number.is_f64() => Sql::Real(number.as_f64().unwrap()),
        Value::Number(number) => Sql::Integer(number.as_i64().unwrap()),
        Value::String(text) => Sql::Text(text.clone()),
        Value::Object(wrapped) => match wrapped.iter().next().unwrap() {
            (word, Value::String(text)) if word == "blob_base64" => Sql::Blob(decoded(text)),
            (word, Value::String(text)) if word == "integer" => Sql::Integer(text.parse().unwrap()),
            (word, Value::String(text)) if word == "real" => Sql::Real(if text == "Infinity" {
                f64::INFINITY
            } else {
                assert_eq!(text, "-Infinity");
                f64::NEG_INFINITY
            }),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_value_comes_back_as_it_was() {
    let folder = scratch();
    for encoding in ["UTF-8", "UTF-16le"] {
        let path = folder.path().join(format!("{encoding}.db"));
        edges(&path, encoding);
        let document = document(None, &live(&path));
        let names: Vec<&String> = document["tables"].as_object().unwrap().keys().collect();
        assert_eq!(names, ["edge", "keyed", "made", "words"]);
        let connection = Connection::open(&path).unwrap();
        for (table, key) in [("edge", "id"), ("made", "a"), ("keyed", "k"), ("words", "rowid")] {
            let columns = document["tables"][table]["columns"].as_array().unwrap();
            let names: Vec<&str> = columns.iter().map(|column| column["name"].as_str().unwrap()).collect();
            let mut statement = connection.prepare(&format!("SELECT * FROM {table} ORDER BY {key}")).unwrap();
            assert!(statement.column_names().eq(names.iter().copied()), "{names:?}");
            let mut rows = statement.query(()).unwrap();
            for exported in document["tables"][table]["rows"].as_array().unwrap() {
                let row = rows.next().unwrap().unwrap();
                for (at, name) in names.iter().enumerate() {
                    let (stored, exported) = (row.get_ref(at).unwrap(), &exported[*name]);
                    let same = match exported.get("text_base64") {
                        Some(text) => ValueRef::Text(&decoded(text.as_str().unwrap())) == stored,
                        None => {
                            let back = read_back(exported);
                            match (stored, &back) {
                                (ValueRef::Real(one), rusqlite::types::Value::Real(other)) => {
                                    one.to_bits() == other.to_bits()
                                }
                                _ => stored == ValueRef::from(&back),
                            }
                        }
                    };
                    let shown: String = exported.to_string().chars().take(80).collect();
                    assert!(same, "{encoding} {table}.{name}: {shown}");
                }
            }
            assert!(rows.next().unwrap().is_none(), "{table}");
        }
    }
}

#[test]
fn a_live_database_is_left_as_it_was() {
    for journal in ["delete", "wal"] {
        let folder = scratch();
        let path = folder.path().join("cases.db");
        build_workload(&path, journal);
        // The application has it open, with frames in the log.
        let application = Connection::open(&path).unwrap();
        application.execute_batch("UPDATE users SET name = 'renamed' WHERE id = 1").unwrap();
        let before = contents(folder.path());
        document(None, &of_subject(&path, "users:1", &[]));
        document(None, &live(&path));
        assert_eq!(
            difference(&before, &contents(folder.path())),
            Vec::<std::ffi::OsString>::new(),
            "{journal}"
        );
        // It can write as soon as the export is over.
        application.execute_batch("UPDATE users SET name = 'again' WHERE id = 1").unwrap();
    }
}

#[test]
fn an_export_under_writers_is_one_committed_state() {
    let folder = scratch();
    let path = folder.path().join("cases.db");
    build_workload(&path, "wal");
    let mut writer = Command::new(workload());
    writer.args(["live", path.to_str().unwrap(), "--seconds", "180", "--until-stdin-closes"]);
    let mut writer = writer.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut moves: Vec<i64> = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(120);
    while moves.len() < 4 && Instant::now() < deadline {
        let document = document(None, &live(&path));
        let rows = document["tables"]["ledger"]["rows"].as_array().unwrap();
        let sum: i64 = rows.iter().map(|row| row["balance"].as_i64().unwrap()).sum();
        assert_eq!((rows.len(), sum), (2000, 2_000_000));
        let seen = document["tables"]["ledger_meta"]["rows"][0]["moves"].as_i64().unwrap();
        if moves.last() != Some(&seen) {
            moves.push(seen);
        }
    }
    drop(writer.stdin.take());
    assert!(writer.wait().unwrap().success());
    assert!(moves.is_sorted() && moves.len() == 4, "{moves:?}");
}

#[test]
fn a_kept_export_is_a_document_of_its_database() {
    let folder = scratch();
    let path = folder.path().join("staff.db");
    execute(&path, STAFF);
    let (vault, _) = memory_vault();
    let host = Host { id: HostId([7; 16]), name: Some("test".to_owned()) };
    // Kept before there is any snapshot; the database then keeps name and identity.
    let request = ExportRequest { keep: Some(host), ..of_subject(&path, "person:country=de,number=1", &[]) };
    let (report, bytes) = run(Some(&vault), &request).unwrap();
    let kept = report.snapshot_id.unwrap().to_string();
    let first = take(&vault, &path).unwrap();
    assert_eq!((first.database.as_str(), first.parent), ("staff", None));
    let source = ExportSource::Snapshot("staff@latest".parse().unwrap());
    let (again, _) = run(Some(&vault), &ExportRequest { source, ..request }).unwrap();
    let second = take(&vault, &path).unwrap();
    assert_eq!(second.parent, Some(first.snapshot_id), "an export is no parent");
    assert_eq!(second.chunks.unchanged, second.chunks.total);

    let all = list(&vault, &ListFilter::default(), &Silent).unwrap();
    assert_eq!(all.len(), 4);
    let tagged = ListFilter {
        tags: vec![("subject".into(), "person:country=de,number=1".into())],
        ..ListFilter::default()
    };
    let exports = list(&vault, &tagged, &Silent).unwrap();
    assert_eq!(exports.iter().map(|info| info.content).collect::<Vec<_>>(), [ContentKind::Document; 2]);
    assert_eq!(exports[1].parent, Some(first.snapshot_id));
    assert_eq!(exports[0].size, bytes.len() as u64);
    assert!(
        exports.iter().all(|info| info.database_id == all[1].database_id && info.kind.name() == "export")
    );

    let target = folder.path().join("kept.json");
    let restored = restore_to(&vault, &kept, &target).unwrap();
    assert_eq!(restored.verified.sha256, Some(true));
    assert_eq!(std::fs::read(&target).unwrap(), bytes);
    let newest = folder.path().join("newest");
    restore_to(&vault, "latest", &newest).unwrap();
    assert_eq!(&std::fs::read(&newest).unwrap()[..6], b"SQLite", "the newest is the database");
    restore_to(&vault, "latest:export", &folder.path().join("newest.json")).unwrap();
    assert_eq!(
        restore_to(&vault, &again.snapshot_id.unwrap().to_string(), &folder.path().join("x"))
            .unwrap()
            .database,
        "staff"
    );
    let wrong = ExportRequest::new(ExportSource::Snapshot(kept.parse().unwrap()));
    assert_eq!(run(Some(&vault), &wrong).unwrap_err().kind(), ErrorKind::Refused);

    let request = CheckRequest { data: DataLevel::All, test_restore: Some(None) };
    let report = check(&vault, &request, &SystemClock, &Silent).unwrap();
    assert!(report.problems.is_empty(), "{:?}", report.problems);
    assert_eq!(report.test_restored.len(), 4);
}

#[test]
fn a_large_export_is_kept_whole() {
    let folder = scratch();
    let path = folder.path().join("edges.db");
    edges(&path, "UTF-8");
    let (vault, _) = memory_vault();
    let host = Host { id: HostId([7; 16]), name: None };
    let (report, bytes) = run(Some(&vault), &ExportRequest { keep: Some(host), ..live(&path) }).unwrap();
    assert!(bytes.len() > 10_000_000 && report.subject.is_none());
    let target = folder.path().join("kept.json");
    restore_to(&vault, "latest:export", &target).unwrap();
    assert!(std::fs::read(&target).unwrap() == bytes);
}

#[test]
fn an_output_file_is_complete_or_absent() {
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;
    let folder = scratch();
    let target = folder.path().join("out.json");
    let begun = |overwrite| OutputFile::create(&target, overwrite);
    let mut file = begun(false).unwrap();
    file.write_all(b"half").unwrap();
    drop(file);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    let (mut one, mut other) = (begun(false).unwrap(), begun(false).unwrap());
    one.write_all(b"one").unwrap();
    other.write_all(b"other").unwrap();
    one.put_in_place().unwrap();
    assert_eq!(other.put_in_place().unwrap_err().kind(), ErrorKind::Refused);
    assert_eq!(begun(false).unwrap_err().kind(), ErrorKind::Refused);
    assert_eq!(std::fs::read(&target).unwrap(), b"one");
    assert_eq!(target.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let mut third = begun(true).unwrap();
    third.write_all(b"third").unwrap();
    third.put_in_place().unwrap();
    assert_eq!(std::fs::read(&target).unwrap(), b"third");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    let missing: PathBuf = folder.path().join("no/such/out.json");
    assert_eq!(OutputFile::create(&missing, false).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(OutputFile::create(folder.path(), true).unwrap_err().kind(), ErrorKind::Refused);
}
