//! The error and the fingerprint of every elementary function in f32, over its inputs.
//!
//! The reference is the f64 function, whose relative error is below 10⁻¹⁵ (2⁻⁵⁰): sound for an error in ulp of f32 to eight
//! digits, but blind to the rounding where the true value is that close to halfway between two f32. Those inputs are
//! counted as `near_ties`. For ln, sin and cos, which are that f64 function rounded once, the count is all that this
//! sweep can say: every other result is correctly rounded.
//!
//! The fingerprint is the SHA-256 of all 2³² outputs as little-endian f32, in the order of the inputs' bits from 0 on;
//! every NaN is written as 0x7fc00000.
//!
//! ```text
//! cargo test --release --test suite elementary_sweep -- --ignored --nocapture
//! ```
//!
//! With `ANCESTRAL_PATH=portable` before it, it takes the other path through the loops, to the same figures; with
//! `ELEMENTARY=tanh`, that function alone.

use ancestral::golden::format::Format;
use ancestral::numerics::fused::Hardware;
use ancestral::numerics::instruction_set::{self, InstructionSet};
use ancestral::numerics::{Fused, Native, elementary as e};
use rayon::prelude::*;
use sha2::{Digest, Sha256};

/// What the sweep over all 2³² inputs found for one function; the documentation of `elementary` holds the same.
struct Figures {
    name: &'static str,
    max_ulp: f64,
    /// The bits of the input with the largest error, and the SHA-256 of all outputs.
    swept: (u32, &'static str),
    /// The SHA-256 of the outputs for every 4099th input alone.
    sampled_sha256: &'static str,
}

const FIGURES: [Figures; 6] = [
    Figures {
        name: "exp",
        max_ulp: 0.88,
        swept: (0x4179_8bc1, "ce824315d02358bc6917d24f34ec4493c7d35ebb707720b644e7efbb72901c79"),
        sampled_sha256: "a19bf81114a9eb39e84f2b10c501a7a74c7d46f1bda0e8621a22384e4160aa16",
    },
    Figures {
        name: "sigmoid",
        max_ulp: 1.65,
        swept: (0xbf8e_18b2, "619fdc96b12e5ed51081560240f92f34364c86c1dedb7a597d6cd9dc54f077e2"),
        sampled_sha256: "4da8e36374ea33477858072f69c2e4cdd720a3e19c19bf6b3334ab71f43f8050",
    },
    Figures {
        name: "tanh",
        max_ulp: 1.33,
        swept: (0x3f20_8aab, "bad692b00a71fc88dc1ef0aab2a77cd7136204b82260f983f27505378f802b69"),
        sampled_sha256: "5a76c7d6ef278511bfbd5b3f5598efa97cf373504d7e32ace012be56ef4e3ecc",
    },
    Figures {
        name: "ln",
        max_ulp: 0.5,
        swept: (0x1f11_6ab8, "552520b41156e6e02501cd90a480a4e0f2bb4437fc890a3ab5279888359968dd"),
        sampled_sha256: "97defe6ca2cbff78a070919e56e30a6afb70ae899104c70c26bc8bdd39cfbf6f",
    },
    Figures {
        name: "sin",
        max_ulp: 0.5,
        swept: (0x4619_9998, "6c3de148364dbb15467d3b67e302eee893e5628bbfcc4b0089c08b8f1f4189ef"),
        sampled_sha256: "ccf78fa9c7b45bbfc377c7a96a458ba9d7b73bc4a15ae4608ef772de0b638177",
    },
    Figures {
        name: "cos",
        max_ulp: 0.5,
        swept: (0x5944_3c0a, "90c61b4813aa2b9379950b6a1510958e9bebaa71a9e762995b9a6e644d028e64"),
        sampled_sha256: "32d1cca3f18fd4973a3bd051fac2c2ed29f84d212d1485b9d1b700a5f8e9b93b",
    },
];

/// The largest relative error the f64 functions are trusted with: 2⁻⁵⁰.
const REFERENCE_ERROR: f64 = 4.0 * f64::EPSILON;

/// What one run over some inputs finds.
#[derive(Clone, Copy)]
struct Found {
    max_ulp: f64,
    worst_input: u32,
    wrongly_rounded: u64,
    near_ties: u64,
}

impl Found {
    const NOTHING: Found = Found { max_ulp: 0.0, worst_input: 0, wrongly_rounded: 0, near_ties: 0 };

    /// Of equal errors the earlier input stays.
    fn add(&mut self, later: Found) {
        if later.max_ulp > self.max_ulp {
            (self.max_ulp, self.worst_input) = (later.max_ulp, later.worst_input);
        }
        self.wrongly_rounded += later.wrongly_rounded;
        self.near_ties += later.near_ties;
    }

    /// Compares y = f(x) with the reference.
    ///
    /// # Panics
    /// If y is infinite, NaN or a zero of some sign where the rounded reference is not, or the reverse.
    #[inline(always)]
    fn compare(&mut self, x: f32, y: f32, reference: f64) {
        let rounded = reference as f32;
        if y.to_bits() == rounded.to_bits() || y.is_nan() && rounded.is_nan() {
            if !rounded.is_finite() {
                return;
            }
        } else {
            let comparable = y.is_finite() && rounded.is_finite() && y != rounded;
            assert!(comparable, "f({x:e}): expected {rounded:e}, found {y:e}");
            self.wrongly_rounded += 1;
        }
        let ulps = (y as f64 - reference).abs() / Format::F32.ulp(reference);
        if ulps > self.max_ulp {
            (self.max_ulp, self.worst_input) = (ulps, x.to_bits());
        }
        let near_tie = (reference * (1.0 - REFERENCE_ERROR)) as f32 != (reference * (1.0 + REFERENCE_ERROR)) as f32;
        self.near_ties += near_tie as u64;
    }
}

/// y = f(x) over a slice, compiled for the path that the process takes.
macro_rules! over_a_slice {
    ($name:ident, $f:path) => {
        fn $name(x: &[f32], y: &mut [f32]) {
            #[inline(always)]
            #[allow(clippy::extra_unused_type_parameters)] // three of them are f64 functions, without it
            fn plain<P: Fused>(x: &[f32], y: &mut [f32]) {
                for (y, &x) in y.iter_mut().zip(x) {
                    *y = $f(x);
                }
            }
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma")]
                fn avx2_fma(x: &[f32], y: &mut [f32]) {
                    plain::<Hardware>(x, y)
                }
                if instruction_set::current() >= InstructionSet::Avx2Fma {
                    // SAFETY: `current` says `Avx2Fma` or more only after the processor was asked for both features.
                    #[allow(unsafe_code)]
                    return unsafe { avx2_fma(x, y) };
                }
            }
            plain::<Native>(x, y)
        }
    };
}
over_a_slice!(exp, e::exp_f32::<P>);
over_a_slice!(sigmoid, e::sigmoid_f32::<P>);
over_a_slice!(tanh, e::tanh_f32::<P>);
over_a_slice!(ln, e::ln_f32);
over_a_slice!(sin, e::sin_f32);
over_a_slice!(cos, e::cos_f32);

/// y = f(x) in f32 over a slice, and in f64 over one number.
type Pair = (fn(&[f32], &mut [f32]), fn(f64) -> f64);

fn function(name: &str) -> Pair {
    match name {
        "exp" => (exp, e::exp),
        "sigmoid" => (sigmoid, e::sigmoid),
        "tanh" => (tanh, e::tanh),
        "ln" => (ln, e::ln),
        "sin" => (sin, e::sin),
        "cos" => (cos, e::cos),
        _ => unreachable!("no function {name}"),
    }
}

/// The outputs of f for the inputs with these bits, and what there is to say about them.
fn run((f, reference): Pair, inputs: &[f32]) -> (Vec<f32>, Found) {
    let mut y = vec![f32::NAN; inputs.len()];
    f(inputs, &mut y);
    let mut found = Found::NOTHING;
    for (&x, &y) in inputs.iter().zip(&y) {
        found.compare(x, y, reference(x as f64));
    }
    (y, found)
}

/// Little-endian, every NaN as 0x7fc00000.
fn bytes(outputs: &[f32]) -> Vec<u8> {
    let canonical = |y: &f32| if y.is_nan() { 0x7fc0_0000 } else { y.to_bits() };
    outputs.iter().flat_map(|y| canonical(y).to_le_bytes()).collect()
}

fn hex(digest: impl AsRef<[u8]>) -> String {
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn functions_over_every_4099th_input_have_the_stated_fingerprint_and_stay_within_their_error() {
    let inputs: Vec<f32> = (0..=u32::MAX).step_by(4099).map(f32::from_bits).collect();
    for figures in FIGURES {
        let (outputs, found) = run(function(figures.name), &inputs);
        let Found { max_ulp, worst_input, .. } = found;
        assert!(max_ulp <= figures.max_ulp, "{}: {max_ulp} ulp at {worst_input:#010x}", figures.name);
        assert_eq!(hex(Sha256::digest(bytes(&outputs))), figures.sampled_sha256, "{}", figures.name);
    }
}

#[test]
fn documentation_states_these_figures() {
    let documentation = include_str!("../../src/numerics/elementary/mod.rs");
    for Figures { name, max_ulp, swept: (worst_input, sha256), .. } in FIGURES {
        let row = documentation.lines().find(|line| line.starts_with(&format!("//! | {name} |"))).expect(name);
        for figure in [format!("| {max_ulp} |"), format!("| 0x{worst_input:08x} ("), format!("| {sha256} |")] {
            assert!(row.contains(&figure), "{row} lacks {figure}");
        }
    }
}

#[test]
#[ignore = "all 2^32 inputs of six functions: many minutes, in a release build"]
fn functions_over_all_inputs_have_the_stated_error_and_fingerprint() {
    const CHUNK: u64 = 1 << 16;
    const CHUNKS_AT_ONCE: u64 = 64;
    let only = std::env::var("ELEMENTARY").ok();
    let mut failed = Vec::new();
    for figures in FIGURES.iter().filter(|f| only.as_ref().is_none_or(|only| f.name == only)) {
        let pair = function(figures.name);
        let mut all = Found::NOTHING;
        let mut hash = Sha256::new();
        for first in (0..1u64 << 32).step_by((CHUNK * CHUNKS_AT_ONCE) as usize) {
            let chunks: Vec<(Vec<u8>, Found)> = (0..CHUNKS_AT_ONCE)
                .into_par_iter()
                .map(|chunk| {
                    let start = first + chunk * CHUNK;
                    let inputs: Vec<f32> = (start..start + CHUNK).map(|bits| f32::from_bits(bits as u32)).collect();
                    let (outputs, found) = run(pair, &inputs);
                    (bytes(&outputs), found)
                })
                .collect();
            for (bytes, found) in chunks {
                hash.update(&bytes);
                all.add(found);
            }
        }
        let sha256 = hex(hash.finalize());
        let Found { max_ulp, worst_input, wrongly_rounded, near_ties } = all;
        println!(
            "{}: {max_ulp:.6} ulp at {worst_input:#010x} ({:e}), {wrongly_rounded} wrongly rounded, {near_ties} near ties, {sha256}",
            figures.name,
            f32::from_bits(worst_input)
        );
        // The table rounds the error up to two places.
        let as_stated = max_ulp <= figures.max_ulp && max_ulp > figures.max_ulp - 0.0101;
        if !as_stated || figures.swept != (worst_input, sha256.as_str()) {
            failed.push(figures.name);
        }
    }
    assert!(failed.is_empty(), "not as stated: {failed:?}");
}
