//! Keyed random streams: no shared generator, one stream a use (contract N1, rule 7).
//!
//! A stream is named by what it is for: `Stream::keyed(42, "sample.noise", &[17, 600])` is the noise of image 17 at
//! step 600 under seed 42, whoever asks for it, in whatever order, beside whatever else.
//!
//! # From a key to a state
//!
//! SHA-256 of the bytes `"ancestral N1"`, the seed (u64), the purpose's length (u64), the purpose (UTF-8), and each
//! index (u64), all little-endian, gives 32 bytes. The first 16 are the u128 `state`, the last 16 the u128 `increment`
//! with its lowest bit set. These are PCG64's own two numbers (XSL-RR 128/64, O'Neill 2014), so NumPy continues the
//! same stream:
//!
//! ```python
//! g = np.random.PCG64()
//! g.state = {"bit_generator": "PCG64", "state": {"state": state, "inc": increment}, "has_uint32": 0, "uinteger": 0}
//! ```

use ndarray::{Array, Dimension, IntoDimension};
use rand_core::Rng;
use rand_pcg::Pcg64;
use sha2::{Digest, Sha256};

use super::{Real, elementary};

/// The multiplier of PCG64's linear congruential generator modulo 2¹²⁸.
const MULTIPLIER: u128 = 0x2360_ED05_1FC6_5DA4_4385_DF64_9FCC_F645;

/// One stream of random numbers.
#[derive(Clone, Debug)]
pub struct Stream(Pcg64);

impl Stream {
    /// The stream of `purpose` under `seed`, told from its siblings by `indices` (image, step, epoch, ...).
    pub fn keyed(seed: u64, purpose: &str, indices: &[u64]) -> Self {
        let (state, increment) = state_of_key(seed, purpose, indices);
        // `Pcg64::new(s, stream)` starts from (s + increment)·m + increment, increment = 2·stream + 1. Undone here, so
        // that the state it starts from is `state` itself: s = (state − increment)·m⁻¹ − increment.
        let s = state.wrapping_sub(increment).wrapping_mul(inverse_of_odd(MULTIPLIER)).wrapping_sub(increment);
        Stream(Pcg64::new(s, increment >> 1))
    }

    /// The next 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number in [0, 1): (u >> 11) · 2⁻⁵³.
    pub fn uniform(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// An integer in 0..n, each equally likely: u mod n of the first u below the largest multiple of n in 2⁶⁴.
    ///
    /// # Panics
    /// If `n` is 0.
    pub fn below(&mut self, n: u64) -> u64 {
        assert!(n > 0, "below: the range 0..0 is empty");
        let rejected = (u64::MAX % n + 1) % n; // 2⁶⁴ mod n values at the top would favour the small remainders
        loop {
            let u = self.next_u64();
            if u <= u64::MAX - rejected {
                return u % n;
            }
        }
    }

    /// Fills `out` with independent standard normals: Box and Muller 1958 in f64, each rounded once.
    ///
    /// Of each pair u₁, u₂ of uniforms, r = √(−2 ln(1 − u₁)) and the two normals are r cos 2πu₂, r sin 2πu₂. A last odd
    /// element takes the cosine and the sine is dropped.
    pub fn fill_normal<F: Real>(&mut self, out: &mut [F]) {
        for pair in out.chunks_mut(2) {
            let (u1, u2) = (self.uniform(), self.uniform());
            let r = (-2.0 * elementary::ln(1.0 - u1)).sqrt();
            let angle = 2.0 * std::f64::consts::PI * u2;
            pair[0] = F::from_f64(r * elementary::cos(angle));
            if let Some(second) = pair.get_mut(1) {
                *second = F::from_f64(r * elementary::sin(angle));
            }
        }
    }

    /// 0..n in random order: Fisher and Yates' shuffle, from the last place down.
    pub fn permutation(&mut self, n: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..n).collect();
        for last in (1..n).rev() {
            order.swap(last, self.below(last as u64 + 1) as usize);
        }
        order
    }
}

/// Standard normal numbers of a shape from `key`, the stream (key, "gradient_check"): inputs for checks and measurements.
pub fn normal<D: Dimension>(shape: impl IntoDimension<Dim = D>, key: u64) -> Array<f64, D> {
    let dim = shape.into_dimension();
    let mut numbers = vec![0.0; dim.size()];
    Stream::keyed(key, "gradient_check", &[]).fill_normal(&mut numbers);
    Array::from_shape_vec(dim, numbers).expect("as many numbers as the shape says")
}

/// PCG64's state and increment for a key, as the module's documentation says.
pub fn state_of_key(seed: u64, purpose: &str, indices: &[u64]) -> (u128, u128) {
    let mut hash = Sha256::new();
    hash.update(b"ancestral N1");
    hash.update(seed.to_le_bytes());
    hash.update((purpose.len() as u64).to_le_bytes());
    hash.update(purpose.as_bytes());
    for index in indices {
        hash.update(index.to_le_bytes());
    }
    let bytes = hash.finalize();
    let half = |range: std::ops::Range<usize>| u128::from_le_bytes(bytes[range].try_into().expect("16 of 32 bytes"));
    (half(0..16), half(16..32) | 1)
}

/// a⁻¹ modulo 2¹²⁸ by Newton's iteration, which doubles the number of right bits from 3 each time.
fn inverse_of_odd(a: u128) -> u128 {
    let mut x = a;
    for _ in 0..6 {
        x = x.wrapping_mul(2u128.wrapping_sub(a.wrapping_mul(x)));
    }
    x
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stream_of_a_key_equals_numpys_pcg64_in_the_same_state() {
        let (state, increment) = state_of_key(42, "sample.noise", &[17, 600]);
        assert_eq!(state, NUMPY_STATE);
        assert_eq!(increment, NUMPY_INCREMENT);
        let mut stream = Stream::keyed(42, "sample.noise", &[17, 600]);
        let words: Vec<u64> = (0..4).map(|_| stream.next_u64()).collect();
        assert_eq!(words, NUMPY_RAW);
    }

    // Printed by NumPy 2.4.6: hashlib for the key, np.random.PCG64 in that state, g.random_raw(4).
    const NUMPY_STATE: u128 = 0x3958072797d569e10b847584bf0155de;
    const NUMPY_INCREMENT: u128 = 0x6f7f17ec86d06cc0739ba65aa1a1cc1b;
    const NUMPY_RAW: [u64; 4] = [15535944041890141580, 11456642512832619430, 16868333624633910475, 7362553273158113189];

    #[test]
    fn below_three_draws_each_value_a_third_of_the_time() {
        let mut stream = Stream::keyed(1, "test", &[]);
        let mut counts = [0u32; 3];
        for _ in 0..30_000 {
            counts[stream.below(3) as usize] += 1;
        }
        // Six standard deviations of a binomial with n = 30,000 and p = 1/3 are 490.
        assert!(counts.iter().all(|&c| c.abs_diff(10_000) < 490), "{counts:?}");
    }

    #[test]
    fn below_passes_over_the_words_that_would_favour_small_remainders() {
        let n = (1 << 63) + 1; // every word from n on is one of them
        let (mut words, mut stream) = (Stream::keyed(4, "test", &[]), Stream::keyed(4, "test", &[]));
        let mut expected = std::iter::repeat_with(|| words.next_u64()).filter(|&word| word < n);
        assert!((0..100).all(|_| Some(stream.below(n)) == expected.next()));
    }

    #[test]
    fn normals_have_mean_zero_variance_one_and_no_excess_kurtosis() {
        let mut z = vec![0f64; 100_001];
        Stream::keyed(7, "test", &[]).fill_normal(&mut z);
        let n = z.len() as f64;
        let moment = |k: i32| z.iter().map(|x| (0..k).fold(1.0, |p, _| p * x)).sum::<f64>() / n;
        // Six standard errors: √(1/n), √(2/n), √(96/n).
        assert!(moment(1).abs() < 6.0 * (1.0 / n).sqrt());
        assert!((moment(2) - 1.0).abs() < 6.0 * (2.0 / n).sqrt());
        assert!((moment(4) - 3.0).abs() < 6.0 * (96.0 / n).sqrt());
    }

    #[test]
    fn permutation_holds_every_index_once() {
        let mut order = Stream::keyed(3, "test", &[]).permutation(257);
        assert_ne!(order, (0..257).collect::<Vec<_>>());
        order.sort_unstable();
        assert_eq!(order, (0..257).collect::<Vec<_>>());
    }
}
