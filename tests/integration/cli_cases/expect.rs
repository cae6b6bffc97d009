//! What a run is expected to have said and left behind.

use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rusqlite::Connection;
use serde_json::Value;

/// A finished run, and the exit code that the case has named for it.
pub struct Output {
    stdout: String,
    stderr: String,
    code: Option<i32>,
    /// Whether the case has looked at the code; one that it does not name must be 0.
    code_seen: bool,
}

impl Output {
    /// Of a process.
    pub fn new(output: &std::process::Output) -> Self {
        Self {
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            code: output.status.code(),
            code_seen: false,
        }
    }

    /// That the exit code is 0 unless it was named.
    pub fn check_exit(&self) -> Result<(), String> {
        if self.code_seen || self.code == Some(0) {
            Ok(())
        } else {
            Err("it did not end with code 0".to_owned())
        }
    }

    /// The JSON value at `pointer`: of the one document, or of an array of all lines.
    pub fn value(&self, pointer: &str) -> Result<Value, String> {
        let mut lines: Vec<Value> = Vec::new();
        for line in self.stdout.lines() {
            lines.push(serde_json::from_str(line).map_err(|error| format!("not JSON: {error}"))?);
        }
        let document = if lines.len() == 1 { lines.remove(0) } else { Value::Array(lines) };
        let pointer = if pointer == "/" { "" } else { pointer };
        document.pointer(pointer).cloned().ok_or_else(|| format!("there is no {pointer}"))
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = self.code.map_or("none".to_owned(), |code| code.to_string());
        write!(f, "--- exit code {code}\n--- stdout\n{}--- stderr\n{}---", self.stdout, self.stderr)
    }
}

/// What becomes of an expectation about `output`; `None` if `verb` is not one.
pub fn judge(output: &mut Output, verb: &str, rest: &str) -> Option<Result<(), String>> {
    let holds = |held: bool| if held { Ok(()) } else { Err("it does not hold".to_owned()) };
    if verb == "exit" {
        output.code_seen = true;
        return Some(holds(output.code.map(|code| code.to_string()).as_deref() == Some(rest)));
    }
    if verb == "json" {
        let (pointer, expected) = rest.split_once(' ').unwrap_or((rest, "{*}"));
        let found = output.value(pointer);
        return Some(found.and_then(|found| {
            let text = found.to_string();
            let same = serde_json::from_str(expected).is_ok_and(|expected: Value| expected == found);
            if same || matches(expected, &text) { Ok(()) } else { Err(format!("it is {text}")) }
        }));
    }
    let (stream, question) = verb.split_once('-').unwrap_or((verb, "line"));
    let text = match stream {
        "stdout" => &output.stdout,
        "stderr" => &output.stderr,
        _ => return None,
    };
    let anywhere = || matches(&format!("{{*}}{rest}{{*}}"), text);
    Some(match question {
        "line" => holds(text.lines().any(|line| matches(rest, line))),
        "has" => holds(anywhere()),
        "lacks" => holds(!anywhere()),
        "empty" => holds(text.is_empty()),
        _ => return None,
    })
}

/// Whether `text` is `pattern`, in which `{*}` stands for anything.
fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split("{*}");
    let Some(mut rest) = text.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        let Some(found) = rest.find(part) else { return false };
        rest = &rest[found + part.len()..];
    }
    rest.ends_with(last)
}

/// That a file or folder is there, with this mode.
pub fn file(path: &Path, mode: Option<&str>) -> Result<(), String> {
    let found = path.metadata().map_err(|error| error.to_string())?.permissions().mode() & 0o777;
    match mode {
        Some(mode) if u32::from_str_radix(mode, 8) != Ok(found) => Err(format!("its mode is {found:o}")),
        _ => Ok(()),
    }
}

/// That the database has so many notes.
pub fn rows(path: &Path, count: &str) -> Result<(), String> {
    let connection = Connection::open(path).map_err(|error| error.to_string())?;
    let found: i64 = connection
        .query_row("SELECT count(*) FROM note", (), |row| row.get(0))
        .map_err(|error| error.to_string())?;
    if found.to_string() == count { Ok(()) } else { Err(format!("it has {found}")) }
}

#[test]
fn a_pattern_is_a_text_with_gaps() {
    assert!(matches("a", "a"));
    assert!(!matches("a", "ab"));
    assert!(matches("a{*}c{*}", "abcd"));
    assert!(!matches("a{*}c", "abcd"));
    assert!(matches("{*}", ""));
    assert!(!matches("ab{*}b", "ab"));
}
