//! The golden kit: values that other implementations are tested with, and the judge that says where they are wrong.
//!
//! ```text
//! inputs ── ops ──┬── f64: the truth ─────────┐
//!   case          ├── f32: the contract's bits ├── case file ── kit ──── check ── verdict, place, known mistake
//!                 └── f64 with noise: tolerance┘                  backend's results ─┘
//! ```
//!
//! | module | what it holds |
//! |---|---|
//! | [`case`] | one case in one safetensors file |
//! | [`ops`] | the operations, each generic over the precision |
//! | [`mod@format`] | the formats of a backend's numbers: float32, float16, bfloat16 |
//! | [`precision`], [`tolerance`] | how far a correct float32 implementation may be from the truth |
//! | [`oracle`] | golden values of any case |
//! | [`kit`] | the cases of the kit, and the folder that holds them |
//! | [`mutants`], [`probes`] | known mistakes, and orders of addition |
//! | [`judge`], [`check`] | a backend's results beside the kit |
//!
//! The kit is not its own witness: the float64 values are compared with PyTorch's and NumPy's in tests/suite/golden.rs and
//! examples/golden.

pub mod case;
pub mod check;
pub mod format;
pub mod judge;
pub mod kit;
pub mod mutants;
pub mod ops;
pub mod oracle;
pub mod precision;
pub mod probes;
pub mod tolerance;
