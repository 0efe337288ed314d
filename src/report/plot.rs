//! Plots as SVG files: the loss by step, the error by timestep.

use std::ops::RangeInclusive;
use std::path::Path;

use plotters::chart::SeriesLabelPosition;
use plotters::prelude::*;

use super::panel::{Line, Panel, Scale};
use crate::Result;
use crate::atomic;

// Blue and orange, which the colour-blind tell apart too.
const PALE: RGBColor = RGBColor(160, 196, 226);
const STRONG: RGBColor = RGBColor(20, 80, 140);
const ACCENT: RGBColor = RGBColor(213, 94, 0);

/// Plots the loss of a training run on a logarithmic axis: each step pale, a running mean dark, the
/// validation points in orange.
///
/// `training` and `validation` hold (step, loss), steps from 1 and ascending; either may be empty. The mean is over a
/// fiftieth of the training points, around each; fewer than 100 points have none. A loss that is not finite and above
/// 0 is left out.
///
/// # Errors
/// If the file cannot be written.
pub fn loss_curve(title: &str, training: &[(u64, f64)], validation: &[(u64, f64)], path: &Path) -> Result<()> {
    let window = training.len() / 50;
    let mean_name = format!("training, running mean of {window}");
    let mut lines = vec![Line { name: "training", points: floats(training), color: PALE, width: 1, dots: 0 }];
    if window > 1 {
        let points = running_mean(&floats(training), window);
        lines.push(Line { name: &mean_name, points, color: STRONG, width: 2, dots: 0 });
    }
    if !validation.is_empty() {
        lines.push(Line { name: "validation", points: floats(validation), color: ACCENT, width: 1, dots: 4 });
    }
    let legend = SeriesLabelPosition::UpperRight;
    let panel = Panel {
        title,
        x_label: "training step",
        x_scale: Scale::Linear,
        y_label: "loss (log scale)",
        y_scale: Scale::Log,
        legend,
        lines,
    };
    save_svg(&[panel], 500, path)
}

/// The errors of one set of weights, bin by bin.
#[derive(Clone, Copy, Debug)]
pub struct ErrorByTimestep<'a> {
    /// Whose errors they are: "raw weights", "EMA weights".
    pub name: &'a str,
    /// The mean squared error of ε̂, in units of the noise's variance.
    pub mse: &'a [f64],
    /// The share of the noise's variance that ε̂ explains, at most 1.
    pub r2: &'a [f64],
}

/// Plots MSE (on a logarithmic axis) and R² of the predicted noise against the timestep, one point a bin.
///
/// `bins` are the timesteps t = 1..=T of each bin, ascending; `series` are up to three sets of weights, the one that
/// matters last, because it is drawn over the others.
///
/// # Errors
/// If the file cannot be written.
///
/// # Panics
/// If a series has another number of values than there are bins, or there are more than three.
pub fn error_by_timestep<'a>(
    title: &'a str,
    bins: &[RangeInclusive<usize>],
    series: &[ErrorByTimestep<'a>],
    path: &Path,
) -> Result<()> {
    let styles = [(ACCENT, 1, 3), (PALE, 5, 6), (STRONG, 2, 4)];
    assert!(series.len() <= styles.len(), "plot: {} series, more than {}", series.len(), styles.len());
    let middles = || bins.iter().map(|bin| 0.5 * (bin.start() + bin.end()) as f64);
    let lines = |values: fn(&ErrorByTimestep<'a>) -> &'a [f64]| -> Vec<Line> {
        let styled = series.iter().zip(&styles[styles.len() - series.len()..]);
        let line = |(series, &(color, width, dots)): (&ErrorByTimestep<'a>, _)| {
            let values = values(series);
            assert_eq!(values.len(), bins.len(), "plot: {} has another number of values than bins", series.name);
            Line { name: series.name, points: middles().zip(values.iter().copied()).collect(), color, width, dots }
        };
        styled.map(line).collect()
    };
    let mse = Panel {
        title,
        x_label: "timestep t",
        x_scale: Scale::Linear,
        y_label: "MSE of ε̂ (log scale)",
        y_scale: Scale::Log,
        legend: SeriesLabelPosition::UpperRight,
        lines: lines(|series| series.mse),
    };
    let r2 = Panel {
        title: "",
        y_label: "R² of ε̂",
        y_scale: Scale::Linear,
        legend: SeriesLabelPosition::LowerRight,
        lines: lines(|series| series.r2),
        ..mse
    };
    save_svg(&[mse, r2], 720, path)
}

/// Colours for many lines: those of Okabe and Ito (2008), which the colour-blind tell apart, and shades of them.
const MANY: [RGBColor; 12] = [
    RGBColor(0, 0, 0),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(0, 158, 115),
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(204, 121, 167),
    RGBColor(150, 150, 150),
    RGBColor(120, 80, 0),
    RGBColor(0, 90, 60),
    RGBColor(110, 40, 90),
    RGBColor(190, 180, 40),
];

/// The errors of one method.
#[derive(Clone, Debug)]
pub struct ErrorBySteps {
    /// The method.
    pub name: String,
    /// Numbers of steps, ascending, each with the error after so many.
    pub errors: Vec<(usize, f64)>,
}

/// Plots errors against numbers of steps, both on logarithmic axes, where a method of order p is a line of slope −p.
///
/// # Errors
/// If the file cannot be written.
pub fn error_by_steps<'a>(title: &'a str, series: &'a [ErrorBySteps], path: &Path) -> Result<()> {
    let line = |(i, ErrorBySteps { name, errors }): (usize, &'a ErrorBySteps)| {
        let points = errors.iter().map(|&(steps, error)| (steps as f64, error)).collect();
        Line { name, points, color: MANY[i % MANY.len()], width: 2, dots: 3 }
    };
    let panel = Panel {
        title,
        x_label: "steps (log scale)",
        x_scale: Scale::Log,
        y_label: "error of x (log scale)",
        y_scale: Scale::Log,
        legend: SeriesLabelPosition::LowerLeft,
        lines: series.iter().enumerate().map(line).collect(),
    };
    save_svg(&[panel], 720, path)
}

fn floats(points: &[(u64, f64)]) -> Vec<(f64, f64)> {
    points.iter().map(|&(step, loss)| (step as f64, loss)).collect()
}

/// The mean of the `window` points around each that has as many.
fn running_mean(points: &[(f64, f64)], window: usize) -> Vec<(f64, f64)> {
    let mean = |around: &[(f64, f64)]| (around[window / 2].0, around.iter().map(|p| p.1).sum::<f64>() / window as f64);
    points.windows(window).map(mean).collect()
}

/// Draws the panels one above the other, 900 pixels wide and `height` high together.
fn save_svg(panels: &[Panel], height: u32, path: &Path) -> Result<()> {
    let mut svg = String::new();
    let mut draw = || {
        let area = SVGBackend::with_string(&mut svg, (900, height)).into_drawing_area();
        area.fill(&WHITE)?;
        for (panel, part) in panels.iter().zip(area.split_evenly((panels.len(), 1))) {
            panel.draw(&part)?;
        }
        area.present()
    };
    draw().expect("drawing into a string, which takes everything");
    atomic::write(path, svg.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The points of the polylines of `color`, leaving out the axes and the legend.
    fn points_of_lines(svg: &str, color: RGBColor) -> Vec<usize> {
        let stroke = format!("stroke=\"#{:02X}{:02X}{:02X}\"", color.0, color.1, color.2);
        let lines = svg.lines().filter(|line| line.starts_with("<polyline") && line.contains(&stroke));
        let points = |line: &str| line.split("points=\"").nth(1).unwrap().matches(',').count();
        lines.map(points).filter(|&n| n != 2).collect()
    }

    fn saved(save: impl FnOnce(&Path) -> Result<()>) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("plot.svg");
        save(&path).unwrap();
        std::fs::read_to_string(path).unwrap()
    }

    fn noisy_loss(steps: u64) -> Vec<(u64, f64)> {
        (1..=steps)
            .map(|step| (step, (0.03 + 1.0 / (1.0 + step as f64 / 20.0)) * (1.0 + 0.2 * (step as f64 * 7.7).sin())))
            .collect()
    }

    #[test]
    fn loss_curve_shows_labels_and_every_point() {
        let validation: Vec<(u64, f64)> = (1..=7).map(|i| (i * 500, 0.03 + 0.1 / i as f64)).collect();
        let svg = saved(|path| loss_curve("Training <digits>", &noisy_loss(3500), &validation, path));
        for label in
            ["Training &lt;digits&gt;", "training step", "loss (log scale)", "running mean of 70", "validation"]
        {
            assert!(svg.contains(label), "no {label}");
        }
        assert_eq!(points_of_lines(&svg, PALE), [3500]);
        assert_eq!(points_of_lines(&svg, STRONG), [3500 - 69]);
        assert_eq!(points_of_lines(&svg, ACCENT), [7]);
        assert_eq!(svg.matches("<circle").count(), 7 + 3); // and a dot of radius 0 or 4 a name in the legend
    }

    #[test]
    fn loss_curve_of_one_point_equal_points_or_none_is_drawn() {
        let one = saved(|path| loss_curve("one", &[(1, 0.5)], &[], path));
        assert_eq!(one.matches("<circle").count(), 1 + 1);
        let equal = saved(|path| loss_curve("equal", &[(1, 0.5), (2, 0.5), (3, 0.5)], &[(3, 0.5)], path));
        assert_eq!(points_of_lines(&equal, PALE), [3]);
        saved(|path| loss_curve("none", &[], &[], path));
    }

    #[test]
    fn loss_curve_leaves_out_what_has_no_place_on_a_logarithmic_axis() {
        let training = [(1, 1.0), (2, f64::NAN), (3, 0.0), (4, f64::INFINITY), (5, -1.0), (6, 0.5), (7, 0.25)];
        assert_eq!(points_of_lines(&saved(|path| loss_curve("holes", &training, &[], path)), PALE), [3]);
    }

    #[test]
    fn running_mean_stands_at_the_middle_of_its_points() {
        let points = [(1.0, 2.0), (2.0, 4.0), (3.0, 9.0), (4.0, 2.0)];
        assert_eq!(running_mean(&points, 3), [(2.0, 5.0), (3.0, 5.0)]);
    }

    #[test]
    fn error_by_timestep_shows_labels_and_a_point_for_each_bin_of_both_measures() {
        let bins: Vec<RangeInclusive<usize>> = (0..10).map(|i| i * 100 + 1..=i * 100 + 100).collect();
        let mse = |factor: f64| -> Vec<f64> { (0..10).map(|i| factor * 0.4 / (1.0 + (i * i * i) as f64)).collect() };
        let (raw, ema) = (mse(1.15), mse(1.0));
        let r2 = |mse: &[f64]| -> Vec<f64> { mse.iter().map(|mse| 1.0 - mse).collect() };
        let (raw_r2, ema_r2) = (r2(&raw), r2(&ema));
        let series = [
            ErrorByTimestep { name: "raw weights", mse: &raw, r2: &raw_r2 },
            ErrorByTimestep { name: "EMA weights", mse: &ema, r2: &ema_r2 },
        ];
        let svg = saved(|path| error_by_timestep("By timestep", &bins, &series, path));
        for label in ["By timestep", "timestep t", "MSE of ε̂ (log scale)", "R² of ε̂", "raw weights", "EMA weights"]
        {
            assert!(svg.contains(label), "no {label}");
        }
        assert_eq!(points_of_lines(&svg, PALE), [10, 10]);
        assert_eq!(points_of_lines(&svg, STRONG), [10, 10]);
        assert_eq!(svg.matches("<circle").count(), 4 * (10 + 1));
    }

    #[test]
    fn error_by_steps_shows_every_method_on_logarithmic_axes() {
        let line = |p: i32| (1..=5).map(|k| (1usize << k, 0.5f64.powi(p * k))).collect::<Vec<_>>();
        let series = [("first", 1), ("second", 2)].map(|(name, p)| ErrorBySteps { name: name.into(), errors: line(p) });
        let svg = saved(|path| error_by_steps("Orders", &series, path));
        for label in ["Orders", "first", "second", "steps (log scale)", "error of x (log scale)", "\n20\n", "\n0.001\n"]
        {
            assert!(svg.contains(label), "no {label}");
        }
        assert_eq!((points_of_lines(&svg, MANY[0]), points_of_lines(&svg, MANY[1])), (vec![5], vec![5]));
    }

    #[test]
    fn plot_under_a_file_fails_and_names_the_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().join("loss.svg");
        let message = loss_curve("loss", &[(1, 1.0)], &[], &path).unwrap_err().to_string();
        assert!(message.contains(&path.display().to_string()), "{message}");
    }
}
