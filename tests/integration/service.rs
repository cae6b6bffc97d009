//! Scheduled runs as processes: what they do by themselves, what they survive, and whom they tell.
//!
//! The long run is `PAGEVAULT_SERVICE_SECONDS=120 PAGEVAULT_SERVICE_DATABASES=50 cargo test --test integration
//! service::many_databases`.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
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

/// Fills a database with what no delta makes small.
fn renew(path: &std::path::Path, round: u32) {
    execute(
        path,
        &format!(
            "CREATE TABLE IF NOT EXISTS big(id INTEGER PRIMARY KEY, x BLOB);
             REPLACE INTO big SELECT id, randomblob(4000) FROM t WHERE id <= 50; PRAGMA user_version = {round};"
        ),
    );
}

fn packs_of(world: &World) -> usize {
    let folders = fs::read_dir(world.path("v/packs")).unwrap();
    folders.map(|folder| fs::read_dir(folder.unwrap().path()).unwrap().count()).sum()
}

#[test]
fn what_the_rules_let_go_is_forgotten_and_freed() {
    let world = World::new(
        "[retention]\nkeep_last = 2\nprune = 'every 1s'\ngrace = '0s'\nmax_unused = '1%'\n\
         [[database]]\npath = '{dir}/db/a.db'\nschedule = 'every 1s'\n\
         [[database]]\npath = '{dir}/db/all.db'\nschedule = 'every 1s'\n[database.retention]\nkeep_all = true\n\
         [[database]]\npath = '{dir}/db/one.db'\nschedule = 'every 1s'\n[database.retention]\nkeep_last = 1\n",
    );
    let names = ["a", "all", "one"];
    let paths = names.map(|name| world.database(&format!("{name}.db")));
    // A snapshot made by hand, and one of a database that is not configured: no rule speaks of them.
    let other = world.database("other.db");
    for path in [&paths[0], &other, &other] {
        let made = world.pagevault(&["snapshot", path.to_str().unwrap()]);
        assert!(made.status.success(), "{}", text(&made.stderr));
    }
    let service = world.service();
    for round in 1..6 {
        let before: Vec<usize> = names.iter().map(|name| world.snapshots_of_log(name)).collect();
        paths.iter().for_each(|path| renew(path, round));
        until("a snapshot of each", &world, || {
            names.iter().zip(&before).all(|(name, before)| world.snapshots_of_log(name) > *before)
        });
    }
    until("the rules", &world, || {
        let there = world.snapshots();
        there["a"] == 3 && there["one"] == 1 && there["all"] >= 5 && there["other"] == 2
    });
    // Of `all` every image is needed; of the others' nothing but the last.
    let needed = world.snapshots().values().sum::<usize>();
    until("packs that go", &world, || packs_of(&world) <= 2 * needed);
    until("freed packs are told of", &world, || {
        world.log().lines().any(|line| line.starts_with("prune: ") && !line.contains(" 0 packs"))
    });
    service.stop();
    let checked = world.pagevault(&["check", "--read-data", "--test-restore"]);
    assert!(checked.status.success(), "{}", text(&checked.stdout));
    assert_eq!(world.json(&["status", "--json"])["alerts"], serde_json::json!([]));
    let log = world.log();
    let complaints: Vec<&str> = log.lines().filter(|line| line.starts_with("warning")).collect();
    assert!(complaints.is_empty(), "{complaints:#?}");
}

#[test]
fn beside_a_service_at_rest_a_prune_is_alone() {
    let world = World::new("[[database]]\npath = '{dir}/db/a.db'\nschedule = 'every 1h'\n");
    let path = world.database("a.db");
    let service = world.service();
    until("its first round", &world, || world.snapshots_of_log("a") == 1);
    for round in 1..4 {
        renew(&path, round);
        assert!(world.pagevault(&["snapshot", path.to_str().unwrap()]).status.success());
    }
    assert!(world.pagevault(&["forget", "--keep-last", "1", "--yes"]).status.success());
    let pruned = world.json(&["prune", "--grace", "0s", "--max-unused", "1%", "--yes", "--json"]);
    assert!(pruned["deleted"]["packs"].as_u64() > Some(0), "{pruned}");
    assert_eq!(pruned["condemned"]["packs"], 0, "{pruned}");
    service.stop();
    // The service goes on with what it remembered of the vault.
    assert!(world.pagevault(&["check", "--read-data"]).status.success());
}

#[test]
fn a_service_that_remembers_what_a_prune_took_stores_it_anew() {
    let world = World::new("[[database]]\npath = '{dir}/db/a.db'\nschedule = 'every 1s'\n");
    let path = world.database("a.db");
    let service = world.service();
    until("its first round", &world, || world.snapshots_of_log("a") == 1);
    let image = bytes_of(&path);
    renew(&path, 1);
    until("its second", &world, || world.snapshots_of_log("a") == 2);
    assert!(world.pagevault(&["forget", "--keep-last", "1", "--yes"]).status.success());
    let pruned = world.json(&["prune", "--grace", "0s", "--max-unused", "0.1%", "--yes", "--json"]);
    assert!(pruned["deleted"]["packs"].as_u64() > Some(0), "{pruned}");
    // What was there first is there again, chunk by chunk.
    let back = world.path("back.db");
    fs::write(&back, &image).unwrap();
    execute(&path, &format!("ATTACH '{}' AS back; DROP TABLE big; PRAGMA user_version = 0;", back.display()));
    until("its third", &world, || world.snapshots_of_log("a") >= 3);
    service.stop();
    let checked = world.pagevault(&["check", "--read-data", "--test-restore"]);
    assert!(checked.status.success(), "{}", text(&checked.stdout));
}

#[test]
fn a_prune_that_fails_is_an_alert_and_stops_nothing() {
    let world = World::new(
        "[retention]\nkeep_last = 1\nprune = 'every 1s'\n[[database]]\npath = '{dir}/db/a.db'\nschedule = 'every 1s'\n",
    );
    let path = world.database("a.db");
    let service = world.service();
    until("the first round", &world, || world.snapshots_of_log("a") == 1);
    // A prune cannot know what a manifest needs that it cannot read.
    fs::write(world.path("v/snapshots").join("5".repeat(64)), "no manifest").unwrap();
    until("the alert", &world, || world.log().contains("alert: prune failed: "));
    renew(&path, 1);
    until("snapshots go on", &world, || world.snapshots_of_log("a") == 2);
    until("and so do the rules", &world, || world.snapshots().get("a") == Some(&1));
    service.stop();
    let alerts = world.json(&["status", "--json"])["alerts"].to_string();
    assert!(alerts.contains("snapshots object"), "{alerts}");
}

/// Whom permissions bind: the folder of the log cannot be written to.
#[test]
fn a_forget_that_fails_is_an_alert_and_stops_nothing() {
    if !children::bound_by_permissions("service::a_forget_that_fails_is_an_alert_and_stops_nothing") {
        return;
    }
    if children::pagevault(std::path::Path::new("/")).arg("--version").output().is_err() {
        eprintln!("SKIPPED: nobody may not start the program where it is");
        return;
    }
    let allow = |world: &World, mode| {
        fs::set_permissions(world.path("v/log"), fs::Permissions::from_mode(mode)).unwrap();
    };
    let world = World::new(
        "[[database]]\npath = '{dir}/db/a.db'\nschedule = 'every 1s'\n[database.retention]\nkeep_last = 1\n\
         [[database]]\npath = '{dir}/db/b.db'\nschedule = 'every 1s'\n",
    );
    let paths = ["a.db", "b.db"].map(|name| world.database(name));
    let service = world.service();
    until("the first round", &world, || world.snapshots_of_log("b") == 1);
    allow(&world, 0o500);
    for round in 1..3 {
        paths.iter().for_each(|path| renew(path, round));
        let wanted = usize::try_from(round).unwrap() + 1;
        until("snapshots go on", &world, || {
            world.snapshots_of_log("a") >= wanted && world.snapshots_of_log("b") >= wanted
        });
    }
    until("the alert", &world, || world.log().contains("alert: forget failed: "));
    service.stop();
    allow(&world, 0o700);
    assert!(world.snapshots()["a"] > 1);
}

#[test]
fn what_is_wrong_with_the_vault_is_told_and_nothing_is_let_go() {
    let web = Web::start(true);
    let world = World::new(&format!(
        "[retention]\nkeep_last = 1\nprune = 'every 1s'\ngrace = '0s'\n[[database]]\npath = '{{dir}}/db/a.db'\n\
         schedule = 'every 1s'\n[check]\nschedule = 'every 1s'\nread_data_subset = '100%'\ntest_restore = 'every 1s'\n\
         [alerts]\nwebhook = '{0}/hook'\nheartbeat_success = '{0}/ok'\nheartbeat_failure = '{0}/bad'\n\
         disk_free = '1000TiB'\n",
        web.url
    ));
    let path = world.database("a.db");
    let service = world.service();
    let told = |words: &[&str]| {
        let all = web.told();
        all.iter().any(|request| words.iter().all(|word| request.contains(word)))
    };
    until("little space", &world, || told(&["\"alert\":\"disk_space\"", "\"event\":\"raised\""]));
    until("a proof", &world, || {
        world.json(&["status", "--json"])["databases"][0]["proven_restore"]["at"].is_string()
    });
    // A bit of every pack is flipped.
    for folder in fs::read_dir(world.path("v/packs")).unwrap() {
        for pack in fs::read_dir(folder.unwrap().path()).unwrap() {
            let pack = pack.unwrap().path();
            let mut bytes = fs::read(&pack).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::write(pack, bytes).unwrap();
        }
    }
    until("the check", &world, || told(&["\"alert\":\"check_failed\""]));
    until("the test restore", &world, || told(&["\"alert\":\"test_restore_failed\"", "\"object\":\"a\""]));
    until("it in the status", &world, || {
        world.json(&["status", "--json"])["databases"][0]["last_test"]["error"].is_string()
    });
    // In doubt the old is kept: it may be the last that is whole.
    let before = world.snapshots_of_log("a");
    renew(&path, 1);
    until("snapshots go on", &world, || world.snapshots_of_log("a") > before);
    std::thread::sleep(Duration::from_secs(2));
    assert!(world.snapshots()["a"] > 1, "{}", world.log());
    // A database that fails turns the heartbeat.
    fs::write(&path, "no database any more, and long enough to be looked at").unwrap();
    until("the other heartbeat", &world, || told(&["GET /bad "]));
    service.stop();
}

/// Machines with other homes know what one of them has proven, by the log of the vault.
#[test]
fn what_was_proven_is_known_elsewhere() {
    let world = World::new("[[database]]\npath = '{dir}/db/a.db'\n");
    let path = world.database("a.db");
    let ids: Vec<String> = (0..4)
        .map(|round| {
            renew(&path, round);
            let made = world.json(&["snapshot", path.to_str().unwrap(), "--json"]);
            made["snapshot_id"].as_str().unwrap().to_owned()
        })
        .collect();
    let elsewhere = |arguments: &[&str]| {
        let home = world.path("elsewhere");
        fs::create_dir_all(&home).unwrap();
        let mut command = world.command(arguments);
        command.env("HOME", &home).env_remove("PAGEVAULT_CONFIG");
        command.args(["--vault", "v", "--key-file", "k", "--json"]).output().unwrap()
    };
    let status = |output: Output| -> Value { serde_json::from_slice(&output.stdout).unwrap() };
    let doctor = text(&elsewhere(&["doctor"]).stdout);
    assert!(doctor.contains("\"check\":\"test-restore\""), "{doctor}");
    assert_eq!(status(elsewhere(&["status"]))["databases"][0]["proven_restore"], Value::Null);
    assert!(world.pagevault(&["check", "--test-restore", &ids[1]]).status.success());
    let known = status(elsewhere(&["status"]));
    assert_eq!(known["databases"][0]["proven_restore"]["snapshot_id"], ids[1], "{known}");
    assert_eq!(known["databases"][0]["last_test"]["error"], Value::Null);
    let doctor = text(&elsewhere(&["doctor"]).stdout);
    assert!(!doctor.contains("\"check\":\"test-restore\""), "{doctor}");
    // The newest proven one stays beside the newest.
    assert!(elsewhere(&["forget", "--keep-last", "1", "--yes"]).status.success());
    let listed = world.json(&["list", "--json"]);
    let there: Vec<&str> =
        listed.as_array().unwrap().iter().map(|one| one["snapshot_id"].as_str().unwrap()).collect();
    assert_eq!(there, [&ids[1], &ids[3]]);
    // A snapshot that is verified when it is made is proven.
    renew(&path, 9);
    let made = world.json(&["snapshot", path.to_str().unwrap(), "--verify", "--json"]);
    let known = status(elsewhere(&["status"]));
    assert_eq!(known["databases"][0]["proven_restore"]["snapshot_id"], made["snapshot_id"], "{known}");
}

#[test]
fn a_crontab_keeps_its_other_lines() {
    let world = World::new("[[database]]\npath = '{dir}/db/a.db'\n");
    let bin = world.path("bin");
    fs::create_dir_all(&bin).unwrap();
    let table = world.path("table");
    let fake = "#!/bin/sh\nif [ -e \"$0.broken\" ]; then echo 'you are not allowed' >&2; exit 1; fi\n\
                if [ \"$1\" = -l ]; then [ -e TABLE ] || { echo 'no crontab for ada' >&2; exit 1; }; cat TABLE; \
                else cat > TABLE; fi\n";
    let fake = fake.replace("TABLE", &table.display().to_string());
    // By another process: a program that a fork of this one has open for writing does not start.
    fs::write(world.path("fake"), fake).unwrap();
    let script = bin.join("crontab");
    assert!(
        Command::new("install")
            .args(["-m", "755"])
            .arg(world.path("fake"))
            .arg(&script)
            .status()
            .unwrap()
            .success()
    );
    let run = |arguments: &[&str]| {
        let mut command = world.command(arguments);
        let path = std::env::var("PATH").unwrap();
        command.env("PATH", format!("{}:{path}", bin.display())).output().unwrap()
    };
    let units = world.path("units");
    let units = ["--units", units.to_str().unwrap()];
    // None yet.
    let output = run(&["schedule", "install", "--by", "cron"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let first = fs::read_to_string(&table).unwrap();
    assert_eq!(first.lines().count(), 1);
    assert!(first.starts_with("*/5 * * * * ") && first.contains(" run --once # pagevault"), "{first}");
    assert!(text(&output.stdout).contains(first.trim_end()), "it says what it did");
    let shown = run(&["schedule", "show", units[0], units[1]]);
    assert!(text(&shown.stdout).contains("installed: */5"), "{}", text(&shown.stdout));
    // Beside others', and twice.
    let others = "# mine\nMAILTO=ada\n0 3 * * * /usr/bin/true\n";
    fs::write(&table, others).unwrap();
    for _ in 0..2 {
        assert!(run(&["schedule", "install", "--by", "cron"]).status.success());
        assert_eq!(fs::read_to_string(&table).unwrap(), format!("{others}{first}"));
    }
    // The command in it is one that works.
    world.database("a.db");
    let line = first.trim_start_matches("*/5 * * * * ").trim_end();
    let cron =
        Command::new("sh").env_clear().env("HOME", world.path(".")).args(["-c", line]).output().unwrap();
    assert!(cron.status.success(), "{}", text(&cron.stderr));
    assert_eq!(world.snapshots()["a"], 1);
    // A crontab that cannot be read is not written over.
    fs::write(bin.join("crontab.broken"), "").unwrap();
    let output = run(&["schedule", "install", "--by", "cron"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("you are not allowed"), "{}", text(&output.stderr));
    fs::remove_file(bin.join("crontab.broken")).unwrap();
    assert_eq!(fs::read_to_string(&table).unwrap(), format!("{others}{first}"));
    let output = run(&["schedule", "uninstall", units[0], units[1]]);
    assert!(text(&output.stdout).contains("removed crontab: "), "{}", text(&output.stdout));
    assert_eq!(fs::read_to_string(&table).unwrap(), others);
}

#[test]
fn times_that_were_missed_are_one_turn() {
    let world = World::new("[[database]]\npath = '{dir}/db/a.db'\nschedule = 'every 1h'\n");
    let path = world.database("a.db");
    assert!(world.once().status.success());
    renew(&path, 1);
    assert!(world.once().status.success());
    assert_eq!(world.snapshots()["a"], 1, "it is not due yet");
    // The machine was off for five hours.
    let state = world.path(".local/state/pagevault");
    let vaults = fs::read_dir(state).unwrap().map(|entry| entry.unwrap().path().join("service.json"));
    let journal = vaults.into_iter().find(|file| file.exists()).unwrap();
    let mut remembered: Value = serde_json::from_slice(&fs::read(&journal).unwrap()).unwrap();
    let record = remembered["databases"].as_object_mut().unwrap().values_mut().next().unwrap();
    let earlier = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(5);
    record["attempted"] = earlier.to_string().into();
    fs::write(&journal, remembered.to_string()).unwrap();
    assert!(world.once().status.success());
    assert_eq!(world.snapshots()["a"], 2);
    renew(&path, 2);
    assert!(world.once().status.success());
    assert_eq!(world.snapshots()["a"], 2);
}

#[test]
fn after_a_sleep_it_goes_on_and_a_signal_reads_the_configuration_again() {
    let world = World::new("[[database]]\npath = '{dir}/db/a.db'\nschedule = 'every 1s'\n");
    let path = world.database("a.db");
    let service = world.service();
    until("its first round", &world, || world.snapshots_of_log("a") == 1);
    service.signal(Signal::STOP);
    renew(&path, 1);
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(world.snapshots_of_log("a"), 1);
    service.signal(Signal::CONT);
    until("it goes on", &world, || world.snapshots_of_log("a") == 2);
    let read = |world: &World| world.log().matches("the configuration was read again").count();
    assert_eq!(read(&world), 0);
    service.signal(Signal::HUP);
    until("the signal", &world, || read(&world) == 1);
    service.stop();
}

/// Each database has its own moment after each time, and keeps it.
#[test]
fn jitter_spreads_the_work() {
    let world = World::new("[[database]]\nglob = '{dir}/db/*.db'\nschedule = 'every 6s'\njitter = '6s'\n");
    let names: Vec<String> = (0..6).map(|number| format!("d{number}")).collect();
    let paths: Vec<PathBuf> = names.iter().map(|name| world.database(&format!("{name}.db"))).collect();
    let service = world.service();
    let mut rounds = 1;
    let mut moments: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    while rounds < 4 {
        until("a turn of each", &world, || names.iter().all(|name| world.snapshots_of_log(name) >= rounds));
        paths.iter().for_each(|path| renew(path, u32::try_from(rounds).unwrap()));
        rounds += 1;
    }
    service.stop();
    for snapshot in world.json(&["list", "--json"]).as_array().unwrap() {
        let at: jiff::Timestamp = snapshot["created_at"].as_str().unwrap().parse().unwrap();
        let name = snapshot["database"].as_str().unwrap().to_owned();
        moments.entry(name).or_default().push(at.as_millisecond() % 6000);
    }
    // The first turn of all is at once.
    let own: Vec<Vec<i64>> = moments.into_values().map(|moments| moments[1..].to_vec()).collect();
    let apart = |one: i64, other: i64| (one - other).rem_euclid(6000).min((other - one).rem_euclid(6000));
    for moments in &own {
        assert!(moments.windows(2).all(|pair| apart(pair[0], pair[1]) < 2500), "{own:?}");
    }
    let first = own[0][0];
    assert!(own.iter().any(|moments| apart(moments[0], first) > 1000), "{own:?}");
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
