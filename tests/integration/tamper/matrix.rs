//! The damage matrix: what is damaged, how, and what each command then does. A change of behaviour shows here as a
//! changed line.

use pagevault::format::envelope::{HEADER_LEN, ObjectKind};
use pagevault::store::ObjectPath;

use super::damage::{Case, with_right_checksum};
use super::fixture::Fixture;
use super::judge::Outcome;
use super::small;
use crate::repair::judge_repair;

/// Columns: open, list, restore of a snapshot that needs the object, of one that does not, check, check with data,
/// a snapshot after the damage together with its restore, and what a repair without another copy makes of the vault.
///
/// A bit that flips inside a pack of the right length is found by nobody who does not read it: a snapshot that inherits
/// an unchanged chunk from it is as damaged as its parent, which `check` with data and `--verify` find.
const EXPECTED: &str = "
config           bit flipped        says    fine    fine    fine    says    says    fine    whole
config           says version 2     says    fine    fine    fine    says    says    fine    whole
config           cut                says    fine    fine    fine    says    says    fine    whole
config           empty              says    fine    fine    fine    says    says    fine    whole
config           zeros              says    fine    fine    fine    says    says    fine    whole
config           gone               says    fine    fine    fine    says    says    fine    whole
config           newer, right sum   says    fine    fine    fine    says    says    fine    whole
config           flip, right sum    says    fine    fine    fine    says    says    fine    whole
config           both gone          damage  damage  damage  damage  damage  damage  damage  not opened
config           both zeros         damage  damage  damage  damage  damage  damage  damage  not opened
config           both newer         refused refused refused refused refused refused refused not opened
config copy      bit flipped        says    fine    fine    fine    says    says    fine    whole
config copy      says version 2     says    fine    fine    fine    says    says    fine    whole
config copy      cut                says    fine    fine    fine    says    says    fine    whole
config copy      empty              says    fine    fine    fine    says    says    fine    whole
config copy      zeros              says    fine    fine    fine    says    says    fine    whole
config copy      gone               says    fine    fine    fine    says    says    fine    whole
config copy      newer, right sum   says    fine    fine    fine    says    says    fine    whole
config copy      flip, right sum    says    fine    fine    fine    says    says    fine    whole
config copy      both gone          damage  damage  damage  damage  damage  damage  damage  not opened
config copy      both zeros         damage  damage  damage  damage  damage  damage  damage  not opened
config copy      both newer         refused refused refused refused refused refused refused not opened
key slot         bit flipped        says    fine    fine    fine    says    says    fine    whole
key slot         says version 2     says    fine    fine    fine    says    says    fine    whole
key slot         cut                says    fine    fine    fine    says    says    fine    whole
key slot         empty              says    fine    fine    fine    says    says    fine    whole
key slot         zeros              says    fine    fine    fine    says    says    fine    whole
key slot         gone               fine    fine    fine    fine    says    says    fine    whole
key slot         newer, right sum   says    fine    fine    fine    says    says    fine    whole
key slot         flip, right sum    says    fine    fine    fine    says    says    fine    whole
key slot         both gone          locked  locked  locked  locked  locked  locked  locked  not opened
key slot         both zeros         damage  damage  damage  damage  damage  damage  damage  not opened
key slot         both newer         refused refused refused refused refused refused refused not opened
key slot copy    bit flipped        says    fine    fine    fine    says    says    fine    whole
key slot copy    says version 2     says    fine    fine    fine    says    says    fine    whole
key slot copy    cut                says    fine    fine    fine    says    says    fine    whole
key slot copy    empty              says    fine    fine    fine    says    says    fine    whole
key slot copy    zeros              says    fine    fine    fine    says    says    fine    whole
key slot copy    gone               fine    fine    fine    fine    says    says    fine    whole
key slot copy    newer, right sum   says    fine    fine    fine    says    says    fine    whole
key slot copy    flip, right sum    says    fine    fine    fine    says    says    fine    whole
key slot copy    both gone          locked  locked  locked  locked  locked  locked  locked  not opened
key slot copy    both zeros         damage  damage  damage  damage  damage  damage  damage  not opened
key slot copy    both newer         refused refused refused refused refused refused refused not opened
page pack        bit flipped        fine    fine    damage  fine    fine    says    either  in part
page pack        says version 2     fine    fine    fine    fine    fine    says    fine    whole
page pack        cut                fine    fine    fine    fine    says    says    fine    whole
page pack        empty              fine    fine    damage  fine    says    says    fine    in part
page pack        zeros              fine    fine    damage  fine    fine    says    damage  in part
page pack        gone               fine    fine    damage  fine    says    says    fine    in part
page pack        newer, right name  fine    fine    damage  fine    says    says    fine    in part
page pack        flip, right name   fine    fine    damage  fine    says    says    fine    in part
metadata pack    bit flipped        fine    fine    damage  fine    says    says    fine    in part
metadata pack    says version 2     fine    fine    fine    fine    fine    says    fine    whole
metadata pack    cut                fine    fine    fine    fine    says    says    fine    whole
metadata pack    empty              fine    fine    damage  fine    says    says    fine    in part
metadata pack    zeros              fine    fine    damage  fine    says    says    fine    in part
metadata pack    gone               fine    fine    damage  fine    says    says    fine    in part
metadata pack    newer, right name  fine    fine    damage  fine    says    says    fine    in part
metadata pack    flip, right name   fine    fine    damage  fine    says    says    fine    in part
index            bit flipped        fine    fine    damage  fine    says    says    fine    whole
index            says version 2     fine    fine    damage  fine    says    says    fine    whole
index            cut                fine    fine    damage  fine    says    says    fine    whole
index            empty              fine    fine    damage  fine    says    says    fine    whole
index            zeros              fine    fine    damage  fine    says    says    fine    whole
index            gone               fine    fine    damage  fine    says    says    fine    whole
index            newer, right name  fine    fine    damage  fine    says    says    fine    in part
index            flip, right name   fine    fine    damage  fine    says    says    fine    whole
snapshots object bit flipped        fine    says    damage  fine    says    says    fine    whole
snapshots object says version 2     fine    says    damage  fine    says    says    fine    whole
snapshots object cut                fine    says    damage  fine    says    says    fine    whole
snapshots object empty              fine    says    damage  fine    says    says    fine    whole
snapshots object zeros              fine    says    damage  fine    says    says    fine    whole
snapshots object gone               fine    says    damage  fine    says    says    fine    whole
snapshots object newer, right name  fine    says    damage  fine    says    says    fine    in part
snapshots object flip, right name   fine    says    damage  fine    says    says    fine    whole
log object       bit flipped        fine    says    fine    fine    says    says    fine    whole
log object       says version 2     fine    says    fine    fine    says    says    fine    whole
log object       cut                fine    says    fine    fine    says    says    fine    whole
log object       empty              fine    says    fine    fine    says    says    fine    whole
log object       zeros              fine    says    fine    fine    says    says    fine    whole
log object       gone               fine    either  fine    fine    says    says    fine    whole
log object       newer, right name  fine    says    fine    fine    says    says    fine    in part
log object       flip, right name   fine    says    fine    fine    says    says    fine    whole
";

#[test]
fn every_kind_every_damage_every_command() {
    let fixture = small();
    let mut table = String::from("\n");
    for (object, path, kind) in objects(fixture) {
        for case in damages(fixture, &path, kind) {
            let verdict = fixture.judge(&case);
            let columns = [
                verdict.open,
                verdict.list,
                verdict.dependent,
                verdict.independent,
                verdict.check,
                verdict.check_data,
                verdict.snapshot,
            ];
            let mut columns = columns.map(word);
            if (object, case.what.as_str()) == ("page pack", "bit flipped") {
                // Which chunk is hit, and so whether the next snapshot inherits it, is for the encoding threads to say.
                columns[6] = "either";
            }
            if (object, case.what.as_str()) == ("log object", "gone") {
                // That the last of a chain is gone, shows only to who remembers it.
                columns[1] = "either";
            }
            let repaired = match judge_repair(fixture, &case) {
                Outcome::Fine => "whole",
                Outcome::Locked => "not opened",
                _ => "in part",
            };
            let columns = columns.map(|outcome| format!("{outcome:7}")).join(" ") + " " + repaired;
            table += format!("{object:16} {:18} {columns}", case.what).trim_end();
            table.push('\n');
        }
    }
    assert!(table == EXPECTED, "the matrix is now:{table}");
}

fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Fine => "fine",
        Outcome::Warned => "says",
        Outcome::Damage => "damage",
        Outcome::Refused => "refused",
        Outcome::Locked => "locked",
    }
}

/// One object of each kind, of the first run where there are several.
fn objects(fixture: &Fixture) -> Vec<(&'static str, ObjectPath, ObjectKind)> {
    let first = &fixture.snapshots[0];
    let of = |wanted: ObjectKind| {
        let objects = fixture.objects();
        let mut found =
            objects.iter().filter(|(path, _, kind)| *kind == wanted && first.needs.contains(path));
        found.next().map_or_else(
            || objects.iter().find(|(.., kind)| *kind == wanted).unwrap().0.clone(),
            |(path, ..)| path.clone(),
        )
    };
    let copy = |path: &ObjectPath| ObjectPath::new(format!("{path}.copy")).unwrap();
    let (config, slot) = (ObjectPath::new("vault.pv").unwrap(), of(ObjectKind::KeySlot));
    let slot = ObjectPath::new(slot.as_str().trim_end_matches(".copy")).unwrap();
    vec![
        ("config", config.clone(), ObjectKind::VaultConfig),
        ("config copy", copy(&config), ObjectKind::VaultConfig),
        ("key slot", slot.clone(), ObjectKind::KeySlot),
        ("key slot copy", copy(&slot), ObjectKind::KeySlot),
        ("page pack", of(ObjectKind::PagePack), ObjectKind::PagePack),
        ("metadata pack", of(ObjectKind::MetadataPack), ObjectKind::MetadataPack),
        ("index", of(ObjectKind::Index), ObjectKind::Index),
        ("snapshots object", first.published_in.clone(), ObjectKind::Snapshots),
        ("log object", of(ObjectKind::Log), ObjectKind::Log),
    ]
}

fn damages(fixture: &Fixture, path: &ObjectPath, kind: ObjectKind) -> Vec<Case> {
    let bytes = fixture.objects().into_iter().find(|(own, ..)| own == path).unwrap().1;
    let edited = |offset: usize, value: u8| {
        let mut edited = bytes.clone();
        edited[offset] ^= value;
        edited
    };
    let named = |what: &str, mut case: Case| {
        case.what = what.to_owned();
        case
    };
    let with = |what: &str, bytes: Vec<u8>| named(what, fixture.with_bytes(path, (String::new(), bytes)));
    let newer = edited(8, 3);
    let mut cases = vec![
        with("bit flipped", edited(HEADER_LEN + 1, 4)),
        with("says version 2", newer.clone()),
        with("cut", bytes[..bytes.len() - 20].to_vec()),
        with("empty", Vec::new()),
        with("zeros", vec![0; bytes.len()]),
        named("gone", fixture.without(path)),
    ];
    let twin = path.as_str().strip_suffix(".copy").map_or_else(|| format!("{path}.copy"), str::to_owned);
    if kind.is_sealed() {
        for (what, bytes) in [("newer, right name", newer), ("flip, right name", edited(HEADER_LEN + 1, 4))] {
            cases.push(named(what, fixture.renamed(path, kind, (String::new(), bytes)).unwrap()));
        }
    } else {
        // What anybody who can write to the store can make: the checksum is right.
        cases.push(with("newer, right sum", with_right_checksum(newer.clone(), &bytes)));
        cases.push(with("flip, right sum", with_right_checksum(edited(bytes.len() - 120, 4), &bytes)));
        let both = |what: &str, bytes: Option<&[u8]>| {
            let store = fixture.store.fork();
            let twin = ObjectPath::new(twin.clone()).unwrap();
            for path in [path, &twin] {
                match bytes {
                    Some(bytes) => store.replace(path, bytes.to_vec()),
                    None => drop(store.remove(path)),
                }
            }
            Case { what: what.to_owned(), store, harmed: vec![path.clone(), twin] }
        };
        cases.push(both("both gone", None));
        cases.push(both("both zeros", Some(&vec![0; bytes.len()])));
        cases.push(both("both newer", Some(&with_right_checksum(newer, &bytes))));
    }
    cases
}
