//! Carries a plan out: several objects at once inside a stage, one stage after the other.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use super::plan::{Inventory, Missing, Plan, Stage};
use super::{Problem, SyncReport, SyncRequest, Tally};
use crate::error::{Error, ErrorKind, Result};
use crate::format::keyslot::KeySlot;
use crate::format::limits;
use crate::format::vault_config::VaultConfig;
use crate::ids::{ObjectName, VaultId};
use crate::monitor::Monitor;
use crate::store::{self, ObjectPath, Put, Store, StoreError};
use crate::vault::layout::Place;

/// What became of one object.
enum Outcome {
    Copied(u64),
    Replaced(u64),
    Present(u64),
    /// It went from the source since it was listed.
    Vanished,
    /// It is as it should be at the destination.
    Whole(u64),
    /// The service says so.
    Checksummed(u64),
    Bad(Problem),
}

/// Source, destination, and what has been done so far.
pub(super) struct Copier<'a> {
    source: &'a dyn Store,
    destination: &'a dyn Store,
    vault: VaultId,
    request: &'a SyncRequest,
    monitor: &'a dyn Monitor,
    report: &'a mut SyncReport,
}

impl<'a> Copier<'a> {
    pub(super) fn new(
        source: &'a dyn Store,
        destination: &'a dyn Store,
        vault: VaultId,
        request: &'a SyncRequest,
        monitor: &'a dyn Monitor,
        report: &'a mut SyncReport,
    ) -> Self {
        Self { source, destination, vault, request, monitor, report }
    }

    /// Copies what is missing; whether all of it was there to be copied.
    pub(super) fn copy(&mut self, plan: &Plan) -> Result<bool> {
        for (stage, missing) in &plan.missing {
            let work = Work { copier: self, verb: Verb::Copy, theirs: None };
            let outcomes = work.run(*stage, missing)?;
            if !self.settle(outcomes) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Reads everything back; what is damaged is written anew. With what the service says of `theirs`, only that of which it
    /// says nothing, or not what it should.
    pub(super) fn verify(&mut self, ours: &Inventory, theirs: Option<&Inventory>) -> Result<()> {
        for stage in Stage::ALL {
            let all = ours.stage(stage);
            let all: Vec<Missing> =
                all.map(|(path, size)| Missing { path: path.clone(), size, replaces: true }).collect();
            let work = Work { copier: self, verb: Verb::Verify, theirs };
            let outcomes = work.run(stage, &all)?;
            self.settle(outcomes);
        }
        Ok(())
    }

    /// Deletes objects, in this order.
    pub(super) fn delete(&mut self, superfluous: &[(Stage, ObjectPath, u64)]) -> Result<()> {
        for (_, path, size) in superfluous {
            self.listen()?;
            self.destination.delete(path)?;
            self.report.deleted.add(*size);
        }
        Ok(())
    }

    /// Counts what is at the destination only and stays there.
    pub(super) fn keep(&mut self, superfluous: &[(Stage, ObjectPath, u64)]) {
        self.report.kept = superfluous.iter().map(|(.., size)| *size).collect::<Tally>();
    }

    /// Whether nothing was found to be wrong.
    pub(super) fn is_sound(&self) -> bool {
        self.report.problems.is_empty()
    }

    fn listen(&self) -> Result<()> {
        if self.monitor.interrupted() {
            let message = "interrupted; what was copied is a usable vault";
            return Err(Error::new(ErrorKind::Interrupted, message).with_hint("run it again to go on"));
        }
        Ok(())
    }

    fn settle(&mut self, outcomes: Vec<Outcome>) -> bool {
        let mut complete = true;
        for outcome in outcomes {
            match outcome {
                Outcome::Copied(size) => self.report.copied.add(size),
                Outcome::Replaced(size) => self.report.replaced.add(size),
                Outcome::Present(size) => self.report.present.add(size),
                Outcome::Whole(size) => self.report.verified.add(size),
                Outcome::Checksummed(size) => self.report.checksummed.add(size),
                Outcome::Vanished => complete = false,
                Outcome::Bad(problem) => {
                    if !self.report.problems.contains(&problem) {
                        self.report.problems.push(problem);
                    }
                }
            }
        }
        complete
    }

    /// Copies one object, unless its bytes are not what they should be.
    fn copy_one(&self, object: &Missing) -> Result<Outcome> {
        let bytes = match self.source.get(&object.path, limits::OBJECT) {
            Ok(bytes) => bytes,
            Err(StoreError::NotFound { .. }) => return Ok(Outcome::Vanished),
            Err(error) => return Err(error.into()),
        };
        if let Err(why) = self.judge(&object.path, &bytes) {
            return Ok(bad(&object.path, format!("it is damaged at the source and was not copied: {why}")));
        }
        let size = bytes.len() as u64;
        if object.replaces {
            return self.replace(&object.path, &bytes);
        }
        Ok(match self.destination.put_if_absent(&object.path, &bytes)? {
            Put::Created => Outcome::Copied(size),
            // Somebody else was faster, or an earlier attempt did more than it knew.
            Put::AlreadyPresent => match self.look(&object.path, &bytes)? {
                Found::Same => Outcome::Present(size),
                Found::Sound => self.differs(&object.path),
                Found::Bad(_) => self.replace(&object.path, &bytes)?,
            },
        })
    }

    /// Reads an object back.
    fn verify_one(&self, object: &Missing) -> Result<Outcome> {
        let read = match self.destination.get(&object.path, limits::OBJECT) {
            Ok(bytes) => self.judge(&object.path, &bytes).map(|()| bytes.len() as u64),
            Err(error @ (StoreError::NotFound { .. } | StoreError::TooLarge { .. })) => {
                Err(error.to_string())
            }
            Err(error) => return Err(error.into()),
        };
        let why = match read {
            Ok(size) => return Ok(Outcome::Whole(size)),
            Err(why) => why,
        };
        match self.copy_one(object)? {
            // It was reported when it was to be copied.
            Outcome::Vanished => Ok(bad(&object.path, format!("it is damaged at the destination: {why}"))),
            outcome => Ok(outcome),
        }
    }

    /// Whether the service keeps the checksum that the source's bytes have. Those must be what they should be, or their
    /// checksum proves nothing.
    fn has_checksum(&self, object: &Missing, md5: [u8; 16]) -> Result<bool> {
        match self.source.get(&object.path, limits::OBJECT) {
            Ok(bytes) => Ok(self.judge(&object.path, &bytes).is_ok() && store::md5(&bytes) == Some(md5)),
            Err(StoreError::NotFound { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Puts an object where a damaged one is. Its bytes are at hand, so that nothing is lost that was not lost already.
    fn replace(&self, path: &ObjectPath, bytes: &[u8]) -> Result<Outcome> {
        match self.look(path, bytes)? {
            Found::Same => return Ok(Outcome::Present(bytes.len() as u64)),
            Found::Sound => return Ok(self.differs(path)),
            Found::Bad(why) => match self.destination.delete(path) {
                Err(error @ StoreError::PermissionDenied { .. }) => {
                    return Ok(bad(path, format!("it is damaged at the destination ({why}): {error}")));
                }
                outcome => outcome?,
            },
        }
        Ok(match self.destination.put_if_absent(path, bytes)? {
            Put::Created => Outcome::Replaced(bytes.len() as u64),
            Put::AlreadyPresent => bad(path, "it is damaged at the destination and cannot be replaced"),
        })
    }

    fn look(&self, path: &ObjectPath, bytes: &[u8]) -> Result<Found> {
        Ok(match self.destination.get(path, limits::OBJECT) {
            Ok(there) if there == bytes => Found::Same,
            Ok(there) => self.judge(path, &there).map_or_else(Found::Bad, |()| Found::Sound),
            Err(error @ (StoreError::NotFound { .. } | StoreError::TooLarge { .. })) => {
                Found::Bad(error.to_string())
            }
            Err(error) => return Err(error.into()),
        })
    }

    /// Two objects of one fixed name, both whole: only the key can tell which is genuine.
    fn differs(&self, path: &ObjectPath) -> Outcome {
        let place = self.destination.describe();
        bad(path, format!("{place} has another one, which is whole as well; it was left as it is"))
    }

    /// Whether bytes are what their place says, as far as that can be told without the key.
    fn judge(&self, path: &ObjectPath, bytes: &[u8]) -> Result<(), String> {
        match Place::of(path) {
            Place::Config => match VaultConfig::decode(bytes, None) {
                Ok(config) if config.vault != self.vault => Err("it is of another vault".to_owned()),
                Err(error) if !error.is_newer() => Err(error.to_string()),
                _ => Ok(()),
            },
            Place::Slot(id) => match KeySlot::decode(bytes) {
                Ok(slot) if slot.vault != self.vault => Err("it is of another vault".to_owned()),
                Ok(slot) if slot.id != id => Err("it belongs to another slot".to_owned()),
                Err(error) if !error.is_newer() => Err(error.to_string()),
                _ => Ok(()),
            },
            place => match place.name() {
                Some(name) if name != ObjectName::of(bytes) => {
                    Err("its bytes do not hash to its name".to_owned())
                }
                _ => Ok(()),
            },
        }
    }
}

/// What is at the destination where an object is to be.
enum Found {
    /// The object.
    Same,
    /// Another one, whole.
    Sound,
    /// Nothing, or a damaged one.
    Bad(String),
}

fn bad(path: &ObjectPath, message: impl Into<String>) -> Outcome {
    let problem =
        Problem { object: path.to_string(), kind: "damaged", message: message.into(), snapshots: Vec::new() };
    Outcome::Bad(problem)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verb {
    Copy,
    Verify,
}

/// The objects of one stage, spread over threads.
struct Work<'a, 'b> {
    copier: &'b Copier<'a>,
    verb: Verb,
    theirs: Option<&'b Inventory>,
}

impl Work<'_, '_> {
    /// The outcomes, in no order. The first failure ends it.
    fn run(&self, stage: Stage, objects: &[Missing]) -> Result<Vec<Outcome>> {
        if objects.is_empty() {
            return Ok(Vec::new());
        }
        let monitor = self.copier.monitor;
        let verb = if self.verb == Verb::Copy { "sync" } else { "verify" };
        monitor.begin(verb, stage.name(), objects.iter().map(|object| object.size).sum());
        // The order of control objects is theirs: slots, then config.
        let threads = if stage == Stage::Control { 1 } else { self.copier.request.transfers.get() };
        let queue = Mutex::new(objects.iter());
        let (outcomes, failure) = (Mutex::new(Vec::with_capacity(objects.len())), Mutex::new(None));
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..threads.min(objects.len()) {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed)
                        && let Some(object) = lock(&queue).next()
                    {
                        match self.copier.listen().and_then(|()| self.one(object)) {
                            Ok(outcome) => {
                                monitor.advance(object.size);
                                lock(&outcomes).push(outcome);
                            }
                            Err(error) => {
                                stop.store(true, Ordering::Relaxed);
                                lock(&failure).get_or_insert(error);
                            }
                        }
                    }
                });
            }
        });
        monitor.finish();
        let failure = lock(&failure).take();
        match failure {
            Some(error) => Err(error),
            None => Ok(std::mem::take(&mut *lock(&outcomes))),
        }
    }

    fn one(&self, object: &Missing) -> Result<Outcome> {
        match self.verb {
            Verb::Copy => self.copier.copy_one(object),
            Verb::Verify => match self.theirs.and_then(|theirs| theirs.md5(&object.path)) {
                Some(md5) if self.copier.has_checksum(object, md5)? => Ok(Outcome::Checksummed(object.size)),
                _ => self.copier.verify_one(object),
            },
        }
    }
}

/// Nothing can panic while one of these is held.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
