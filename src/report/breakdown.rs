//! Where the time of a step goes, as tables.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::table::table;
use crate::layers::Layout;
use crate::layers::stopwatch::{Part, Spent, Times};

/// The times of some steps, beside those of a machine that would do nothing but multiply and add.
#[derive(Clone, Copy, Debug)]
pub struct Breakdown<'a> {
    /// What was recorded.
    pub times: &'a Times,
    /// Steps recorded.
    pub steps: usize,
    /// Seconds that the steps took, times the threads that could work.
    pub thread_seconds: f64,
    /// GFLOP/s of one thread that does nothing else.
    pub peak_of_a_thread: f64,
}

impl Breakdown<'_> {
    /// A row for each part, the longest first, and one for what no thread was timed in: the optimizer, waiting.
    pub fn by_part(&self) -> String {
        let mut parts: BTreeMap<&str, Spent> = BTreeMap::new();
        for ((_, part), time) in self.times {
            let sum = parts.entry(part).or_default();
            sum.seconds += time.seconds;
            sum.multiply_adds += time.multiply_adds;
        }
        let timed: f64 = self.times.values().map(|time| time.seconds).sum();
        parts.insert("optimizer, waiting", Spent { seconds: (self.thread_seconds - timed).max(0.0), multiply_adds: 0 });
        let mut parts: Vec<_> = parts.into_iter().collect();
        parts.sort_by(|a, b| b.1.seconds.total_cmp(&a.1.seconds));
        let rows: Vec<_> = parts.iter().map(|(part, time)| self.row(vec![part.to_string()], time)).collect();
        table(&["part", "thread ms", "share %", "GFLOP/s", "of peak %"], &rows)
    }

    /// A row for each part of each layer, in the order of the network.
    pub fn by_layer(&self, layout: &Layout) -> String {
        let rows: Vec<_> = self
            .times
            .iter()
            .map(|((start, part), time)| self.row(vec![layer(layout, *start), part.to_string()], time))
            .collect();
        table(&["layer", "part", "thread ms", "share %", "GFLOP/s", "of peak %"], &rows)
    }

    /// The same for scripts: a list of objects, `gflops` null where there is no product.
    pub fn to_json(&self, layout: &Layout) -> Value {
        let object = |((start, part), time): (&(Option<usize>, Part), &Spent)| {
            json!({
                "layer": layer(layout, *start), "part": part, "thread_ms": 1e3 * time.seconds / self.steps as f64,
                "share": time.seconds / self.thread_seconds, "gflops": gflops(time),
            })
        };
        self.times.iter().map(object).collect()
    }

    fn row(&self, mut cells: Vec<String>, time: &Spent) -> Vec<String> {
        cells.extend([
            format!("{:.3}", 1e3 * time.seconds / self.steps as f64),
            format!("{:.1}", 100.0 * time.seconds / self.thread_seconds),
            gflops(time).map_or(String::new(), |gflops| format!("{gflops:.1}")),
            gflops(time).map_or(String::new(), |gflops| format!("{:.0}", 100.0 * gflops / self.peak_of_a_thread)),
        ]);
        cells
    }
}

/// The name of the layer whose weight starts there.
fn layer(layout: &Layout, start: Option<usize>) -> String {
    match layout.entries.iter().find(|entry| Some(entry.span.start) == start) {
        Some(entry) => entry.name.trim_end_matches(".weight").to_string(),
        None => "all layers".to_string(),
    }
}

/// GFLOP/s of one thread, where the part is a product.
fn gflops(time: &Spent) -> Option<f64> {
    (time.multiply_adds > 0).then(|| 2e-9 * time.multiply_adds as f64 / time.seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn breakdown_adds_up_the_layers_of_a_part_and_shows_what_was_not_timed() {
        let time = |seconds, multiply_adds| Spent { seconds, multiply_adds };
        let times = Times::from([
            ((Some(0), "forward"), time(0.5, 5_000_000_000)),
            ((Some(9), "forward"), time(0.25, 2_500_000_000)),
            ((None, "silu"), time(0.05, 0)),
        ]);
        let breakdown = Breakdown { times: &times, steps: 2, thread_seconds: 1.0, peak_of_a_thread: 40.0 };
        let expected = [
            "part                thread ms  share %  GFLOP/s  of peak %",
            "------------------  ---------  -------  -------  ---------",
            "forward               375.000     75.0  20.0     50",
            "optimizer, waiting    100.000     20.0",
            "silu                   25.000      5.0",
            "",
        ];
        assert_eq!(breakdown.by_part(), expected.join("\n"));
        let silu = json!({"layer": "all layers", "part": "silu", "thread_ms": 25.0, "share": 0.05, "gflops": null});
        assert_eq!(breakdown.to_json(&Layout::default())[0], silu);
        assert_eq!(breakdown.to_json(&Layout::default())[1]["gflops"], 20.0);
    }
}
