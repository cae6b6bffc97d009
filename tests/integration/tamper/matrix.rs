//! The damage matrix.
