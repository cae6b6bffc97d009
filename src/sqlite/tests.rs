//! Tests of the layer on real databases.

use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;

use super::*;
use crate::page_source::PageSource;

mod capture;
mod damage;
mod images;
mod refusals;
mod writers;

/// Copies a file by another process: opening and closing it in this one would drop `SQLite`'s locks.
fn copy(from: &Path, to: &Path) {
    assert!(std::process::Command::new("cp").arg(from).arg(to).status().unwrap().success());
}

/// The bytes of a file that `SQLite` may have open, read by another process.
fn bytes_of(path: &Path) -> Vec<u8> {
    let output = std::process::Command::new("cat").arg(path).output().unwrap();
    assert!(output.status.success());
    output.stdout
}

fn open(path: &Path) -> Result<LiveDatabase, SqliteError> {
    LiveDatabase::open(path, &OpenOptions { busy_timeout: Duration::from_millis(200) })
}

fn read_all(capture: &mut Capture<'_>) -> Vec<u8> {
    let geometry = capture.geometry();
    let mut image = vec![0xa5; usize::try_from(geometry.image_len()).unwrap()];
    let pages = 65_536 / geometry.page_size.bytes();
    for (run, into) in (0..).zip(image.chunks_mut(65_536)) {
        capture.read_pages(run * pages, into).unwrap();
    }
    image
}

/// The image of a database, in one go.
fn image_of(path: &Path) -> Vec<u8> {
    let mut database = open(path).unwrap();
    let mut capture = database.begin().unwrap();
    let image = read_all(&mut capture);
    capture.finish().unwrap();
    image
}

fn verify(image: Vec<u8>) -> ImageReport {
    verify_image(Box::new(MemoryImage::new(image).unwrap()), CheckLevel::Full, &[]).unwrap()
}

/// A database with rows on several pages.
fn create(path: &Path, pragmas: &str) -> Connection {
    let connection = Connection::open(path).unwrap();
    connection.execute_batch(pragmas).unwrap();
    connection
        .execute_batch(
            "CREATE TABLE t(id INTEGER PRIMARY KEY, x BLOB, y TEXT); CREATE INDEX i ON t(y);
             INSERT INTO t SELECT value, randomblob(300), 'row ' || value
             FROM (WITH RECURSIVE n(value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM n LIMIT 500) SELECT value FROM n);
             DELETE FROM t WHERE id % 7 = 0 OR id > 450;",
        )
        .unwrap();
    connection
}
