//! Chapter 11: how the loss fell, where a run has kept it.

use serde::Serialize;

use crate::train::metrics::Losses;

/// The most points of a line.
const MOST_POINTS: usize = 200;

/// The losses of a run, as lines.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Curve {
    /// Steps that a point of the first line is the mean of.
    pub steps_in_a_point: usize,
    /// Each point's last step and the mean of its steps' losses.
    pub training: Vec<(u64, f64)>,
    /// Step and loss on validation images, where a run looks at them.
    pub validation: Vec<(u64, f64)>,
}

/// The curve of a run; losses that are not finite are left out.
pub fn curve(losses: &Losses) -> Curve {
    let steps_in_a_point = losses.training.len().div_ceil(MOST_POINTS).max(1);
    let mean = |part: &[(u64, f64)]| {
        let step = part.last().map_or(0, |&(step, _)| step);
        (step, part.iter().map(|&(_, loss)| loss).sum::<f64>() / part.len() as f64)
    };
    let finite = |points: Vec<(u64, f64)>| points.into_iter().filter(|(_, loss)| loss.is_finite()).collect();
    let every = losses.validation.len().div_ceil(MOST_POINTS).max(1);
    Curve {
        steps_in_a_point,
        training: finite(losses.training.chunks(steps_in_a_point).map(mean).collect()),
        validation: finite(losses.validation.iter().copied().step_by(every).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curve_has_the_mean_of_equal_parts_and_no_more_points_than_a_page_carries() {
        let training: Vec<(u64, f64)> = (1..=401).map(|step| (step, step as f64)).collect();
        let found = curve(&Losses { training, validation: vec![(100, 0.5), (200, f64::NAN)] });
        assert_eq!((found.steps_in_a_point, found.training.len()), (3, 134));
        assert_eq!((found.training[0], found.training[133]), ((3, 2.0), (401, 400.5)));
        assert_eq!(found.validation, [(100, 0.5)]);
        assert!(curve(&Losses::default()).training.is_empty());
    }
}
