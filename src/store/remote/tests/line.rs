//! A line between a client and an HTTP server: it lets conditional writes of an object pass one at a time, as S3 itself
//! does, and can be slow, fail, fall silent, or refuse what a bucket policy refuses.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What happens on the way.
#[derive(Debug, Default)]
pub(crate) struct Weather {
    /// Milliseconds that each request takes longer.
    pub(crate) latency_ms: AtomicU64,
    /// Of a hundred requests, so many are answered by 503: half of them after they were carried out.
    pub(crate) failures_percent: AtomicU64,
    /// Requests are taken and never answered.
    pub(crate) silent: AtomicBool,
    /// As a policy without deletion and overwriting: such requests are answered by 403.
    pub(crate) append_only: AtomicBool,
    /// Requests that came, refused ones included.
    pub(crate) requests: AtomicU64,
    /// Those of them that write.
    pub(crate) writes: AtomicU64,
    /// Requests that a policy refused.
    pub(crate) refused: AtomicU64,
    random: AtomicU64,
    /// Paths that are being written.
    writing: Mutex<HashMap<String, Arc<Mutex<()>>>>,
}

impl Weather {
    /// From 0 to 99, not the same in the next call.
    fn chance(&self) -> u64 {
        let number = self.random.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        let mixed = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        ((mixed ^ (mixed >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 32) % 100
    }

    fn lock_of(&self, target: &str) -> Arc<Mutex<()>> {
        let mut writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(writing.entry(target.to_owned()).or_default())
    }
}

/// Listens on a port of its own until the process ends.
pub(crate) struct Line {
    /// Where clients go.
    pub(crate) port: u16,
    pub(crate) weather: Arc<Weather>,
}

impl Line {
    /// To the server at `port` of this machine.
    pub(crate) fn to(port: u16) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let own = listener.local_addr()?.port();
        let weather = Arc::new(Weather::default());
        let shared = Arc::clone(&weather);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let weather = Arc::clone(&shared);
                std::thread::spawn(move || {
                    // Who hangs up is no concern of the line.
                    let _ = serve(&client, port, &weather);
                    let _ = client.shutdown(Shutdown::Both);
                });
            }
        });
        Ok(Self { port: own, weather })
    }
}

/// A request, with its body.
struct Request {
    method: String,
    target: String,
    /// Without the line of the method, each with its line end.
    headers: Vec<String>,
    body: Vec<u8>,
}

impl Request {
    fn read(from: &mut impl BufRead) -> io::Result<Option<Self>> {
        let mut first = String::new();
        if from.read_line(&mut first)? == 0 {
            return Ok(None);
        }
        let mut words = first.split_whitespace();
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let mut request = Self {
            method: method.to_owned(),
            target: target.to_owned(),
            headers: Vec::new(),
            body: Vec::new(),
        };
        loop {
            let mut line = String::new();
            if from.read_line(&mut line)? == 0 {
                return Ok(None);
            }
            if line.trim().is_empty() {
                break;
            }
            request.headers.push(line);
        }
        let length = request.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        request.body.resize(length, 0);
        from.read_exact(&mut request.body)?;
        Ok(Some(request))
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// Its answer, passed on as it comes; the connection ends with it.
    fn pass_on(&self, port: u16, mut client: impl Write) -> io::Result<()> {
        let mut server = TcpStream::connect(("127.0.0.1", port))?;
        server.set_nodelay(true)?;
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        let kept = self.headers.iter().filter(|line| !line.to_ascii_lowercase().starts_with("connection:"));
        kept.for_each(|line| head.push_str(line));
        head.push_str("Connection: close\r\n\r\n");
        server.write_all(head.as_bytes())?;
        server.write_all(&self.body)?;
        io::copy(&mut server, &mut client)?;
        client.flush()
    }
}

fn serve(client: &TcpStream, port: u16, weather: &Weather) -> io::Result<()> {
    client.set_nodelay(true)?;
    let Some(request) = Request::read(&mut BufReader::new(client))? else { return Ok(()) };
    weather.requests.fetch_add(1, Ordering::Relaxed);
    let writes = matches!(request.method.as_str(), "PUT" | "POST" | "DELETE");
    weather.writes.fetch_add(u64::from(writes), Ordering::Relaxed);
    while weather.silent.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(50));
    }
    std::thread::sleep(Duration::from_millis(weather.latency_ms.load(Ordering::Relaxed)));
    let conditional = request.header("if-none-match").is_some();
    let overwrites = request.method == "PUT" && !conditional;
    let deletes =
        request.method == "DELETE" || (request.method == "POST" && request.target.contains("?delete"));
    if weather.append_only.load(Ordering::Relaxed) && (overwrites || deletes) {
        weather.refused.fetch_add(1, Ordering::Relaxed);
        return answer(client, "403 Forbidden", "AccessDenied");
    }
    let fails = weather.chance() < weather.failures_percent.load(Ordering::Relaxed);
    if fails && weather.chance() < 50 {
        return answer(client, "503 Service Unavailable", "SlowDown");
    }
    let turn = (conditional && request.method == "PUT").then(|| weather.lock_of(&request.target));
    let _turn = turn.as_ref().map(|turn| turn.lock().unwrap_or_else(PoisonError::into_inner));
    if fails {
        request.pass_on(port, io::sink())?;
        return answer(client, "503 Service Unavailable", "SlowDown");
    }
    request.pass_on(port, client)
}

fn answer(mut client: &TcpStream, status: &str, code: &str) -> io::Result<()> {
    let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>no</Message></Error>");
    let length = body.len();
    write!(
        client,
        "HTTP/1.1 {status}\r\nContent-Type: application/xml\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}
