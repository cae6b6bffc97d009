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
use crate::store::{Store, StoreError};

const OPENERS: NonZeroUsize = NonZeroUsize::new(64).unwrap();
/// Plaintexts of bases kept by one reader: 2 MiB.
const BASES: NonZeroUsize = NonZeroUsize::new(32).unwrap();

const BASE_LOST: &str = "its base is lost: ";

/// How to get a chunk: its stored forms, shallowest first, each with the way to its base.
#[derive(Debug, Clone)]
pub struct ChunkPlan {
    /// What the chunk is.
    pub class: Class,
    /// Its id.
    pub id: ChunkId,
    below: u8,
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

    /// Tells the store that this will be read soon, and waits until it is near, if there is such a thing.
    ///
    /// # Errors
    /// The store fails.
    pub(crate) fn fetch_ahead(&self, store: &dyn Store) -> Result<(), VaultError> {
        let Some(form) = self.forms.first() else { return Ok(()) };
        if let Some(base) = &form.base {
            base.fetch_ahead(store)?;
        }
        let Location { offset, pack_len, record, .. } = &form.location;
        let path = layout::object_path(ObjectKind::PagePack, form.location.pack)?;
        let end = offset.saturating_add(u64::from(record.stored_len));
        Ok(store.fetch_ahead(&path, *offset..end, *pack_len)?)
    }

    /// The plan reduced to one stored form, for checks.
    #[must_use]
    pub fn only(mut self, pack: ObjectName, number: u32) -> Option<Self> {
        self.forms.retain(|form| form.location.pack == pack && form.location.number == number);
        if self.forms.is_empty() { None } else { Some(self) }
    }

    /// Whether some form is usable, base and all, as far as `usable` can tell of each stored record; else what it says
    /// of the last.
    ///
    /// # Errors
    /// What `usable` says.
    pub fn judge(
        &self,
        usable: &mut dyn FnMut(&Self, &Location) -> Result<(), String>,
    ) -> Result<(), String> {
        let mut last = format!("chunk {} has no stored form", self.id);
        for form in &self.forms {
            let base = form.base.as_ref().map_or(Ok(()), |base| base.judge(usable));
            let verdict = base.map_err(|why| match why.strip_prefix(BASE_LOST) {
                Some(_) => why,
                None => format!("{BASE_LOST}{why}"),
            });
            match verdict.and_then(|()| usable(self, &form.location)) {
                Ok(()) => return Ok(()),
                Err(why) => last = why,
            }
        }
        Err(last)
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
    plan_within(index, class, id, u8::MAX)
}

/// Plans how to read a chunk from forms of at most `depth`: what a delta of the next depth may be made against.
///
/// # Errors
/// No index names such a form.
pub fn plan_within(
    index: &ChunkIndex,
    class: Class,
    id: ChunkId,
    depth: u8,
) -> Result<ChunkPlan, VaultError> {
    let mut budget = MAX_FORMS;
    plan_below(index, class, id, depth.saturating_add(1), &mut budget)?.ok_or(VaultError::MissingChunk(id))
}

/// Forms of a chunk and of all its bases that a plan may hold together: without a bound, a few records that name each
/// other could make plans of any size.
const MAX_FORMS: usize = 64;

/// A plan from forms that are shallower than `below`; a base's form must be, so that no cycle can be followed.
fn plan_below(
    index: &ChunkIndex,
    class: Class,
    id: ChunkId,
    below: u8,
    budget: &mut usize,
) -> Result<Option<ChunkPlan>, VaultError> {
    let mut forms = Vec::new();
    for location in index.forms(class, id)? {
        let own = location.record.encoding.depth();
        if own >= below || *budget == 0 {
            break;
        }
        *budget -= 1;
        match location.record.encoding.base() {
            None => forms.push(Form { location, base: None }),
            Some(base) => {
                if let Some(plan) = plan_below(index, class, base, own, budget)? {
                    forms.push(Form { location, base: Some(Box::new(plan)) });
                }
            }
        }
    }
    Ok(if forms.is_empty() { None } else { Some(ChunkPlan { class, id, below, forms }) })
}

/// Openers of packs, shared by all readers of a vault; each with the header it is made from, for index objects may
/// disagree on that.
#[derive(Debug)]
pub struct Openers(Mutex<LruCache<ObjectName, Opener>>);

/// An opener and the header it was made from.
type Opener = (Vec<u8>, Arc<RecordOpener>);

impl Default for Openers {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(OPENERS)))
    }
}

impl Openers {
    fn get(&self, core: &Core, location: &Location) -> Result<Arc<RecordOpener>, VaultError> {
        let mut cache = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((header, opener)) = cache.get(&location.pack)
            && *header == location.header
        {
            return Ok(Arc::clone(opener));
        }
        let opener = RecordOpener::new(&core.keys, &location.header)
            .map(Arc::new)
            .map_err(|error| VaultError::of_object(pack_path(location), error))?;
        cache.put(location.pack, (location.header.clone(), Arc::clone(&opener)));
        Ok(opener)
    }
}

fn pack_path(location: &Location) -> String {
    layout::object_path(ObjectKind::PagePack, location.pack)
        .map_or_else(|error| error.to_string(), |path| path.to_string())
}

/// Carries out plans. One per thread: it holds a decompressor and recent bases.
pub struct ChunkReader {
    core: Arc<Core>,
    openers: Arc<Openers>,
    decoder: Decoder,
    bases: LruCache<(Class, ChunkId, u8), Arc<Vec<u8>>>,
    sealed: Vec<u8>,
}

/// Without its buffers: they hold plaintext.
impl std::fmt::Debug for ChunkReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ChunkReader")
    }
}

impl ChunkReader {
    pub(crate) fn new(core: Arc<Core>, openers: Arc<Openers>) -> Self {
        Self { core, openers, decoder: Decoder::new(), bases: LruCache::new(BASES), sealed: Vec::new() }
    }

    pub(super) fn core(&self) -> Arc<Core> {
        Arc::clone(&self.core)
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

    /// The encoded bytes of a record, authenticated and not decoded: for records that move to another pack.
    ///
    /// # Errors
    /// The record cannot be read or is not authentic.
    pub(crate) fn read_encoded(
        &mut self,
        location: &Location,
        encoded: &mut Vec<u8>,
    ) -> Result<(), VaultError> {
        let opener = self.openers.get(&self.core, location)?;
        encoded.resize(location.record.stored_len as usize, 0);
        let path = layout::object_path(ObjectKind::PagePack, location.pack)?;
        self.core.store.read_range(&path, location.offset, encoded)?;
        opener
            .open(&location.record, location.number, encoded)
            .map_err(|error| VaultError::of_object(format!("record {} of {path}", location.number), error))
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
        let unreadable = |why: String| VaultError::UnreadableChunk {
            chunk: record.id,
            why: format!("record {} of {path}: {why}", location.number),
        };
        self.core.store.read_range(&path, location.offset, &mut self.sealed).map_err(
            |error| match error {
                // An index promised the pack: that it is gone or cut short is damage.
                StoreError::NotFound { .. } => unreadable("the pack is gone".to_owned()),
                StoreError::ShortRead { .. } => unreadable("the pack ends before it does".to_owned()),
                error => error.into(),
            },
        )?;
        if let Err(error) = opener.open(record, location.number, &mut self.sealed) {
            // A cache may have kept it badly, or a copy have it better.
            if !self.core.store.distrust(&path) {
                return Err(unreadable(error.to_string()));
            }
            self.sealed.resize(record.stored_len as usize, 0);
            self.core.store.read_range(&path, location.offset, &mut self.sealed)?;
            opener
                .open(record, location.number, &mut self.sealed)
                .map_err(|error| unreadable(error.to_string()))?;
        }
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
        let key = (plan.class, plan.id, plan.below);
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
