//! Against real servers, each a process of its own: S3 (`s3s-fs`), OpenSSH's `sshd`, `WebDAV` (`wsgidav`). A server that is
//! not installed is said, and its test passes; `.ci/install-tools` installs them.

#[expect(dead_code, reason = "the integration tests share it")]
pub(crate) mod servers;

use self::servers::{S3Server, SshServer, WebdavServer, skip};
use super::super::conformance;
use super::*;

fn open(address: &str) -> RemoteStore {
    RemoteStore::open(&address.parse().unwrap(), &Credentials::default()).unwrap()
}

#[test]
fn s3_conforms() {
    let Some(server) = S3Server::start(false) else { return skip("s3s-fs") };
    for style in ["&timeout=20", "&connections=2"] {
        let prefix = if style.contains("timeout") { "one/deep" } else { "two" };
        // This server looks first and writes then (its own code, 0.14.1), which four writers at once find out; S3 itself
        // decides.
        conformance::run_without_races(&open(&format!(
            "s3://{}/{prefix}?anonymous=yes&endpoint={}{style}",
            S3Server::BUCKET,
            server.endpoint()
        )));
    }
}

#[test]
fn sftp_conforms() {
    let Some(server) = SshServer::start() else { return skip("sshd") };
    conformance::run_without_races(&open(&server.address("vault")));
}

#[test]
fn webdav_conforms() {
    let Some(server) = WebdavServer::start() else { return skip("wsgidav") };
    conformance::run_without_races(&open(&server.address("vault")));
}

#[test]
fn a_server_that_is_not_there_is_a_passing_failure_that_ends() {
    // Nothing listens on a port that was just given back.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let store = open(&format!("webdav://{free}/x?timeout=5"));
    let error = store.size(&ObjectPath::new("vault.pv").unwrap()).unwrap_err();
    assert!(matches!(error, StoreError::Temporary { .. }), "{error:?}");
    assert!(store.put_if_absent(&ObjectPath::new("vault.pv").unwrap(), b"x").is_err());
}

#[test]
fn a_server_that_never_answers_is_given_up() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let store = open(&format!("webdav://{}/x?timeout=1", silent.local_addr().unwrap()));
    let started = std::time::Instant::now();
    let error = store.size(&ObjectPath::new("vault.pv").unwrap()).unwrap_err();
    assert!(error.to_string().contains("no answer within 1 s"), "{error}");
    assert!(matches!(error, StoreError::Temporary { .. }));
    assert!(started.elapsed() < Duration::from_secs(10));
}
