//! Standard error: progress bars, notes, warnings, and the wish to stop.
//!
//! One place writes there, because a line must not be written across a bar. Bars show on a terminal only.

use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use pagevault::monitor::Monitor;
use signal_hook::SigId;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::text::printable;

/// How much is said on standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Loudness {
    /// Warnings and errors.
    Quiet,
    /// Notes as well.
    Normal,
    /// And which vault and key are used.
    Verbose,
}

/// Shows what an operation does, and hears that it should stop.
#[derive(Debug)]
pub(crate) struct Progress {
    bars: bool,
    loudness: Loudness,
    current: Mutex<Option<ProgressBar>>,
    interrupted: Arc<AtomicBool>,
    /// What was registered for signals.
    listening: Mutex<Vec<SigId>>,
}

impl Progress {
    /// With bars where `bars` is wanted and standard error is a terminal.
    pub(crate) fn new(bars: bool, loudness: Loudness) -> Self {
        let bars = bars && loudness > Loudness::Quiet && std::io::stderr().is_terminal();
        Self {
            bars,
            loudness,
            current: Mutex::default(),
            interrupted: Arc::default(),
            listening: Mutex::default(),
        }
    }

    /// From now on a first signal asks to stop, and a second one ends the process at once. Without this a
    /// signal would leave temporary files behind.
    pub(crate) fn listen_for_signals(&self) {
        let ignored = ignored_signals();
        for signal in
            [SIGINT, SIGTERM, SIGHUP].into_iter().filter(|signal| ignored & (1 << (signal - 1)) == 0)
        {
            let flag = || Arc::clone(&self.interrupted);
            // In this order: the first signal finds the flag unset. Where a handler cannot be had, the signal
            // ends the process as it always did.
            let shutdown = signal_hook::flag::register_conditional_shutdown(signal, 130, flag());
            let wish = signal_hook::flag::register(signal, flag());
            let mut listening = self.listening.lock().unwrap_or_else(PoisonError::into_inner);
            listening.extend(shutdown.into_iter().chain(wish));
        }
    }

    /// From now on signals mean nothing here: somebody else hears them, and what goes on is not to be stopped half-way.
    pub(crate) fn stop_listening(&self) {
        for id in self.listening.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            signal_hook::low_level::unregister(id);
        }
    }

    /// Writes a line of what may be good to know.
    pub(crate) fn note(&self, line: &str) {
        self.line(Loudness::Normal, line);
    }

    /// Writes a line for those who want to know exactly.
    pub(crate) fn detail(&self, line: &str) {
        self.line(Loudness::Verbose, line);
    }

    /// Writes lines as they are, however quiet it should be.
    pub(crate) fn always(&self, text: &str) {
        let write = || {
            // Nobody is left to tell if standard error is gone.
            let _ = std::io::stderr().lock().write_all(text.as_bytes());
        };
        match self.bar().as_ref() {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }

    fn line(&self, from: Loudness, line: &str) {
        if self.loudness >= from {
            self.always(&format!("{}\n", printable(line)));
        }
    }

    fn bar(&self) -> MutexGuard<'_, Option<ProgressBar>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The signals that whoever started this process wants ignored, such as `nohup`, as a mask. Known on Linux only.
fn ignored_signals() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

impl Monitor for Progress {
    fn begin(&self, verb: &str, object: &str, total: u64) {
        if !self.bars {
            return;
        }
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
        let template =
            "{prefix} {wide_bar} {binary_bytes:>11} of {binary_total_bytes}  {binary_bytes_per_sec:>13}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_prefix(format!("{verb} {}", printable(object)));
        if let Some(previous) = self.bar().replace(bar) {
            previous.finish_and_clear();
        }
    }

    fn advance(&self, amount: u64) {
        if self.bars
            && let Some(bar) = self.bar().as_ref()
        {
            bar.inc(amount);
        }
    }

    fn finish(&self) {
        if let Some(bar) = self.bar().take() {
            bar.finish_and_clear();
        }
    }

    fn warn(&self, message: &str) {
        self.line(Loudness::Quiet, &format!("warning: {message}"));
    }

    fn interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_a_wish_to_stop() {
        let progress = Progress::new(true, Loudness::Quiet);
        progress.listen_for_signals();
        assert!(!progress.interrupted());
        signal_hook::low_level::raise(SIGHUP).unwrap();
        assert!(progress.interrupted());
    }
}
