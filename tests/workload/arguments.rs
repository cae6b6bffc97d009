//! The words of the command line, taken one by one.

use std::fmt::Display;
use std::str::FromStr;

/// What is left of the command line.
#[derive(Debug)]
pub(crate) struct Arguments(Vec<String>);

impl Arguments {
    pub(crate) fn from_environment() -> Self {
        Self(std::env::args().skip(1).collect())
    }

    /// Takes the next word.
    pub(crate) fn positional(&mut self, name: &str) -> Result<String, String> {
        if self.0.is_empty() {
            return Err(format!("{name} is missing; see `workload help`"));
        }
        Ok(self.0.remove(0))
    }

    /// Takes the value of an option, or `default`.
    pub(crate) fn option<T: FromStr<Err: Display>>(&mut self, name: &str, default: T) -> Result<T, String> {
        let Some(at) = self.0.iter().position(|word| word == name) else { return Ok(default) };
        if at + 1 == self.0.len() {
            return Err(format!("{name} needs a value"));
        }
        self.0.remove(at);
        let value = self.0.remove(at);
        value.parse().map_err(|error| format!("{name} {value:?}: {error}"))
    }

    /// Takes an option without a value.
    pub(crate) fn flag(&mut self, name: &str) -> bool {
        let at = self.0.iter().position(|word| word == name);
        at.map(|at| self.0.remove(at)).is_some()
    }

    /// Whatever was not taken is a mistake.
    pub(crate) fn finish(self) -> Result<(), String> {
        match self.0.first() {
            None => Ok(()),
            Some(word) => Err(format!("unexpected {word:?}; see `workload help`")),
        }
    }
}
