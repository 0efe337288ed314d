//! Which instructions a hot loop is compiled for, chosen when the program runs.
//!
//! A hot loop is written once, in plain Rust, and compiled twice: for the machine that every build of the target has to
//! run on, and for AVX2 with FMA. Both give the same bits, because fused multiply-add is written out where it is meant
//! (`mul_add`) and the compiler neither contracts `a * b + c` nor reorders a sum of floats; only the speed differs.

use std::sync::OnceLock;

/// A way through the hot loops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// x86-64 with AVX2 and FMA: eight floats a register, fused multiply-add in hardware.
    Avx2Fma,
    /// What the build's target always has: NEON on Arm; on x86-64 SSE2, with fused multiply-add in software.
    Portable,
}

/// The path this process takes: the fastest that the processor has, or `Portable` where the environment variable
/// `ANCESTRAL_PATH` says `portable`.
pub fn current() -> Path {
    static PATH: OnceLock<Path> = OnceLock::new();
    *PATH.get_or_init(|| {
        let forced = std::env::var("ANCESTRAL_PATH").is_ok_and(|p| p == "portable");
        if !forced && has_avx2_fma() { Path::Avx2Fma } else { Path::Portable }
    })
}

#[cfg(target_arch = "x86_64")]
fn has_avx2_fma() -> bool {
    std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("fma")
}

#[cfg(not(target_arch = "x86_64"))]
fn has_avx2_fma() -> bool {
    false
}

/// Defines a function generic over [`Real`](super::Real) whose body is compiled for every [`Path`].
///
/// The body must be made of loops over slices and of `#[inline(always)]` functions, so that all of it takes on the
/// instructions of the path. A closure handed to a library's iterator (`map(...).collect()`) is compiled apart and does not.
macro_rules! every_path {
    ($(#[$attribute:meta])* $vis:vis fn $name:ident<$F:ident $(, const $N:ident: usize)*>($($arg:ident: $type:ty),* $(,)?) $(-> $out:ty)? $body:block) => {
        $(#[$attribute])*
        $vis fn $name<$F: $crate::numerics::Real $(, const $N: usize)*>($($arg: $type),*) $(-> $out)? {
            #[inline(always)]
            fn plain<$F: $crate::numerics::Real $(, const $N: usize)*>($($arg: $type),*) $(-> $out)? $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma")]
                fn avx2_fma<$F: $crate::numerics::Real $(, const $N: usize)*>($($arg: $type),*) $(-> $out)? {
                    plain::<$F $(, $N)*>($($arg),*)
                }
                if $crate::numerics::path::current() == $crate::numerics::path::Path::Avx2Fma {
                    // SAFETY: `current` says `Avx2Fma` only after the processor was asked for both features.
                    #[allow(unsafe_code)]
                    return unsafe { avx2_fma::<$F $(, $N)*>($($arg),*) };
                }
            }
            plain::<$F $(, $N)*>($($arg),*)
        }
    };
}
pub(crate) use every_path;
