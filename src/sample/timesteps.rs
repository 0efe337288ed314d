//! Which of the T steps a shorter chain visits (Lin et al. 2024, Table 2).
//!
//! The lists are those of `diffusers` in paper-time (one more than what the network is fed), element for element, with
//! NumPy's rounding: its `linspace` and `arange`, and ties to even. One deviation, towards the definition: a list has
//! exactly N entries. `np.arange(T, 0, -T/N)`, from which `diffusers` takes "trailing", has one too many for 62 values of
//! N at T = 1000 (61, 103, 121, …), the network then being fed −1.

use serde::{Deserialize, Serialize};

use crate::diffusion::schedule::linspace;
use crate::{Error, Result};

/// How N steps are spread over 1..=T, under the names that `diffusers` gives them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Spacing {
    /// 1 + i·⌊T/N⌋ + offset: starts at 1 and never visits T if N < T, unless the offset reaches it.
    Leading,
    /// T − i·T/N, rounded: starts from T, the last one about T/N.
    Trailing,
    /// 1 + i·(T−1)/(N−1), rounded: both 1 and T; 1 alone if N is 1.
    Linspace,
}

/// The times that a chain of `n` steps visits: descending, each once, in 1..=`t_max`.
///
/// `steps_offset` shifts the leading times towards T, as in `diffusers`; the others ignore it.
///
/// # Errors
/// If not 1 ≤ `n` ≤ `t_max`, or the offset shifts the first time beyond `t_max`.
pub fn timesteps(spacing: Spacing, t_max: usize, n: usize, steps_offset: usize) -> Result<Vec<usize>> {
    if !(1..=t_max).contains(&n) {
        return Err(Error::value("number of sampling steps", format!("1 to {t_max}"), n));
    }
    let round = |t: f64| t.round_ties_even() as usize;
    match spacing {
        Spacing::Leading => {
            let stride = t_max / n;
            let room = t_max - (1 + (n - 1) * stride);
            if steps_offset > room {
                let expected = format!("at most {room} for {n} of {t_max} steps with leading spacing");
                return Err(Error::value("steps_offset", expected, steps_offset));
            }
            Ok((0..n).rev().map(|i| 1 + i * stride + steps_offset).collect())
        }
        Spacing::Trailing => {
            let start = t_max as f64;
            // NumPy's arange takes its stride from its first two entries, after their rounding.
            let stride = (start - start / n as f64) - start;
            Ok((0..n).map(|i| round(start + i as f64 * stride)).collect())
        }
        Spacing::Linspace => Ok(linspace(0.0, (t_max - 1) as f64, n).into_iter().rev().map(|t| 1 + round(t)).collect()),
    }
}

/// The times of `n` steps from T to 1 by a stride that is added up, as OpenAI's `space_timesteps` adds it; of one step, 1 alone.
///
/// # Errors
/// If not 1 ≤ `n` ≤ `t_max`.
pub(super) fn respaced(t_max: usize, n: usize) -> Result<Vec<usize>> {
    timesteps(Spacing::Linspace, t_max, n, 0)?;
    let stride = if n == 1 { 1.0 } else { (t_max - 1) as f64 / (n - 1) as f64 };
    let places = (0..n).scan(0.0f64, |place, _| {
        let here = *place;
        *place += stride;
        Some(1 + here.round_ties_even() as usize)
    });
    let mut list: Vec<usize> = places.collect();
    list.reverse();
    Ok(list)
}

/// The times T − i·T/N, cut off, as lucidrains' `ddim_sample` has them from PyTorch's `linspace` in float32, which counts from
/// the nearer end.
///
/// # Errors
/// If not 1 ≤ `n` ≤ `t_max`.
pub(super) fn cut_off(t_max: usize, n: usize) -> Result<Vec<usize>> {
    timesteps(Spacing::Linspace, t_max, n, 0)?;
    let stride = t_max as f32 / n as f32;
    let place = |i: usize| match i < n.div_ceil(2) {
        // In f64 the product of two such numbers is exact: the sum is rounded once, as by a fused multiply-add.
        true => (f64::from(stride) * i as f64 - 1.0) as f32,
        false => ((t_max - 1) as f64 - f64::from(stride) * (n - i) as f64) as f32,
    };
    Ok((1..=n).rev().map(|i| place(i) as usize + 1).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::{Digest, Sha256};

    const ALL: [Spacing; 3] = [Spacing::Leading, Spacing::Trailing, Spacing::Linspace];

    #[test]
    fn timesteps_of_every_length_are_descending_times_of_the_schedule() {
        for t_max in [1, 2, 3, 50, 333] {
            for n in 1..=t_max {
                for spacing in ALL {
                    let list = timesteps(spacing, t_max, n, 0).unwrap();
                    assert_eq!(list.len(), n, "{spacing:?}, T = {t_max}");
                    assert!(list.windows(2).all(|pair| pair[0] > pair[1]), "{spacing:?}, T = {t_max}, N = {n}");
                    assert!(list[0] <= t_max && list[n - 1] >= 1, "{spacing:?}, T = {t_max}, N = {n}");
                }
            }
        }
    }

    #[test]
    fn timesteps_of_every_length_equal_numpys() {
        // For N = 1..1000 the first N entries, made 1-based, of the three expressions in diffusers 0.42.1's
        // DDPMScheduler.set_timesteps at T = 1000, each entry a little-endian u32, through hashlib.sha256.
        let hashes = ALL.map(|spacing| {
            let mut hash = Sha256::new();
            for n in 1..=1000 {
                for t in timesteps(spacing, 1000, n, 0).unwrap() {
                    hash.update((t as u32).to_le_bytes());
                }
            }
            hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect::<String>()
        });
        assert_eq!(hashes, NUMPY_SHA256);
    }

    const NUMPY_SHA256: [&str; 3] = [
        "b1b0afb85b7351fd1c5076fb42fbc1e7a891778ede918d02cbd527316e8afa7b",
        "1516596311af928d5e891addcf67691594b37a77b9a93db3067bc37e2763930a",
        "2a711c1ffa1ef7f93dccac7cf9043e196f3856e762d437b13485063adfdc6117",
    ];

    #[test]
    fn timesteps_round_ties_to_even_and_never_feed_a_negative_time() {
        // 999/6 · 3 = 499.5 is fed as 500; half away from zero would agree, but 999/6 · 1 = 166.5 is fed as 166.
        let list = timesteps(Spacing::Linspace, 1000, 7, 0).unwrap();
        assert_eq!(list, [1000, 833, 667, 501, 334, 167, 1]);
        assert_eq!(timesteps(Spacing::Trailing, 1000, 16, 0).unwrap()[1..4], [938, 875, 812]);
        assert_eq!(timesteps(Spacing::Trailing, 1000, 61, 0).unwrap()[60], 16);
    }

    #[test]
    fn lists_of_other_programs_are_theirs_entry_for_entry() {
        // The same hashes of improved-diffusion's space_timesteps(1000, [n]) and of lucidrains' torch.linspace(-1, 999, n +
        // 1).int().
        let hash = |list: fn(usize, usize) -> Result<Vec<usize>>| {
            let mut hash = Sha256::new();
            for n in 1..=1000 {
                list(1000, n).unwrap().iter().for_each(|&t| hash.update((t as u32).to_le_bytes()));
            }
            hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect::<String>()
        };
        assert_eq!(hash(respaced), "41f37c48fea574d01fec44d836e1d3e31a7ea37b3281959eb8ab2cbb14ca5d27");
        assert_eq!(hash(cut_off), "b72ff612d4a32179fdd5b64fefebdfd7f439e41b03ddf27c073305866cbbde63");
        assert_eq!((respaced(1000, 1).unwrap(), cut_off(10, 3).unwrap()), (vec![1], vec![10, 6, 3]));
    }

    #[test]
    fn timesteps_that_do_not_fit_are_refused() {
        for n in [0, 11] {
            let refusal = timesteps(Spacing::Trailing, 10, n, 0).unwrap_err().to_string();
            assert!(refusal.contains("expected 1 to 10"), "{refusal}");
        }
        assert_eq!(timesteps(Spacing::Leading, 10, 3, 3).unwrap(), [10, 7, 4]);
        for offset in [4, usize::MAX] {
            let refusal = timesteps(Spacing::Leading, 10, 3, offset).unwrap_err().to_string();
            assert!(refusal.starts_with("steps_offset: expected at most 3"), "{refusal}");
        }
    }
}
