//! Random streams: words, uniforms, integers in a range, normals, permutations.

use super::Chain;
use crate::Result;
use crate::numerics::rng::Stream;

pub(super) fn links(chain: &mut Chain) -> Result<()> {
    let keys: [(u64, &str, &[u64]); 4] =
        [(0, "", &[]), (42, "sample.noise", &[17, 600]), (u64::MAX, "train.t", &[1]), (7, "π", &[0, 0, u64::MAX])];
    let words = keys.iter().flat_map(|(seed, purpose, indices)| {
        let mut stream = Stream::keyed(*seed, purpose, indices);
        (0..256).map(move |_| stream.next_u64())
    });
    chain.integers("random.words", &words.collect::<Vec<_>>());

    let mut stream = Stream::keyed(1, "selftest", &[]);
    chain.numbers("random.uniforms", &(0..1001).map(|_| stream.uniform()).collect::<Vec<_>>());
    // The last rejects almost half of the words.
    let ranges = [1, 2, 3, 10, 1000, 60_000, 1 << 40, (1 << 63) + 1];
    let integers = ranges.iter().flat_map(|&n| (0..129).map(|_| stream.below(n)).collect::<Vec<_>>());
    chain.integers("random.below", &integers.collect::<Vec<_>>());

    let mut normals = vec![f32::NAN; 1001];
    stream.fill_normal(&mut normals);
    chain.numbers("random.normals_f32", &normals);
    let mut normals = vec![f64::NAN; 1001];
    stream.fill_normal(&mut normals);
    chain.numbers("random.normals_f64", &normals);
    let orders = [1, 2, 257, 1000].map(|n| stream.permutation(n));
    chain.integers("random.permutations", &orders.concat().iter().map(|&i| i as u64).collect::<Vec<_>>());
    Ok(())
}
