//! Progress, apart from the engine: operations tell a [`Monitor`] what they do; terminals, tests and
//! services decide what to show.

/// Receives progress. All methods may be called from several threads.
pub trait Monitor: Send + Sync {
    /// A step of `total` bytes begins, e.g. `("snapshot", "app", 500_000_000)`.
    fn begin(&self, verb: &str, object: &str, total: u64);
    /// `amount` more bytes are done.
    fn advance(&self, amount: u64);
    /// The step is over, whatever its outcome.
    fn finish(&self);
    /// Something the user should know although the operation goes on.
    fn warn(&self, message: &str);
    /// Whether the user asked to stop; operations ask between chunks and end with `Interrupted`.
    fn interrupted(&self) -> bool {
        false
    }
}

/// Shows nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Monitor for Silent {
    fn begin(&self, _: &str, _: &str, _: u64) {}
    fn advance(&self, _: u64) {}
    fn finish(&self) {}
    fn warn(&self, _: &str) {}
}
