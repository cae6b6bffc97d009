//! The command line as its users meet it: cases as data, in `tests/cli/*.case`.
//!
//! A case is a list of lines, each a verb and its words; `#` begins a comment line. It runs in an empty folder with
//! an empty home and no variable of ours set. The program is the one of this build, or the one that `PAGEVAULT_BIN`
//! names: the same cases hold a release to its word.
//!
//! Before a run: `database FILE [ROWS]`, `sql FILE SQL`, `write FILE TEXT`, `folder DIR`, `mode OCTAL FILE`,
//! `remove PATH`, `copy FROM TO`, `damage DIR` (every file in it loses a bit), `lock FILE` (until the case ends),
//! `env NAME [VALUE]`, `input TEXT`, `closed-stdout`.
//! A run: `run ARGUMENTS`, quoted as in a shell.
//! Of the last run: `exit CODE` (0 if not given), `stdout LINE` and `stderr LINE` (a whole line), `stdout-has TEXT`,
//! `stderr-has TEXT`, `stdout-lacks TEXT`, `stderr-lacks TEXT`, `stdout-empty`, `stderr-empty`, `json POINTER VALUE`
//! (the output, or an array of its lines), `let NAME POINTER`.
//! Of the world: `file PATH [MODE]`, `no-file PATH`, `same FILE FILE`, `rows FILE COUNT`.
//!
//! `{home}`, `{dir}` and names given by `let` stand for their values, `{*}` in an expectation for anything.

mod expect;
mod world;

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use self::world::World;

/// A case: where it is written, what it is called, and its lines with their numbers.
struct Case {
    file: PathBuf,
    name: String,
    lines: Vec<(usize, String)>,
}

#[test]
fn cases_hold() {
    let cases = read_cases(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli"));
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(why) = run(case) {
                        failures.lock().unwrap().push(why);
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(!cases.is_empty(), "no cases found");
    assert!(
        failures.is_empty(),
        "{} of {} cases failed\n\n{}",
        failures.len(),
        cases.len(),
        failures.join("\n\n")
    );
}

fn read_cases(folder: &Path) -> Vec<Case> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "case"))
        .collect();
    files.sort();
    let mut cases: Vec<Case> = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if let Some(name) = line.strip_prefix("case ") {
                cases.push(Case { file: file.clone(), name: name.to_owned(), lines: Vec::new() });
            } else if let Some(case) = cases.last_mut().filter(|case| case.file == file) {
                case.lines.push((number + 1, line.to_owned()));
            }
        }
    }
    cases
}

fn run(case: &Case) -> Result<(), String> {
    let mut world = World::new()?;
    for (number, line) in &case.lines {
        world.step(line).map_err(|why| {
            let place = format!("{}:{number}", case.file.display());
            format!("{place}: {}\n  {line}\n  {why}\n{}", case.name, world.last_run())
        })?;
    }
    world
        .check_exit()
        .map_err(|why| format!("{}: {}: {why}\n{}", case.file.display(), case.name, world.last_run()))
}
