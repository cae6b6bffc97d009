//! The short way into the library, as an application with several workers goes it.

use std::os::unix::fs::PermissionsExt;

use pagevault::error::ErrorKind;
use pagevault::operations::export::{ExportRequest, ExportSource};
use pagevault::operations::guard::{Checks, GuardOutcome};
use pagevault::{Backups, Error};
use rusqlite::Connection;

use crate::databases::create;
use crate::tamper::fixture::scratch;

#[test]
fn several_workers_start_at_once_and_make_one_vault() {
    let folder = scratch();
    let (vault, key) = (folder.path().join("vault"), folder.path().join("app.key"));
    let database = folder.path().join("app.db");
    create(&database, "PRAGMA journal_mode = wal");
    let opened: Vec<Backups> = std::thread::scope(|scope| {
        let worker = || Backups::at(&vault).key_file(&key).open_or_create();
        let workers: Vec<_> = (0..6).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().map(|worker| worker.join().unwrap().unwrap()).collect()
    });
    assert!(opened.iter().all(|backups| backups.vault().id() == opened[0].vault().id()));
    assert_eq!(opened[0].vault().slots().unwrap().len(), 1);
    assert_eq!(key.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let first = opened[0].snapshot(&database).unwrap();
    let second = opened[5].snapshot(&database).unwrap();
    assert_eq!(second.parent, Some(first.snapshot_id));
    assert_eq!(opened[3].list().unwrap().len(), 2);
}

/// Applications have the database open while their own code migrates it.
#[test]
fn a_migration_of_the_application_is_guarded() {
    let folder = scratch();
    let (vault, key) = (folder.path().join("vault"), folder.path().join("app.key"));
    let database = folder.path().join("app.db");
    create(&database, "PRAGMA journal_mode = wal");
    let backups = Backups::at(&vault).key_file(&key).open_or_create().unwrap();
    let open = Connection::open(&database).unwrap();
    let rows = || open.query_row("SELECT count(*) FROM t", (), |row| row.get::<_, i64>(0)).unwrap();
    let before = rows();
    let delete = || open.execute_batch("DELETE FROM t WHERE id < 100");

    let failed = backups.guard([&database], Checks::default(), || {
        delete().unwrap();
        Err("half way")
    });
    let failed = failed.unwrap();
    assert_eq!(
        (failed.outcome, failed.migration_error.as_deref()),
        (GuardOutcome::RolledBack, Some("half way"))
    );
    assert_eq!(rows(), before);

    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        backups.guard([&database], Checks::default(), || -> Result<(), Error> {
            delete().unwrap();
            panic!("on purpose")
        })
    }));
    assert_eq!(panicked.unwrap_err().downcast_ref(), Some(&"on purpose"));
    assert_eq!(rows(), before);

    let checks = Checks { assertions: vec!["SELECT count(*) > 0 FROM t".to_owned()], ..Checks::default() };
    let kept = backups.guard([&database], checks, delete).unwrap();
    assert!(kept.is_kept() && kept.rolled_back.is_empty(), "{kept:?}");
    assert!(rows() < before);

    // Nothing is run over a database that cannot be kept.
    let missing = folder.path().join("missing.db");
    let refused =
        backups.guard([&missing], Checks::default(), || -> Result<(), Error> { panic!("it was run") });
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn what_goes_wrong_is_told_by_kind_and_leaves_nothing() {
    let folder = scratch();
    let (vault, key) = (folder.path().join("vault"), folder.path().join("app.key"));
    let kind = |result: Result<Backups, Error>| result.unwrap_err().kind();
    assert_eq!(kind(Backups::at(&vault).key_file(&key).open()), ErrorKind::Unlock);
    assert_eq!(kind(Backups::at(&vault).create()), ErrorKind::Unlock);
    assert_eq!(kind(Backups::at(&vault).key_file(vault.join("inside.key")).create()), ErrorKind::Refused);
    assert!(!key.exists());
    let backups = Backups::at(&vault).key_file(&key).create().unwrap();
    assert_eq!(kind(Backups::at(&vault).key_file(&key).create()), ErrorKind::Refused);
    assert_eq!(kind(Backups::at(&vault).passphrase("wrong").open()), ErrorKind::Unlock);
    assert_eq!(
        kind(Backups::at(&vault).key_file(folder.path().join("other.key")).open_or_create()),
        ErrorKind::Unlock
    );
    let missing = folder.path().join("missing.db");
    assert_eq!(backups.snapshot(&missing).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(backups.restore("latest", &missing).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(backups.restore("no such words", &missing).unwrap_err().kind(), ErrorKind::Usage);
    let request = ExportRequest::new(ExportSource::Database(missing.clone()));
    let target = folder.path().join("out.json");
    assert_eq!(backups.export(&request, &target).unwrap_err().kind(), ErrorKind::NotFound);
    assert!(!target.exists() && !missing.exists());
}
