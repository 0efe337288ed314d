//! The golden kit.
pub mod case;
pub mod ops;
pub mod precision;
pub mod oracle;
pub mod tolerance;
pub mod judge;
pub mod mutants;
pub mod probes;
pub mod kit;
mod npy;
pub mod check;
