//! Which of the faster ways each precision has: float32 those of AVX-512, float64 none.

use super::kernels::Kernels;
#[cfg(target_arch = "x86_64")]
use super::kernels::{Softmax, SoftmaxGradient, Tiles, Transpose};

impl Kernels for f32 {
    #[cfg(target_arch = "x86_64")]
    fn tiles() -> Option<Tiles<f32>> {
        super::avx512::tiles_of_f32()
    }
    #[cfg(target_arch = "x86_64")]
    fn transpose() -> Option<Transpose<f32>> {
        super::square::transpose_of_f32()
    }
    #[cfg(target_arch = "x86_64")]
    fn softmax() -> Option<Softmax<f32>> {
        crate::numerics::softmax::softmax_of_f32()
    }
    #[cfg(target_arch = "x86_64")]
    fn softmax_gradient() -> Option<SoftmaxGradient<f32>> {
        crate::numerics::softmax::gradient_of_f32()
    }
}

impl Kernels for f64 {}
