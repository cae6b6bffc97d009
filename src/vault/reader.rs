//! Reading chunks: from id to proven plaintext, through deltas, from whichever stored form is whole.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use lru::LruCache;

use super::core::Core;
use super::error::VaultError;
use super::index::{ChunkIndex, Location};
use super::layout;
use crate::chunk::Class;
use crate::codec::Decoder;
use crate::crypto::seal::RecordOpener;
use crate::format::envelope::ObjectKind;
use crate::ids::{ChunkId, ObjectName};

const OPENERS: NonZeroUsize = NonZeroUsize::new(64).unwrap();
/// Plaintexts of bases kept by one reader: 2 MiB.
const BASES: NonZeroUsize = NonZeroUsize::new(32).unwrap();

/// How to get a chunk: its stored forms, shallowest first, each with the way to its base.
#[derive(Debug, Clone)]
pub struct ChunkPlan {
    /// What the chunk is.
    pub class: Class,
    /// Its id.
    pub id: ChunkId,
    forms: Vec<Form>,
}

#[derive(Debug, Clone)]
struct Form {
    location: Location,
    base: Option<Box<ChunkPlan>>,
}

impl ChunkPlan {
    /// The shallowest stored form.
    #[must_use]
    pub fn location(&self) -> Option<&Location> {
        self.forms.first().map(|form| &form.location)
    }

    /// The plan reduced to one stored form, for checks.
    #[must_use]
    pub fn only(mut self, pack: ObjectName, number: u32) -> Option<Self> {
        self.forms.retain(|form| form.location.pack == pack && form.location.number == number);
        if self.forms.is_empty() { None } else { Some(self) }
    }

    /// Bytes of the plaintext, as the index has it.
    #[must_use]
    pub fn plain_len(&self) -> Option<u32> {
        self.location().map(|location| location.record.plain_len)
    }
}

/// Plans how to read a chunk.
///
/// # Errors
/// No index names it.
pub fn plan(index: &ChunkIndex, class: Class, id: ChunkId) -> Result<ChunkPlan, VaultError> {
    plan_below(index, class, id, u8::MAX)?.ok_or(VaultError::MissingChunk(id))
}

/// A plan from forms that are shallower than `depth`; a base's form must be, so that no cycle can be followed.
fn plan_below(
    index: &ChunkIndex,
    class: Class,
    id: ChunkId,
    depth: u8,
) -> Result<Option<ChunkPlan>, VaultError> {
    let mut forms = Vec::new();
    for location in index.forms(class, id)?.into_iter().take(MAX_FORMS) {
        let own = location.record.encoding.depth();
        if own >= depth {
            continue;
        }
        match location.record.encoding.base() {
            None => forms.push(Form { location, base: None }),
            Some(base) => {
                if let Some(plan) = plan_below(index, class, base, own)? {
                    forms.push(Form { location, base: Some(Box::new(plan)) });
                }
            }
        }
    }
    Ok(if forms.is_empty() { None } else { Some(ChunkPlan { class, id, forms }) })
}

/// Forms of a chunk that are worth trying; more would let a hostile index make plans of any size.
const MAX_FORMS: usize = 3;

/// Openers of packs, shared by all readers of a vault.
#[derive(Debug)]
pub struct Openers(Mutex<LruCache<ObjectName, Arc<RecordOpener>>>);

impl Default for Openers {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(OPENERS)))
    }
}

impl Openers {
    fn get(&self, core: &Core, location: &Location) -> Result<Arc<RecordOpener>, VaultError> {
        let mut cache = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(opener) = cache.get(&location.pack) {
            return Ok(Arc::clone(opener));
        }
        let opener = RecordOpener::new(&core.keys, &location.header)
            .map(Arc::new)
            .map_err(|error| VaultError::of_object(pack_path(location), error))?;
        cache.put(location.pack, Arc::clone(&opener));
        Ok(opener)
    }
}

fn pack_path(location: &Location) -> String {
    layout::object_path(ObjectKind::PagePack, location.pack)
        .map_or_else(|error| error.to_string(), |path| path.to_string())
}

/// Carries out plans. One per thread: it holds a decompressor and recent bases.
#[derive(Debug)]
pub struct ChunkReader {
    core: Arc<Core>,
    openers: Arc<Openers>,
    decoder: Decoder,
    bases: LruCache<(Class, ChunkId), Arc<Vec<u8>>>,
    sealed: Vec<u8>,
}

impl ChunkReader {
    pub(crate) fn new(core: Arc<Core>, openers: Arc<Openers>) -> Self {
        Self { core, openers, decoder: Decoder::new(), bases: LruCache::new(BASES), sealed: Vec::new() }
    }

    /// Reads a chunk into `output` and proves it by its id. Forms that fail are passed over for the next.
    ///
    /// # Errors
    /// No form can be read; the error is that of the last.
    pub fn read(&mut self, plan: &ChunkPlan, output: &mut Vec<u8>) -> Result<(), VaultError> {
        let mut last = VaultError::MissingChunk(plan.id);
        for form in &plan.forms {
            match self.read_form(plan.class, form, output) {
                Ok(()) => return Ok(()),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn read_form(&mut self, class: Class, form: &Form, output: &mut Vec<u8>) -> Result<(), VaultError> {
        let base = match &form.base {
            Some(plan) => Some(self.read_shared(plan)?),
            None => None,
        };
        let location = &form.location;
        let record = &location.record;
        let opener = self.openers.get(&self.core, location)?;
        self.sealed.resize(record.stored_len as usize, 0);
        let path = layout::object_path(ObjectKind::PagePack, location.pack)?;
        self.core.store.read_range(&path, location.offset, &mut self.sealed)?;
        let unreadable = |why: String| VaultError::UnreadableChunk {
            chunk: record.id,
            why: format!("record {} of {path}: {why}", location.number),
        };
        opener
            .open(record, location.number, &mut self.sealed)
            .map_err(|error| unreadable(error.to_string()))?;
        let base = base.as_deref().map(Vec::as_slice);
        if !self.decoder.decode(record.encoding, &self.sealed, base, record.plain_len as usize, output) {
            return Err(unreadable("it does not decode".to_owned()));
        }
        if self.core.keys.is_chunk(opener.epoch(), class, record.id, output) {
            Ok(())
        } else {
            Err(unreadable("its content does not have its id".to_owned()))
        }
    }

    /// As [`read`](Self::read), and remembers the plaintext for a while: for versions that deltas are made against.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn read_shared(&mut self, plan: &ChunkPlan) -> Result<Arc<Vec<u8>>, VaultError> {
        let key = (plan.class, plan.id);
        if let Some(plain) = self.bases.get(&key) {
            return Ok(Arc::clone(plain));
        }
        let mut plain = Vec::new();
        self.read(plan, &mut plain)?;
        let plain = Arc::new(plain);
        self.bases.put(key, Arc::clone(&plain));
        Ok(plain)
    }
}
