//! Which instructions a hot loop is compiled for, chosen when the program runs.
//!
//! A hot loop is written once, in plain Rust, and compiled three times: for the machine that every build of the target has to
//! run on, for AVX2 with FMA, and for AVX-512. All give the same bits, because fused multiply-add is written out where it is
//! meant ([`fused`](super::fused)) and the compiler neither contracts `a * b + c` nor reorders a sum of floats; only the speed
//! differs.

use std::ffi::{OsStr, OsString};
use std::sync::OnceLock;

use crate::{Error, Result};

/// A way through the hot loops, the slowest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum InstructionSet {
    /// What the build's target always has: NEON on Arm; on x86-64 SSE2, with fused multiply-add in software.
    Portable,
    /// x86-64 with AVX2 and FMA: eight floats a register, fused multiply-add in hardware.
    Avx2Fma,
    /// x86-64 with AVX-512: sixteen floats a register, twice as many registers.
    Avx512,
}

impl InstructionSet {
    /// All of them.
    pub const ALL: [InstructionSet; 3] = [InstructionSet::Portable, InstructionSet::Avx2Fma, InstructionSet::Avx512];

    /// `avx512`, `avx2` or `portable`: its name in reports and in `ANCESTRAL_PATH`.
    pub fn name(self) -> &'static str {
        match self {
            InstructionSet::Avx512 => "avx512",
            InstructionSet::Avx2Fma => "avx2",
            InstructionSet::Portable => "portable",
        }
    }

    /// The fastest that the processor has.
    pub fn fastest() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("fma");
            if avx2 && std::is_x86_feature_detected!("avx512f") {
                return InstructionSet::Avx512;
            }
            if avx2 {
                return InstructionSet::Avx2Fma;
            }
        }
        InstructionSet::Portable
    }
}

/// The path that the environment variable `ANCESTRAL_PATH` names, or the fastest where it is not set.
///
/// # Errors
/// A name that is none, or of a path that this processor cannot take.
pub fn chosen() -> Result<InstructionSet> {
    static CHOSEN: OnceLock<Option<OsString>> = OnceLock::new(); // read once: no path changes under a run
    named(CHOSEN.get_or_init(|| std::env::var_os(VARIABLE)).as_deref(), InstructionSet::fastest())
}

/// The path this process takes: [`chosen`], and the fastest where that is an error.
///
/// The command refuses to start on that error. A library's caller who has not asked for [`chosen`] gets what the
/// processor can run: the bits are the same on every path.
pub fn current() -> InstructionSet {
    static PATH: OnceLock<InstructionSet> = OnceLock::new();
    *PATH.get_or_init(|| chosen().unwrap_or_else(|_| InstructionSet::fastest()))
}

const VARIABLE: &str = "ANCESTRAL_PATH";

fn named(name: Option<&OsStr>, fastest: InstructionSet) -> Result<InstructionSet> {
    let Some(name) = name else { return Ok(fastest) };
    let path = InstructionSet::ALL.into_iter().find(|path| name == path.name());
    match path {
        Some(path) if path > fastest => {
            let expected = format!("at most `{}`, which is what this processor has", fastest.name());
            Err(Error::value(VARIABLE, expected, format!("`{}`", path.name())))
        }
        Some(path) => Ok(path),
        None => {
            let found = format!("`{}`", name.to_string_lossy());
            Err(Error::value(VARIABLE, "`avx512`, `avx2`, `portable`, or not to be set", found))
        }
    }
}

/// The instruction sets of this processor that bear on arithmetic, for reports.
pub fn instruction_sets() -> Vec<&'static str> {
    #[cfg(target_arch = "x86_64")]
    let sets = [
        ("sse2", std::is_x86_feature_detected!("sse2")),
        ("avx", std::is_x86_feature_detected!("avx")),
        ("avx2", std::is_x86_feature_detected!("avx2")),
        ("fma", std::is_x86_feature_detected!("fma")),
        ("avx512f", std::is_x86_feature_detected!("avx512f")),
    ];
    #[cfg(target_arch = "aarch64")]
    let sets = [
        ("neon", std::arch::is_aarch64_feature_detected!("neon")),
        ("sve", std::arch::is_aarch64_feature_detected!("sve")),
    ];
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let sets: [(&str, bool); 0] = [];
    sets.into_iter().filter(|(_, detected)| *detected).map(|(name, _)| name).collect()
}

/// Defines a function generic over [`Real`](super::Real) whose body is compiled for every [`InstructionSet`].
///
/// The body must be made of loops over slices and of `#[inline(always)]` functions, so that all of it takes on the
/// instructions of the path. It calls the path's fused multiply-add `P`, as in `a.fma::<P>(b, c)`. A closure handed to a
/// library's iterator (`map(...).collect()`) is compiled apart and does not.
macro_rules! every_instruction_set {
    ($(#[$attribute:meta])* $vis:vis fn $name:ident<$F:ident $(, const $N:ident: usize)*>($($arg:ident: $type:ty),* $(,)?) $(-> $out:ty)? $body:block) => {
        $(#[$attribute])*
        $vis fn $name<$F: $crate::numerics::Real $(, const $N: usize)*>($($arg: $type),*) $(-> $out)? {
            #[inline(always)]
            #[allow(clippy::extra_unused_type_parameters)] // not every loop multiplies and adds
            fn plain<P: $crate::numerics::Fused, $F: $crate::numerics::Real $(, const $N: usize)*>($($arg: $type),*) $(-> $out)? $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma")]
                fn avx2_fma<$F: $crate::numerics::Real $(, const $N: usize)*>($($arg: $type),*) $(-> $out)? {
                    plain::<$crate::numerics::fused::Hardware, $F $(, $N)*>($($arg),*)
                }
                #[target_feature(enable = "avx512f,avx2,fma")]
                fn avx512<$F: $crate::numerics::Real $(, const $N: usize)*>($($arg: $type),*) $(-> $out)? {
                    plain::<$crate::numerics::fused::Hardware, $F $(, $N)*>($($arg),*)
                }
                // SAFETY: `current` names a path only after the processor was asked for its features.
                #[allow(unsafe_code)]
                match $crate::numerics::instruction_set::current() {
                    $crate::numerics::instruction_set::InstructionSet::Avx512 => return unsafe { avx512::<$F $(, $N)*>($($arg),*) },
                    $crate::numerics::instruction_set::InstructionSet::Avx2Fma => return unsafe { avx2_fma::<$F $(, $N)*>($($arg),*) },
                    $crate::numerics::instruction_set::InstructionSet::Portable => {}
                }
            }
            plain::<$crate::numerics::Native, $F $(, $N)*>($($arg),*)
        }
    };
}
pub(crate) use every_instruction_set;

/// Says that a test leaves something out, past the capture of output: nobody may take it for done.
#[cfg(test)]
pub(crate) fn skipped(what: &str, because: &str) {
    use std::io::Write;
    writeln!(std::io::stderr(), "skipped: {what}, because {because}").expect("standard error is open");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A library takes the fastest path where the one asked for is not there. Tests may not: they would prove something else.
    #[test]
    fn path_of_these_tests_is_the_one_that_was_asked_for() {
        assert_eq!(current(), chosen().expect("ANCESTRAL_PATH names a path of this processor"));
        let left_out = |path: &&InstructionSet| **path > current();
        InstructionSet::ALL.iter().filter(left_out).for_each(|path| {
            skipped(path.name(), &format!("these tests run on {}", current().name()));
        });
    }

    #[test]
    fn path_that_is_not_named_is_the_fastest() {
        assert_eq!(named(None, InstructionSet::Avx2Fma).unwrap(), InstructionSet::Avx2Fma);
        assert_eq!(named(None, InstructionSet::Portable).unwrap(), InstructionSet::Portable);
    }

    #[test]
    fn path_is_taken_by_name_where_the_processor_has_it() {
        assert_eq!(named(Some("avx2".as_ref()), InstructionSet::Avx2Fma).unwrap(), InstructionSet::Avx2Fma);
        assert_eq!(named(Some("portable".as_ref()), InstructionSet::Avx2Fma).unwrap(), InstructionSet::Portable);
        let refusal = named(Some("avx2".as_ref()), InstructionSet::Portable).unwrap_err().to_string();
        assert!(refusal.contains("at most `portable`") && refusal.contains("found `avx2`"), "{refusal}");
        assert!(named(Some("avx512".as_ref()), InstructionSet::Avx2Fma).is_err());
    }

    #[test]
    fn path_of_an_unknown_name_is_refused_with_the_names_there_are() {
        for name in ["", "Portable", "avx1024", "avx2 "] {
            let refusal = named(Some(name.as_ref()), InstructionSet::Avx2Fma).unwrap_err().to_string();
            let expected =
                format!("ANCESTRAL_PATH: expected `avx512`, `avx2`, `portable`, or not to be set, found `{name}`");
            assert_eq!(refusal, expected);
        }
    }
}
