//! Telling others over the network, apart from the work: a server that hangs must not hold up a snapshot.
//!
//! One thread sends, one request at a time, each with a time limit over everything. What cannot be queued is dropped, and
//! said on standard error: alerts that last are repeated anyway.

use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

const QUEUE: usize = 256;
/// A first failure may be a server that restarts.
const SECOND_TRY_AFTER: Duration = Duration::from_secs(2);

/// Something to be sent.
#[derive(Debug)]
pub(crate) enum Message {
    /// A POST with JSON.
    Webhook(String, Vec<u8>),
    /// A GET.
    Heartbeat(String),
}

impl Message {
    fn url(&self) -> &str {
        match self {
            Self::Webhook(url, _) | Self::Heartbeat(url) => url,
        }
    }
}

/// Sends messages.
#[derive(Debug)]
pub(crate) struct Courier {
    queue: Option<Sender<Message>>,
    failures: Receiver<String>,
    ended: Receiver<()>,
}

impl Courier {
    /// Starts the thread. No request takes longer than `timeout`.
    pub(crate) fn start(timeout: Duration) -> Self {
        let (queue, messages) = bounded::<Message>(QUEUE);
        let (report, failures) = bounded(QUEUE);
        let (end, ended) = bounded(1);
        std::thread::spawn(move || {
            let agent: ureq::Agent =
                ureq::Agent::config_builder().timeout_global(Some(timeout)).build().into();
            for message in messages {
                let outcome = send(&agent, &message).or_else(|_| {
                    std::thread::sleep(SECOND_TRY_AFTER);
                    send(&agent, &message)
                });
                if let Err(why) = outcome {
                    let _ = report.try_send(format!("{} could not be told: {why}", host_of(message.url())));
                }
            }
            let _ = end.send(());
        });
        Self { queue: Some(queue), failures, ended }
    }

    /// Queues a message.
    ///
    /// # Errors
    /// The queue is full, or the thread is gone.
    pub(crate) fn send(&self, message: Message) -> Result<(), String> {
        let Some(queue) = &self.queue else { return Ok(()) };
        queue.try_send(message).map_err(|error| match error {
            TrySendError::Full(message) => {
                format!("{} is not told: too many messages wait", host_of(message.url()))
            }
            TrySendError::Disconnected(message) => {
                format!("{} is not told: the sender is gone", host_of(message.url()))
            }
        })
    }

    /// What could not be sent since the last time.
    pub(crate) fn failures(&self) -> impl Iterator<Item = String> + '_ {
        self.failures.try_iter()
    }

    /// Lets what is queued be sent, but not for longer than `patience`.
    pub(crate) fn finish(mut self, patience: Duration) -> Vec<String> {
        drop(self.queue.take());
        let _ = self.ended.recv_deadline(Instant::now() + patience);
        self.failures.try_iter().collect()
    }
}

fn send(agent: &ureq::Agent, message: &Message) -> Result<(), String> {
    let outcome = match message {
        Message::Webhook(url, body) => {
            agent.post(url).header("content-type", "application/json").send(body.as_slice())
        }
        Message::Heartbeat(url) => agent.get(url).call(),
    };
    // The address may hold a secret, and the error the address.
    outcome.map(drop).map_err(|error| match error {
        ureq::Error::StatusCode(code) => format!("it answers {code}"),
        ureq::Error::Timeout(_) => "it does not answer in time".to_owned(),
        ureq::Error::Io(error) => error.to_string(),
        ureq::Error::HostNotFound => "its name is not known".to_owned(),
        _ => "the request failed".to_owned(),
    })
}

/// The part of an address that is no secret.
fn host_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    host.rsplit_once('@').map_or(host, |(_, host)| host)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn only_the_host_is_named() {
        assert_eq!(host_of("https://user:secret@hc.example:8080/ping/1234?token=x"), "hc.example:8080");
    }

    /// A server that accepts and never answers.
    #[test]
    fn a_server_that_hangs_is_given_up_and_holds_up_nobody() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", server.local_addr().unwrap());
        let courier = Courier::start(Duration::from_millis(200));
        let started = Instant::now();
        for _ in 0..QUEUE * 2 {
            let _ = courier.send(Message::Heartbeat(url.clone()));
        }
        assert!(courier.send(Message::Heartbeat(url)).unwrap_err().contains("too many"));
        assert!(started.elapsed() < Duration::from_secs(1));
        let failures = courier.finish(Duration::from_secs(4));
        assert!(started.elapsed() < Duration::from_secs(6));
        assert!(failures[0].contains("does not answer in time"), "{failures:?}");
    }
}
