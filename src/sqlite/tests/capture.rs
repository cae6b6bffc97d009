//! A capture is the database, byte for byte, and leaves it as it was.

use std::fs;
use std::os::unix::fs::MetadataExt;

use super::*;

#[test]
fn every_page_size_and_journal_mode_byte_for_byte() {
    let folder = tempfile::tempdir().unwrap();
    for journal in ["delete", "wal"] {
        for shift in 9..=16 {
            let page_size = 1 << shift;
            let path = folder.path().join(format!("{journal}-{page_size}.db"));
            drop(create(&path, &format!("PRAGMA page_size={page_size}; PRAGMA journal_mode={journal};")));
            let image = image_of(&path);
            assert!(image == bytes_of(&path), "{journal} {page_size}");
            assert_eq!(verify(image).integrity, Integrity::Ok, "{journal} {page_size}");
        }
    }
}

#[test]
fn auto_vacuum_and_encodings_and_reserved_bytes() {
    let folder = tempfile::tempdir().unwrap();
    for (name, pragmas, auto_vacuum, encoding) in [
        ("full", "PRAGMA auto_vacuum=FULL", AutoVacuum::Full, TextEncoding::Utf8),
        ("incremental", "PRAGMA auto_vacuum=INCREMENTAL", AutoVacuum::Incremental, TextEncoding::Utf8),
        ("le", "PRAGMA encoding='UTF-16le'", AutoVacuum::None, TextEncoding::Utf16Le),
        ("be", "PRAGMA encoding='UTF-16be'; PRAGMA user_version=-7", AutoVacuum::None, TextEncoding::Utf16Be),
    ] {
        let path = folder.path().join(name);
        let writer = create(&path, pragmas);
        raw::connection::reserve_bytes(&writer, 32).unwrap();
        writer.execute_batch("VACUUM; PRAGMA application_id=42").unwrap();
        let mut database = open(&path).unwrap();
        let mut capture = database.begin().unwrap();
        let image = read_all(&mut capture);
        let facts = capture.facts().clone();
        capture.finish().unwrap();
        assert!(image == bytes_of(&path), "{name}");
        let header = facts.header.unwrap();
        assert_eq!((header.auto_vacuum, header.reserved_bytes), (auto_vacuum, 32), "{name}");
        assert_eq!((facts.text_encoding, facts.application_id), (encoding, 42), "{name}");
        assert_eq!(facts.user_version, if name == "be" { -7 } else { 0 });
        assert_eq!(header.page_count(), Some(u32::try_from(image.len() / 4096).unwrap()));
        assert_eq!(verify(image).integrity, Integrity::Ok, "{name}");
    }
}

#[test]
fn empty_and_one_page() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("empty.db");
    fs::write(&path, b"").unwrap();
    let mut database = open(&path).unwrap();
    let capture = database.begin().unwrap();
    assert_eq!((capture.geometry().page_count, capture.facts().header), (0, None));
    assert!(!capture.has_table("t").unwrap());
    drop(capture);
    drop(database);
    assert_eq!(fs::metadata(&path).unwrap().len(), 0);
    let path = folder.path().join("one.db");
    Connection::open(&path).unwrap().execute_batch("PRAGMA user_version=3").unwrap();
    let image = image_of(&path);
    assert_eq!(image.len(), 4096);
    assert!(image == bytes_of(&path));
}

#[test]
fn content_that_is_only_in_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wal.db");
    let writer = create(&path, "PRAGMA journal_mode=wal; PRAGMA wal_autocheckpoint=0;");
    assert_eq!(fs::metadata(&path).unwrap().len(), 4096);
    let mut database = open(&path).unwrap();
    let mut capture = database.begin().unwrap();
    assert_eq!(capture.facts().journal_mode, JournalMode::Wal);
    assert!(capture.facts().wal_frames.unwrap() > 10);
    assert!(capture.has_table("T").unwrap());
    // Commits after the snapshot do not show in it.
    writer.execute_batch("CREATE TABLE late(x)").unwrap();
    let image = read_all(&mut capture);
    assert!(!capture.has_table("late").unwrap());
    capture.finish().unwrap();
    drop(database);
    assert_eq!(verify(image.clone()).integrity, Integrity::Ok);
    let before_late = image_of(&path);
    writer.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    assert!(before_late == bytes_of(&path));
    assert!(image != before_late);
}

#[test]
fn a_capture_leaves_file_and_log_as_they_were() {
    let folder = tempfile::tempdir().unwrap();
    let (path, wal) = (folder.path().join("a.db"), folder.path().join("a.db-wal"));
    let writer = create(&path, "PRAGMA journal_mode=wal; PRAGMA wal_autocheckpoint=0;");
    let state = || {
        let times = [&path, &wal].map(|path| {
            let metadata = fs::metadata(path).unwrap();
            // As root, SQLite sets the owner of the -wal anew, which changes its ctime.
            let ctime_nsec = if path == &wal { 0 } else { metadata.ctime_nsec() };
            (metadata.ino(), metadata.mtime(), metadata.mtime_nsec(), ctime_nsec)
        });
        (times, bytes_of(&path), bytes_of(&wal))
    };
    let before = state();
    let with_writer = image_of(&path);
    assert!(before == state());
    drop(writer);

    // The same after a crash: nobody has the database open, and we are the first and the last to.
    let crashed = folder.path().join("crashed.db");
    let crashed_wal = folder.path().join("crashed.db-wal");
    fs::write(&crashed, &before.1).unwrap();
    fs::write(&crashed_wal, &before.2).unwrap();
    assert!(image_of(&crashed) == with_writer);
    assert!(bytes_of(&crashed) == before.1 && bytes_of(&crashed_wal) == before.2);
}

#[test]
fn a_hot_journal_is_rolled_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hot.db");
    let writer = create(&path, "PRAGMA cache_size=4;");
    let before = bytes_of(&path);
    writer.execute_batch("BEGIN; UPDATE t SET x = randomblob(300), y = 'changed ' || id;").unwrap();
    let crashed = folder.path().join("crashed.db");
    copy(&path, &crashed);
    copy(&folder.path().join("hot.db-journal"), &folder.path().join("crashed.db-journal"));
    assert!(bytes_of(&crashed) != before);
    assert!(image_of(&crashed) == before);
    writer.execute_batch("ROLLBACK").unwrap();
}

#[test]
fn links_and_odd_names() {
    let folder = tempfile::tempdir().unwrap();
    let odd = [
        "a b.db",
        "what?x=1.db",
        "100%41.db",
        "no#1.db",
        "käse-日本.db",
        "file:x.db",
        "'q\"u.db",
        ":memory:",
    ];
    for name in odd {
        let path = folder.path().join(name);
        let plain = folder.path().join("plain.db");
        drop(create(&plain, ""));
        fs::rename(&plain, &path).unwrap();
        assert!(image_of(&path) == bytes_of(&path), "{name}");
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let database = open(&link).unwrap();
        assert_eq!(database.canonical_path(), fs::canonicalize(&path).unwrap());
        fs::remove_file(&link).unwrap();
    }
    // One database per name, and nothing else.
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), odd.len());
}

#[test]
fn the_lock_byte_page_is_zeros_at_every_page_size() {
    let folder = tempfile::tempdir().unwrap();
    for shift in 9..=16 {
        let page_size = 1_u32 << shift;
        let path = folder.path().join(format!("sparse-{page_size}.db"));
        drop(create(&path, &format!("PRAGMA page_size={page_size};")));
        let lock_page = u32::try_from(LOCK_BYTE_OFFSET).unwrap() / page_size;
        extend(&path, lock_page + 3, page_size, lock_page - 1);
        let mut database = open(&path).unwrap();
        let mut capture = database.begin().unwrap();
        assert_eq!(capture.geometry().page_count, lock_page + 3);
        let mut around = vec![1; 4 * page_size as usize];
        capture.read_pages(lock_page - 1, &mut around).unwrap();
        for (page, byte) in around.chunks(page_size as usize).zip([b'*', 0, b'*', b'*']) {
            assert!(page.iter().all(|&found| found == byte), "{page_size}");
        }
        if page_size >= 16_384 {
            let mut run = vec![0; 65_536];
            let pages = 65_536 / page_size;
            for first in (0..lock_page + pages).step_by(pages as usize) {
                let count = pages.min(lock_page + 3 - first);
                capture.read_pages(first, &mut run[..(count * page_size) as usize]).unwrap();
                if first == lock_page {
                    assert!(run[..page_size as usize].iter().all(|&byte| byte == 0), "{page_size}");
                }
            }
        }
        let geometry = capture.geometry();
        capture.finish().unwrap();
        let (mut again, at) = (vec![1; around.len()], u64::from(lock_page - 1) * u64::from(page_size));
        assert!(database.read_unlocked(geometry, at, &mut again), "{page_size}");
        assert!(again == around, "{page_size}: read without the lock");
        assert!(!database.read_unlocked(geometry, at + 1 + u64::from(page_size), &mut again), "{page_size}");
        fs::remove_file(&path).unwrap();
    }
}

/// Makes a closed database `pages` long, sparsely, with four pages of stars from `stars` on.
fn extend(path: &Path, pages: u32, page_size: u32, stars: u32) {
    use std::os::unix::fs::FileExt;
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.set_len(u64::from(pages) * u64::from(page_size)).unwrap();
    let stars_at = u64::from(stars) * u64::from(page_size);
    file.write_all_at(&vec![b'*'; 4 * page_size as usize], stars_at).unwrap();
    file.write_all_at(&pages.to_be_bytes(), 28).unwrap();
}

#[test]
fn reading_out_of_order_and_out_of_range() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    drop(create(&path, "PRAGMA page_size=1024;"));
    let bytes = bytes_of(&path);
    let mut database = open(&path).unwrap();
    let mut capture = database.begin().unwrap();
    let count = capture.geometry().page_count;
    let mut page = [0; 1024];
    for number in [count - 1, 0, 1, 2, 7, 7, 3, 4, 5, 0] {
        capture.read_pages(number, &mut page).unwrap();
        assert!(page == bytes[number as usize * 1024..][..1024], "{number}");
    }
    assert!(capture.read_pages(count, &mut page).is_err());
    assert!(capture.read_pages(u32::MAX, &mut page).is_err());
    assert!(capture.read_pages(0, &mut page[..1000]).is_err());
    capture.read_pages(0, &mut []).unwrap();
    assert!(read_all(&mut capture) == bytes);
}

/// Not a test of correctness: `PAGEVAULT_SPEED_DB=FILE cargo test --release --lib sqlite -- speed --ignored --nocapture`.
#[test]
#[ignore = "measures"]
fn speed() {
    let path = std::env::var("PAGEVAULT_SPEED_DB").unwrap();
    for round in 0..4 {
        let mut database = open(Path::new(&path)).unwrap();
        let mut capture = database.begin().unwrap();
        let geometry = capture.geometry();
        let mut run = vec![0; 65_536];
        let pages = 65_536 / geometry.page_size.bytes();
        for pass in ["sequential", "again"] {
            let started = std::time::Instant::now();
            for first in (0..geometry.page_count).step_by(pages as usize) {
                let count = pages.min(geometry.page_count - first);
                let into = &mut run[..(count * geometry.page_size.bytes()) as usize];
                capture.read_pages(first, into).unwrap();
            }
            let megabytes = f64::from(u32::try_from(geometry.image_len() / 1_000_000).unwrap());
            println!("round {round} {pass}: {:.0} MB/s", megabytes / started.elapsed().as_secs_f64());
        }
        println!("held {:?}", capture.finish().unwrap().hold);
    }
}
