//! `config`: an example to start from, and whether a configuration is right.

use std::fmt::Write as _;

use pagevault::monitor::Monitor;
use pagevault::{Error, ErrorKind, Result};
use serde::Serialize;

use super::super::args::ConfigCommand;
use super::super::config::load::{self, LoadError, Loaded};
use super::super::config::{EXAMPLE, Problem, Source};
use super::super::context::Context;
use super::super::failure::Outcome;
use super::super::service::databases;
use super::super::text::printable;

/// The answer in the words of docs/cli.md.
#[derive(Serialize)]
struct Report<'a> {
    config: String,
    ok: bool,
    problems: Vec<Mistake<'a>>,
    databases: Vec<Found>,
}

#[derive(Serialize)]
struct Mistake<'a> {
    line: usize,
    message: &'a str,
}

/// A database that is meant at this moment.
#[derive(Serialize)]
struct Found {
    path: String,
    name: Option<String>,
    schedule: String,
    exists: bool,
}

/// Prints or checks.
pub(crate) fn run(command: &ConfigCommand, context: &Context) -> Result<Outcome> {
    match command {
        ConfigCommand::Example => {
            context.output.text(EXAMPLE)?;
            Ok(Outcome::Done)
        }
        ConfigCommand::Check => check(context),
    }
}

fn check(context: &Context) -> Result<Outcome> {
    let Some(file) = load::place(context.globals.config.as_deref(), &context.environment) else {
        return Err(Error::new(ErrorKind::Usage, "HOME is not set, so there is no default configuration")
            .with_hint("name one with --config"));
    };
    match load::read(&file, &context.environment) {
        Ok(loaded) => {
            right(&loaded, context)?;
            Ok(Outcome::Done)
        }
        Err(LoadError::File(error)) => Err(error),
        Err(error @ LoadError::Mistakes(..)) => {
            if let LoadError::Mistakes(file, problems) = &error
                && context.output.is_json()
            {
                let problems =
                    problems.iter().map(|Problem { line, message }| Mistake { line: *line, message });
                let config = file.display().to_string();
                let report =
                    Report { config, ok: false, problems: problems.collect(), databases: Vec::new() };
                context.output.json(&report)?;
            }
            context.progress.always(&error.describe());
            Ok(Outcome::Reported(ErrorKind::Usage))
        }
    }
}

fn right(loaded: &Loaded, context: &Context) -> Result<()> {
    let Loaded { file, config } = loaded;
    let databases = databases::find(config);
    let found: Vec<Found> = databases
        .iter()
        .map(|(path, number)| {
            let entry = &config.databases[*number];
            Found {
                path: path.display().to_string(),
                name: entry.name_of(path),
                schedule: entry.policy.schedule.to_string(),
                exists: path.is_file(),
            }
        })
        .collect();
    for database in found.iter().filter(|database| !database.exists) {
        context.progress.warn(&format!("{} is not there", database.path));
    }
    for (number, entry) in config.databases.iter().enumerate() {
        if let Source::Glob(pattern, _) = &entry.source
            && !databases.values().any(|owner| *owner == number)
        {
            context.progress.warn(&format!("{pattern} finds nothing"));
        }
    }
    if config.databases.is_empty() {
        context.progress.warn("there is no [[database]], so nothing is kept");
    }
    if context.output.is_json() {
        let config = file.display().to_string();
        return context.output.json(&Report { config, ok: true, problems: Vec::new(), databases: found });
    }
    let mut text =
        format!("{}: right, with {} databases\n", printable(&file.display().to_string()), found.len());
    for Found { path, name, schedule, .. } in &found {
        let name = name.as_ref().map(|name| format!(" as {name}")).unwrap_or_default();
        let _ = writeln!(text, "  {}{}: {schedule}", printable(path), printable(&name));
    }
    context.output.text(&text)
}
