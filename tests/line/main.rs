//! A slow line to a server on this machine, for measuring: `line PORT MILLISECONDS` prints the port that clients go to, and
//! delays each request by so much, until it is killed.

#![allow(clippy::print_stdout, reason = "a program, not the library")]

#[allow(dead_code, reason = "the tests of remote stores use the rest")]
#[path = "../../src/store/remote/tests/line.rs"]
mod line;

use std::sync::atomic::Ordering;

fn main() -> std::io::Result<()> {
    let mut words = std::env::args().skip(1);
    let port = words.next().and_then(|word| word.parse().ok());
    let latency = words.next().and_then(|word| word.parse().ok());
    let (Some(port), Some(latency)) = (port, latency) else {
        return Err(std::io::Error::other("usage: line PORT MILLISECONDS"));
    };
    let line = line::Line::to(port)?;
    line.weather.latency_ms.store(latency, Ordering::Relaxed);
    println!("{}", line.port);
    loop {
        std::thread::park();
    }
}
