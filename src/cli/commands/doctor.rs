//! `doctor`: what in this environment endangers the data.

use std::fmt::Write;
use std::path::PathBuf;

use pagevault::operations::doctor::{DoctorRequest, Finding, Severity, doctor};
use pagevault::{ErrorKind, Result};

use super::super::args::DoctorArgs;
use super::super::context::Context;
use super::super::failure::Outcome;
use super::super::make::holds_vault;
use super::super::places::{address, shown};
use super::super::proof;
use super::super::secret::Source;
use super::super::text::printable;

/// Looks around.
pub(crate) fn run(args: DoctorArgs, context: &Context) -> Result<Outcome> {
    let place = context.place()?;
    let named = Source::named(&context.globals.unlock, &context.environment)?;
    let key_file = match named {
        Some(Source::KeyFile(path)) => Some(path),
        Some(_) => None,
        None => context.default_key_file(),
    };
    let mut findings = Vec::new();
    // What can be seen without the key is worth seeing.
    let is_remote = address(&place.folder).is_some();
    let vault = if args.no_key || !(is_remote || holds_vault(&place.folder)) {
        None
    } else {
        match context.open_vault() {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Err(error),
            Err(error) => {
                findings.push(Finding {
                    check: "vault",
                    severity: Severity::Danger,
                    object: shown(&place.folder),
                    message: format!("it cannot be opened: {error}"),
                    advice: error
                        .hint()
                        .unwrap_or("`pagevault check --no-key` says whether it is damaged")
                        .to_owned(),
                });
                None
            }
            Ok(vault) => Some(vault),
        }
    };
    let request = DoctorRequest {
        // Of a service there is no folder to look at.
        vault: (!is_remote).then_some(place.folder),
        key_files: key_file.into_iter().collect::<Vec<PathBuf>>(),
        databases: args.databases,
        host: context.host().ok().map(|host| host.id),
        last_proof: vault.as_ref().and_then(|vault| proof::last(vault, context)),
        busy_timeout: None,
    };
    findings.extend(doctor(vault.as_ref(), &request, context.now(), &context.progress)?);
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    let worst = findings.iter().map(|finding| finding.severity).max();
    if context.output.is_json() {
        context.output.json(&Answer { ok: worst < Some(Severity::Warning), findings: &findings })?;
    } else {
        context.output.text(&sentences(&findings))?;
    }
    Ok(if worst < Some(Severity::Warning) { Outcome::Done } else { Outcome::Reported(ErrorKind::Failed) })
}

/// For scripts.
#[derive(serde::Serialize)]
struct Answer<'a> {
    ok: bool,
    findings: &'a [Finding],
}

fn sentences(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        let (severity, object) = (finding.severity.name(), printable(&finding.object));
        let (message, advice) = (printable(&finding.message), printable(&finding.advice));
        let _ = writeln!(text, "{severity}: {object}: {message}\n    {advice}");
    }
    let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    let (dangers, warnings) = (count(Severity::Danger), count(Severity::Warning));
    let _ = match (dangers, warnings) {
        (0, 0) => writeln!(text, "nothing endangers the data, as far as can be seen from here"),
        _ => writeln!(text, "{dangers} dangers, {warnings} warnings"),
    };
    text
}
