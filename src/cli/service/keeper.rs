//! The service itself: a configuration, a vault, a journal, and what is to be done next.
//!
//! It is asked again and again; each step looks at the time anew. Nothing it remembers in memory has to survive: after a
//! SIGKILL the journal is at most one round behind, and a round that is done twice does no harm.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use pagevault::crypto::unlock::Unlocker;
use pagevault::daemon::{Answer, Schedule, Timing, planner, schedule};
use pagevault::monitor::Monitor;
use pagevault::operations::moved::Holdings;
use pagevault::operations::snapshot::Host;
use pagevault::operations::status;
use pagevault::vault::IdleVault;
use pagevault::{Error, ErrorKind, Result};

use super::super::config::load::{self, Loaded};
use super::super::config::{Config, Source};
use super::super::context::Context;
use super::alerts::{self, Condition, Turn};
use super::background::{Background, Finished, Means, Quiet, Work, sync_job};
use super::databases;
use super::deliver::{Courier, Message};
use super::forgetting;
use super::journal::{self, Journal, TestRecord};
use super::metrics::{self, Facts, Server};
use super::round::{Due, Round, Tally, look_at_old};

/// How often conditions, figures and the size of the vault are looked at.
const HOUSEKEEPING: Duration = Duration::from_mins(1);
/// How often rules are applied at least.
const FORGET: Schedule = Schedule::Every(Duration::from_hours(1));
/// A database that came by a pattern and vanished is spoken of for so long.
const REMEMBER_VANISHED: SignedDuration = SignedDuration::from_hours(7 * 24);
/// What the clock may differ from the time that has passed before it counts as set.
const CLOCK_STEP: SignedDuration = SignedDuration::from_secs(2);

/// The service.
pub(super) struct Keeper<'a> {
    context: &'a Context,
    file: PathBuf,
    seen: Option<load::Seen>,
    config: Config,
    config_error: Option<String>,
    /// Not in use between jobs, so that a prune can be alone.
    vault: IdleVault,
    unlocker: Arc<Unlocker>,
    host: Host,
    zone: TimeZone,
    journal: Journal,
    journal_file: PathBuf,
    _lock: File,
    databases: BTreeMap<PathBuf, usize>,
    rescanned: Option<Instant>,
    kept_house: Option<Instant>,
    next_due: Timestamp,
    /// The clock, and the time that passes, when it was last looked at.
    looked: (Timestamp, Instant),
    background: Option<Background>,
    vault_error: Option<String>,
    dirty: bool,
    /// Something was stored since rules were last applied.
    has_new: bool,
    /// Warnings of that, each of which is said once.
    warned: BTreeSet<String>,
    facts: Facts,
    courier: Courier,
    server: Option<Server>,
    /// What all rounds came to.
    pub(super) total: Tally,
}

impl<'a> Keeper<'a> {
    /// Opens everything.
    ///
    /// # Errors
    /// There is no configuration, the vault does not open, or another service keeps it.
    pub(super) fn start(context: &'a Context) -> Result<Self> {
        let Some(Loaded { file, config }) = context.loaded.clone() else {
            return Err(Error::new(ErrorKind::NotFound, "there is no configuration to go by").with_hint(
                "`pagevault config example > ~/.config/pagevault/config.toml` makes one to start from",
            ));
        };
        let (vault, unlocker) = context.open_vault_and_key()?;
        let state = context.environment.state_folder().ok_or_else(|| {
            Error::new(ErrorKind::Usage, "HOME is not set, so there is no folder for the journal")
                .with_hint("set HOME or XDG_STATE_HOME")
        })?;
        let journal_file = Journal::place(&state, vault.id());
        let lock = journal::lock(&journal_file)?;
        let (journal, why) = Journal::read(&journal_file);
        if let Some(why) = why {
            context.progress.warn(&why);
        }
        let now = context.now();
        let courier = Courier::start(config.alerts.timeout);
        let mut keeper = Self {
            seen: load::seen(&file),
            file,
            config_error: None,
            vault: IdleVault::new(vault),
            unlocker: Arc::new(unlocker),
            host: context.host()?,
            zone: TimeZone::system(),
            journal,
            journal_file,
            _lock: lock,
            databases: BTreeMap::new(),
            rescanned: None,
            kept_house: None,
            next_due: now,
            looked: (now, Instant::now()),
            background: None,
            vault_error: None,
            dirty: false,
            has_new: false,
            warned: BTreeSet::new(),
            facts: Facts { config_ok: true, started: now, ..Facts::default() },
            courier,
            server: None,
            total: Tally::default(),
            config,
            context,
        };
        keeper.listen();
        Ok(keeper)
    }

    fn say(&self, line: &str) {
        self.context.progress.note(line);
    }

    fn warn(&self, line: &str) {
        self.context.progress.warn(line);
    }

    /// Answers Prometheus where the configuration wants it.
    fn listen(&mut self) {
        let wanted = self.config.metrics.listen;
        let listening = self.server.as_ref().map(Server::address);
        let Some(address) = wanted.filter(|wanted| listening != Some(*wanted)) else { return };
        match Server::start(address) {
            Ok(server) => {
                self.say(&format!("metrics are at http://{}/metrics", server.address()));
                self.server = Some(server);
            }
            Err(error) => self.warn(&format!("metrics cannot be offered at {address}: {error}")),
        }
    }

    /// Reads the configuration again if it was asked for or has changed. One that is wrong changes nothing, and is an alert.
    pub(super) fn reload(&mut self, asked: bool) {
        let now = load::seen(&self.file);
        if !asked && now == self.seen {
            return;
        }
        self.seen = now;
        match load::read(&self.file, &self.context.environment) {
            Ok(loaded) => {
                let moved = loaded.config.vault != self.config.vault;
                if moved || loaded.config.unlock != self.config.unlock {
                    self.warn("another vault or key in the configuration counts from the next start on");
                }
                if loaded.config.alerts.timeout != self.config.alerts.timeout {
                    self.courier = Courier::start(loaded.config.alerts.timeout);
                }
                self.config = loaded.config;
                self.config_error = None;
                self.say("the configuration was read again");
                self.listen();
            }
            Err(error) => {
                let why = error.sentence();
                self.warn(&format!("the configuration is not used, the earlier one still holds: {why}"));
                self.config_error = Some(why);
            }
        }
        self.rescanned = None;
        self.kept_house = None;
    }

    /// Looks which files are meant now, when it is time.
    pub(super) fn rescan(&mut self) {
        if self.rescanned.is_some_and(|last| last.elapsed() < self.config.rescan) {
            return;
        }
        let first = self.databases.is_empty();
        self.rescanned = Some(Instant::now());
        let found = databases::find(&self.config);
        for path in found.keys().filter(|path| !first && !self.databases.contains_key(*path)) {
            self.say(&format!("new: {}", path.display()));
        }
        self.databases = found;
        self.next_due = self.context.now();
        self.note_vanished();
        self.look_at_old_ones();
    }

    /// Databases that were there and are not: those by path for as long as they are configured, those by pattern for a week.
    fn note_vanished(&mut self) {
        let now = self.context.now();
        let patterns: Vec<glob::Pattern> = self
            .config
            .databases
            .iter()
            .filter_map(|entry| match &entry.source {
                Source::Glob(pattern, _) => glob::Pattern::new(pattern).ok(),
                Source::Path(_) => None,
            })
            .collect();
        let databases = &self.databases;
        let mut dirty = false;
        self.journal.databases.retain(|path, record| {
            if databases.contains_key(path) {
                let vanished = !path.exists() && record.kept_at.is_some();
                dirty |= vanished != record.vanished;
                record.vanished = vanished;
                return true;
            }
            let remembered = record.kept_at.is_some_and(|kept| now.duration_since(kept) < REMEMBER_VANISHED);
            let stays = remembered && patterns.iter().any(|pattern| pattern.matches_path(path));
            dirty |= !stays || !record.vanished;
            record.vanished = true;
            stays
        });
        self.dirty |= dirty;
    }

    /// Between their times, databases with a `max_age` are looked at once that age is reached.
    fn look_at_old_ones(&mut self) {
        let now = self.context.now();
        let is_old = |path: &Path, max_age: Duration| {
            let kept = self.journal.databases.get(path).and_then(|record| record.kept_at);
            kept.is_some_and(|kept| {
                Duration::try_from(now.duration_since(kept)).is_ok_and(|age| age > max_age)
            })
        };
        let old: Vec<(PathBuf, usize)> = self
            .databases
            .iter()
            .filter(|(path, number)| {
                self.config.databases[**number].policy.max_age.is_some_and(|max_age| is_old(path, max_age))
            })
            .map(|(path, number)| (path.clone(), *number))
            .collect();
        if old.is_empty() {
            return;
        }
        let Ok(vault) = self.vault.enter() else { return };
        let Ok(holdings) = Holdings::read(&vault, &self.host, &self.context.progress) else { return };
        for (path, number) in old {
            look_at_old(&mut self.journal, &holdings, &path, &self.config.databases[number].policy, now);
        }
        self.dirty = true;
    }

    /// The databases that are due. Whatever the clock was set to, it is believed, but no memory from its future is.
    fn due(&mut self) -> Vec<Due> {
        let (now, passed) = (self.context.now(), Instant::now());
        let by_clock = now.duration_since(self.looked.0);
        let by_time =
            SignedDuration::try_from(passed.duration_since(self.looked.1)).unwrap_or(SignedDuration::MAX);
        self.looked = (now, passed);
        let was_set = by_clock.saturating_sub(by_time).abs() > CLOCK_STEP;
        if now < self.next_due && !was_set {
            return Vec::new();
        }
        let mut due = Vec::new();
        // Somebody may have changed the time zone; it costs nothing to ask.
        self.zone = TimeZone::system();
        let mut next = now.saturating_add(SignedDuration::from_hours(24)).unwrap_or(Timestamp::MAX);
        for (path, number) in &self.databases {
            let policy = &self.config.databases[*number].policy;
            let record = self.journal.databases.entry(path.clone()).or_default();
            record.job.settle(now);
            let delay = schedule::delay_of(&path.to_string_lossy(), policy.jitter);
            let timing = Timing { schedule: policy.schedule.clone(), delay };
            match planner::decide(&timing, &record.job.memory(), now, &self.zone) {
                Answer::Now => {
                    due.push(Due { path: path.clone(), entry: self.config.databases[*number].clone() });
                }
                Answer::Later(time) => next = next.min(time),
                Answer::Never => {}
            }
        }
        self.next_due = next;
        due
    }

    /// Does what is due now.
    pub(super) fn round(&mut self) {
        let due = self.due();
        if due.is_empty() {
            return;
        }
        let (count, began) = (due.len(), Instant::now());
        let paths: Vec<PathBuf> = due.iter().map(|due| due.path.clone()).collect();
        // What a check has found may be missing where nothing has changed as well.
        let distrust = self.journal.jobs.get("check").is_some_and(|job| job.failures > 0);
        let mut tally = Tally::default();
        let outcome = self.vault.enter().map_err(Error::from).and_then(|vault| {
            let mut round = Round {
                context: self.context,
                vault: &vault,
                host: &self.host,
                journal: &mut self.journal,
                tally: Tally::default(),
                distrust,
            };
            let outcome = round.run(due);
            tally = round.tally;
            outcome
        });
        self.has_new |= tally.stored > 0;
        if let Err(error) = &outcome
            && error.kind() != ErrorKind::Interrupted
        {
            let why = error.to_string();
            self.warn(&format!("the vault cannot be used: {why}"));
            self.journal.fail_all(&paths, self.context.now(), &why);
            self.total.failed += paths.len();
            self.vault_error = Some(why);
        } else if outcome.is_ok() {
            self.vault_error = None;
        }
        self.total.stored += tally.stored;
        self.total.unchanged += tally.unchanged;
        self.total.failed += tally.failed;
        self.context.progress.detail(&format!(
            "{count} due: {} stored, {} unchanged, {} failed, in {} ms",
            tally.stored,
            tally.unchanged,
            tally.failed,
            began.elapsed().as_millis()
        ));
        self.dirty = true;
        self.next_due = self.context.now();
        self.kept_house = None;
        let alerts = &self.config.alerts;
        let failed = outcome.is_err() || tally.failed > 0;
        let heartbeat = if failed { &alerts.heartbeat_failure } else { &alerts.heartbeat_success };
        if let Some(url) = heartbeat
            && !self.context.progress.interrupted()
        {
            self.send(Message::Heartbeat(url.clone()));
        }
    }

    /// Lets go of what the rules do not keep: when something new is there, and every hour, for all grow older.
    pub(super) fn forget(&mut self) {
        let now = self.context.now();
        if !forgetting::is_wanted(&self.config)
            || forgetting::is_in_doubt(&self.config, &self.journal)
            || self.context.progress.interrupted()
        {
            return;
        }
        let has_failed = self.journal.jobs.get(forgetting::JOB).is_some_and(|job| job.failures > 0);
        let is_due = self.is_due(forgetting::JOB, Some(&FORGET), now);
        if !is_due && (has_failed || !self.has_new) {
            return;
        }
        self.has_new = false;
        let monitor = Quiet::new(self.context.progress.stop_flag());
        let outcome = self.vault.enter().map_err(Error::from).and_then(|vault| {
            let here = (&self.host, &self.zone);
            forgetting::forget(&vault, &self.config, &self.databases, here, &self.context.clock, &monitor)
        });
        for warning in monitor.into_warnings() {
            if self.warned.insert(warning.clone()) {
                self.warn(&format!("{}: {warning}", forgetting::JOB));
            }
        }
        let outcome = outcome.map_err(|error| error.to_string());
        match outcome.as_ref().map(forgetting::sentence) {
            Ok(sentence) => sentence.iter().for_each(|sentence| self.say(sentence)),
            Err(why) => self.warn(&format!("{}: {why}", forgetting::JOB)),
        }
        self.journal.jobs.entry(forgetting::JOB.to_owned()).or_default().note(now, outcome.map(drop));
        self.dirty = true;
        self.kept_house = None;
    }

    /// Begins long work that is due, and takes in what is finished. Whether something is being done.
    pub(super) fn work_in_background(&mut self) -> bool {
        if let Some(finished) = self.background.as_ref().and_then(Background::poll) {
            self.background = None;
            self.take(finished);
        }
        if self.background.is_none() && !self.context.progress.interrupted() {
            let now = self.context.now();
            if let Some(work) = self.due_work(now) {
                self.begin(work, now);
            }
        }
        self.background.is_some()
    }

    /// Of all that is due, what has waited longest: one job that is always due must not keep others from their turn.
    fn due_work(&mut self, now: Timestamp) -> Option<Work> {
        // Before anything was ever stored there is nothing to verify.
        if !self.journal.databases.values().any(|record| record.kept_at.is_some()) {
            return None;
        }
        let check = self.config.check.clone();
        let mut due = Vec::new();
        if self.is_due("check", check.schedule.as_ref(), now) {
            due.push(Work::Check(check.read_data_subset));
        }
        if self.is_due("test-restore", check.test_restore.as_ref(), now) {
            due.push(Work::TestRestore(self.databases.keys().cloned().collect()));
        }
        if let Some(plan) = self.config.prune.clone()
            && !forgetting::is_in_doubt(&self.config, &self.journal)
            && self.is_due("prune", Some(&plan.schedule), now)
        {
            due.push(Work::Prune(plan.request));
        }
        for plan in self.config.syncs.clone() {
            if self.is_due(&sync_job(&plan), Some(&plan.schedule), now) {
                due.push(Work::Sync(plan));
            }
        }
        due.into_iter().min_by_key(|work| self.journal.jobs.get(&work.job()).and_then(|job| job.attempted))
    }

    fn is_due(&mut self, job: &str, schedule: Option<&Schedule>, now: Timestamp) -> bool {
        let Some(schedule) = schedule else { return false };
        let record = self.journal.jobs.entry(job.to_owned()).or_default();
        record.settle(now);
        let timing = Timing { schedule: schedule.clone(), delay: Duration::ZERO };
        planner::decide(&timing, &record.memory(), now, &self.zone) == Answer::Now
    }

    fn begin(&mut self, work: Work, now: Timestamp) {
        let job = work.job();
        let places = self.context.places.uncounted();
        match self.context.open_store_with(&places) {
            Ok(store) => {
                self.say(&format!("{job} begins"));
                let means = Means {
                    store,
                    places,
                    unlocker: Arc::clone(&self.unlocker),
                    folders: self.context.folders(),
                    host: self.host.clone(),
                    stop: self.context.progress.stop_flag(),
                };
                self.background = Some(Background::start(work, means));
            }
            Err(error) => {
                self.journal.jobs.entry(job).or_default().note(now, Err(error.to_string()));
            }
        }
        self.dirty = true;
    }

    fn take(&mut self, finished: Finished) {
        let Finished { job, began, outcome, tested, warnings } = finished;
        for warning in warnings {
            self.warn(&format!("{job}: {warning}"));
        }
        for test in tested {
            let Some(record) = self.journal.databases.get_mut(&test.path) else { continue };
            let snapshot_id = test.snapshot.to_string();
            let test = TestRecord { snapshot_id, at: test.at, error: test.error };
            if test.error.is_none() {
                record.proven = Some(test.clone());
            }
            record.tested = Some(test);
        }
        match &outcome {
            Ok(sentence) => self.say(&format!("{job}: {sentence}")),
            Err(_) if self.context.progress.interrupted() => self.say(&format!("{job} is given up")),
            Err(why) => self.warn(&format!("{job}: {why}")),
        }
        // Work that was abandoned because the service stops will be due again.
        if !self.context.progress.interrupted() {
            self.journal.jobs.entry(job).or_default().note(began, outcome.map(drop));
        }
        self.dirty = true;
        self.kept_house = None;
    }

    /// Alerts, figures and the journal, when it is time.
    pub(super) fn keep_house(&mut self) {
        for why in self.courier.failures().collect::<Vec<_>>() {
            self.warn(&why);
        }
        if self.kept_house.is_some_and(|last| last.elapsed() < HOUSEKEEPING) {
            return;
        }
        self.kept_house = Some(Instant::now());
        self.facts = self.measure();
        let conditions = self.conditions();
        let now = self.context.now();
        let before = self.journal.alerts.clone();
        let notices = alerts::settle(&mut self.journal.alerts, &conditions, now, self.config.alerts.repeat);
        self.dirty |= before != self.journal.alerts;
        for notice in notices {
            match notice.event {
                Turn::Resolved => self.say(&format!("over: {}", notice.message)),
                Turn::Raised | Turn::Repeated => self.warn(&format!("alert: {}", notice.message)),
            }
            if let Some(url) = self.config.alerts.webhook.clone()
                && let Ok(body) = serde_json::to_vec(&notice)
            {
                self.send(Message::Webhook(url, body));
            }
        }
        self.publish_figures();
        self.write_journal();
    }

    fn publish_figures(&mut self) {
        let text = metrics::render(&self.journal, &self.facts);
        if let Some(file) = &self.config.metrics.textfile
            && let Err(error) = metrics::write_file(file, &text)
        {
            self.warn(&format!("{} cannot be written: {error}", file.display()));
        }
        if let Some(server) = &self.server {
            server.publish(text);
        }
    }

    fn write_journal(&mut self) {
        if std::mem::take(&mut self.dirty)
            && let Err(error) = self.journal.write(&self.journal_file)
        {
            self.warn(&format!("the journal {} cannot be written: {error}", self.journal_file.display()));
        }
    }

    fn send(&self, message: Message) {
        if let Err(why) = self.courier.send(message) {
            self.warn(&why);
        }
    }

    fn measure(&mut self) -> Facts {
        let place = self.context.place().ok();
        let free = place.and_then(|place| rustix::fs::statvfs(&place.folder).ok());
        Facts {
            vault_bytes: self.vault.enter().ok().and_then(|vault| status::bytes(&vault).ok()),
            vault_limit: self.config.alerts.vault_size,
            disk_free: free.map(|free| free.f_bavail.saturating_mul(free.f_frsize)),
            config_ok: self.config_error.is_none(),
            started: self.facts.started,
        }
    }

    /// Everything that is wrong at this moment.
    fn conditions(&self) -> Vec<Condition> {
        let now = self.context.now();
        let mut conditions = super::conditions::of_journal(&self.journal, now, |path| {
            self.databases.get(path).and_then(|number| self.config.databases[*number].policy.max_age)
        });
        conditions.extend(super::conditions::of_facts(&self.facts, self.config.alerts.disk_free));
        conditions
            .extend(super::conditions::of_errors(self.config_error.as_ref(), self.vault_error.as_ref()));
        conditions
    }

    /// Lets go of everything: background work is abandoned at its next step, and what waits to be told has a moment.
    pub(super) fn stop(mut self) {
        let patience = Instant::now() + Duration::from_secs(10);
        while let Some(background) = &self.background
            && Instant::now() < patience
            && self.context.progress.interrupted()
        {
            match background.poll() {
                Some(finished) => {
                    self.background = None;
                    self.take(finished);
                }
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        }
        self.kept_house = None;
        self.keep_house();
        self.write_journal();
        let patience = self.config.alerts.timeout.min(Duration::from_secs(5));
        let Self { courier, context, .. } = self;
        for why in courier.finish(patience) {
            context.progress.warn(&why);
        }
    }
}
