//! Against real servers, each a process of its own: S3 (`s3s-fs` or `moto_server`), OpenSSH's `sshd`, `WebDAV` (`wsgidav`). A server that is
//! not installed is said, and its test passes; `.ci/install-tools` installs them.

pub(crate) mod line;
pub(crate) mod servers;

use self::servers::{S3Server, SshServer, WebdavServer, skip};
use super::super::{Patience, RetryStore, conformance};
use super::*;

fn open(address: &str) -> RemoteStore {
    let credentials = Credentials {
        s3_access_key_id: Some(S3Server::KEY.to_owned()),
        s3_secret_access_key: Some(S3Server::SECRET.to_owned()),
        ..Credentials::default()
    };
    RemoteStore::open(&address.parse().unwrap(), &credentials).unwrap()
}

#[test]
fn s3_conforms() {
    let Some(server) = S3Server::start() else { return skip("s3s-fs or moto_server") };
    for (prefix, options) in [("one/deep", "&timeout=20"), ("two", "&connections=2")] {
        conformance::run(&open(&format!(
            "s3://{}/{prefix}?endpoint={}{options}",
            S3Server::BUCKET,
            server.endpoint()
        )));
    }
}

#[test]
fn s3_conforms_over_a_line_that_fails_often() {
    let Some(server) = S3Server::start() else { return skip("s3s-fs or moto_server") };
    server.weather().failures_percent.store(20, Ordering::Relaxed);
    let address = format!("s3://bucket/bad?endpoint={}", server.endpoint());
    let patience = Patience {
        retries: 40,
        first_pause: Duration::from_millis(1),
        longest_pause: Duration::from_millis(10),
    };
    conformance::run(&RetryStore::new(open(&address), patience));
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
