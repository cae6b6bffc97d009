//! The program itself on vaults behind real servers, as people use it: several hosts, each with a home of its own.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use pagevault::clock::FixedClock;
use pagevault::crypto::secret::Passphrase;
use pagevault::crypto::unlock::Unlocker;
use pagevault::monitor::Silent;
use pagevault::operations::prune::{PruneReport, PruneRequest, prune};
use pagevault::store::{Credentials, Patience, RemoteStore, RetryStore};
use pagevault::vault::{LocalFolders, LockedVault};
use rusqlite::Connection;
use serde_json::Value;

use crate::line::Weather;
use crate::servers::{S3Server, SshServer, WebdavServer, skip};
use crate::tamper::fixture::scratch;

const PASSPHRASE: &str = "of all hosts";

struct Host {
    home: PathBuf,
    vault: String,
    database: PathBuf,
}

impl Host {
    fn new(folder: &Path, name: &str, vault: &str) -> Self {
        let home = folder.join(name);
        std::fs::create_dir(&home).unwrap();
        let database = home.join(format!("{name}.db"));
        let db = Connection::open(&database).unwrap();
        db.execute_batch("CREATE TABLE t(id INTEGER PRIMARY KEY, body TEXT); BEGIN").unwrap();
        for row in 0..3000u32 {
            let text = format!("{name} {row} {:x}", row.wrapping_mul(2_654_435_761));
            db.execute("INSERT INTO t(body) VALUES(?1)", [text]).unwrap();
        }
        db.execute_batch("COMMIT").unwrap();
        Self { home, vault: vault.to_owned(), database }
    }

    fn change(&self, round: u32) {
        let db = Connection::open(&self.database).unwrap();
        db.execute("UPDATE t SET body = body || '!' WHERE id % 50 = ?1", [round]).unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pagevault"));
        command
            .args(["--vault", &self.vault, "--json"])
            .args(arguments)
            .current_dir(&self.home)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", &self.home)
            .env("PAGEVAULT_PASSWORD", PASSPHRASE)
            .env("AWS_ACCESS_KEY_ID", S3Server::KEY)
            .env("AWS_SECRET_ACCESS_KEY", S3Server::SECRET)
            .stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Value {
        let Output { status, stdout, stderr } = self.command(arguments).output().unwrap();
        let said = String::from_utf8_lossy(&stderr);
        assert!(status.success(), "{arguments:?}: {status} {said}");
        assert!(!said.contains(S3Server::SECRET) && !said.contains(S3Server::KEY), "{said}");
        serde_json::from_slice(&stdout).unwrap()
    }

    fn restores(&self, snapshot: &str) {
        let target = self.home.join("restored.db");
        let _ = std::fs::remove_file(&target);
        self.run(&["restore", snapshot, "--to", target.to_str().unwrap()]);
        assert!(std::fs::read(&target).unwrap() == std::fs::read(&self.database).unwrap());
    }
}

/// Everything that people do with a vault, on an address.
fn every_command(address: &str, folder: &Path) {
    let host = Host::new(folder, "one", address);
    host.run(&["init"]);
    assert_eq!(host.command(&["init"]).output().unwrap().status.code(), Some(9));
    let first = host.run(&["snapshot", "one.db"]);
    assert!(first["requests"][0]["put"].as_u64().unwrap() <= 6, "{first}");
    host.change(1);
    let second = host.run(&["snapshot", "one.db"]);
    assert!(second["requests"][0]["put"].as_u64().unwrap() <= 6, "{second}");
    assert_eq!(second["requests"][0]["get_range"], 0, "{second}");
    assert_eq!(host.run(&["list"]).as_array().unwrap().len(), 2);
    host.run(&["show", "latest"]);
    host.restores("latest");
    // As another machine would: nothing is known here.
    std::fs::remove_dir_all(host.home.join(".cache")).unwrap();
    host.restores("latest");
    assert_eq!(host.run(&["check", "--read-data"])["problems"], serde_json::json!([]));
    assert_eq!(host.run(&["check", "--no-key"])["problems"], serde_json::json!([]));
    host.run(&["key", "list"]);
    host.run(&["stats"]);
    host.run(&["status"]);
    host.command(&["doctor"]).output().unwrap();
    host.run(&["check", "--test-restore"]);
    host.run(&["export", "--snapshot", "one@latest", "--output", "all.json", "--yes"]);
    host.run(&["restore", "one@latest", "--into", "one.db", "--yes"]);
    assert!(host.command(&["guard", "one.db", "--", "false"]).output().unwrap().status.code() == Some(10));
    host.run(&["guard", "one.db", "--", "true"]);
    host.run(&["pin", "one@latest"]);
    host.run(&["unpin", "one@latest"]);
    let forgotten = host.run(&["forget", "--keep-last", "1", "--yes"]);
    let forgotten = forgotten["forgotten"][0]["snapshot_id"].as_str().unwrap().to_owned();
    host.run(&["undelete", &forgotten]);
    host.run(&["forget", &forgotten, "--yes"]);
    let pruned = host.run(&["prune", "--grace", "0s", "--yes"]);
    assert!(pruned["delete_after"].is_string(), "{pruned}");
    host.run(&["repair", "--yes"]);
    std::fs::write(host.home.join("run.toml"), "[[database]]\npath = 'one.db'\n").unwrap();
    assert!(host.command(&["run", "--once", "--config", "run.toml"]).output().unwrap().status.success());
    let copied = host.run(&["sync", "copy", "--verify"]);
    assert_eq!(copied["copied"], copied["verified"]);
    let back = host.run(&["sync", &format!("{}-copy{}", address.split('?').next().unwrap(), query(address))]);
    assert_eq!(back["copied"], copied["copied"]);
}

fn query(address: &str) -> String {
    address.split_once('?').map(|(_, query)| format!("?{query}")).unwrap_or_default()
}

#[test]
fn every_command_works_on_s3() {
    let Some(server) = S3Server::start() else { return skip("s3s-fs or moto_server") };
    let folder = scratch();
    every_command(&format!("s3://bucket/a/vault?endpoint={}", server.endpoint()), folder.path());
}

#[test]
fn every_command_works_on_sftp() {
    let Some(server) = SshServer::start() else { return skip("sshd") };
    let folder = scratch();
    every_command(&server.address("vault"), folder.path());
}

#[test]
fn every_command_works_on_webdav() {
    let Some(server) = WebdavServer::start() else { return skip("wsgidav") };
    let folder = scratch();
    every_command(&server.address("vault"), folder.path());
}

/// What the machine of the test itself does with the vault: as a third host, whose clock runs ahead, so that what it has
/// condemned may go the next time.
fn prune_as_another_host(address: &str, machine: &Path, ahead: SignedDuration) -> PruneReport {
    let credentials = Credentials {
        s3_access_key_id: Some(S3Server::KEY.to_owned()),
        s3_secret_access_key: Some(S3Server::SECRET.to_owned()),
        ..Credentials::default()
    };
    let store = RemoteStore::open(&address.parse().unwrap(), &credentials).unwrap();
    let store = RetryStore::new(store, Patience::default());
    let folders = LocalFolders { cache: Some(machine.join("cache")), state: Some(machine.join("state")) };
    let passphrase = Passphrase::new(PASSPHRASE.as_bytes().to_vec());
    let found = LockedVault::find(Box::new(store)).unwrap();
    let vault = found.unlock(&Unlocker::Passphrase(passphrase), &folders).unwrap();
    let request = PruneRequest { max_unused: 0.0, grace: SignedDuration::ZERO };
    prune(&vault, &request, &FixedClock(Timestamp::now() + ahead), &Silent).unwrap()
}

#[test]
fn two_hosts_write_one_vault_while_another_prunes_and_one_is_killed_again_and_again() {
    let Some(server) = S3Server::start() else { return skip("s3s-fs or moto_server") };
    let folder = scratch();
    let address = format!("s3://bucket/shared?endpoint={}", server.endpoint());
    let (one, two) = (Host::new(folder.path(), "one", &address), Host::new(folder.path(), "two", &address));
    one.run(&["init"]);
    let mut deleted = 0;
    for round in 0..6 {
        one.change(round);
        two.change(round);
        let mut killed =
            two.command(&["snapshot", "two.db"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let (machine, ahead) =
            (folder.path().join("three"), SignedDuration::from_hours(25 * i64::from(round)));
        std::thread::scope(|scope| {
            scope.spawn(|| one.run(&["snapshot", "one.db"]));
            let pruned = scope.spawn(|| prune_as_another_host(&address, &machine, ahead).deleted.packs);
            std::thread::sleep(Duration::from_millis(u64::from(round) * 120));
            killed.kill().unwrap();
            killed.wait().unwrap();
            deleted += pruned.join().unwrap();
        });
        two.run(&["snapshot", "two.db"]);
        one.restores("one@latest");
        two.restores("two@latest");
        one.run(&["forget", "--keep-last", "1", "--yes"]);
    }
    assert!(deleted > 0, "nothing was ever pruned");
    let problems = one.run(&["check", "--read-data"])["problems"].clone();
    let harmful = problems.as_array().unwrap().iter().filter(|problem| problem["kind"] != "unlogged");
    assert_eq!(harmful.count(), 0, "{problems}");
}

#[test]
fn an_hourly_snapshot_writes_at_most_six_times_and_what_is_reported_is_what_the_server_saw() {
    let Some(server) = S3Server::start() else { return skip("s3s-fs or moto_server") };
    let folder = scratch();
    let host = Host::new(folder.path(), "one", &format!("s3://bucket/v?endpoint={}", server.endpoint()));
    host.run(&["init"]);
    host.run(&["snapshot", "one.db"]);
    for hour in 0..3 {
        host.change(hour);
        let seen = |weather: &Weather| {
            (weather.requests.load(Ordering::Relaxed), weather.writes.load(Ordering::Relaxed))
        };
        let before = seen(server.weather());
        let asked = host.run(&["snapshot", "one.db"])["requests"][0].clone();
        let after = seen(server.weather());
        let of = |name: &str| asked[name].as_u64().unwrap();
        assert_eq!(after.1 - before.1, of("put"), "{asked}");
        assert!(of("put") <= 6, "{asked}");
        let all: u64 = ["get", "get_range", "size", "put", "list", "delete"].map(of).iter().sum();
        assert_eq!(after.0 - before.0, all, "{asked}");
        assert!(of("list") <= 6 && of("get_range") == 0, "{asked}");
    }
}

#[test]
fn credentials_that_can_only_add_are_enough_for_snapshots_and_copies() {
    let Some(server) = S3Server::start() else { return skip("s3s-fs or moto_server") };
    let folder = scratch();
    let of = |name: &str| format!("s3://bucket/{name}?endpoint={}", server.endpoint());
    let host = Host::new(folder.path(), "one", &of("vault"));
    server.weather().append_only.store(true, Ordering::Relaxed);
    host.run(&["init"]);
    for hour in 0..3 {
        host.change(hour);
        host.run(&["snapshot", "one.db"]);
        let level = if hour == 1 { "--verify" } else { "--verify=checksums" };
        let copied = host.run(&["sync", &of("copy"), level]);
        // s3s-fs lists no checksums: then all is read back.
        let of = |name: &str| copied[name]["objects"].as_u64().unwrap();
        assert_eq!(of("verified") + of("checksummed"), of("copied") + of("present"), "{copied}");
    }
    host.restores("latest");
    assert_eq!(
        server.weather().refused.load(Ordering::Relaxed),
        0,
        "something was to be deleted or overwritten"
    );
    // What needs more is refused by the server, and said.
    host.run(&["forget", "--keep-last", "1", "--yes"]);
    let refused = host.command(&["prune", "--grace", "0s", "--yes"]).output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && said.contains("permission denied: cannot delete"), "{said}");
    let copy = Host { home: host.home.clone(), vault: of("copy"), database: host.database.clone() };
    let packs = std::path::PathBuf::from("copied");
    assert!(copy.command(&["sync", packs.to_str().unwrap()]).status().unwrap().success());
    std::fs::remove_dir_all(host.home.join("copied/log")).unwrap();
    let folder_vault = host.home.join("copied").display().to_string();
    let source = Host { home: host.home.clone(), vault: folder_vault, database: host.database.clone() };
    let output = source.command(&["sync", &of("copy"), "--delete", "--max-delete", "100%"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("copy/log/"), "{said}");
    assert!(server.weather().refused.load(Ordering::Relaxed) > 0);
    assert_eq!(copy.run(&["check", "--read-data"])["problems"], serde_json::json!([]));
}

#[test]
fn a_server_that_falls_silent_is_an_error_that_comes_soon_and_damages_nothing() {
    let Some(server) = S3Server::start() else { return skip("s3s-fs or moto_server") };
    let folder = scratch();
    let address = format!("s3://bucket/v?timeout=1&retries=1&endpoint={}", server.endpoint());
    let host = Host::new(folder.path(), "one", &address);
    host.run(&["init"]);
    host.run(&["snapshot", "one.db"]);
    host.run(&["sync", "copy"]);
    server.weather().silent.store(true, Ordering::Relaxed);
    let started = Instant::now();
    for command in [&["snapshot", "one.db"][..], &["list"], &["sync", "other"]] {
        let output = host.command(command).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{command:?}: {said}");
        assert!(said.contains("no answer within 1 s (tried 2 times)"), "{said}");
    }
    // The copy takes its place, without waiting for each object anew.
    let restored = host.command(&["restore", "latest", "--to", "new.db", "--copy", "copy"]).output().unwrap();
    assert!(restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));
    assert!(started.elapsed() < Duration::from_secs(45), "{:?}", started.elapsed());
    server.weather().silent.store(false, Ordering::Relaxed);
    host.change(1);
    host.run(&["snapshot", "one.db"]);
    assert_eq!(host.run(&["check", "--read-data"])["problems"], serde_json::json!([]));
}

#[test]
fn what_is_wrong_with_an_address_is_said_without_its_secrets() {
    let folder = scratch();
    for (address, code) in [
        ("ftp://host/x", 2),
        ("s3://bucket?nope=1", 2),
        ("sftp://me:hunter2@host/x", 2),
        ("azblob://container/x", 2),
        ("webdav://127.0.0.1:9/x?retries=0&timeout=2", 1),
    ] {
        let name = address.split(':').next().unwrap();
        let name = format!("{name}{code}{}", address.len());
        let host = Host::new(folder.path(), &name, address);
        let output = host.command(&["list"]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{address}: {said}");
        assert!(!said.contains("hunter2"), "{said}");
    }
}
