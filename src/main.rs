//! The `pagevault` command.
fn main() {}
