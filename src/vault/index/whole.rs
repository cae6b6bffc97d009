//! Trees that were found stored whole, remembered in the cache, so that an unchanged database does not cost a look-up
//! per chunk.
//!
//! What a memory rests on is the set of index objects that were seen, and the packs that were missing. While every one
//! of those objects is still there, and no pack more is missing, whatever was found then is found now: more objects only
//! add forms. So a memory counts exactly if the objects up to the newest one of then, and the lost packs, are the same
//! as then. It is a keyed hash of all that: one that rotted, or was made without the key, is no memory.

use rusqlite::{OptionalExtension, params};

use super::ChunkIndex;
use crate::chunk::{Class, chunk_count};
use crate::ids::ChunkId;
use crate::vault::Vault;
use crate::vault::image::TreeReader;

const MARK_LEN: usize = 16;
const PURPOSE: &[u8] = b"pagevault index cache, whole tree";

/// What memories rest on, for the index objects up to cache row `last`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Basis {
    last: i64,
    digest: [u8; 32],
}

impl ChunkIndex {
    /// Whether a tree was found stored whole, and nothing that it was found in has gone since.
    pub fn remembers_whole(&mut self, root: ChunkId, image_len: u64) -> bool {
        let row = || -> Result<Option<(i64, [u8; MARK_LEN])>, rusqlite::Error> {
            self.connection
                .prepare_cached("SELECT last_object, mark FROM trees WHERE root = ?1")?
                .query_row([&root.0[..]], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()
        };
        match row() {
            Ok(Some((last, mark))) => self.mark(root, image_len, last) == mark,
            _ => false,
        }
    }

    /// Remembers that a tree is stored whole, as far as this index can tell; the memory of the tree that it replaces goes.
    /// A cache that cannot be written forgets, which costs time only.
    pub(crate) fn remember_whole(&mut self, root: ChunkId, image_len: u64, replaced: Option<ChunkId>) {
        let last = self.seen.last_key_value().map_or(0, |(row, _)| *row);
        let mark = self.mark(root, image_len, last);
        let mut write = || -> Result<(), rusqlite::Error> {
            let transaction = self.begin_writing()?;
            if let Some(replaced) = replaced.filter(|replaced| *replaced != root) {
                transaction
                    .prepare_cached("DELETE FROM trees WHERE root = ?1")?
                    .execute([&replaced.0[..]])?;
            }
            transaction
                .prepare_cached("INSERT OR REPLACE INTO trees VALUES(?1, ?2, ?3)")?
                .execute(params![&root.0[..], last, &mark[..]])?;
            transaction.commit()
        };
        let _ = write();
    }

    fn mark(&mut self, root: ChunkId, image_len: u64, last: i64) -> [u8; MARK_LEN] {
        let basis = self.basis(last);
        let mut hasher = blake3::Hasher::new_keyed(self.key.expose());
        hasher.update(PURPOSE).update(&root.0).update(&image_len.to_le_bytes());
        hasher.update(&last.to_le_bytes()).update(&basis.digest);
        let mut mark = [0; MARK_LEN];
        hasher.finalize_xof().fill(&mut mark);
        mark
    }

    /// Computed once for all trees of a run that rest on the same.
    fn basis(&mut self, last: i64) -> Basis {
        if let Some(basis) = self.basis.filter(|basis| basis.last == last) {
            return basis;
        }
        let mut hasher = blake3::Hasher::new();
        for (row, name) in self.seen.range(..=last) {
            hasher.update(&row.to_le_bytes()).update(&name.0);
        }
        let mut lost: Vec<_> = self.lost.iter().collect();
        lost.sort_unstable();
        hasher.update(b"lost");
        for pack in lost {
            hasher.update(&pack.0);
        }
        let basis = Basis { last, digest: *hasher.finalize().as_bytes() };
        self.basis = Some(basis);
        basis
    }
}

impl Vault {
    /// Whether index objects name a pack that is there, in its whole length, for every chunk of a tree. Nothing of the
    /// chunks is read, and nothing at all where the answer is remembered.
    #[must_use]
    pub fn has_whole_tree(&self, root: Option<ChunkId>, image_len: u64) -> bool {
        let (mut index, mut reader) = (self.index(), self.reader());
        let Some(id) = root else { return image_len == 0 };
        if index.remembers_whole(id, image_len) {
            return true;
        }
        let mut tree = TreeReader::new(root, image_len);
        let whole = (0..chunk_count(image_len)).all(|position| {
            tree.chunk_id(&index, &mut reader, position)
                .and_then(|id| index.find(Class::Page, id))
                .is_ok_and(|location| location.is_some())
        });
        if whole {
            index.remember_whole(id, image_len, None);
        }
        whole
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::secret::Secret32;
    use crate::format::index::Index;
    use crate::ids::ObjectName;

    const ROOT: ChunkId = ChunkId([9; 16]);

    fn with_objects(folder: &std::path::Path, objects: &[u8]) -> ChunkIndex {
        let mut index = ChunkIndex::open(Some(folder), Secret32::new([3; 32])).unwrap();
        for object in objects {
            index.add(ObjectName([*object; 32]), &Index { packs: Vec::new(), replaces: Vec::new() }).unwrap();
        }
        index
    }

    #[test]
    fn a_memory_outlives_new_objects_and_no_loss() {
        let folder = tempfile::tempdir().unwrap();
        let mut index = with_objects(folder.path(), &[1, 2]);
        assert!(!index.remembers_whole(ROOT, 100));
        index.remember_whole(ROOT, 100, None);
        assert!(index.remembers_whole(ROOT, 100));
        assert!(!index.remembers_whole(ROOT, 101), "a tree over another length");
        assert!(!index.remembers_whole(ChunkId([8; 16]), 100));
        assert!(with_objects(folder.path(), &[1, 2, 3]).remembers_whole(ROOT, 100));
        assert!(!with_objects(folder.path(), &[1, 3]).remembers_whole(ROOT, 100), "an index object has gone");
        let mut index = with_objects(folder.path(), &[1, 2]);
        index.set_lost([ObjectName([7; 32])].into());
        assert!(!index.remembers_whole(ROOT, 100), "a pack has gone");
        index.remember_whole(ROOT, 100, None);
        assert!(index.remembers_whole(ROOT, 100), "whole without that pack");
    }

    #[test]
    fn a_memory_goes_with_the_tree_that_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let mut index = with_objects(folder.path(), &[1]);
        index.remember_whole(ROOT, 100, None);
        index.remember_whole(ROOT, 100, Some(ROOT));
        assert!(index.remembers_whole(ROOT, 100));
        index.remember_whole(ChunkId([8; 16]), 200, Some(ROOT));
        assert!(!index.remembers_whole(ROOT, 100));
        assert!(index.remembers_whole(ChunkId([8; 16]), 200));
    }

    #[test]
    fn a_rotten_memory_or_one_of_another_key_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let mut index = with_objects(folder.path(), &[1]);
        index.remember_whole(ROOT, 100, None);
        let mut other = ChunkIndex::open(Some(folder.path()), Secret32::new([4; 32])).unwrap();
        other.add(ObjectName([1; 32]), &Index { packs: Vec::new(), replaces: Vec::new() }).unwrap();
        assert!(!other.remembers_whole(ROOT, 100));
        for (what, rotten) in [("mark", "zeroblob(16)"), ("mark", "x'00'"), ("last_object", "0")] {
            index.connection.execute(&format!("UPDATE trees SET {what} = {rotten}"), []).unwrap();
            assert!(!index.remembers_whole(ROOT, 100), "{what} = {rotten}");
            index.remember_whole(ROOT, 100, None);
        }
    }
}
