//! What messages between two ranks take: the constants of the model in docs/scaling.md.

use std::time::Instant;

use serde_json::json;

use super::super::{Exit, print};
use crate::cluster::Ranks;
use crate::{Error, Result};

/// Words of the long message, 16 MiB.
const LONG: usize = 1 << 22;

/// Measures what one rank says to the other and hears back, short and long, for some seconds each.
///
/// # Errors
/// Another number of ranks than two.
pub(super) fn run(ranks: &Ranks, seconds: f64) -> Result<Exit> {
    if ranks.count() != 2 {
        return Err(Error::value("--messages", "two ranks, as of mpirun -n 2", ranks.count()));
    }
    let short = median(ranks, seconds / 2.0, 0);
    let long = median(ranks, seconds / 2.0, LONG);
    // One message to the leading rank, and what both said back from it: three times the words of one.
    let latency = short / 2.0;
    let bandwidth = (3 * LONG * size_of::<u32>()) as f64 / (long - short);
    print(format!("a message takes {:.1} microseconds, and one for each {:.0} bytes", 1e6 * latency, bandwidth / 1e6))?;
    print(json!({ "latency_s": latency, "bytes_per_s": bandwidth }))?;
    Ok(Exit::Passed)
}

/// The median of the seconds that it takes both to hear what both say.
fn median(ranks: &Ranks, seconds: f64, words: usize) -> f64 {
    let (start, mut found) = (Instant::now(), Vec::new());
    while ranks.any(found.len() < 5 || start.elapsed().as_secs_f64() < seconds) {
        let said = vec![1; words];
        let start = Instant::now();
        ranks.all_gather(said);
        found.push(start.elapsed().as_secs_f64());
    }
    found.sort_by(f64::total_cmp);
    found[found.len() / 2]
}
