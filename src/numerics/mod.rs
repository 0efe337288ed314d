//! The ground floor: what a floating-point operation means here (contract N1).

pub mod buffer_pool;
pub mod elementary;
pub mod environment;
pub mod fused;
pub mod gemm;
pub mod incomplete_beta;
pub mod instruction_set;
pub mod ode;
pub mod parallel;
pub mod peak;
pub mod real;
pub mod rng;
#[cfg(target_arch = "x86_64")]
mod softmax;
pub mod sum;

pub use fused::{Fused, Native};
pub use real::Real;

/// The name of the contract that fixes every bit of a result; another name, other bits.
pub const CONTRACT: &str = "N1";
