//! `schedule`: what starts `run` with the machine. Files are written and removed here; systemd is told by the person, with
//! the commands that are printed.

use std::fmt::Write as _;
use std::io::{ErrorKind as IoErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use jiff::tz::TimeZone;
use pagevault::{Error, ErrorKind, Result};
use serde::Serialize;

use super::super::args::{ScheduleCommand, Scope, StartedBy};
use super::super::context::Context;
use super::super::failure::Outcome;
use super::super::files;
use super::super::places;
use super::super::service::databases;
use super::super::text::{local_time, printable, shell_word};
use super::super::units;

const SERVICE: &str = "pagevault.service";
const TIMER: &str = "pagevault.timer";

/// What was done, in the words of docs/cli.md.
#[derive(Debug, Default, Serialize)]
struct Report {
    written: Vec<String>,
    removed: Vec<String>,
    next: Vec<String>,
}

/// Installs, removes or shows.
pub(crate) fn run(command: &ScheduleCommand, context: &Context) -> Result<Outcome> {
    match command {
        ScheduleCommand::Install { by: StartedBy::Cron, .. } => install_cron(context),
        ScheduleCommand::Install { by, scope } => install_units(*by == StartedBy::Timer, scope, context),
        ScheduleCommand::Uninstall { scope } => uninstall(scope, context),
        ScheduleCommand::Show { scope } => show(scope, context),
    }
}

/// Where units are, and whether they are the machine's.
fn folder_of(scope: &Scope, context: &Context) -> Result<(PathBuf, bool)> {
    let system = scope.system || (!scope.user && rustix::process::geteuid().is_root());
    if let Some(folder) = &scope.units {
        return Ok((folder.clone(), system));
    }
    if system {
        return Ok((PathBuf::from("/etc/systemd/system"), true));
    }
    let base = context.environment.path("XDG_CONFIG_HOME").filter(|path| path.is_absolute());
    let base = base.or_else(|| context.environment.path("HOME").map(|home| home.join(".config")));
    let base =
        base.ok_or_else(|| Error::new(ErrorKind::Usage, "HOME is not set, so there is no place for units"))?;
    Ok((base.join("systemd/user"), false))
}

/// The command that the unit or the crontab runs, word by word.
fn program(context: &Context, once: bool) -> Result<Vec<String>> {
    let Some(loaded) = &context.loaded else {
        return Err(Error::new(ErrorKind::NotFound, "there is no configuration to run by").with_hint(
            "`pagevault config example > ~/.config/pagevault/config.toml` makes one to start from",
        ));
    };
    let program = std::env::current_exe()
        .map_err(|error| Error::new(ErrorKind::Failed, format!("cannot tell where pagevault is: {error}")))?;
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let mut words = vec![program.display().to_string()];
    let mut option = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            words.extend([name.to_owned(), value]);
        }
    };
    let path = |path: &Option<PathBuf>| path.as_ref().map(|path| absolute(path).display().to_string());
    option("--config", Some(loaded.file.display().to_string()));
    // It may be an address.
    let vault = context.globals.vault.as_ref().map(|place| places::absolute(place)).transpose()?;
    option("--vault", vault.map(|place| place.display().to_string()));
    option("--key-file", path(&context.globals.unlock.key_file));
    option("--password-file", path(&context.globals.unlock.password_file));
    option("--password-command", context.globals.unlock.password_command.clone());
    words.push("run".to_owned());
    if once {
        words.push("--once".to_owned());
    }
    Ok(words)
}

fn install_units(timer: bool, scope: &Scope, context: &Context) -> Result<Outcome> {
    let (folder, system) = folder_of(scope, context)?;
    let words = program(context, timer)?;
    let variables = ["HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME"];
    let environment: Vec<(&str, String)> = variables
        .into_iter()
        .filter_map(|name| Some((name, context.environment.path(name)?.display().to_string())))
        .collect();
    let mut report = Report::default();
    put(&folder.join(SERVICE), &units::service(&words, &environment, timer, system), &mut report)?;
    if timer {
        put(&folder.join(TIMER), &units::timer(), &mut report)?;
    } else {
        take(&folder.join(TIMER), &mut report)?;
    }
    let systemctl = if system { "systemctl" } else { "systemctl --user" };
    let unit = if timer { TIMER } else { SERVICE };
    report.next.push(format!("{systemctl} daemon-reload"));
    report.next.push(format!("{systemctl} enable --now {unit}"));
    if !system {
        report
            .next
            .push("loginctl enable-linger    # so that it also runs while you are not logged in".to_owned());
    }
    tell(&report, context)
}

/// Writes a unit; one that somebody else wrote stays.
fn put(file: &Path, text: &str, report: &mut Report) -> Result<()> {
    match std::fs::read_to_string(file) {
        Ok(old) if !old.starts_with(units::MARK) => {
            return Err(Error::new(
                ErrorKind::Refused,
                format!("{} was not written by pagevault", file.display()),
            )
            .with_hint("move it away, or install elsewhere with --units"));
        }
        _ => {}
    }
    let failed = |error: std::io::Error| {
        Error::new(ErrorKind::Failed, format!("cannot write {}: {error}", file.display()))
    };
    std::fs::create_dir_all(files::parent(file)).map_err(failed)?;
    files::replace(file, text.as_bytes(), 0o644).map_err(failed)?;
    report.written.push(file.display().to_string());
    Ok(())
}

/// Removes a unit that pagevault wrote.
fn take(file: &Path, report: &mut Report) -> Result<()> {
    let failed = |error: std::io::Error| {
        Error::new(ErrorKind::Failed, format!("cannot remove {}: {error}", file.display()))
    };
    match std::fs::read_to_string(file) {
        Ok(text) if text.starts_with(units::MARK) => {
            std::fs::remove_file(file).map_err(failed)?;
            report.removed.push(file.display().to_string());
            Ok(())
        }
        Ok(_) => Ok(()),
        Err(error) if error.kind() == IoErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed(error)),
    }
}

/// Removes what `systemctl enable` made of a unit.
fn take_link(link: &Path, report: &mut Report) -> Result<()> {
    if std::fs::symlink_metadata(link).is_ok_and(|metadata| metadata.is_symlink()) {
        std::fs::remove_file(link).map_err(|error| {
            Error::new(ErrorKind::Failed, format!("cannot remove {}: {error}", link.display()))
        })?;
        report.removed.push(link.display().to_string());
    }
    Ok(())
}

fn install_cron(context: &Context) -> Result<Outcome> {
    let words = program(context, true)?;
    let command: Vec<String> = words.iter().map(|word| shell_word(Path::new(word))).collect();
    let line = units::cron_line(&command.join(" "));
    let mut lines = crontab()?;
    lines.retain(|line| !line.ends_with(units::CRON_MARK));
    lines.push(line.clone());
    write_crontab(&lines).map_err(|error| error.with_hint(format!("the line would be: {line}")))?;
    let report = Report { written: vec![format!("crontab: {line}")], ..Report::default() };
    tell(&report, context)
}

fn uninstall(scope: &Scope, context: &Context) -> Result<Outcome> {
    let (folder, system) = folder_of(scope, context)?;
    let mut report = Report::default();
    for unit in [TIMER, SERVICE] {
        take(&folder.join(unit), &mut report)?;
    }
    if !report.removed.is_empty() {
        // Enabling made links; systemd does not reliably take those of a unit whose file is gone.
        for target in ["default.target", "multi-user.target", "timers.target"] {
            for unit in [TIMER, SERVICE] {
                take_link(&folder.join(format!("{target}.wants")).join(unit), &mut report)?;
            }
        }
        let systemctl = if system { "systemctl" } else { "systemctl --user" };
        report.next.push(format!("{systemctl} stop {TIMER} {SERVICE}"));
        report.next.push(format!("{systemctl} daemon-reload"));
    }
    // Without a crontab program there is no line in one.
    if let Ok(lines) = crontab()
        && let Some(line) = lines.iter().find(|line| line.ends_with(units::CRON_MARK))
    {
        let rest: Vec<String> = lines.iter().filter(|other| *other != line).cloned().collect();
        write_crontab(&rest)?;
        report.removed.push(format!("crontab: {line}"));
    }
    tell(&report, context)
}

fn tell(report: &Report, context: &Context) -> Result<Outcome> {
    if context.output.is_json() {
        context.output.json(report)?;
        return Ok(Outcome::Done);
    }
    let mut text = String::new();
    for line in &report.written {
        let _ = writeln!(text, "wrote {}", printable(line));
    }
    for line in &report.removed {
        let _ = writeln!(text, "removed {}", printable(line));
    }
    if report.written.is_empty() && report.removed.is_empty() {
        text.push_str("nothing was installed\n");
    }
    if !report.next.is_empty() {
        text.push_str("now run:\n");
    }
    for line in &report.next {
        let _ = writeln!(text, "  {line}");
    }
    context.output.text(&text)?;
    Ok(Outcome::Done)
}

/// The answer of `schedule show`.
#[derive(Debug, Serialize)]
struct Shown {
    installed: Vec<String>,
    databases: Vec<Planned>,
}

#[derive(Debug, Serialize)]
struct Planned {
    path: String,
    schedule: String,
    next: Option<jiff::Timestamp>,
}

fn show(scope: &Scope, context: &Context) -> Result<Outcome> {
    let (folder, _) = folder_of(scope, context)?;
    let mut installed = Vec::new();
    for unit in [SERVICE, TIMER] {
        let file = folder.join(unit);
        if std::fs::read_to_string(&file).is_ok_and(|text| text.starts_with(units::MARK)) {
            installed.push(file.display().to_string());
        }
    }
    let lines = crontab().unwrap_or_default();
    installed.extend(lines.into_iter().filter(|line| line.ends_with(units::CRON_MARK)));
    let (now, zone) = (context.now(), TimeZone::system());
    let found = context.loaded.as_ref().map(|loaded| (databases::find(&loaded.config), &loaded.config));
    let databases = found.map(|(found, config)| {
        let next = |(path, number): (PathBuf, usize)| {
            let schedule = &config.databases[number].policy.schedule;
            Planned {
                path: path.display().to_string(),
                schedule: schedule.to_string(),
                next: schedule.next_after(now, &zone),
            }
        };
        found.into_iter().map(next).collect()
    });
    let shown = Shown { installed, databases: databases.unwrap_or_default() };
    if context.output.is_json() {
        context.output.json(&shown)?;
        return Ok(Outcome::Done);
    }
    let mut text = String::new();
    if shown.installed.is_empty() {
        text.push_str("nothing is installed that starts `pagevault run`\n");
    }
    for line in &shown.installed {
        let _ = writeln!(text, "installed: {}", printable(line));
    }
    for Planned { path, schedule, next } in &shown.databases {
        let next = next.map_or_else(|| "never".to_owned(), local_time);
        let _ = writeln!(text, "{}: {schedule}, next at {next}", printable(path));
    }
    context.output.text(&text)?;
    Ok(Outcome::Done)
}

/// The lines of the user's crontab; none if there is no crontab yet.
fn crontab() -> Result<Vec<String>> {
    let output = Command::new("crontab")
        .arg("-l")
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| no_crontab(&error))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        // Only then is it sure that nothing is written over.
        if said.contains("no crontab") {
            return Ok(Vec::new());
        }
        let message = format!("the crontab cannot be read: {}", said.trim());
        return Err(Error::new(ErrorKind::Failed, message).with_hint("nothing was changed"));
    }
    let text = String::from_utf8(output.stdout).map_err(|_| {
        Error::new(ErrorKind::Refused, "the crontab is not UTF-8")
            .with_hint("nothing was changed; add the line by hand with `crontab -e`")
    })?;
    Ok(text.lines().map(str::to_owned).collect())
}

fn write_crontab(lines: &[String]) -> Result<()> {
    let mut child =
        Command::new("crontab").arg("-").stdin(Stdio::piped()).spawn().map_err(|error| no_crontab(&error))?;
    if let Some(mut stdin) = child.stdin.take() {
        let text = lines.join("\n") + "\n";
        stdin.write_all(text.as_bytes()).map_err(|error| no_crontab(&error))?;
    }
    match child.wait() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => {
            Err(Error::new(ErrorKind::Failed, format!("crontab has refused the new table ({status})")))
        }
        Err(error) => Err(no_crontab(&error)),
    }
}

fn no_crontab(error: &std::io::Error) -> Error {
    Error::new(ErrorKind::Failed, format!("the program `crontab` cannot be used: {error}"))
        .with_hint("install cron, or let systemd start it: `--by service`, `--by timer`")
}
