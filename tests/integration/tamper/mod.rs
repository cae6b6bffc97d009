//! Damage and malice: whatever is done to the objects of a vault, no restore ever gives wrong bytes, nothing panics,
//! what does not depend on the damage goes on, and a check says what is lost.

pub(crate) mod damage;
pub(crate) mod fixture;
mod flips;
pub(crate) mod judge;
mod matrix;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};

use pagevault::format::envelope::ObjectKind;

use self::damage::{Case, changes, newer};
use self::fixture::Fixture;
use self::judge::{Outcome, Verdict};

/// A vault of small databases.
pub(crate) fn small() -> &'static Fixture {
    static FIXTURE: OnceLock<Fixture> = OnceLock::new();
    FIXTURE.get_or_init(|| Fixture::new(false))
}

/// A vault whose trees have two levels.
pub(crate) fn large() -> &'static Fixture {
    static FIXTURE: OnceLock<Fixture> = OnceLock::new();
    FIXTURE.get_or_init(|| Fixture::new(true))
}

/// Judges cases on all cores: how each ended, and whatever in that may not be.
fn judge_all(
    fixture: &Fixture,
    cases: &[Case],
    also: impl Fn(&Case, &Verdict) -> Option<&'static str> + Sync,
) {
    let next = AtomicUsize::new(0);
    let wrong = Mutex::new(Vec::new());
    let work = || {
        let own = fixture.apart();
        while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
            let judged = catch_unwind(AssertUnwindSafe(|| own.judge(case)));
            let complaint = match &judged {
                Err(panic) => Some(text_of(panic.as_ref())),
                Ok(verdict) => contained(verdict)
                    .or_else(|| also(case, verdict))
                    .map(|complaint| format!("{}: {complaint}: {verdict:?}", case.what)),
            };
            wrong.lock().unwrap().extend(complaint);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, Into::into) {
            scope.spawn(work);
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(
        wrong.is_empty(),
        "{} of {} cases: {:#?}",
        wrong.len(),
        cases.len(),
        &wrong[..wrong.len().min(40)]
    );
    println!("{} cases", cases.len());
}

fn text_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without words").to_owned()
}

/// What may never happen, whatever was done to whatever single object.
fn contained(verdict: &Verdict) -> Option<&'static str> {
    if verdict.open > Outcome::Warned {
        return Some("the vault does not open");
    }
    (verdict.independent != Outcome::Fine).then_some("harms what does not depend on it")
}

fn must_be_reported(_: &Case, verdict: &Verdict) -> Option<&'static str> {
    (verdict.check_data == Outcome::Fine).then_some("a check says nothing")
}

#[test]
fn the_fixture_is_as_the_tests_believe() {
    let fixture = small();
    judge::assert_whole("fixture", &fixture.store);
    for kind in ObjectKind::ALL {
        assert!(fixture.objects().iter().any(|(.., found)| *found == kind), "{kind:?}");
    }
    let undamaged = Case { what: "nothing".to_owned(), store: fixture.store.fork(), harmed: vec![] };
    let verdict = fixture.judge(&undamaged);
    let outcomes = [verdict.open, verdict.list, verdict.dependent, verdict.independent];
    assert_eq!(outcomes, [Outcome::Fine; 4], "{verdict:?}");
    assert_eq!([verdict.check, verdict.check_data, verdict.snapshot], [Outcome::Fine; 3], "{verdict:?}");
}

/// A third of the cases, each time another third of a field's bytes; all with `PAGEVAULT_THOROUGH=1`.
#[test]
fn every_field_of_every_object_of_a_small_vault() {
    let fixture = small();
    let mut cases = Vec::new();
    for (path, bytes, kind) in fixture.objects() {
        for change in changes(&bytes).into_iter().chain(newer(&bytes)) {
            cases.extend(fixture.renamed(&path, kind, change.clone()));
            cases.push(fixture.with_bytes(&path, change));
        }
        cases.push(fixture.without(&path));
    }
    if std::env::var_os("PAGEVAULT_THOROUGH").is_none() {
        cases = cases.into_iter().step_by(3).collect();
    }
    judge_all(fixture, &cases, must_be_reported);
}

#[test]
fn objects_in_places_they_were_not_made_for() {
    let fixture = small();
    let objects = fixture.objects();
    let mut cases = fixture.rearranged_packs();
    for (number, (one, _, kind)) in objects.iter().enumerate() {
        for (other, _, other_kind) in &objects[number + 1..] {
            // A control object and its copy are the same.
            if kind == other_kind && kind.is_sealed() {
                cases.push(fixture.swapped(one, other));
            }
        }
        for (other, bytes, other_kind) in &objects {
            if kind != other_kind {
                cases.push(fixture.with_bytes(one, (format!("the bytes of {other}"), bytes.clone())));
            }
        }
    }
    let foreign = Fixture::new(false);
    cases.extend(fixture.mixed_with(&foreign.store));
    judge_all(fixture, &cases, |_, _| None);
}

#[test]
fn trees_of_two_levels() {
    let fixture = large();
    let mut cases = Vec::new();
    for (path, bytes, kind) in fixture.objects() {
        if !kind.is_sealed() {
            continue;
        }
        // Every field was tried on the small vault; here it is the walk over a deeper tree that counts.
        let spread = changes(&bytes).into_iter().step_by(17);
        cases.extend(spread.map(|change| fixture.with_bytes(&path, change)));
        cases.push(fixture.without(&path));
    }
    judge_all(fixture, &cases, |_, _| None);
}
