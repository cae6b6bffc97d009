//! What every store must do. Run on an empty store; each part works in folders of its own.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use super::{ObjectPath, Put, Store, StoreError};

/// Runs all that holds as well where two writers of one path within milliseconds may both believe to be the first.
pub(super) fn run_without_races(store: &dyn Store) {
    assert!(!store.describe().is_empty());
    puts_are_read_back(store);
    what_is_there_stays(store);
    limits_hold(store);
    ranges_are_exact(store);
    missing_objects_are_not_found(store);
    deletes_are_final_and_repeatable(store);
    listings_show_what_is_below(store);
    listings_break_off(store);
}

/// What every store does whose service has a conditional write as well.
pub(super) fn run(store: &dyn Store) {
    run_without_races(store);
    racing_writers_have_one_winner(store);
}

fn path(text: &str) -> ObjectPath {
    ObjectPath::new(text).unwrap()
}

fn listing(store: &dyn Store, folder: &str) -> BTreeMap<String, u64> {
    let mut found = BTreeMap::new();
    store
        .list(folder, &mut |object| {
            assert!(found.insert(object.path.to_string(), object.size).is_none(), "{} twice", object.path);
            ControlFlow::Continue(())
        })
        .unwrap();
    found
}

fn puts_are_read_back(store: &dyn Store) {
    let large: Vec<u8> =
        (0..3_000_017_u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for (name, bytes) in [("top", b"x".as_slice()), ("put/a/b/empty", b""), ("put/large", &large)] {
        assert_eq!(store.put_if_absent(&path(name), bytes).unwrap(), Put::Created, "{name}");
        assert_eq!(store.get(&path(name), u64::MAX).unwrap(), bytes, "{name}");
        assert_eq!(store.size(&path(name)).unwrap(), bytes.len() as u64, "{name}");
    }
}

fn what_is_there_stays(store: &dyn Store) {
    let object = path("stay/object");
    assert_eq!(store.put_if_absent(&object, b"first").unwrap(), Put::Created);
    assert_eq!(store.put_if_absent(&object, b"second").unwrap(), Put::AlreadyPresent);
    assert_eq!(store.get(&object, 100).unwrap(), b"first");
}

fn limits_hold(store: &dyn Store) {
    let object = path("limit/object");
    store.put_if_absent(&object, b"12345").unwrap();
    assert_eq!(store.get(&object, 5).unwrap(), b"12345");
    let refused = store.get(&object, 4).unwrap_err();
    assert!(matches!(refused, StoreError::TooLarge { size: 5, limit: 4, .. }), "{refused}");
}

fn ranges_are_exact(store: &dyn Store) {
    let object = path("range/object");
    store.put_if_absent(&object, b"0123456789").unwrap();
    for (offset, length) in [(0, 10), (0, 1), (3, 4), (9, 1)] {
        let expected = &b"0123456789"[offset..offset + length];
        assert_eq!(store.get_range(&object, offset as u64, length).unwrap(), expected);
        let mut into = vec![0; length];
        store.read_range(&object, offset as u64, &mut into).unwrap();
        assert_eq!(into, expected);
    }
    for (offset, length) in [(0, 11), (9, 2), (10, 1), (1 << 40, 1)] {
        let short = store.get_range(&object, offset, length).unwrap_err();
        assert!(matches!(short, StoreError::ShortRead { .. }), "{offset}+{length}: {short}");
    }
}

fn missing_objects_are_not_found(store: &dyn Store) {
    for name in ["missing", "missing/deep/er"] {
        let missing = path(name);
        assert!(store.get(&missing, 10).unwrap_err().is_not_found());
        assert!(store.get_range(&missing, 0, 1).unwrap_err().is_not_found());
        assert!(store.size(&missing).unwrap_err().is_not_found());
    }
}

fn deletes_are_final_and_repeatable(store: &dyn Store) {
    let object = path("delete/object");
    store.delete(&object).unwrap();
    store.put_if_absent(&object, b"first").unwrap();
    store.get_range(&object, 0, 5).unwrap();
    store.delete(&object).unwrap();
    store.delete(&object).unwrap();
    assert!(store.size(&object).unwrap_err().is_not_found());
    assert!(store.get_range(&object, 0, 5).unwrap_err().is_not_found());
    assert!(listing(store, "delete").is_empty());
    assert_eq!(store.put_if_absent(&object, b"again").unwrap(), Put::Created);
    assert_eq!(store.get_range(&object, 0, 5).unwrap(), b"again");
}

fn listings_show_what_is_below(store: &dyn Store) {
    let before = listing(store, "");
    let names = ["list/one", "list/two", "list/deep/er/one", "listing/other"];
    for (name, size) in names.iter().zip(1..) {
        store.put_if_absent(&path(name), &vec![0; size]).unwrap();
    }
    let below = |folder| listing(store, folder).into_keys().collect::<Vec<_>>();
    assert_eq!(below("list"), ["list/deep/er/one", "list/one", "list/two"]);
    assert_eq!(below("list/deep"), ["list/deep/er/one"]);
    assert_eq!(below("listing"), ["listing/other"]);
    assert!(below("lis").is_empty() && below("list/none").is_empty() && below("none").is_empty());
    assert_eq!(listing(store, "list")["list/two"], 2);
    assert_eq!(listing(store, "").len(), before.len() + names.len());
    for bad in ["/", "list/", "..", "a/b/c/d"] {
        let refused = store.list(bad, &mut |_| ControlFlow::Continue(()));
        assert!(matches!(refused, Err(StoreError::InvalidPath { .. })), "{bad:?}");
    }
}

fn listings_break_off(store: &dyn Store) {
    for name in ["break/a", "break/b/c", "break/b/d"] {
        store.put_if_absent(&path(name), b"x").unwrap();
    }
    let mut shown = 0;
    store
        .list("break", &mut |object| {
            // The visitor may use the store.
            store.delete(&object.path).unwrap();
            shown += 1;
            if shown == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .unwrap();
    assert_eq!((shown, listing(store, "break").len()), (2, 1));
}

fn racing_writers_have_one_winner(store: &dyn Store) {
    for round in 0..20 {
        let object = path(&format!("race/{round}"));
        let outcomes: Vec<(u8, Put)> = std::thread::scope(|scope| {
            let writers: Vec<_> = (0..4_u8)
                .map(|writer| {
                    let object = &object;
                    scope.spawn(move || (writer, store.put_if_absent(object, &[writer; 10_000]).unwrap()))
                })
                .collect();
            writers.into_iter().map(|writer| writer.join().unwrap()).collect()
        });
        let winners: Vec<u8> =
            outcomes.iter().filter(|(_, put)| *put == Put::Created).map(|(writer, _)| *writer).collect();
        assert_eq!(winners.len(), 1);
        assert_eq!(store.get(&object, 20_000).unwrap(), [winners[0]; 10_000]);
    }
}
