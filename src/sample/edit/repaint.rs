//! RePaint: the unknown part is drawn, the known part is the picture in fresh noise (Lugmayr et al. 2022, Algorithm 1).
//!
//! ```text
//! for each step from t down to s
//!     x_s^unknown = the sampler's step from x_t
//!     x_s^known   = signal_s·x₀ + sigma_s·ε            ε ~ N(0, I)      (Eq. 8a)
//!     x_s         = known part of x_s^known, the rest of x_s^unknown    (Eq. 8c)
//! ```
//!
//! A step sees the known part, but what it draws was decided before: the parts fit badly. So the chain goes up again, from s to a
//! noisier t,
//!
//! ```text
//! x_t = a·x_s + b·ε        a = signal_t/signal_s,  b² = sigma_t² − a²·sigma_s²
//! ```
//!
//! and comes down once more ("resampling", § 4.2). The paper adds the noise of j steps one by one; one noise of their whole
//! variance is the same distribution.

use ndarray::{Array3, Array4, Zip};

use crate::diffusion::{Level, q_sample};
use crate::layers::{flat, shaped};
use crate::numerics::Real;
use crate::sample::{Sampler, SamplerOptions, Term, Transition, Walk, weighted_sum};
use crate::{Error, Result};

/// What is known of pictures.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a, F> {
    /// The pictures x₀, shape (n, h, w, c).
    pub pictures: &'a Array4<F>,
    /// Where they are known, shape (h, w, c).
    pub mask: &'a Array3<bool>,
}

impl<F: Real> Known<'_, F> {
    /// x with its known part in its place.
    fn put(&self, x: &mut Array4<F>, at: Level, walk: &mut dyn Walk<F>) {
        let known = match at.is_clean() {
            true => self.pictures.clone(),
            false => shaped(x.dim(), q_sample(at, flat(self.pictures), flat(&walk.renoise(at)))),
        };
        for (mut x, known) in x.outer_iter_mut().zip(known.outer_iter()) {
            Zip::from(&mut x).and(&known).and(self.mask).for_each(|x, &known, &is_known| {
                if is_known {
                    *x = known;
                }
            });
        }
    }
}

/// How often a chain goes up again, and how far (Lugmayr et al. 2022, § 4.2 and § 5.1: 10 steps, 10 times).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resampling {
    /// Steps that it goes up, j of the paper; at least 1.
    pub jump_length: usize,
    /// How often each stretch of that many steps is walked down, r of the paper; 1 never goes up.
    pub times: usize,
}

impl Resampling {
    /// The chain with its jumps: from each level that is a multiple of `jump_length` steps before the last visited one, up by
    /// `jump_length`, until each stretch was walked `times` times. A stretch that would begin above the first level is walked once.
    ///
    /// # Errors
    /// No step to go up by, or no walk.
    pub fn chain(self, down: &[Transition]) -> Result<Vec<Transition>> {
        let Resampling { jump_length, times } = self;
        if jump_length == 0 {
            return Err(Error::value("jump_length", "at least 1 step", jump_length));
        }
        if times == 0 {
            return Err(Error::value("resample", "at least 1 walk down", times));
        }
        let mut chain = Vec::new();
        // Where x is, in steps before the last visited level, and the jumps left to each such place.
        let first = down.len().saturating_sub(1);
        let mut left: Vec<usize> = (0..=first)
            .map(|place| if place % jump_length == 0 && place + jump_length <= first { times - 1 } else { 0 })
            .collect();
        let mut place = first;
        loop {
            if left[place] > 0 {
                left[place] -= 1;
                let (from, to) = (down[first - place].from, down[first - place - jump_length].from);
                chain.push(Transition { from, to });
                place += jump_length;
                continue;
            }
            chain.extend(down.get(first - place));
            if place == 0 {
                return Ok(chain);
            }
            place -= 1;
        }
    }
}

/// How often something is seen on such a chain: at each transition that does not go up.
pub fn evaluations(chain: &[Transition]) -> usize {
    chain.iter().filter(|transition| !goes_up(**transition)).count()
}

fn goes_up(Transition { from, to }: Transition) -> bool {
    to.alpha_bar < from.alpha_bar
}

/// Walks the chain from `x`, with a sampler whose steps need no memory.
///
/// # Shapes
/// x and the result: (n, h, w, c), as the known pictures.
///
/// # Errors
/// Whatever the sampler and the walk refuse.
pub(super) fn repaint<F: Real>(
    chain: &[Transition],
    mut x: Array4<F>,
    known: Known<F>,
    (sampler, options): (Sampler, &SamplerOptions),
    walk: &mut dyn Walk<F>,
) -> Result<Array4<F>> {
    for &transition in chain {
        let Transition { from, to } = transition;
        if goes_up(transition) {
            let z = walk.renoise(to);
            let share = to.signal() / from.signal();
            let rest = to.sigma() * to.sigma() - share * share * from.sigma() * from.sigma();
            x = weighted_sum(&[Term::new("x_s", share, &x), Term::new("z", rest.sqrt(), &z)]);
        } else {
            x = sampler.run(&[transition], x, options, walk)?;
            known.put(&mut x, to, walk);
        }
    }
    Ok(x)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::tests::schedule;

    /// A chain of T = 40 through these times.
    fn down(times: &[usize]) -> Vec<Transition> {
        crate::sample::chain(&schedule(), times, Sampler::Ddpm, &SamplerOptions::default()).unwrap()
    }

    fn walked(jump_length: usize, times: usize) -> Vec<f64> {
        let chain = Resampling { jump_length, times }.chain(&down(&[6, 5, 4, 3, 2, 1])).unwrap();
        chain.windows(2).for_each(|pair| assert_eq!(pair[0].to, pair[1].from));
        chain.iter().map(|step| step.to.t()).collect()
    }

    #[test]
    fn chain_with_jumps_walks_each_stretch_as_often_as_asked() {
        assert_eq!(walked(2, 1), [5.0, 4.0, 3.0, 2.0, 1.0, 0.0]);
        // From 3 up to 5 and from 1 up to 3; 5 is too near to the first level, 6, for a jump of its own.
        assert_eq!(walked(2, 2), [5.0, 4.0, 3.0, 5.0, 4.0, 3.0, 2.0, 1.0, 3.0, 2.0, 1.0, 0.0]);
        assert_eq!(
            walked(5, 3),
            [5.0, 4.0, 3.0, 2.0, 1.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0, 0.0]
        );
        assert_eq!(walked(9, 9), walked(2, 1), "no room to go up");
    }

    #[test]
    fn jumps_that_lead_nowhere_are_refused_by_name() {
        let refused = |jump_length, times| Resampling { jump_length, times }.chain(&[]).unwrap_err().to_string();
        assert!(refused(0, 1).starts_with("jump_length: expected at least 1") && refused(1, 0).starts_with("resample"));
    }

    #[test]
    fn going_up_keeps_the_marginal_of_the_noisier_level() {
        // A chain that only goes up: of x = signal_s·x₀ + sigma_s·ε it makes signal_t·x₀ + sigma_t·ε' with a new ε'.
        struct Ones;
        impl Walk<f64> for Ones {
            fn see(&mut self, _: &Array4<f64>, _: Level) -> Result<crate::denoise::Estimate<f64>> {
                unreachable!("nothing is seen on the way up")
            }
            fn noise(&mut self, _: Level) -> Array4<f64> {
                Array4::ones((1, 1, 1, 2))
            }
        }
        let [from, to] = [7, 19].map(|t| schedule().level(t));
        let (x, mask) =
            (Array4::from_shape_vec((1, 1, 1, 2), vec![1.0, 0.0]).unwrap(), Array3::from_elem((1, 1, 2), false));
        let known = Known { pictures: &x, mask: &mask };
        let options = SamplerOptions::default();
        let up = repaint(&[Transition { from, to }], x.clone(), known, (Sampler::Ddpm, &options), &mut Ones).unwrap();
        let (share, rest) = (up[[0, 0, 0, 0]] - up[[0, 0, 0, 1]], up[[0, 0, 0, 1]]);
        assert!((share * from.signal() - to.signal()).abs() < 1e-15);
        let variance = share * share * from.sigma() * from.sigma() + rest * rest;
        assert!((variance - to.sigma() * to.sigma()).abs() < 1e-15);
    }
}
