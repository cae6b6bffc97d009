//! Figures for Prometheus: as text, over a loopback port, and as a file for the node exporter.

use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

use super::super::files;
use super::journal::{DatabaseRecord, JobRecord, Journal, TestRecord};

/// A client that says nothing is not waited for.
const PATIENCE: Duration = Duration::from_secs(2);
const LONGEST_REQUEST: usize = 8 << 10;

/// What the journal does not know.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) vault_bytes: Option<u64>,
    pub(crate) vault_limit: u64,
    pub(crate) disk_free: Option<u64>,
    pub(crate) config_ok: bool,
    pub(crate) started: Timestamp,
}

/// A family of figures.
struct Family<'t> {
    text: &'t mut String,
    name: &'static str,
}

impl<'t> Family<'t> {
    fn new(text: &'t mut String, name: &'static str, kind: &str, help: &str) -> Self {
        let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        Self { text, name }
    }

    fn sample(&mut self, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        self.text.push_str(self.name);
        for (number, (name, value)) in labels.iter().enumerate() {
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.text, "{}{name}=\"{value}\"", if number == 0 { '{' } else { ',' });
        }
        let _ = writeln!(self.text, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "milliseconds since 1970 are exact for longer than anybody lives"
)]
fn seconds(time: Timestamp) -> f64 {
    time.as_millisecond() as f64 / 1000.0
}

/// The text that Prometheus reads.
pub(crate) fn render(journal: &Journal, facts: &Facts) -> String {
    let mut text = String::new();
    vault(&mut text, facts);
    databases(&mut text, journal);
    jobs(&mut text, journal);
    let help = "Alerts that are raised, by kind and object.";
    let mut family = Family::new(&mut text, "pagevault_alert", "gauge", help);
    for key in journal.alerts.keys() {
        let (kind, object) = key.split_once(':').unwrap_or((key, ""));
        family.sample(&[("alert", kind), ("object", object)], 1);
    }
    text
}

fn vault(text: &mut String, facts: &Facts) {
    let gauges: [(&'static str, &str, Option<u64>); 4] = [
        ("pagevault_vault_bytes", "Bytes of all objects of the vault.", facts.vault_bytes),
        ("pagevault_vault_limit_bytes", "Bytes above which an alert is raised.", Some(facts.vault_limit)),
        ("pagevault_disk_free_bytes", "Bytes that are free where the vault is.", facts.disk_free),
        (
            "pagevault_config_ok",
            "1 if the configuration as it is now could be read.",
            Some(u64::from(facts.config_ok)),
        ),
    ];
    for (name, help, value) in gauges {
        let mut family = Family::new(text, name, "gauge", help);
        if let Some(value) = value {
            family.sample(&[], value);
        }
    }
    Family::new(text, "pagevault_start_time_seconds", "gauge", "When the service was started.")
        .sample(&[], seconds(facts.started));
    Family::new(text, "pagevault_build_info", "gauge", "The version that runs.")
        .sample(&[("version", env!("CARGO_PKG_VERSION"))], 1);
}

fn databases(text: &mut String, journal: &Journal) {
    type Figure = fn(&DatabaseRecord) -> Option<f64>;
    #[expect(clippy::cast_precision_loss, reason = "figures for a graph")]
    let figures: [(&'static str, &str, &str, Figure); 8] = [
        (
            "pagevault_database_kept_timestamp_seconds",
            "gauge",
            "When the vault last held the database as it then was.",
            |record| record.kept_at.map(seconds),
        ),
        (
            "pagevault_database_attempt_timestamp_seconds",
            "gauge",
            "When a snapshot of the database was last tried.",
            |record| record.job.attempted.map(seconds),
        ),
        ("pagevault_database_failing", "gauge", "Failed attempts since the last good one.", |record| {
            Some(f64::from(record.job.failures))
        }),
        ("pagevault_database_size_bytes", "gauge", "Bytes of the database.", |record| {
            Some(record.size as f64)
        }),
        (
            "pagevault_database_proven_restore_timestamp_seconds",
            "gauge",
            "When a test restore last succeeded.",
            |record| record.proven.as_ref().map(|test| seconds(test.at)),
        ),
        ("pagevault_snapshots_total", "counter", "Snapshots made.", |record| Some(record.snapshots as f64)),
        ("pagevault_snapshot_failures_total", "counter", "Snapshots that failed.", |record| {
            Some(record.failed as f64)
        }),
        ("pagevault_stored_bytes_total", "counter", "Bytes of records stored.", |record| {
            Some(record.stored_bytes as f64)
        }),
    ];
    for (name, kind, help, figure) in figures {
        let mut family = Family::new(text, name, kind, help);
        for (path, record) in &journal.databases {
            if let Some(value) = figure(record) {
                let path = path.to_string_lossy();
                family.sample(&[("database", record.name.as_deref().unwrap_or("")), ("path", &path)], value);
            }
        }
    }
    let help = "1 if the last test restore failed.";
    let mut family = Family::new(text, "pagevault_database_test_restore_failed", "gauge", help);
    for (path, record) in &journal.databases {
        if let Some(TestRecord { error, .. }) = &record.tested {
            let path = path.to_string_lossy();
            let labels = [("database", record.name.as_deref().unwrap_or("")), ("path", &*path)];
            family.sample(&labels, u8::from(error.is_some()));
        }
    }
}

fn jobs(text: &mut String, journal: &Journal) {
    type Figure = fn(&JobRecord) -> Option<f64>;
    let figures: [(&'static str, &str, Figure); 2] = [
        ("pagevault_job_success_timestamp_seconds", "When the job last succeeded.", |job| {
            job.succeeded.map(seconds)
        }),
        ("pagevault_job_failing", "Failed attempts of the job since the last good one.", |job| {
            Some(f64::from(job.failures))
        }),
    ];
    for (name, help, figure) in figures {
        let mut family = Family::new(text, name, "gauge", help);
        for (job, record) in &journal.jobs {
            if let Some(value) = figure(record) {
                family.sample(&[("job", job)], value);
            }
        }
    }
}

/// Replaces the file that the node exporter collects; it must be able to read it.
pub(crate) fn write_file(file: &Path, text: &str) -> io::Result<()> {
    files::replace(file, text.as_bytes(), 0o644)
}

/// Answers on a loopback port with the newest text, until the process ends.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    address: SocketAddr,
    text: Arc<Mutex<String>>,
}

impl Server {
    /// Starts to listen.
    pub(crate) fn start(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        let server = Self { address: listener.local_addr()?, text: Arc::default() };
        let text = Arc::clone(&server.text);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let text = text.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let _ = answer(stream, &text);
            }
        });
        Ok(server)
    }

    /// Where it listens.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// What is answered from now on.
    pub(crate) fn publish(&self, text: String) {
        *self.text.lock().unwrap_or_else(PoisonError::into_inner) = text;
    }
}

fn answer(mut stream: TcpStream, text: &str) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut request = Vec::new();
    let mut buffer = [0; 1024];
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        let read = stream.read(&mut buffer)?;
        if read == 0 || request.len() + read > LONGEST_REQUEST {
            return Ok(());
        }
        request.extend_from_slice(&buffer[..read]);
    }
    let wanted = request.starts_with(b"GET /metrics ") || request.starts_with(b"GET /metrics?");
    let (status, body) =
        if wanted { ("200 OK", text) } else { ("404 Not Found", "metrics are at /metrics\n") };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_names_are_escaped() {
        let mut text = String::new();
        Family::new(&mut text, "x", "gauge", "Help.").sample(&[("a", "b\"c\\d\ne"), ("f", "")], 1.5);
        assert_eq!(text, "# HELP x Help.\n# TYPE x gauge\nx{a=\"b\\\"c\\\\d\\ne\",f=\"\"} 1.5\n");
    }

    #[test]
    fn it_is_served_at_its_path_only() {
        let server = Server::start("127.0.0.1:0".parse().unwrap()).unwrap();
        server.publish("x 1\n".to_owned());
        let ask = |path: &str| {
            let mut stream = TcpStream::connect(server.address()).unwrap();
            write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            answer
        };
        assert!(ask("/metrics").starts_with("HTTP/1.1 200 OK") && ask("/metrics").ends_with("\r\n\r\nx 1\n"));
        assert!(ask("/").starts_with("HTTP/1.1 404"));
    }
}
