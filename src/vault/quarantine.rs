//! What is damaged is moved aside and never destroyed: it may hold what somebody can still save.

use super::error::VaultError;
use super::layout;
use crate::store::{ObjectPath, Put, Store};

/// The most that is moved: larger than any object, for damage may have made it so.
const LIMIT: u64 = 1 << 30;
/// Damaged forms of one object that are kept apart.
const FORMS: u32 = 1000;

/// Moves what is at `path` into the quarantine folder: copied there, then deleted here. Where it is now, or `None` if there
/// was nothing.
///
/// # Errors
/// The store fails; then it is still where it was.
pub(crate) fn set_aside(store: &dyn Store, path: &ObjectPath) -> Result<Option<ObjectPath>, VaultError> {
    let bytes = match store.get(path, LIMIT) {
        Ok(bytes) => bytes,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    for number in 0..FORMS {
        let place = place_of(path, number)?;
        let is_there =
            store.put_if_absent(&place, &bytes)? == Put::Created || store.get(&place, LIMIT)? == bytes;
        if is_there {
            store.delete(path)?;
            return Ok(Some(place));
        }
    }
    let why = "too many damaged forms of it were moved aside already".to_owned();
    Err(VaultError::Damaged { object: path.to_string(), why })
}

/// Where the damaged forms of the object at `path` are that were moved aside.
pub(crate) fn forms_of(store: &dyn Store, path: &ObjectPath) -> Result<Vec<ObjectPath>, VaultError> {
    let mut forms = Vec::new();
    for number in 0..FORMS {
        let place = place_of(path, number)?;
        match store.size(&place) {
            Ok(_) => forms.push(place),
            Err(error) if error.is_not_found() => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(forms)
}

fn place_of(path: &ObjectPath, number: u32) -> Result<ObjectPath, VaultError> {
    let suffix = if number == 0 { String::new() } else { format!(".{number}") };
    Ok(ObjectPath::new(format!("{}/{path}{suffix}", layout::QUARANTINE))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::MemoryStore;

    #[test]
    fn nothing_that_was_moved_aside_is_overwritten() {
        let store = MemoryStore::new();
        let path = ObjectPath::new("packs/ab/abc").unwrap();
        assert_eq!(set_aside(&store, &path).unwrap(), None);
        for (bytes, expected) in [(b"one", ""), (b"two", ".1"), (b"one", "")] {
            store.put_if_absent(&path, bytes).unwrap();
            let place = set_aside(&store, &path).unwrap().unwrap();
            assert_eq!(place.as_str(), format!("quarantine/packs/ab/abc{expected}"));
            assert!(store.get(&path, 10).unwrap_err().is_not_found());
            assert_eq!(store.get(&place, 10).unwrap(), bytes);
        }
        assert_eq!(forms_of(&store, &path).unwrap().len(), 2);
    }
}
