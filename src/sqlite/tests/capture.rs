//! A capture is the file, byte for byte.

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
            let megabytes = u32::try_from(geometry.image_len() / 1_000_000).unwrap();
            println!(
                "round {round} {pass}: {:.0} MB/s",
                f64::from(megabytes) / started.elapsed().as_secs_f64()
            );
        }
        println!("held {:?}", capture.finish().unwrap().hold);
    }
}
