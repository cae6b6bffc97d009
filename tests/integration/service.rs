//! Scheduled runs as processes: what they do by themselves, what they survive, and whom they tell.
//!
//! The long run is `PAGEVAULT_SERVICE_SECONDS=120 PAGEVAULT_SERVICE_DATABASES=50 cargo test --test integration
//! service::many_databases`.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::children;
use super::databases::{ROWS, bytes_of, execute};

/// A home with a vault, and a folder for databases.
struct World {
    folder: tempfile::TempDir,
}

impl World {
    fn new(config: &str) -> Self {
        let world = Self { folder: tempfile::tempdir().unwrap() };
        fs::create_dir_all(world.path("db")).unwrap();
        world.configure(config);
        let made = world.pagevault(&["init", "--generate-key-file", "k", "--vault", "v"]);
        assert!(made.status.success(), "{made:?}");
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Replaces the configuration, as an editor does. `{dir}` is the world's folder.
    fn configure(&self, config: &str) {
        let vault = "[vault]\npath = 'v'\nkey_file = 'k'\n";
        let text = format!("{vault}{}", config.replace("{dir}", &self.folder.path().display().to_string()));
        fs::write(self.path("new.toml"), text).unwrap();
        fs::rename(self.path("new.toml"), self.path("config.toml")).unwrap();
    }

    fn database(&self, name: &str) -> PathBuf {
        let path = self.path("db").join(name);
        execute(&path, ROWS);
        path
    }

    fn command(&self, arguments: &[&str]) -> Command {
        // Not quiet, as others are: what a service says is looked at.
        let program = children::pagevault(self.folder.path()).get_program().to_owned();
        let mut command = Command::new(program);
        command.env_clear().env("HOME", self.folder.path()).arg("--no-progress");
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        if !arguments.contains(&"init") {
            command.env("PAGEVAULT_CONFIG", self.path("config.toml"));
        }
        command.current_dir(self.folder.path()).args(arguments);
        command
    }

    fn pagevault(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let output = self.pagevault(arguments);
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{arguments:?}: {error}: {}", text(&output.stderr)))
    }

    fn once(&self) -> Output {
        self.pagevault(&["run", "--once"])
    }

    fn service(&self) -> Service {
        let mut command = self.command(&["run"]);
        let stderr = fs::File::create(self.path("log")).unwrap();
        Service(
            command
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(stderr)
                .process_group(0)
                .spawn()
                .unwrap(),
        )
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// Snapshots by name of the database.
    fn snapshots(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for snapshot in self.json(&["list", "--json"]).as_array().unwrap() {
            *counts.entry(snapshot["database"].as_str().unwrap().to_owned()).or_default() += 1;
        }
        counts
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A running service that does not outlive its test.
struct Service(Child);

impl Service {
    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }

    /// Asks it to end; how long that took.
    fn stop(mut self) -> Duration {
        let started = Instant::now();
        self.signal(Signal::TERM);
        let status = self.0.wait().unwrap();
        assert!(status.success(), "{status}");
        started.elapsed()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until something holds.
fn until(what: &str, world: &World, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < Duration::from_secs(60), "not yet: {what}\n{}", world.log());
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A web server that answers, or does not, and remembers what it was told.
struct Web {
    url: String,
    told: Arc<Mutex<Vec<String>>>,
}

impl Web {
    fn start(answers: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let told: Arc<Mutex<Vec<String>>> = Arc::default();
        let heard = Arc::clone(&told);
        std::thread::spawn(move || {
            let mut silent = Vec::new();
            for stream in listener.incoming().flatten() {
                if answers {
                    heard.lock().unwrap().push(hear(stream));
                } else {
                    heard.lock().unwrap().push(String::new());
                    silent.push(stream);
                }
            }
        });
        Self { url, told }
    }

    fn told(&self) -> Vec<String> {
        self.told.lock().unwrap().clone()
    }
}

fn hear(mut stream: TcpStream) -> String {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    let is_whole = |request: &[u8]| {
        let text = text(request).to_lowercase();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
        length.is_none_or(|length| body.len() >= length.trim().parse().unwrap())
    };
    while !is_whole(&request) {
        let read = stream.read(&mut buffer).unwrap_or(0);
        if read == 0 {
            break;
        }
        request.extend_from_slice(&buffer[..read]);
    }
    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    text(&request)
}

/// Processes would be nearer to life; connections of other threads are as good for `SQLite`, and cheaper.
struct Writers {
    stop: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<u64>>,
}

impl Writers {
    fn start(databases: &[PathBuf]) -> Self {
        let stop: Arc<AtomicBool> = Arc::default();
        // A few threads go round: with one each, fifty writers would be a test of the scheduler.
        let threads = databases
            .chunks(databases.len().div_ceil(4))
            .map(|own| {
                let (own, stop) = (own.to_vec(), Arc::clone(&stop));
                std::thread::spawn(move || write_until(&own, &stop))
            })
            .collect();
        Self { stop, threads }
    }

    fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    }
}

/// Each commit keeps the sum of two counters at zero: a torn image would show.
fn write_until(databases: &[PathBuf], stop: &AtomicBool) -> u64 {
    let connections: Vec<Connection> = databases
        .iter()
        .map(|path| {
            let connection = Connection::open(path).unwrap();
            connection.busy_timeout(Duration::from_secs(30)).unwrap();
            connection
        })
        .collect();
    let mut commits = 0;
    while !stop.load(Ordering::Relaxed) {
        for connection in &connections {
            connection
                .execute_batch(
                    "BEGIN IMMEDIATE; UPDATE sums SET a = a + 1; INSERT INTO t(x, y) VALUES(randomblob(200), 'new');
                     UPDATE sums SET b = b - 1; COMMIT;",
                )
                .unwrap();
            commits += 1;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    commits
}

fn number(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

#[test]
fn many_databases_under_writers_are_kept_and_restore_whole() {
    let seconds = number("PAGEVAULT_SERVICE_SECONDS", 6);
    let count = number("PAGEVAULT_SERVICE_DATABASES", 8);
    let world = World::new(
        "[[database]]\nglob = '{dir}/db/*.db'\nschedule = 'every 1s'\n[check]\nschedule = 'every 2s'\n\
         test_restore = 'every 3s'\n",
    );
    let paths: Vec<PathBuf> = (0..count).map(|n| world.database(&format!("d{n}.db"))).collect();
    for (number, path) in paths.iter().enumerate() {
        let mode = if number % 2 == 0 { "WAL" } else { "DELETE" };
        let sums = "CREATE TABLE sums(a INTEGER, b INTEGER); INSERT INTO sums VALUES(0, 0);";
        execute(path, &format!("PRAGMA journal_mode={mode}; {sums}"));
    }
    let writers = Writers::start(&paths);
    let service = world.service();
    std::thread::sleep(Duration::from_secs(seconds));
    until("each has a snapshot, and one was tested", &world, || {
        world.snapshots().len() == paths.len() && world.log().contains("restored as a test")
    });
    let commits = writers.stop();
    let stopped_in = service.stop();
    assert!(stopped_in < Duration::from_secs(15), "{stopped_in:?}");
    let snapshots = world.json(&["list", "--json"]);
    let snapshots = snapshots.as_array().unwrap();
    let step = (snapshots.len() / 60).max(1);
    for snapshot in snapshots.iter().step_by(step) {
        let id = snapshot["snapshot_id"].as_str().unwrap();
        let target = world.path("restored.db");
        let _ = fs::remove_file(&target);
        let restored = world.pagevault(&["restore", id, "--to", target.to_str().unwrap()]);
        assert!(restored.status.success(), "{}", text(&restored.stderr));
        let connection = Connection::open(&target).unwrap();
        let torn: i64 = connection.query_row("SELECT a + b FROM sums", (), |row| row.get(0)).unwrap();
        assert_eq!(torn, 0, "snapshot {id} is torn");
    }
    let checked = world.pagevault(&["check", "--read-data"]);
    assert!(checked.status.success(), "{}", text(&checked.stdout));
    let log = world.log();
    let complaints: Vec<&str> = log.lines().filter(|line| line.starts_with("warning")).collect();
    assert!(complaints.is_empty(), "{complaints:#?}");
    println!(
        "{count} databases, {seconds} s, {commits} commits, {} snapshots, stopped in {stopped_in:?}",
        snapshots.len()
    );
}

#[test]
fn killed_at_any_moment_it_leaves_a_whole_vault_and_goes_on() {
    let rounds = number("PAGEVAULT_SERVICE_KILLS", 4);
    let world = World::new("[[database]]\nglob = '{dir}/db/*.db'\nschedule = 'every 1s'\n");
    let paths: Vec<PathBuf> = (0..3).map(|n| world.database(&format!("d{n}.db"))).collect();
    for path in &paths {
        execute(path, "CREATE TABLE sums(a INTEGER, b INTEGER); INSERT INTO sums VALUES(0, 0);");
    }
    let writers = Writers::start(&paths);
    for round in 0..rounds {
        let mut service = world.service();
        std::thread::sleep(Duration::from_millis(900 + 137 * round));
        if round % 2 == 0 {
            service.0.kill().unwrap();
            service.0.wait().unwrap();
        } else {
            assert!(service.stop() < Duration::from_secs(15));
        }
    }
    writers.stop();
    let output = world.once();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(world.snapshots().len(), 3);
    let checked = world.pagevault(&["check", "--read-data", "--test-restore"]);
    assert!(checked.status.success(), "{}", text(&checked.stdout));
}

#[test]
fn the_failure_of_one_is_not_that_of_others() {
    let world = World::new(
        "[[database]]\nglob = '{dir}/db/*.db'\nschedule = 'every 1h'\n[[database]]\npath = '{dir}/db/no.txt'\n",
    );
    world.database("a.db");
    world.database("b.db");
    fs::write(world.path("db/no.txt"), "this is no database, and long enough to be looked at").unwrap();
    let output = world.once();
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
    assert_eq!(world.snapshots().len(), 2);
    let status = world.json(&["status", "--json"]);
    let failed: Vec<&Value> =
        status["databases"].as_array().unwrap().iter().filter(|row| row["last_result"] == "failed").collect();
    assert_eq!(failed.len(), 1);
    assert!(failed[0]["error"].as_str().unwrap().contains("no.txt"), "{failed:?}");
    assert_eq!(failed[0]["database"], "no");
    // Nothing is due now but what failed, and that not yet.
    assert!(world.once().status.success());
    assert_eq!(world.snapshots().values().sum::<usize>(), 2);
}

#[test]
fn an_unchanged_database_is_looked_at_and_not_stored_again() {
    let world = World::new("[[database]]\npath = '{dir}/db/a.db'\nschedule = 'every 1s'\n");
    let path = world.database("a.db");
    // A file counts as settled when it was left alone for a moment.
    std::thread::sleep(Duration::from_millis(100));
    assert!(world.once().status.success());
    std::thread::sleep(Duration::from_millis(1100));
    assert!(world.once().status.success());
    let status = world.json(&["status", "--json"]);
    let row = &status["databases"][0];
    assert_eq!((row["last_result"].as_str(), row["snapshots"].as_u64()), (Some("unchanged"), Some(1)));
    assert!(row["kept_at"].as_str() > row["newest_at"].as_str());
    execute(&path, "DELETE FROM t WHERE id < 10");
    std::thread::sleep(Duration::from_millis(1100));
    assert!(world.once().status.success());
    assert_eq!(world.snapshots()["a"], 2);
}

#[test]
fn hooks_know_what_happens_and_decide_whether_it_does() {
    let world = World::new(
        "[[database]]\npath = '{dir}/db/good.db'\n[database.hooks]\n\
         before = 'echo \"$PAGEVAULT_EVENT $PAGEVAULT_DATABASE\" >> {dir}/told'\n\
         after = 'echo \"$PAGEVAULT_EVENT $PAGEVAULT_SNAPSHOT $PAGEVAULT_STORED_BYTES\" >> {dir}/told'\n\
         [[database]]\npath = '{dir}/db/held.db'\n[database.hooks]\nbefore = 'exit 7'\n\
         failed = 'echo \"$PAGEVAULT_EVENT $PAGEVAULT_ERROR\" >> {dir}/told'\n\
         [[database]]\npath = '{dir}/db/slow.db'\n[database.hooks]\nbefore = 'sleep 600'\ntimeout = '1s'\n\
         [[database]]\npath = '{dir}/db/late.db'\n[database.hooks]\nafter = 'exit 1'\n",
    );
    for name in ["good.db", "held.db", "slow.db", "late.db"] {
        world.database(name);
    }
    let started = Instant::now();
    let output = world.once();
    assert!(started.elapsed() < Duration::from_secs(60));
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
    assert_eq!(world.snapshots().keys().collect::<Vec<_>>(), ["good", "late"]);
    let told = fs::read_to_string(world.path("told")).unwrap();
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(lines[0], "before good");
    let words: Vec<&str> = lines[1].split(' ').collect();
    assert_eq!((words[0], words[1].len()), ("after", 32));
    assert!(words[2].parse::<u64>().unwrap() > 0);
    assert!(
        lines[2].starts_with("failed ")
            && lines[2].ends_with("the hook `before` failed: it ended with code 7")
    );
    let status = world.json(&["status", "--json"]);
    let alerts = status["alerts"].to_string();
    assert!(alerts.contains("killed after 1 s") && alerts.contains("`after` failed"), "{alerts}");
}

#[test]
fn a_web_server_that_hangs_delays_nothing() {
    let web = Web::start(false);
    let world = World::new(&format!(
        "[[database]]\nglob = '{{dir}}/db/*.db'\nschedule = 'every 1s'\n[alerts]\nwebhook = '{0}/hook'\n\
         heartbeat_success = '{0}/ok'\nheartbeat_failure = '{0}/bad'\ntimeout = '1s'\nvault_size = '1KiB'\n",
        web.url
    ));
    let path = world.database("a.db");
    let service = world.service();
    for wanted in 1..4 {
        execute(&path, "INSERT INTO t(x) VALUES(randomblob(99))");
        until("one more snapshot", &world, || {
            world.snapshots().get("a").is_some_and(|count| *count >= wanted)
        });
    }
    until("the server was asked", &world, || !web.told().is_empty());
    assert!(service.stop() < Duration::from_secs(20));
}

#[test]
fn people_are_told_when_it_begins_and_when_it_is_over() {
    let web = Web::start(true);
    let config = |limit: &str| {
        format!(
            "[[database]]\nglob = '{{dir}}/db/*.db'\nschedule = 'every 1s'\n[alerts]\nwebhook = '{0}/hook'\n\
             heartbeat_success = '{0}/ok'\nheartbeat_failure = '{0}/bad'\nvault_size = '{limit}'\n[service]\n\
             rescan = '1s'\n",
            web.url
        )
    };
    let world = World::new(&config("1KiB"));
    let path = world.database("a.db");
    let service = world.service();
    let told = |words: &[&str]| {
        let all = web.told();
        all.iter().any(|request| words.iter().all(|word| request.contains(word)))
    };
    until("a heartbeat", &world, || told(&["GET /ok "]));
    until("the size", &world, || told(&["POST /hook ", "\"alert\":\"vault_size\"", "\"event\":\"raised\""]));
    // A changed file is noticed; nothing else asks for it.
    world.configure(&config("1GiB"));
    until("the end of it", &world, || told(&["\"alert\":\"vault_size\"", "\"event\":\"resolved\""]));
    // A new file is picked up; one that goes is told of.
    world.database("b.db");
    until("the new one", &world, || world.snapshots().contains_key("b"));
    fs::remove_file(&path).unwrap();
    world.configure(&config("2GiB"));
    until("the one that is gone", &world, || told(&["\"alert\":\"vanished\"", "\"object\":\"a\""]));
    // A wrong configuration changes nothing and is told of.
    world.configure("[[database]]\npaht = 'x'\n");
    service.signal(Signal::HUP);
    until("the mistake", &world, || told(&["\"alert\":\"configuration\"", "paht"]));
    let before = world.snapshots_of_log("b");
    execute(&world.path("db/b.db"), "INSERT INTO t(x) VALUES(1)");
    until("it goes on", &world, || world.snapshots_of_log("b") > before);
    service.stop();
}

impl World {
    /// By what the service says: the configuration may be wrong on purpose.
    fn snapshots_of_log(&self, name: &str) -> usize {
        self.log().lines().filter(|line| line.starts_with(&format!("{name}: snapshot "))).count()
    }
}

#[test]
fn copies_are_kept_up_to_date_and_are_vaults() {
    let world = World::new(
        "[[database]]\npath = '{dir}/db/a.db'\n[[sync]]\ndestination = 'copy'\nschedule = 'every 1h'\n\
         [[sync]]\ndestination = 'k'\n",
    );
    world.database("a.db");
    world.once();
    let copied = world.json(&["list", "--json", "--vault", "copy"]);
    assert_eq!(copied, world.json(&["list", "--json"]));
    // The other destination is a file.
    let alerts = world.json(&["status", "--json"])["alerts"].to_string();
    assert!(alerts.contains("sync ") && alerts.contains("is a file"), "{alerts}");
}

#[test]
fn only_one_service_keeps_a_vault() {
    let world = World::new("[[database]]\npath = '{dir}/db/a.db'\n");
    world.database("a.db");
    let service = world.service();
    until("it runs", &world, || world.snapshots().len() == 1);
    let second = world.pagevault(&["run"]);
    assert_eq!(second.status.code(), Some(7), "{}", text(&second.stderr));
    assert!(world.once().status.success(), "a timer finds its work done");
    service.stop();
}

const PARSE: &str = "
import sys
from prometheus_client.parser import text_string_to_metric_families as parse
for family in parse(sys.stdin.read()):
    for sample in family.samples:
        print(sample.name, sorted(sample.labels.items()), sample.value)
";

#[test]
fn prometheus_understands_the_figures() {
    let world = World::new(
        "[[database]]\npath = '{dir}/db/a.db'\n[check]\nschedule = 'every 1h'\ntest_restore = 'every 1h'\n\
         [metrics]\ntextfile = '{dir}/out/pagevault.prom'\n",
    );
    world.database("a.db");
    let output = world.once();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let status = world.json(&["status", "--json"]);
    assert_eq!(status["databases"][0]["proven_restore"]["error"], Value::Null);
    assert!(status["databases"][0]["proven_restore"]["at"].is_string());
    let figures = bytes_of(&world.path("out/pagevault.prom"));
    let installed = Command::new("python3").args(["-c", "import prometheus_client"]).output();
    if !installed.is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED: metrics are not parsed: pip install prometheus_client");
        return;
    }
    let mut python = Command::new("python3");
    let mut child = python
        .args(["-c", PARSE])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&figures).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let samples = text(&output.stdout);
    for expected in [
        "pagevault_snapshots_total",
        "pagevault_database_proven_restore_timestamp_seconds",
        "('job', 'check')",
    ] {
        assert!(samples.contains(expected), "{expected}: {samples}");
    }
}

#[test]
fn systemd_accepts_the_units() {
    let world = World::new("[[database]]\npath = '{dir}/db/a.db'\n");
    let units = world.path("units");
    let folder = units.to_str().unwrap();
    for arguments in [
        vec!["schedule", "install", "--units", folder],
        vec!["schedule", "install", "--by", "timer", "--units", folder],
    ] {
        let output = world.pagevault(&arguments);
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert!(text(&output.stdout).contains("daemon-reload"));
        let verified = Command::new("systemd-analyze")
            .arg("verify")
            .args(fs::read_dir(&units).unwrap().map(|entry| entry.unwrap().path()))
            .output();
        match verified {
            Ok(output) => {
                let said = text(&output.stderr);
                let ours: Vec<&str> = said.lines().filter(|line| line.contains("pagevault")).collect();
                assert!(output.status.success() && ours.is_empty(), "{said}");
            }
            Err(error) => eprintln!("SKIPPED: units are not verified: systemd-analyze: {error}"),
        }
    }
    assert!(
        text(&world.pagevault(&["schedule", "show", "--units", folder]).stdout).contains("pagevault.timer")
    );
    let other = units.join("pagevault.timer");
    fs::write(&other, "[Timer]\n").unwrap();
    assert_eq!(
        world.pagevault(&["schedule", "install", "--by", "timer", "--units", folder]).status.code(),
        Some(9)
    );
    let removed = world.pagevault(&["schedule", "uninstall", "--units", folder]);
    assert!(text(&removed.stdout).contains("removed "));
    assert!(other.exists() && !units.join("pagevault.service").exists(), "others' units stay");
}
