use super::*;
use crate::diffusion::BetaSchedule;

fn schedule() -> Schedule {
    Schedule::new(BetaSchedule::Linear, 40, 1e-3, 0.3).unwrap()
}

fn times(sampler: TimestepSampler, history: Option<&LossHistory>, n: u64, images: usize) -> Times {
    let schedule = schedule();
    Choice { sampler, schedule: &schedule, log_normal: (-0.5, 1.0), history }.times(7, n, images)
}

/// A history in which the loss at t is t/40, the oldest ten times as large.
fn full() -> LossHistory {
    let mut history = LossHistory::new(40);
    for i in 0..=KEPT {
        (1..=40).for_each(|t| history.record(t, t as f64 / 40.0 * if i == 0 { 10.0 } else { 1.0 }));
    }
    history
}

#[test]
fn stratified_times_fall_once_into_each_part_and_are_uniform_by_themselves() {
    let mut counts = [0; 40];
    for n in 1..=2000 {
        let Times { mut t, importance } = times(TimestepSampler::Stratified, None, n, 8);
        assert_eq!(importance, None);
        counts[t[3] - 1] += 1;
        t.sort_unstable();
        // Eight parts of five times each, shifted alike.
        assert!(t.windows(2).all(|pair| (4..=6).contains(&(pair[1] - pair[0]))), "{t:?}");
    }
    // 50 expected, six deviations of √50.
    assert!(counts.iter().all(|count| (8..=92).contains(count)), "{counts:?}");
}

#[test]
fn history_keeps_the_last_ten_losses_and_is_read_back() {
    let history = full();
    assert!(history.probabilities().is_some());
    assert_eq!(history.numbers()[19 * KEPT..20 * KEPT], [0.5; KEPT]);
    assert_eq!(LossHistory::from_numbers(history.numbers().to_vec()), Some(history));
    assert_eq!(LossHistory::from_numbers(vec![0.5; 9]), None);
    let mut holes = vec![0.5; 10];
    holes[3] = NONE;
    assert_eq!(LossHistory::from_numbers(holes), None);
    let mut started = LossHistory::new(2);
    started.record(1, -1e-17);
    assert_eq!((started.numbers()[0], started.numbers()[1], started.probabilities()), (0.0, NONE, None));
}

#[test]
fn loss_aware_times_go_by_the_losses_and_their_weights_leave_the_expectation_as_it_is() {
    let history = full();
    let p = history.probabilities().expect("all known");
    assert!((p.iter().sum::<f64>() - 1.0).abs() < 1e-12);
    assert!((p[39] / p[19] - 2.0).abs() < 0.002); // but for the uniform thousandth
    let (mut counts, mut mean, draws) = ([0.0; 40], 0.0, 40_000);
    let Times { t, importance } = times(TimestepSampler::LossAware, Some(&history), 3, draws);
    for (t, weight) in t.iter().zip(importance.expect("weights")) {
        counts[t - 1] += 1.0;
        mean += weight * *t as f64 / draws as f64;
    }
    for (count, p) in counts.iter().zip(&p) {
        let expected = p * draws as f64;
        assert!((count - expected).abs() < 6.0 * expected.sqrt(), "{count} {expected}");
    }
    // Weighted, the mean of t is that of uniform times, 20.5: six standard errors of a t/(T p_t) of about 20.5 each.
    assert!((mean - 20.5).abs() < 0.5, "{mean}");
    let before = times(TimestepSampler::LossAware, Some(&LossHistory::new(40)), 3, 16);
    let uniform = times(TimestepSampler::Uniform, None, 3, 16);
    assert_eq!((before.t, before.importance), (uniform.t, Some(vec![1.0; 16])));
}

#[test]
fn log_normal_times_have_the_mean_and_the_deviation_that_were_asked_for() {
    let schedule = schedule();
    let log_ratio = |t: usize| ln(schedule.level(t).sigma() / schedule.level(t).signal());
    assert_eq!(nearest(&schedule, -1e3), 1);
    assert_eq!(nearest(&schedule, 1e3), 40);
    assert!((1..=40).all(|t| nearest(&schedule, log_ratio(t) + 1e-9) == t));
    let Times { t, .. } = times(TimestepSampler::LogNormal, None, 1, 20_000);
    let values: Vec<f64> = t.iter().map(|&t| log_ratio(t)).collect();
    let mean = sum(&values) / 2e4;
    let deviation = (sum_by(&values, |x| (x - mean) * (x - mean)) / 2e4).sqrt();
    // Six standard errors are 0.04; the grid of 40 times is as coarse as 0.3, and symmetric.
    assert!((mean + 0.5).abs() < 0.06 && (deviation - 1.0).abs() < 0.06, "{mean} {deviation}");
}
