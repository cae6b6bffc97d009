//! What people type or files begin with: key texts, names of snapshots, names of objects, database headers.

use pagevault::crypto::secret::TextForm;
use pagevault::ids::{ChunkId, ObjectName, SlotId};
use pagevault::operations::list::{Moment, SnapshotSpec};
use pagevault::sqlite::DatabaseHeader;
use pagevault::store::ObjectPath;
use pagevault::vault::layout::Place;

pub fn key_text(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    for form in [TextForm::KeyFile, TextForm::RecoveryKey] {
        if let Ok(secret) = form.read(&text) {
            let printed = form.print(&secret);
            assert_eq!(form.read(&printed).map(|again| *again.expose()), Ok(*secret.expose()));
        }
    }
}

pub fn snapshot_spec(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(spec) = text.parse::<SnapshotSpec>() else { return };
    // Before the year 1 an instant begins with a hyphen, as a span does; nobody has such a snapshot.
    if matches!(&spec, SnapshotSpec::Of(_, Moment::At(instant)) if instant.as_second() < -62_135_596_800) {
        return;
    }
    let printed = spec.to_string();
    assert_eq!(printed.parse::<SnapshotSpec>().as_ref(), Ok(&spec), "{text:?} is printed as {printed:?}");
}

pub fn names(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(path) = text.parse::<ObjectPath>() {
        assert_eq!(path.as_str(), text);
        assert!(!text.split('/').any(|part| matches!(part, "" | "." | "..")));
        let joined = match path.folder() {
            "" => path.file_name().to_owned(),
            folder => format!("{folder}/{}", path.file_name()),
        };
        assert_eq!(joined, text);
        if let Some(name) = Place::of(&path).name() {
            assert!(text.to_ascii_lowercase().ends_with(&name.to_string()));
        }
    }
    if let Ok(id) = text.parse::<ChunkId>() {
        assert_eq!(id.to_string(), text.to_ascii_lowercase());
    }
    if let Ok(name) = text.parse::<ObjectName>() {
        assert_eq!(name.to_string(), text.to_ascii_lowercase());
    }
    if let Ok(slot) = text.parse::<SlotId>() {
        assert_eq!(slot.to_string(), text.to_ascii_lowercase());
    }
}

pub fn database_header(data: &[u8]) {
    if let Ok(header) = DatabaseHeader::parse(data) {
        assert!(header.page_size.bytes() - u32::from(header.reserved_bytes) >= 480);
        assert!(header.page_count().is_none_or(|count| count == header.header_page_count && count > 0));
    }
}
