//! An image of a database that was made or damaged to do harm, read through the read-only file system: every
//! question ends with an answer or an error.

use pagevault::page_source::PageSize;
use pagevault::sqlite::{
    CheckLevel, ImageConnection, MemoryImage, has_table, schema_fingerprint, verify_image,
};

use crate::cursor::Cursor;
use crate::fixture;
use crate::forge::edit;

const EDITS: usize = 16;

pub fn hostile_image(data: &[u8]) {
    let mut cursor = Cursor::new(data);
    let how = cursor.byte();
    let level = [CheckLevel::Full, CheckLevel::Quick, CheckLevel::None][usize::from(how & 3) % 3];
    let page_size = PageSize::new(512 << (how >> 5)).expect("a power of two from 512 to 65,536");
    let images = fixture::images();
    let choice = cursor.below(images.len() + 1);
    let bytes = match images.get(choice) {
        None => cursor.rest().to_vec(),
        Some((_, image)) => {
            let (mut bytes, whole) = (image.clone(), image.len());
            for _ in 0..EDITS {
                if cursor.is_empty() {
                    break;
                }
                edit(&mut bytes, &mut cursor);
            }
            // Most edits keep the length, or nothing but the length is looked at.
            if how & 8 == 0 {
                bytes.resize(whole, 0);
            }
            bytes
        }
    };
    let image =
        if how & 4 == 0 { MemoryImage::new(bytes) } else { MemoryImage::with_page_size(bytes, page_size) };
    let Ok(image) = image else { return };
    let _ = verify_image(Box::new(image.clone()), level, &["people".to_owned()]);
    if let Ok(connection) = ImageConnection::open(Box::new(image), 1 << 20) {
        let _ = schema_fingerprint(&connection);
        let _ = has_table(&connection, "people");
        let _ = connection.query_row("SELECT count(*) FROM people", (), |row| row.get::<_, i64>(0));
        let _ = connection.take_failure();
    }
}
