//! The workload program.
fn main() {}
