//! The curves, the tables, and what is refused.

use super::*;

fn schedule(curve: BetaSchedule, t_max: usize) -> Schedule {
    Schedule::new(curve, t_max, 1e-4, 0.02).unwrap()
}

#[test]
fn linear_schedule_of_100_steps_keeps_the_range_of_beta() {
    let schedule = schedule(BetaSchedule::Linear, 100);
    assert_eq!((schedule.beta(1), schedule.beta(100)), (1e-4, 0.02));
    // NumPy: np.cumprod(1 - np.linspace(1e-4, 0.02, 100))[-1]. Scaled by 1000/T it would be 2.0e-5.
    assert!((schedule.alpha_bar(100) - 0.363_563_248_055_492_2).abs() < 1e-15, "{}", schedule.alpha_bar(100));
}

#[test]
fn scaled_linear_schedule_is_linear_in_the_root_of_beta() {
    let schedule = schedule(BetaSchedule::ScaledLinear, 7);
    let root = |t| schedule.beta(t).sqrt();
    for t in 2..7 {
        assert!((2.0 * root(t) - root(t - 1) - root(t + 1)).abs() < 1e-15);
    }
    assert!((schedule.beta(1) - 1e-4).abs() < 1e-18 && (schedule.beta(7) - 0.02).abs() < 1e-16);
}

#[test]
fn sigmoid_schedule_is_symmetric_about_the_middle_of_its_range() {
    let schedule = schedule(BetaSchedule::Sigmoid, 9);
    assert!((schedule.beta(5) - 0.010_05).abs() < 1e-17);
    assert!((1..=9).all(|t| (schedule.beta(t) + schedule.beta(10 - t) - 0.0201).abs() < 1e-17));
    // 1/(1 + e^6) of the range above beta_start.
    assert!((schedule.beta(1) - (1e-4 + 0.0199 * 0.002_472_623_156_634_775)).abs() < 1e-17);
}

#[test]
fn zero_terminal_snr_keeps_the_first_alpha_bar_and_ends_at_zero() {
    let before = schedule(BetaSchedule::Linear, 50);
    let after = before.clone().with_zero_terminal_snr().unwrap();
    assert!((after.alpha_bar(1) - before.alpha_bar(1)).abs() < 1e-15);
    assert_eq!((after.alpha_bar(50), after.beta(50)), (0.0, 1.0));
    // The roots are moved by one linear rule.
    let root = |schedule: &Schedule, t| schedule.alpha_bar(t).sqrt();
    let share =
        |schedule: &Schedule, t| (root(schedule, t) - root(schedule, 50)) / (root(schedule, 1) - root(schedule, 50));
    assert!((1..=50).all(|t| (share(&after, t) - share(&before, t)).abs() < 1e-13));
    let refusal = schedule(BetaSchedule::Linear, 1).with_zero_terminal_snr().unwrap_err().to_string();
    assert!(refusal.starts_with("rescale_betas_zero_snr"), "{refusal}");
}

#[test]
fn own_betas_are_the_table_or_are_refused() {
    let of = |betas: &[f64]| schedule(BetaSchedule::Linear, 3).with_betas(betas.to_vec());
    let own = of(&[0.1, 0.3, 0.2]).unwrap();
    assert_eq!((own.beta(2), own.trained_betas()), (0.3, Some(&[0.1, 0.3, 0.2][..])));
    assert!((own.alpha_bar(3) - 0.9 * 0.7 * 0.8).abs() < 1e-15);
    assert_eq!(of(&[0.1, 0.3, 1.0]).unwrap().alpha_bar(3), 0.0);
    for betas in [&[0.1, 0.2][..], &[0.1, 1.0, 0.2], &[0.1, f64::NAN, 0.2], &[0.0, 0.1, 0.2], &[0.1, 0.2, 1.5]] {
        let refusal = of(betas).unwrap_err().to_string();
        assert!(refusal.starts_with("trained_betas"), "{refusal}");
    }
}

#[test]
fn cosine_schedule_of_1000_steps_clips_exactly_one_beta() {
    let schedule = schedule(BetaSchedule::Cosine, 1000);
    let clipped: Vec<usize> = (1..=1000).filter(|&t| schedule.beta(t) == MAX_COSINE_BETA).collect();
    assert_eq!(clipped, [1000]);
    assert!((1..1000).all(|t| schedule.beta(t) < schedule.beta(t + 1)));
}

#[test]
fn alpha_bar_is_the_product_of_alpha_and_decides_the_snr() {
    for curve in [BetaSchedule::Linear, BetaSchedule::ScaledLinear, BetaSchedule::Cosine] {
        let schedule = schedule(curve, 11);
        assert_eq!(schedule.alpha_bar(0), 1.0);
        assert_eq!(schedule.snr(0), f64::INFINITY);
        for t in 1..=schedule.t_max() {
            assert_eq!(schedule.alpha_bar(t), schedule.alpha_bar(t - 1) * schedule.alpha(t));
            assert!(schedule.snr(t) < schedule.snr(t - 1));
        }
    }
}

#[test]
fn schedule_of_one_step_is_beta_start_or_the_clipped_cosine() {
    assert_eq!(schedule(BetaSchedule::Linear, 1).beta(1), 1e-4);
    assert_eq!(schedule(BetaSchedule::Cosine, 1).beta(1), MAX_COSINE_BETA);
}

#[test]
fn schedule_with_numbers_that_cannot_be_refuses_and_names_the_field() {
    let refused = |t_max, beta_start, beta_end| {
        Schedule::new(BetaSchedule::Linear, t_max, beta_start, beta_end).unwrap_err().to_string()
    };
    assert!(refused(0, 1e-4, 0.02).starts_with("num_train_timesteps"));
    assert!(refused(usize::MAX, 1e-4, 0.02).starts_with("num_train_timesteps"));
    assert!(refused(10, 0.0, 0.02).starts_with("beta_start"));
    assert!(refused(10, f64::NAN, 0.02).starts_with("beta_start"));
    assert!(refused(10, 1e-17, 0.02).starts_with("beta_start"));
    assert!(refused(10, 1e-4, 1.1).starts_with("beta_end"));
    assert!(refused(10, 1e-4, -0.1).starts_with("beta_end"));
    assert!(refused(1000, 1e-4, 1.0).contains("no signal is left"));
    assert_eq!(Schedule::new(BetaSchedule::Linear, 10, 1e-4, 1.0).unwrap().alpha_bar(10), 0.0);
}
