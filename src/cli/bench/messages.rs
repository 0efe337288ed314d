//! What messages between two ranks take: the constants of the model in docs/scaling.md.

use std::time::Instant;

use serde_json::json;

use super::super::{Exit, print};
use crate::cluster::Ranks;
use crate::{Error, Result};

/// Numbers of the gradient, 16 MiB.
const LENGTH: usize = 1 << 22;

/// Measures what two ranks hear of each other, and the sum of a gradient of each, for some seconds each.
///
/// # Errors
/// Another number of ranks than two.
pub(super) fn run(ranks: &Ranks, seconds: f64) -> Result<Exit> {
    if ranks.count() != 2 {
        return Err(Error::value("--messages", "two ranks, as of mpirun -n 2", ranks.count()));
    }
    let there_and_back = median(ranks, seconds / 2.0, || {
        ranks.all_gather(Vec::new());
    });
    let mut gradient = vec![0.0f32; LENGTH];
    let sum = median(ranks, seconds / 2.0, || {
        let summed = ranks.tree_sum(2, LENGTH, |collector| {
            for (piece, range) in collector.pieces().iter().enumerate() {
                collector.add(ranks.rank(), piece, &mut gradient[range.clone()]);
            }
            Ok(Vec::new())
        });
        summed.expect("no error of its own").write(&mut gradient);
    });
    // Each rank receives half of the other's gradient, adds it to its own, and receives the other half of the sum.
    let (latency, bandwidth) = (there_and_back / 2.0, (LENGTH * size_of::<f32>()) as f64 / (sum - there_and_back));
    print(format!("a message takes {:.1} microseconds; a sum goes at {:.0} MB/s", 1e6 * latency, bandwidth / 1e6))?;
    print(json!({ "latency_s": latency, "bytes_per_s": bandwidth }))?;
    Ok(Exit::Passed)
}

/// The median of the seconds that it takes.
fn median(ranks: &Ranks, seconds: f64, mut work: impl FnMut()) -> f64 {
    let (start, mut found) = (Instant::now(), Vec::new());
    while ranks.any(found.len() < 5 || start.elapsed().as_secs_f64() < seconds) {
        let start = Instant::now();
        work();
        found.push(start.elapsed().as_secs_f64());
    }
    found.sort_by(f64::total_cmp);
    found[found.len() / 2]
}
