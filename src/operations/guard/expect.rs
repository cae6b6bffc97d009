//! What a migration is expected to leave: `users>=same`, `orders=1200`.

use std::fmt;
use std::str::FromStr;

/// An expectation about the number of rows of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expectation {
    /// The table.
    pub table: String,
    comparison: &'static str,
    /// `None` for as many as before.
    number: Option<u64>,
}

/// Words that are no expectation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected TABLE, a comparison and a number or `same`, such as users>=same or orders=1200")]
pub struct ExpectationError;

/// The longer ones first: `>=` is not `>` before `=`.
const COMPARISONS: [&str; 6] = [">=", "<=", "!=", "=", ">", "<"];

impl Expectation {
    /// Whether `after` rows are as expected, where there were `before`; a table that was not there had none.
    #[must_use]
    pub fn holds(&self, before: u64, after: u64) -> bool {
        let wanted = self.number.unwrap_or(before);
        match self.comparison {
            ">=" => after >= wanted,
            "<=" => after <= wanted,
            "!=" => after != wanted,
            ">" => after > wanted,
            "<" => after < wanted,
            _ => after == wanted,
        }
    }
}

impl FromStr for Expectation {
    type Err = ExpectationError;

    fn from_str(text: &str) -> Result<Self, ExpectationError> {
        let (at, comparison) = text
            .char_indices()
            .find_map(|(at, _)| {
                let found = COMPARISONS.into_iter().find(|word| text[at..].starts_with(word));
                found.map(|comparison| (at, comparison))
            })
            .ok_or(ExpectationError)?;
        let table = text[..at].trim().to_owned();
        let number = match text[at + comparison.len()..].trim() {
            "same" => None,
            number => Some(number.parse().map_err(|_| ExpectationError)?),
        };
        if table.is_empty() { Err(ExpectationError) } else { Ok(Self { table, comparison, number }) }
    }
}

impl fmt::Display for Expectation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.table, self.comparison)?;
        match self.number {
            Some(number) => number.fmt(f),
            None => f.write_str("same"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expectations_are_comparisons() {
        let holds = |text: &str, before, after| text.parse::<Expectation>().unwrap().holds(before, after);
        assert!(holds("users>=same", 5, 5) && !holds("users>=same", 5, 4));
        assert!(holds("users = 7", 5, 7) && !holds("users=7", 7, 6));
        assert!(holds("users>0", 0, 1) && holds("users<=same", 2, 1) && holds("users!=0", 0, 3));
        assert_eq!("users >= same".parse::<Expectation>().unwrap().to_string(), "users>=same");
        for wrong in ["", "users", ">=same", "users>=", "users=>3", "users=-1", "users=many"] {
            assert!(wrong.parse::<Expectation>().is_err(), "{wrong}");
        }
    }
}
