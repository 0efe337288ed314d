//! The exponential moving average of the weights, with a warm-up.
//!
//! After update i = 0, 1, ...: ema ← ema + (1 − d_i)(w − ema), d_i = min(decay, (1 + i)/(10 + i)). Without the warm-up an average of
//! 0.999 would show mostly its random start for the first thousand steps.

use rayon::prelude::*;

use crate::layers::ParameterVector;
use crate::numerics::Real;
use crate::numerics::instruction_set::every_instruction_set;

/// d_i of the formula above.
pub fn decay_at(i: u64, decay: f64) -> f64 {
    let warm_up = (1 + i) as f64 / (10 + i) as f64;
    if warm_up < decay { warm_up } else { decay }
}

/// Update i = 0, 1, ... of the average.
pub fn update<F: Real>(ema: &mut ParameterVector<F>, w: &ParameterVector<F>, i: u64, decay: f64) {
    blend(ema, w, 1.0 - decay_at(i, decay));
}

/// ema + rate·(w − ema), the rate rounded once.
pub(super) fn blend<F: Real>(ema: &mut ParameterVector<F>, w: &ParameterVector<F>, rate: f64) {
    let rate = F::from_f64(rate);
    const TASK: usize = 1 << 15;
    ema.0.par_chunks_mut(TASK).zip(w.0.par_chunks(TASK)).for_each(|(ema, w)| {
        towards(ema, w, rate);
    });
}

every_instruction_set! {
    fn towards<F>(ema: &mut [F], w: &[F], rate: F) {
        ema.iter_mut().zip(w).for_each(|(ema, &w)| *ema = rate.fma::<P>(w - *ema, *ema));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ema_of_constant_weights_stays_there() {
        let w = ParameterVector(vec![0.7f32; 3]);
        let mut ema = w.clone();
        (0..100).for_each(|i| update(&mut ema, &w, i, 0.999));
        assert_eq!(ema, w);
    }

    #[test]
    fn decay_warms_up_from_a_tenth_to_its_end() {
        assert_eq!(decay_at(0, 0.999), 0.1);
        assert_eq!(decay_at(8990, 0.999), 8991.0 / 9000.0);
        assert_eq!(decay_at(8991, 0.999), 0.999);
    }
}
