//! The ground floor: what a floating-point operation means here (contract N1).

pub mod elementary;
pub mod gemm;
pub mod path;
pub mod real;
pub mod rng;
pub mod shards;
pub mod sum;

pub use real::Real;
