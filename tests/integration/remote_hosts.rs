//! The program itself on vaults behind real servers, as people use it: several hosts, each with a home of its own.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use rusqlite::Connection;
use serde_json::Value;

use crate::servers::{S3Server, SshServer, WebdavServer, skip};
use crate::tamper::fixture::scratch;

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
            .args(arguments)
            .args(["--vault", &self.vault, "--json"])
            .current_dir(&self.home)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", &self.home)
            .env("PAGEVAULT_PASSWORD", "of all hosts")
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
        self.run(&["restore", snapshot, "--to", target.to_str().unwrap(), "--yes"]);
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
    let Some(server) = S3Server::start(true) else { return skip("s3s-fs") };
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

#[test]
fn two_hosts_share_a_vault_though_one_is_killed_again_and_again() {
    let Some(server) = S3Server::start(true) else { return skip("s3s-fs") };
    let folder = scratch();
    let address = format!("s3://bucket/shared?endpoint={}", server.endpoint());
    let (one, two) = (Host::new(folder.path(), "one", &address), Host::new(folder.path(), "two", &address));
    one.run(&["init"]);
    for round in 0..6 {
        one.change(round);
        two.change(round);
        let mut killed =
            two.command(&["snapshot", "two.db"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| one.run(&["snapshot", "one.db"]));
            std::thread::sleep(Duration::from_millis(u64::from(round) * 120));
            killed.kill().unwrap();
            killed.wait().unwrap();
        });
        two.run(&["snapshot", "two.db"]);
        one.restores("one@latest");
        two.restores("two@latest");
    }
    let problems = one.run(&["check", "--read-data"])["problems"].clone();
    let harmful = problems.as_array().unwrap().iter().filter(|problem| problem["kind"] != "unlogged");
    assert_eq!(harmful.count(), 0, "{problems}");
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
