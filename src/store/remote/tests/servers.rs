//! Servers for the tests: each in a folder of its own, on a port that the system chose, ended when dropped.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::line::{Line, Weather};

/// Says that a server is missing: the test that needs it has shown nothing.
pub(crate) fn skip(server: &str) {
    eprintln!("SKIPPED: {server} is not installed; .ci/install-tools installs it");
}

struct Server {
    child: Child,
    folder: tempfile::TempDir,
    port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// Starts `program` with what `arguments` makes of a folder and a port; `None` if there is no such program.
    fn start(program: &str, arguments: impl FnOnce(&Path, u16) -> Vec<String>) -> Option<Self> {
        let program = find(program)?;
        let folder = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = Command::new(program)
            .args(arguments(folder.path(), port))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self { child, folder, port };
        let started = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(started.elapsed() < Duration::from_mins(1), "the server does not listen");
            std::thread::sleep(Duration::from_millis(50));
        }
        Some(server)
    }
}

/// A program on the path, or where daemons and `cargo install` put theirs.
fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo/bin"));
    let folders =
        std::env::split_paths(&path).chain(home).chain(["/usr/sbin".into(), "/usr/local/bin".into()]);
    folders.map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// A server that speaks the protocol of S3, with a [`Line`] in front of it. Both servers look whether an object is there
/// and write it then (their own code: s3s-fs 0.14.1, moto 5.2.1); the line lets one at a time do so, and S3 itself decides.
pub(crate) struct S3Server {
    _server: Server,
    line: Line,
}

impl S3Server {
    pub(crate) const BUCKET: &str = "bucket";
    /// Of signed requests; nothing is secret here.
    pub(crate) const KEY: &str = "AKPAGEVAULTTEST";
    /// What they are signed with.
    pub(crate) const SECRET: &str = "secret-of-the-tests";

    /// `s3s-fs`, which looks at signatures; else `moto_server`, which does not.
    pub(crate) fn start() -> Option<Self> {
        let server = Self::start_s3s().or_else(Self::start_moto)?;
        let line = Line::to(server.port).unwrap();
        Some(Self { _server: server, line })
    }

    fn start_s3s() -> Option<Server> {
        Server::start("s3s-fs", |folder, port| {
            std::fs::create_dir(folder.join(Self::BUCKET)).unwrap();
            let root = folder.display().to_string();
            let keys = ["--access-key", Self::KEY, "--secret-key", Self::SECRET];
            let port = port.to_string();
            let place = ["--host", "127.0.0.1", "--port", &port, &root];
            keys.into_iter().chain(place).map(str::to_owned).collect()
        })
    }

    fn start_moto() -> Option<Server> {
        let server = Server::start("moto_server", |_, port| {
            ["-H", "127.0.0.1", "-p", &port.to_string()].map(str::to_owned).to_vec()
        })?;
        let mut connection = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
        write!(
            connection,
            "PUT /{} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            Self::BUCKET
        )
        .unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        assert!(answer.contains(" 200 "), "{answer}");
        Some(server)
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.line.port)
    }

    /// What happens to its requests.
    pub(crate) fn weather(&self) -> &Weather {
        &self.line.weather
    }
}

pub(crate) struct SshServer(Server);

impl SshServer {
    pub(crate) fn start() -> Option<Self> {
        find("ssh")?;
        let keygen = find("ssh-keygen")?;
        let server = Server::start("sshd", |folder, port| {
            for key in ["host", "user"] {
                let made = Command::new(&keygen)
                    .args(["-q", "-t", "ed25519", "-N", "", "-f"])
                    .arg(folder.join(key))
                    .status()
                    .unwrap();
                assert!(made.success());
            }
            std::fs::copy(folder.join("user.pub"), folder.join("authorized")).unwrap();
            let place = folder.display();
            let config = format!(
                "ListenAddress 127.0.0.1\nPort {port}\nHostKey {place}/host\nPidFile none\nStrictModes no\n\
                 AuthorizedKeysFile {place}/authorized\nPasswordAuthentication no\nUsePAM no\n\
                 PermitRootLogin prohibit-password\nMaxStartups 100\nSubsystem sftp internal-sftp\n"
            );
            std::fs::write(folder.join("config"), config).unwrap();
            std::fs::create_dir(folder.join("files")).unwrap();
            vec![
                "-D".to_owned(),
                "-e".to_owned(),
                "-f".to_owned(),
                folder.join("config").display().to_string(),
            ]
        });
        server.map(Self)
    }

    pub(crate) fn address(&self, place: &str) -> String {
        let folder = self.0.folder.path().display();
        let port = self.0.port;
        format!(
            "sftp://127.0.0.1:{port}{folder}/files/{place}?key={folder}/user&known-hosts=accept&timeout=20"
        )
    }
}

pub(crate) struct WebdavServer(Server);

impl WebdavServer {
    pub(crate) fn start() -> Option<Self> {
        let server = Server::start("wsgidav", |folder, port| {
            let root = folder.display().to_string();
            ["--host", "127.0.0.1", "--port", &port.to_string(), "--root", &root, "--auth", "anonymous"]
                .map(str::to_owned)
                .to_vec()
        });
        server.map(Self)
    }

    pub(crate) fn address(&self, place: &str) -> String {
        format!("webdav://127.0.0.1:{}/{place}?timeout=20", self.0.port)
    }
}
